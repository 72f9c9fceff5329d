"""Alignment of reports to the same queries, and evaluations of a subset."""

from __future__ import annotations

import re
import statistics
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swclip.comparison.align import Aligned, align, reordered, restricted
from swclip.errors import MismatchError
from swclip.evaluation.report import Truth
from swclip.evaluation.result import Evaluation
from swclip.metrics.error_report import district_gap

SOURCES = {"a": {"0": "a (A)"}, "b": {"0": "b (B)"}}


@pytest.fixture(scope="module")
def pair(made_up: Any) -> tuple[Evaluation, Evaluation]:
    return made_up(1, system=0), made_up(1, system=1)


def aligned(a: Evaluation, b: Evaluation, **options: bool) -> Aligned:
    return align({"a": {"0": a}, "b": {"0": b}}, SOURCES, **options)


def keeping(evaluation: Evaluation, rows: list[int]) -> Evaluation:
    return restricted(evaluation, np.array(rows))


@given(st.integers(0, 2**32 - 1))
def test_alignment_does_not_depend_on_order(pair: tuple[Evaluation, Evaluation], seed: int) -> None:
    a, b = pair
    generator = np.random.default_rng(seed)
    n = len(a.predictions)
    found = aligned(reordered(a, generator.permutation(n)), reordered(b, generator.permutation(n)))
    for name, evaluation in (("a", a), ("b", b)):
        frame = found.runs[name]["0"].predictions
        assert frame["image_id"].is_monotonic_increasing
        errors = dict(zip(evaluation.predictions["image_id"], evaluation.predictions["error_m"], strict=True))
        assert frame["error_m"].tolist() == [errors[image_id] for image_id in frame["image_id"]]
    assert found.notes == []


def test_missing_queries_are_counted_and_named(pair: tuple[Evaluation, Evaluation]) -> None:
    a, b = keeping(pair[0], [*range(3, 45)]), keeping(pair[1], [*range(44)])
    message = (
        "b (B) lacks 1 of the 42 queries of a (A) ('photo-00176'); a (A) lacks 3 of the 44 queries of b (B) "
        "('photo-00000', 'photo-00004', 'photo-00008')"
    )
    with pytest.raises(MismatchError, match=re.escape(message)):
        aligned(a, b)
    b = keeping(pair[1], [*range(40)])
    with pytest.raises(MismatchError, match=re.escape("'photo-00160', 'photo-00164', 'photo-00168', ...")):
        aligned(pair[0], b)


def test_common_queries_are_kept_and_others_counted(pair: tuple[Evaluation, Evaluation]) -> None:
    a, b = keeping(pair[0], [*range(3, 45)]), keeping(pair[1], [*range(44)])
    found = aligned(a, b, common=True)
    assert found.left_out == {"a": {"0": 1}, "b": {"0": 3}}
    ids = pair[0].predictions["image_id"].tolist()[3:44]
    for evaluation in (found.runs["a"]["0"], found.runs["b"]["0"]):
        assert evaluation.predictions["image_id"].tolist() == ids
        assert evaluation.report.n_queries == 41
    assert "on the 41 queries that all reports have; left out: 1 of a (A), 3 of b (B)" in found.notes[0]
    whole = aligned(*pair, common=True)
    assert whole.notes == []
    assert whole.runs["a"]["0"].report is pair[0].report


def test_reports_without_a_common_query_raise(pair: tuple[Evaluation, Evaluation]) -> None:
    a, b = keeping(pair[0], [*range(20)]), keeping(pair[1], [*range(20, 45)])
    with pytest.raises(
        MismatchError, match=re.escape("no query is in all of the reports (a (A) has 20, b (B) has 25)")
    ):
        aligned(a, b, common=True)


def test_different_true_positions_raise_with_their_columns(pair: tuple[Evaluation, Evaluation]) -> None:
    a, b = pair
    frame = b.predictions.copy()
    frame.loc[5, "lat_deg"] += 1e-3
    frame.loc[6, "lat_deg"] += 1e-4
    b = replace(
        b,
        predictions=frame,
        report=b.report.model_copy(update={"truth": Truth(position="true", columns="true_lat_deg, true_lon_deg")}),
    )
    message = (
        r"2 of 45 queries against different positions \('photo-00020' by 111 m; columns lat_deg, lon_deg and true_"
    )
    with pytest.raises(MismatchError, match=message):
        aligned(a, b)
    frame.loc[[5, 6], "lat_deg"] = a.predictions["lat_deg"].iloc[[5, 6]].to_numpy() + 1e-7
    aligned(a, replace(b, predictions=frame))


def test_districts_and_blocks_are_those_of_the_first(pair: tuple[Evaluation, Evaluation]) -> None:
    a, b = pair
    renamed = b.predictions.assign(block=[f"other {block}" for block in b.predictions["block"]])
    found = aligned(a, replace(b, predictions=renamed))
    assert found.notes == [], "blocks with other names are equal"
    assert found.runs["b"]["0"].predictions["block"].tolist() == found.runs["a"]["0"].predictions["block"].tolist()
    other = b.predictions.assign(block="one", region="all")
    found = aligned(a, replace(b, predictions=other, report=b.report.model_copy(update={"regional": None})))
    assert [note.split(";")[0] for note in found.notes] == ["b (B) has other districts", "b (B) has other blocks"]
    report = found.runs["b"]["0"].report
    assert report.by_region == b.report.by_region
    assert report.regional == district_gap(report.by_region)


@pytest.fixture(scope="module")
def evaluation(made_up: Any) -> Evaluation:
    found: Evaluation = made_up(3)
    return found


def numbers(value: Any, where: str = "") -> dict[str, float]:
    if isinstance(value, dict):
        return {key: number for name, item in value.items() for key, number in numbers(item, f"{where}/{name}").items()}
    return {where: value} if isinstance(value, int | float) else {}


def test_restricting_to_all_queries_keeps_the_figures(evaluation: Evaluation) -> None:
    """Recomputed figures equal those of `measure`, in any order of the rows."""
    rows = np.random.default_rng(0).permutation(len(evaluation.predictions))
    found = restricted(evaluation, rows).report
    measured = numbers(evaluation.report.as_dict())
    again = {key: value for key, value in numbers(found.as_dict()).items() if not key.startswith("/intervals/")}
    assert again == pytest.approx({key: measured[key] for key in again})
    for key in ("error_m", "accuracy_within_m", "recall_at_k_25m", "baselines", "by_region", "estimators"):
        assert any(name.startswith(f"/{key}/") for name in again), key
    assert found.n_answerable == evaluation.report.n_answerable


def test_figures_of_a_subset_equal_plain_python(evaluation: Evaluation) -> None:
    rows = np.array([40, 3, 7, 20, 21])
    found, frame = restricted(evaluation, rows), evaluation.predictions
    errors = [float(frame["error_m"].iloc[row]) for row in rows]
    assert found.predictions["image_id"].tolist() == [frame["image_id"].iloc[row] for row in rows]
    assert found.report.n_queries == 5
    assert found.report.error_m.median == pytest.approx(statistics.median(errors))
    assert found.report.accuracy_within_m["50"] == pytest.approx(sum(error <= 50 for error in errors) / 5)
    oracle = [float(frame["floor_m"].iloc[row]) for row in rows]
    assert found.report.baselines.floor.mean == pytest.approx(statistics.mean(oracle))
    assert {name: figures.n for name, figures in found.report.by_region.items()} == dict(
        frame["region"].iloc[rows].value_counts()
    )
    low, high = found.report.intervals.error_m.median
    assert min(errors) <= low <= statistics.median(errors) <= high <= max(errors)


def test_figures_that_need_more_than_answers_are_left_out(evaluation: Evaluation) -> None:
    report = restricted(evaluation, np.arange(10)).report
    assert report.baselines.constant is not None
    assert (report.baselines.random, report.spatial, report.calibration) == (None, None, None)
    assert report.levels == {}


def test_figures_per_query_are_averaged(evaluation: Evaluation) -> None:
    frame = evaluation.predictions.assign(ndcg_20=np.linspace(0.0, 1.0, len(evaluation.predictions)))
    rows = np.array([0, 4, 9])
    report = restricted(Evaluation(evaluation.report, frame, evaluation.candidates), rows).report
    assert report.geoscore == pytest.approx(frame["geoscore"].iloc[rows].mean())
    assert report.ndcg_at_k == {"20": pytest.approx(frame["ndcg_20"].iloc[rows].mean())}
    assert report.estimators == {}, "errors of estimators are not in memory"


def test_reordering_applies_to_rows_and_errors(evaluation: Evaluation) -> None:
    rows = np.arange(len(evaluation.predictions))[::-1]
    found = reordered(evaluation, rows)
    assert found.report is evaluation.report
    assert found.predictions["error_m"].tolist() == found.errors_m["mode"].tolist()
    assert found.predictions["image_id"].tolist() == evaluation.predictions["image_id"].tolist()[::-1]
