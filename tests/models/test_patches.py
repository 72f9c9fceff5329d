"""Patch features: what they keep of the tower's patches, on disk and in the cache, and the similarity they give."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from swclip.errors import ArtefactError, ConfigError, InputError, MismatchError
from swclip.models.config import TowerConfig
from swclip.models.embed import evaluating, photograph_vectors, pixel_vectors
from swclip.models.embed_patches import fit_patch_encoder, patch_features
from swclip.models.feature_cache import FeatureCache
from swclip.models.joint_tower import JointTower
from swclip.models.locator_model import LocatorModel, load_model
from swclip.models.patch_matching import mutual_matches, patch_similarities, unit_patches
from swclip.models.patches import (
    PATCHES_NAME,
    PatchEncoder,
    encoder_of,
    patches_from_bytes,
    patches_to_bytes,
)
from swclip.models.whitening import Whitening

WIDTH = 6


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photographs")
    generator = np.random.default_rng(3)
    made = []
    for number in range(12):
        coarse = generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        made.append(folder / f"{number}.png")
        Image.fromarray(coarse).resize((64, 48), Image.Resampling.BICUBIC).save(made[-1])
    return made


@pytest.fixture(scope="module")
def model(make_model: Callable[..., LocatorModel], paths: list[Path]) -> LocatorModel:
    made = make_model(image_side={"size_px": 64})
    made.patches = fit_patch_encoder(made, paths, WIDTH)
    return made


def random_patches(seed: int, rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-127, 128, (rows, columns, WIDTH)).astype(np.int8)


def by_loops(query: np.ndarray, photograph: np.ndarray) -> float:
    """The formula of `patch_similarities`, pair by pair."""
    a, b = (
        rows / np.linalg.norm(rows, axis=1, keepdims=True)
        for rows in (picture.reshape(-1, WIDTH).astype(np.float64) for picture in (query, photograph))
    )
    cosines = [[float(x @ y) for y in b] for x in a]
    total = 0.0
    for row in cosines:
        for j, cosine in enumerate(row):
            if cosine == max(row) == max(other[j] for other in cosines):
                total += max(cosine - 0.5, 0.0)
    return total / len(a)


def test_the_similarity_is_the_formula_whatever_the_shapes() -> None:
    query = random_patches(0, 3, 4)
    photographs = [random_patches(1, 3, 4), random_patches(2, 2, 7), random_patches(3, 1, 1), query]
    expected = [by_loops(query, photograph) for photograph in photographs]
    assert min(expected[:2]) > 0.01
    np.testing.assert_allclose(patch_similarities(query, photographs), expected, atol=1e-5)
    assert patch_similarities(query, photographs)[3] == pytest.approx(0.5)
    assert patch_similarities(query, []).shape == (0,)


def test_a_similarity_does_not_depend_on_the_order_of_patches() -> None:
    query, photograph = random_patches(4, 4, 4), random_patches(5, 4, 4)
    mirrored = photograph[:, ::-1]
    np.testing.assert_allclose(
        patch_similarities(query, [photograph]), patch_similarities(query, [mirrored]), atol=1e-6
    )


def test_matches_are_mutual_best_pairs_in_order() -> None:
    query, photograph = random_patches(6, 3, 4), random_patches(7, 2, 5)
    matches = mutual_matches(query, photograph, most=100)
    cosines = unit_patches(query.reshape(-1, WIDTH)) @ unit_patches(photograph.reshape(-1, WIDTH)).T
    expected = [
        (cosines[a, b], divmod(a, 4), divmod(b, 5))
        for a in range(12)
        for b in range(10)
        if cosines[a, b] == cosines[a].max() == cosines[:, b].max() and cosines[a, b] > 0.5
    ]
    expected.sort(reverse=True)
    assert [tuple(row) for row in matches.query.tolist()] == [a for _, a, _ in expected]
    assert [tuple(row) for row in matches.photograph.tolist()] == [b for _, _, b in expected]
    np.testing.assert_allclose(matches.cosine, [cosine for cosine, _, _ in expected])
    few = mutual_matches(query, photograph, most=2)
    assert (len(few), few.total) == (2, len(expected))


def test_matches_of_a_shifted_picture_are_shifted() -> None:
    wide = random_patches(8, 3, 6)
    matches = mutual_matches(wide[:, :4], wide[:, 1:5])
    shifted = matches.query[:, 1] >= 1
    assert shifted.sum() == 9
    np.testing.assert_array_equal(matches.query[shifted] - matches.photograph[shifted], np.tile([0, 1], (9, 1)))
    query, photograph = matches.centres()
    np.testing.assert_allclose((query - photograph)[shifted], np.tile([0.25, 0.0], (9, 1)))


def test_features_are_the_whitened_patches_of_the_tower(model: LocatorModel, paths: list[Path]) -> None:
    (patches,) = patch_features(model, paths[:1])
    assert patches is not None
    assert (patches.shape, patches.dtype) == ((4, 4, WIDTH), np.int8)
    with torch.no_grad():
        pixels = torch.from_numpy(model.preprocess.read(paths[0])[None])
        features, maps = model.image_tower.with_patches(pixels)
        torch.testing.assert_close(features, model.image_features(pixels))
    tokens = maps[0].permute(1, 2, 0).numpy().reshape(16, -1)
    exact = encoder_of(model).whitening(tokens)
    cosines = (exact * unit_patches(patches.reshape(16, WIDTH))).sum(axis=1)
    assert cosines.min() > 0.9999
    assert (np.abs(patches).max(axis=2) == 127).all()


def test_one_pass_gives_the_embeddings_and_the_patches_of_two(model: LocatorModel, paths: list[Path]) -> None:
    pixels = [model.preprocess.read(paths[0]), None, model.preprocess.read(paths[2])]
    with evaluating(model):
        vectors = pixel_vectors(model, pixels, patches=True)
    alone = photograph_vectors(model, [paths[0], paths[2]])
    np.testing.assert_array_equal(vectors.embeddings[[0, 2]], alone.embeddings)
    assert np.isnan(vectors.embeddings[1]).all()
    patches = vectors.take(np.array([0, 2])).details
    assert patches is not None
    assert vectors.take(slice(1, 2)).details == (None,)
    for made, computed in zip(patches, patch_features(model, [paths[0], paths[2]]), strict=True):
        np.testing.assert_array_equal(made, computed)


def test_pictures_of_several_shapes_in_one_batch(make_model: Callable[..., LocatorModel], model: LocatorModel) -> None:
    other = make_model(image_side={"size_px": 64, "pooling": "mean"})
    other.patches = PatchEncoder(Whitening(np.zeros(192, np.float32), np.eye(192, WIDTH, dtype=np.float32)))
    wide = np.random.default_rng(0).normal(size=(3, 32, 96)).astype(np.float32)
    square = np.random.default_rng(1).normal(size=(3, 64, 64)).astype(np.float32)
    with evaluating(other):
        patches = pixel_vectors(other, [wide, square, wide], patches=True).details
    assert patches is not None
    assert [values.shape[:2] for values in patches if values is not None] == [(2, 6), (4, 4), (2, 6)]
    np.testing.assert_array_equal(patches[0], patches[2])


def test_photographs_that_cannot_be_decoded(model: LocatorModel, paths: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"not a photograph")
    failures: list[tuple[Path, str]] = []
    patches = patch_features(model, [paths[0], broken], failures=failures)
    assert [values is None for values in patches] == [False, True]
    assert [path for path, _ in failures] == [broken]
    with pytest.raises(InputError, match=r"broken\.jpg"):
        patch_features(model, [broken])


def test_the_cache_gives_the_same_features_without_the_tower(
    model: LocatorModel, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = FeatureCache(tmp_path)
    computed = patch_features(model, paths)
    for values, stored in zip(computed, patch_features(model, paths, cache=cache), strict=True):
        np.testing.assert_array_equal(values, stored)
    monkeypatch.setattr(model.image_tower, "with_patches", None)
    for values, stored in zip(computed, patch_features(model, paths, cache=cache), strict=True):
        np.testing.assert_array_equal(values, stored)


def test_a_model_keeps_its_patch_features_and_its_identity(model: LocatorModel, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    read = load_model(tmp_path / "model")
    assert encoder_of(read).fingerprint == encoder_of(model).fingerprint
    assert read.fingerprint == model.fingerprint
    (tmp_path / "model" / PATCHES_NAME).unlink()
    without = load_model(tmp_path / "model")
    assert without.fingerprint == model.fingerprint
    with pytest.raises(ArtefactError, match=r"no patch features.*--verify 20"):
        encoder_of(without)


def test_damaged_files_are_refused(model: LocatorModel, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    (tmp_path / "model" / PATCHES_NAME).write_bytes(b"short")
    with pytest.raises(ArtefactError, match=r"patches\.safetensors.*damaged"):
        load_model(tmp_path / "model")
    data = patches_to_bytes(random_patches(0, 3, 5))
    np.testing.assert_array_equal(patches_from_bytes(data, WIDTH), random_patches(0, 3, 5))
    for wrong in (data[:-1], b"", data + b"0"):
        with pytest.raises(ArtefactError, match="damaged"):
            patches_from_bytes(wrong, WIDTH)


def test_tokens_of_another_tower_are_refused(model: LocatorModel) -> None:
    with pytest.raises(MismatchError, match="192"):
        encoder_of(model)(np.zeros((2, 2, 7), dtype=np.float32))


def test_of_several_towers_the_first_with_patches_is_compared(make_model: Callable[..., LocatorModel]) -> None:
    config = make_model(image_side={"size_px": 32, "pooling": "mean"}).config.image
    config = dataclasses.replace(config, beside=(TowerConfig(tower="builtin:small", size_px=64),))
    tower = JointTower(config).eval()
    first, second = (torch.zeros(1, 3, side, side) for side in (32, 64))
    with torch.no_grad():
        features, maps = tower.with_patches(first, second)
        torch.testing.assert_close(features, tower(first, second))
        torch.testing.assert_close(maps, tower.each()[0].with_patches(first)[1])
        tower.each()[0].has_patches = False
        features, maps = tower.with_patches(first, second)
        torch.testing.assert_close(features, tower(first, second))
        assert maps.shape[-2:] == (4, 4)
        tower.each()[1].has_patches = False
        with pytest.raises(ConfigError, match="no patches in a grid"):
            tower.with_patches(first, second)


def test_of_several_towers_only_the_compared_one_sees_the_photographs(
    make_model: Callable[..., LocatorModel], paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = (TowerConfig(tower="builtin:small", size_px=64),)
    model = make_model(image_side={"size_px": 32, "pooling": "mean", "beside": beside})
    assert isinstance(model.image_tower, JointTower)
    model.patches = fit_patch_encoder(model, paths, WIDTH)
    with evaluating(model):
        together = pixel_vectors(model, [model.preprocess.read(paths[0])], patches=True).details
    assert together is not None
    monkeypatch.setattr(model.image_tower.each()[1], "forward", None)
    for cache in (None, FeatureCache(tmp_path)):
        np.testing.assert_array_equal(patch_features(model, paths[:1], cache=cache)[0], together[0])
