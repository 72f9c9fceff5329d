"""Evaluation of a small model on splits of generated photographs, as a function and as a command."""

from __future__ import annotations

import dataclasses
import errno
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from fixtures.models import tiny_model
from swclip.calibration.conformal import Calibration, write_calibration
from swclip.calibration.in_area import InArea
from swclip.calibration.posterior_config import PosteriorConfig, write_posterior
from swclip.cli.evaluate import evaluate as evaluate_command
from swclip.data.manifest import Manifest, write_manifest
from swclip.data.protocols import split
from swclip.data.splits import Splits, candidates_for, indices, read_splits
from swclip.errors import ArtefactError, ConfigError, DiskFullError, InputError, MismatchError
from swclip.evaluation.evaluate import EmbedConfig, evaluate
from swclip.evaluation.measure import MeasureConfig
from swclip.evaluation.report import Truth, read_report, report_of
from swclip.files import write_json
from swclip.geo.coordinates import LocalFrame
from swclip.geo.distance import geodesic_m
from swclip.models.locator_model import LocatorModel
from swclip.training.run import RunFacts

PHOTOGRAPHS = 60
QUICK = MeasureConfig(estimator="argmax", resamples=30)


def photograph_folder(folder: Path, **columns: Any) -> Manifest:
    generator = np.random.default_rng(0)
    positions = LocalFrame(52.4, 0.26).to_deg(generator.uniform(-250, 250, (PHOTOGRAPHS, 2)))
    ids = [f"i{row:02d}" for row in range(PHOTOGRAPHS)]
    folder.mkdir(parents=True, exist_ok=True)
    for name in ids:
        pixels = generator.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((48, 40)).save(folder / f"{name}.jpg")
    frame = pd.DataFrame({"image_id": ids, "lat_deg": positions[:, 0], "lon_deg": positions[:, 1], **columns})
    frame["city"] = ["Ely" if row % 2 else "March" for row in range(PHOTOGRAPHS)]
    return write_manifest(folder, frame.assign(image_path=[f"{name}.jpg" for name in ids]))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return photograph_folder(tmp_path_factory.mktemp("photographs"))


@pytest.fixture(scope="module")
def splits(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Splits:
    draft = split(manifest, "known-places", query_share=0.3, val_share=0.2, seed=0)
    return draft.write(tmp_path_factory.mktemp("splits") / "splits.parquet")


@pytest.fixture(scope="module")
def model(manifest: Manifest) -> LocatorModel:
    return tiny_model(manifest.positions_deg)


@pytest.fixture
def run(model: LocatorModel, manifest: Manifest, splits: Splits, tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    model.save(folder / "model")
    write_posterior(folder / "model", PosteriorConfig(image_weight=0.3))
    facts = RunFacts(str(manifest.path), manifest.digest, str(splits.path), "sw-clip", 7, "finished")
    write_json(folder / "run.json", dataclasses.asdict(facts))
    return folder


def test_argmax_is_the_position_with_the_most_similar_embedding(
    model: LocatorModel, manifest: Manifest, splits: Splits
) -> None:
    evaluation = evaluate(model, manifest, splits, posterior=PosteriorConfig(image_weight=0.0), config=QUICK)
    places = candidates_for(splits, "query")[["lat_deg", "lon_deg"]].to_numpy()
    with torch.no_grad():
        locations = model.position_embeddings(torch.tensor(places))
        for place, row in enumerate(indices(splits, manifest, "query")):
            pixels = torch.from_numpy(model.preprocess.read(manifest.image_paths[row]))[None]
            best = int((model.encode_pixels(pixels) @ locations.T).argmax())
            predicted = evaluation.predictions.iloc[place]
            assert predicted["image_id"] == manifest.frame["image_id"][row]
            assert (predicted["predicted_lat_deg"], predicted["predicted_lon_deg"]) == tuple(places[best])
            truth = manifest.positions_deg[row]
            assert predicted["error_m"] == pytest.approx(float(geodesic_m(truth, places[best])[0]))


def test_the_report_is_complete(model: LocatorModel, manifest: Manifest, splits: Splits) -> None:
    counts: list[tuple[int, int]] = []
    evaluation = evaluate(
        model,
        manifest,
        splits,
        posterior=PosteriorConfig(),
        config=MeasureConfig(resamples=30),
        embedding=EmbedConfig(batch_size=7, workers=1),
        command="swclip evaluate",
        progress=lambda done, total: counts.append((done, total)),
    )
    report = report_of(json.loads(json.dumps(evaluation.report.as_dict(), allow_nan=False)))
    queries = indices(splits, manifest, "query")
    assert report.n_queries == len(queries) == len(evaluation.predictions)
    assert report.gallery_size == len(candidates_for(splits, "query"))
    assert {"10", "25", "50", "100", "250", "500", "1000"} <= set(report.accuracy_within_m)
    assert set(report.recall_at_k_25m) == {"1", "5", "10", "20"}
    assert report.baselines.floor is not None
    assert report.baselines.random is not None
    assert set(report.by_region) == {"Ely", "March"}
    assert set(report.estimators) == {"mode", "argmax", "geometric-median"}
    assert report.estimator == "mode"
    assert report.version == "2"
    assert report == evaluation.report
    assert report.truth.position == "recorded"
    made = report.made_with
    assert made["manifest"]["digest"] == manifest.digest
    assert made["model"] == model.fingerprint
    assert made["splits"]["protocol"] == "known-places"
    assert made["command"] == "swclip evaluate"
    assert counts[-1][0] == counts[-1][1] == report.gallery_photographs + len(queries)
    assert [done for done, _ in counts] == sorted(done for done, _ in counts)


def test_validation_queries_are_not_in_their_gallery(model: LocatorModel, manifest: Manifest, splits: Splits) -> None:
    evaluation = evaluate(model, manifest, splits, on="val", posterior=PosteriorConfig(image_weight=1.0), config=QUICK)
    query_ids = set(evaluation.predictions["image_id"])
    assert query_ids == {manifest.frame["image_id"][row] for row in indices(splits, manifest, "val")}
    assert query_ids.isdisjoint(image_id for ids in evaluation.candidates["image_ids"] for image_id in ids)
    assert set(evaluation.predictions["split"]) == {"val"}


def test_errors_are_measured_against_true_positions_where_available(model: LocatorModel, tmp_path: Path) -> None:
    plain = photograph_folder(tmp_path / "photographs")
    shifted = plain.positions_deg + np.array([0.001, 0.0])
    columns = {"true_lat_deg": shifted[:, 0], "true_lon_deg": shifted[:, 1]}
    manifest = photograph_folder(tmp_path / "photographs", **columns)
    splits = split(manifest, "known-places", query_share=0.3, seed=0).write(tmp_path / "splits.parquet")
    evaluation = evaluate(model, manifest, splits, config=QUICK)
    assert evaluation.report.truth == Truth(position="true", columns="true_lat_deg, true_lon_deg")
    rows = indices(splits, manifest, "query")
    assert evaluation.predictions["lat_deg"].tolist() == shifted[rows, 0].tolist()
    assert evaluation.report.posterior["fitted"] is False
    columns["true_lat_deg"] = np.where(np.arange(PHOTOGRAPHS) == rows[2], np.nan, columns["true_lat_deg"])
    broken = photograph_folder(tmp_path / "photographs", **columns)
    with pytest.raises(InputError, match=f"'{manifest.frame['image_id'][rows[2]]}' has no true_lat_deg"):
        evaluate(model, broken, splits, config=QUICK)


def test_splits_without_validation_queries_are_refused(model: LocatorModel, manifest: Manifest, tmp_path: Path) -> None:
    splits = split(manifest, "known-places", val_share=0.0, seed=0).write(tmp_path / "none.parquet")
    with pytest.raises(InputError, match=r"none\.parquet: no photograph is in split 'val'"):
        evaluate(model, manifest, splits, on="val", config=QUICK)


def test_splits_of_another_manifest_are_refused(model: LocatorModel, splits: Splits, tmp_path: Path) -> None:
    moved = photograph_folder(tmp_path / "photographs")
    frame = moved.frame.assign(lat_deg=moved.frame["lat_deg"] + 0.01)
    other = write_manifest(tmp_path / "photographs", frame)
    with pytest.raises(MismatchError):
        evaluate(model, other, splits, config=QUICK)


def test_the_command_writes_its_files(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import geopandas

    out = tmp_path / "evaluation"
    evaluate_command(run, out=out, resamples=30)
    names = ["figures", "predictions.parquet", "report.html", "report.json"]
    assert sorted(path.name for path in out.iterdir()) == names
    figures = {path.name for path in (out / "figures").iterdir()}
    assert {f"{name}.{kind}" for name in ("error-curve", "map", "reliability") for kind in ("png", "svg")} <= figures
    report = read_report(out / "report.json")
    assert report.posterior["fitted"] is True
    assert report.posterior["image_weight"] == 0.3
    assert report.made_with["run"]["seed"] == 7
    predictions = geopandas.read_parquet(out / "predictions.parquet")
    assert len(predictions) == report.n_queries
    assert predictions["error_m"].median() == pytest.approx(report.error_m.median)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<h1>sw-clip</h1>" in page
    assert "data:image/jpeg" in page
    printed = capsys.readouterr()
    assert printed.out.strip() == str(out / "report.json")
    assert "argmax" in printed.err


def test_the_command_options_are_used(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "evaluation"
    evaluate_command(run, out=out, on="val", estimator="argmax", regions="cells:9", resamples=20, photographs=False)
    report = read_report(out / "report.json")
    assert (report.on, report.estimator, report.regions) == ("val", "argmax", "cells:9")
    assert "data:image/jpeg" not in (out / "report.html").read_text(encoding="utf-8")


def test_a_run_without_a_fitted_posterior_is_evaluated_with_a_note(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "model" / "posterior.json").unlink()
    evaluate_command(run, out=tmp_path / "evaluation", resamples=20)
    assert "no posterior was fitted" in " ".join(capsys.readouterr().err.split())


def with_changed_record(run: Path, **values: str) -> None:
    record = json.loads((run / "run.json").read_text())
    write_json(run / "run.json", {**record, **values})


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (lambda run: (run / "run.json").unlink(), ArtefactError, "is not a run"),
        (lambda run: (run / "run.json").write_text("{"), ArtefactError, r"run\.json"),
        (lambda run: with_changed_record(run, status="running"), ArtefactError, "has not finished"),
        (lambda run: with_changed_record(run, manifest="/nowhere/manifest.parquet"), ArtefactError, "--manifest"),
        (lambda run: with_changed_record(run, splits="/nowhere/splits.parquet"), ArtefactError, "--splits"),
        (lambda run: with_changed_record(run, manifest_digest="0" * 64), MismatchError, "trained on"),
        (lambda run: shutil.rmtree(run / "model"), ArtefactError, "model"),
        (
            lambda run: (run / "model" / "model.safetensors").write_bytes(
                (run / "model" / "model.safetensors").read_bytes()[:500]
            ),
            ArtefactError,
            "model",
        ),
        (lambda run: (run / "model" / "posterior.json").write_text("[1"), ArtefactError, r"posterior\.json"),
    ],
)
def test_an_invalid_run_is_refused_without_output(
    run: Path, tmp_path: Path, damage: Any, error: type[Exception], message: str
) -> None:
    damage(run)
    with pytest.raises(error, match=message):
        evaluate_command(run, out=tmp_path / "evaluation", resamples=20)
    assert not (tmp_path / "evaluation").exists()


def test_paths_relative_to_the_run_are_resolved(run: Path, manifest: Manifest, splits: Splits, tmp_path: Path) -> None:
    with_changed_record(run, manifest="data", splits="data/splits.parquet")
    shutil.copytree(manifest.path.parent, run / "data")
    for path in splits.path.parent.iterdir():
        shutil.copy(path, run / "data")
    evaluate_command(run, out=tmp_path / "evaluation", resamples=20)
    report = read_report(tmp_path / "evaluation" / "report.json")
    assert report.made_with["manifest"] == {"path": "data/manifest.parquet", "digest": manifest.digest}
    assert read_splits(run / "data" / "splits.parquet").meta["manifest_digest"] == manifest.digest


def test_an_unknown_device_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'nonsense'"):
        evaluate_command(run, out=tmp_path / "evaluation", device="nonsense")


def test_a_full_disk_keeps_the_old_page_and_leaves_no_report(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "evaluation"
    evaluate_command(run, out=out, resamples=20)
    before = (out / "report.html").read_bytes()

    def full(self: Path, *_: Any, **__: Any) -> int:
        self.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(DiskFullError, match=r"report\.html"):
        evaluate_command(run, out=out, resamples=20)
    assert (out / "report.html").read_bytes() == before
    assert not (out / "report.json").exists()
    assert not [path for path in out.rglob("*") if path.name.startswith(".")], "no temporary file is left"


def test_the_report_records_the_modalities_used(
    model: LocatorModel, manifest: Manifest, splits: Splits, run: Path
) -> None:
    query_ids = len(indices(splits, manifest, "query"))
    by_default, same = (evaluate(model, manifest, splits, config=QUICK, use=use).report for use in (None, ["image"]))
    assert by_default.made_with["views"] == same.made_with["views"] == {"image": query_ids}
    assert by_default.error_m == same.error_m
    with pytest.raises(ConfigError, match=r"the model has no caption modality \(it has image\)"):
        evaluate_command(run, out=run / "evaluation", use=["image", "caption"])


def test_photographs_of_elsewhere_are_measured(run: Path, tmp_path: Path) -> None:
    elsewhere = photograph_folder(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="train it again on splits with 20 validation queries"):
        evaluate_command(run, out=tmp_path / "none", outside=elsewhere.path.parent, resamples=20)
    calibration = Calibration(
        np.linspace(0.01, 0.99, 99), (None,) * 99, 11, 25.0, in_area=InArea("image", 10.0, -5.0, None, None, 0.5, 40)
    )
    write_calibration(run / "model", calibration)
    out = tmp_path / "evaluation"
    evaluate_command(run, out=out, outside=elsewhere.path.parent, resamples=20, figures=False)
    figures = read_report(out / "report.json").outside
    assert figures is not None
    assert (figures.n_outside, figures.threshold, figures.resamples) == (PHOTOGRAPHS, 0.5, 20)
    assert 0.0 <= figures.auroc_interval[0] <= figures.auroc <= figures.auroc_interval[1] <= 1.0
    assert "Photographs taken elsewhere" in (out / "report.html").read_text(encoding="utf-8")
