"""What programs leave on disk: JSON of mapillary_tools, downloads of panoramax-cli, photographs of Google Takeout."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any

import pandas as pd

from swclip.errors import InputError, first_line
from swclip.geo.distance import geodesic_m
from swclip.ingest.folders import LeftOut, files_below
from swclip.ingest.layouts.layout import Layout, LayoutRows, LayoutSource, photographs_below
from swclip.ingest.rejections import Rejection
from swclip.ingest.source_table import SourceTable

_DESCRIPTION = "mapillary_image_description.json"
_CAPTURE_TIME = re.compile(r"(\d{4})_(\d\d)_(\d\d)_(\d\d)_(\d\d)_(\d\d)_(\d{1,6})$")
_MAPILLARY_FIELDS = {
    "MAPLatitude": "lat", "MAPLongitude": "lon", "MAPGPSAccuracyMeters": "accuracy", "MAPSequenceUUID": "sequence",
    "MAPAltitude": "altitude_m", "MAPDeviceMake": "camera_make", "MAPDeviceModel": "camera_model",
}  # fmt: skip


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({first_line(error)}).") from error


def _is_mapillary_tools(path: Path, names: Sequence[str]) -> bool:
    if path.is_dir():
        return (path / _DESCRIPTION).is_file()
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    with path.open("rb") as stream:
        start = stream.read(65_536)
    return start.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"[") and b'"MAPLatitude"' in start


def _read_mapillary_tools(source: LayoutSource) -> SourceTable:
    """Read the JSON list of `mapillary_tools process`: photographs, videos and failures.

    Names are absolute. Where there is no such file, as on another machine, the longest end of the path that is a file
    below the folder is taken. Failures and videos are rejected with the program's words.
    """
    path = source.path / _DESCRIPTION if source.path.is_dir() else source.path
    if not path.is_file():
        raise InputError(f"{path}: there is no such file, which the layout mapillary-tools has.")
    entries = _read_json(path)
    if not isinstance(entries, list):
        raise InputError(f"{path}: is not a JSON list, as mapillary_tools writes it.")
    rows = LayoutRows(source.images_folder)
    offset = rows.begin(path.name, last_row=len(entries))
    made, numbers = [], []
    for row, entry in enumerate(entries, start=1):
        name = str(entry.get("filename") or entry.get("MAPFilename") or "") if isinstance(entry, dict) else ""
        problem = _not_a_photograph(entry)
        if problem is not None:
            rows.rejected.append(Rejection(row, name, *problem))
            continue
        heading = entry.get("MAPCompassHeading")
        made.append(
            {
                "image": _end_of_path(source.images_folder, name),
                "heading": heading.get("TrueHeading") if isinstance(heading, dict) else None,
                "time": _utc(entry.get("MAPCaptureTime")),
                "source": "mapillary_tools",
                **{role: entry.get(key) for key, role in _MAPILLARY_FIELDS.items()},
            }
        )
        numbers.append(row)
    rows.add(pd.DataFrame(made, dtype=object), numbers, offset)
    return rows.table(source, "mapillary-tools")


def _not_a_photograph(entry: Any) -> tuple[str, str, str, Any] | None:
    """Why an entry is no located photograph: reason, detail, key and value; None if it is one."""
    if not isinstance(entry, dict):
        return "malformed-row", "the entry is not an object.", "entry", entry
    error = entry.get("error")
    if error is not None:
        told = error if isinstance(error, dict) else {"message": error}
        words = ": ".join(str(told[key]) for key in ("type", "message") if told.get(key))
        return "mapillary-tools-error", f"mapillary_tools could not process it ({words}).", "error", error
    if entry.get("filetype", "image") != "image":
        return "video", f"is a video ({entry['filetype']}); sample frames first.", "filetype", entry["filetype"]
    return None


def _end_of_path(folder: Path, name: str) -> str:
    path = Path(name.replace("\\", "/"))
    if path.is_absolute() and path.is_file():
        return name
    parts = path.parts[1:] if path.is_absolute() else path.parts
    ends = ("/".join(parts[at:]) for at in range(len(parts)))
    return next((end for end in ends if (folder / end).is_file()), name)


def _utc(text: Any) -> Any:
    """YYYY_MM_DD_HH_MM_SS_mmm of mapillary_tools, which is UTC, as ISO 8601; other values as they are."""
    match = _CAPTURE_TIME.match(str(text))
    if match is None:
        return text
    year, month, day, hour, minute, second, fraction = match.groups()
    return f"{year}-{month}-{day}T{hour}:{minute}:{second}.{fraction}+00:00"


MAPILLARY_TOOLS = Layout(
    "mapillary-tools",
    f"{_DESCRIPTION} in the folder of the photographs, or such a file",
    _is_mapillary_tools,
    _read_mapillary_tools,
    frozenset({"images"}),
)


_STAC_KEYS = frozenset({"id", "collection", "properties", "geometry", "assets"})


def _any_json(path: Path, names: Sequence[str], keys: frozenset[str], limit: int = 20) -> bool:
    """Whether one of the first JSON files is an object with these keys."""
    first = itertools.islice((name for name in names if name.lower().endswith(".json")), limit)
    return any(keys <= set(_object(path / name)) for name in first)


def _object(path: Path) -> dict[str, Any]:
    """A JSON object; empty for anything else, which is no sidecar file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _json_below(source: LayoutSource) -> list[str]:
    names = files_below(source.path, LeftOut(), source.excluded)
    return [Path(name).as_posix() for name in names if name.lower().endswith(".json")]


def _read_panoramax(source: LayoutSource) -> SourceTable:
    """Read a download of panoramax-cli: a folder per collection, with or without the STAC item of each photograph.

    The item of `NAME.jpg` is `NAME.jpg.json` beside it, or in a folder beside it. Without an item, position and time
    are those of EXIF, and the sequence is the folder.
    """
    rows = LayoutRows(source.path)
    names = list(photographs_below(source.path, rows, source.excluded))
    items: dict[str, str] = {}
    for sidecar in _json_below(source):
        path = Path(sidecar.removesuffix(".json"))
        for photograph in (path, path.parent.parent / path.name):
            items.setdefault(photograph.as_posix(), sidecar)
    made = []
    without = 0
    for name in names:
        item = _object(source.path / items[name]) if name in items else {}
        without += not set(item) >= _STAC_KEYS
        folder = name.rpartition("/")[0] or None
        made.append({"image": name, "sequence": folder, "source": "Panoramax", **_of_item(item)})
    if not made:
        raise InputError(f"{source.path}: holds no photographs; the layout panoramax is {PANORAMAX.shape}.")
    if without:
        detail = "photographs have no STAC item in a JSON file beside them; their EXIF is read."
        rows.notes.append(("no-stac-item", without, detail))
    rows.add(pd.DataFrame(made, dtype=object), range(1, len(made) + 1))
    return rows.table(source, "panoramax")


def _of_item(item: dict[str, Any]) -> dict[str, Any]:
    """The values of a STAC item of Panoramax; nothing where it is none."""
    if not set(item) >= _STAC_KEYS:
        return {}
    properties = item["properties"] if isinstance(item["properties"], dict) else {}
    geometry = item["geometry"] if isinstance(item["geometry"], dict) else {}
    point = geometry.get("coordinates")
    lon, lat = point[:2] if isinstance(point, list) and len(point) > 1 else (None, None)
    providers = item.get("providers")
    producers = [
        provider.get("name")
        for provider in (providers if isinstance(providers, list) else [])
        if isinstance(provider, dict) and "producer" in (provider.get("roles") or ())
    ]
    links = [link for link in item.get("links") or () if isinstance(link, dict)]
    own = [link.get("href") for rel in ("canonical", "self") for link in links if link.get("rel") == rel]
    return {
        "image_id": item["id"],
        "sequence": item["collection"],
        "lat": lat,
        "lon": lon,
        "time": properties.get("datetime"),
        "heading": properties.get("view:azimuth"),
        "accuracy": properties.get("quality:horizontal_accuracy"),
        "licence": properties.get("license"),
        "author": properties.get("geovisio:producer") or next(iter(producers), None),
        "source_url": next(iter(own), None),
    }


PANORAMAX = Layout(
    "panoramax",
    "a folder per collection, with the STAC item of NAME.jpg in NAME.jpg.json",
    lambda path, names: _any_json(path, names, _STAC_KEYS),
    _read_panoramax,
)

_TAKEOUT_KEYS = frozenset({"title", "photoTakenTime", "geoData"})
_SUFFIX = "supplemental-metadata"
_COPY = re.compile(r"(?P<base>.*)\((?P<number>\d+)\)$", re.DOTALL)
_EDITED = ("-edited", "-bearbeitet", "-modifié", "-editado", "-modificato", "-bewerkt")
_SHORTENED_FROM = 40  # Takeout shortens names of more than 46 characters, before .json
_APART_M = 25.0


def _read_takeout(source: LayoutSource) -> SourceTable:
    """Read photographs of Google Takeout with the JSON file of each.

    The position is the camera's (geoDataExif), else the one that Google Photos has (geoData: set by the user, or
    estimated); 0, 0 is none. The time is photoTakenTime, UTC. EXIF fills what is empty.
    """
    rows = LayoutRows(source.path)
    names = list(photographs_below(source.path, rows, source.excluded))
    if not names:
        raise InputError(f"{source.path}: holds no photographs; the layout takeout is {TAKEOUT.shape}.")
    in_folder: dict[str, set[str]] = {}
    for name in names:
        folder, _, file = name.rpartition("/")
        in_folder.setdefault(folder, set()).add(file)
    sidecars: dict[str, dict[str, Any]] = {}
    for name in _json_below(source):
        content = _object(source.path / name)
        folder, _, file = name.rpartition("/")
        photograph = _photograph_of(file, in_folder.get(folder, set()))
        if set(content) >= _TAKEOUT_KEYS and photograph is not None:
            sidecars.setdefault(f"{folder}/{photograph}".lstrip("/"), content)
    made = []
    without = moved = 0
    for name in names:
        content = sidecars.get(name) or sidecars.get(_unedited(name), {})
        without += not content
        camera, service = _takeout_point(content.get("geoDataExif")), _takeout_point(content.get("geoData"))
        lat, lon = camera or service or (None, None)
        moved += bool(camera and service and geodesic_m([list(camera)], [list(service)])[0] > _APART_M)
        taken = content.get("photoTakenTime")
        made.append(
            {
                "image": name,
                "lat": lat,
                "lon": lon,
                "time": taken.get("timestamp") if isinstance(taken, dict) else None,
                "caption": content.get("description") or None,
            }
        )
    if without:
        detail = "photographs have no JSON file of Takeout beside them; their EXIF is read."
        rows.notes.append(("no-takeout-json", without, detail))
    if moved:
        detail = (
            f"positions of the camera are more than {_APART_M:g} m from those in Google Photos; the camera's are used."
        )
        rows.notes.append(("positions-disagree", moved, detail))
    rows.add(pd.DataFrame(made, dtype=object), range(1, len(made) + 1))
    return rows.table(source, "takeout")


def _photograph_of(sidecar: str, names: Set[str]) -> str | None:
    """The photograph that a JSON file of Takeout describes, of those in its folder.

    `IMG.jpg.json`, `IMG.jpg.supplemental-metadata.json` shortened to `IMG.jpg.suppl.json` or `IMG.jpg..json`, copies
    `IMG.jpg(1).json` of `IMG(1).jpg`, and names of photographs that are themselves shortened.
    """
    stem = sidecar[: -len(".json")]
    copy = _COPY.match(stem)
    base, number = (copy["base"], f"({copy['number']})") if copy is not None else (stem, "")
    head, dot, tail = base.rpartition(".")
    shapes = [base, head] if dot and _SUFFIX.startswith(tail) else [base]
    for shape in shapes:
        root, extension = os.path.splitext(shape)
        for name in (f"{root}{number}{extension}", stem):
            if name in names:
                return name
    if len(stem) >= _SHORTENED_FROM:
        begun = [name for name in names if name.startswith(shapes[-1])]
        return begun[0] if len(begun) == 1 else None
    return None


def _unedited(name: str) -> str:
    root, extension = os.path.splitext(name)
    return next((root.removesuffix(end) + extension for end in _EDITED if root.endswith(end)), name)


def _takeout_point(value: Any) -> tuple[float, float] | None:
    if not isinstance(value, dict):
        return None
    try:
        lat, lon = float(value["latitude"]), float(value["longitude"])
    except (KeyError, TypeError, ValueError):
        return None
    return None if lat == 0.0 and lon == 0.0 else (lat, lon)


TAKEOUT = Layout(
    "takeout",
    "folders of photographs with a JSON file for each, such as IMG.jpg.supplemental-metadata.json",
    lambda path, names: _any_json(path, names, _TAKEOUT_KEYS),
    _read_takeout,
)
