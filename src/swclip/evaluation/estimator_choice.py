"""Choose the estimator of a comparison on validation queries: one for all of its systems.

Chosen by run, the estimator is one more parameter that differs between the compared systems, and can reverse the
sign of their difference. It is therefore the mode unless another is named, and a choice on validation queries is one
for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from swclip.calibration.posterior_config import ESTIMATOR, ESTIMATOR_NAMES, EstimatorName
from swclip.errors import ConfigError
from swclip.evaluation.measure import MeasureConfig
from swclip.evaluation.result import Evaluation

EstimatorChoice = Literal["mode", "argmax", "geometric-median", "validation"]
"""An estimator, or "validation" for the one that `best_on_validation` chooses."""

VALIDATION = "validation"
TARGET = "mean over validation queries of log(1 + error / 10 m)"
"""What the choice minimises: it is sensitive to small errors and to the tail."""

_NEAR_M = 10.0


def best_on_validation(systems: Mapping[str, Sequence[Evaluation]]) -> tuple[EstimatorName, dict[str, float]]:
    """The estimator with the least loss, summed over the systems.

        loss(estimator) = sum over systems of the mean over their evaluations of
                          mean over queries of log(1 + error / 10 m)

    Args:
        systems: By system, its evaluations on validation queries: one per seed, splits or both.

    Returns:
        The estimator, ties in the order of `ESTIMATOR_NAMES`, and the loss of each.

    Example:
        >>> from types import SimpleNamespace as Made
        >>> near = Made(errors_m={"mode": [5.0], "argmax": [9.0], "geometric-median": [9.0]})
        >>> best_on_validation({"a": [near], "b": [near]})[0]
        'mode'
    """
    losses: dict[str, float] = {
        name: float(
            sum(
                np.mean([np.log1p(np.asarray(one.errors_m[name]) / _NEAR_M).mean() for one in evaluations])
                for evaluations in systems.values()
            )
        )
        for name in ESTIMATOR_NAMES
    }
    return min(ESTIMATOR_NAMES, key=lambda name: losses[name]), losses


def choice_record(losses: Mapping[str, float]) -> dict[str, Any]:
    """What a report or comparison records of a choice, in `made_with`."""
    return {"estimator_choice": {"target": TARGET, "losses": dict(losses)}}


def check_measured_apart(on: str) -> None:
    """Raise ConfigError where the measured queries are those on which the estimator would be chosen."""
    if on == "val":
        raise ConfigError(
            "--estimator validation chooses on the validation queries, which --on val measures; name an estimator "
            f"({', '.join(ESTIMATOR_NAMES)})."
        )


def chosen_estimator(
    config: MeasureConfig, on: str, measure_validation: Callable[[MeasureConfig], Evaluation]
) -> tuple[MeasureConfig, dict[str, Any]]:
    """The configuration with the estimator that answers, chosen on validation queries where it says so.

    Args:
        config: How answers are measured.
        on: The measured queries, "query" or "val".
        measure_validation: Evaluates the system on its validation queries.

    Returns:
        The configuration, and what is recorded of the choice (empty where an estimator was named).

    Raises:
        ConfigError: The measured queries are the validation queries.
        InputError: There are no validation queries.
    """
    if config.estimator != VALIDATION:
        return config, {}
    check_measured_apart(on)
    evaluation = measure_validation(replace(config, estimator=ESTIMATOR, resamples=1))
    name, losses = best_on_validation({"system": [evaluation]})
    return replace(config, estimator=name), choice_record(losses)
