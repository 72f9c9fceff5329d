"""Patch features: a small vector for each patch of a photograph, by which two photographs are compared in detail.

The last tokens of the image tower, before they are pooled, say what is visible where. They are whitened to 64 numbers
(`swclip.models.whitening`, fitted on patches of training photographs) and stored as int8: 16 kB for the 16 x 16 patches
of a photograph of 224 x 224 pixels. Each patch is scaled so that its largest number is 127, and its length is restored
to 1 when it is used (`swclip.models.patch_matching`): the rounding changes a cosine by less than 0.01.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from jaxtyping import Float32, Int8
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from swclip.errors import ArtefactError, MismatchError
from swclip.files import atomic_file
from swclip.models.blocks import picture_rows
from swclip.models.whitening import Whitening

if TYPE_CHECKING:
    from swclip.models.image_tower import ImageTower

PATCHES_NAME = "patches.safetensors"
_LARGEST = 127.0


@dataclass(frozen=True, eq=False)
class PatchEncoder:
    """From the last tokens of an image tower to patch features.

    Attributes:
        whitening: Whitening of the tokens, fitted on those of training photographs.
    """

    whitening: Whitening

    @property
    def dimensions(self) -> int:
        """W, the numbers of each patch."""
        return self.whitening.dimensions

    @property
    def fingerprint(self) -> str:
        """Identity of the values."""
        return self.whitening.fingerprint

    def __call__(self, tokens: Float32[np.ndarray, "y x c"]) -> Int8[np.ndarray, "y x w"]:
        """Patch features of the tokens of one photograph.

        Raises:
            MismatchError: The tokens are of another tower.
        """
        rows, columns, width = tokens.shape
        if width != len(self.whitening.mean):
            raise MismatchError(
                f"the tower's tokens have {width} numbers, and the patch features were fitted on tokens of "
                f"{len(self.whitening.mean)}: they belong to another model; train it again."
            )
        whitened = self.whitening(tokens.reshape(rows * columns, width))
        largest = np.abs(whitened).max(axis=1, keepdims=True)
        scaled = np.rint(whitened * (_LARGEST / np.where(largest > 0.0, largest, 1.0)))
        return scaled.astype(np.int8).reshape(rows, columns, -1)


def features_and_tokens(
    tower: ImageTower, batch: Sequence[Any]
) -> tuple[Any, list[Float32[np.ndarray, "y x c"] | None]]:
    """Pooled features and tokens of preprocessed photographs, by one pass of the tower.

    Args:
        tower: The tower, in evaluation mode and without gradients.
        batch: B photographs (3, H, W), of several towers tuples of them; None where one cannot be decoded.

    Returns:
        As `swclip.models.embed.pixel_features`; and the tokens of each photograph, None where it is None.
    """
    pictures = {row: picture if isinstance(picture, tuple) else (picture,) for row, picture in enumerate(batch)}
    of_shape = defaultdict[tuple[tuple[int, ...], ...], list[int]](list)
    for row, parts in pictures.items():
        if parts[0] is not None:
            of_shape[tuple(part.shape for part in parts)].append(row)
    device = next(tower.parameters()).device
    size = picture_rows(device)
    features: Float32[np.ndarray, "b f"] | None = None
    tokens: list[Float32[np.ndarray, "y x c"] | None] = [None] * len(batch)
    # Blocks of one shape and size, so that no row depends on the others (`swclip.models.blocks`).
    for rows in of_shape.values():
        for start in range(0, len(rows), size):
            block = rows[start : start + size]
            filled = block + block[-1:] * (size - len(block))
            inputs = [
                torch.from_numpy(np.stack(parts)).to(device)
                for parts in zip(*(pictures[row] for row in filled), strict=True)
            ]
            pooled, maps = (part.float().cpu().numpy() for part in tower.with_patches(*inputs))
            if features is None:
                features = np.full((len(batch), pooled.shape[1]), np.nan, dtype=np.float32)
            features[block] = pooled[: len(block)]
            for row, map_ in zip(block, maps[: len(block)], strict=True):
                tokens[row] = np.ascontiguousarray(map_.transpose(1, 2, 0))
    return len(batch) if features is None else features, tokens


class _Patched(Protocol):
    @property
    def folder(self) -> Path | None: ...

    @property
    def patches(self) -> PatchEncoder | None: ...


def encoder_of(model: _Patched) -> PatchEncoder:
    """The patch features of a model.

    Raises:
        ArtefactError: It has none.
    """
    if model.patches is None:
        raise ArtefactError(
            f"{model.folder or 'the model'}: has no patch features ({PATCHES_NAME}), which verification needs; train a "
            "run with them: swclip train MANIFEST ... --verify 20"
        )
    return model.patches


_SHAPE = np.dtype("<u2")


def patches_to_bytes(patches: Int8[np.ndarray, "y x w"]) -> bytes:
    """Patch features as a gallery stores them: rows and columns as two uint16, then the numbers."""
    return np.array(patches.shape[:2], dtype=_SHAPE).tobytes() + np.ascontiguousarray(patches).tobytes()


def patches_from_bytes(data: bytes | Int8[np.ndarray, " n"], dimensions: int) -> Int8[np.ndarray, "y x w"]:
    """The inverse of `patches_to_bytes`; the numbers are not copied.

    Raises:
        ArtefactError: The number of bytes is not that of the rows and columns.

    Example:
        >>> patches = np.arange(12, dtype=np.int8).reshape(2, 3, 2)
        >>> bool((patches_from_bytes(patches_to_bytes(patches), 2) == patches).all())
        True
    """
    start = 2 * _SHAPE.itemsize
    values = np.frombuffer(data, dtype=np.int8)
    rows, columns = values[:start].view(_SHAPE).tolist() if len(values) > start else (0, 0)
    if len(values) != start + rows * columns * dimensions or rows * columns == 0:
        raise ArtefactError(
            f"patch features of {rows} x {columns} patches of {dimensions} numbers have {len(values)} bytes: they are "
            "damaged; make the gallery again with: swclip index RUN MANIFEST --out GALLERY"
        )
    return values[start:].reshape(rows, columns, dimensions)


def write_patch_encoder(folder: str | os.PathLike[str], encoder: PatchEncoder) -> Path:
    """Write patches.safetensors into a model's folder."""
    path = Path(folder) / PATCHES_NAME
    with atomic_file(path) as beside:
        save_file({"mean": encoder.whitening.mean, "projection": encoder.whitening.projection}, beside)
    return path


def read_patch_encoder(folder: str | os.PathLike[str]) -> PatchEncoder | None:
    """Read the patch features of a model; None where it has none.

    Args:
        folder: The model folder.

    Raises:
        ArtefactError: The file exists and cannot be used.
    """
    path = Path(folder) / PATCHES_NAME
    if not path.is_file():
        return None
    try:
        tensors = load_file(path)
        whitening = Whitening(tensors["mean"], tensors["projection"])
    except (OSError, SafetensorError, KeyError) as error:
        raise ArtefactError(f"{path}: the patch features are damaged ({error}); train the model again.") from error
    if whitening.projection.ndim != 2 or whitening.mean.shape != whitening.projection.shape[:1]:
        raise ArtefactError(f"{path}: mean and projection do not fit together; copy or train the model again.")
    return PatchEncoder(whitening)
