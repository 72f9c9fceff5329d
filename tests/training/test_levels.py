"""The units of the photographs: by columns and by cells, nested, the same whatever the order they are drawn in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from swclip.data.manifest import read_manifest
from swclip.data.splits import read_splits
from swclip.errors import ConfigError
from swclip.geo.cells import nested_cell_ids
from swclip.losses import HierarchyConfig
from swclip.training.config import TrainingConfig
from swclip.training.inputs import level_ids
from swclip.training.loop import train

POSITIONS = np.array([51.5, -0.1]) + np.random.default_rng(0).uniform(-0.02, 0.02, (40, 2))
FRAME = pd.DataFrame({"city": ["York", None, "Bath", "York"] * 10, "blank": [None] * 40})


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


def test_no_weight_asks_for_nothing() -> None:
    assert level_ids(FRAME, POSITIONS, HierarchyConfig(levels=("nowhere",))) is None


@pytest.mark.parametrize("name", ["nowhere", "blank"])
def test_a_column_that_says_nothing_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=f"column '{name}'.*or to \\[\\] for cells alone"):
        level_ids(FRAME, POSITIONS, HierarchyConfig(weight=1.0, levels=(name,)))


def test_a_run_logs_the_term(town: Path, small: Callable[..., TrainingConfig], tmp_path: Path) -> None:
    config = small(steps=10, objective={"hierarchy": {"weight": 0.5, "levels": [], "resolutions": [9, 11]}})
    train(read_manifest(town), read_splits(town / "splits.parquet"), config, tmp_path / "run")
    logged = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    values = [line["hierarchy"] for line in logged if "hierarchy" in line]
    assert values
    assert min(values) > 0.0
