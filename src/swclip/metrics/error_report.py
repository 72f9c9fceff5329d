"""What a list of errors comes to: the part of a report that needs nothing but errors, regions and blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from swclip.metrics.bootstrap import LEVEL, RESAMPLES, Interval, bootstrap_intervals, resample_blocks
from swclip.metrics.districts import regional_gap
from swclip.metrics.localization_error import accuracy_within, by_region, error_statistics
from swclip.metrics.ndcg import geoscore


def error_report(
    error_m: ArrayLike,
    regions: Sequence[str],
    blocks: Sequence[str],
    block_kind: str,
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Statistics, accuracies, GeoScore and their intervals, on the whole and by region.

    Args:
        error_m: (Q,) localization errors, metres.
        regions: Region of each query.
        blocks: Block of each query.
        block_kind: What the blocks are, for the record.
        generator: Of the bootstrap.
        resamples: How many.

    Returns:
        The keys error_m, accuracy_within_m, geoscore, by_region, regional and intervals of a report.
    """
    table = by_region(error_m, regions)
    resampled = resample_blocks(blocks, resamples, generator)
    return {
        **error_figures(error_m),
        "geoscore": geoscore(error_m),
        "by_region": table,
        "regional": regional_gap(table),
        "intervals": {
            **nested_intervals(bootstrap_intervals(error_m, resampled)),
            "level": LEVEL,
            "resamples": resamples,
            "block": block_kind,
            "blocks": len(set(blocks)),
        },
    }


def error_figures(error_m: ArrayLike) -> dict[str, Any]:
    """Where the errors lie and the shares within each radius: the keys error_m and accuracy_within_m."""
    return {"error_m": error_statistics(error_m), "accuracy_within_m": accuracy_within(error_m)}


def nested_intervals(intervals: Mapping[str, Interval]) -> dict[str, dict[str, list[float]]]:
    """Intervals laid out as the figures they belong to: error_m.median, accuracy_within_m.25, each [low, high]."""
    nested: dict[str, dict[str, list[float]]] = {"error_m": {}, "accuracy_within_m": {}}
    for name, interval in intervals.items():
        group, key = ("accuracy_within_m", name[7:]) if name.startswith("within_") else ("error_m", name)
        nested[group][key] = [interval.low, interval.high]
    return nested
