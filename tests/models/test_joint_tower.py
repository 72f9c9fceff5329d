"""Several image towers side by side: features, caches, equal weight, and everything that uses such a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fixtures.onnx_towers import WIDTH, write_onnx_tower
from fixtures.service import send, serving
from swclip.data.manifest import Manifest, read_manifest
from swclip.data.splits import read_splits
from swclip.errors import ConfigError, InputError
from swclip.evaluation.evaluate import evaluate
from swclip.gallery.build import build_gallery, manifest_candidates
from swclip.gallery.read_write import save_gallery
from swclip.hub.folder import write_model_folder
from swclip.models.embed import embed_features, embed_photographs
from swclip.models.feature_cache import FeatureCache
from swclip.models.joint_tower import JointTower
from swclip.models.locator_model import LocatorModel, load_model
from swclip.models.whitening import Whitening, read_whitening, write_whitening
from swclip.retrieval.locator import Locator
from swclip.training.config import TrainingConfig
from swclip.training.loop import train

MakeModel = Callable[..., LocatorModel]
Photographs = Callable[[int], list[Path]]


@dataclass(frozen=True)
class Towers:
    """A DINOv2 tower and an ONNX tower, with models of each and of both."""

    folder: Path
    make: MakeModel
    onnx: Path

    @property
    def first(self) -> dict[str, Any]:
        return {"tower": str(self.folder / "dinov2"), "size_px": 32, "crop": "whole"}

    @property
    def second(self) -> dict[str, Any]:
        return {"tower": str(self.onnx), "pooling": "cls+mean"}

    def model(self, *sides: dict[str, Any]) -> LocatorModel:
        from swclip.models.config import TowerConfig

        one, *others = sides
        beside = tuple(TowerConfig(**other) for other in others)
        return self.make(image_side={"size_px": None, **one, "beside": beside})


@pytest.fixture(scope="module")
def pair(towers: Path, make_model: MakeModel, tmp_path_factory: pytest.TempPathFactory) -> Towers:
    path = write_onnx_tower(tmp_path_factory.mktemp("onnx") / "second.onnx")
    return Towers(towers, make_model, path)


def test_features_are_those_of_each_tower_one_after_another(
    pair: Towers, photographs: Photographs, tmp_path: Path
) -> None:
    both = pair.model(pair.first, pair.second)
    assert both.feature_widths == (96, 2 * WIDTH)
    assert isinstance(both.image_tower, JointTower)
    paths = photographs(7)
    Image.new("RGB", (90, 40), "teal").save(paths[3])  # another shape than the others
    joined = FeatureCache(tmp_path / "a").features(both, paths)
    each = [FeatureCache(tmp_path / "b").features(pair.model(side), paths) for side in (pair.first, pair.second)]
    np.testing.assert_array_equal(joined, np.concatenate(each, axis=1))
    alone = np.concatenate([embed_photographs(both, [path]) for path in paths])
    np.testing.assert_array_equal(embed_photographs(both, paths, batch_size=3), alone)
    np.testing.assert_array_equal(embed_features(both, joined), alone)
    np.testing.assert_array_equal(both.encode_images([Image.open(path) for path in paths]), alone)


def test_features_are_cached_by_tower(pair: Towers, photographs: Photographs, tmp_path: Path) -> None:
    paths, cache = photographs(5), FeatureCache(tmp_path)
    first, second = pair.model(pair.first), pair.model(pair.second)
    both = pair.model(pair.first, pair.second)
    cache.features(first, paths)
    assert not cache.holds(both)
    seen: list[tuple[int, int]] = []
    joined = cache.features(both, paths, progress=lambda done, total: seen.append((done, total)))
    assert cache.holds(both)
    assert cache.holds(second)
    assert seen[0] == (5, 10), "the first tower's features are there already"
    assert seen[-1] == (10, 10)
    written = sorted(tmp_path.rglob("*.safetensors"))
    swapped = cache.features(pair.model(pair.second, pair.first), paths)
    np.testing.assert_array_equal(np.roll(joined, 2 * WIDTH, axis=1), swapped)
    assert sorted(tmp_path.rglob("*.safetensors")) == written, "nothing is computed again"


@pytest.mark.parametrize("cached", [False, True])
def test_an_unreadable_photograph_fails_once(
    cached: bool, pair: Towers, photographs: Photographs, tmp_path: Path
) -> None:
    both, paths = pair.model(pair.first, pair.second), photographs(4)
    paths[2].write_bytes(paths[2].read_bytes()[:100])
    cache = FeatureCache(tmp_path / "cache") if cached else None
    failures: list[tuple[Path, str]] = []
    result = embed_photographs(both, paths, cache=cache, failures=failures)
    assert [path for path, _ in failures] == [paths[2]]
    assert np.isnan(result).all(axis=1).tolist() == [False, False, True, False]
    with pytest.raises(InputError, match="1 photograph"):
        embed_photographs(both, paths, cache=cache)


def test_saved_and_loaded_with_the_fingerprints_of_all_towers(
    pair: Towers, photographs: Photographs, tmp_path: Path
) -> None:
    both, paths = pair.model(pair.first, pair.second), photographs(3)
    both.save(tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert again.fingerprint == both.fingerprint
    assert again.feature_fingerprint == both.feature_fingerprint
    assert again.preprocess == both.preprocess
    np.testing.assert_array_equal(embed_photographs(again, paths), embed_photographs(both, paths))
    others = [
        pair.model(pair.first),
        pair.model(pair.second, pair.first),
        pair.model(pair.first, {**pair.second, "pooling": "auto"}),
        pair.model({**pair.first, "crop": "squash"}, pair.second),
    ]
    assert len({both.feature_fingerprint, *(model.feature_fingerprint for model in others)}) == 5
    assert "dinov2 + second.onnx" in repr(both)


def test_towers_weigh_the_same_in_the_head(pair: Towers) -> None:
    model = pair.model(pair.first, pair.second)
    wide, narrow = model.feature_widths
    features = torch.randn(50, wide + narrow, generator=torch.Generator().manual_seed(0))
    features[:, wide:] = 1e-3 * features[:, wide:] + 7.0  # another scale and offset
    normed = model.image_head.norm(features)
    squares = normed.square()
    torch.testing.assert_close(squares[:, :wide].sum(1), squares[:, wide:].sum(1), rtol=1e-2, atol=0.0)
    torch.testing.assert_close(squares.mean(), torch.tensor(1.0), rtol=1e-2, atol=0.0)


def test_whitening_is_by_tower_and_towers_weigh_the_same(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    first = (draw.normal(size=(200, 5)) @ draw.normal(size=(5, 5))).astype(np.float32)
    second = (1000.0 * draw.normal(size=(200, 3)) @ draw.normal(size=(3, 3)) + 50.0).astype(np.float32)
    joined = np.concatenate([first, second], axis=1)
    whitening = Whitening.fit(joined, 4, widths=(5, 3))
    parts = [Whitening.fit(first, 4)(first), Whitening.fit(second, 4)(second)]
    np.testing.assert_allclose(whitening(joined), np.concatenate(parts, axis=1) / np.sqrt(2), atol=1e-5)
    assert whitening.blocks == (4, 3)
    write_whitening(tmp_path, whitening)
    again = read_whitening(tmp_path)
    assert again is not None
    assert again.blocks == (4, 3)
    assert again.fingerprint == whitening.fingerprint
    assert whitening.fingerprint != Whitening(whitening.mean, whitening.projection).fingerprint
    np.testing.assert_array_equal(again(joined), whitening(joined))


def test_what_needs_one_tower_says_so(pair: Towers, photographs: Photographs, tmp_path: Path) -> None:
    from swclip.export.folder import export_model

    with pytest.raises(ConfigError, match=r"ONNX graph needs one image tower, .* dinov2 and second.onnx side by side"):
        export_model(pair.model(pair.first, pair.second), tmp_path / "out", photographs(1))
    with pytest.raises(ConfigError, match=r"second\.onnx' is an ONNX file already.*--embeddings"):
        export_model(pair.model(pair.second), tmp_path / "out", photographs(1))


@pytest.fixture(scope="module")
def trained(
    pair: Towers, town: Path, small: Callable[..., TrainingConfig], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with `run`, trained on both towers, and `gallery`."""
    folder = tmp_path_factory.mktemp("joint")
    image = {**pair.first, "beside": [pair.second], "pooling_grid": [1, 2]}
    config = small(model={"image": image}, freeze_image=True, whitening={"dimensions": 8})
    manifest = read_manifest(town)
    train(manifest, read_splits(town / "splits.parquet"), config, folder / "run", cache=FeatureCache(folder / "cache"))
    model = load_model(folder / "run")
    save_gallery(build_gallery(model, manifest_candidates(manifest), manifest), folder / "gallery", model)
    return folder


def test_a_run_on_both_towers_is_evaluated_located_and_served(trained: Path, town: Path, pair: Towers) -> None:
    manifest: Manifest = read_manifest(town)
    model = load_model(trained / "run")
    assert isinstance(model.image_tower, JointTower)
    assert model.whitening is not None
    assert len(model.whitening.blocks) == 2
    assert "beside" in (trained / "run" / "config.toml").read_text()
    result = evaluate(model, manifest, read_splits(town / "splits.parquet"))
    assert len(result.predictions) == 10
    locator = Locator.from_gallery(trained / "gallery")
    paths = manifest.image_paths[:3]
    answers = locator.locate(paths)
    assert len(answers) == 3
    with serving(locator) as served, served.client() as client:
        response = client.post("/v2/locate", **send([path.read_bytes() for path in paths]))
    assert response.status_code == 200
    positions = [(row["answer"]["lat_deg"], row["answer"]["lon_deg"]) for row in response.json()["results"]]
    assert positions == [(answer.lat_deg, answer.lon_deg) for answer in answers]


def test_a_published_model_names_no_paths_and_contains_all_towers(trained: Path, pair: Towers, tmp_path: Path) -> None:
    write_model_folder(tmp_path / "hub", trained / "run", "ada/joint")
    values = json.loads((tmp_path / "hub" / "config.json").read_text())
    assert values["model"]["image"]["tower"] == "local:dinov2"
    assert [tower["tower"] for tower in values["model"]["image"]["beside"]] == ["local:onnx"]
    published, local = load_model(tmp_path / "hub"), load_model(trained / "run")
    assert published.feature_fingerprint == local.feature_fingerprint
    card = (tmp_path / "hub" / "README.md").read_text()
    assert "whole photographs in their shape" in card
    assert "initialised from a local folder (dinov2)" in card
    assert "an ONNX file, which this model contains" in card
