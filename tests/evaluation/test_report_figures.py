"""The figures of a report as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from swclip.evaluation.chart import Series, error_chart
from swclip.evaluation.chart_figure import write_chart
from swclip.evaluation.report_figures import write_figures

CHARTS = {"error-curve", "regions", "correlogram", "reliability", "area", "selective", "selective-within-100-m"}
HIGH_HIGH = (0xB2, 0x18, 0x2B)


def test_a_whole_evaluation_has_all_figures_and_the_same_bytes_twice(full: Any, tmp_path: Path) -> None:
    evaluation = full.full_evaluation(1, n_queries=200, n_candidates=300)
    written = write_figures(tmp_path / "a", evaluation, title="sw-clip")
    names = {f"{name}.{kind}" for name in CHARTS | {"map", "lisa-map"} for kind in ("png", "svg")}
    assert {path.name for path in written} == names == {path.name for path in (tmp_path / "a").iterdir()}
    again = write_figures(tmp_path / "b", evaluation, title="sw-clip")
    for first, second in zip(written, again, strict=True):
        assert first.read_bytes() == second.read_bytes()


def test_what_was_not_measured_is_not_drawn(full: Any, tmp_path: Path) -> None:
    written = write_figures(tmp_path, full.full_evaluation(1, n_queries=60, empty=True))
    assert {path.stem for path in written} == {"error-curve", "map", "regions"}


def test_a_map_shows_the_clusters(full: Any, tmp_path: Path) -> None:
    evaluation = full.full_evaluation(2, n_queries=300, n_candidates=500, cities=full.EIGHT)
    evaluation.report.update(spatial=None, calibration=None)  # the maps alone

    def reds() -> int:
        write_figures(tmp_path, evaluation)
        pixels = np.asarray(Image.open(tmp_path / "lisa-map.png").convert("RGB")).astype(int)
        return int((np.abs(pixels - HIGH_HIGH).max(axis=2) < 12).sum())

    with_clusters = reds()
    evaluation.predictions.loc[evaluation.predictions["lisa"] == "high-high", "lisa"] = "not significant"
    assert with_clusters > 2 * reds() > 0  # what is left is the legend's dot


def test_names_are_not_read_as_formulas(tmp_path: Path) -> None:
    curve = {"x": [2.0, 30.0], "y": [50.0, 100.0]}
    chart = error_chart(
        "c", [("costs $5 or $x_1$", curve, "#0b5cad", "solid", 2.0), ("b", curve, "#111111", "dash", 1.0)]
    )
    assert isinstance(chart.series[0], Series)
    write_chart([tmp_path / "c.svg"], chart)
    assert "costs $5 or $x_1$" in (tmp_path / "c.svg").read_text(encoding="utf-8")
