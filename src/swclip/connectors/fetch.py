"""From an area to a data set: search, plan, download, manifest. A run that is interrupted resumes anywhere."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from swclip.connectors.area import RequestedArea
from swclip.connectors.catalogue import CATALOGUE_NAME, Catalogue
from swclip.connectors.client import Client
from swclip.connectors.dataset import (
    FETCH_NAME,
    Description,
    Positions,
    fetch_document,
    write_fetched,
    write_rejected,
)
from swclip.connectors.download import download_chosen, drop_duplicates
from swclip.connectors.kartaview import KartaView
from swclip.connectors.mapillary import Mapillary
from swclip.connectors.panoramax import Panoramax
from swclip.connectors.search import Plan, choose_photographs, first_boxes, make_plan, search_area
from swclip.connectors.service import Query, Service
from swclip.connectors.thinning import Thinning
from swclip.data.manifest import MANIFEST_NAME, Manifest, read_manifest
from swclip.errors import ConfigError, InputError, ServiceError
from swclip.files import write_json
from swclip.imaging.panoramas import ViewOptions, as_view_options
from swclip.ingest.prepare import REJECTED_NAME
from swclip.ingest.rejections import Note
from swclip.locks import sole_holder
from swclip.progress import Steps

SERVICES: dict[str, type[Service]] = {service.name: service for service in (Panoramax, Mapillary, KartaView)}
"""Services by name."""


@dataclass(frozen=True)
class Politeness:
    """How a service is asked.

    Attributes:
        connections: Requests at the same time.
        per_second: Requests to one host in a second; None for what the service tolerates, 0 for no limit.
        attempts: How often a request is made before its refusal is final.
        backoff_s: First wait before a repeated request, which doubles each time.
        timeout_s: Longest time without a byte.
    """

    connections: int = 8
    per_second: float | None = None
    attempts: int = 6
    backoff_s: float = 1.0
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        for name in ("connections", "attempts"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name} {getattr(self, name)}: must be at least 1.")
        for name in ("per_second", "backoff_s", "timeout_s"):
            if (getattr(self, name) or 0.0) < 0.0:
                raise ConfigError(f"--{name.replace('_', '-')} {getattr(self, name):g}: must not be negative.")


@dataclass(frozen=True)
class FetchResult:
    """Result of `fetch`.

    Attributes:
        plan: What was found and chosen.
        path: The file of the manifest; None of a dry run.
        photographs: Number of photographs in the manifest, views of panoramas included.
        missing: Photographs and boxes without an answer, by reason; empty where nothing is missing.
        left_out: Photographs that are gone from the service or unusable, by reason; they are in `rejected.csv`.
        retried: Repeated requests of this run, by kind of refusal.
        views: Those that are views of panoramas.
        panoramas: Panoramas that these replace.
        notes: Remarks on panoramas.
    """

    plan: Plan
    path: Path | None
    photographs: int
    missing: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    retried: dict[str, int] = field(default_factory=dict)
    views: int = 0
    panoramas: int = 0
    notes: tuple[Note, ...] = ()

    @cached_property
    def manifest(self) -> Manifest | None:
        """The data set, which is read when it is first used; None of a dry run."""
        return None if self.path is None else read_manifest(self.path)


def fetch(
    service: str,
    area: RequestedArea,
    out: str | os.PathLike[str],
    *,
    endpoint: str | None = None,
    size: str | None = None,
    query: Query | None = None,
    thinning: Thinning | None = None,
    positions: Positions = "recorded",
    city: str | None = None,
    views: int | ViewOptions | None = None,
    dry_run: bool = False,
    update: bool = False,
    partial: bool = False,
    max_megapixels: float = 100.0,
    politeness: Politeness | None = None,
    progress: Steps | None = None,
    show_plan: Callable[[Plan], None] | None = None,
) -> FetchResult:
    """Download the photographs that a street-imagery service has of an area, with their manifest.

    The same call resumes an interrupted one: no box is searched and no photograph downloaded twice. A complete data set
    stays as it is, unless `update` is set.

    Args:
        service: A name of `SERVICES`.
        area: The area.
        out: Folder for `manifest.parquet`, `images`, `fetch.json`, `rejected.csv` and the catalogue `fetch.sqlite`.
        endpoint: Address of an instance of the service; its usual one if None.
        size: Size of the pictures, one of the service's.
        query: Dates and kind of camera.
        thinning: Which photographs are enough.
        positions: Positions and headings of the manifest: as recorded, or as the service computed them from the
            pictures where it did. The manifest has both.
        city: City of all photographs; the name of the area, where a geocoder found it, if None.
        views: Number of perspective views by which each panorama is replaced, or all options of them; None keeps
            panoramas whole. They are made of what was downloaded, so that another number needs no request.
        dry_run: Search and plan only.
        update: Search again, and add what is new.
        partial: Finish although the service refuses a part; the result states what is missing.
        max_megapixels: Larger pictures are rejected from their header.
        politeness: How the service is asked.
        progress: Called with the step, the number of what is done and the number of all.
        show_plan: Called with the plan before the download begins.

    Raises:
        ConfigError: An option is invalid, another folder's request differs, or there is no token.
        InputError: The service has no such photograph of the area.
        ServiceError: The service refuses; what was fetched is kept, and the same call resumes.
    """
    kind = SERVICES.get(service)
    if kind is None:
        raise ConfigError(f"{service!r} is not a service; services: {', '.join(SERVICES)}.")
    size = size or kind.size_default
    if size not in kind.sizes:
        raise ConfigError(f"--size {size}: {kind.title} has {', '.join(kind.sizes)}.")
    address = _endpoint(endpoint or kind.endpoint_default)
    description = Description(positions, area.city if city is None else city, as_view_options(views))
    query, thinning, politeness = query or Query(), thinning or Thinning(), politeness or Politeness()
    max_pixels = int(max_megapixels * 1e6)
    authorization = kind.authorization()
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; --out names a folder.")
    if (folder / MANIFEST_NAME).exists() and not (folder / CATALOGUE_NAME).exists():
        raise InputError(f"{folder}: has a {MANIFEST_NAME} that fetch did not write; choose another --out.")
    request = {
        "service": kind.name,
        "endpoint": address,
        "area": area.request,
        "size": size,
        "query": {
            key: value.isoformat() if isinstance(value, datetime) else value for key, value in asdict(query).items()
        },
        "thinning": asdict(thinning),
    }
    per_second = kind.per_second if politeness.per_second is None else politeness.per_second or None
    busy = InputError(f"{folder}: another swclip fetch is writing there.")
    with (
        sole_holder(folder, busy),
        Catalogue(folder / CATALOGUE_NAME) as catalogue,
        Client(
            address,
            authorization=authorization,
            token_variable=kind.token_variable,
            per_second=per_second,
            connections=politeness.connections,
            attempts=politeness.attempts,
            backoff_s=politeness.backoff_s,
            timeout_s=politeness.timeout_s,
        ) as client,
    ):
        source = kind(client, address, size)
        _check_request(catalogue, request, folder)
        if catalogue.get("search") is None or (update and catalogue.get("searched")):
            catalogue.begin_search(first_boxes(area.area, source))
        if not catalogue.get("searched") or catalogue.box_counts()["refused"]:
            search_area(
                source, area.area, query, thinning, catalogue,
                connections=politeness.connections, partial=partial, progress=_step(progress, "Searching"),
            )  # fmt: skip
            choose_photographs(catalogue, thinning)
        plan = make_plan(catalogue, source, area.area)
        if plan.photographs == 0:
            raise InputError(_nothing(plan, source, folder))
        if show_plan is not None:
            show_plan(plan)
        if dry_run:
            return FetchResult(plan, None, 0, retried={**client.retried})
        catalogue.retry_refused_items()
        download_chosen(
            source, catalogue, folder, connections=politeness.connections, max_pixels=max_pixels,
            progress=_step(progress, "Downloading"),
        )  # fmt: skip
        drop_duplicates(catalogue, folder)
        missing, left_out = _missing(catalogue), _left_out(catalogue)
        done = catalogue.value("count(*)", "state = 'done'")
        if done == 0:
            raise (ServiceError if missing else InputError)(_none_arrived(source, missing, left_out, folder))
        write_rejected(catalogue, folder / REJECTED_NAME)
        document = {**request, **asdict(description)}
        made_with = {"command": "fetch", "service": kind.name, "endpoint": address}
        written = write_fetched(
            catalogue, folder, kind, description, made_with, max_pixels, _step(progress, "Making views")
        )
        write_json(
            folder / FETCH_NAME, fetch_document(catalogue, document, source, plan, missing, left_out, area, written)
        )
        result = FetchResult(
            plan, folder / MANIFEST_NAME, written.rows, missing, left_out, {**client.retried},
            written.views, written.panoramas, written.notes,
        )  # fmt: skip
    if missing and not partial:
        raise ServiceError(_some_missing(source, missing, done, folder))
    return result


def _step(progress: Steps | None, name: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(name, done, total)


def _endpoint(address: str) -> str:
    """The address without a slash at its end.

    Raises:
        ConfigError: It is not an address of HTTP, or has a name, a password or a query, which would reach files.
    """
    if not address.startswith(("http://", "https://")):
        raise ConfigError(f"--endpoint {address!r}: must be an address that starts with http:// or https://.")
    if "@" in address or "?" in address or "#" in address:
        raise ConfigError(
            "--endpoint: must be an address without a password and a query; a token goes in its variable."
        )
    return address.rstrip("/")


def _check_request(catalogue: Catalogue, request: Mapping[str, Any], folder: Path) -> None:
    """Store the request of a new folder, or compare it with that of an earlier run that found photographs.

    Raises:
        ConfigError: They differ.
    """
    plain = json.loads(json.dumps(request))
    before = catalogue.get("request")
    if before is None or catalogue.value("count(*)") == 0:  # a run that found nothing, such as at a wrong address
        if plain != before:
            catalogue.put(search=None)
        stamp = os.environ.get("SOURCE_DATE_EPOCH")
        day = datetime.fromtimestamp(int(stamp) if stamp else time.time(), UTC).date()
        catalogue.put(request=plain, begun=day.isoformat())
        return
    differing = [key for key in plain if plain[key] != before.get(key)]
    if differing:
        key = differing[0]
        raise ConfigError(
            f"{folder}: was begun with another {key}: {json.dumps(before.get(key))}, now {json.dumps(plain[key])}; "
            "choose another --out, or repeat the options of that run."
        )


def _missing(catalogue: Catalogue) -> dict[str, int]:
    """What has no answer, by reason."""
    missing: Counter[str] = Counter()
    for _, kind, _ in catalogue.refused_boxes():
        missing[f"box: {kind}"] += 1
    pending = catalogue.box_counts()["pending"]
    if pending:
        missing["box: not asked"] = pending
    for kind, count in catalogue.counts("kind", "state = 'refused'").items():
        missing[f"photograph: {kind}"] = count
    waiting = catalogue.value("count(*)", "state = 'chosen'")
    if waiting:
        missing["photograph: not asked"] = waiting
    return dict(missing)


def _left_out(catalogue: Catalogue) -> dict[str, int]:
    counts: dict[str, int] = catalogue.counts("kind", "state IN ('gone', 'rejected')")
    unusable = sum(1 for _ in catalogue.unusable())
    return {**counts, "unusable record": unusable} if unusable else counts


def _list(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} x {name}" for name, count in counts.items())


def _nothing(plan: Plan, service: Service, folder: Path) -> str:
    if plan.found == 0:
        bad = f", and {plan.unusable} records that are none" if plan.unusable else ""
        return f"{service.title} has no photograph of this area ({plan.area_km2:.3g} km2; every box was answered){bad}."
    return (
        f"{service.title} has {plan.found} photographs of this area, and none passes the filters: "
        f"{_list(plan.filtered)}. Relax them, with another --out than {folder}."
    )


def _none_arrived(service: Service, missing: Mapping[str, int], left_out: Mapping[str, int], folder: Path) -> str:
    if missing:
        return (
            f"{service.title}: no photograph arrived, since the service refused: {_list(missing)}. Run the same "
            f"command again; the search is kept in {folder}."
        )
    return f"{service.title}: no photograph can be used: {_list(left_out)}."


def _some_missing(service: Service, missing: Mapping[str, int], done: int, folder: Path) -> str:
    return (
        f"{service.title} refused a part: {_list(missing)}. The other {done} photographs are in "
        f"{folder / MANIFEST_NAME}. Run the same command again to get the rest, or accept the data set with --partial."
    )
