"""File names of visual place recognition (VPR) data sets: the fields between `@`, and the position they state.

    @east@north@zone@letter@lat@lon@pano@tile@heading@pitch@roll@height@timestamp@note@.jpg

Fields may be empty, except the easting and northing (UTM, metres).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from swclip.geo.coordinates import position_problem
from swclip.geo.distance import geodesic_m
from swclip.geo.projections import projected_to_deg, projection_problem, utm_crs

FIELDS = (
    "easting", "northing", "zone", "letter", "lat", "lon", "pano", "tile", "heading", "pitch", "roll", "height",
    "timestamp", "note",
)  # fmt: skip
DISAGREE_M = 25.0
"""Largest distance between the two positions of a name, metres; a name whose positions differ more is rejected."""

_BANDS = "CDEFGHJKLMNPQRSTUVWX"
# The last band of UTM reaches to 84 degrees; the others span 8. At the edge of two bands either letter is accepted.
_BAND_SLACK_DEG = 0.1


class PlaceNameError(ValueError):
    """A file name does not state a valid position.

    Attributes:
        reason: A code: name-not-read, zone-missing, zone-letter or positions-disagree.
        detail: The reason in words.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class PlaceName:
    """The values in a file name.

    Attributes:
        lat_deg: Latitude in degrees, WGS84.
        lon_deg: Longitude in degrees.
        values: {field: text} of the non-empty fields after the position; see `FIELDS`.
    """

    lat_deg: float
    lon_deg: float
    values: dict[str, str]


def is_vpr_name(name: str) -> bool:
    """Return whether a file name has the form @easting@northing@..."""
    return name.startswith("@") and name.count("@") >= 3


def parse_name(name: str, crs: str | None = None) -> PlaceName:
    """Parse the position and the other fields of a file name.

    Easting and northing are preferred, because they are precise to centimetres. Their zone comes from the name's zone
    number with its letter or the sign of its latitude, else from `crs`. Without a zone, latitude and longitude are
    used. If a name has both positions, they must agree within `DISAGREE_M`.

    Args:
        name: The file name, without folders.
        crs: Projection of names that have no zone.

    Raises:
        PlaceNameError: With a reason (name-not-read, zone-missing, zone-letter, positions-disagree) and a detail.
        ConfigError: The projection is not known.

    Example:
        >>> place = parse_name("@0244128.10@3377950.20@50@R@@@pano7@@090@@@@@@.jpg")
        >>> round(place.lat_deg, 4), round(place.lon_deg, 4), place.values["heading"]
        (30.5066, 114.3339, '090')
    """
    fields = _fields(name)
    easting, northing = (_number(fields, key, name) for key in ("easting", "northing"))
    if easting is None or northing is None:
        raise PlaceNameError("name-not-read", "the name has no easting or no northing between its first three @.")
    lat, lon = (_number(fields, key, name) for key in ("lat", "lon"))
    stated = (lat, lon) if lat is not None and lon is not None else None
    if stated is not None and (problem := position_problem(*stated)) is not None:
        raise PlaceNameError("name-not-read", f"{problem.detail}.")
    values = {key: fields[key] for key in FIELDS[6:] if fields.get(key)}
    projection = _projection(fields, lat, crs)
    if projection is None:
        if stated is not None:
            return PlaceName(stated[0], stated[1], values)
        detail = "the name has no UTM zone, latitude and longitude; give the projection, such as --crs EPSG:32650."
        raise PlaceNameError("zone-missing", detail)
    utm_lat, utm_lon = projected_to_deg([easting], [northing], projection)[0].tolist()
    if not math.isfinite(utm_lat):
        raise PlaceNameError("name-not-read", f"{projection_problem(easting, northing, projection)}.")
    _check_band(fields, utm_lat)
    if stated is not None:
        apart = float(geodesic_m([[utm_lat, utm_lon]], [list(stated)])[0])
        if apart > DISAGREE_M:
            raise PlaceNameError(
                "positions-disagree",
                f"easting and northing in {projection} and the latitude and longitude of the name are {apart:,.0f} m "
                "apart; the correct position is unknown.",
            )
    return PlaceName(utm_lat, utm_lon, values)


def _fields(name: str) -> dict[str, str]:
    parts = name.split("@")
    if parts[0] or len(parts) < 3:
        detail = "the name is not @easting@northing@...: it does not begin with @, or has fewer than two fields."
        raise PlaceNameError("name-not-read", detail)
    values = [part.strip() for part in parts[1:]]
    # The suffix follows the last @; in a short name it is part of the last field.
    values[-1] = "" if values[-1].startswith(".") else values[-1].rpartition(".")[0]
    return {key: "" if value.lower() in ("none", "nan") else value for key, value in zip(FIELDS, values, strict=False)}


def _number(fields: dict[str, str], key: str, name: str) -> float | None:
    text = fields.get(key, "")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or "_" in text:
        raise PlaceNameError("name-not-read", f"the {key} {text!r} of the name is not a number.")
    return value


def _projection(fields: dict[str, str], lat: float | None, crs: str | None) -> str | None:
    zone, letter = fields.get("zone", ""), fields.get("letter", "").upper()
    if zone:
        if not zone.isdigit() or not 1 <= int(zone) <= 60:
            raise PlaceNameError("name-not-read", f"the UTM zone {zone!r} is not a number from 1 to 60.")
        if letter and (len(letter) != 1 or letter not in _BANDS):
            raise PlaceNameError(
                "zone-letter", f"the zone letter {letter!r} is not one of UTM's, {_BANDS[0]} to {_BANDS[-1]}."
            )
        if letter or lat is not None:
            return utm_crs(int(zone), letter >= "N" if letter else bool(lat is not None and lat >= 0.0))
    return crs


def _check_band(fields: dict[str, str], lat: float) -> None:
    """Check the latitude band of the letter. Some names use S for south, but S is the band 32 to 40 degrees north."""
    letter = fields.get("letter", "").upper()
    if not fields.get("zone") or not letter:
        return
    low = -80.0 + 8.0 * _BANDS.index(letter)
    high = 84.0 if letter == "X" else low + 8.0
    if not low - _BAND_SLACK_DEG <= lat <= high + _BAND_SLACK_DEG:
        raise PlaceNameError(
            "zone-letter",
            f"the zone letter {letter} is the band of latitudes {low:g} to {high:g}, but the northing is at latitude "
            f"{lat:.3f}; is the letter a hemisphere, or from another zone?",
        )
