"""Whitening of a frozen tower's features: PCA, each direction scaled to unit variance.

Features of pretrained towers have a few directions of large variance that all photographs of a city share (sky, road,
season), and these dominate a cosine. Whitening gives every kept direction the same weight:

    y = diag(lambda)^(-1/2) V^T (x - mean),      y / |y|

with the largest eigenvalues lambda of the covariance of the training photographs' features, and their directions V. It
is fitted on training photographs alone, never on queries.

References:
    H. Jegou, O. Chum, "Negative evidences and co-occurences in image retrieval: the benefit of PCA and whitening",
    ECCV 2012.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy.linalg import eigh

from swclip.errors import ArtefactError, ConfigError, InputError
from swclip.files import atomic_file
from swclip.models.blocks import cosines

WHITENING_NAME = "whitening.safetensors"
MAX_ROWS = 20_000
"""Largest number of feature vectors that a whitening is fitted on."""

DIMENSIONS = 512
"""Of 128 to 1024 the fewest after which validation queries gain little (docs/protocol.md)."""

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
        projection: (F, W) scaled directions, by decreasing variance.

    Example:
        >>> features = np.array([[10.0, 0.0], [-10.0, 0.0], [0.0, 0.1], [0.0, -0.1]], dtype=np.float32)
        >>> whitened = Whitening.fit(features)(features)
        >>> (whitened @ whitened.T).round(3)[0].tolist()
        [1.0, -1.0, 0.0, 0.0]
    """

    mean: Float32[np.ndarray, " f"]
    projection: Float32[np.ndarray, "f w"]

    @property
    def dimensions(self) -> int:
        """W, the number of values of a whitened vector."""
        return int(self.projection.shape[1])

    @property
    def fingerprint(self) -> str:
        """Identity of the values."""
        sha = hashlib.sha256(repr(self.projection.shape).encode())
        for array in (self.mean, self.projection):
            sha.update(np.ascontiguousarray(array, dtype="<f4").tobytes())
        return sha.hexdigest()[:32]

    @classmethod
    def fit(
        cls,
        features: Float32[np.ndarray, "n f"],
        dimensions: int = DIMENSIONS,
        *,
        max_rows: int = MAX_ROWS,
        seed: int = 0,
    ) -> Whitening:
        """Fit a whitening; the same features give the same values.

        Args:
            features: (N, F) features of the training photographs, or of their patches.
            dimensions: Number of directions to keep; fewer are kept where the features vary in fewer.
            max_rows: Largest number of rows that are used, drawn without replacement.
            seed: Seed of that draw.

        Raises:
            ConfigError: `dimensions` is below 1.
            InputError: There are fewer than two rows, they contain values that are not finite, or do not vary.
        """
        if dimensions < 1:
            raise ConfigError(f"whitening to {dimensions} dimensions: keep 1 or more.")
        if len(features) > max_rows:
            rows = np.sort(np.random.default_rng(seed).choice(len(features), max_rows, replace=False))
            features = features[rows]
        values = np.asarray(features, dtype=np.float64)
        if len(values) < 2 or not np.isfinite(values).all():
            raise InputError("whitening needs the finite features of at least two photographs.")
        mean = values.mean(axis=0)
        values -= mean
        width = values.shape[1]
        covariance = values.T @ values / len(values)
        kept = min(dimensions, width, len(values) - 1)
        variance, directions = eigh(covariance, subset_by_index=(width - kept, width - 1))
        variance, directions = variance[::-1], directions[:, ::-1]
        varies = variance > _NEGLIGIBLE * max(variance[0], np.finfo(np.float64).tiny)
        variance, directions = variance[varies], directions[:, varies]
        if not len(variance):
            raise InputError("whitening needs features that vary: all photographs have the same.")
        # The sign of an eigenvector is arbitrary.
        largest = np.abs(directions).argmax(axis=0)
        directions = directions * np.sign(directions[largest, np.arange(len(variance))])
        projection = directions / np.sqrt(variance)
        return cls(mean.astype(np.float32), np.ascontiguousarray(projection, dtype=np.float32))

    def __call__(self, features: Float32[np.ndarray, "n f"]) -> Float32[np.ndarray, "n w"]:
        """Whitened unit vectors (N, W) of features (N, F); each depends on its own row alone, and NaN remains NaN."""
        centred = np.asarray(features, dtype=np.float32) - self.mean
        whitened = cosines(centred, np.ascontiguousarray(self.projection.T))
        length = np.linalg.norm(whitened, axis=1, keepdims=True)
        return np.asarray(whitened / np.where(length > 0.0, length, 1.0), dtype=np.float32)


def write_whitening(folder: str | os.PathLike[str], whitening: Whitening) -> Path:
    """Write whitening.safetensors into a model's folder."""
    path = Path(folder) / WHITENING_NAME
    with atomic_file(path) as beside:
        tensors = {"mean": whitening.mean, "projection": whitening.projection}
        save_file(tensors, beside, metadata={"fingerprint": whitening.fingerprint})
    return path


def read_whitening(folder: str | os.PathLike[str]) -> Whitening | None:
    """Read the whitening in a model's folder; None where it has none.

    Raises:
        ArtefactError: The file exists and cannot be used.
    """
    path = Path(folder) / WHITENING_NAME
    if not path.is_file():
        return None
    try:
        tensors = load_file(path)
        whitening = Whitening(tensors["mean"], tensors["projection"])
    except (OSError, SafetensorError, KeyError) as error:
        raise ArtefactError(f"{path}: the whitening is damaged ({error}); copy or train the model again.") from error
    if whitening.projection.ndim != 2 or whitening.mean.shape != whitening.projection.shape[:1]:
        raise ArtefactError(f"{path}: mean and projection do not fit together; copy or train the model again.")
    return whitening
