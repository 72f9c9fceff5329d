"""Districts, blocks and exchangeable units of queries; figures by district and their paired intervals."""

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
    """The figures by district of one system, on all queries and in each resample.

    Intervals are computed separately, so that a system that is compared with several others is resampled once.

    Attributes:
        keys: Names of the F figures, see `district_figures`.
        values: (F,) figures of all queries, metres.
        resampled: (R, F) figures of each resample; NaN where it contains no query of the district.
    """

    keys: Sequence[str]
    values: Float64[np.ndarray, " f"]
    resampled: Float64[np.ndarray, "r f"]

    def minus(self, other: DistrictResamples, level: float = LEVEL) -> dict[str, Interval]:
        """Intervals of the difference, this minus the other; both must be of the same districts and resamples.

        A resample without queries of a district is ignored for that district; where all resamples are ignored, the ends
        of the interval are NaN.
        """
        differences = self.resampled - other.resampled
        ends = np.full((2, len(self.keys)), np.nan)
        valid = ~np.isnan(differences).all(axis=0)
        ends[:, valid] = np.nanquantile(differences[:, valid], [(1.0 - level) / 2.0, (1.0 + level) / 2.0], axis=0)
        figures = zip(self.keys, (self.values - other.values).tolist(), *ends.tolist(), strict=True)
        return {key: Interval(value, low, high) for key, value, low, high in figures}


def district_figures(errors_m: ArrayLike, districts: Sequence[str]) -> dict[str, float]:
    """Errors of all queries and by district.

    Args:
        errors_m: (Q,) errors in metres of one run, or (S, Q) of several seeds; each figure is the mean over the seeds.
        districts: District of each query.

    Returns:
        median and mean over all queries; worst_region_median, the largest of the districts' medians; region_gap, its
        difference to the smallest; and `region:NAME`, each district's median. All in metres.

    Raises:
        InputError: There are no queries, or the number of districts differs.

    Example:
        >>> figures = district_figures([10.0, 20.0, 300.0], ["York", "York", "Leeds"])
        >>> figures["worst_region_median"], figures["region_gap"], figures["region:York"]
        (300.0, 285.0, 15.0)
    """
    figures = resample_districts(errors_m, districts, [])
    return dict(zip(figures.keys, figures.values.tolist(), strict=True))


def resample_districts(
    errors_m: ArrayLike, districts: Sequence[str], resampled: Sequence[Int64[np.ndarray, " m"]]
) -> DistrictResamples:
    """`district_figures` of all queries and of each resample.

    Args:
        errors_m: (Q,) errors in metres of one run, or (S, Q) of several seeds.
        districts: District of each query.
        resampled: Resamples from `resample_blocks`.

    Raises:
        InputError: There are no queries, or the number of districts differs.
    """
    runs, names, label = _checked(errors_m, districts)
    sorted_runs = [_SortedErrors.of(run, label, len(names)) for run in runs]
    times = [np.bincount(rows, minlength=runs.shape[1]) for rows in resampled]
    values = np.mean([run.figures(np.ones(runs.shape[1], dtype=np.int64)) for run in sorted_runs], axis=0)
    samples = [np.mean([run.figures(count) for run in sorted_runs], axis=0) for count in times]
    keys = [*POOLED, *(f"region:{name}" for name in names)]
    return DistrictResamples(keys, values, np.reshape(samples, (len(times), len(keys))))


def district_differences(
    errors_a_m: ArrayLike,
    errors_b_m: ArrayLike,
    districts: Sequence[str],
    resampled: Sequence[Int64[np.ndarray, " m"]],
    level: float = LEVEL,
) -> Mapping[str, Interval]:
    """Intervals of the differences, a minus b, of `district_figures` on the same queries.

    Args:
        errors_a_m: (Q,) or (S, Q) errors of the first system, metres.
        errors_b_m: (Q,) or (R, Q) errors of the second.
        districts: District of each query.
        resampled: Resamples from `resample_blocks`. One without queries of a district is ignored for that district.
        level: Nominal coverage of the interval.

    Returns:
        Difference and interval by name of the figure.

    Raises:
        InputError: The systems were not measured on the same number of queries.
    """
    first, second = (resample_districts(errors, districts, resampled) for errors in (errors_a_m, errors_b_m))
    return first.minus(second, level)


def _checked(
    errors_m: ArrayLike, districts: Sequence[str]
) -> tuple[Float64[np.ndarray, "s q"], list[str], Int64[np.ndarray, " q"]]:
    runs = np.atleast_2d(np.asarray(errors_m, dtype=np.float64))
    if runs.shape[1] == 0 or runs.shape[1] != len(districts):
        raise InputError(f"{runs.shape[1]} errors need as many districts, at least one; there are {len(districts)}.")
    names, label = np.unique(np.asarray([str(district) for district in districts]), return_inverse=True)
    return runs, names.tolist(), label


@dataclass(frozen=True)
class _SortedErrors:
    """Errors of one run, sorted once, so that the medians of a resample need only counts.

    Attributes:
        errors_m: (Q,) errors in metres.
        pooled: (Q,) rows ordered by error.
        grouped: (Q,) rows ordered by district, then by error.
        ends: (G,) end of each district in `grouped`.
    """

    errors_m: Float64[np.ndarray, " q"]
    pooled: Int64[np.ndarray, " q"]
    grouped: Int64[np.ndarray, " q"]
    ends: Int64[np.ndarray, " g"]

    @classmethod
    def of(cls, errors_m: Float64[np.ndarray, " q"], label: Int64[np.ndarray, " q"], n_districts: int) -> _SortedErrors:
        ends = np.cumsum(np.bincount(label, minlength=n_districts))
        return cls(errors_m, np.argsort(errors_m, kind="stable"), np.lexsort((errors_m, label)), ends)

    def figures(self, times: Int64[np.ndarray, " q"]) -> Float64[np.ndarray, " f"]:
        """The figures where each query occurs `times` times."""
        whole = np.array([self.errors_m.size])
        medians = self._medians(self.grouped, self.ends, times)
        median = self._medians(self.pooled, whole, times)[0]
        mean = float(times @ self.errors_m) / float(times.sum())
        worst = float(np.nanmax(medians))
        return np.array([median, mean, worst, worst - float(np.nanmin(medians)), *medians.tolist()])

    def _medians(
        self, order: Int64[np.ndarray, " q"], ends: Int64[np.ndarray, " g"], times: Int64[np.ndarray, " q"]
    ) -> Float64[np.ndarray, " g"]:
        """Medians of segments of a sorted order, each row counted `times` times; NaN for a segment without rows."""
        upto = np.cumsum(times[order])
        last = upto[ends - 1]
        before = np.concatenate([[0], last[:-1]])
        n = last - before
        # The rows at which the running count exceeds the one or two middle ranks.
        middle = [np.searchsorted(upto, before + half, side="right") for half in ((n - 1) // 2, n // 2)]
        low, high = (self.errors_m[order[np.minimum(at, order.size - 1)]] for at in middle)
        return np.where(n > 0, 0.5 * (low + high), np.nan)


UNKNOWN = "unknown"

# About 130 m across.
_BLOCK_RESOLUTION = 10


def district_labels(cities: Sequence[str | None], positions_deg: ArrayLike, districts: str = "city") -> list[str]:
    """District of each query.

    Args:
        cities: City of each of Q queries, None where unknown.
        positions_deg: (Q, 2) latitude, longitude, degrees.
        districts: "city", or "cells:RES" for the H3 cells of a resolution.

    Returns:
        Q names. With "city": the city, "unknown" where it is unknown, or "all" where all are unknown.

    Raises:
        ConfigError: `districts` is neither.

    Example:
        >>> district_labels(["York", None], [[53.96, -1.08], [53.8, -1.55]])
        ['York', 'unknown']
    """
    if districts == "city":
        if all(city is None for city in cities):
            return ["all"] * len(cities)
        return [UNKNOWN if city is None else city for city in cities]
    kind, _, resolution = districts.partition(":")
    if kind != "cells" or not resolution.isdigit() or int(resolution) > 15:
        raise ConfigError(f"districts {districts!r} are not known; write city, or cells:RES with RES from 0 to 15.")
    return cell_ids(positions_deg, int(resolution))


def resampling_blocks(queries: pd.DataFrame, positions_deg: ArrayLike) -> tuple[list[str], str]:
    """Block of each query for the bootstrap: the first of these that gives more than one block.

    block_id of the split; place_id of the manifest; H3 cells about 130 m across; one block per query.

    Args:
        queries: Q rows, with the columns block_id and place_id where available.
        positions_deg: (Q, 2) latitude, longitude, degrees.

    Returns:
        Q block names, and the kind of blocks.
    """
    for column in ("block_id", "place_id"):
        if column in queries and queries[column].notna().all() and queries[column].nunique() > 1:
            return queries[column].astype(str).tolist(), column
    cells = cell_ids(positions_deg, _BLOCK_RESOLUTION)
    if len(set(cells)) > 1:
        return cells, f"H3 cell of resolution {_BLOCK_RESOLUTION}"
    return [str(row) for row in np.arange(len(queries))], "photograph"


def exchangeable_units(queries: pd.DataFrame, positions_deg: ArrayLike, protocol: str | None) -> list[str]:
    """The exchangeable units of a split, which conformal calibration counts: places or blocks.

    known-places assigns places to training, validation and queries: a new query is another place of the same streets.
    The other protocols assign blocks: a new query is on another street, and the photographs of one street count as one.

    Args:
        queries: Q rows, with the columns block_id and place_id where available.
        positions_deg: (Q, 2) latitude, longitude, degrees.
        protocol: The splits' protocol.

    Returns:
        Q names: with known-places the place_id, or where one is unknown the position to about a metre; with other
        protocols the blocks of `resampling_blocks`.
    """
    if protocol != "known-places":
        return resampling_blocks(queries, positions_deg)[0]
    if "place_id" in queries and queries["place_id"].notna().all():
        return queries["place_id"].astype(str).tolist()
    positions = np.asarray(positions_deg, dtype=np.float64).reshape(-1, 2)
    return [f"{lat:.5f} {lon:.5f}" for lat, lon in positions.tolist()]
