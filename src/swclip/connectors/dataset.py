"""What a download leaves: the table of its manifest, what was left out and why, and the record of the request."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa

from swclip.connectors.area import RequestedArea
from swclip.connectors.catalogue import Catalogue
from swclip.connectors.search import Plan
from swclip.connectors.service import Service
from swclip.connectors.views import VIEW_COLUMNS, FetchedViews
from swclip.data.manifest_parts import write_manifest_parts
from swclip.files import atomic_file, guarded_cell
from swclip.imaging.panoramas import ViewOptions
from swclip.ingest.rejections import Note
from swclip.ingest.values import parse_timestamp
from swclip.versions import own_version

FETCH_NAME = "fetch.json"
_FETCH_VERSION = 1

Positions = Literal["recorded", "computed"]
"""Which positions and headings a manifest has: as the camera recorded them, or as the service computed them from the
pictures, where it did."""


def write_rejected(catalogue: Catalogue, path: Path) -> None:
    """Write what is not in the manifest although it was planned, with reasons."""
    rows = [("", "box", kind, f"{box.bbox}: {detail}") for box, kind, detail in catalogue.refused_boxes()]
    rows += [(key, "record", "unusable record", detail) for key, detail in catalogue.unusable()]
    left_out = catalogue.rows(("id", "kind", "detail"), "state IN ('gone', 'rejected', 'refused')")
    rows += [(key, "photograph", kind, detail) for key, kind, detail in left_out]
    frame = pd.DataFrame(rows, columns=["image", "what", "reason", "detail"])
    with atomic_file(path) as beside:
        frame.map(guarded_cell).to_csv(beside, index=False)


_ORDER = "sequence IS NULL, sequence, rank IS NULL, rank, captured_at, id"
_COLUMNS = (
    "id", "file", "lat_deg", "lon_deg", "computed_lat_deg", "computed_lon_deg", "accuracy_m", "exif_accuracy_m",
    "heading_deg", "computed_heading_deg", "exif_heading_deg", "captured_at", "exif_captured_at", "sequence", "licence",
    "author", "page", "camera", "field_of_view_deg", "quality", "sha256", "pitch_deg", "roll_deg", "panorama",
)  # fmt: skip


_FURTHER = {
    "camera": pa.string(), "field_of_view_deg": pa.float64(), "quality": pa.float64(), "sha256": pa.string(),
    **{f"{kind}_{name}_deg": pa.float64() for kind in ("recorded", "computed") for name in ("lat", "lon", "heading")},
}  # fmt: skip
_ROWS_AT_ONCE = 5_000


@dataclass(frozen=True)
class Description:
    """How photographs become rows of the manifest.

    Attributes:
        positions: Positions and headings: as recorded, or as computed by the service where it did.
        city: City of all photographs.
        views: The perspective views that replace panoramas; None keeps them whole.
    """

    positions: Positions = "recorded"
    city: str | None = None
    views: ViewOptions | None = None


@dataclass(frozen=True)
class Written:
    """What a manifest has.

    Attributes:
        rows: Its rows.
        views: Those that are views.
        panoramas: The panoramas that these replace.
        notes: Remarks on panoramas.
    """

    rows: int
    views: int = 0
    panoramas: int = 0
    notes: tuple[Note, ...] = ()


def write_fetched(
    catalogue: Catalogue,
    folder: Path,
    kind: type[Service],
    description: Description,
    made_with: dict[str, Any],
    max_pixels: int,
    progress: Callable[[int, int], None] | None = None,
) -> Written:
    """Write the manifest of the downloaded photographs, by sequence, and the views of panoramas.

    Its columns are those of every manifest, authors and addresses, and both kinds of positions where the service
    computes any.

    Args:
        catalogue: The download.
        folder: Folder of the data set.
        kind: The service.
        description: How photographs become rows.
        made_with: Metadata of the manifest.
        max_pixels: Limit of the pixels of a panorama.
        progress: Called with the number of panoramas whose views are made, and their number.

    Raises:
        PhotographError: A panorama cannot be decoded any more.
    """
    computes = bool(catalogue.value("count(computed_lat_deg) + count(computed_heading_deg)", "state = 'done'"))
    views, options = None, description.views
    if options is not None:
        computed = description.positions == "computed"
        views = FetchedViews(catalogue, _ORDER, computed, options, folder, max_pixels, progress)
        made_with = {**made_with, "views": asdict(options)}
    rows = catalogue.rows(_COLUMNS, "state = 'done'", _ORDER)

    def tables() -> Iterator[pd.DataFrame]:
        while part := list(itertools.islice(rows, _ROWS_AT_ONCE)):
            frame = pd.DataFrame(part, columns=list(_COLUMNS))
            table = _table(frame, kind, description, computes)
            yield table if views is None else views.replaced(table, frame)

    further = _FURTHER if views is None else {**_FURTHER, **VIEW_COLUMNS}
    count = write_manifest_parts(folder, tables(), further, made_with=made_with)
    return Written(count) if views is None else Written(count, views.views, views.panoramas, tuple(views.notes))


def _table(frame: pd.DataFrame, kind: type[Service], description: Description, computes: bool) -> pd.DataFrame:
    numbers = [name for name in _COLUMNS if name.endswith(("_deg", "_m")) or name == "quality"]
    frame[numbers] = frame[numbers].astype("float64")
    values = {
        "lat_deg": (frame["lat_deg"], frame["computed_lat_deg"]),
        "lon_deg": (frame["lon_deg"], frame["computed_lon_deg"]),
        "heading_deg": (frame["heading_deg"].fillna(frame["exif_heading_deg"]), frame["computed_heading_deg"]),
    }
    first, second = (1, 0) if description.positions == "computed" else (0, 1)
    table = {
        "image_id": frame["id"],
        "image_path": frame["file"],
        **{name: pair[first].fillna(pair[second]) for name, pair in values.items()},
        "accuracy_m": frame["accuracy_m"].fillna(frame["exif_accuracy_m"]),
        "captured_at": [_time(*pair) for pair in zip(frame["captured_at"], frame["exif_captured_at"], strict=True)],
        "city": description.city,
        "sequence_id": frame["sequence"],
        "licence": frame["licence"],
        "source": kind.title,
        "author": frame["author"],
        "source_url": frame["page"],
        **{name: frame[name] for name in ("camera", "field_of_view_deg", "quality", "sha256")},
    }
    if computes:
        for name, pair in values.items():
            table[f"recorded_{name}"], table[f"computed_{name}"] = pair
    return pd.DataFrame(table)


def _time(stated: str | None, exif: str | None) -> datetime | None:
    """The time of capture as manifests have it: UTC without a zone, or the clock time of EXIF."""
    moment = datetime.fromisoformat(stated) if stated else parse_timestamp(exif)
    return moment if moment is None or moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)


def fetch_document(
    catalogue: Catalogue,
    request: Mapping[str, Any],
    service: Service,
    plan: Plan,
    missing: Mapping[str, int],
    left_out: Mapping[str, int],
    area: RequestedArea,
    written: Written,
) -> dict[str, Any]:
    """What fetch.json states: the request, and what came of it."""
    done = "state = 'done'"
    return {
        "version": _FETCH_VERSION,
        "swclip": own_version(),
        "request": {**request, "begun": catalogue.get("begun"), "geometry": area.area.to_geojson()},
        "terms": service.terms,
        "photographs": catalogue.value("count(*)", done),
        "panoramas_with_views": written.panoramas,
        "views": written.views,
        "bytes": catalogue.value("sum(size)", done),
        "licences": catalogue.counts("coalesce(licence, 'not stated')", done),
        "authors": catalogue.value("count(DISTINCT author)", done),
        "sequences": catalogue.value("count(DISTINCT sequence)", done),
        "years": dict(sorted(catalogue.counts("coalesce(substr(captured_at, 1, 4), 'unknown')", done).items())),
        "area_km2": round(plan.area_km2, 6),
        "found": plan.found,
        "filtered": plan.filtered,
        "thinned": plan.thinned,
        "left_out": dict(left_out),
        "missing": dict(missing),
        "withdrawn_since": catalogue.value("count(*)", f"{done} AND search < {catalogue.get('search')}"),
        "complete": not missing,
    }
