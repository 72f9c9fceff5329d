"""The report from posteriors against loops, JSON, and invariance to order and chunks."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from swclip.errors import ArtefactError, ConfigError, InputError
from swclip.evaluation.measure import MeasureConfig, measure
from swclip.evaluation.report import report_of
from swclip.evaluation.result import read_predictions, write_predictions
from swclip.evaluation.retrieval_task import hits_within
from swclip.geo.coordinates import LocalFrame
from swclip.geo.distance import geodesic_m
from swclip.metrics.districts import district_labels, resampling_blocks

QUICK = MeasureConfig(estimator="argmax", resamples=50)


def first_of_best(log_posterior: np.ndarray, positions_deg: np.ndarray) -> np.ndarray:
    return positions_deg[np.argmax(log_posterior, axis=1)]


ESTIMATORS = {"argmax": first_of_best}


def example(
    seed: int = 0, n_queries: int = 30, n_candidates: int = 50
) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
    generator = np.random.default_rng(seed)
    places = LocalFrame(53.8, -1.55).to_deg(generator.uniform(-150, 150, (n_candidates, 2)))
    truth = LocalFrame(53.8, -1.55).to_deg(generator.uniform(-150, 150, (n_queries, 2)))
    cities = ["Leeds", "York", None]
    queries = pd.DataFrame(
        {
            "image_id": [f"q{row}" for row in range(n_queries)],
            "lat_deg": truth[:, 0],
            "lon_deg": truth[:, 1],
            "city": [cities[row % 2] for row in range(n_queries)],
            "block_id": [str(row // 3) for row in range(n_queries)],
            "split": "query",
        }
    )
    candidates = pd.DataFrame(
        {
            "candidate_id": [f"c{row}" for row in range(n_candidates)],
            "lat_deg": places[:, 0],
            "lon_deg": places[:, 1],
            "city": [cities[row % 3] for row in range(n_candidates)],
            "image_ids": [[f"g{row}"] if row % 2 else [] for row in range(n_candidates)],
        }
    )
    logits = generator.normal(size=(n_queries, n_candidates))
    return queries, candidates, (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


def test_the_report_equals_loops() -> None:
    queries, candidates, log_posterior = example()
    places = candidates[["lat_deg", "lon_deg"]].to_numpy()
    evaluation = measure(queries, candidates, [log_posterior], ESTIMATORS, places, QUICK)
    report, frame = evaluation.report, evaluation.predictions
    answerable = hits = 0
    reciprocal = alignment = mass_gap = 0.0
    for row, query in queries.iterrows():
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
        alignment += sum(candidates["city"][index] == query.city for index in order[:5]) / 5
        around = [i for i, place in enumerate(places) if geodesic_m([places[best]], [place])[0] <= 25.0]
        mass_gap = max(mass_gap, abs(frame["probability"][row] - sum(np.exp(scores[i]) for i in around)))
    assert mass_gap < 1e-5
    assert report.n_queries == 30
    assert report.n_answerable == answerable
    assert 0 < answerable < 30  # the example must contain both cases
    assert report.gallery_size == 50
    assert report.gallery_photographs == 25
    assert report.recall_at_k_25m["5"] == pytest.approx(hits / 30)
    assert report.mrr_25m == pytest.approx(reciprocal / 30)
    assert report.city_alignment_at_k["5"] == pytest.approx(alignment / 30)
    assert report.error_m.median == pytest.approx(float(np.median(frame["error_m"])))
    assert report.estimators["argmax"].error_m == report.error_m
    assert set(report.by_region) == {"Leeds", "York"}


def test_the_report_is_strict_json_without_nan() -> None:
    queries, candidates, log_posterior = example()
    report = measure(queries, candidates, [log_posterior], ESTIMATORS, np.zeros((0, 2)), QUICK).report
    text = json.dumps(report.as_dict(), allow_nan=False)
    assert report_of(json.loads(text)) == report


def test_the_report_is_invariant_to_chunks() -> None:
    queries, candidates, log_posterior = example()
    whole = measure(queries, candidates, [log_posterior], ESTIMATORS, np.zeros((0, 2)), QUICK)
    parts = measure(queries, candidates, np.split(log_posterior, [1, 8, 20]), ESTIMATORS, np.zeros((0, 2)), QUICK)
    assert parts.report == whole.report
    pd.testing.assert_frame_equal(parts.predictions, whole.predictions)


def test_figures_are_invariant_to_the_order_of_candidates() -> None:
    queries, candidates, log_posterior = example()
    order = np.random.default_rng(9).permutation(len(candidates))
    whole = measure(queries, candidates, [log_posterior], ESTIMATORS, np.zeros((0, 2)), QUICK).report
    moved = measure(
        queries, candidates.iloc[order], [log_posterior[:, order]], ESTIMATORS, np.zeros((0, 2)), QUICK
    ).report
    assert dict(moved.error_m) == pytest.approx(dict(whole.error_m))
    for name in ("accuracy_within_m", "recall_at_k_25m", "mrr_25m", "city_alignment_at_k", "n_answerable"):
        assert getattr(moved, name) == pytest.approx(getattr(whole, name))


def test_figures_are_invariant_to_the_order_of_queries() -> None:
    queries, candidates, log_posterior = example()
    order = np.random.default_rng(9).permutation(len(queries))
    whole = measure(queries, candidates, [log_posterior], ESTIMATORS, np.zeros((0, 2)), QUICK)
    moved = measure(queries.iloc[order], candidates, [log_posterior[order]], ESTIMATORS, np.zeros((0, 2)), QUICK)
    assert dict(moved.report.error_m) == pytest.approx(dict(whole.report.error_m))
    for name in ("accuracy_within_m", "recall_at_k_25m", "mrr_25m"):
        assert getattr(moved.report, name) == pytest.approx(getattr(whole.report, name))
    assert moved.predictions["error_m"].tolist() == whole.predictions["error_m"].iloc[order].tolist()


def test_a_perfect_system_has_no_errors() -> None:
    queries, candidates, _ = example()
    candidates = candidates.head(len(queries)).copy()
    candidates[["lat_deg", "lon_deg"]] = queries[["lat_deg", "lon_deg"]].to_numpy()
    perfect = np.log(np.full((30, 30), 1e-6) + np.eye(30)).astype(np.float32)
    report = measure(queries, candidates, [perfect], ESTIMATORS, np.zeros((0, 2)), QUICK).report
    assert report.error_m.worst5_mean == 0.0
    assert report.recall_at_k_25m["1"] == report.mrr_25m == report.accuracy_within_m["10"] == 1.0
    assert report.baselines.floor.mean == 0.0
    assert report.intervals.error_m.median == [0.0, 0.0]


def test_hits_are_within_the_geodesic_radius_inclusive() -> None:
    candidates = LocalFrame(60.0, 10.0).to_deg([[0.0, 0.0], [24.9, 0.0], [25.2, 0.0], [0.0, 24.9], [0.0, 25.2]])
    hits_ = hits_within([[60.0, 10.0]], candidates, 25.0)[0]
    exact = [row for row in range(5) if geodesic_m([[60.0, 10.0]], candidates[row : row + 1])[0] <= 25.0]
    assert hits_.tolist() == exact
    edge = float(geodesic_m([[60.0, 10.0]], candidates[1:2])[0])
    assert 1 in hits_within([[60.0, 10.0]], candidates, edge)[0].tolist()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda a, c, p: (a.head(0), c, [p]), InputError, "no queries"),
        (lambda a, c, p: (a, c.head(0), [p[:, :0]]), InputError, "no candidates"),
        (lambda a, c, p: (a, c, [p[:, :-1]]), ArtefactError, "shape"),
        (lambda a, c, p: (a, c, [p[:-1]]), ArtefactError, "29 of 30"),
        (lambda a, c, p: (a, c, [p, p[:1]]), ArtefactError, "shape"),
        (lambda a, c, p: (a, c, [np.where(p == p[3, 4], np.nan, p)]), ArtefactError, "query 3.*not numbers"),
    ],
)
def test_invalid_input_is_refused(change: Any, error: type[Exception], message: str) -> None:
    queries, candidates, posteriors = change(*example())
    with pytest.raises(error, match=message):
        measure(queries, candidates, posteriors, ESTIMATORS, np.zeros((0, 2)), QUICK)


def test_an_unknown_estimator_is_refused() -> None:
    queries, candidates, log_posterior = example()
    with pytest.raises(ConfigError, match="'mode'"):
        measure(queries, candidates, [log_posterior], ESTIMATORS, np.zeros((0, 2)), MeasureConfig(estimator="mode"))


def test_districts_by_city_or_by_cell() -> None:
    positions = [[53.8, -1.55], [53.8, -1.55], [55.9, -4.2]]
    assert district_labels(["York", None, "Bath"], positions) == ["York", "unknown", "Bath"]
    assert district_labels([None] * 3, positions) == ["all"] * 3
    cells = district_labels(["York"] * 3, positions, "cells:8")
    assert cells[0] == cells[1] != cells[2]
    for wrong in ("street", "cells", "cells:", "cells:16", "cells:x"):
        with pytest.raises(ConfigError, match="cells:RES"):
            district_labels([None], [[0.0, 0.0]], wrong)


def test_blocks_are_the_first_kind_that_splits_the_queries() -> None:
    positions = np.array([[53.8, -1.55], [53.8, -1.55], [53.9, -1.55]])
    frame = pd.DataFrame({"block_id": ["a", "a", "b"], "place_id": ["1", "2", "3"]})
    assert resampling_blocks(frame, positions) == (["a", "a", "b"], "block_id")
    assert resampling_blocks(frame.assign(block_id=[None, "a", "b"]), positions)[1] == "place_id"
    assert resampling_blocks(frame.assign(block_id="a", place_id=None), positions)[1].startswith("H3 cell")
    assert resampling_blocks(frame.assign(block_id="a", place_id="p"), positions[[0, 0, 0]])[1] == "photograph"


def test_predictions_are_read_by_geopandas_and_read_predictions(tmp_path: Any) -> None:
    import geopandas

    queries, candidates, log_posterior = example()
    frame = measure(queries, candidates, [log_posterior], ESTIMATORS, np.zeros((0, 2)), QUICK).predictions
    write_predictions(tmp_path / "predictions.parquet", frame)
    opened = geopandas.read_parquet(tmp_path / "predictions.parquet")
    assert opened.crs.to_epsg() == 4326
    assert opened.geometry.x.tolist() == frame["lon_deg"].tolist()
    assert opened.geometry.y.tolist() == frame["lat_deg"].tolist()
    back = read_predictions(tmp_path / "predictions.parquet")
    assert back["error_m"].tolist() == frame["error_m"].tolist()
    assert back["rank_25m"].isna().tolist() == frame["rank_25m"].isna().tolist()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["predictions.parquet"]


def test_truncated_or_missing_predictions_are_refused(tmp_path: Any) -> None:
    path = tmp_path / "predictions.parquet"
    with pytest.raises(ArtefactError, match="is missing"):
        read_predictions(path)
    queries, candidates, log_posterior = example()
    write_predictions(
        path, measure(queries, candidates, [log_posterior], ESTIMATORS, np.zeros((0, 2)), QUICK).predictions
    )
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ArtefactError, match=r"predictions\.parquet.*cannot be read"):
        read_predictions(path)
