"""What the plots draw, and which queries are shown as examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swclip.reporting.examples import examples_of, pick_examples
from swclip.reporting.page import MetreScale, error_curve
from swclip.reporting.units import distance, metres


@given(st.lists(st.floats(0, 1e7), min_size=1, max_size=900))
def test_error_curve_is_the_empirical_cdf(values: list[float]) -> None:
    curve = error_curve(values)
    assert len(curve["x"]) <= 300
    assert curve["y"] == sorted(curve["y"])
    assert curve["y"][-1] == 100.0
    for x, y in zip(curve["x"], curve["y"], strict=True):
        # x is rounded to four figures: compare with the shares just below and just above it.
        below = 100.0 * sum(max(value, 1.0) < x * 0.999 for value in values) / len(values)
        above = 100.0 * sum(max(value, 1.0) <= x * 1.001 for value in values) / len(values)
        assert below - 0.01 <= y <= above + 0.01


@given(st.lists(st.floats(0, 2e7), min_size=1, max_size=8))
def test_scale_spans_its_values_in_order(values: list[float]) -> None:
    scale = MetreScale.spanning(values)
    places = [scale.at(value) for value in sorted(values)]
    assert places == sorted(places)
    assert all(0.0 <= place <= 100.0 for place in places)
    assert all(scale.low_m <= tick <= scale.high_m * (1 + 1e-9) for tick in scale.ticks_m)
    assert len(scale.ticks_m) >= 2


@given(
    st.lists(st.tuples(st.floats(0, 1e5), st.sampled_from("abcdefg")), min_size=1, max_size=40),
    st.integers(1, 5),
)
@settings(max_examples=50)
def test_no_example_is_repeated(rows: list[tuple[float, str]], count: int) -> None:
    error = [value for value, _ in rows]
    picked = pick_examples(error, [block for _, block in rows], count)
    shown = [row for kind in picked.values() for row in kind]
    assert len(shown) == len(set(shown)) == 3 * min(count, len(rows) // 3)
    if shown:
        assert max(error[row] for row in picked["best"]) <= max(error)
        assert error[picked["best"][0]] == min(error)
        assert max(error) == max(error[row] for row in picked["worst"])


def test_examples_come_from_different_blocks() -> None:
    picked = pick_examples([0.0, 0.1, 0.2, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0], list("aabcdefgh"), count=2)
    assert picked["best"] == [0, 2]


def test_examples_have_photographs_of_query_and_answer(made_up: Any, draw_photographs: Any, tmp_path: Path) -> None:
    evaluation = made_up(1, per_city=20)
    manifest = draw_photographs(evaluation, tmp_path)
    worst = examples_of(evaluation, manifest, count=2)["worst"][0]
    assert worst.error_m == evaluation.predictions["error_m"].max()
    assert worst.query.data_uri.startswith("data:image/jpeg;base64,")
    assert worst.answer is not None
    assert worst.answer.caption == "in the gallery, at the answer"
    (tmp_path / f"{worst.image_id}.jpg").unlink()
    gone = examples_of(evaluation, manifest, count=2)["worst"][0].query
    assert (gone.data_uri, "missing" in gone.caption) == ("", True)


@given(st.floats(0, 2.0e7))
def test_distances_have_at_least_two_significant_figures(value: float) -> None:
    number, unit = metres(value).replace(",", "").split(" ")
    parsed = float(number) * (1000.0 if unit == "km" else 1.0)
    assert parsed == pytest.approx(value, rel=0.051, abs=0.051)
    assert distance(value) in (metres(value), f"{value / 1000:,.0f} km")
