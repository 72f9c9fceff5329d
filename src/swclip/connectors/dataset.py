"""What a download leaves: the table of its manifest, what was left out and why, and the record of the request."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa

from swclip.connectors.area import RequestedArea
from swclip.connectors.catalogue import Catalogue
from swclip.connectors.search import Plan
from swclip.connectors.service import Service
from swclip.data.manifest_parts import write_manifest_parts
from swclip.files import atomic_file, guarded_cell
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
    "author", "page", "camera", "field_of_view_deg", "quality", "sha256",
)  # fmt: skip


_FURTHER = {
    "camera": pa.string(), "field_of_view_deg": pa.float64(), "quality": pa.float64(), "sha256": pa.string(),
    **{f"{kind}_{name}_deg": pa.float64() for kind in ("recorded", "computed") for name in ("lat", "lon", "heading")},
}  # fmt: skip
_ROWS_AT_ONCE = 5_000


def write_fetched(
    catalogue: Catalogue,
    folder: Path,
    kind: type[Service],
    positions: Positions,
    city: str | None,
    made_with: dict[str, Any],
) -> int:
    """Write the manifest of the downloaded photographs, by sequence; return their number.

    Its columns are those of every manifest, authors and addresses, and both kinds of positions where the service
    computes any.
    """
    computes = bool(catalogue.value("count(computed_lat_deg) + count(computed_heading_deg)", "state = 'done'"))
    rows = catalogue.rows(_COLUMNS, "state = 'done'", _ORDER)
    parts = iter(lambda: list(itertools.islice(rows, _ROWS_AT_ONCE)), [])
    tables = (_table(pd.DataFrame(part, columns=list(_COLUMNS)), kind, positions, city, computes) for part in parts)
    return write_manifest_parts(folder, tables, _FURTHER, made_with=made_with)


def _table(
    frame: pd.DataFrame, kind: type[Service], positions: Positions, city: str | None, computes: bool
) -> pd.DataFrame:
    numbers = [name for name in _COLUMNS if name.endswith(("_deg", "_m")) or name == "quality"]
    frame[numbers] = frame[numbers].astype("float64")
    values = {
        "lat_deg": (frame["lat_deg"], frame["computed_lat_deg"]),
        "lon_deg": (frame["lon_deg"], frame["computed_lon_deg"]),
        "heading_deg": (frame["heading_deg"].fillna(frame["exif_heading_deg"]), frame["computed_heading_deg"]),
    }
    first, second = (1, 0) if positions == "computed" else (0, 1)
    table = {
        "image_id": frame["id"],
        "image_path": frame["file"],
        **{name: pair[first].fillna(pair[second]) for name, pair in values.items()},
        "accuracy_m": frame["accuracy_m"].fillna(frame["exif_accuracy_m"]),
        "captured_at": [_time(*pair) for pair in zip(frame["captured_at"], frame["exif_captured_at"], strict=True)],
        "city": city,
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
) -> dict[str, Any]:
    """What fetch.json states: the request, and what came of it."""
    done = "state = 'done'"
    return {
        "version": _FETCH_VERSION,
        "swclip": own_version(),
        "request": {**request, "begun": catalogue.get("begun"), "geometry": area.area.to_geojson()},
        "terms": service.terms,
        "photographs": catalogue.value("count(*)", done),
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
