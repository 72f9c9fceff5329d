"""Whitening of a frozen tower's features: PCA, each direction scaled to unit variance.

Features of pretrained towers have a few directions of large variance that all photographs of a city share (sky, road,
season), and these dominate a cosine. Whitening gives every kept direction the same weight:

    y = diag(lambda)^(-1/2) V^T (x - mean),      y / |y|

with the largest eigenvalues lambda of the covariance of the training photographs' features, and their directions V. It
is fitted on training photographs alone, never on queries. The features of several towers are whitened tower by tower,
and their unit vectors joined, each scaled by 1 / sqrt(number of towers): all towers weigh the same.

References:
    H. Jegou, O. Chum, "Negative evidences and co-occurences in image retrieval: the benefit of PCA and whitening",
    ECCV 2012.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from swclip.errors import ArtefactError, ConfigError, InputError
from swclip.files import atomic_file
from swclip.models.blocks import cosines

WHITENING_NAME = "whitening.safetensors"
NOVELTY_NAME = "novelty.safetensors"
"""The whitening by which the novelty of photographs is measured (`Whitening.log_distance`)."""

NOVELTY_DIMENSIONS = 256
MAX_ROWS = 20_000
"""Largest number of feature vectors that a whitening is fitted on."""

DIMENSIONS = 512
"""On the validation queries of Cambridge 256, 512 and 1024 directions of three blocks of DINOv2-S-9 place 68.8, 74.4
and 75.0 % within 25 m, nothing trained."""

_NEGLIGIBLE = 1e-9


@dataclass(frozen=True)
class WhiteningConfig:
    """Whitened features of the frozen tower as a further evidence of photographs.

    Attributes:
        dimensions: Number of directions to keep; 0 for no whitened features.
        photographs: Largest number of training photographs that it is fitted on, drawn by a fixed seed.

    Raises:
        ConfigError: A number is too small.
    """

    dimensions: int = 0
    photographs: int = MAX_ROWS

    def __post_init__(self) -> None:
        if self.dimensions < 0 or self.photographs < 2:
            raise ConfigError(
                f"whitening dimensions {self.dimensions} must be 0 (none) or more, photographs {self.photographs} 2 or "
                "more."
            )


@dataclass(frozen=True, eq=False)
class Whitening:
    """A fitted whitening.

    Attributes:
        mean: (F,) mean of the training features.
        projection: (F, W) scaled directions, by decreasing variance; of several towers their blocks on the diagonal.
        blocks: Number of values of each tower in a whitened vector, where there are several.

    Example:
        >>> features = np.array([[10.0, 0.0], [-10.0, 0.0], [0.0, 0.1], [0.0, -0.1]], dtype=np.float32)
        >>> whitened = Whitening.fit(features)(features)
        >>> (whitened @ whitened.T).round(3)[0].tolist()
        [1.0, -1.0, 0.0, 0.0]
    """

    mean: Float32[np.ndarray, " f"]
    projection: Float32[np.ndarray, "f w"]
    blocks: tuple[int, ...] = ()

    @property
    def dimensions(self) -> int:
        """W, the number of values of a whitened vector."""
        return int(self.projection.shape[1])

    @property
    def fingerprint(self) -> str:
        """Identity of the values."""
        sha = hashlib.sha256(f"{self.projection.shape}{self.blocks or ''}".encode())
        for array in (self.mean, self.projection):
            sha.update(np.ascontiguousarray(array, dtype="<f4").tobytes())
        return sha.hexdigest()[:32]

    @classmethod
    def fit(
        cls,
        features: Float32[np.ndarray, "n f"],
        dimensions: int = DIMENSIONS,
        *,
        widths: Sequence[int] = (),
        max_rows: int = MAX_ROWS,
        seed: int = 0,
    ) -> Whitening:
        """Fit a whitening; the same features give the same values.

        Args:
            features: (N, F) features of the training photographs, or of their patches.
            dimensions: Number of directions to keep of each tower; fewer are kept where its features vary in fewer.
            widths: Number of features of each tower, where there are several (`LocatorModel.feature_widths`).
            max_rows: Largest number of rows that are used, drawn without replacement.
            seed: Seed of that draw.

        Raises:
            ConfigError: `dimensions` is below 1.
            InputError: There are fewer than two rows, they contain values that are not finite, or do not vary.
        """
        if dimensions < 1:
            raise ConfigError(f"whitening to {dimensions} dimensions: keep 1 or more.")
        from scipy.linalg import block_diag  # answers need no fit, and it is slow to import

        if len(features) > max_rows:
            rows = np.sort(np.random.default_rng(seed).choice(len(features), max_rows, replace=False))
            features = features[rows]
        values = np.asarray(features, dtype=np.float64)
        if len(values) < 2 or not np.isfinite(values).all():
            raise InputError("whitening needs the finite features of at least two photographs.")
        mean = values.mean(axis=0)
        values -= mean
        edges = np.cumsum(widths or [values.shape[1]])
        parts = [_directions(block, dimensions) for block in np.split(values, edges[:-1], axis=1)]
        return cls(
            mean.astype(np.float32),
            np.ascontiguousarray(block_diag(*parts), dtype=np.float32),
            tuple(part.shape[1] for part in parts) if len(parts) > 1 else (),
        )

    def __call__(self, features: Float32[np.ndarray, "n f"]) -> Float32[np.ndarray, "n w"]:
        """Whitened unit vectors (N, W) of features (N, F); each depends on its own row alone, and NaN remains NaN."""
        return joined_units(self._project(features), self.blocks or (self.dimensions,))

    def log_distance(self, features: Float32[np.ndarray, "n f"]) -> Float32[np.ndarray, " n"]:
        """Log of the Mahalanobis distance of features (N, F) from the mean of the training photographs, (N,).

        It is the log length of the whitened vector: large for photographs unlike those of training, such as of another
        country or another kind of camera (K. Lee et al., "A simple unified framework for detecting out-of-distribution
        samples and adversarial attacks", NeurIPS 2018, with one class).
        """
        lengths = np.linalg.norm(self._project(features).astype(np.float64), axis=1)
        return np.asarray(np.log(np.maximum(lengths, np.finfo(np.float32).tiny)), dtype=np.float32)

    def _project(self, features: Float32[np.ndarray, "n f"]) -> Float32[np.ndarray, "n w"]:
        centred = np.asarray(features, dtype=np.float32) - self.mean
        return cosines(centred, np.ascontiguousarray(self.projection.T))


def joined_units(vectors: Float32[np.ndarray, "n w"], blocks: Sequence[int]) -> Float32[np.ndarray, "n w"]:
    """Unit vectors in which each block of values has the same length; zeros remain zeros.

    Args:
        vectors: (N, W) vectors.
        blocks: Numbers of values of consecutive blocks; their sum is W.

    Example:
        >>> joined_units(np.array([[3.0, 4.0, 100.0]], dtype=np.float32), [2, 1]).astype(float).round(3).tolist()
        [[0.424, 0.566, 0.707]]
    """
    units = np.array(vectors, dtype=np.float32)
    for block in np.split(units, np.cumsum(blocks)[:-1], axis=1):
        length = np.linalg.norm(block, axis=1, keepdims=True)
        block /= np.where(length > 0.0, length, 1.0)
    return units if len(blocks) == 1 else units / np.float32(np.sqrt(len(blocks)))


def _directions(values: Float64[np.ndarray, "n f"], dimensions: int) -> Float64[np.ndarray, "f w"]:
    """The scaled principal directions of centred values."""
    from scipy.linalg import eigh

    count, width = values.shape
    kept = min(dimensions, width, count - 1)
    # The Gram matrix has the eigenvalues of the covariance, and is the smaller one of few photographs.
    few = count < width
    matrix = (values @ values.T if few else values.T @ values) / count
    variance, vectors = eigh(matrix, subset_by_index=(len(matrix) - kept, len(matrix) - 1))
    variance, vectors = variance[::-1], vectors[:, ::-1]
    varies = variance > _NEGLIGIBLE * max(variance[0], np.finfo(np.float64).tiny)
    variance, vectors = variance[varies], vectors[:, varies]
    if not len(variance):
        raise InputError("whitening needs features that vary: all photographs have the same.")
    directions = values.T @ vectors / np.sqrt(count * variance) if few else vectors
    # The sign of an eigenvector is arbitrary.
    largest = np.abs(directions).argmax(axis=0)
    directions = directions * np.sign(directions[largest, np.arange(len(variance))])
    return np.asarray(directions / np.sqrt(variance))


def write_whitening(folder: str | os.PathLike[str], whitening: Whitening, name: str = WHITENING_NAME) -> Path:
    """Write a whitening into a model's folder."""
    path = Path(folder) / name
    with atomic_file(path) as beside:
        tensors = {"mean": whitening.mean, "projection": whitening.projection}
        if whitening.blocks:
            tensors["blocks"] = np.array(whitening.blocks, dtype=np.int64)
        save_file(tensors, beside, metadata={"fingerprint": whitening.fingerprint})
    return path


def read_whitening(folder: str | os.PathLike[str], name: str = WHITENING_NAME) -> Whitening | None:
    """Read the whitening in a model's folder; None where it has none.

    Raises:
        ArtefactError: The file exists and cannot be used.
    """
    path = Path(folder) / name
    if not path.is_file():
        return None
    try:
        tensors = load_file(path)
        blocks = tuple(int(count) for count in tensors.get("blocks", ()))
        whitening = Whitening(tensors["mean"], tensors["projection"], blocks)
    except (OSError, SafetensorError, KeyError) as error:
        raise ArtefactError(f"{path}: the whitening is damaged ({error}); copy or train the model again.") from error
    mean, projection = whitening.mean, whitening.projection
    fitting = projection.ndim == 2 and mean.shape == projection.shape[:1]
    if not fitting or sum(blocks or projection.shape[1:]) != projection.shape[1]:
        raise ArtefactError(f"{path}: mean and projection do not fit together; copy or train the model again.")
    return whitening
