"""Several seeds of one system as one report: the mean of every number, and how far the headline figures spread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

_SPREAD = (("error_m", ("median", "mean")), ("accuracy_within_m", ("25", "50", "100")))


def mean_report(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One report whose numbers are the means of the reports' numbers, at every depth.

    What is not a number is kept where all reports agree and is None where they do not; a key that one report lacks is
    left out.

    Args:
        reports: At least one.

    Example:
        >>> seeds = [{"error_m": {"mean": error}, "estimator": "mode"} for error in (10.0, 20.0)]
        >>> mean_report(seeds)
        {'error_m': {'mean': 15.0}, 'estimator': 'mode'}
    """
    shared = [key for key in reports[0] if all(key in report for report in reports)]
    return {key: _mean([report[key] for report in reports]) for key in shared}


def seed_spread(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Standard deviation over seeds (n - 1) of the headline figures; None with one seed, which has no spread."""
    if len(reports) < 2:
        return None
    return {
        group: {key: float(np.std([report[group][key] for report in reports], ddof=1)) for key in keys}
        for group, keys in _SPREAD
    }


def _mean(values: Sequence[Any]) -> Any:
    if all(isinstance(value, Mapping) for value in values):
        return mean_report(values)
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        same = all(value == values[0] for value in values)
        return values[0] if same else float(np.mean(values))
    if all(isinstance(value, list) and len(value) == len(values[0]) for value in values):
        return [_mean(items) for items in zip(*values, strict=True)]
    return values[0] if all(value == values[0] for value in values) else None


def with_gallery(reports: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The first report whose gallery is known, and so its floor and guesses; the first of all where none is.

    Another tool's bare answers come without a gallery.
    """
    every = list(reports)
    return next((report for report in every if report["baselines"].get("floor")), every[0])
