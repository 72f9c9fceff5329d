"""What stands in for accuracies that are missing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from swclip.data.manifest import Manifest, read_manifest
from swclip.data.splits import read_splits
from swclip.errors import ConfigError
from swclip.losses import TargetConfig
from swclip.training.config import TrainingConfig
from swclip.training.inputs import fill_missing_accuracies
from swclip.training.loop import train

SOME = np.array([4.0, np.nan, 10.0, 3.0, np.nan])


def test_median_or_default(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    median = fill_missing_accuracies(SOME, TargetConfig(missing_accuracy="median", default_accuracy_m=99.0))
    assert median.tolist() == [4.0, 4.0, 10.0, 3.0, 4.0]
    default = fill_missing_accuracies(SOME, TargetConfig(default_accuracy_m=7.0))
    assert default.tolist() == [4.0, 7.0, 10.0, 3.0, 7.0]
    assert caplog.messages == [
        "2 of 5 training photographs state no accuracy; 4 m is taken, the median of the others",
        "2 of 5 training photographs state no accuracy; 7 m is taken, the default",
    ]


def test_a_median_of_none_is_said(caplog: pytest.LogCaptureFixture) -> None:
    nobody = np.full(3, np.nan)
    filled = fill_missing_accuracies(nobody, TargetConfig(missing_accuracy="median", default_accuracy_m=6.0))
    assert filled.tolist() == [6.0] * 3
    assert "none of the 3 training photographs states an accuracy" in caplog.text


def test_nothing_to_fill(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    known = np.array([1.0, 2.0])
    assert fill_missing_accuracies(known, TargetConfig()) is known
    assert fill_missing_accuracies(SOME, TargetConfig(gps_noise=False)) is SOME
    assert caplog.messages == []


def test_the_loop_fills_them_from_the_training_photographs(
    town: Path, small: Callable[..., TrainingConfig], tmp_path: Path
) -> None:
    """Training photographs of the town state 5 m or nothing: the median is 5 m, and equals stating it."""
    manifest, splits = read_manifest(town), read_splits(town / "splits.parquet")
    frame = manifest.frame.copy()
    some = frame.index[frame["accuracy_m"].notna()][::3]
    gaps = Manifest(manifest.path, frame.assign(accuracy_m=frame["accuracy_m"].mask(frame.index.isin(some))))
    told = {"objective": {"targets": {"missing_accuracy": "median"}}}
    runs = {
        "stated": (manifest, small(steps=4)),
        "median": (gaps, small(steps=4, **told)),
        "default": (gaps, small(steps=4)),
    }
    weights = {}
    for name, (table, config) in runs.items():
        train(table, splits, config, tmp_path / name)
        weights[name] = (tmp_path / name / "model" / "model.safetensors").read_bytes()
    assert weights["median"] == weights["stated"] != weights["default"]


def test_what_cannot_be_asked_for() -> None:
    with pytest.raises(ConfigError, match="missing_accuracy 'mean' is not known"):
        TargetConfig(missing_accuracy="mean")  # type: ignore[arg-type]
