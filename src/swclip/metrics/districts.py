"""How regions fare beside one another, and the paired intervals of what one system gives them against another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64
from numpy.typing import ArrayLike

from swclip.errors import ConfigError, InputError
from swclip.geo.cells import cell_ids
from swclip.metrics.bootstrap import LEVEL, Interval

POOLED = ("median", "mean", "worst_region_median", "region_gap")


@dataclass(frozen=True)
class DistrictResamples:
    """The regional figures of one system, and what they come to in each resample.

    Kept apart from the intervals so that a system compared with several others is resampled once.

    Attributes:
        keys: Names of the F figures, as `district_figures` gives them.
        values: (F,) the figures, metres.
        resampled: (R, F) the figures in each resample; NaN where it holds no query of the region.
    """

    keys: Sequence[str]
    values: Float64[np.ndarray, " f"]
    resampled: Float64[np.ndarray, "r f"]

    def less(self, other: DistrictResamples, level: float = LEVEL) -> dict[str, Interval]:
        """Intervals of the difference, this less the other; both must be of the same regions and resamples.

        A resample that misses a region does not count for that region; the ends of an interval that no resample
        speaks for are NaN.
        """
        drawn = self.resampled - other.resampled
        ends = np.full((2, len(self.keys)), np.nan)
        known = ~np.isnan(drawn).all(axis=0)
        ends[:, known] = np.nanquantile(drawn[:, known], [(1.0 - level) / 2.0, (1.0 + level) / 2.0], axis=0)
        figures = zip(self.keys, (self.values - other.values).tolist(), *ends.tolist(), strict=True)
        return {key: Interval(value, low, high) for key, value, low, high in figures}


def district_figures(errors_m: ArrayLike, regions: Sequence[str]) -> dict[str, float]:
    """Errors pooled and by region.

    Args:
        errors_m: (Q,) errors in metres of one run, or (S, Q) of several seeds; each figure is the mean over the seeds.
        regions: Region of each query.

    Returns:
        median and mean over all queries; worst_region_median, the largest of the regions' medians; region_gap, how far
        that is above the smallest; and `region:NAME`, each region's median. All in metres.

    Raises:
        InputError: There are no queries, or not as many regions.

    Example:
        >>> figures = district_figures([10.0, 20.0, 300.0], ["York", "York", "Leeds"])
        >>> figures["worst_region_median"], figures["region_gap"], figures["region:York"]
        (300.0, 285.0, 15.0)
    """
    drawn = resample_districts(errors_m, regions, [])
    return dict(zip(drawn.keys, drawn.values.tolist(), strict=True))


def resample_districts(
    errors_m: ArrayLike, regions: Sequence[str], resampled: Sequence[Int64[np.ndarray, " m"]]
) -> DistrictResamples:
    """`district_figures` of the errors, and of the errors in each resample.

    Args:
        errors_m: (Q,) errors in metres of one run, or (S, Q) of several seeds.
        regions: Region of each query.
        resampled: What `resample_blocks` drew.

    Raises:
        InputError: There are no queries, or not as many regions.
    """
    runs, names, label = _checked(errors_m, regions)
    sorters = [_Sorted.of(run, label, len(names)) for run in runs]
    times = [np.bincount(rows, minlength=runs.shape[1]) for rows in resampled]
    values = np.mean([one.figures(np.ones(runs.shape[1], dtype=np.int64)) for one in sorters], axis=0)
    drawn = [np.mean([one.figures(count) for one in sorters], axis=0) for count in times]
    keys = [*POOLED, *(f"region:{name}" for name in names)]
    return DistrictResamples(keys, values, np.reshape(drawn, (len(times), len(keys))))


def district_differences(
    errors_a_m: ArrayLike,
    errors_b_m: ArrayLike,
    regions: Sequence[str],
    resampled: Sequence[Int64[np.ndarray, " m"]],
    level: float = LEVEL,
) -> Mapping[str, Interval]:
    """Intervals of the differences, a less b, of `district_figures` on the same queries.

    Args:
        errors_a_m: (Q,) or (S, Q) errors of the first system, metres.
        errors_b_m: (Q,) or (R, Q) errors of the second.
        regions: Region of each query.
        resampled: What `resample_blocks` drew. A resample that misses a region does not count for that region.
        level: Probability that the interval is to hold.

    Returns:
        Name of the figure, its difference and interval.

    Raises:
        InputError: The systems were not measured on the same number of queries.
    """
    first, second = (resample_districts(errors, regions, resampled) for errors in (errors_a_m, errors_b_m))
    return first.less(second, level)


def _checked(
    errors_m: ArrayLike, regions: Sequence[str]
) -> tuple[Float64[np.ndarray, "s q"], list[str], Int64[np.ndarray, " q"]]:
    runs = np.atleast_2d(np.asarray(errors_m, dtype=np.float64))
    if runs.shape[1] == 0 or runs.shape[1] != len(regions):
        raise InputError(f"{runs.shape[1]} errors need as many regions, at least one; there are {len(regions)}.")
    names, label = np.unique(np.asarray([str(region) for region in regions]), return_inverse=True)
    return runs, names.tolist(), label


@dataclass(frozen=True)
class _Sorted:
    """Errors of one run sorted once, so that the medians of a resample need only counts.

    Attributes:
        errors_m: (Q,) as given.
        pooled: (Q,) rows by error.
        grouped: (Q,) rows by region, then by error.
        ends: (G,) where each region ends in `grouped`.
    """

    errors_m: Float64[np.ndarray, " q"]
    pooled: Int64[np.ndarray, " q"]
    grouped: Int64[np.ndarray, " q"]
    ends: Int64[np.ndarray, " g"]

    @classmethod
    def of(cls, errors_m: Float64[np.ndarray, " q"], label: Int64[np.ndarray, " q"], n_regions: int) -> _Sorted:
        ends = np.cumsum(np.bincount(label, minlength=n_regions))
        return cls(errors_m, np.argsort(errors_m, kind="stable"), np.lexsort((errors_m, label)), ends)

    def figures(self, times: Int64[np.ndarray, " q"]) -> Float64[np.ndarray, " f"]:
        """The figures where each query occurs `times` times."""
        everything = np.array([self.errors_m.size])
        medians = self._medians(self.grouped, self.ends, times)
        median = self._medians(self.pooled, everything, times)[0]
        mean = float(times @ self.errors_m) / float(times.sum())
        worst = float(np.nanmax(medians))
        return np.array([median, mean, worst, worst - float(np.nanmin(medians)), *medians.tolist()])

    def _medians(
        self, order: Int64[np.ndarray, " q"], ends: Int64[np.ndarray, " g"], times: Int64[np.ndarray, " q"]
    ) -> Float64[np.ndarray, " g"]:
        """Medians of stretches of a sorted order, each row counted `times` times; NaN for a stretch without a row."""
        upto = np.cumsum(times[order])
        last = upto[ends - 1]
        before = np.concatenate([[0], last[:-1]])
        n = last - before
        # The row whose count takes the running total past the middle one, or past both of the middle two.
        middle = [np.searchsorted(upto, before + half, side="right") for half in ((n - 1) // 2, n // 2)]
        low, high = (self.errors_m[order[np.minimum(at, order.size - 1)]] for at in middle)
        return np.where(n > 0, 0.5 * (low + high), np.nan)


UNKNOWN = "unknown"

# About 130 m across: a stretch of street.
_BLOCK_RESOLUTION = 10


def district_labels(cities: Sequence[str | None], positions_deg: ArrayLike, regions: str = "city") -> list[str]:
    """Region of each query.

    Args:
        cities: City of each of Q queries, None where unknown.
        positions_deg: (Q, 2) latitude, longitude, degrees.
        regions: "city", or "cells:RES" for the H3 cells of a resolution.

    Returns:
        Q names. With "city": the city, "unknown" where it is not known, or "all" where none is.

    Raises:
        ConfigError: `regions` is neither.

    Example:
        >>> district_labels(["York", None], [[53.96, -1.08], [53.8, -1.55]])
        ['York', 'unknown']
    """
    if regions == "city":
        if all(city is None for city in cities):
            return ["all"] * len(cities)
        return [UNKNOWN if city is None else city for city in cities]
    word, _, resolution = regions.partition(":")
    if word != "cells" or not resolution.isdigit() or int(resolution) > 15:
        raise ConfigError(f"regions {regions!r} are not known; write city, or cells:RES with RES from 0 to 15.")
    return cell_ids(positions_deg, int(resolution))


def resampling_blocks(queries: pd.DataFrame, positions_deg: ArrayLike) -> tuple[list[str], str]:
    """Block of each query for the bootstrap: the first of these that splits the queries at all.

    block_id of the split; place_id of the manifest; H3 cells about 130 m across; each query by itself.

    Args:
        queries: Q rows, with the columns block_id and place_id where there are such.
        positions_deg: (Q, 2) latitude, longitude, degrees.

    Returns:
        Q block names, and what the blocks are.
    """
    for column in ("block_id", "place_id"):
        if column in queries and queries[column].notna().all() and queries[column].nunique() > 1:
            return queries[column].astype(str).tolist(), column
    cells = cell_ids(positions_deg, _BLOCK_RESOLUTION)
    if len(set(cells)) > 1:
        return cells, f"H3 cell of resolution {_BLOCK_RESOLUTION}"
    return [str(row) for row in np.arange(len(queries))], "photograph"


def exchangeable_units(queries: pd.DataFrame, positions_deg: ArrayLike, protocol: str | None) -> list[str]:
    """What a split dealt to training, validation and queries as one: the unit that conformal regions count.

    known-places deals places: the next query is another place of the same streets. The other protocols deal blocks: the
    next query is on another street, and photographs of one street together say as much as one.

    Args:
        queries: Q rows, with the columns block_id and place_id where there are such.
        positions_deg: (Q, 2) latitude, longitude, degrees.
        protocol: The splits' protocol.

    Returns:
        Q names: with known-places the place_id, or where one is not known the position to about a metre; with others
        the blocks of `resampling_blocks`.
    """
    if protocol != "known-places":
        return resampling_blocks(queries, positions_deg)[0]
    if "place_id" in queries and queries["place_id"].notna().all():
        return queries["place_id"].astype(str).tolist()
    positions = np.asarray(positions_deg, dtype=np.float64).reshape(-1, 2)
    return [f"{lat:.5f} {lon:.5f}" for lat, lon in positions.tolist()]
