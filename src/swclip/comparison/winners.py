"""Who is ahead in each region: medians by region, the two best systems, and whether the gap between them is shown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from swclip.comparison.claims import shown
from swclip.metrics.bootstrap import LEVEL, Interval
from swclip.metrics.districts import RegionalDraws, draw_regional

MIN_BLOCKS = 8
"""With fewer blocks a region has no interval: one block resampled is the same block, and would seem to be sure."""


def region_winners(
    errors_m: Mapping[str, Float64[np.ndarray, "s q"]],
    regions: Sequence[str],
    blocks: Sequence[str],
    resampled: Sequence[Int64[np.ndarray, " m"]],
    baseline: str,
    level: float = LEVEL,
) -> dict[str, Any]:
    """The systems of a comparison region by region, by their median error.

    The median of a system with several seeds is the mean of its seeds' medians. First and second of a region are picked
    from the same queries that their difference is taken on, so the gap between them is if anything too large; with
    many regions some are shown by chance.

    Args:
        errors_m: System, (S, Q) errors in metres, one row a seed.
        regions: Region of each query.
        blocks: Block of each query.
        resampled: What `resample_blocks` drew.
        baseline: The system that `difference` is from.
        level: Probability that an interval is to hold.

    Returns:
        min_blocks; regions: by name n (queries), blocks, median (by system, metres), first and second (systems; None
        where there is one system, or the two best medians are equal), gap (first less second: value, low, high) and
        difference (by system, from the baseline); low and high are None with fewer than `MIN_BLOCKS` blocks. wins: by
        system regions (where it is first) and shown (of these, where the gap leaves 0 out).

    Example:
        >>> from swclip.metrics.bootstrap import resample_blocks
        >>> blocks = [str(at) for at in range(20)]
        >>> near, far = np.full((1, 20), 5.0), np.full((1, 20), 9.0)
        >>> resampled = resample_blocks(blocks, 50, np.random.default_rng(0))
        >>> found = region_winners({"a": near, "b": far}, ["York"] * 20, blocks, resampled, "b")
        >>> found["regions"]["York"]["first"], found["regions"]["York"]["gap"]["high"], found["wins"]["a"]
        ('a', -4.0, {'regions': 1, 'shown': 1})
    """
    drawn = {name: draw_regional(errors, regions, resampled) for name, errors in errors_m.items()}
    names = [key.removeprefix("region:") for key in drawn[baseline].keys if key.startswith("region:")]
    inside: dict[str, list[str]] = {name: [] for name in names}
    for region, block in zip(regions, blocks, strict=True):
        inside[str(region)].append(str(block))
    pairs = _Pairs(drawn, level)
    table: dict[str, Any] = {}
    wins = {system: {"regions": 0, "shown": 0} for system in drawn}
    for name in names:
        key, n_blocks = f"region:{name}", len(set(inside[name]))
        median = {system: float(own.values[list(own.keys).index(key)]) for system, own in drawn.items()}
        ranked = sorted(median, key=lambda system: median[system])
        own: dict[str, Any] = {"n": len(inside[name]), "blocks": n_blocks, "median": median}
        first = second = gap = None
        if len(ranked) > 1 and median[ranked[0]] < median[ranked[1]]:
            first, second = ranked[:2]
            gap = _stated(pairs.less(first, second)[key], n_blocks)
            wins[first]["regions"] += 1
            wins[first]["shown"] += is_shown(gap)
        difference = {
            system: _stated(pairs.less(system, baseline)[key], n_blocks) for system in drawn if system != baseline
        }
        table[name] = {**own, "first": first, "second": second, "gap": gap, "difference": difference}
    return {"min_blocks": MIN_BLOCKS, "regions": table, "wins": wins}


def is_shown(difference: Mapping[str, Any]) -> bool:
    """Whether a region's difference has an interval, and the interval leaves 0 out."""
    return difference["low"] is not None and shown(difference)


class _Pairs:
    """Differences of pairs of systems over all regions at once, each taken once."""

    def __init__(self, drawn: Mapping[str, RegionalDraws], level: float) -> None:
        self._drawn, self._level = drawn, level
        self._known: dict[tuple[str, str], dict[str, Interval]] = {}

    def less(self, a: str, b: str) -> dict[str, Interval]:
        if (a, b) not in self._known:
            self._known[a, b] = self._drawn[a].less(self._drawn[b], self._level)
        return self._known[a, b]


def _stated(interval: Interval, n_blocks: int) -> dict[str, float | None]:
    known = n_blocks >= MIN_BLOCKS and math.isfinite(interval.low)
    return {
        "value": interval.value,
        "low": interval.low if known else None,
        "high": interval.high if known else None,
    }
