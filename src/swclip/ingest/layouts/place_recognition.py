"""GSV-Cities and Mapillary Street-level Sequences (MSLS): a table per city, beside folders of photographs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from swclip.data.published_splits import PUBLISHED_COLUMN
from swclip.errors import InputError
from swclip.ingest.layouts.layout import (
    Layout,
    LayoutRows,
    LayoutSource,
    header_of,
    layout_table,
    photographs_below,
    whole_number,
)
from swclip.ingest.rejections import Rejection
from swclip.ingest.source_table import SourceTable

_GSV_NAME = re.compile(
    r"(?P<city>.+?)_(?P<place>\d+)_(?P<year>\d{4})_(?P<month>\d\d)_(?P<north>\d{3})"
    r"_-?[\d.]+(?:e-?\d+)?_-?[\d.]+(?:e-?\d+)?_(?P<panoid>.+)$"
)
_GSV_COLUMNS = ("place_id", "year", "month", "northdeg", "city_id", "lat", "lon", "panoid")
_GsvKey = tuple[str, int, int, int, int, str]


def _is_gsv_cities(path: Path, names: Sequence[str]) -> bool:
    tables = sorted((path / "Dataframes").glob("*.csv"))[:1]
    return bool(tables) and (path / "Images").is_dir() and set(_GSV_COLUMNS) <= set(header_of(tables[0]))


def _read_gsv_cities(source: LayoutSource) -> SourceTable:
    """Read GSV-Cities.

    A photograph belongs to the row with its city_id, place, date, bearing and panorama: the digits of latitude and
    longitude in its name differ from those of the table where programs have rewritten the table.
    """
    rows = LayoutRows(source.path)
    tables = sorted((source.path / "Dataframes").glob("*.csv"))
    if not tables:
        raise InputError(
            f"{source.path / 'Dataframes'}: holds no tables CITY.csv, which the layout gsv-cities has; SOURCE is the "
            "folder that contains Dataframes/ and Images/."
        )
    if not (source.path / "Images").is_dir():
        raise InputError(f"{source.path / 'Images'}: there is no such folder, which the layout gsv-cities has.")
    files: dict[_GsvKey, str] = {}
    unnamed = 0
    for name in photographs_below(source.path, rows, source.excluded, "Images"):
        match = _GSV_NAME.match(Path(name).stem)
        if match is None:
            unnamed += 1
            continue
        place, year, month, north = (int(match[group]) for group in ("place", "year", "month", "north"))
        files.setdefault((match["city"], place, year, month, north, match["panoid"]), name)
    for path in tables:
        raw = layout_table(path, "gsv-cities", _GSV_COLUMNS)
        offset = rows.begin(f"Dataframes/{path.name}", raw)
        made: list[dict[str, str]] = []
        numbers: list[int] = []
        for row, values in zip(raw.rows, raw.frame[list(_GSV_COLUMNS)].itertuples(index=False), strict=True):
            photograph = _gsv_row(offset + row, dict(zip(_GSV_COLUMNS, values, strict=True)), files)
            if isinstance(photograph, Rejection):
                rows.rejected.append(photograph)
            else:
                made.append({**photograph, "city": path.stem})
                numbers.append(row)
        rows.add(pd.DataFrame(made, dtype=object), numbers, offset)
    rows.unused(len(files) + unnamed, "below Images/")
    return rows.table(source, "gsv-cities")


def _gsv_row(row: int, cells: dict[str, str], files: dict[_GsvKey, str]) -> dict[str, str] | Rejection:
    city, panoid = cells["city_id"], cells["panoid"]
    numbers: list[int] = []
    for column in ("place_id", "year", "month", "northdeg"):
        number = whole_number(row, panoid, column, cells[column])
        if isinstance(number, Rejection):
            return number
        numbers.append(number)
    place, year, month, north = numbers
    name = f"{city}_{place:07d}_{year:04d}_{month:02d}_{north:03d}_{cells['lat']}_{cells['lon']}_{panoid}.jpg"
    return {
        "image": files.pop((city, place, year, month, north, panoid), f"Images/{city}/{name}"),
        "lat": cells["lat"],
        "lon": cells["lon"],
        "heading": str(north % 360),  # bearings of more than a full turn occur
        "time": f"{year:04d}-{month:02d}",
        "place": f"{city}_{place:07d}",
        "source": "GSV-Cities",
        "panoid": panoid,
    }


GSV_CITIES = Layout("gsv-cities", "Dataframes/CITY.csv beside Images/CITY/*.jpg", _is_gsv_cities, _read_gsv_cities)

_MSLS_VAL = ("cph", "sf")
_MSLS_KINDS = {"query": "queries", "database": "database"}
_MSLS_RAW = ("key", "lon", "lat", "ca", "captured_at", "pano")


def _is_msls(path: Path, names: Sequence[str]) -> bool:
    return any(
        (folder / "raw.csv").is_file() and (folder / "images").is_dir()
        for kind in _MSLS_KINDS
        for folder in sorted(path.glob(f"train_val/*/{kind}"))[:1]
    )


def _read_msls(source: LayoutSource) -> SourceTable:
    """Read MSLS: cities of train_val are training or (Copenhagen, San Francisco) validation.

    The part test is published without positions: its photographs are counted in a note.
    """
    rows = LayoutRows(source.path)
    folders = [
        folder
        for part in ("train_val", "test")
        for city in sorted((source.path / part).glob("*"))
        for kind in _MSLS_KINDS
        if (folder := city / kind).is_dir()
    ]
    if not folders:
        raise InputError(
            f"{source.path}: holds no folders train_val/CITY/query and train_val/CITY/database; SOURCE is the folder "
            "that contains train_val/ and test/."
        )
    unlocated = 0
    for folder in folders:
        inside = folder.relative_to(source.path).as_posix()
        group, city, kind = inside.split("/")
        if group == "test" and not (folder / "raw.csv").is_file():
            unlocated += sum(1 for _ in photographs_below(source.path, rows, source.excluded, f"{inside}/images"))
            continue
        raw = layout_table(folder / "raw.csv", "msls", _MSLS_RAW)
        frame = raw.frame.drop(columns=[""], errors="ignore").rename(columns={"ca": "heading", "captured_at": "time"})
        for name, required in (("seq_info.csv", ("key", "sequence_id")), ("postprocessed.csv", ("key",))):
            frame = _joined(frame, folder / name, required)
        part = "test" if group == "test" else "val" if city in _MSLS_VAL else "train"
        frame.insert(0, "image", [f"{inside}/images/{key}.jpg" for key in frame["key"]])
        frame = frame.rename(columns={"sequence_id": "sequence"}).assign(
            **{"city": city, "source": "MSLS", PUBLISHED_COLUMN: f"{part}/{_MSLS_KINDS[kind]}"}
        )
        rows.add(frame, raw.rows, rows.begin(f"{inside}/raw.csv", raw))
    if unlocated:
        detail = "photographs of the part test, whose positions MSLS does not publish, are left out."
        rows.notes.append(("no-position-published", unlocated, detail))
    return rows.table(source, "msls")


def _joined(frame: pd.DataFrame, path: Path, required: tuple[str, ...]) -> pd.DataFrame:
    """Add the columns of another table of the same photographs, by their key."""
    other = layout_table(path, "msls", required).frame.drop(columns=[""], errors="ignore")
    repeated = other["key"].duplicated()
    if repeated.any():
        raise InputError(f"{path}: the key {other['key'][repeated].iloc[0]!r} occurs twice.")
    new = [name for name in other.columns if name == "key" or name not in frame.columns]
    return frame.merge(other[new], on="key", how="left")


MSLS = Layout("msls", "{train_val,test}/CITY/{query,database}/ with raw.csv and images/", _is_msls, _read_msls)
