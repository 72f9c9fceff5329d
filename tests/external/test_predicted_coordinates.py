"""Predicted coordinates of other tools: figures against loops, file formats, unanswered queries, errors."""

from __future__ import annotations

import json
import shlex
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import swclip
from swclip.api.evaluations import evaluate_predictions
from swclip.cli.app import run
from swclip.data.manifest import read_manifest, write_manifest
from swclip.data.splits import candidates_for, indices, read_splits
from swclip.errors import ConfigError, InputError
from swclip.evaluation.measure import MeasureConfig
from swclip.evaluation.report import read_report, report_of
from swclip.evaluation.result import COLUMNS, read_predictions
from swclip.external.ground_truth import names_of
from swclip.external.predicted_coordinates import EMPTY, NO_ROW, ZERO, read_predicted_coordinates
from swclip.geo.coordinates import LocalFrame
from swclip.geo.distance import geodesic_m
from swclip.metrics.baselines import Baselines

QUICK = MeasureConfig(resamples=100)


def table(n: int = 12, seed: int = 0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    truth = LocalFrame(53.8, -1.55).to_deg(generator.uniform(-400, 400, (n, 2)))
    predicted = LocalFrame(53.8, -1.55).to_deg(LocalFrame(53.8, -1.55).to_xy_m(truth) + generator.normal(0, 60, (n, 2)))
    return pd.DataFrame(
        {
            "image_id": [f"q{row}" for row in range(n)],
            "lat": truth[:, 0],
            "lon": truth[:, 1],
            "pred_lat": predicted[:, 0],
            "pred_lon": predicted[:, 1],
            "city": ["Leeds" if row % 3 else "York" for row in range(n)],
        }
    )


def test_figures_equal_loops() -> None:
    frame = table()
    result = evaluate_predictions(frame, config=QUICK)
    errors = [float(geodesic_m([[row.lat, row.lon]], [[row.pred_lat, row.pred_lon]])[0]) for row in frame.itertuples()]
    assert result.predictions["error_m"].tolist() == pytest.approx(errors)
    report = result.report
    assert report.error_m.median == pytest.approx(sorted(errors)[5] / 2 + sorted(errors)[6] / 2)
    assert report.accuracy_within_m["50"] == sum(error <= 50.0 for error in errors) / 12
    assert report.by_region["York"].n == 4


def test_figures_that_need_a_posterior_or_gallery_are_null() -> None:
    result = evaluate_predictions(table(), config=QUICK)
    report = result.report
    for key in (
        "n_answerable",
        "gallery_size",
        "mrr_25m",
        "ndcg_at_k",
        "city_alignment_at_k",
        "calibration",
        "posterior",
    ):
        assert getattr(report, key) is None
    assert report.levels == {}
    assert report.geoscore == pytest.approx(result.predictions["geoscore"].mean())
    assert report.regional.n_regions == 2
    # Spatial statistics of the errors need no embeddings.
    assert report.spatial.errors_moran.n == sum(report.spatial.lisa.counts.values()) == 12
    assert result.predictions["lisa"].notna().all()
    for key in ("components", "correlogram", "mantel", "smoothness"):
        assert getattr(report.spatial, key) is None
    assert report.baselines == Baselines(floor=None, constant=None, random=None)
    assert report.recall_at_k_25m["1"] is not None
    assert [report.recall_at_k_25m[k] for k in ("5", "10", "20")] == [None] * 3
    assert result.predictions[["floor_m", "probability", "top1_candidate_id", "city_predicted"]].isna().all().all()
    assert report_of(json.loads(json.dumps(report.as_dict(), allow_nan=False))) == report


def test_a_gallery_gives_the_oracle_error() -> None:
    frame = table()
    gallery = pd.DataFrame({"lat": frame["lat"] + 1e-4, "lon": frame["lon"]})
    report = evaluate_predictions(frame, gallery=gallery, config=QUICK).report
    nearest = []
    for row in frame.itertuples():
        position = np.broadcast_to([row.lat, row.lon], (12, 2))
        nearest.append(float(geodesic_m(position, gallery.to_numpy()).min()))
    assert report.baselines.floor.median == pytest.approx(float(np.median(nearest)))
    assert (report.gallery_size, report.n_answerable) == (12, 12)
    assert report.baselines.random.draws == 100


def test_unanswered_queries_are_counted_and_not_measured(tmp_path: Path) -> None:
    frame = table()
    whole = evaluate_predictions(frame.iloc[3:], config=QUICK).report
    frame.loc[0, ["pred_lat", "pred_lon"]] = None
    frame.loc[1, ["pred_lat", "pred_lon"]] = 0.0
    frame.loc[2, ["pred_lat", "pred_lon"]] = np.nan
    result = evaluate_predictions(frame, config=QUICK)
    report = result.report
    assert report.error_m == whole.error_m
    missing = report.unanswered
    assert (missing.n_asked, missing.n, missing.share_answered) == (12, 3, 0.75)
    assert missing.reasons == {EMPTY: 2, ZERO: 1}
    assert missing.queries == [["q0", EMPTY], ["q1", ZERO], ["q2", EMPTY]]
    assert missing.accuracy_within_m_of_asked["100"] == pytest.approx(0.75 * report.accuracy_within_m["100"])
    result.save(tmp_path / "out", title="<b>GeoCLIP</b>")
    assert pd.read_csv(tmp_path / "out" / "unanswered.csv").to_numpy().tolist() == missing.queries
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;GeoCLIP" in page
    assert "<b>GeoCLIP" not in page
    assert "9 of 12" in page
    assert (
        read_predictions(tmp_path / "out" / "predictions.parquet")["image_id"].tolist()
        == frame["image_id"].tolist()[3:]
    )
    assert not (tmp_path / "out" / "figures" / "reliability.png").exists()
    evaluate_predictions(table(), config=QUICK).save(tmp_path / "out")
    assert not (tmp_path / "out" / "unanswered.csv").exists()


@pytest.mark.parametrize("kind", ["csv", "parquet", "geoparquet", "geojson", "frame", "geoframe"])
def test_all_formats_give_the_same_figures(tmp_path: Path, kind: str) -> None:
    frame = table()
    expected = evaluate_predictions(frame, config=QUICK).report.error_m
    answers = geopandas.points_from_xy(frame["pred_lon"], frame["pred_lat"], crs="EPSG:4326")
    geometry = geopandas.GeoDataFrame(frame.drop(columns=["pred_lat", "pred_lon"]), geometry=answers)
    source: Any = tmp_path / f"answers.{kind}"
    if kind == "csv":
        frame.to_csv(source, index=False)
    elif kind == "parquet":
        frame.to_parquet(source)
    elif kind == "geoparquet":
        geometry.to_crs(32630).to_parquet(source)
    elif kind == "geojson":
        geometry.to_file(source, driver="GeoJSON")
    else:
        source = frame if kind == "frame" else geometry
    result = evaluate_predictions(source, config=QUICK).report.error_m
    assert dict(result) == pytest.approx(dict(expected), abs=1e-6)


def test_a_geometry_with_predicted_columns_is_the_truth() -> None:
    frame = table()
    truth = geopandas.points_from_xy(frame["lon"], frame["lat"], crs="EPSG:4326")
    geometry = geopandas.GeoDataFrame(frame.drop(columns=["lat", "lon"]), geometry=truth)
    result = evaluate_predictions(geometry, config=QUICK).report.error_m
    assert dict(result) == pytest.approx(dict(evaluate_predictions(frame, config=QUICK).report.error_m))


def ranked(frame: pd.DataFrame, generator: np.random.Generator, answers: int) -> pd.DataFrame:
    local = LocalFrame(53.8, -1.55)
    parts = []
    for rank in range(1, answers + 1):
        xy = local.to_xy_m(frame[["lat", "lon"]].to_numpy()) + generator.normal(0, 40, (len(frame), 2))
        predicted = local.to_deg(xy)
        parts.append(frame.assign(pred_lat=predicted[:, 0], pred_lon=predicted[:, 1], rank=rank))
    return pd.concat(parts, ignore_index=True)


def test_ranked_answers_give_recall_up_to_their_length() -> None:
    generator = np.random.default_rng(3)
    rows = ranked(table(), generator, 7)
    result = evaluate_predictions(rows, config=QUICK)
    hits = {1: 0, 5: 0}
    for _, group in rows.groupby("image_id"):
        near = geodesic_m(group[["lat", "lon"]].to_numpy(), group[["pred_lat", "pred_lon"]].to_numpy()) <= 25.0
        for k in hits:
            hits[k] += bool(near[group["rank"].to_numpy() <= k].any())
    recall = result.report.recall_at_k_25m
    assert (recall["1"], recall["5"], recall["10"]) == (hits[1] / 12, hits[5] / 12, None)
    assert 0 < hits[1] < hits[5]
    shuffled = rows.sample(frac=1.0, random_state=1)
    again = evaluate_predictions(shuffled, config=QUICK)
    assert again.report.recall_at_k_25m == recall
    assert sorted(again.predictions["error_m"]) == pytest.approx(sorted(result.predictions["error_m"]))


@pytest.fixture(scope="module")
def in_order() -> dict[str, Any]:
    return evaluate_predictions(table(), config=MeasureConfig(resamples=10)).report


@given(order=st.permutations(range(12)))
@settings(max_examples=8)
def test_figures_are_invariant_to_the_order_of_rows(in_order: dict[str, Any], order: list[int]) -> None:
    frame, one = table(), in_order
    two = evaluate_predictions(frame.iloc[order], config=MeasureConfig(resamples=10)).report
    assert dict(two.error_m) == pytest.approx(dict(one.error_m))
    assert two.accuracy_within_m == one.accuracy_within_m


def test_only_the_order_of_confidences_matters() -> None:
    frame = table(40)
    error = evaluate_predictions(frame, config=QUICK).predictions["error_m"].to_numpy()
    ordered = evaluate_predictions(frame.assign(confidence=-error), config=QUICK).report.confidence
    assert ordered.selective.n == [10, 20, 30, 40]
    assert ordered.selective.median_m == pytest.approx(
        [float(np.median(np.sort(error)[:count])) for count in (10, 20, 30, 40)]
    )
    scaled = evaluate_predictions(frame.assign(confidence=100.0 - 3.0 * error), config=QUICK).report.confidence
    assert scaled == ordered
    flat = evaluate_predictions(frame.assign(confidence=0.9), config=QUICK).report.confidence.selective.median_m
    assert flat[0] == pytest.approx(float(np.median(np.sort(error)[-10:])))
    assert evaluate_predictions(frame, config=QUICK).report.confidence is None


def test_truth_from_a_manifest_and_its_splits(town: Path) -> None:
    manifest, splits = read_manifest(town), read_splits(town)
    queries = manifest.frame.iloc[indices(splits, manifest, "query")]
    # By file name; one query has no row, and one row is not of a query.
    rows = pd.DataFrame({"file": queries["image_path"].tolist()[1:], "lat_pred": 53.8, "lon_pred": -1.55})
    rows.loc[len(rows)] = ["p01-1.jpg", 53.8, -1.55]
    result = evaluate_predictions(rows, manifest=manifest, splits=splits, config=QUICK)
    report = result.report
    assert report.n_queries == len(queries) - 1
    assert report.unanswered.queries == [[queries["image_id"].tolist()[0], NO_ROW]]
    assert report.gallery_size == len(candidates_for(splits, "query"))
    assert "1 rows of the table are of photographs that are not queries" in report.made_with["bridge"]["notes"][0]
    assert report.made_with["splits"]["protocol"] == "known-places"
    truth = queries[["lat_deg", "lon_deg"]].to_numpy()[1:]
    expected = geodesic_m(truth, np.broadcast_to([53.8, -1.55], truth.shape))
    assert result.predictions["error_m"].tolist() == pytest.approx(expected.tolist())
    no_splits = evaluate_predictions(rows, manifest=manifest, config=QUICK).report
    assert (no_splits.n_queries, no_splits.n_unanswered, no_splits.baselines.floor) == (
        len(queries),
        0,
        None,
    )


def test_true_positions_of_a_manifest_are_the_truth(tmp_path: Path, town: Path) -> None:
    manifest = read_manifest(town)
    frame = manifest.frame.assign(
        true_lat_deg=53.9, true_lon_deg=-1.5, image_path=[str(p) for p in manifest.image_paths]
    )
    moved = write_manifest(tmp_path, frame)
    rows = pd.DataFrame({"id": ["p00-0"], "predicted_lat": [53.9], "predicted_lon": [-1.5]})
    result = evaluate_predictions(rows, manifest=moved, config=QUICK)
    assert result.report.truth.position == "true"
    assert result.report.error_m.median == 0.0


def test_the_output_of_locate_is_read(town: Path) -> None:
    header = "photograph,rank,candidate_id,lat_deg,lon_deg,probability,distance_m,city,image_ids,answer_lat_deg,"
    header += "answer_lon_deg,answer_probability_within_50m,estimator,error"
    lines = [f"p00-0.jpg,{rank},c{rank},53.{rank},-1.5,0.5,3,Leeds,,53.8,-1.55,0.5,mode," for rank in (1, 2, 3)]
    rows = pd.read_csv(StringIO("\n".join([header, *lines])))
    manifest = read_manifest(town)
    result = evaluate_predictions(rows, manifest=manifest, config=QUICK)
    at = manifest.frame.set_index("image_id").loc["p00-0"]
    assert result.predictions["error_m"].tolist() == pytest.approx(
        geodesic_m([[at["lat_deg"], at["lon_deg"]]], [[53.8, -1.55]]).tolist()
    )
    with pytest.raises(InputError, match="manifest"):
        evaluate_predictions(rows, config=QUICK)  # lat_deg and lon_deg are of a candidate, not the truth


def changed(**columns: Any) -> pd.DataFrame:
    return table().assign(**columns)


def at_row(column: str, row: int, value: Any) -> pd.DataFrame:
    frame = table().astype(object)
    frame.loc[row, column] = value
    return frame


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (
            at_row("pred_lat", 4, "north"),
            "row 5, column 'pred_lat': the predicted position: .*'north' is not a number",
        ),
        (at_row("pred_lat", 4, 95.0), r"row 5, column 'pred_lat': the predicted position \(95, "),
        (at_row("pred_lon", 4, None), "row 5, column 'pred_lon': the predicted position has one coordinate"),
        (at_row("lat", 4, None), "row 5, column 'lon'|row 5, column 'lat': the true position has one coordinate"),
        (at_row("image_id", 4, ""), "row 5, column 'image_id': the id is empty"),
        (at_row("image_id", 4, "q1"), r"row 5, column 'image_id': 'q1' occurs twice \(row 2\).*rank"),
        (changed(rank=1, image_id="q"), "row 2, column 'rank': 'q' has two answers of rank 1"),
        (changed(rank=0), "row 1, column 'rank': a rank is 1, 2, 3"),
        (changed(rank=[1, 2] * 6, image_id=[f"q{i // 2}" for i in range(12)]), "the true position differs"),
        (table().drop(columns="pred_lat"), "no column for 'predicted_lat'.*--column predicted_lat="),
        (table().drop(columns="lat"), "no column for 'lat'.*manifest"),
        (changed(latitude=1.0), "'lat' and 'latitude' could each be the lat"),
        (changed(pred_lat=None, pred_lon=None), "none of the 12 queries has an answer"),
        (table().iloc[:0], "has no rows"),
    ],
)
def test_errors_name_the_row_and_what_to_do(frame: pd.DataFrame, message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate_predictions(frame, config=QUICK)


def test_an_empty_true_position_is_refused() -> None:
    frame = table()
    frame.loc[3, ["lat", "lon"]] = None
    with pytest.raises(InputError, match="row 4, column 'lat': the true position is empty"):
        evaluate_predictions(frame, config=QUICK)


def test_swapped_columns_are_refused() -> None:
    frame = table().rename(columns={"pred_lat": "pred_lon", "pred_lon": "pred_lat"})
    with pytest.raises(InputError, match="look swapped: in 12 of 12 rows the prediction is near the truth only if"):
        evaluate_predictions(frame, config=QUICK)
    far = table().assign(pred_lat=151.2, pred_lon=-33.8)
    with pytest.raises(InputError, match="look swapped: in 12 of 12 rows the latitude is beyond 90"):
        evaluate_predictions(far, config=QUICK)
    turned = evaluate_predictions(
        frame, columns={"predicted_lat": "pred_lon", "predicted_lon": "pred_lat"}, config=QUICK
    ).report
    assert turned.error_m == evaluate_predictions(table(), config=QUICK).report.error_m


def test_columns_by_name() -> None:
    frame = table().rename(columns={"pred_lat": "why", "pred_lon": "ex"})
    named = {"predicted_lat": "why", "predicted_lon": "ex"}
    assert evaluate_predictions(frame, columns=named, config=QUICK).report.n_queries == 12
    with pytest.raises(InputError, match="--column predicted_lat= wy: there is no such column; did you mean 'why'"):
        evaluate_predictions(frame, columns={**named, "predicted_lat": "wy"}, config=QUICK)
    with pytest.raises(InputError, match="the role does not exist"):
        evaluate_predictions(frame, columns={**named, "height": "ex"}, config=QUICK)


def test_an_unknown_photograph_is_refused(town: Path) -> None:
    manifest = read_manifest(town)
    rows = pd.DataFrame({"id": ["p00-0", "nowhere"], "predicted_lat": 53.8, "predicted_lon": -1.5})
    with pytest.raises(InputError, match="row 2, column 'id': 'nowhere' is not an image_id"):
        evaluate_predictions(rows, manifest=manifest, config=QUICK)
    twice = pd.DataFrame({"id": ["p00-0", "p00-0.jpg"], "predicted_lat": 53.8, "predicted_lon": -1.5})
    with pytest.raises(InputError, match=r"row 2, column 'id': 'p00-0\.jpg' and 'p00-0' are the same photograph"):
        evaluate_predictions(twice, manifest=manifest, config=QUICK)


def test_photographs_are_identified_by_the_end_of_their_path(tmp_path: Path) -> None:
    paths = ["a/x/1.jpg", "a/y/1.jpg", "a/y/2.jpg"]
    rows = {"image_id": ["p", "q", "x/1"], "image_path": paths, "lat_deg": 53.8, "lon_deg": [-1.5, -1.6, -1.7]}
    image_id_of = names_of(write_manifest(tmp_path / "data", pd.DataFrame(rows)))
    assert [image_id_of.get(name) for name in ("a/x/1.jpg", "a/x/1", "y/1.jpg", "2.jpg", "2")] == [
        "p",
        "p",
        "q",
        "x/1",
        "x/1",
    ]
    assert image_id_of["x/1"] == "x/1"  # an image_id takes precedence over a path
    assert image_id_of[str(tmp_path.resolve() / "data" / "a" / "y" / "2.jpg")] == "x/1"
    assert "1.jpg" not in image_id_of  # the name of two photographs
    assert "b/x/1.jpg" not in image_id_of


def test_incompatible_options_are_refused(town: Path) -> None:
    splits, manifest = read_splits(town), read_manifest(town)
    with pytest.raises(ConfigError, match="manifest"):
        evaluate_predictions(table(), splits=splits)
    with pytest.raises(ConfigError, match="give one of them"):
        evaluate_predictions(table(), splits=splits, manifest=manifest, gallery=table())
    with pytest.raises(InputError, match="does not exist"):
        evaluate_predictions("nowhere.csv")


def test_a_malformed_line_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    path.write_text("id,lat,lon,pred_lat,pred_lon\na,1,2,1,2\nb,1,2,1\n")
    with pytest.raises(InputError, match="row 3: has 4 fields, the header has 5"):
        evaluate_predictions(path)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    frame = table()
    frame.loc[0, ["pred_lat", "pred_lon"]] = None
    frame.to_csv(tmp_path / "geoclip.csv", index=False)
    out = tmp_path / "out"
    arguments = ["evaluate", f"--predictions={tmp_path / 'geoclip.csv'}", f"--out={out}", "--resamples=50"]
    monkeypatch.setattr(sys, "argv", ["swclip", *arguments])
    assert run(arguments) == 0
    printed = capsys.readouterr()
    assert printed.out.strip() == str(out / "report.json")
    assert "1 of 12 queries were not answered" in printed.err
    assert "unknown gallery" in printed.err
    assert "<h1>geoclip</h1>" in (out / "report.html").read_text(encoding="utf-8")
    report = read_report(out / "report.json")
    stated = ["evaluate", f"--predictions={tmp_path.name}/geoclip.csv", f"--out={tmp_path.name}/out", "--resamples=50"]
    assert report.made_with["command"] == shlex.join(["swclip", *stated])
    assert list(read_predictions(out / "predictions.parquet").columns) == list(COLUMNS)
    for arguments, code in (
        ([f"--out={out}"], 5),
        ([f"--out={out}", f"--predictions={tmp_path / 'geoclip.csv'}", "--crs=EPSG:32650"], 5),
        ([f"--out={out}", f"--predictions={tmp_path / 'geoclip.csv'}", "--column=lat"], 5),
        ([f"--out={out}", "--predictions=nowhere.csv"], 2),
    ):
        assert run(["evaluate", *arguments]) == code


def test_the_public_functions_are_the_same() -> None:
    assert swclip.evaluate_predictions is evaluate_predictions
    predicted = read_predicted_coordinates(table())
    assert predicted.answered.all()
    assert predicted.answers_deg.shape == (12, 1, 2)
