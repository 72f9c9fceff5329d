"""Embed photographs in any common form, and positions: the implementation of `LocatorModel.encode_images`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from numpy.typing import ArrayLike
from PIL import Image, ImageOps
from torch import Tensor

from swclip.errors import InputError
from swclip.geo.coordinates import valid_positions
from swclip.imaging.decode import PhotographError, load_pixels
from swclip.imaging.preprocess import JointPreprocess, Pixels, Preprocess
from swclip.imaging.rgb import to_rgb
from swclip.models.embed import (
    Encoder,
    Failure,
    Progress,
    embed_positions,
    evaluating,
    pixel_batches,
    pixel_vectors,
    raise_failures,
)
from swclip.models.location_text import Words
from swclip.models.photograph_vectors import PhotographVectors
from swclip.progress import count_progress

Picture = str | os.PathLike[str] | bytes | Image.Image | np.ndarray[Any, Any] | Tensor
"""A photograph: a path, the bytes of a file, a PIL image, an array (H, W, 3) uint8, or a tensor (3, H, W)."""


@dataclass(frozen=True)
class _Named:
    """A photograph and its name in messages, which is also its path."""

    name: str
    content: Picture

    def __fspath__(self) -> str:
        return self.name


def encode_images(
    model: Encoder,
    images: Picture | Sequence[Picture],
    *,
    batch_size: int = 64,
    progress: bool | Progress | None = None,
    convert_to_numpy: bool = True,
    normalize: bool = False,
    workers: int | None = None,
) -> Any:
    """Embed photographs in any form; see `LocatorModel.encode_images`."""
    alone = isinstance(images, (str, os.PathLike, bytes, Image.Image)) or getattr(images, "ndim", 4) < 4
    listed: list[Any] = [images] if alone else list(images)  # type: ignore[arg-type]  # an array is a list of pictures
    named = [_named(picture, number) for number, picture in enumerate(listed)]
    failures: list[Failure] = []
    batches: list[PhotographVectors] = []
    done = 0
    with evaluating(model), count_progress(progress, "Encoding") as report:
        decoded = pixel_batches(
            lambda picture: _pixels(picture, model.preprocess), named, batch_size, workers, failures
        )
        for batch in decoded:
            batches.append(pixel_vectors(model, batch, whitened=False))
            done += len(batch)
            if report is not None:
                report(done, len(named))
    if failures:
        raise_failures(failures)
    embeddings = PhotographVectors.stacked(batches).embeddings
    return _converted(embeddings[0] if alone else embeddings, normalize, convert_to_numpy)


def encode_positions(
    model: Encoder,
    positions_deg: ArrayLike | Tensor,
    words: Words | Sequence[Words] | None = None,
    *,
    batch_size: int = 4096,
    progress: bool | Progress | None = None,
    convert_to_numpy: bool = True,
    normalize: bool = False,
) -> Any:
    """Check and embed positions; see `LocatorModel.encode_positions`.

    Raises:
        InputError: A position is not a latitude and longitude in degrees, or there is not one mapping of words for
            each.
    """
    if isinstance(positions_deg, Tensor):
        positions_deg = positions_deg.detach().cpu().numpy()
    try:
        positions = np.asarray(positions_deg, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"positions are not numbers ({error}); give latitude, longitude in degrees.") from error
    if positions.ndim not in (1, 2) or positions.shape[-1] != 2:
        raise InputError(
            f"positions have shape {positions.shape}, but (N, 2) is needed: latitude, longitude in degrees; (2,) for "
            "one position."
        )
    alone, positions = positions.ndim == 1, positions.reshape(-1, 2)
    wrong = np.flatnonzero(~valid_positions(positions[:, 0], positions[:, 1]))
    if len(wrong):
        lat, lon = positions[wrong[0]].tolist()
        swapped = bool(valid_positions(lon, lat))
        raise InputError(
            f"positions, row {wrong[0]}: ({lat}, {lon}) is not a latitude and longitude in degrees"
            + ("; latitude comes first." if swapped else ".")
        )
    listed = None
    if words is not None:
        several = [words] * len(positions) if isinstance(words, Mapping) else list(words)
        if len(several) != len(positions):
            raise InputError(f"{len(several)} words for {len(positions)} positions; give one mapping for each.")
        listed = [dict(mapping) for mapping in several]
    with count_progress(progress, "Encoding") as report:
        embeddings = embed_positions(model, positions, listed, batch_size=batch_size, progress=report)
    return _converted(embeddings[0] if alone else embeddings, normalize, convert_to_numpy)


def _converted(embeddings: Float32[np.ndarray, "*n d"], normalize: bool, convert_to_numpy: bool) -> Any:
    if normalize:
        embeddings = embeddings / np.linalg.norm(embeddings, axis=-1, keepdims=True)
    return embeddings if convert_to_numpy else torch.from_numpy(embeddings)


def _named(picture: Any, number: int) -> _Named:
    """Name a photograph; other objects are refused before anything is computed."""
    if isinstance(picture, (str, os.PathLike)):
        return _Named(os.fspath(picture), picture)
    if isinstance(picture, Image.Image):
        return _Named(getattr(picture, "filename", "") or f"image {number}", picture)
    name = f"image {number}"
    if isinstance(picture, bytes):
        return _Named(name, picture)
    if isinstance(picture, np.ndarray):
        if picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3 and picture.size:
            return _Named(name, picture)
        raise InputError(
            f"{name}: is an array {picture.shape} of {picture.dtype}, but (H, W, 3) of uint8 is needed; for other "
            "arrays use PIL.Image.fromarray(...)."
        )
    if isinstance(picture, Tensor):
        whole = picture.dtype == torch.uint8
        if picture.ndim == 3 and picture.shape[0] == 3 and picture.numel() and (whole or picture.is_floating_point()):
            if whole or (float(picture.min()) >= 0.0 and float(picture.max()) <= 1.0):
                return _Named(name, picture)
            raise InputError(
                f"{name}: is a tensor with values outside 0 to 1; give preprocessed pixels to model.encode_pixels."
            )
        raise InputError(
            f"{name}: is a tensor {tuple(picture.shape)} of {picture.dtype}, but (3, H, W) is needed, of uint8 or of "
            "floats from 0 to 1."
        )
    raise InputError(
        f"{name}: is a {type(picture).__name__}; give a path, a PIL image, an array (H, W, 3) of uint8 or a tensor "
        "(3, H, W)."
    )


def _pixels(named: Any, preprocess: Preprocess | JointPreprocess) -> Pixels:
    picture = named.content
    if isinstance(picture, Image.Image):
        load_pixels(picture, named.name)
        try:
            upright = ImageOps.exif_transpose(picture)
        except Exception:  # any error from a damaged EXIF block; the picture is still usable
            upright = picture
        return preprocess(to_rgb(upright))
    if isinstance(picture, np.ndarray):
        return preprocess(Image.fromarray(picture))
    if isinstance(picture, Tensor):
        values = picture.detach().cpu()
        if values.dtype != torch.uint8:
            values = (values * 255.0).round().to(torch.uint8)
        return preprocess(Image.fromarray(values.permute(1, 2, 0).contiguous().numpy()))
    try:
        return preprocess.read(picture)
    except PhotographError as error:
        raise PhotographError(named.name, error.reason, error.detail) from error
