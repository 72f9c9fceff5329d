"""Priors as weights of candidates: cities, areas, rough positions, and combinations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import assume, given
from hypothesis import strategies as st

from swclip.errors import ConfigError, InputError
from swclip.geo.areas import AreaError
from swclip.geo.distance import haversine_m
from swclip.retrieval.prior import FARTHEST_RADII, NoCandidatesError, Prior, UnknownCityError

PLACES = np.array([[50.5, 0.5], [50.2, 0.2], [50.8, 0.9], [51.5, 0.5], [0.5, 50.5]])
CITIES = ["Leeds", "York", "leeds", None, "Zürich"]
SQUARE = shapely.box(0, 50, 1, 51)


def rows(prior: Prior) -> list[int]:
    weights = prior.weights(PLACES, CITIES)
    assert weights is not None
    assert weights.rows is not None
    return weights.rows.tolist()


def test_a_city_by_its_name_in_any_case() -> None:
    for name in ("Leeds", "LEEDS", " leeds "):
        assert rows(Prior(city=name)) == [0, 2]
    assert rows(Prior(city="ZU\u0308RICH")) == [4]  # the dots beside the letter, as some systems write them


def test_an_unknown_city_is_refused_and_similar_names_are_listed_first() -> None:
    with pytest.raises(UnknownCityError, match="'Yrok' is not a city of the gallery; it has York, ") as refused:
        rows(Prior(city="Yrok"))
    assert isinstance(refused.value, InputError)
    assert all(name in str(refused.value) for name in ("Leeds", "York", "Zürich"))
    many = [f"City {number:02d}" for number in range(30)]
    with pytest.raises(UnknownCityError, match="and 20 more") as refused:
        Prior(city="City 7").weights(np.zeros((30, 2)), many)
    assert str(refused.value).index("City 07") < str(refused.value).index("City 27")
    for nameless in (None, [None] * 5):
        with pytest.raises(UnknownCityError, match="has no cities"):
            Prior(city="Leeds").weights(PLACES, nameless)


def test_an_area_is_in_longitude_and_latitude() -> None:
    assert rows(Prior(within=SQUARE)) == [0, 1, 2]
    assert rows(Prior(within=SQUARE - shapely.box(0.4, 50.4, 0.6, 50.6))) == [1, 2]
    with pytest.raises(NoCandidatesError, match="choose another area"):
        rows(Prior(within=shapely.box(-20, 50, -19, 51)))


@given(st.floats(-80, 80), st.floats(-179, 179), st.floats(1e6, 1e8))
def test_a_rough_position_weights_candidates_by_distance(lat: float, lon: float, radius_m: float) -> None:
    assume(abs(lat) > 1e-6 or abs(lon) > 1e-6)
    rough = Prior(near_deg=(lat, lon), radius_m=radius_m)
    away = [haversine_m(np.float64(p[0]), np.float64(p[1]), np.float64(lat), np.float64(lon)) for p in PLACES]
    if min(away) > FARTHEST_RADII * radius_m:
        with pytest.raises(NoCandidatesError, match="latitude comes before longitude"):
            rough.weights(PLACES)
        return
    result = rough.weights(PLACES)
    assert result is not None
    assert result.rows is None
    assert result.log_weight is not None
    for distance, weight in zip(away, result.log_weight, strict=True):
        assert weight == pytest.approx(-(distance**2) / (2 * radius_m**2), rel=1e-9)


def test_a_position_far_from_all_candidates_is_refused() -> None:
    near = {"near_deg": (50.5, 0.5), "radius_m": 100.0}
    assert Prior(**near).weights(PLACES) is not None
    with pytest.raises(NoCandidatesError, match="within 10 radii"):
        Prior(near_deg=(0.5, 50.6), radius_m=100.0).weights(PLACES)
    with pytest.raises(NoCandidatesError, match="nearest is 39"):  # the one near it is in another city
        Prior(city="York", **near).weights(PLACES, CITIES)


def test_all_conditions_apply_together() -> None:
    weights = Prior("Leeds", shapely.box(0, 50, 0.7, 52), (50.5, 0.5), 1e5).weights(PLACES, CITIES)
    assert weights is not None
    assert weights.rows is not None
    assert weights.log_weight is not None
    assert weights.rows.tolist() == [0]
    assert weights.log_weight.shape == (5,)
    with pytest.raises(NoCandidatesError, match="none of York's candidates"):
        rows(Prior("York", shapely.box(0.4, 50, 0.7, 51)))


def test_an_empty_prior_has_no_weights() -> None:
    assert Prior().weights(PLACES, CITIES) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"near_deg": (50.0, 0.0)}, "go together"),
        ({"radius_m": 10.0}, "go together"),
        ({"near_deg": (95.0, 0.0), "radius_m": 10.0}, "latitude 95.0 is not within -90 to 90"),
        ({"near_deg": (50.0, float("nan")), "radius_m": 10.0}, "finite"),
        ({"near_deg": (0.0, 0.0), "radius_m": 10.0}, "devices write it"),
        ({"near_deg": (50.0, 0.0), "radius_m": 0.0}, "above 0"),
        ({"near_deg": (50.0, 0.0), "radius_m": float("inf")}, "above 0"),
    ],
)
def test_invalid_priors_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Prior(**options)
    with pytest.raises(AreaError, match="is a LineString"):
        Prior(within=shapely.LineString([(0, 0), (1, 1)]))
