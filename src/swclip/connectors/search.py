"""The search of an area: boxes that are split until each answer is complete, and the plan of the download."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from swclip.connectors.catalogue import UNDECIDED, Catalogue, State
from swclip.connectors.refusal import Refusal
from swclip.connectors.service import SMALLEST_RADIUS_M, BoxFullError, Item, Query, SearchResult, Service
from swclip.connectors.thinning import Candidate, Thinning, filter_reason, thin
from swclip.errors import ServiceError
from swclip.geo.areas import Area
from swclip.geo.boxes import Box

REFUSALS_IN_A_ROW = 10
"""After so many refusals without an answer between them nothing more is asked."""
_SAMPLES = 8


def search_area(
    service: Service,
    area: Area,
    query: Query,
    thinning: Thinning,
    catalogue: Catalogue,
    *,
    connections: int,
    partial: bool,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Ask for every box of the area that was not answered yet, and store the photographs inside the area.

    Args:
        service: The service.
        area: The area.
        query: Dates and kind of camera.
        thinning: Its smallest quality is a filter.
        catalogue: Its boxes are asked for; they are the state of the search.
        connections: Boxes that are asked for at the same time.
        partial: Continue although some boxes are refused.
        progress: Called with the number of answered boxes and the number of boxes.

    Raises:
        Refusal: The token was refused.
        ServiceError: A part of the area has no answer, and `partial` is not set.
    """
    catalogue.retry_refused_boxes()
    running: dict[Future[SearchResult], tuple[int, Box]] = {}
    refusals = 0
    pool = ThreadPoolExecutor(connections, thread_name_prefix="swclip-search")
    try:
        while refusals < REFUSALS_IN_A_ROW:
            numbers = [number for number, _ in running.values()]
            for number, box in catalogue.pending_boxes(connections - len(running), numbers):
                running[pool.submit(service.search, box, query)] = number, box
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                number, box = running.pop(future)
                refused = _store(future, number, box, service, area, query, thinning, catalogue)
                refusals = refusals + 1 if refused else 0
            if progress is not None:
                counts = catalogue.box_counts()
                progress(counts["done"] + counts["refused"], counts.total() - counts["split"])
    finally:
        for future in running:
            future.cancel()
        if running:
            service.client.stop()
        pool.shutdown(wait=True, cancel_futures=True)
    counts = catalogue.box_counts()
    if (counts["refused"] or counts["pending"]) and not (partial and catalogue.value("count(*)")):
        raise ServiceError(_not_searched(catalogue, area, service))


def _store(
    future: Future[SearchResult],
    number: int,
    box: Box,
    service: Service,
    area: Area,
    query: Query,
    thinning: Thinning,
    catalogue: Catalogue,
) -> bool:
    """Store the answer of a box; return whether it was refused."""
    lost = None
    try:
        result = future.result()
    except BoxFullError as full:
        if box.radius_m > SMALLEST_RADIUS_M:
            catalogue.box_split(number, area.quarters(box))
            return False
        result = full.result or SearchResult([], [])
        across_m = 2.0 * box.radius_m
        lost = f"the service has more photographs within {across_m:.1f} m than the {len(result.items):,} that it names."
    except Refusal as refusal:
        if refusal.kind in ("token", "stopped"):
            raise
        if refusal.kind == "timeout" and box.radius_m > SMALLEST_RADIUS_M:
            catalogue.box_split(number, area.quarters(box))  # it may be too dense to be answered in time
            return False
        catalogue.box_refused(number, refusal.kind, str(refusal))
        return True
    items = result.items
    inside = area.contains(np.array([(item.lat_deg, item.lon_deg) for item in items]).reshape(-1, 2))
    rows: list[tuple[Item, State, str | None]] = []
    for item, within in zip(items, inside, strict=True):
        if within:
            reason = filter_reason(item, query, thinning)
            rows.append((item, "listed" if reason is None else "filtered", reason))
    catalogue.box_found(number, rows, result.unusable)
    if lost is not None:
        catalogue.box_refused(number, "full", lost)
    return lost is not None


def _not_searched(catalogue: Catalogue, area: Area, service: Service) -> str:
    counts = catalogue.box_counts()
    kinds: dict[str, int] = {}
    first = ""
    lost_km2 = 0.0
    for box, kind, detail in catalogue.refused_boxes():
        kinds[kind] = kinds.get(kind, 0) + 1
        first = first or detail
        lost_km2 += box.area_km2
    refused = ", ".join(f"{count} x {kind}" for kind, count in kinds.items())
    asked = f" Nothing more was asked after {REFUSALS_IN_A_ROW} in a row; {counts['pending']} boxes were left."
    return (
        f"{service.title} did not answer for {counts['refused']} of {counts.total() - counts['split']} boxes of the "
        f"area ({lost_km2:.3g} km2 of boxes): {refused}. The first: {first}{asked if counts['pending'] else ''} "
        f"That is no statement that there are no photographs. {catalogue.value('count(*)')} photographs of the other "
        f"boxes are in {catalogue.path}: run it again to ask for the rest; --partial continues without them."
    )


def first_boxes(area: Area, service: Service) -> list[Box]:
    """Boxes that cover the area, each small enough for the service."""
    largest_m = service.largest_box_km * 1000.0 / math.sqrt(2.0)
    small: list[Box] = []
    large = list(area.boxes_deg)
    while large:
        box = large.pop()
        if box.east - box.west < 180.0 and box.radius_m <= largest_m:
            small.append(box)
        else:
            large.extend(area.quarters(box))
    return sorted(small)


def choose_photographs(catalogue: Catalogue, thinning: Thinning) -> None:
    """Thin what the search found; the rest is marked for the download. The order of arrival does not matter."""
    if not catalogue.box_counts()["refused"]:
        catalogue.withdraw()  # a refusal is no absence
    best = "quality IS NULL, quality DESC, captured_at IS NULL, captured_at DESC, id"
    max_lat_deg = catalogue.value("max(abs(lat_deg))") or 0.0
    kept = _candidates(catalogue, "state = 'done'", "id")
    candidates = _candidates(catalogue, f"state IN {UNDECIDED}", best)
    catalogue.choose(thin(kept, candidates, thinning, max_lat_deg))


def _candidates(catalogue: Catalogue, where: str, order: str) -> Iterator[Candidate]:
    columns = ("id", "lat_deg", "lon_deg", "heading_deg", "computed_heading_deg", "camera", "sequence")
    for key, lat, lon, heading, computed, camera, sequence in catalogue.rows(columns, where, order):
        direction = heading if heading is not None else computed
        yield Candidate(key, lat, lon, math.nan if camera == "equirectangular" else direction, sequence)


@dataclass(frozen=True)
class Plan:
    """What a download will fetch.

    Attributes:
        area_km2: Size of the area.
        found: Photographs of the service in the area.
        filtered: Photographs that a filter leaves out, by reason.
        thinned: Photographs that thinning leaves out.
        photographs: Photographs of the data set: downloaded ones and those to download.
        to_download: Those to download.
        bytes_to_download: Their size, as far as it is stated or estimated.
        bytes_from: What the size rests on, in words.
        licences: Photographs by licence.
        panoramas: Photographs that the service says are panoramas.
        years: Photographs by year of capture.
        sequences: Number of sequences.
        largest_sequences: Photographs of the largest sequences.
        unusable: Records of the service that describe no photograph.
    """

    area_km2: float
    found: int
    filtered: dict[str, int]
    thinned: int
    photographs: int
    to_download: int
    bytes_to_download: int
    bytes_from: str
    licences: dict[str, int]
    panoramas: int
    years: dict[str, int]
    sequences: int
    largest_sequences: dict[str, int]
    unusable: int

    def to_json(self) -> dict[str, Any]:
        """As values of JSON."""
        return asdict(self)


def make_plan(catalogue: Catalogue, service: Service, area: Area) -> Plan:
    """The plan of a catalogue whose photographs are chosen; some servers are asked how large their pictures are."""
    wanted = "state IN ('chosen', 'done')"
    size, source = _bytes(catalogue, service)
    sequences = catalogue.counts("sequence", f"{wanted} AND sequence IS NOT NULL")
    return Plan(
        area_km2=area.area_km2,
        found=catalogue.value("count(*)"),
        filtered=catalogue.counts("kind", "state = 'filtered'"),
        thinned=catalogue.value("count(*)", "state = 'thinned'"),
        photographs=catalogue.value("count(*)", wanted),
        to_download=catalogue.value("count(*)", "state = 'chosen'"),
        bytes_to_download=size,
        bytes_from=source,
        licences={name or "not stated": count for name, count in catalogue.counts("licence", wanted).items()},
        panoramas=catalogue.value("count(*)", f"{wanted} AND camera = 'equirectangular'"),
        years=dict(sorted(catalogue.counts("coalesce(substr(captured_at, 1, 4), 'unknown')", wanted).items())),
        sequences=len(sequences),
        largest_sequences=dict(list(sequences.items())[:5]),
        unusable=sum(1 for _ in catalogue.unusable()),
    )


def _bytes(catalogue: Catalogue, service: Service) -> tuple[int, str]:
    """The size of what is to be downloaded, and what the figure rests on."""
    waiting = "state = 'chosen'"
    count = catalogue.value("count(*)", waiting)
    if count == 0:
        return 0, "nothing to download"
    stated = catalogue.value("count(bytes)", waiting)
    if stated:
        return round(catalogue.value("sum(bytes)", waiting) * count / stated), "as the service states"
    done = catalogue.value("count(*)", "state = 'done'")
    if done >= _SAMPLES:
        return round(catalogue.value("avg(size)", "state = 'done'") * count), f"by {done} downloaded photographs"
    step = max(count // _SAMPLES, 1)
    numbered = catalogue.sample("address", f"{waiting} AND address IS NOT NULL", step, _SAMPLES)
    sizes = [size for address in numbered if (size := service.client.size_bytes(address)) is not None]
    if sizes:
        return round(sum(sizes) / len(sizes) * count), f"estimated from {len(sizes)} photographs"
    return service.sizes[service.size] * count, f"a usual size of {service.sizes[service.size] / 1e6:g} MB each"
