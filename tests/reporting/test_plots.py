"""Charts as figures: axes span their values, legends fit, names are literal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swclip.reporting.page import ErrorCurve
from swclip.reporting.plots import (
    Chart,
    Series,
    area_axis,
    chart_figure,
    error_chart,
    linear_axis,
    log_axis,
    metre_axis,
    percent_axis,
    write_chart,
)
from swclip.reporting.units import distance

CURVE = ErrorCurve(x=[2.0, 30.0, 400.0], y=[50.0, 75.0, 100.0])


def curves(*names: str) -> Chart:
    return error_chart("c", [(name, CURVE, "#0b5cad", "solid", 2.0) for name in names])


@given(st.lists(st.floats(1e-3, 1e7), min_size=1, max_size=6))
def test_logarithmic_axis_spans_its_values(values: list[float]) -> None:
    for axis in (log_axis("", values, distance), metre_axis("", values), area_axis("", values)):
        assert axis.low < min(values) <= max(values) < axis.high
        ticks = [tick for tick, _ in axis.ticks]
        assert ticks == sorted(set(ticks))
        assert all(axis.low <= tick <= axis.high for tick in ticks)


@given(st.floats(0.01, 1e4))
def test_linear_axis_has_a_few_round_ticks(high: float) -> None:
    ticks = [tick for tick, _ in linear_axis("", 0.0, high, str).ticks]
    assert 4 <= len(ticks) <= 9
    assert ticks[0] == 0.0
    assert np.diff(ticks) == pytest.approx(np.full(len(ticks) - 1, ticks[1]), rel=1e-4)


def test_error_chart_spans_all_curves() -> None:
    near, far = ErrorCurve(x=[2.0, 30.0], y=[50.0, 100.0]), ErrorCurve(x=[5.0, 4_000.0], y=[50.0, 100.0])
    chart = error_chart("c", [("a", near, "#000", "solid", 2.0), ("b", far, "#111", "dash", 1.0)])
    assert chart.x.high > 4_000.0
    assert chart.series[0].labels == ["50.0 % within 2.0 m", "100.0 % within 30 m"]
    assert [words for _, words in chart.x.ticks] == ["1 m", "10 m", "100 m", "1 km"]


def test_names_are_not_parsed_as_formulas(tmp_path: Path) -> None:
    write_chart([tmp_path / "c.svg"], curves("costs $5 or $x_1$", "b"))
    assert "costs $5 or $x_1$" in (tmp_path / "c.svg").read_text(encoding="utf-8")


def boxes(figure: Any, artists: Any) -> list[Any]:
    renderer = figure.canvas.get_renderer()
    return [artist.get_window_extent(renderer) for artist in artists]


@given(st.lists(st.integers(1, 90), min_size=2, max_size=12), st.sampled_from([(5.0, 4.0), (14.3, 5.6), (7.2, 4.4)]))
@settings(max_examples=6)
def test_legend_is_below_the_axes_and_within_the_figure(lengths: list[int], size: tuple[float, float]) -> None:
    figure = chart_figure(curves(*("nm" * length for length in lengths)), size=size)
    figure.draw_without_rendering()
    legend, axes = figure.legends[0], figure.axes[0]
    [box] = boxes(figure, [legend])
    assert [text.get_text().replace("\n", "") for text in legend.get_texts()] == ["nm" * length for length in lengths]
    assert box.x1 <= figure.bbox.x1 + 1.0
    assert box.y0 >= -1.0
    assert box.y1 <= axes.get_tightbbox().y0 + 1.0
    assert axes.bbox.height > 0.5 * size[1] * figure.dpi


@pytest.mark.parametrize("width", [3.5, 5.0, 7.2, 14.0])
@pytest.mark.parametrize("values", [[0.002, 0.9], [3.0, 240.0], [1.0, 5e6]])
def test_labels_of_the_horizontal_axis_do_not_overlap(width: float, values: list[float]) -> None:
    series = Series("", values, [20.0, 80.0], "#0b5cad", ["", ""])
    for axis in (area_axis("area", values), metre_axis("error", values), log_axis("distance", values, distance)):
        figure = chart_figure(Chart("c", "", "", axis, percent_axis("share"), [series]), size=(width, 4.0))
        figure.draw_without_rendering()
        labels = [label for label in figure.axes[0].get_xticklabels() if label.get_text()]
        assert len(labels) >= 2
        for left, right in zip(boxes(figure, labels), boxes(figure, labels[1:]), strict=False):
            assert left.x1 < right.x0
