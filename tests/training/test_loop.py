"""Complete runs in this process: accuracy, files, and errors."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import swclip
from swclip.calibration.conformal import read_calibration
from swclip.calibration.posterior_config import read_posterior
from swclip.data.manifest import Manifest, read_manifest
from swclip.data.splits import Splits, indices, read_splits, write_splits
from swclip.errors import ArtefactError, ConfigError, InputError, MismatchError
from swclip.evaluation.evaluate import EmbedConfig, evaluate
from swclip.gallery.build import insert_photographs
from swclip.gallery.inspect import verify
from swclip.gallery.read_write import load_gallery
from swclip.gallery.store import GalleryStore
from swclip.models.embed import tower_features
from swclip.models.feature_cache import FeatureCache
from swclip.models.image_tower import ImageTower
from swclip.models.locator_model import LocatorModel, load_model
from swclip.models.whitening import Whitening
from swclip.retrieval.locator import Locator
from swclip.training.checkpoint import list_checkpoints
from swclip.training.config import TrainingConfig, load_recipe
from swclip.training.inputs import PhotographSource
from swclip.training.loop import train
from swclip.training.run import read_run
from swclip.training.validation import Validation


@pytest.fixture(scope="module")
def data(town: Path) -> tuple[Manifest, Splits]:
    return read_manifest(town), read_splits(town / "splits.parquet")


@pytest.fixture(scope="module")
def finished(
    data: tuple[Manifest, Splits], small: Callable[..., TrainingConfig], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    run = tmp_path_factory.mktemp("finished") / "run"
    train(*data, small(), run, system="mine", command="swclip train ...")
    return run


@pytest.mark.parametrize("recipe", ["clip", "sw-clip"])
def test_a_run_learns_to_locate_colours(
    recipe: str, data: tuple[Manifest, Splits], small: Callable[..., TrainingConfig], tmp_path: Path
) -> None:
    """The colour of each photograph says its place: an untrained model is hundreds of metres off, this one is not."""
    config = small(recipe, steps=90, evaluate_every=30, augment=False, checkpoint_every=0, batch={"size": 20})
    untrained = LocatorModel.create(config.model, data[0].positions_deg, config.seed)
    validation = Validation.of(*data, None)
    assert validation is not None
    before = validation.measure(untrained, validation.queries(untrained, None))
    facts = train(*data, config, tmp_path / "run")
    model = load_model(tmp_path / "run")
    after = validation.measure(model, validation.queries(model, None))
    assert before["val_mean_m"] > 150.0
    assert after["val_mean_m"] < 50.0
    assert after["val_median_m"] == 0.0
    assert after["val_log_error"] == pytest.approx(facts.figures["val_log_error"], abs=1e-6), (
        "the best weights are kept"
    )
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < 0.5 * losses[0]


def test_files_of_a_run(finished: Path, data: tuple[Manifest, Splits], small: Callable[..., TrainingConfig]) -> None:
    names = {path.name for path in finished.iterdir()} - {"tensorboard"}
    assert names == {"bandwidth.json", "config.toml", "metrics.jsonl", "model", "run.json"}
    assert load_recipe(str(finished / "config.toml")) == small()
    facts = read_run(finished)
    assert (facts.system, facts.status, facts.seed, facts.command) == ("mine", "finished", 0, "swclip train ...")
    assert facts.manifest_digest == data[0].digest
    assert Path(facts.splits) == data[1].path
    assert read_posterior(finished) is not None
    calibration = read_calibration(finished)
    assert calibration is not None
    assert (len(calibration), calibration.unreachable) == (10, 0)
    assert {*calibration.areas} <= {"Leeds", "York"}, "the cities of the answers"
    assert calibration.stated is not None
    assert len(facts.figures["val_posterior"]["left_out"]) == 5
    assert facts.figures["val_posterior"]["n_queries"] == 10


def test_a_finished_run_is_not_trained_again(
    finished: Path, data: tuple[Manifest, Splits], small: Callable[..., TrainingConfig]
) -> None:
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in finished.rglob("*") if path.is_file()}
    assert train(*data, small(), finished) == read_run(finished)
    after = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in finished.rglob("*") if path.is_file()}
    assert after == before


def test_a_folder_with_another_run_is_refused(
    finished: Path, data: tuple[Manifest, Splits], small: Callable[..., TrainingConfig], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="another configuration"):
        train(*data, small(seed=1), finished)
    manifest, splits = data
    # Another draw: a query of the one may be trained on in the other. And another gallery of the same draw.
    swap = {"query": "train", "train": "query"}
    frame = splits.frame.assign(split=[swap.get(name, name) for name in splits.frame["split"]])
    for other in (
        write_splits(tmp_path / "draw.parquet", frame, splits.candidates, splits.meta),
        write_splits(tmp_path / "gallery.parquet", splits.frame, splits.candidates[1:], splits.meta),
    ):
        with pytest.raises(ConfigError, match="other photographs or splits"):
            train(manifest, other, small(), finished)


@pytest.mark.parametrize("before", [{}, {"candidates_digest": ""}], ids=["of this version", "of swclip 0.1"])
def test_a_run_whose_folder_and_splits_were_moved_is_the_same_run(
    finished: Path,
    data: tuple[Manifest, Splits],
    small: Callable[..., TrainingConfig],
    tmp_path: Path,
    before: dict[str, str],
) -> None:
    manifest, splits = data
    moved, copy = write_splits(tmp_path / "elsewhere.parquet", splits.frame, splits.candidates, splits.meta), tmp_path
    shutil.copytree(finished, copy / "run")
    record = json.loads((copy / "run" / "run.json").read_text())
    (copy / "run" / "run.json").write_text(json.dumps({**record, **before, "splits": "gone", "manifest": "gone"}))
    facts = train(manifest, moved, small(), copy / "run")
    assert facts == read_run(copy / "run")
    assert (facts.status, facts.splits) == ("finished", str(moved.path.resolve()))
    assert facts.manifest == str(manifest.path.resolve())


def test_a_truncated_checkpoint_is_refused_with_a_remedy(
    data: tuple[Manifest, Splits], small: Callable[..., TrainingConfig], tmp_path: Path
) -> None:
    class Stop(Exception):
        pass

    def stop_at(step: int) -> Callable[[str, int, int], None]:
        def report(what: str, done: int, _total: int) -> None:
            if what == "training" and done == step:
                raise Stop

        return report

    config = small(steps=12, checkpoint_every=4, evaluate_every=4)
    with pytest.raises(Stop):
        train(*data, config, tmp_path / "run", progress=stop_at(10))
    paths = list_checkpoints(tmp_path / "run" / "checkpoints")
    assert [path.name for path in paths] == ["step-00000004.safetensors", "step-00000008.safetensors"]
    paths[1].write_bytes(paths[1].read_bytes()[:1000])
    with pytest.raises(ArtefactError, match=r"step-00000008.safetensors: .*delete it to continue from step-00000004"):
        train(*data, config, tmp_path / "run")
    paths[1].unlink()
    train(*data, config, tmp_path / "run")
    train(*data, config, tmp_path / "whole")
    a, b = ((tmp_path / run / "model" / "model.safetensors").read_bytes() for run in ("run", "whole"))
    assert a == b


def test_a_frozen_tower_is_unchanged_and_computed_once(
    data: tuple[Manifest, Splits], small: Callable[..., TrainingConfig], tmp_path: Path
) -> None:
    cache = FeatureCache(tmp_path / "cache")
    config = small(freeze_image=True, steps=6)
    train(*data, config, tmp_path / "run", cache=cache)
    model = load_model(tmp_path / "run")
    start = LocatorModel.create(config.model, data[0].positions_deg, config.seed)
    assert model.feature_fingerprint == start.feature_fingerprint
    assert model.fingerprint != start.fingerprint
    kept = sorted((tmp_path / "cache").rglob("*.safetensors"))
    assert kept
    seen: list[tuple[str, int, int]] = []
    train(
        *data,
        dataclasses.replace(config, seed=0, steps=7),
        tmp_path / "again",
        cache=cache,
        progress=lambda *x: seen.append(x),
    )
    assert sorted((tmp_path / "cache").rglob("*.safetensors")) == kept
    assert [entry for entry in seen if entry[0] == "image features"] == [("image features", 40, 40)]


def test_whitened_features_are_an_evidence_of_the_run_and_of_its_galleries(
    data: tuple[Manifest, Splits], small: Callable[..., TrainingConfig], tmp_path: Path
) -> None:
    manifest, splits = data
    config = small(steps=6, whitening={"dimensions": 6})
    train(manifest, splits, config, tmp_path / "run")
    model = load_model(tmp_path / "run")
    assert model.whitening is not None
    # Of a built-in tower, which is not pretrained, the features after training; of training photographs alone.
    training = [manifest.image_paths[row] for row in np.sort(indices(splits, manifest, "train"))]
    assert model.frozen_tower is None
    assert model.whitening.fingerprint == Whitening.fit(tower_features(model, training), 6).fingerprint
    again = load_model(tmp_path / "run")
    again.whitening = None
    assert again.fingerprint != model.fingerprint

    fitted = read_posterior(tmp_path / "run")
    assert fitted is not None
    whole = dataclasses.replace(fitted, image_weight=0.7, whitened_temperature=0.2)
    gallery = swclip.build_gallery(tmp_path / "run", manifest, tmp_path / "gallery", cache=False)
    assert gallery.image_whitened is not None
    paths = list(manifest.image_paths[:5])
    expected = Locator(gallery, model, whole).locate(paths, region=None)
    assert expected != Locator(gallery, model, dataclasses.replace(whole, whitened_temperature=None)).locate(
        paths, region=None
    )
    store = GalleryStore.open(tmp_path / "gallery")
    assert verify(store, model.fingerprint) == []
    assert Locator(load_gallery(store.path), model, whole).locate(paths, region=None) == expected
    assert Locator(gallery, model, whole).locate(paths, region=None, batch_size=2) == expected
    # A gallery that grows has the whitened features of one that is made at once.
    part = Manifest(manifest.path, manifest.frame.iloc[:20].reset_index(drop=True))
    rest = Manifest(manifest.path, manifest.frame.iloc[20:].reset_index(drop=True))
    swclip.build_gallery(tmp_path / "run", part, tmp_path / "grown", cache=False)
    insert_photographs(GalleryStore.open(tmp_path / "grown"), model, rest)
    grown = load_gallery(tmp_path / "grown")
    order = np.argsort(grown.image_ids), np.argsort(gallery.image_ids)
    assert grown.image_whitened is not None
    assert np.array_equal(grown.image_whitened[order[0]], gallery.image_whitened[order[1]])
    again.save(tmp_path / "plain")
    swclip.build_gallery(tmp_path / "plain", manifest, tmp_path / "other", cache=False)
    with pytest.raises(MismatchError, match="was made by model"):
        GalleryStore.open(tmp_path / "grown").merge(GalleryStore.open(tmp_path / "other"))


def test_verification_is_an_evidence_of_the_run_and_of_its_galleries(
    data: tuple[Manifest, Splits], small: Callable[..., TrainingConfig], tmp_path: Path
) -> None:
    manifest, splits = data
    train(manifest, splits, small(steps=6, verification={"candidates": 4, "dimensions": 6}), tmp_path / "run")
    model = load_model(tmp_path / "run")
    assert model.patches is not None
    assert model.patches.dimensions == 6
    fitted, calibration = read_posterior(tmp_path / "run"), read_calibration(tmp_path / "run")
    assert fitted is not None
    assert calibration is not None
    # Whether six steps gain by it is left to chance: the files agree in either case.
    assert (calibration.balanced is None) == (fitted.balanced is None) == (fitted.verified_candidates == 0)
    plain = dataclasses.replace(fitted, image_weight=0.7).at("balanced")
    whole = dataclasses.replace(plain, verified_candidates=4, verified_temperature=0.05, balanced=plain)

    in_memory = swclip.build_gallery(tmp_path / "run", manifest, patch_features=True, cache=False)
    swclip.build_gallery(tmp_path / "run", manifest, tmp_path / "gallery", patch_features=True, cache=False)
    swclip.build_gallery(tmp_path / "run", manifest, tmp_path / "plain", patch_features=False, cache=False)
    paths = list(manifest.image_paths[:5])
    expected = Locator(in_memory, model, whole).locate(paths, region=None)
    stored = load_gallery(tmp_path / "gallery")
    assert Locator(stored, model, whole).locate(paths, region=None) == expected
    assert Locator(stored, model, whole).locate(paths, region=None, batch_size=2) == expected
    unverified = Locator(stored, model, plain).locate(paths, region=None)
    assert unverified != expected
    assert Locator(stored, model, whole, verify=0).locate(paths, region=None) == unverified
    assert Locator(load_gallery(tmp_path / "plain"), model, whole).locate(paths, region=None) == unverified
    with pytest.raises(ConfigError, match="--patch-features"):
        Locator(load_gallery(tmp_path / "plain"), model, whole, verify=4)

    verified = evaluate(model, manifest, splits, posterior=whole)
    assert verified.report.posterior is not None
    assert verified.report.posterior["verification_ms"] > 0.0
    without = evaluate(model, manifest, splits, posterior=plain)
    assert without.predictions["probability"].tolist() != verified.predictions["probability"].tolist()
    cached = evaluate(model, manifest, splits, posterior=whole, embedding=EmbedConfig(cache=FeatureCache(tmp_path)))
    assert cached.predictions["predicted_lat_deg"].tolist() == verified.predictions["predicted_lat_deg"].tolist()


def test_a_tower_without_patches_is_trained_without_verification(
    data: tuple[Manifest, Splits],
    small: Callable[..., TrainingConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(ImageTower, "_map", lambda _tower, hidden, _shape: hidden.flatten(2).transpose(1, 2))
    config = small(steps=2, verification={"candidates": 4}, model={"image": {"pooling": "mean"}})
    with caplog.at_level(logging.WARNING, "swclip"):
        train(*data, config, tmp_path / "run")
    assert "candidates are not verified: the image tower has no patches in a grid" in caplog.text
    assert load_model(tmp_path / "run").patches is None
    fitted = read_posterior(tmp_path / "run")
    assert fitted is not None
    assert fitted.verified_candidates == 0


def test_too_few_photographs(
    data: tuple[Manifest, Splits], small: Callable[..., TrainingConfig], tmp_path: Path
) -> None:
    manifest, splits = data
    frame = splits.frame.assign(split="query")
    none = write_splits(tmp_path / "s.parquet", frame, splits.candidates, splits.meta)
    with pytest.raises(InputError, match="0 photographs are in split 'train'"):
        train(manifest, none, small(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_without_steps_may_be_started_with_other_settings(
    data: tuple[Manifest, Splits], small: Callable[..., TrainingConfig], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        train(*data, small(model={"image": {"tower": "/nowhere"}}), tmp_path / "run")
    train(*data, small(steps=2), tmp_path / "run")
    assert read_run(tmp_path / "run").status == "finished"
    with pytest.raises(ConfigError, match="another configuration"):
        train(*data, small(steps=3), tmp_path / "run")


def test_a_diverging_training_is_reported(
    data: tuple[Manifest, Splits], small: Callable[..., TrainingConfig], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"the loss is (nan|inf) at step 10: the training diverged"):
        train(*data, small(steps=10, optimizer={"rate": 1e30}), tmp_path / "run")


def test_districts_and_prompt_fields_must_be_columns(
    data: tuple[Manifest, Splits], small: Callable[..., TrainingConfig], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="no column 'borough' with districts"):
        train(*data, small(region="borough"), tmp_path / "a")
    text = {"text_tower": "builtin:small", "prompt": "{street} at {location}"}
    with pytest.raises(ConfigError, match=r"\{street\}, which is not a column"):
        train(*data, small(model={"location": text}), tmp_path / "b")


def test_photographs_in_memory_equal_those_on_disk(
    data: tuple[Manifest, Splits], small: Callable[..., TrainingConfig]
) -> None:
    manifest = data[0]
    model = LocatorModel.create(small().model, manifest.positions_deg)
    kept = PhotographSource(manifest.image_paths, model.preprocess, workers=2)
    streamed = PhotographSource(manifest.image_paths, model.preprocess, workers=2, memory_bytes=0)
    first, again = np.array([5, 2, 9]), np.array([9, 30, 5])
    a, b = kept.rows(first), kept.rows(again)
    assert a.dtype == b.dtype == streamed.rows(first).dtype
    np.testing.assert_array_equal(a[0], b[2])  # the first time and later: the same to the last bit
    np.testing.assert_array_equal(a[2], b[0])
    np.testing.assert_allclose(a, streamed.rows(first), rtol=2**-10, atol=1e-6)
    np.testing.assert_allclose(b, streamed.rows(again), rtol=2**-10, atol=1e-6)
    assert not np.array_equal(a[0], a[1])
