"""The report from posteriors: against loops, strictly JSON, the same in any order and any chunks."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from swclip.errors import ArtefactError, ConfigError, InputError
from swclip.evaluation.measure import MeasureConfig, measure
from swclip.evaluation.predictions import read_predictions, write_predictions
from swclip.evaluation.report import report_of
from swclip.evaluation.retrieval_task import hits_within
from swclip.geo.coordinates import LocalFrame
from swclip.geo.distance import geodesic_m
from swclip.metrics.districts import district_labels, resampling_blocks

QUICK = MeasureConfig(estimator="argmax", resamples=50)


def first_of_best(log_posterior: np.ndarray, positions_deg: np.ndarray) -> np.ndarray:
    return positions_deg[np.argmax(log_posterior, axis=1)]


ESTIMATORS = {"argmax": first_of_best}


def problem(seed: int = 0, queries: int = 30, candidates: int = 50) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
    generator = np.random.default_rng(seed)
    places = LocalFrame(53.8, -1.55).to_deg(generator.uniform(-150, 150, (candidates, 2)))
    truth = LocalFrame(53.8, -1.55).to_deg(generator.uniform(-150, 150, (queries, 2)))
    cities = ["Leeds", "York", None]
    asked = pd.DataFrame(
        {
            "image_id": [f"q{row}" for row in range(queries)],
            "lat_deg": truth[:, 0],
            "lon_deg": truth[:, 1],
            "city": [cities[row % 2] for row in range(queries)],
            "block_id": [str(row // 3) for row in range(queries)],
            "split": "query",
        }
    )
    there = pd.DataFrame(
        {
            "candidate_id": [f"c{row}" for row in range(candidates)],
            "lat_deg": places[:, 0],
            "lon_deg": places[:, 1],
            "city": [cities[row % 3] for row in range(candidates)],
            "image_ids": [[f"g{row}"] if row % 2 else [] for row in range(candidates)],
        }
    )
    logits = generator.normal(size=(queries, candidates))
    return asked, there, (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


def test_the_report_is_that_of_loops() -> None:
    asked, there, log_posterior = problem()
    places = there[["lat_deg", "lon_deg"]].to_numpy()
    found = measure(asked, there, [log_posterior], ESTIMATORS, places, QUICK)
    report, frame = found.report, found.predictions
    answerable = hits = 0
    reciprocal = alignment = mass_gap = 0.0
    for row, query in asked.iterrows():
        scores = log_posterior[row].tolist()
        distances = [float(geodesic_m([[query.lat_deg, query.lon_deg]], [place])[0]) for place in places]
        best = scores.index(max(scores))
        assert frame["error_m"][row] == pytest.approx(distances[best])
        assert frame["floor_m"][row] == pytest.approx(min(distances))
        assert frame["top1_candidate_id"][row] == f"c{best}"
        order = sorted(range(len(scores)), key=lambda index: -scores[index])
        ranks = [place for place, index in enumerate(order, start=1) if distances[index] <= 25.0]
        answerable += bool(ranks)
        assert (None if pd.isna(frame["rank_25m"][row]) else frame["rank_25m"][row]) == (ranks[0] if ranks else None)
        hits += bool(ranks and ranks[0] <= 5)
        reciprocal += 1.0 / ranks[0] if ranks else 0.0
        alignment += sum(there["city"][index] == query.city for index in order[:5]) / 5
        around = [i for i, place in enumerate(places) if geodesic_m([places[best]], [place])[0] <= 25.0]
        mass_gap = max(mass_gap, abs(frame["probability"][row] - sum(np.exp(scores[i]) for i in around)))
    assert mass_gap < 1e-5
    assert report.n_queries == 30
    assert report.n_answerable == answerable
    assert 0 < answerable < 30  # or the example would not tell
    assert report.gallery_size == 50
    assert report.gallery_photographs == 25
    assert report.recall_at_k_25m["5"] == pytest.approx(hits / 30)
    assert report.mrr_25m == pytest.approx(reciprocal / 30)
    assert report.city_alignment_at_k["5"] == pytest.approx(alignment / 30)
    assert report.error_m.median == pytest.approx(float(np.median(frame["error_m"])))
    assert report.estimators["argmax"].error_m == report.error_m
    assert set(report.by_region) == {"Leeds", "York"}


def test_the_report_is_strict_json_without_nan() -> None:
    asked, there, log_posterior = problem()
    report = measure(asked, there, [log_posterior], ESTIMATORS, np.zeros((0, 2)), QUICK).report
    text = json.dumps(report.as_dict(), allow_nan=False)
    assert report_of(json.loads(text)) == report


def test_chunks_change_nothing() -> None:
    asked, there, log_posterior = problem()
    whole = measure(asked, there, [log_posterior], ESTIMATORS, np.zeros((0, 2)), QUICK)
    parts = measure(asked, there, np.split(log_posterior, [1, 8, 20]), ESTIMATORS, np.zeros((0, 2)), QUICK)
    assert parts.report == whole.report
    pd.testing.assert_frame_equal(parts.predictions, whole.predictions)


def test_the_order_of_candidates_changes_no_figure() -> None:
    asked, there, log_posterior = problem()
    order = np.random.default_rng(9).permutation(len(there))
    whole = measure(asked, there, [log_posterior], ESTIMATORS, np.zeros((0, 2)), QUICK).report
    moved = measure(asked, there.iloc[order], [log_posterior[:, order]], ESTIMATORS, np.zeros((0, 2)), QUICK).report
    assert dict(moved.error_m) == pytest.approx(dict(whole.error_m))
    for name in ("accuracy_within_m", "recall_at_k_25m", "mrr_25m", "city_alignment_at_k", "n_answerable"):
        assert getattr(moved, name) == pytest.approx(getattr(whole, name))


def test_the_order_of_queries_changes_no_figure() -> None:
    asked, there, log_posterior = problem()
    order = np.random.default_rng(9).permutation(len(asked))
    whole = measure(asked, there, [log_posterior], ESTIMATORS, np.zeros((0, 2)), QUICK)
    moved = measure(asked.iloc[order], there, [log_posterior[order]], ESTIMATORS, np.zeros((0, 2)), QUICK)
    assert dict(moved.report.error_m) == pytest.approx(dict(whole.report.error_m))
    for name in ("accuracy_within_m", "recall_at_k_25m", "mrr_25m"):
        assert getattr(moved.report, name) == pytest.approx(getattr(whole.report, name))
    assert moved.predictions["error_m"].tolist() == whole.predictions["error_m"].iloc[order].tolist()


def test_a_system_that_knows_is_right_everywhere() -> None:
    asked, there, _ = problem()
    there = there.head(len(asked)).copy()
    there[["lat_deg", "lon_deg"]] = asked[["lat_deg", "lon_deg"]].to_numpy()
    knows = np.log(np.full((30, 30), 1e-6) + np.eye(30)).astype(np.float32)
    report = measure(asked, there, [knows], ESTIMATORS, np.zeros((0, 2)), QUICK).report
    assert report.error_m.worst5_mean == 0.0
    assert report.recall_at_k_25m["1"] == report.mrr_25m == report.accuracy_within_m["10"] == 1.0
    assert report.baselines.floor.mean == 0.0
    assert report.intervals.error_m.median == [0.0, 0.0]


def test_hits_are_those_within_the_geodesic_edge_included() -> None:
    there = LocalFrame(60.0, 10.0).to_deg([[0.0, 0.0], [24.9, 0.0], [25.2, 0.0], [0.0, 24.9], [0.0, 25.2]])
    own = hits_within([[60.0, 10.0]], there, 25.0)[0]
    exact = [row for row in range(5) if geodesic_m([[60.0, 10.0]], there[row : row + 1])[0] <= 25.0]
    assert own.tolist() == exact
    edge = float(geodesic_m([[60.0, 10.0]], there[1:2])[0])
    assert 1 in hits_within([[60.0, 10.0]], there, edge)[0].tolist()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda a, c, p: (a.head(0), c, [p]), InputError, "no queries"),
        (lambda a, c, p: (a, c.head(0), [p[:, :0]]), InputError, "no candidates"),
        (lambda a, c, p: (a, c, [p[:, :-1]]), ArtefactError, "shape"),
        (lambda a, c, p: (a, c, [p[:-1]]), ArtefactError, "29 of 30"),
        (lambda a, c, p: (a, c, [p, p[:1]]), ArtefactError, "shape"),
        (lambda a, c, p: (a, c, [np.where(p == p[3, 4], np.nan, p)]), ArtefactError, "query 3.*not numbers"),
    ],
)
def test_what_cannot_be_measured_is_refused(change: Any, error: type[Exception], words: str) -> None:
    asked, there, posteriors = change(*problem())
    with pytest.raises(error, match=words):
        measure(asked, there, posteriors, ESTIMATORS, np.zeros((0, 2)), QUICK)


def test_an_estimator_that_is_not_there_is_refused() -> None:
    asked, there, log_posterior = problem()
    with pytest.raises(ConfigError, match="'mode'"):
        measure(asked, there, [log_posterior], ESTIMATORS, np.zeros((0, 2)), MeasureConfig(estimator="mode"))


def test_regions_by_city_or_by_cell() -> None:
    positions = [[53.8, -1.55], [53.8, -1.55], [55.9, -4.2]]
    assert district_labels(["York", None, "Bath"], positions) == ["York", "unknown", "Bath"]
    assert district_labels([None] * 3, positions) == ["all"] * 3
    cells = district_labels(["York"] * 3, positions, "cells:8")
    assert cells[0] == cells[1] != cells[2]
    for wrong in ("street", "cells", "cells:", "cells:16", "cells:x"):
        with pytest.raises(ConfigError, match="cells:RES"):
            district_labels([None], [[0.0, 0.0]], wrong)


def test_blocks_are_the_first_that_split_the_queries() -> None:
    positions = np.array([[53.8, -1.55], [53.8, -1.55], [53.9, -1.55]])
    frame = pd.DataFrame({"block_id": ["a", "a", "b"], "place_id": ["1", "2", "3"]})
    assert resampling_blocks(frame, positions) == (["a", "a", "b"], "block_id")
    assert resampling_blocks(frame.assign(block_id=[None, "a", "b"]), positions)[1] == "place_id"
    assert resampling_blocks(frame.assign(block_id="a", place_id=None), positions)[1].startswith("H3 cell")
    assert resampling_blocks(frame.assign(block_id="a", place_id="p"), positions[[0, 0, 0]])[1] == "photograph"


def test_predictions_open_in_geopandas_and_come_back(tmp_path: Any) -> None:
    import geopandas

    asked, there, log_posterior = problem()
    frame = measure(asked, there, [log_posterior], ESTIMATORS, np.zeros((0, 2)), QUICK).predictions
    write_predictions(tmp_path / "predictions.parquet", frame)
    opened = geopandas.read_parquet(tmp_path / "predictions.parquet")
    assert opened.crs.to_epsg() == 4326
    assert opened.geometry.x.tolist() == frame["lon_deg"].tolist()
    assert opened.geometry.y.tolist() == frame["lat_deg"].tolist()
    back = read_predictions(tmp_path / "predictions.parquet")
    assert back["error_m"].tolist() == frame["error_m"].tolist()
    assert back["rank_25m"].isna().tolist() == frame["rank_25m"].isna().tolist()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["predictions.parquet"]


def test_predictions_that_are_cut_short_or_missing_are_named(tmp_path: Any) -> None:
    path = tmp_path / "predictions.parquet"
    with pytest.raises(ArtefactError, match="not there"):
        read_predictions(path)
    asked, there, log_posterior = problem()
    write_predictions(path, measure(asked, there, [log_posterior], ESTIMATORS, np.zeros((0, 2)), QUICK).predictions)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ArtefactError, match=r"predictions\.parquet.*cannot be read"):
        read_predictions(path)
