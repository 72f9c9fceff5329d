"""What one photograph's pixels show without a model: blur, brightness, contrast, perceptual hash, camera."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32
from PIL import Image
from scipy.ndimage import uniform_filter1d

from swclip.imaging.decode import decode_opened, open_photograph, quiet_pillow
from swclip.imaging.phash import perceptual_hash
from swclip.imaging.photograph_file import photograph_sha256

SIDE_PX = 256
"""Shorter side at which pixels are measured: about the input of an image tower, which sees no finer blur."""

_AVERAGED_PX = 11  # the length of the averaging filter in Crete et al.
_MAKE_TAG, _MODEL_TAG = 0x010F, 0x0110


@dataclass(frozen=True, slots=True)
class PhotographQuality:
    """Measures of one photograph.

    Attributes:
        width_px: Width of the file's picture.
        height_px: Its height.
        camera: Make and model as EXIF states them; empty where it does not.
        blur: Blur effect, 0 (sharp) to 1; see `blur_effect`.
        brightness: Mean luma, 0 (black) to 1 (white).
        contrast: Standard deviation of luma, 0 to 0.5.
        perceptual: Perceptual hash, 64 bits.
        sha256: SHA-256 of the file's bytes, hexadecimal.
    """

    width_px: int
    height_px: int
    camera: str
    blur: float
    brightness: float
    contrast: float
    perceptual: int
    sha256: str


def measure_photograph(path: str | os.PathLike[str]) -> PhotographQuality:
    """Measure one photograph.

    Raises:
        PhotographError: It cannot be read.
    """
    with open_photograph(path) as image:
        width, height = image.size
        camera = camera_name(image)
        picture = decode_opened(image, os.fspath(path), SIDE_PX)
    values = luma(picture)
    return PhotographQuality(
        width,
        height,
        camera,
        blur_effect(values),
        round(float(values.mean()), 4),
        round(float(values.std()), 4),
        perceptual_hash(picture),
        photograph_sha256(path),
    )


def blur_effect(values: Float32[np.ndarray, "h w"]) -> float:
    """Perceived blur of a picture, 0 (sharp) to 1 (no detail), rounded to 4 decimals.

    A picture is averaged along each axis: the less its differences between neighbouring pixels fall by that, the more
    blurred it was. The measure hardly depends on content and contrast, and sees motion along one axis.

    Args:
        values: (H, W) luma, 0 to 1.

    References:
        F. Crete, T. Dolmiere, P. Ladret, M. Nicolas, "The blur effect: perception and estimation with a new
        no-reference perceptual blur metric", SPIE 6492 (2007).

    Example:
        >>> checks = np.indices((64, 64)).sum(axis=0) % 2
        >>> blur_effect(checks.astype(np.float32)) < 0.1, blur_effect(np.zeros((64, 64), np.float32))
        (True, 1.0)
    """
    worst = 0.0
    for axis in (0, 1):
        averaged = uniform_filter1d(values, _AVERAGED_PX, axis=axis)
        before, after = (np.abs(np.diff(part, axis=axis)) for part in (values, averaged))
        total = float(before.sum(dtype=np.float64))
        lost = float(np.maximum(before - after, 0.0).sum(dtype=np.float64))
        worst = max(worst, 1.0 - lost / total if total > 0.0 else 1.0)
    return round(worst, 4)


def camera_name(image: Image.Image) -> str:
    """Make and model of the camera of an opened image, as EXIF states them; empty where it does not."""
    with quiet_pillow():
        try:
            exif = image.getexif()
            make, model = (
                " ".join(str(exif.get(tag, "")).replace("\0", " ").split()) for tag in (_MAKE_TAG, _MODEL_TAG)
            )
        except Exception:  # Pillow raises many kinds of errors on a broken EXIF block; the picture is still good
            return ""
    # Many models begin with their make.
    return model if model.lower().startswith(make.lower()) else f"{make} {model}".strip()


def luma(picture: Image.Image) -> Float32[np.ndarray, "h w"]:
    """Luma of a picture, 0 to 1, reduced to a shorter side of `SIDE_PX` where it is larger."""
    grey = picture.convert("L")
    scale = SIDE_PX / min(grey.size)
    if scale < 1.0:
        size = (max(1, round(grey.width * scale)), max(1, round(grey.height * scale)))
        grey = grey.resize(size, Image.Resampling.BOX)
    return np.asarray(grey, dtype=np.float32) / np.float32(255.0)
