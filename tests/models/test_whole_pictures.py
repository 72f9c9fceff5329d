"""Whole pictures: token grids of any shape, pooling over cells, and embeddings that do not depend on other shapes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from swclip.errors import ConfigError
from swclip.imaging.preprocess import Preprocess
from swclip.models.config import ImageConfig
from swclip.models.embed import embed_features, embed_photographs
from swclip.models.feature_cache import FeatureCache
from swclip.models.image_tower import ImageTower
from swclip.models.locator_model import LocatorModel, load_model
from swclip.models.token_cache import TokenCache
from swclip.training.inputs import PhotographSource

MakeModel = Callable[..., LocatorModel]
FAMILIES = ["builtin:small", "dinov2", "clip", "siglip"]
WHOLE = {"crop": "whole", "size_px": 32}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Photographs of four shapes, in turn: wide, tall, square, wide with other sides of the same aspect."""
    folder, rng = tmp_path_factory.mktemp("shapes"), np.random.default_rng(5)
    paths = []
    for number in range(8):
        size = [(96, 48), (48, 72), (50, 50), (192, 96)][number % 4]
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        paths.append(folder / f"{number}.png")
        coarse.resize(size, Image.Resampling.BICUBIC).save(paths[-1])
    return paths


@pytest.mark.parametrize("family", FAMILIES)
def test_embeddings_do_not_depend_on_the_shapes_beside_them(
    family: str, make_model: MakeModel, shapes: list[Path], tmp_path: Path
) -> None:
    model = make_model(family, image_side=WHOLE)
    seen = {model.preprocess.read(path).shape[1:] for path in shapes}
    assert seen == {(32, 64), (48, 32), (32, 32)}
    alone = np.concatenate([embed_photographs(model, [path]) for path in shapes])
    assert np.array_equal(embed_photographs(model, shapes), alone)
    assert np.array_equal(embed_photographs(model, shapes[::-1], batch_size=3), alone[::-1])
    features = FeatureCache(tmp_path).features(model, shapes, batch_size=5)
    assert np.array_equal(embed_features(model, features), alone)
    assert np.array_equal(model.encode_images([Image.open(path) for path in shapes]), alone)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_sides_of_a_picture_count(family: str, make_model: MakeModel, tmp_path: Path) -> None:
    """The outer thirds of a wide picture change its embedding with `whole` and not with `centre`."""
    picture = np.random.default_rng(0).integers(0, 256, (32, 96, 3), dtype=np.uint8)
    other = picture.copy()
    other[:, :16], other[:, -16:] = 0, 255
    for crop, same in (("whole", False), ("squash", False), ("centre", True)):
        # Without the margin that the tower's own preprocessing crops.
        model = make_model(family, image_side={"crop": crop, "size_px": 32})
        first, second = model.encode_images([picture, other])
        assert np.array_equal(first, second) == same, crop


def test_a_model_of_whole_pictures_is_saved_and_loaded(
    make_model: MakeModel, shapes: list[Path], tmp_path: Path
) -> None:
    model = make_model("dinov2", image_side={**WHOLE, "pooling_grid": (2, 2)})
    model.save(tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert again.fingerprint == model.fingerprint
    assert again.feature_fingerprint == model.feature_fingerprint
    assert again.preprocess.multiple_px == 8, "the tower's patch"
    assert np.array_equal(embed_photographs(again, shapes), embed_photographs(model, shapes))
    prints = {
        make_model("dinov2", image_side=side).feature_fingerprint for side in ({}, WHOLE, {"pooling_grid": (2, 2)})
    }
    assert len(prints | {model.feature_fingerprint}) == 4


@pytest.mark.parametrize("family", ["builtin:small", "dinov2"])
@pytest.mark.parametrize("grid", [(2, 3), (1, 2)])
def test_cells_follow_their_definition(family: str, grid: tuple[int, int], towers: Path) -> None:
    name = family if ":" in family else str(towers / family)
    cls = family == "dinov2"
    tower = ImageTower(
        ImageConfig(name, pooling="cls+mean+std" if cls else "mean", pooling_grid=grid, size_px=32)
    ).eval()
    pixels = torch.randn(2, 3, 64, 112, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        if cls:
            hidden = tower.backbone(pixel_values=pixels).last_hidden_state
            map_ = hidden[:, 1:].transpose(1, 2).reshape(2, -1, 8, 14)
        else:
            map_ = tower.backbone(pixels)
            assert map_.shape[-2:] == (4, 7)
        rows, columns = grid
        means = torch.nn.functional.adaptive_avg_pool2d(map_, grid).flatten(2).transpose(1, 2)  # (B, cells, C)
        result = tower(pixels)
    assert result.shape[1] == tower.feature_dim
    start = 32 if cls else 0
    width = map_.shape[1]
    measured = result[:, start : start + rows * columns * width].reshape(2, rows * columns, width)
    torch.testing.assert_close(measured, means)
    if cls:
        assert torch.equal(result[:, :32], hidden[:, 0])
        corner = map_[:, :, : 8 // rows, : -(-14 // columns)].flatten(2)
        torch.testing.assert_close(result[:, start + rows * columns * width :][:, :width], corner.std(dim=2))


def test_one_cell_is_the_pooling_without_cells(towers: Path) -> None:
    pixels = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    name = str(towers / "dinov2")
    with torch.no_grad():
        plain = ImageTower(ImageConfig(name)).eval()(pixels)
        assert torch.equal(ImageTower(ImageConfig(name, pooling_grid=(1, 1))).eval()(pixels), plain)


def test_impossible_grids_are_refused(towers: Path) -> None:
    name = str(towers / "dinov2")
    with pytest.raises(ConfigError, match=r"pooling_grid \[0, 2\]"):
        ImageConfig(name, pooling_grid=(0, 2))
    with pytest.raises(ConfigError, match="'gem' has no cells"):
        ImageTower(ImageConfig(name, pooling="gem", pooling_grid=(2, 3)))
    with pytest.raises(ConfigError, match="sees 4 x 4 patches, fewer than two a cell"):
        ImageTower(ImageConfig(name, pooling_grid=(4, 3)))(torch.zeros(1, 3, 32, 32))


def test_a_tower_of_one_shape_is_refused(towers: Path, monkeypatch: pytest.MonkeyPatch, make_model: MakeModel) -> None:
    monkeypatch.setattr(ImageTower, "_must_interpolate", lambda self, pixels: False)  # as a family without the flag
    with pytest.raises(ConfigError, match=r"takes pictures of one shape only .* set crop to 'centre' or 'squash'"):
        make_model("clip", image_side=WHOLE)


def test_a_trained_tower_needs_pictures_of_one_shape(shapes: list[Path]) -> None:
    preprocess = Preprocess(size_px=32, resize="whole", multiple_px=8)
    for memory in (1 << 30, 0):
        wide = PhotographSource(shapes[::4] + shapes[3::4], preprocess, 2, memory)
        assert wide.rows(np.arange(4)).shape == (4, 3, 32, 64)
        mixed = PhotographSource(shapes, preprocess, 2, memory)
        with pytest.raises(ConfigError, match=r"1\.png: is 32 x 48 pixels .* and .*0\.png is 64 x 32.*--freeze image"):
            mixed.rows(np.arange(4))


def test_stored_tokens_need_pictures_of_one_shape(make_model: MakeModel, shapes: list[Path], tmp_path: Path) -> None:
    model = make_model("dinov2", image_side={**WHOLE, "pooling_grid": (2, 2)})
    tokens = TokenCache.of(FeatureCache(tmp_path), model, 1, "float32", shapes[0])
    wide = shapes[::4] + shapes[3::4]
    expected = FeatureCache(tmp_path).features(model, wide)
    np.testing.assert_allclose(tokens.features(model, wide), expected, atol=1e-5)
    with pytest.raises(
        ConfigError, match=r"is 32 x 48 pixels preprocessed, and the first one is 64 x 32.*--freeze image"
    ):
        tokens.rows(model, shapes)
