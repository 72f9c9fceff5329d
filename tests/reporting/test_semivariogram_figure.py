"""Figure of the semivariogram: labels with and without structure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from swclip.geo.semivariogram import EmpiricalSemivariogram, fit_semivariogram
from swclip.reporting.semivariogram_figure import write_semivariogram_figure

LAG = np.geomspace(3.0, 450.0, 12)


def _text_of(path: Path, gamma: np.ndarray) -> str:
    bins = EmpiricalSemivariogram(LAG, gamma, np.geomspace(60, 3e6, 12).astype(np.int64), 500.0)
    write_semivariogram_figure([path], bins, fit_semivariogram(bins))
    return path.read_text()


def test_figure_states_the_fitted_parameters(tmp_path: Path) -> None:
    text = _text_of(tmp_path / "a.svg", 0.3 + 0.6 * (1 - np.exp(-LAG / 20.0)))
    for words in ("nugget 0.30", "sill 0.90", "at 20 m", "practical range", "60 m", "60 to 3.0 M per point"):
        assert words in text
    again = _text_of(tmp_path / "b.svg", 0.3 + 0.6 * (1 - np.exp(-LAG / 20.0)))
    assert again == text, "output is reproducible"


def test_no_range_is_marked_without_structure(tmp_path: Path) -> None:
    text = _text_of(tmp_path / "a.svg", np.full(12, 0.9))
    assert "no structure" in text
    assert "practical range" not in text


def test_empty_semivariogram_raises(tmp_path: Path) -> None:
    bins = EmpiricalSemivariogram(np.zeros(0), np.zeros(0), np.zeros(0, dtype=np.int64), 500.0)
    with pytest.raises(ValueError, match="without bins"):
        write_semivariogram_figure([tmp_path / "a.png"], bins, fit_semivariogram(bins))
