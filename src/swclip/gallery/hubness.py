"""Hubness: some candidates are similar to every query. How much each one is, from a bank of queries known before.

In a space of many dimensions a few points are among the nearest of very many others (hubs), and win questions they
should not. Photographs of the training side stand for the queries to come: with N_k(m) the k of them most similar to
candidate m,

    r_m = 1/k sum_{b in N_k(m)} cos(b, m)

and a candidate's similarity is lowered by beta r_m before it goes into the softmax. beta = 1/2 is cross-domain
similarity local scaling, 2 cos(q, m) - r_q - r_m: a softmax over candidates knows no r_q, and halving is the
temperature's.

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

BANK_NAME = "bank.safetensors"
MOST = 16384
"""A bank holds at most so many photographs: 8 MB of 256 numbers."""

NEIGHBOURS = 30
"""k. Conneau et al. take 10; on validation 4, 10 and 30 were better in that order (docs/results/parts.md)."""

_ROWS_AT_ONCE = 1024
_HIDDEN = "sha256:"


@dataclass(frozen=True)
class HubnessConfig:
    """Shares of the hubness that are tried beside none when a posterior is fitted; empty for none, 0.5 is CSLS.

    Attributes:
        locations: Of the locations' hubness.
        photographs: Of the photographs'.
    """

    locations: tuple[float, ...] = ()
    photographs: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name in ("locations", "photographs"):
            shares = getattr(self, name)
            if not all(0.0 <= share < float("inf") for share in shares):
                raise ConfigError(f"hubness {name} {list(shares)}: shares of the hubness must be 0 or more.")

    @property
    def asked(self) -> bool:
        """Whether anything is to be tried."""
        return bool(self.locations or self.photographs)


@dataclass(frozen=True, eq=False)
class Bank:
    """Photographs of the training side.

    Attributes:
        embeddings: (N, D) unit vectors.
        image_ids: N ids, so that a photograph is not counted as similar to itself; or their digests, `hidden_id`.
    """

    embeddings: Float16[np.ndarray, "n d"]
    image_ids: list[str]

    def without_names(self) -> Bank:
        """The same with digests in place of the ids, which often are the names of somebody's folders and files."""
        return Bank(self.embeddings, [hidden_id(image_id) for image_id in self.image_ids])


@dataclass(frozen=True, eq=False)
class Hubness:
    """How similar to queries in general the candidates of a gallery are.

    Attributes:
        locations: (M,) of each candidate's location embedding.
        photographs: (P,) of each photograph.
    """

    locations: Float32[np.ndarray, " m"]
    photographs: Float32[np.ndarray, " p"]

    @classmethod
    def of(
        cls,
        locations: Float32[np.ndarray, "m d"],
        photographs: Float32[np.ndarray, "p d"],
        image_ids: Sequence[str],
        bank: Bank,
    ) -> Hubness:
        """Measure a gallery's embeddings with a bank."""
        nobody = np.full(len(locations), -1, dtype=np.int64)
        number = {image_id: at for at, image_id in enumerate(bank.image_ids)}
        own = np.array([number.get(i, number.get(hidden_id(i), -1)) for i in image_ids], dtype=np.int64)
        return cls(mean_similarity(locations, bank, nobody), mean_similarity(photographs, bank, own))

    def take(self, candidates: Int64[np.ndarray, " s"], photographs: Int64[np.ndarray, " t"]) -> Hubness:
        """Of some candidates and photographs."""
        return Hubness(self.locations[candidates], self.photographs[photographs])


def hidden_id(image_id: str) -> str:
    """A digest that an id is known again by; of a digest, the same.

    Example:
        >>> hidden_id("anna/IMG_0012")
        'sha256:e5b99a6fdaf8a3bf'
        >>> hidden_id(hidden_id("anna/IMG_0012")) == hidden_id("anna/IMG_0012")
        True
    """
    if image_id.startswith(_HIDDEN):
        return image_id
    return _HIDDEN + hashlib.sha256(image_id.encode()).hexdigest()[:16]


def bank_rows(count: int, most: int = MOST) -> Int64[np.ndarray, " n"]:
    """Which of so many photographs make a bank: all of them, or an even draw of `most`, the same each time."""
    if count <= most:
        return np.arange(count, dtype=np.int64)
    return np.sort(np.random.default_rng(0).choice(count, most, replace=False)).astype(np.int64)


def mean_similarity(
    embeddings: Float32[np.ndarray, "m d"], bank: Bank, own: Int64[np.ndarray, " m"], k: int = NEIGHBOURS
) -> Float32[np.ndarray, " m"]:
    """Mean cosine of each embedding to the k most similar photographs of a bank; r above.

    Args:
        embeddings: (M, D) unit vectors.
        bank: The photographs; where there are fewer than k, all of them count.
        own: (M,) the photograph of the bank that each embedding is itself, which does not count; -1 for none.
        k: How many.

    Example:
        >>> import numpy as np
        >>> bank = Bank(np.eye(2, dtype=np.float16), ["a", "b"])
        >>> mean_similarity(np.eye(2, dtype=np.float32), bank, np.array([-1, 1]), 2).tolist()
        [0.5, 0.0]
    """
    found = np.zeros(len(embeddings), dtype=np.float32)
    others = bank.embeddings.astype(np.float32)
    for start in range(0, len(embeddings), _ROWS_AT_ONCE):
        part = slice(start, min(start + _ROWS_AT_ONCE, len(embeddings)))
        similarity = embeddings[part] @ others.T
        known = np.flatnonzero(own[part] >= 0)
        similarity[known, own[part][known]] = -np.inf
        best = -np.partition(-similarity, min(k, len(others)) - 1, axis=1)[:, :k]
        there = np.isfinite(best)
        total = np.where(there, best, 0.0).sum(axis=1, dtype=np.float64)
        found[part] = total / np.maximum(there.sum(axis=1), 1)
    return found


def write_bank(folder: str | os.PathLike[str], bank: Bank) -> Path:
    """Write bank.safetensors into a model's folder."""
    path = Path(folder) / BANK_NAME
    with atomic_file(path) as beside:
        save_file({"embeddings": bank.embeddings}, beside, metadata={"image_ids": json.dumps(bank.image_ids)})
    return path


def read_bank(folder: str | os.PathLike[str]) -> Bank | None:
    """Read the bank of a model; None where its posterior needed none.

    Args:
        folder: A run, or the model folder itself.

    Raises:
        ArtefactError: The file is there and cannot be used.
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
                raise ArtefactError(f"{path}: the bank of queries does not fit together; train the model again.")
            return bank
    return None
