"""Query by query: how far two systems agree, and the queries that move most from one to the other."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64

Errors = Float64[np.ndarray, "s q"]

RADII_M = (25, 100)
SMALLEST_M = 10.0
"""Below this an error is not worth telling from another: the ratio of 1 m to 2 m would win every contest."""
FACTOR = 2.0
PER_SIDE = 10


def agreement(a_m: Errors, b_m: Errors, radius_m: float) -> dict[str, float]:
    """Shares of the queries that both systems answer within a radius, only one of them, or neither.

    With several seeds the shares are means over all pairs of a seed of the one and a seed of the other.

    Args:
        a_m: (S, Q) errors of the first system, one row a seed, metres.
        b_m: (T, Q) errors of the second.
        radius_m: The radius, edge included.

    Returns:
        both, only_first, only_second, neither; they sum to 1.

    Example:
        >>> agreement(np.array([[5.0, 5.0, 50.0, 500.0]]), np.array([[5.0, 500.0, 500.0, 500.0]]), 100.0)
        {'both': 0.25, 'only_first': 0.5, 'only_second': 0.0, 'neither': 0.25}
    """
    a, b = ((errors <= radius_m).mean(axis=0) for errors in (a_m, b_m))
    return {
        "both": float(np.mean(a * b)),
        "only_first": float(np.mean(a * (1.0 - b))),
        "only_second": float(np.mean((1.0 - a) * b)),
        "neither": float(np.mean((1.0 - a) * (1.0 - b))),
    }


def log_ratio(a_m: Float64[np.ndarray, "*n"], b_m: Float64[np.ndarray, "*n"]) -> Float64[np.ndarray, "*n"]:
    """ln(max(a, 10 m) / max(b, 10 m)): how many times as far off a is as b; below 0 where a is nearer.

    Example:
        >>> log_ratio(np.array([100.0, 1.0]), np.array([10.0, 9.0])).round(3).tolist()
        [2.303, 0.0]
    """
    ratio: Float64[np.ndarray, "*n"] = np.log(np.maximum(a_m, SMALLEST_M)) - np.log(np.maximum(b_m, SMALLEST_M))
    return ratio


def moved(frame: pd.DataFrame, errors_m: Mapping[str, Errors], a: str, b: str) -> dict[str, Any]:
    """The queries that a system answers most better, and most worse, than another.

    Sought by the ratio of the two errors, errors below 10 m counted as 10 m; with several seeds a query's error is the
    median over them. The shares are means over all pairs of seeds.

    Args:
        frame: Q rows: image_id, region.
        errors_m: System, (S, Q) errors in metres.
        a: The system.
        b: The one it is held against.

    Returns:
        nearer and farther (shares of queries whose error is at most a half, or at least twice, that of the other);
        gains and losses, at most ten rows each, the largest first: image_id, region, error_m, against_m, change_m
        (error_m less against_m), times (how many times nearer, or farther).
    """
    nearer, farther = _shares(errors_m[a], errors_m[b])
    own, against = typical_m(errors_m[a]), typical_m(errors_m[b])
    ratio = log_ratio(own, against)

    def rows(signed: Float64[np.ndarray, " q"]) -> list[dict[str, Any]]:
        order = [at for at in np.argsort(-signed, kind="stable")[:PER_SIDE].tolist() if signed[at] > 0.0]
        return [
            {
                "image_id": str(frame["image_id"].iloc[at]),
                "region": str(frame["region"].iloc[at]),
                "error_m": float(own[at]),
                "against_m": float(against[at]),
                "change_m": float(own[at] - against[at]),
                "times": float(np.exp(signed[at])),
            }
            for at in order
        ]

    return {"nearer": nearer, "farther": farther, "gains": rows(-ratio), "losses": rows(ratio)}


def moved_between_seeds(errors_m: Errors) -> float | None:
    """Share of the queries that come out nearer by as much from one seed of a system to another.

    It is what training again does by itself, and by symmetry the share that come out farther too.

    Args:
        errors_m: (S, Q) errors in metres.

    Returns:
        The mean over all ordered pairs of different seeds; None with one seed.
    """
    pairs = [_shares(errors_m[[s]], errors_m[[t]]) for s, t in combinations(range(len(errors_m)), 2)]
    return float(np.mean(pairs)) if pairs else None


def typical_m(errors_m: Errors) -> Float64[np.ndarray, " q"]:
    """A query's error over several seeds: the median, which one seed that lost it does not move."""
    typical: Float64[np.ndarray, " q"] = np.median(errors_m, axis=0)
    return typical


def query_table(
    frame: pd.DataFrame, errors_m: Mapping[str, Errors], seeds: Mapping[str, list[str]], baseline: str
) -> pd.DataFrame:
    """Every query with every system's error, those on which a system and the baseline differ most first.

    Args:
        frame: Q rows of predictions.
        errors_m: System, (S, Q) errors in metres.
        seeds: System, names of its seeds.
        baseline: The system that changes are from.

    Returns:
        image_id, lat_deg, lon_deg, city, region, block, floor_m; NAME_error_m, and for each seed of several
        NAME_seed_SEED_error_m; and for all but the baseline NAME_change_m (its error less the baseline's).
    """
    table = frame[["image_id", "lat_deg", "lon_deg", "city", "region", "block", "floor_m"]].copy()
    base = typical_m(errors_m[baseline])
    most = np.zeros(len(frame))
    for name, errors in errors_m.items():
        own = typical_m(errors)
        table[f"{name}_error_m"] = own
        if len(errors) > 1:
            for seed, run in zip(seeds[name], errors, strict=True):
                table[f"{name}_seed_{seed}_error_m"] = run
        if name != baseline:
            table[f"{name}_change_m"] = own - base
            most = np.maximum(most, np.abs(log_ratio(own, base)))
    return table.iloc[np.argsort(-most, kind="stable")].reset_index(drop=True)


def _shares(a_m: Errors, b_m: Errors) -> tuple[float, float]:
    """Means over all pairs of seeds of the shares at most 1 / FACTOR, and at least FACTOR, times as far."""
    ratio = log_ratio(a_m[:, None, :], b_m[None, :, :])
    # A ratio of exactly two counts, whichever way its logarithms are rounded.
    edge = np.log(FACTOR) - 1e-12
    return float(np.mean(ratio <= -edge)), float(np.mean(ratio >= edge))
