"""Uploaded bytes to what the model takes; the bytes are let go as soon as that is done."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from swclip.ingest.exif import read_exif
from swclip.geo.coordinates import valid_positions
from swclip.imaging.decode import PhotographError, open_photograph
from swclip.imaging.preprocess import Preprocess
from swclip.web.problems import Problem

_KINDS = {
    "too-large": "photograph-too-large",
    "not-an-image": "not-a-photograph",
    "truncated": "photograph-damaged",
    "empty": "photograph-damaged",
    "missing": "photograph-damaged",
}
_WORDS = {
    "too-large": "The picture has more pixels than the service takes; reduce it.",
    "not-an-image": "The file is not in a format that the service reads (JPEG, PNG, WebP, TIFF, BMP, GIF, AVIF, or "
    "HEIC with its plugin); convert it.",
    "truncated": "The file is cut short or damaged; copy or download it again.",
    "empty": "The file holds no bytes; choose it again.",
    "missing": "The file cannot be read.",
}


@dataclass(frozen=True, eq=False)
class Prepared:
    """A photograph as the model takes it.

    Attributes:
        pixels: (3, H, W) preprocessed.
        exif_deg: Latitude and longitude that its EXIF block states, where that was asked for and is usable.
    """

    pixels: Float32[np.ndarray, "3 h w"]
    exif_deg: tuple[float, float] | None


def prepare(
    data: bytes, preprocess: Preprocess, *, max_pixels: int, with_exif: bool, number: int = 0
) -> Prepared | Problem:
    """Decode and preprocess a photograph.

    Args:
        data: The file's bytes.
        preprocess: The model's.
        max_pixels: Larger pictures are refused.
        with_exif: Read the EXIF position too.
        number: Which photograph of the request it is.

    Returns:
        The photograph, or why it cannot be used. The words do not repeat the decoder's: they may quote the file.
    """
    try:
        pixels = preprocess.read(data, max_pixels=max_pixels)
        return Prepared(pixels, _exif_position(data, max_pixels) if with_exif else None)
    except PhotographError as error:
        return Problem(_KINDS[error.reason], _WORDS[error.reason], photograph=number)


def _exif_position(data: bytes, max_pixels: int) -> tuple[float, float] | None:
    with open_photograph(data, max_pixels=max_pixels) as image:
        facts = read_exif(image)
    lat, lon = facts.lat_deg, facts.lon_deg
    if lat is None or lon is None or facts.problem is not None or not bool(valid_positions(lat, lon)):
        return None
    return (lat, lon) if (lat, lon) != (0.0, 0.0) else None  # what cameras write that know no position
