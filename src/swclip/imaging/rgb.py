"""Conversion of pictures of any mode to 8-bit RGB."""

from __future__ import annotations

import numpy as np
from PIL import Image

_BAND_PX = 1 << 20  # deep pictures are converted in bands of rows, so that float copies of them stay small


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any Pillow mode to RGB: scale 16-bit values, resolve palettes, put transparency on white.

    Args:
        image: A decoded image.

    Returns:
        Mode RGB, same size.
    """
    if image.mode == "RGB":
        return image.copy()  # a copy, because the opened image is invalid after its stream is closed
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_to_8_bit(np.asarray(image))).convert("RGB")
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        over = image.convert("RGBA")
        white = Image.new("RGBA", over.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, over).convert("RGB")
    return image.convert("RGB")


def _to_8_bit(values: np.ndarray) -> np.ndarray:
    """Convert grey values (H, W) of any depth to uint8; the depth of 32-bit modes is inferred from the values."""
    if values.dtype == np.uint16:
        return (values >> 8).astype(np.uint8)
    rows = max(1, _BAND_PX // max(1, values.shape[1]))
    bands = [slice(start, start + rows) for start in range(0, len(values), rows)]
    top = max((float(_finite(values[band]).max(initial=0.0)) for band in bands), default=0.0)
    factor = 1.0
    if values.dtype.kind == "f" and top <= 1.0:
        factor = 255.0
    elif top > 255.0:
        factor = 1.0 / 256.0 if top <= 65_535.0 else 255.0 / top
    grey = np.empty(values.shape, dtype=np.uint8)
    for band in bands:
        grey[band] = np.clip(_finite(values[band]) * factor, 0.0, 255.0)
    return grey


def _finite(values: np.ndarray) -> np.ndarray:
    return np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
