"""Encoding photographs in every form, and positions: the same embeddings, checked inputs, NumPy by default."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from swclip.errors import InputError
from swclip.models.embed import embed_photographs, embed_positions
from swclip.models.locator_model import LocatorModel

PLACES = np.array([[53.80, -1.55], [53.96, -1.08], [-33.86, 151.2]])


@pytest.fixture
def network(make_model: Callable[..., LocatorModel]) -> LocatorModel:
    return make_model(text="builtin:small", prompt="a photo in {city} at {location}")


def test_every_form_of_a_photograph_gives_the_same_embedding(
    network: LocatorModel, photographs: Callable[[int], list[Path]]
) -> None:
    path = photographs(1)[0]
    picture = Image.open(path)
    pixels = np.asarray(picture)
    channels_first = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    forms: list[Any] = [
        str(path),
        path,
        path.read_bytes(),
        picture,
        pixels,
        channels_first,
        channels_first.float() / 255.0,
    ]
    result = network.encode_images(forms, batch_size=3)
    assert result.shape == (7, 12)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, np.tile(embed_photographs(network, [path]), (7, 1)), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(result, axis=1), 1.0, rtol=1e-5)
    for form in forms:
        alone = network.encode_images(form)
        assert alone.shape == (12,), "one photograph gives one vector"
        np.testing.assert_allclose(alone, result[0], atol=1e-6)


def test_a_stacked_batch_is_a_list_of_photographs(network: LocatorModel) -> None:
    stack = np.random.default_rng(0).integers(0, 256, (3, 20, 24, 3), dtype=np.uint8)
    result = network.encode_images(stack)
    np.testing.assert_array_equal(result, network.encode_images(list(stack)))
    tensors = network.encode_images(torch.from_numpy(stack).permute(0, 3, 1, 2), convert_to_numpy=False)
    assert isinstance(tensors, torch.Tensor)
    np.testing.assert_allclose(tensors.numpy(), result, atol=1e-6)
    assert network.encode_images([]).shape[0] == 0


def test_a_rotated_picture_is_turned_like_its_file(network: LocatorModel, tmp_path: Path) -> None:
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "side.png", exif=exif)
    np.testing.assert_allclose(
        network.encode_images(Image.open(tmp_path / "side.png")),
        network.encode_images(tmp_path / "side.png"),
        atol=1e-6,
    )


def test_progress_is_reported_and_the_mode_is_restored(
    network: LocatorModel,
    photographs: Callable[[int], list[Path]],
    terminal: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen: list[tuple[int, int]] = []
    network.train()
    network.encode_images(photographs(5), batch_size=2, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(2, 5), (4, 5), (5, 5)]
    assert network.training
    network.eval()
    assert capsys.readouterr().err == ""
    network.encode_images(photographs(2), progress=True)
    assert "Encoding" in capsys.readouterr().err


def test_unreadable_photographs_are_named(
    network: LocatorModel, photographs: Callable[[int], list[Path]], tmp_path: Path
) -> None:
    paths = photographs(4)
    whole = paths[2].read_bytes()
    paths[1].write_text("no picture")
    paths[2].write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"2 photograph\(s\) cannot be used: .*001\.png: is not an image.*002\.png"):
        network.encode_images(paths)
    with Image.open(paths[2]) as lazy, pytest.raises(InputError, match=r"002\.png: is cut short"):
        network.encode_images([paths[0], lazy])
    with pytest.raises(InputError, match="image 1: is not an image"):
        network.encode_images([paths[0], b"no picture"])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((4, 4)), r"image 1: is an array \(4, 4\) of float64, but \(H, W, 3\) of uint8"),
        (np.zeros((3, 8, 8), dtype=np.uint8), r"image 1: is an array \(3, 8, 8\)"),
        (torch.zeros(8, 8, 3), r"image 1: is a tensor \(8, 8, 3\)"),
        (torch.full((3, 8, 8), -1.0), "outside 0 to 1.*encode_pixels"),
        (7, "image 1: is a int; give a path"),
    ],
)
def test_objects_that_are_not_photographs_are_refused(
    wrong: Any, message: str, network: LocatorModel, photographs: Callable[[int], list[Path]]
) -> None:
    with pytest.raises(InputError, match=message):
        network.encode_images([photographs(1)[0], wrong])


def test_positions_of_every_form(network: LocatorModel) -> None:
    expected = embed_positions(network, PLACES)
    for form in (PLACES, PLACES.tolist(), torch.from_numpy(PLACES)):
        np.testing.assert_array_equal(network.encode_positions(form), expected)
    np.testing.assert_allclose(network.encode_positions(PLACES, batch_size=1), expected, atol=1e-6)
    alone = network.encode_positions((53.80, -1.55))
    assert alone.shape == (12,)
    np.testing.assert_allclose(alone, expected[0], atol=1e-6)
    assert isinstance(network.encode_positions(PLACES, convert_to_numpy=False), torch.Tensor)
    np.testing.assert_allclose(np.linalg.norm(network.encode_positions(PLACES, normalize=True), axis=1), 1, rtol=1e-6)


def test_words_apply_to_all_positions_or_to_each(network: LocatorModel) -> None:
    leeds = network.encode_positions(PLACES, {"city": "leeds"})
    np.testing.assert_array_equal(leeds, network.encode_positions(PLACES, [{"city": "leeds"}] * 3))
    assert np.abs(leeds - network.encode_positions(PLACES)).max() > 1e-5
    with pytest.raises(InputError, match="2 words for 3 positions"):
        network.encode_positions(PLACES, [{}, {}])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([[53.8, -1.5], [151.2, -33.9]], r"row 1: \(151\.2, -33\.9\) is not .*latitude comes first"),
        ([[np.nan, 0.0]], r"row 0: \(nan, 0\.0\) is not a latitude"),
        ([[1.0, 2.0, 3.0]], r"shape \(1, 3\), but \(N, 2\)"),
        (5.0, r"shape \(\)"),
        (["leeds"], "not numbers"),
    ],
)
def test_positions_are_checked(wrong: Any, message: str, network: LocatorModel) -> None:
    with pytest.raises(InputError, match=message):
        network.encode_positions(wrong)


def test_repr_describes_the_model(network: LocatorModel, towers: Path, tmp_path: Path) -> None:
    assert repr(network).startswith("LocatorModel(builtin:small, grid read by builtin:small, 12 dimensions, ")
    assert "\n" not in repr(network)
