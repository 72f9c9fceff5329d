"""Coordinates as text: every notation of a position is read as that position."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swclip.ingest.angles import Angle, AngleError, Pair, degrees_of_parts, parse_angle, parse_pair
from swclip.ingest.hemispheres import SignedCoordinates


def parts(degrees: float) -> tuple[int, int, float]:
    """Degrees, minutes and seconds of a size, to a thousandth of a second."""
    thousandths = round(abs(degrees) * 3_600_000)
    return thousandths // 3_600_000, thousandths // 60_000 % 60, thousandths % 60_000 / 1000.0


def letter(degrees: float) -> str:
    return "S" if degrees < 0 else "N"


NOTATIONS: list[Callable[[float], str]] = [
    lambda v: f"{v:.7f}",
    lambda v: f"{v:.7f}".replace(".", ",").replace("-", "\u2212"),
    lambda v: f"{v:+.7f}\u00b0",
    lambda v: f"{abs(v):.7f}{letter(v)}",
    lambda v: f"{letter(v)} {abs(v):.7f}",
    lambda v: "{}\u00b0{}'{:.3f}\"{}".format(*parts(v), letter(v)),
    lambda v: "{} deg {}' {:.3f}\" {}".format(*parts(v), letter(v)),
    lambda v: "{}\u00b0 {}\u2032 {:.3f}\u2033 {}".format(*parts(v), letter(v).lower()),
    lambda v: "{}{}:{}:{:.3f}".format("-" if v < 0 else "+", *parts(v)),
    lambda v: "{} {} {:.3f} {}".format(*parts(v), "South" if v < 0 else "North"),
    lambda v: "{}d{}m{:.3f}s{}".format(*parts(v), letter(v)),
    lambda v: f"{letter(v)}{parts(v)[0]:02d} {parts(v)[1] + parts(v)[2] / 60.0:.6f}",
]


@given(st.floats(-89.9, 89.9), st.sampled_from(NOTATIONS))
def test_every_notation_is_read(degrees: float, write: Callable[[float], str]) -> None:
    text = write(degrees)
    signed = SignedCoordinates.of([parse_angle(text)], "lat")
    assert signed.problems == {}
    assert signed.degrees[0] == pytest.approx(degrees, abs=1.6e-7)


@given(st.text(max_size=12))
def test_other_text_is_refused_or_read(text: str) -> None:
    for parse, kind in ((parse_angle, Angle), (parse_pair, Pair)):
        try:
            value = parse(text)
        except AngleError:
            continue
        assert value is None or isinstance(value, kind)


@given(st.integers(0, 179), st.floats(0, 60), st.floats(0, 60))
def test_parts_are_summed(degrees: int, minutes: float, seconds: float) -> None:
    whole = float(math.floor(minutes))
    expected = degrees + whole / 60.0 + seconds / 3600.0
    assert degrees_of_parts([degrees, whole, seconds]) == pytest.approx(expected, rel=1e-14)
    assert degrees_of_parts([-degrees, whole, seconds]) == pytest.approx(expected, rel=1e-14)


@given(st.floats(-89, 89), st.floats(-179, 179))
def test_a_pair_is_read_with_any_separator(lat: float, lon: float) -> None:
    a, b = f"{lat:.6f}", f"{lon:.6f}"
    for text in (f"{a}, {b}", f"{a},{b}", f"{a} {b}", f"({a}; {b})", f"[{a}, {b}]", f"{a},{b},12.5", f"{a}/{b}"):
        pair = parse_pair(text)
        assert pair is not None
        assert (pair.first.degrees, pair.second.degrees) == (float(a), float(b))
    commas = f"{a}; {b}".replace(".", ",")
    for text in (commas, commas.replace(";", ","), commas.replace(";", "")):
        pair = parse_pair(text)
        assert pair is not None
        assert (pair.first.degrees, pair.second.degrees) == (float(a), float(b))
