"""One estimator for all systems of a comparison: chosen by run it can reverse the sign of a difference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import swclip
from swclip.comparison.compare import compare
from swclip.errors import ConfigError, MismatchError
from swclip.evaluation.estimator_choice import best_on_validation, chosen_estimator
from swclip.evaluation.measure import MeasureConfig
from swclip.evaluation.result import Evaluation, answer_columns
from swclip.geo.distance import geodesic_m
from swclip.metrics.parts import Figures

MakeUp = Callable[..., Evaluation]
_DEGREES_PER_M = 1.0 / 111_270.0

# Median errors in metres by system and estimator. By each single estimator a is better than b, on both sets of queries.
QUERIES = {
    "a": {"mode": 20.0, "argmax": 30.0, "geometric-median": 60.0},
    "b": {"mode": 40.0, "argmax": 35.0, "geometric-median": 80.0},
}
VALIDATION = {
    "a": {"mode": 50.0, "argmax": 55.0, "geometric-median": 45.0},
    "b": {"mode": 60.0, "argmax": 58.0, "geometric-median": 90.0},
}


def answering(evaluation: Evaluation, errors_m: Mapping[str, float], main: str = "mode") -> Evaluation:
    """The evaluation with answers of these median errors north of the truth, in full by one estimator."""
    frame = evaluation.predictions
    truth = frame[["lat_deg", "lon_deg"]].to_numpy()
    spread = np.linspace(0.5, 1.5, len(frame))
    columns, errors = {}, {}
    for name, median in errors_m.items():
        answer = truth + np.stack([median * spread * _DEGREES_PER_M, np.zeros(len(frame))], 1)
        errors[name] = geodesic_m(truth, answer)
        columns |= dict(zip(answer_columns(name), answer.T, strict=True))
    lat, lon = (columns[column] for column in answer_columns(main))
    frame = frame.assign(**columns, predicted_lat_deg=lat, predicted_lon_deg=lon, error_m=errors[main])
    figures = Figures.of(errors[main])
    changed = {"estimator": main, "error_m": figures.error_m, "accuracy_within_m": figures.accuracy_within_m}
    changed["estimators"] = {name: Figures.of(error) for name, error in errors.items()}
    report = evaluation.report.model_copy(update=changed)
    return Evaluation(report, frame, evaluation.candidates, errors)


def test_a_choice_by_run_reverses_the_sign_and_one_estimator_does_not(
    made_up: MakeUp, saved: Callable[..., Path], tmp_path: Path
) -> None:
    validation = {name: [answering(made_up(2), errors)] for name, errors in VALIDATION.items()}
    by_run = {name: best_on_validation({name: ones})[0] for name, ones in validation.items()}
    assert by_run == {"a": "geometric-median", "b": "argmax"}
    queries = {name: answering(made_up(1), QUERIES[name], by_run[name]) for name in QUERIES}
    # The printed difference would have the wrong sign: this is what a comparison refuses.
    assert queries["a"].report.error_m.median - queries["b"].report.error_m.median == pytest.approx(25.0, abs=1.0)
    with pytest.raises(MismatchError, match="different estimators \\(b: argmax; a: geometric-median\\)"):
        compare({name: {0: queries[name]} for name in ("b", "a")}, {}, resamples=20)
    # One for all, chosen on the same queries: a is better, as by every estimator.
    together, losses = best_on_validation(validation)
    assert together == min(losses, key=lambda name: losses[name]) == "mode"
    for name in ("mode", "argmax", "geometric-median"):
        one = {system: {0: answering(made_up(1), QUERIES[system], name)} for system in ("b", "a")}
        compared = compare(one, {}, resamples=20).document
        assert compared.estimator == name
        assert compared.from_baseline["a"].median.high < 0.0
    # Reports on disk carry all answers: they are compared by the mode, and by another one on request.
    folders = {name: saved(queries[name], tmp_path / name) for name in ("b", "a")}
    found = swclip.compare(folders, resamples=20)
    assert found.document.estimator == "mode"
    assert found.document.from_baseline["a"].median.value == pytest.approx(-20.0, abs=0.5)
    assert [note.partition(",")[0] for note in found.document.notes] == [
        f"Compared by mode: {name} ({folders[name]})" for name in ("b", "a")
    ]
    by_median = swclip.compare(folders, estimator="geometric-median", resamples=20).document
    assert by_median.systems["a"].mean.error_m.median == pytest.approx(60.0, abs=0.5)
    assert by_median.from_baseline["a"].median.value == pytest.approx(-20.0, abs=0.5)


def test_reports_without_common_answers_are_refused(made_up: MakeUp) -> None:
    earlier = {}
    for name, main in (("a", "geometric-median"), ("b", "argmax")):
        one = answering(made_up(1), QUERIES[name], main)
        columns = [column for estimator in QUERIES[name] for column in answer_columns(estimator)]
        earlier[name] = replace(one, predictions=one.predictions.drop(columns=columns), errors_m={})
    with pytest.raises(MismatchError, match=r"none in common \(a \(in memory\): geometric-median; .* --estimator"):
        swclip.compare(earlier, resamples=20)
    with pytest.raises(MismatchError, match=r"no answers by estimator 'mode' in a \(in memory\), b \(in memory\)"):
        swclip.compare(earlier, estimator="mode", resamples=20)


def test_a_choice_is_the_least_loss_of_the_validation_queries(made_up: MakeUp) -> None:
    one = answering(made_up(2), VALIDATION["a"])
    measured: list[MeasureConfig] = []

    def measure_validation(config: MeasureConfig) -> Evaluation:
        measured.append(config)
        return one

    config, record = chosen_estimator(MeasureConfig("validation", seed=7), "query", measure_validation)
    assert (config.estimator, config.seed, measured[0].estimator) == ("geometric-median", 7, "mode")
    losses = record["estimator_choice"]["losses"]
    for name, errors in one.errors_m.items():
        assert losses[name] == pytest.approx(np.mean([np.log(1.0 + error / 10.0) for error in errors]))
    assert chosen_estimator(MeasureConfig("argmax"), "val", measure_validation) == (MeasureConfig("argmax"), {})
    with pytest.raises(ConfigError, match="which --on val measures"):
        chosen_estimator(MeasureConfig("validation"), "val", measure_validation)
