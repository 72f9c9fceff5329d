"""Agreement of two systems per query, and the queries whose errors change most between them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd
from jaxtyping import Float64

from swclip.comparison.document import Agreement, QueryChange, QueryChanges

Errors = Float64[np.ndarray, "s q"]

RADII_M = (25, 100)
SMALLEST_M = 10.0
"""Smaller errors count as this: otherwise ratios such as 1 m to 2 m would dominate."""
FACTOR = 2.0
PER_SIDE = 10


def agreement(a_m: Errors, b_m: Errors, radius_m: float) -> Agreement:
    """Shares of the queries that both systems, only one of them, or neither answer within a radius.

    With several seeds the shares are means over all pairs of seeds of the two systems.

    Args:
        a_m: (S, Q) errors of the first system, one row per seed, metres.
        b_m: (T, Q) errors of the second.
        radius_m: The radius, inclusive.

    Example:
        >>> agreement(np.array([[5.0, 5.0, 50.0, 500.0]]), np.array([[5.0, 500.0, 500.0, 500.0]]), 100.0)
        Agreement(both=0.25, only_first=0.5, only_second=0.0, neither=0.25)
    """
    a, b = ((errors <= radius_m).mean(axis=0) for errors in (a_m, b_m))
    return Agreement(
        both=float(np.mean(a * b)),
        only_first=float(np.mean(a * (1.0 - b))),
        only_second=float(np.mean((1.0 - a) * b)),
        neither=float(np.mean((1.0 - a) * (1.0 - b))),
    )


def log_ratio(a_m: Float64[np.ndarray, "*n"], b_m: Float64[np.ndarray, "*n"]) -> Float64[np.ndarray, "*n"]:
    """ln(max(a, 10 m) / max(b, 10 m)): logarithm of the ratio of errors, negative where a has the smaller error.

    Example:
        >>> log_ratio(np.array([100.0, 1.0]), np.array([10.0, 9.0])).round(3).tolist()
        [2.303, 0.0]
    """
    ratio: Float64[np.ndarray, "*n"] = np.log(np.maximum(a_m, SMALLEST_M)) - np.log(np.maximum(b_m, SMALLEST_M))
    return ratio


def query_changes(frame: pd.DataFrame, errors_m: Mapping[str, Errors], a: str, b: str) -> QueryChanges:
    """Find the queries whose errors differ most between two systems.

    Queries are ranked by the ratio of the two errors, where errors below 10 m count as 10 m; with several seeds the
    error of a query is the median over seeds. The shares are means over all pairs of seeds.

    Args:
        frame: Q rows: image_id, region.
        errors_m: Errors of each system, (S, Q), metres.
        a: The system.
        b: The system it is compared with.

    Returns:
        Shares of queries with much smaller and much larger errors, and the ten largest gains and losses.
    """
    nearer, farther = _shares(errors_m[a], errors_m[b])
    errors, against = median_over_seeds_m(errors_m[a]), median_over_seeds_m(errors_m[b])
    ratio = log_ratio(errors, against)

    def rows(score: Float64[np.ndarray, " q"]) -> list[QueryChange]:
        order = [at for at in np.argsort(-score, kind="stable")[:PER_SIDE].tolist() if score[at] > 0.0]
        return [
            QueryChange(
                image_id=str(frame["image_id"].iloc[at]),
                region=str(frame["region"].iloc[at]),
                error_m=float(errors[at]),
                against_m=float(against[at]),
                change_m=float(errors[at] - against[at]),
                times=float(np.exp(score[at])),
            )
            for at in order
        ]

    return QueryChanges(nearer=nearer, farther=farther, gains=rows(-ratio), losses=rows(ratio))


def changes_between_seeds(errors_m: Errors) -> float | None:
    """Share of the queries whose error is at most half that of another seed of the same system.

    It measures the variation from training alone. By symmetry it is also the share with at least twice the error.

    Args:
        errors_m: (S, Q) errors in metres.

    Returns:
        The mean over all ordered pairs of different seeds; None with one seed.
    """
    pairs = [_shares(errors_m[[s]], errors_m[[t]]) for s, t in combinations(range(len(errors_m)), 2)]
    return float(np.mean(pairs)) if pairs else None


def median_over_seeds_m(errors_m: Errors) -> Float64[np.ndarray, " q"]:
    """Error of each query over several seeds: the median, which is robust to a single outlier."""
    median: Float64[np.ndarray, " q"] = np.median(errors_m, axis=0)
    return median


def query_table(
    frame: pd.DataFrame, errors_m: Mapping[str, Errors], seeds: Mapping[str, list[str]], baseline: str
) -> pd.DataFrame:
    """Tabulate the errors of all systems per query, largest difference from the baseline first.

    Args:
        frame: Q rows of predictions.
        errors_m: Errors of each system, (S, Q), metres.
        seeds: Names of the seeds of each system.
        baseline: The system that changes are computed from.

    Returns:
        image_id, lat_deg, lon_deg, city, region, block, floor_m; NAME_error_m, and for each seed of several
        NAME_seed_SEED_error_m; and for all but the baseline NAME_change_m (its error minus that of the baseline).
    """
    table = frame[["image_id", "lat_deg", "lon_deg", "city", "region", "block", "floor_m"]].copy()
    base = median_over_seeds_m(errors_m[baseline])
    most = np.zeros(len(frame))
    for name, errors in errors_m.items():
        error = median_over_seeds_m(errors)
        table[f"{name}_error_m"] = error
        if len(errors) > 1:
            for seed, run in zip(seeds[name], errors, strict=True):
                table[f"{name}_seed_{seed}_error_m"] = run
        if name != baseline:
            table[f"{name}_change_m"] = error - base
            most = np.maximum(most, np.abs(log_ratio(error, base)))
    return table.iloc[np.argsort(-most, kind="stable")].reset_index(drop=True)


def _shares(a_m: Errors, b_m: Errors) -> tuple[float, float]:
    """Shares of queries with at most 1 / FACTOR, and at least FACTOR, times the error; means over pairs of seeds."""
    ratio = log_ratio(a_m[:, None, :], b_m[None, :, :])
    # A ratio of exactly two counts, regardless of rounding.
    edge = np.log(FACTOR) - 1e-12
    return float(np.mean(ratio <= -edge)), float(np.mean(ratio >= edge))
