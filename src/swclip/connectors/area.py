"""The area that a service is asked for: a box, a file of polygons, a circle, or a place that a geocoder knows by name.

References:
    Nominatim: Search and Address lookup, https://nominatim.org/release-docs/latest/api/Overview/.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from swclip.errors import ConfigError, InputError, ServiceError, first_line
from swclip.geo.areas import Area, AreaError, parse_area, read_area
from swclip.geo.boxes import parse_bbox
from swclip.versions import own_version

_TIMEOUT_S = 30.0
_MAX_RESULTS = 10
_OSM_ID = re.compile(r"[RWrw]\d+")
_NUMBERS = re.compile(r"[-+\d.,\s]+")


@dataclass(frozen=True)
class RequestedArea:
    """An area with what was asked for it.

    Attributes:
        area: The polygons.
        request: JSON of what was asked: bbox, file, near with radius_m, or place with geocoder, osm_id, name and
            attribution (as the geocoder states it).
    """

    area: Area
    request: dict[str, Any]

    @property
    def city(self) -> str | None:
        """The name of a place as the geocoder writes it, up to a comma: "Leeds" of "Leeds, England"; None of others."""
        name = self.request.get("name")
        return None if name is None else str(name).partition(",")[0].strip()


def requested_area(
    area: str | None = None,
    *,
    bbox: str | None = None,
    near: tuple[float, float] | None = None,
    radius_m: float | None = None,
    geocoder: str | None = None,
) -> RequestedArea:
    """Read the area that exactly one of `area`, `bbox` and `near` describes.

    Args:
        area: A file of polygons (`swclip.geo.areas.read_areas`); with `geocoder`, the name of a place, or its id in
            OpenStreetMap such as R118362 (a relation) or W4040 (a way).
        bbox: MINLON,MINLAT,MAXLON,MAXLAT in degrees.
        near: Latitude, longitude of the centre of a circle, degrees.
        radius_m: Its radius in metres.
        geocoder: Address of a service with Nominatim's search, such as https://nominatim.openstreetmap.org. It gets one
            request.

    Raises:
        ConfigError: None or several of them are present, or a value is invalid.
        InputError: The file is not an area, or no place or several places have the name.
        ServiceError: The geocoder cannot be reached, refuses or does not answer in Nominatim's form.

    Example:
        >>> requested_area(near=(53.8, -1.55), radius_m=500.0).request
        {'near': [53.8, -1.55], 'radius_m': 500.0}
    """
    if (near is None) != (radius_m is None):
        raise ConfigError("--near and --radius-m must be used together: a point LAT,LON and a radius in metres.")
    if sum(value is not None for value in (area, bbox, near)) != 1:
        raise ConfigError(
            "an area is needed, in one of these forms: --area FILE of polygons (GeoJSON, GeoPackage), "
            "--area NAME with --geocoder URL, --bbox=MINLON,MINLAT,MAXLON,MAXLAT, or --near=LAT,LON --radius-m METRES."
        )
    if bbox is not None:
        box = parse_bbox(bbox)
        return RequestedArea(Area.of_box(box, f"--bbox {bbox}"), {"bbox": list(box.bbox)})
    if near is not None and radius_m is not None:
        circle = Area.around(near, radius_m, f"--near {near[0]:g},{near[1]:g}")
        return RequestedArea(circle, {"near": [float(near[0]), float(near[1])], "radius_m": float(radius_m)})
    return _file_or_place(str(area), geocoder)


def _file_or_place(text: str, geocoder: str | None) -> RequestedArea:
    if Path(text.partition("|")[0]).exists():
        return RequestedArea(read_area(text), {"file": text})
    if _NUMBERS.fullmatch(text):
        raise ConfigError(
            f"--area {text!r}: takes a file or a name. For a box use --bbox=MINLON,MINLAT,MAXLON,MAXLAT, for a circle "
            "--near=LAT,LON --radius-m METRES."
        )
    if Path(text).suffix and " " not in text:
        raise InputError(f"--area {text}: there is no such file.")
    if geocoder is None:
        raise ConfigError(
            f"--area {text!r}: there is no such file. If it is the name of a place, add --geocoder URL, such as "
            "https://nominatim.openstreetmap.org (its usage policy applies)."
        )
    return _place(text, geocoder)


def _place(name: str, geocoder: str) -> RequestedArea:
    base = geocoder.rstrip("/").removesuffix("/search")
    if not base.startswith(("http://", "https://")):
        raise ConfigError(f"--geocoder {geocoder!r}: must be an address that starts with http:// or https://.")
    by_id = _OSM_ID.fullmatch(name)
    # `layer=address` leaves out shops and monuments of the name.
    question = {"osm_ids": name.upper()} if by_id else {"q": name, "limit": str(_MAX_RESULTS), "layer": "address"}
    parameters = {**question, "format": "jsonv2", "polygon_geojson": "1"}
    results = _answer(f"{base}/{'lookup' if by_id else 'search'}", parameters)
    if not results:
        raise InputError(f"{base}: knows no place {name!r}; check the spelling, or give a file of polygons.")
    places = [place for place in results if _geometry(place).get("type") in ("Polygon", "MultiPolygon")]
    if not places:
        raise InputError(
            f"{base}: {name!r} is a point or a line there ({_text(results[0], 'display_name')}), without an area; use "
            f"--near={_text(results[0], 'lat')},{_text(results[0], 'lon')} --radius-m METRES."
        )
    if len(places) > 1:
        listed = "\n".join(f"  --area {_osm_id(place)}  {_described(place)}" for place in places)
        raise InputError(f"{base}: {name!r} is the name of {len(places)} places; name one by its id:\n{listed}")
    place = places[0]
    shown = _text(place, "display_name") or name
    try:
        area = parse_area(json.dumps(_geometry(place)), shown)
    except AreaError as error:
        raise ServiceError(f"{base}: its area of {name!r} cannot be used: {error}") from None
    request = {
        "place": name,
        "geocoder": base,
        "osm_id": _osm_id(place),
        "name": shown,
        "attribution": _text(place, "licence") or None,
    }
    return RequestedArea(area, request)


def _answer(url: str, parameters: Mapping[str, str]) -> list[dict[str, Any]]:
    """The results of one request; no second one is sent, as geocoders' usage policies ask."""
    headers = {"User-Agent": f"swclip/{own_version()} (street-view geo-localization)", "Accept": "application/json"}
    try:
        response = httpx.get(url, params=parameters, headers=headers, timeout=_TIMEOUT_S, follow_redirects=True)
    except httpx.HTTPError as error:
        reason = first_line(error)
        raise ServiceError(f"{url}: the geocoder cannot be reached ({reason}); check --geocoder.") from None
    if response.status_code != httpx.codes.OK:
        wait = response.headers.get("Retry-After")
        hint = {
            403: "; it does not admit this client or network: see its usage policy",
            429: f"; too many requests{f', retry after {wait} s' if wait else ', wait and retry'}",
        }.get(response.status_code, "")
        raise ServiceError(f"{url}: the geocoder answered {response.status_code} {response.reason_phrase}{hint}.")
    try:
        results = response.json()
    except ValueError:
        results = None
    if not isinstance(results, list) or not all(isinstance(result, dict) for result in results):
        raise ServiceError(f"{url}: the answer is not Nominatim's list of places; check --geocoder.")
    return results


def _geometry(place: Mapping[str, Any]) -> dict[str, Any]:
    geometry = place.get("geojson")
    return geometry if isinstance(geometry, dict) else {}


def _text(place: Mapping[str, Any], key: str) -> str:
    value = place.get(key)
    return "" if value is None else str(value)


def _osm_id(place: Mapping[str, Any]) -> str:
    return f"{_text(place, 'osm_type')[:1].upper()}{_text(place, 'osm_id')}"


def _described(place: Mapping[str, Any]) -> str:
    try:
        size = f"{parse_area(json.dumps(_geometry(place))).area_km2:,.1f} km²"
    except AreaError:
        size = "not a usable area"
    return f"{_text(place, 'display_name')} ({_text(place, 'addresstype') or _text(place, 'type')}, {size})"
