"""Reports brought to the same queries, and what is refused with its counts and names."""

from __future__ import annotations

import re
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
from swclip.metrics.district_errors import district_gap

SOURCES = {"a": {"0": "a (A)"}, "b": {"0": "b (B)"}}


@pytest.fixture(scope="module")
def pair(made_up: Any) -> tuple[Evaluation, Evaluation]:
    return made_up(1, system=0), made_up(1, system=1)


def aligned(a: Evaluation, b: Evaluation, **options: bool) -> Aligned:
    return align({"a": {"0": a}, "b": {"0": b}}, SOURCES, **options)


def keeping(evaluation: Evaluation, rows: list[int]) -> Evaluation:
    return restricted(evaluation, np.array(rows))


@given(st.integers(0, 2**32 - 1))
def test_any_order_of_the_files_gives_the_same_rows(pair: tuple[Evaluation, Evaluation], seed: int) -> None:
    a, b = pair
    generator = np.random.default_rng(seed)
    n = len(a.predictions)
    found = aligned(reordered(a, generator.permutation(n)), reordered(b, generator.permutation(n)))
    for name, one in (("a", a), ("b", b)):
        own = found.runs[name]["0"].predictions
        assert own["image_id"].is_monotonic_increasing
        told = dict(zip(one.predictions["image_id"], one.predictions["error_m"], strict=True))
        assert own["error_m"].tolist() == [told[image_id] for image_id in own["image_id"]]
    assert found.notes == []


def test_queries_that_one_lacks_are_counted_and_named_on_both_sides(pair: tuple[Evaluation, Evaluation]) -> None:
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


def test_common_queries_are_kept_and_the_rest_is_counted(pair: tuple[Evaluation, Evaluation]) -> None:
    a, b = keeping(pair[0], [*range(3, 45)]), keeping(pair[1], [*range(44)])
    found = aligned(a, b, common=True)
    assert found.left_out == {"a": {"0": 1}, "b": {"0": 3}}
    ids = pair[0].predictions["image_id"].tolist()[3:44]
    for own in (found.runs["a"]["0"], found.runs["b"]["0"]):
        assert own.predictions["image_id"].tolist() == ids
        assert own.report.n_queries == 41
    assert "on the 41 queries that all reports have; left out: 1 of a (A), 3 of b (B)" in found.notes[0]
    whole = aligned(*pair, common=True)
    assert whole.notes == []
    assert whole.runs["a"]["0"].report is pair[0].report


def test_reports_without_a_common_query_are_refused(pair: tuple[Evaluation, Evaluation]) -> None:
    a, b = keeping(pair[0], [*range(20)]), keeping(pair[1], [*range(20, 45)])
    with pytest.raises(
        MismatchError, match=re.escape("no query is in all of the reports (a (A) has 20, b (B) has 25)")
    ):
        aligned(a, b, common=True)


def test_another_truth_is_refused_with_the_columns(pair: tuple[Evaluation, Evaluation]) -> None:
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


def test_regions_and_blocks_are_those_of_the_first(pair: tuple[Evaluation, Evaluation]) -> None:
    a, b = pair
    renamed = b.predictions.assign(block=[f"other {block}" for block in b.predictions["block"]])
    found = aligned(a, replace(b, predictions=renamed))
    assert found.notes == [], "the same blocks by other names are the same blocks"
    assert found.runs["b"]["0"].predictions["block"].tolist() == found.runs["a"]["0"].predictions["block"].tolist()
    other = b.predictions.assign(block="one", region="all")
    found = aligned(a, replace(b, predictions=other, report=b.report.model_copy(update={"regional": None})))
    assert [note.split(";")[0] for note in found.notes] == ["b (B) has other regions", "b (B) has other blocks"]
    report = found.runs["b"]["0"].report
    assert report.by_region == b.report.by_region
    assert report.regional == district_gap(report.by_region)
