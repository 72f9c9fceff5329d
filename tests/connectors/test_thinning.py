"""Thinning: the rules hold between every two chosen photographs, and every other one has a reason to be left out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swclip.connectors.service import Item, Query
from swclip.connectors.thinning import Candidate, Thinning, filter_reason, thin
from swclip.errors import ConfigError
from swclip.geo.distance import haversine_m

DIRECTIONS = st.one_of(st.none(), st.just(math.nan), st.floats(0.0, 359.0))


@st.composite
def streets(draw: st.DrawFn) -> list[Candidate]:
    north = draw(st.sampled_from([0.0, 53.8, -78.0]))
    east = draw(st.sampled_from([0.0, 179.9995]))
    places = draw(
        st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40), DIRECTIONS, st.integers(0, 4)), max_size=60)
    )
    return [
        Candidate(
            str(n),
            north + y * 1e-5,
            (east + x * 2e-5 + 180.0) % 360.0 - 180.0,
            direction,
            f"drive-{drive}" if drive else None,
        )
        for n, (y, x, direction, drive) in enumerate(places)
    ]


def kind(direction_deg: float | None) -> str:
    return "none" if direction_deg is None else "panorama" if math.isnan(direction_deg) else "heading"


def alike(one: Candidate, other: Candidate, sectors: int) -> bool:
    if kind(one.direction_deg) != kind(other.direction_deg):
        return False
    if one.direction_deg is None or other.direction_deg is None or kind(one.direction_deg) == "panorama":
        return True
    unit = np.exp(1j * np.radians([one.direction_deg, other.direction_deg]))
    return bool(abs(np.degrees(np.angle(unit[0] / unit[1]))) < 360.0 / sectors - 1e-9)


def near(one: Candidate, other: Candidate, metres: float) -> bool:
    return (
        float(haversine_m(one.lat_deg, one.lon_deg, np.array([other.lat_deg]), np.array([other.lon_deg]))[0]) < metres
    )


@given(streets(), st.integers(1, 8), st.integers(1, 3), st.one_of(st.none(), st.integers(1, 4)))
def test_the_rules_hold_for_the_chosen_and_explain_the_others(
    street: list[Candidate], sectors: int, captures: int, per_place: int | None
) -> None:
    # Not a distance of the lattice, so that rounding decides nothing.
    rules = Thinning(every_m=7.123, sectors=sectors, captures=captures, per_place=per_place)
    assert rules.every_m is not None
    ids = list(thin([], street, rules, max((abs(c.lat_deg) for c in street), default=0.0)))
    assert ids == sorted(ids, key=int)
    chosen: list[Candidate] = []
    for candidate in street:
        around = [other for other in chosen if near(candidate, other, rules.every_m)]
        same = [other for other in around if alike(candidate, other, sectors)]
        fits = (
            (per_place is None or len(around) < per_place)
            and len(same) < captures
            and (candidate.sequence is None or candidate.sequence not in [other.sequence for other in same])
        )
        assert (candidate.id in ids) == fits
        if fits:
            chosen.append(candidate)


def test_both_sides_of_the_antimeridian_are_near() -> None:
    pair = [Candidate("west", 0.0, 179.99999, None, None), Candidate("east", 0.0, -179.99999, None, None)]
    assert list(thin([], pair, Thinning(every_m=10.0), 0.0)) == ["west"]
    assert list(thin(pair[:1], pair[1:], Thinning(every_m=10.0), 0.0)) == []


def test_downloaded_photographs_stay_and_take_their_room() -> None:
    kept = [Candidate("old", 53.8, -1.55, 10.0, None)]
    new = [Candidate("same", 53.80001, -1.55, 12.0, None), Candidate("away", 53.801, -1.55, 12.0, None)]
    assert list(thin(kept, new, Thinning(every_m=10.0), 53.9)) == ["away"]
    assert list(thin(kept, new, Thinning(), 53.9)) == ["same", "away"]


@pytest.mark.parametrize(
    "values", [{"every_m": 0.0}, {"every_m": math.nan}, {"sectors": 0}, {"captures": 0}, {"per_place": 2}]
)
def test_invalid_rules_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"^--"):
        Thinning(**values)  # type: ignore[arg-type]


def test_what_a_service_does_not_state_passes_no_filter() -> None:
    item = Item("a", 53.8, -1.55)
    assert filter_reason(item, Query(), Thinning()) is None
    assert filter_reason(item, Query(panoramas=True), Thinning()) == "no-camera"
    assert filter_reason(item, Query(panoramas=False), Thinning()) is None
    assert filter_reason(item, Query(), Thinning(min_quality=0.5)) == "no-quality"
