"""Figures of a report: files, maps and charts."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from swclip.errors import InputError
from swclip.reporting.figures import FIGURES, clear_figures, districts_chart, map_figure, write_figures

CHARTS = {
    "error-curve",
    "regions",
    "correlogram",
    "reliability",
    "area",
    "stated",
    "selective",
    "selective-within-100-m",
}
HIGH_HIGH = (0xB2, 0x18, 0x2B)


def test_full_evaluation_writes_all_figures_reproducibly(full: Any, tmp_path: Path) -> None:
    evaluation = full.full_evaluation(1, n_queries=120, n_candidates=150)
    written = write_figures(tmp_path / "a", evaluation, title="sw-clip")
    names = {f"{name}.{kind}" for name in CHARTS | {"map", "lisa-map"} for kind in ("png", "svg")}
    assert CHARTS | {"map", "lisa-map"} == set(FIGURES)
    assert {path.name for path in written} == names == {path.name for path in (tmp_path / "a").iterdir()}
    # Without the optional parts the other figures are the same.
    bare = replace(evaluation, report=evaluation.report.model_copy(update={"spatial": None, "calibration": None}))
    again = write_figures(tmp_path / "b", bare, title="sw-clip")
    assert {path.stem for path in again} == {"error-curve", "map", "lisa-map", "regions"}
    for second in again:
        assert (tmp_path / "a" / second.name).read_bytes() == second.read_bytes()


def test_unmeasured_parts_have_no_figure(full: Any, tmp_path: Path) -> None:
    written = write_figures(tmp_path, full.full_evaluation(1, n_queries=60, empty=True))
    assert {path.stem for path in written} == {"error-curve", "map", "regions"}


def test_map_is_coloured_by_cluster(full: Any) -> None:
    cities = {name: full.EIGHT[name] for name in ("Leeds", "York")}
    evaluation = full.full_evaluation(2, n_queries=160, n_candidates=200, cities=cities)

    def reds() -> int:
        stream = io.BytesIO()
        map_figure(evaluation, colour="lisa").savefig(stream, format="png", dpi=150)
        pixels = np.asarray(Image.open(stream).convert("RGB")).astype(int)
        return int((np.abs(pixels - HIGH_HIGH).max(axis=2) < 12).sum())

    with_clusters = reds()
    evaluation.predictions.loc[evaluation.predictions["lisa"] == "high-high", "lisa"] = "not significant"
    assert with_clusters > 2 * reds() > 0  # the dot of the legend remains
    evaluation.predictions["lisa"] = None
    with pytest.raises(InputError, match="clusters of errors were not measured"):
        map_figure(evaluation, colour="lisa")


def test_districts_with_the_largest_medians_are_on_top(full: Any) -> None:
    evaluation = full.full_evaluation(2, n_queries=80, n_candidates=120, cities=full.EIGHT)
    by_region = evaluation.report.by_region
    hardest = sorted(by_region, key=lambda name: by_region[name].median)[-3:]
    chart = districts_chart(evaluation, most=3)
    assert [words for _, words in chart.y.ticks] == [f"{name} (10)" for name in hardest]
    median = next(series for series in chart.series if series.name == "median")
    assert median.x == [max(by_region[name].median, 1.0) for name in hardest]
    assert chart.title == "Error by district: the 3 with the largest medians"


def test_clear_figures_keeps_other_files(tmp_path: Path) -> None:
    out = tmp_path / "figures"
    out.mkdir()
    for name in [*(f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg")), "other.png"]:
        (out / name).write_bytes(b"")
    clear_figures(out)
    assert [path.name for path in out.iterdir()] == ["other.png"]
    (out / "other.png").unlink()
    clear_figures(out)
    assert not out.exists()
    clear_figures(out)
