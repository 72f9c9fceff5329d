"""Prior knowledge of a place: its city, an area that contains it, or a rough position."""

from __future__ import annotations

import difflib
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from jaxtyping import Bool, Float64, Int64

from swclip.errors import ConfigError, InputError
from swclip.geo.areas import Area
from swclip.geo.coordinates import position_problem
from swclip.geo.distance import haversine_m

FARTHEST_RADII = 10.0
"""A rough position that is farther than this number of its radii from all candidates is assumed to be a mistake."""

_CITIES_NAMED = 10


class UnknownCityError(InputError):
    """The gallery has no city of that name."""


class NoCandidatesError(InputError):
    """No candidate of the gallery meets the conditions of a prior."""


@dataclass(frozen=True)
class Prior:
    """Prior knowledge of a place, independent of the gallery. All of its conditions apply together.

    A city and an area exclude candidates. A rough position is a Gaussian belief with its radius r as the standard
    deviation; with d the haversine distance, each candidate has the weight

        w = exp(-d^2 / (2 r^2))

    and no candidate is excluded.

    Attributes:
        city: A city of the gallery, by its name there, in any case.
        within: An area (`swclip.read_area` reads GeoJSON), or a shapely Polygon or MultiPolygon in longitude and
            latitude.
        near_deg: Latitude and longitude of the rough position in degrees.
        radius_m: r in metres.

    Raises:
        ConfigError: Only one of rough position and radius is given, or a value is invalid.
        AreaError: `within` is not an area.

    Example:
        >>> places = np.array([[53.8, -1.55], [53.8, -1.56], [51.5, -0.1]])
        >>> near = Prior(near_deg=(53.8, -1.55), radius_m=500.0).weights(places)
        >>> near.rows, near.log_weight[:2].round(3).tolist()
        (None, [-0.0, -0.863])
        >>> Prior(city="leeds").weights(places, ["Leeds", "Leeds", "London"]).rows.tolist()
        [0, 1]
    """

    city: str | None = None
    within: Area | shapely.Geometry | None = None
    near_deg: tuple[float, float] | None = None
    radius_m: float | None = None

    def __post_init__(self) -> None:
        if (self.near_deg is None) != (self.radius_m is None):
            raise ConfigError("a rough position and its radius go together; give both or neither.")
        if self.near_deg is not None and (problem := position_problem(*self.near_deg)) is not None:
            raise ConfigError(
                f"the rough position {self.near_deg[0]:g}, {self.near_deg[1]:g} cannot be used: {problem.detail}; "
                "latitude comes before longitude."
            )
        if self.radius_m is not None and not (math.isfinite(self.radius_m) and self.radius_m > 0):
            raise ConfigError(f"the radius of a rough position is {self.radius_m} m; give a distance above 0.")
        if self.within is not None and not isinstance(self.within, Area):
            object.__setattr__(self, "within", Area(self.within))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the area as well-known text: the same for the same prior."""
        within = None
        if isinstance(self.within, Area):
            within = shapely.to_wkt(shapely.normalize(self.within.geometry), rounding_precision=-1)
        near_deg = None if self.near_deg is None else list(self.near_deg)
        return {"city": self.city, "within": within, "near_deg": near_deg, "radius_m": self.radius_m}

    def weights(
        self, positions_deg: Float64[np.ndarray, "m 2"], cities: Sequence[str | None] | None = None
    ) -> Weights | None:
        """The weights of candidates; None for a uniform prior.

        Args:
            positions_deg: (M, 2) candidates, degrees.
            cities: M names, None where unknown.

        Raises:
            UnknownCityError: No candidate is in the city.
            NoCandidatesError: No candidate meets the conditions.
        """
        inside: Bool[np.ndarray, " m"] | None = None
        if self.city is not None:
            inside = _in_city(self.city, [None] * len(positions_deg) if cities is None else cities)
        if isinstance(self.within, Area):
            in_area = self.within.contains(positions_deg)
            if not in_area.any():
                raise NoCandidatesError("none of the gallery's candidates is in the area; choose another area.")
            inside = in_area if inside is None else inside & in_area
            if not inside.any():
                raise NoCandidatesError(f"none of {self.city}'s candidates is in the area; remove one of the two.")
        log_weight = None
        if self.near_deg is not None and self.radius_m is not None:
            lat, lon = map(np.float64, self.near_deg)
            distance_m = haversine_m(positions_deg[:, 0], positions_deg[:, 1], lat, lon)
            nearest_m = float(distance_m.min() if inside is None else distance_m[inside].min())
            if nearest_m > FARTHEST_RADII * self.radius_m:
                raise NoCandidatesError(
                    f"none of the gallery's candidates is within {FARTHEST_RADII:g} radii of the rough position, the "
                    f"nearest is {nearest_m / 1000:.3g} km away; latitude comes before longitude, and a larger radius "
                    "is a weaker condition."
                )
            log_weight = -0.5 * (distance_m / self.radius_m) ** 2
        if inside is None and log_weight is None:
            return None
        return Weights(None if inside is None else np.flatnonzero(inside).astype(np.int64), log_weight)


@dataclass(frozen=True, eq=False)
class Weights:
    """A prior over the candidates of a gallery.

    Attributes:
        rows: (S,) candidates that are not excluded, increasing; None for all.
        log_weight: (M,) logarithm of each candidate's weight, up to a constant; None for equal weights.
    """

    rows: Int64[np.ndarray, " s"] | None = None
    log_weight: Float64[np.ndarray, " m"] | None = None


def _in_city(name: str, cities: Sequence[str | None]) -> Bool[np.ndarray, " m"]:
    folded = _folded(name)
    spelled: dict[str, str] = {}
    for city in dict.fromkeys(cities):
        if city is not None:
            spelled.setdefault(_folded(city), city)
    if folded not in spelled:
        raise UnknownCityError(_unknown(name, folded, spelled))
    same = {city for city in set(cities) if city is not None and _folded(city) == folded}
    return np.array([city in same for city in cities], dtype=np.bool_)


def _unknown(name: str, folded: str, spelled: dict[str, str]) -> str:
    """The message for an unknown city: the gallery's cities, the most similar names first."""
    if not spelled:
        return f"city {name!r} cannot be used: the gallery has no cities; give an area."
    likeness = {city: difflib.SequenceMatcher(None, folded, city).ratio() for city in spelled}
    named = [spelled[city] for city in sorted(spelled, key=lambda city: (-likeness[city], city))]
    more = f" and {len(named) - _CITIES_NAMED} more" if len(named) > _CITIES_NAMED else ""
    return f"{name!r} is not a city of the gallery; it has {', '.join(named[:_CITIES_NAMED])}{more}."


def _folded(name: str) -> str:
    # Accented letters may be composed or decomposed.
    return unicodedata.normalize("NFC", " ".join(name.split())).casefold()
