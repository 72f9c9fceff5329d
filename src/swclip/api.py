"""Functions of the public API that combine several packages; `swclip` imports each on first use."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

from swclip.evaluation import evaluate as of_model
from swclip.evaluation.result import Evaluation
from swclip.external import evaluate as of_files
from swclip.reporting.notebook import EvaluationReport

P = ParamSpec("P")


def _reported(function: Callable[P, Evaluation]) -> Callable[P, EvaluationReport]:
    """The same function, returning an evaluation with its tables, plots and files."""

    @wraps(function)
    def reported(*args: P.args, **kwargs: P.kwargs) -> EvaluationReport:
        return EvaluationReport.of(function(*args, **kwargs))

    return reported


evaluate = _reported(of_model.evaluate)
evaluate_predictions = _reported(of_files.evaluate_predictions)
evaluate_vectors = _reported(of_files.evaluate_vectors)
