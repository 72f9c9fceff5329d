"""Blur effect, brightness, contrast and camera of one photograph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from swclip.imaging.decode import PhotographError
from swclip.imaging.quality import blur_effect, measure_photograph


def _blur_of_the_paper(luma: np.ndarray) -> float:
    """The formula of Crete et al., pixel by pixel; borders are mirrored."""
    worst = 0.0
    for values in (luma, luma.T):
        height, width = values.shape
        before = after_lost = 0.0
        averaged = np.zeros_like(values)
        for row in range(height):
            for column in range(width):
                total = 0.0
                for step in range(-5, 6):
                    at = (column + step) % (2 * width)
                    total += values[row, at if at < width else 2 * width - 1 - at]
                averaged[row, column] = total / 11.0
        for row in range(height):
            for column in range(1, width):
                one = abs(values[row, column] - values[row, column - 1])
                other = abs(averaged[row, column] - averaged[row, column - 1])
                before += one
                after_lost += max(0.0, one - other)
        worst = max(worst, (before - after_lost) / before)
    return worst


@given(seed=st.integers(0, 10_000), contrast=st.floats(0.1, 1.0))
def test_blur_effect_is_that_of_the_paper_whatever_the_contrast(seed: int, contrast: float) -> None:
    luma = np.random.default_rng(seed).random((14, 17))
    assert blur_effect((contrast * luma).astype(np.float32)) == pytest.approx(_blur_of_the_paper(luma), abs=2e-4)


def test_blur_effect_grows_with_blur_and_with_motion_along_one_axis() -> None:
    noise = np.random.default_rng(3).integers(0, 256, (128, 128)).astype(np.uint8)
    sharp = Image.fromarray(noise).filter(ImageFilter.GaussianBlur(0.6))
    effects = [
        blur_effect(np.asarray(sharp.filter(ImageFilter.GaussianBlur(sigma)), dtype=np.float32) / 255.0)
        for sigma in (0.0, 1.0, 2.0, 4.0)
    ]
    assert effects == sorted(effects)
    assert effects[0] < 0.3 < 0.5 < effects[-1]
    moved = (
        np.asarray(sharp.filter(ImageFilter.Kernel((5, 5), [0] * 10 + [1] * 5 + [0] * 10)), dtype=np.float32) / 255.0
    )
    assert blur_effect(moved) > effects[0] + 0.05


def test_measures_of_a_file(tmp_path: Path) -> None:
    pixels = np.zeros((300, 600, 3), dtype=np.uint8)
    pixels[:, 300:] = 255
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Apple\0", "iPhone 15"
    path = tmp_path / "half.png"
    Image.fromarray(pixels).save(path, exif=exif)
    quality = measure_photograph(path)
    assert (quality.width_px, quality.height_px, quality.camera) == (600, 300, "Apple iPhone 15")
    assert quality.brightness == pytest.approx(0.5)
    assert quality.contrast == pytest.approx(0.5)
    exif[0x010F], exif[0x0110] = "Canon", "Canon EOS 5D"
    Image.fromarray(pixels).save(path, exif=exif)
    assert measure_photograph(path).camera == "Canon EOS 5D"


def test_a_photograph_that_cannot_be_read_raises(tmp_path: Path) -> None:
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0\0\x10JFIF")
    with pytest.raises(PhotographError):
        measure_photograph(tmp_path / "cut.jpg")
