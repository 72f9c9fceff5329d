"""The download of chosen photographs: each is fetched once, decoded completely, and named when it is intact."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from swclip.connectors.catalogue import Catalogue, State
from swclip.connectors.refusal import Refusal
from swclip.connectors.search import REFUSALS_IN_A_ROW
from swclip.connectors.service import Item, Service
from swclip.data.merge import SAME_PHOTOGRAPH_M
from swclip.geo.distance import haversine_m
from swclip.ingest.verification import Verdict, verify_photograph

IMAGES = "images"
_PARTS = ".parts"
_SUFFIXES = {b"\xff\xd8\xff": ".jpg", b"\x89PN": ".png", b"RIF": ".webp"}
_PLAIN_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")


@dataclass(frozen=True)
class Outcome:
    """What became of a photograph; see `Catalogue.outcome`."""

    id: str
    state: State
    kind: str | None = None
    detail: str | None = None
    result: dict[str, Any] = field(default_factory=dict)


def download_chosen(
    service: Service,
    catalogue: Catalogue,
    folder: Path,
    *,
    connections: int,
    max_pixels: int,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Download the chosen photographs of a catalogue to `folder/images`.

    What arrived before an interruption is not fetched again: a file gets its name when it is complete and intact, and
    one that has its name without an entry in the catalogue is only verified.

    Args:
        service: The service.
        catalogue: What became of each photograph is stored there.
        folder: Folder of the data set.
        connections: Downloads at the same time.
        max_pixels: Larger photographs are rejected by their header.
        progress: Called with the number of photographs that are done and the number of all.

    Raises:
        Refusal: The token was refused. What was downloaded is kept.
    """
    parts = folder / _PARTS
    shutil.rmtree(parts, ignore_errors=True)  # of a killed process: incomplete
    parts.mkdir()
    done = catalogue.value("count(*)", "state IN ('done', 'rejected', 'gone')")
    total = done + catalogue.value("count(*)", "state = 'chosen'")
    running: set[Future[Outcome]] = set()
    finished: SimpleQueue[Future[Outcome]] = SimpleQueue()
    refusals = 0
    source = _with_addresses(service, catalogue)
    pool = ThreadPoolExecutor(connections, thread_name_prefix="swclip-fetch")
    try:
        while refusals < REFUSALS_IN_A_ROW:
            while len(running) < 2 * connections and (following := next(source, None)) is not None:
                item, given = following
                if isinstance(given, Outcome):
                    _store(catalogue, given)
                    refusals = refusals + 1 if given.state == "refused" else 0
                else:
                    future = pool.submit(_download, service, item, given, folder, max_pixels)
                    running.add(future)
                    future.add_done_callback(finished.put)
            if not running:
                break
            future = finished.get()
            running.discard(future)
            outcome = future.result()
            _store(catalogue, outcome)
            refusals = refusals + 1 if outcome.state == "refused" else 0
            done += 1
            if progress is not None:
                progress(done, total)
    except BaseException:
        service.client.stop()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for future in running:
            if not future.cancelled() and future.exception() is None:
                _store(catalogue, future.result())
        shutil.rmtree(parts, ignore_errors=True)


def _store(catalogue: Catalogue, outcome: Outcome) -> None:
    if outcome.kind != "stopped":
        catalogue.outcome(outcome.id, outcome.state, outcome.kind, outcome.detail, outcome.result)


def _with_addresses(service: Service, catalogue: Catalogue) -> Iterator[tuple[Item, str | Outcome]]:
    """Each photograph to download with the address of its picture, or with its outcome where there is none."""
    batch: list[Item] = []
    for item in catalogue.to_download():
        if not service.addresses_expire:
            yield item, item.address or Outcome(item.id, "gone", "gone", "the service states no address.")
            continue
        batch.append(item)
        if len(batch) == service.addresses_at_once:
            yield from _asked(service, batch)
            batch = []
    if batch:
        yield from _asked(service, batch)


def _asked(service: Service, batch: list[Item]) -> Iterator[tuple[Item, str | Outcome]]:
    try:
        addresses = service.addresses([item.id for item in batch])
    except Refusal as refusal:
        if refusal.kind in ("token", "stopped"):
            raise
        for item in batch:
            yield item, Outcome(item.id, "refused", refusal.kind, str(refusal))
        return
    for item in batch:
        yield item, addresses.get(item.id) or Outcome(item.id, "gone", "gone", "the service no longer has it.")


def _download(service: Service, item: Item, address: str, folder: Path, max_pixels: int) -> Outcome:
    """Download and verify one photograph; called in a thread."""
    stem = _stem(item.id)
    for suffix in _SUFFIXES.values():
        path = folder / IMAGES / stem.parent / f"{stem.name}{suffix}"
        if path.is_file():  # it arrived just before the process was killed
            verdict = verify_photograph(path, max_pixels)
            if verdict.reason is None:
                return _done(item, folder, path, verdict)
    part = folder / _PARTS / stem.name
    try:
        verdict = _intact(service, item, address, part, max_pixels)
    except Refusal as refusal:
        if refusal.kind == "gone":
            return Outcome(item.id, "gone", "gone", str(refusal))
        if refusal.kind == "token":
            raise
        return Outcome(item.id, "refused", refusal.kind, str(refusal))
    if verdict.reason is not None:
        part.unlink(missing_ok=True)
        return Outcome(item.id, "rejected", verdict.reason, verdict.detail)
    with part.open("rb") as stream:
        suffix = _SUFFIXES.get(stream.read(3), ".jpg")
    path = folder / IMAGES / stem.parent / f"{stem.name}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    part.replace(path)
    return _done(item, folder, path, verdict)


def _intact(service: Service, item: Item, address: str, part: Path, max_pixels: int) -> Verdict:
    """Download a picture, again if it is defective and its bytes differ each time; the last verdict."""
    digests: set[str] = set()
    while True:
        try:
            service.client.download(address, part)
        except Refusal as refusal:
            if refusal.kind != "forbidden" or not service.addresses_expire:
                raise
            # The address has expired. A new one that is refused too is a refusal of the picture.
            address = service.addresses([item.id]).get(item.id, address)
            service.client.download(address, part)
        verdict = verify_photograph(part, max_pixels)
        if verdict.reason in (None, "too-large") or verdict.sha256 in digests:
            return verdict
        digests.add(verdict.sha256)
        if len(digests) > 3:
            raise Refusal(
                "truncated", address.partition("?")[0], f"the picture is defective each time: {verdict.detail}"
            )


def _done(item: Item, folder: Path, path: Path, verdict: Verdict) -> Outcome:
    exif = verdict.exif
    result = {
        "file": path.relative_to(folder).as_posix(),
        "size": path.stat().st_size,
        "sha256": verdict.sha256,
        "exif_accuracy_m": exif.accuracy_m,
        "exif_heading_deg": exif.heading_deg,
        "exif_captured_at": exif.captured_at,
        "panorama": None if verdict.panorama is None else json.dumps(asdict(verdict.panorama)),
    }
    return Outcome(item.id, "done", result=result)


def _stem(key: str) -> Path:
    """The path of a photograph within images, without suffix, in one of 256 folders."""
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
    return Path(digest[:2]) / (key if _PLAIN_ID.fullmatch(key) else digest[:40])


def drop_duplicates(catalogue: Catalogue, folder: Path) -> None:
    """Keep the first of byte-identical photographs at one place, and none at different places; as `prepare` does."""
    columns = ("sha256", "id", "lat_deg", "lon_deg", "file")
    twins = (
        "state = 'done' AND sha256 IN (SELECT sha256 FROM items WHERE state = 'done' GROUP BY 1 HAVING count(*) > 1)"
    )
    groups: dict[str, list[tuple[Any, ...]]] = {}
    for digest, *values in catalogue.rows(columns, twins, "sha256, search, id"):
        groups.setdefault(digest, []).append(tuple(values))
    rejected: list[tuple[str, str, str]] = []
    for group in groups.values():
        first = group[0]
        lat, lon = np.array([row[1] for row in group]), np.array([row[2] for row in group])
        away_m = float(haversine_m(lat[0], lon[0], lat, lon).max())
        if away_m > SAME_PHOTOGRAPH_M:
            detail = f"the same bytes at places {away_m:.0f} m apart; the correct position is unknown."
            rejected += [(row[0], "duplicate-image-other-place", detail) for row in group]
        else:
            rejected += [
                (row[0], "duplicate-image", f"the same bytes as {first[0]} at the same place.") for row in group[1:]
            ]
    catalogue.reject(rejected)
    names = {key for key, _, _ in rejected}
    for group in groups.values():
        for key, _, _, file in group:
            if key in names:
                (folder / file).unlink(missing_ok=True)
