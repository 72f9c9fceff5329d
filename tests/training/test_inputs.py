"""Missing accuracies are filled, and units of the hierarchy are numbered by columns and by nested cells."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from swclip.data.manifest import Manifest, read_manifest
from swclip.data.splits import read_splits
from swclip.errors import ConfigError
from swclip.geo.cells import nested_cell_ids
from swclip.losses import HierarchyConfig, TargetConfig
from swclip.training.config import TrainingConfig
from swclip.training.inputs import fill_missing_accuracies, level_ids
from swclip.training.loop import train

SOME = np.array([4.0, np.nan, 10.0, 3.0, np.nan])
POSITIONS = np.array([51.5, -0.1]) + np.random.default_rng(0).uniform(-0.02, 0.02, (40, 2))
FRAME = pd.DataFrame({"city": ["York", None, "Bath", "York"] * 10, "blank": [None] * 40})


def test_median_or_default(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    median = fill_missing_accuracies(SOME, TargetConfig(missing_accuracy="median", default_accuracy_m=99.0))
    assert median.tolist() == [4.0, 4.0, 10.0, 3.0, 4.0]
    default = fill_missing_accuracies(SOME, TargetConfig(default_accuracy_m=7.0))
    assert default.tolist() == [4.0, 7.0, 10.0, 3.0, 7.0]
    assert caplog.messages == [
        "2 of 5 training photographs state no accuracy; 4 m is used, the median of the others",
        "2 of 5 training photographs state no accuracy; 7 m is used, the default",
    ]


def test_a_median_without_accuracies_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    nobody = np.full(3, np.nan)
    filled = fill_missing_accuracies(nobody, TargetConfig(missing_accuracy="median", default_accuracy_m=6.0))
    assert filled.tolist() == [6.0] * 3
    assert "none of the 3 training photographs states an accuracy" in caplog.text


def test_nothing_to_fill(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    complete = np.array([1.0, 2.0])
    assert fill_missing_accuracies(complete, TargetConfig()) is complete
    assert fill_missing_accuracies(SOME, TargetConfig(gps_noise=False)) is SOME
    assert caplog.messages == []


def test_the_loop_fills_them_from_the_training_photographs(
    town: Path, small: Callable[..., TrainingConfig], tmp_path: Path
) -> None:
    """Training photographs of the town state 5 m or nothing: the median is 5 m, and equals stating it."""
    manifest, splits = read_manifest(town), read_splits(town / "splits.parquet")
    frame = manifest.frame.copy()
    stated = frame.index[frame["accuracy_m"].notna()][::3]
    gaps = Manifest(manifest.path, frame.assign(accuracy_m=frame["accuracy_m"].mask(frame.index.isin(stated))))
    settings = {"objective": {"targets": {"missing_accuracy": "median"}}}
    runs = {
        "stated": (manifest, small(steps=4)),
        "median": (gaps, small(steps=4, **settings)),
        "default": (gaps, small(steps=4)),
    }
    weights = {}
    for name, (table, config) in runs.items():
        train(table, splits, config, tmp_path / name)
        weights[name] = (tmp_path / name / "model" / "model.safetensors").read_bytes()
    assert weights["median"] == weights["stated"] != weights["default"]


def test_an_unknown_way_to_fill_is_refused() -> None:
    with pytest.raises(ConfigError, match="missing_accuracy 'mean' is not known"):
        TargetConfig(missing_accuracy="mean")  # type: ignore[arg-type]


def test_columns_come_first_and_cells_from_coarse_to_fine() -> None:
    ids = level_ids(FRAME, POSITIONS, HierarchyConfig(weight=1.0, resolutions=(9, 7)))
    assert ids is not None
    assert ids.dtype == torch.int64
    assert ids[:4, 0].tolist() == [1, -1, 0, 1]
    cells = nested_cell_ids(POSITIONS, (7, 9))
    for level, resolution in ((1, 7), (2, 9)):
        groups = [(ids[:, level] == number).nonzero()[:, 0].tolist() for number in range(int(ids[:, level].max()) + 1)]
        assert all(len({cells[resolution][row] for row in group}) == 1 for group in groups)
        assert len(groups) == len(set(cells[resolution])) > 1


def test_without_weight_there_are_no_levels() -> None:
    assert level_ids(FRAME, POSITIONS, HierarchyConfig(levels=("nowhere",))) is None


@pytest.mark.parametrize("name", ["nowhere", "blank"])
def test_a_missing_or_empty_column_is_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigError, match=f"column '{name}'.*or to \\[\\] for cells only"):
        level_ids(FRAME, POSITIONS, HierarchyConfig(weight=1.0, levels=(name,)))


def test_a_run_logs_the_hierarchy_term(town: Path, small: Callable[..., TrainingConfig], tmp_path: Path) -> None:
    config = small(steps=10, objective={"hierarchy": {"weight": 0.5, "levels": [], "resolutions": [9, 11]}})
    train(read_manifest(town), read_splits(town / "splits.parquet"), config, tmp_path / "run")
    logged = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    values = [line["hierarchy"] for line in logged if "hierarchy" in line]
    assert values
    assert min(values) > 0.0
