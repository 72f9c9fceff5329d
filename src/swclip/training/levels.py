"""The units of each photograph at each level of the hierarchy, as numbers: cities by a column, cells by position."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float64, Int
from torch import Tensor

from swclip.errors import ConfigError
from swclip.geo.cells import nested_cell_ids
from swclip.losses import HierarchyConfig


def level_ids(
    frame: pd.DataFrame, positions_deg: Float64[np.ndarray, "n 2"], config: HierarchyConfig
) -> Int[Tensor, "n l"] | None:
    """Numbers of the units, computed once for a run: the same in every process and after every resumption.

    Args:
        frame: The training photographs' rows of the manifest.
        positions_deg: (N, 2) their positions, latitude and longitude in degrees.
        config: Which columns and which H3 resolutions.

    Returns:
        (N, L) the columns first, then the cells from coarse to fine, -1 where a column says nothing; None where the
        term has no weight.

    Raises:
        ConfigError: The manifest lacks a column, or the column says nothing at all.
    """
    if config.weight == 0.0:
        return None
    columns: list[list[int]] = []
    for name in config.levels:
        if name not in frame:
            raise ConfigError(
                f"the manifest has no column {name!r} for a level of the hierarchy; set objective.hierarchy.levels to "
                "columns it has, or to [] for cells alone."
            )
        values = [None if pd.isna(value) else str(value) for value in frame[name]]
        if all(value is None for value in values):
            raise ConfigError(
                f"column {name!r} says nothing for a level of the hierarchy; set objective.hierarchy.levels to other "
                "columns, or to [] for cells alone."
            )
        columns.append(_numbered(values))
    if config.resolutions:
        columns += [_numbered(cells) for cells in nested_cell_ids(positions_deg, config.resolutions).values()]
    return torch.tensor(columns, dtype=torch.int64).T.contiguous()


def _numbered(values: Sequence[str | None]) -> list[int]:
    number = {value: at for at, value in enumerate(sorted({value for value in values if value is not None}))}
    return [-1 if value is None else number[value] for value in values]
