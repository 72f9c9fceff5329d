"""Data of the map: views, sampling, and details of a query."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h3
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swclip.evaluation.result import Evaluation
from swclip.geo.coordinates import LocalFrame
from swclip.geo.distance import geodesic_m
from swclip.reporting import map_data as module
from swclip.reporting.examples import thumbnail
from swclip.reporting.map_data import allocate, map_data, sample_rows
from swclip.reporting.map_photographs import add_photographs
from swclip.reporting.page import map_note

TOWN = {"x": (52.2, 0.1)}


def test_map_has_a_view_per_city(made_up: Any) -> None:
    evaluation = made_up(1)
    drawn = map_data({"sw-clip": evaluation}, np.random.default_rng(0))
    frame = evaluation.predictions
    assert [view["name"] for view in drawn["views"]] == ["Bath", "Leeds", "York"]
    assert sum(view["n"] for view in drawn["views"]) == len(frame)
    assert drawn["left_out"] == {"cities": 0, "queries": 0, "candidates": 0}
    for view in drawn["views"]:
        answers, queries = view["answers"]["sw-clip"], view["queries"]
        for row, image_id in enumerate(queries["id"]):
            error = float(frame.loc[frame["image_id"] == image_id, "error_m"].iloc[0])
            if error < 5_000.0:  # a flat map is accurate only near its centre
                across = np.hypot(queries["x"][row] - answers["x"][row], queries["y"][row] - answers["y"][row])
                assert across == pytest.approx(error, rel=0.01, abs=0.3)
                assert answers["city"][row] is None
            elif error > 20_000.0:
                assert answers["city"][row] in {"Bath", "Leeds", "York"} - {view["name"]}
    json.dumps(drawn, allow_nan=False)


def test_without_cities_there_is_one_view(made_up: Any) -> None:
    evaluation = made_up(1, cities={"x": (52.2, 0.1)})
    evaluation.predictions["city"] = None
    views = map_data({"a": evaluation}, np.random.default_rng(0))["views"]
    assert [view["n"] for view in views] == [len(evaluation.predictions)]


def test_left_out_items_are_counted(made_up: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_QUERIES", 10)
    monkeypatch.setattr(module, "_CANDIDATES", 14)
    monkeypatch.setattr(module, "_VIEWS", 2)
    drawn = map_data({"a": made_up(1)}, np.random.default_rng(0))
    assert drawn["left_out"]["cities"] == 1
    assert [len(view["queries"]["x"]) for view in drawn["views"]] == [5, 5]
    assert [len(view["candidates"]["x"]) for view in drawn["views"]] == [7, 7]
    assert drawn["left_out"]["queries"] == sum(view["n"] - 5 for view in drawn["views"])
    assert drawn["left_out"]["candidates"] > 0
    assert "the map overstates the errors" in map_note(drawn["left_out"])


@given(st.lists(st.integers(0, 500), min_size=1, max_size=9), st.integers(0, 900))
def test_allocate_uses_the_budget_and_is_monotonic(counts: list[int], at_most: int) -> None:
    shares = allocate(counts, at_most)
    assert all(share <= count for share, count in zip(shares, counts, strict=True))
    left = at_most - sum(shares)
    assert left == 0 or shares == counts or 0 < left < len(counts)
    order = np.argsort(counts, kind="stable")
    assert np.diff(np.asarray(shares)[order]).min(initial=0) >= 0


def test_largest_errors_and_clusters_are_drawn_first() -> None:
    n = 2_000
    generator = np.random.default_rng(3)
    frame = pd.DataFrame({"error_m": generator.permutation(n).astype(float), "lisa": "not significant"})
    frame.loc[100:149, "lisa"] = "high-high"
    rows = sample_rows(frame, np.arange(n), 300, np.random.default_rng(0))
    assert len(set(rows.tolist())) == 300
    assert rows.tolist() == sorted(rows.tolist())
    worst = set(frame["error_m"].nlargest(100).index.tolist())  # 5 %, which is a third of the rows
    assert worst <= set(rows.tolist())
    assert set(range(100, 150)) <= set(rows.tolist())
    assert sample_rows(frame, np.arange(40), 300, generator).tolist() == list(range(40))


def test_without_lisa_other_rows_are_random() -> None:
    frame = pd.DataFrame({"error_m": np.arange(500.0)})
    first, second = (sample_rows(frame, np.arange(500), 90, np.random.default_rng(seed)) for seed in (0, 1))
    assert first.tolist() != second.tolist()
    assert {*range(475, 500)} <= set(first.tolist()) & set(second.tolist())


@pytest.fixture(scope="module")
def drawn(full: Any) -> tuple[Any, dict[str, Any]]:
    evaluation = full.full_evaluation(2, n_queries=90, n_candidates=400, cities=full.EIGHT)
    return evaluation, map_data({"sw-clip": evaluation}, np.random.default_rng(0))


def test_best_candidates_equal_those_of_the_evaluation(drawn: tuple[Any, dict[str, Any]]) -> None:
    evaluation, data = drawn
    places = evaluation.candidates[["lat_deg", "lon_deg"]].to_numpy()
    for view in data["views"]:
        for at, row in enumerate(view["queries"]["row"]):
            entries = np.asarray(view["top"][at]).reshape(-1, 3)
            rows = [view["places"]["row"][place] for place in entries[:, 0]]
            assert rows == evaluation.top.rows[row].tolist()
            assert entries[:, 1] == pytest.approx(1_000 * evaluation.top.probability[row], abs=0.5)
            truth = evaluation.predictions[["lat_deg", "lon_deg"]].to_numpy()[row]
            off = geodesic_m(np.tile(truth, (len(rows), 1)), places[rows])
            assert entries[:, 2] == pytest.approx(off, abs=0.5)


def test_posterior_cells_are_at_their_positions(drawn: tuple[Any, dict[str, Any]]) -> None:
    evaluation, data = drawn
    ground = evaluation.cell_posterior
    for view in data["views"]:
        truth = evaluation.predictions.loc[evaluation.predictions["city"] == view["name"], ["lat_deg", "lon_deg"]]
        local = LocalFrame.around(truth.to_numpy())
        for at, row in enumerate(view["queries"]["row"]):
            entries = np.asarray(view["posterior"][at]).reshape(-1, 2)
            posterior = {
                int(c): float(p) for c, p in zip(ground.cells[row], ground.probability[row], strict=True) if c >= 0
            }
            centres = local.to_xy_m([h3.cell_to_latlng(ground.cell_ids[c]) for c in posterior])
            mass = dict(zip(map(tuple, np.round(centres).astype(int).tolist()), posterior.values(), strict=True))
            for cell, steps in entries.tolist():
                key = (view["cells"]["x"][cell], view["cells"]["y"][cell])
                assert steps == pytest.approx(1_000 * mass.pop(key), abs=0.5)
            assert all(p < 0.0015 for p in mass.values())  # smaller ones are not drawn


def test_outline_of_a_cell_has_its_area(drawn: tuple[Any, dict[str, Any]]) -> None:
    evaluation, data = drawn
    for view in data["views"]:
        x, y = np.asarray(view["cells"]["outline"]).T
        area = 0.5 * abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))))
        city = evaluation.predictions.index[evaluation.predictions["city"] == view["name"]][0]
        cell = evaluation.cell_posterior.cell_ids[evaluation.cell_posterior.cells[city, 0]]
        assert area == pytest.approx(h3.cell_area(cell, unit="m^2"), rel=0.05)


def test_region_has_the_cells_that_add_up_to_its_area(drawn: tuple[Any, dict[str, Any]]) -> None:
    evaluation, data = drawn
    ground, seen = evaluation.cell_posterior, set()
    for view in data["views"]:
        for at, row in enumerate(view["queries"]["row"]):
            area = evaluation.predictions["region_area_km2_80"].iloc[row]
            count = view["region"]["cells"][at]
            cells = [c for c in ground.cells[row] if c >= 0]
            sizes = np.asarray([h3.cell_area(ground.cell_ids[c], unit="km^2") for c in cells])
            mass = ground.probability[row][: len(cells)]
            densest = np.argsort(-mass / sizes, kind="stable")
            if count is None:
                assert not np.isfinite(area)
            elif count == -1:
                assert area > sizes.sum()
            else:
                assert sizes[densest[:count]].sum() == pytest.approx(area, abs=0.5 * sizes.max())
                assert mass[densest[:count]].sum() > 0.75
            seen.add("none" if count is None else "more" if count == -1 else "cells")
            assert view["region"]["covered"][at] == bool(evaluation.predictions["covered_80"].iloc[row])
    assert seen == {"none", "more", "cells"}


def test_missing_details_are_left_out(full: Any, made_up: Any) -> None:
    answers = made_up(1)
    kept = [name for name in answers.predictions if not name.startswith(("lisa", "region_area", "covered"))]
    bare = Evaluation(answers.report, answers.predictions[kept], answers.candidates)
    for evaluation in (full.full_evaluation(1, n_queries=40, empty=True), bare):
        data = map_data({"a": evaluation}, np.random.default_rng(0))
        assert data["lisa"] is None
        assert all(name not in view for view in data["views"] for name in ("top", "posterior", "region", "places"))
    whole = full.full_evaluation(1, n_queries=40)
    assert "top" not in map_data({"a": whole, "b": whole}, np.random.default_rng(0))["views"][0]


def test_photographs_stay_within_the_budget(full: Any, draw_photographs: Any, tmp_path: Path) -> None:
    evaluation = full.full_evaluation(4, n_queries=60, n_candidates=150)
    manifest = draw_photographs(evaluation, tmp_path)
    frame = evaluation.predictions
    worst = str(frame["image_id"].iloc[int(frame["error_m"].argmax())])
    one = len(thumbnail(manifest.image_paths[0], size_px=232, quality=62))

    def carried(budget: int, examples: list[str]) -> dict[str, Any]:
        data = map_data({"a": evaluation}, np.random.default_rng(0))
        add_photographs(data, evaluation, manifest, examples, budget)
        assert sum(map(len, data["photographs"]["images"])) <= budget
        assert "row" not in data["views"][0]["queries"]
        json.dumps(data, allow_nan=False)
        return data

    few = carried(9 * one, [])
    queries = few["views"][0]["queries"]
    assert 4 <= len(few["photographs"]["images"]) <= 12
    assert queries["photo"][queries["id"].index(worst)] >= 0
    assert "photographs are embedded for the map" in few["photographs"]["why"]
    whole = carried(10**9, [worst])
    assert whole["photographs"]["why"] == ""
    queries = whole["views"][0]["queries"]
    assert [name for name, photo in zip(queries["id"], queries["photo"], strict=True) if photo < 0] == [worst]
    assert len(set(whole["photographs"]["images"])) > 20
    at = queries["id"].index(worst)
    best = whole["views"][0]["top"][at][0]
    assert (
        whole["views"][0]["places"]["photo"][best] >= 0
    )  # of the answer, although the photograph of the query is in the examples

    (tmp_path / f"{queries['id'][0]}.jpg").unlink()
    assert carried(10**9, [])["photographs"]["unread"] == {queries["id"][0]: "missing"}
    bare = map_data({"a": evaluation}, np.random.default_rng(0))
    add_photographs(bare, evaluation, None, [])
    assert bare["photographs"]["why"] == "This page was created without photographs."
    assert bare["photographs"]["images"] == []
