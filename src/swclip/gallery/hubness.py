"""Hubness: the mean similarity of a gallery photograph to queries in general, measured with a bank of training queries.

In a space of many dimensions a few points are among the nearest of very many others (hubs), and rank first for queries
of other places. Training photographs represent future queries: with N_k(m) the k of them most similar to photograph m,

    r_m = 1/k sum_{b in N_k(m)} cos(b, m)

and the photograph's similarity is lowered by beta r_m before it enters the softmax. beta = 1/2 is cross-domain
similarity local scaling, 2 cos(q, m) - r_q - r_m: r_q cancels in a softmax over candidates, and the factor 2 is
absorbed by the temperature.

References:
    A. Conneau et al., "Word translation without parallel data", ICLR 2018, eq. 5 (CSLS).
    S. Smith et al., "Offline bilingual word vectors, orthogonal transformations and the inverted softmax", ICLR 2017.
    S.-V. Bogolin et al., "Cross modal retrieval with querybank normalisation", CVPR 2022 (the bank).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float16, Float32, Int64
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from swclip.errors import ArtefactError, ConfigError
from swclip.files import atomic_file
from swclip.models.blocks import cosines

BANK_NAME = "bank.safetensors"
MAX_BANK = 16384
"""Largest number of photographs in a bank: 8 MB of 256 numbers."""

NEIGHBOURS = 30
"""k. Conneau et al. take 10; on validation 4, 10 and 30 were better in that order (docs/results/parts.md)."""

_ROWS_AT_ONCE = 1024
_HIDDEN = "sha256:"


@dataclass(frozen=True)
class HubnessConfig:
    """Shares of the hubness that are tried in addition to 0 when a posterior is fitted; empty for none, 0.5 is CSLS.

    Attributes:
        photographs: Shares of the photographs' hubness.

    Raises:
        ConfigError: A share is below 0 or not finite.
    """

    photographs: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not all(0.0 <= share < float("inf") for share in self.photographs):
            raise ConfigError(f"hubness photographs {list(self.photographs)}: shares of the hubness must be 0 or more.")


@dataclass(frozen=True, eq=False)
class Bank:
    """Training photographs that represent future queries.

    Attributes:
        embeddings: (N, D) unit vectors.
        image_ids: N ids, so that a photograph is not compared with itself; or their digests, `hidden_id`.
    """

    embeddings: Float16[np.ndarray, "n d"]
    image_ids: list[str]

    def without_names(self) -> Bank:
        """The same bank with digests in place of the ids, which are often names of private folders and files."""
        return Bank(self.embeddings, [hidden_id(image_id) for image_id in self.image_ids])


def photograph_hubness(
    photographs: Float32[np.ndarray, "p d"], image_ids: Sequence[str], bank: Bank
) -> Float32[np.ndarray, " p"]:
    """Measure the hubness of a gallery's photographs with a bank.

    Args:
        photographs: (P, D) unit vectors.
        image_ids: P ids; a photograph that is in the bank itself is not compared with itself.
        bank: Photographs of the training split.

    Returns:
        (P,) r above.
    """
    row_of = {image_id: row for row, image_id in enumerate(bank.image_ids)}
    bank_rows_of = [row_of.get(i, row_of.get(hidden_id(i), -1)) for i in image_ids]
    return mean_similarity(photographs, bank, np.array(bank_rows_of, dtype=np.int64))


def hidden_id(image_id: str) -> str:
    """A digest that identifies an id; the digest of a digest is itself.

    Example:
        >>> hidden_id("anna/IMG_0012")
        'sha256:e5b99a6fdaf8a3bf'
        >>> hidden_id(hidden_id("anna/IMG_0012")) == hidden_id("anna/IMG_0012")
        True
    """
    if image_id.startswith(_HIDDEN):
        return image_id
    return _HIDDEN + hashlib.sha256(image_id.encode()).hexdigest()[:16]


def bank_rows(count: int, most: int = MAX_BANK) -> Int64[np.ndarray, " n"]:
    """The rows of `count` photographs that make a bank: all, or a uniform sample of `most`, the same in each call."""
    if count <= most:
        return np.arange(count, dtype=np.int64)
    return np.sort(np.random.default_rng(0).choice(count, most, replace=False)).astype(np.int64)


def mean_similarity(
    embeddings: Float32[np.ndarray, "m d"], bank: Bank, same_as: Int64[np.ndarray, " m"], k: int = NEIGHBOURS
) -> Float32[np.ndarray, " m"]:
    """Mean cosine of each embedding to the k most similar photographs of a bank; r above.

    Args:
        embeddings: (M, D) unit vectors.
        bank: The photographs; where there are fewer than k, all of them count.
        same_as: (M,) row of the bank that is the same photograph, which does not count; -1 for none.
        k: Number of neighbours.

    Example:
        >>> import numpy as np
        >>> bank = Bank(np.eye(2, dtype=np.float16), ["a", "b"])
        >>> mean_similarity(np.eye(2, dtype=np.float32), bank, np.array([-1, 1]), 2).tolist()
        [0.5, 0.0]
    """
    hubness = np.zeros(len(embeddings), dtype=np.float32)
    others = bank.embeddings.astype(np.float32)
    for start in range(0, len(embeddings), _ROWS_AT_ONCE):
        part = slice(start, min(start + _ROWS_AT_ONCE, len(embeddings)))
        similarity = cosines(embeddings[part], others)
        in_bank = np.flatnonzero(same_as[part] >= 0)
        similarity[in_bank, same_as[part][in_bank]] = -np.inf
        best = -np.partition(-similarity, min(k, len(others)) - 1, axis=1)[:, :k]
        counted = np.isfinite(best)
        total = np.where(counted, best, 0.0).sum(axis=1, dtype=np.float64)
        hubness[part] = total / np.maximum(counted.sum(axis=1), 1)
    return hubness


def write_bank(folder: str | os.PathLike[str], bank: Bank) -> Path:
    """Write bank.safetensors into a model's folder."""
    path = Path(folder) / BANK_NAME
    with atomic_file(path) as beside:
        save_file({"embeddings": bank.embeddings}, beside, metadata={"image_ids": json.dumps(bank.image_ids)})
    return path


def read_bank(folder: str | os.PathLike[str]) -> Bank | None:
    """Read the bank of a model; None where its posterior needs none.

    Args:
        folder: A run, or the model folder itself.

    Raises:
        ArtefactError: The file exists and cannot be used.
    """
    base = Path(folder)
    for path in (base / "model" / BANK_NAME, base / BANK_NAME):
        if path.is_file():
            try:
                with safe_open(path, framework="numpy") as stream:
                    ids = json.loads((stream.metadata() or {})["image_ids"])
                    bank = Bank(stream.get_tensor("embeddings"), [str(image_id) for image_id in ids])
            except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
                raise ArtefactError(f"{path}: the bank of queries is damaged ({error}); train again.") from error
            if bank.embeddings.ndim != 2 or len(bank.embeddings) != len(bank.image_ids) or not bank.image_ids:
                raise ArtefactError(
                    f"{path}: the embeddings and ids of the bank of queries differ in number; train the model again."
                )
            return bank
    return None
