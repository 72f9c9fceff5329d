"""Preprocessing against explicit resizing and cropping, against transformers, and as JSON."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from swclip.errors import ConfigError
from swclip.imaging.decode import decode_photograph
from swclip.imaging.preprocess import LONGEST_ASPECT, Preprocess

DINO = {
    "do_resize": True,
    "size": {"shortest_edge": 256},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}
CLIP = {**DINO, "size": {"shortest_edge": 224}, "image_mean": [0.481, 0.458, 0.408], "image_std": [0.269, 0.261, 0.276]}
SIGLIP = {
    "do_resize": True,
    "size": {"height": 64, "width": 64},
    "resample": 2,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    # Smooth like a photograph. In white noise the bicubic filter overshoots 0 and 255 everywhere, and the clipping then
    # depends on the order of Pillow's two passes, which depends on the sizes.
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 216, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR)


def by_hand(image: Image.Image, shortest: int, side: int, mean: list[float], std: list[float]) -> np.ndarray:
    """Resize the whole picture, crop, and normalise in plain NumPy."""
    width, height = image.size
    wide, high = (
        (shortest, int(shortest * height / width)) if width <= height else (int(shortest * width / height), shortest)
    )
    whole = image.resize((wide, high), Image.Resampling.BICUBIC)
    left, top = (wide - side) // 2, (high - side) // 2
    cut = np.asarray(whole.crop((left, top, left + side, top + side)), dtype=np.float64)
    out = np.empty((3, side, side))
    for channel in range(3):
        out[channel] = (cut[..., channel] / 255.0 - mean[channel]) / std[channel]
    return out


@given(width=st.integers(20, 90), height=st.integers(20, 90), side=st.integers(4, 20), more=st.integers(0, 10))
@settings(max_examples=60, deadline=None)
def test_cropping_while_resizing_equals_cropping_afterwards(width: int, height: int, side: int, more: int) -> None:
    image = picture(width, height)
    preprocess = Preprocess(size_px=side, shortest_px=side + more)
    result = preprocess(image)
    expected = by_hand(image, side + more, side, list(preprocess.mean), list(preprocess.std))
    assert result.dtype == np.float32
    assert result.shape == (3, side, side)
    assert result.flags.c_contiguous
    two_grey_levels = 2.01 / 255 / min(preprocess.std)  # the fixed-point arithmetic of the filter rounds once more
    np.testing.assert_allclose(result, expected, atol=two_grey_levels)


@pytest.mark.parametrize("config", [DINO, CLIP, SIGLIP], ids=["dino", "clip", "siglip"])
@pytest.mark.parametrize("size", [(320, 273), (100, 300), (224, 224)])
def test_matches_the_processor_of_transformers(config: dict[str, Any], size: tuple[int, int]) -> None:
    transformers = pytest.importorskip("transformers")
    kind = "SiglipImageProcessor" if config is SIGLIP else "BitImageProcessor"
    processor_class = getattr(transformers, kind + "Pil", None) or getattr(transformers, kind)
    processor = processor_class(**config)
    image = picture(*size)
    expected = np.asarray(processor(image, return_tensors="np")["pixel_values"][0])
    result = Preprocess.from_transformers(config)(image)
    assert result.shape == expected.shape
    assert np.abs(result - expected).max() < 2.01 / 255 / 0.22
    assert np.abs(result - expected).mean() < 0.002


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"size": 224, "crop_size": 224, "do_center_crop": True}, (224, "shortest-crop", None)),
        ({"size": 224}, (224, "squash", None)),
        ({"size": {"height": 384, "width": 384}}, (384, "squash", None)),
        ({"size": [224, 224]}, (224, "squash", None)),
        ({"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}}, (224, "shortest-crop", 256)),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, (224, "shortest-crop", 256)),
        ({"size": {"shortest_edge": 224}, "do_center_crop": False}, (224, "shortest-crop", None)),
        ({"crop_size": 224}, (224, "shortest-crop", None)),
    ],
)
def test_reads_sizes_of_transformers(config: dict[str, Any], expected: tuple[int, str, int | None]) -> None:
    result = Preprocess.from_transformers(config)
    assert (result.size_px, result.resize, result.shortest_px) == expected


@pytest.mark.parametrize("size", [{"height": 224, "width": 320}, {"longest_edge": 980}, None, [1, 2, 3]])
def test_rejects_sizes_that_are_not_square(size: object) -> None:
    with pytest.raises(ConfigError, match="size"):
        Preprocess.from_transformers({"size": size})


def test_values_are_from_0_to_1_without_normalisation() -> None:
    result = Preprocess.from_transformers({"size": 8, "do_normalize": False})(Image.new("RGB", (20, 10), "white"))
    np.testing.assert_allclose(result, 1.0, rtol=1e-6)


@given(width=st.integers(2, 300), height=st.integers(2, 300), short=st.integers(1, 90), multiple=st.integers(1, 16))
@settings(max_examples=60, deadline=None)
def test_whole_pictures_keep_their_shape(width: int, height: int, short: int, multiple: int) -> None:
    preprocess = Preprocess(size_px=short, resize="whole", multiple_px=multiple)
    assert preprocess.shape_px is None
    _, high, wide = preprocess(Image.new("RGB", (width, height))).shape
    assert high % multiple == wide % multiple == 0
    assert min(high, wide) == preprocess.decode_px
    assert abs(min(high, wide) - short) <= max(multiple / 2, multiple - short)
    aspect = min(max(width, height) / min(width, height), LONGEST_ASPECT)
    assert abs(max(high, wide) - min(high, wide) * aspect) <= multiple / 2
    assert (wide >= high) if width >= height else (high >= wide)


def test_squash_may_have_another_width() -> None:
    preprocess = Preprocess(size_px=6, width_px=8, resize="squash")
    assert preprocess(Image.new("RGB", (20, 10))).shape == (3, 6, 8)
    assert preprocess.shape_px == (6, 8)
    assert preprocess.decode_px == 8
    assert preprocess.digest != Preprocess(size_px=6, resize="squash").digest
    assert Preprocess.from_json(preprocess.to_json()) == preprocess


def test_later_settings_keep_the_digests_of_earlier_releases() -> None:
    assert {"multiple_px", "width_px"}.isdisjoint(Preprocess().to_dict())
    assert Preprocess().digest == "fd390db84409188a2e60d063243e6d693a42ca8e2b1b7042272fcd860a068c13"


def test_json_round_trip_and_digest() -> None:
    preprocess = Preprocess(
        size_px=96, resize="squash", mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0), interpolation="bilinear"
    )
    assert Preprocess.from_json(preprocess.to_json()) == preprocess
    assert Preprocess.from_dict(json.loads(json.dumps(preprocess.to_dict()))).digest == preprocess.digest
    assert Preprocess(size_px=97).digest != Preprocess(size_px=96).digest


@pytest.mark.parametrize(
    "values",
    [
        {"size_px": 0},
        {"resize": "stretch"},
        {"interpolation": "magic"},
        {"std": (0, 1, 1)},
        {"mean": (0.5,)},
        {"shortest_px": 4},
        {"colour": "red"},
        {"multiple_px": 0},
        {"width_px": 0, "resize": "squash"},
        {"width_px": 8},
    ],
)
def test_rejects_invalid_settings(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        Preprocess.from_dict(values)


def test_reduced_decoding_is_close_to_full_decoding() -> None:
    small = np.random.default_rng(1).integers(0, 256, (10, 20, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(small).resize((1280, 640), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=92)
    preprocess = Preprocess(size_px=112)
    fast = preprocess.read(stream.getvalue())
    full = preprocess(decode_photograph(stream.getvalue()))
    assert np.abs(fast - full).mean() < 0.05
