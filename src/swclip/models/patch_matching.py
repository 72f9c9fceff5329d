"""Compare the patch features of two photographs: how similar they are, and which patches show the same thing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int8, Int64

LEAST_COSINE = 0.5
"""Patches that are less similar do not count as showing the same thing."""


def unit_patches(patches: Int8[np.ndarray, "n w"]) -> Float32[np.ndarray, "n w"]:
    """Patch features as unit vectors; a patch of zeros remains zero.

    Example:
        >>> unit_patches(np.array([[0, 127], [-127, 127], [0, 0]], dtype=np.int8)).round(3).tolist()
        [[0.0, 1.0], [-0.7070000171661377, 0.7070000171661377], [0.0, 0.0]]
    """
    values = patches.astype(np.float32)
    length = np.sqrt(np.einsum("nw,nw->n", values, values))
    values /= np.where(length > 0.0, length, np.float32(1.0))[:, None]
    return values


def patch_similarities(
    query: Int8[np.ndarray, "y x w"], photographs: Sequence[Int8[np.ndarray, "v u w"]]
) -> Float32[np.ndarray, " n"]:
    """How much of a query each of N photographs shows: a sum over the mutual matches of their patches.

        s = (1 / P) sum over pairs (i, j), each the best match of the other, of max(<a_i, b_j> - 1/2, 0)

    with the P patches a_i of the query and b_j of the photograph, unit vectors. The mean of the best cosines of all
    patches, matched or not, tells photographs of one place apart less well (docs/method.md).

    Args:
        query: Patch features of the query.
        photographs: Patch features of the photographs, each with its own numbers of rows and columns.

    Returns:
        (N,) from 0 to 1/2.

    Example:
        >>> query = np.array([[[0, 127], [127, 0]]], dtype=np.int8)
        >>> patch_similarities(query, [query, query[:, :1]]).tolist()
        [0.5, 0.25]
    """
    if not photographs:
        return np.zeros(0, dtype=np.float32)
    width = query.shape[-1]
    patches = [photograph.reshape(-1, width) for photograph in photographs]
    counts = [len(rows) for rows in patches]
    starts = np.cumsum([0, *counts[:-1]])
    cosines = unit_patches(np.concatenate(patches)) @ unit_patches(query.reshape(-1, width)).T
    best_of_query = np.maximum.reduceat(cosines, starts, axis=0)
    best = cosines.argmax(axis=1)
    cosine = cosines[np.arange(len(best)), best]
    mutual = cosine == best_of_query[np.repeat(np.arange(len(counts)), counts), best]
    excess = np.where(mutual, np.maximum(cosine - LEAST_COSINE, 0.0), 0.0)
    return np.asarray(np.add.reduceat(excess, starts) / cosines.shape[1], dtype=np.float32)


@dataclass(frozen=True, eq=False)
class PatchMatches:
    """Pairs of patches of two photographs, the most similar first.

    Attributes:
        query: (N, 2) row and column of the query's patches.
        photograph: (N, 2) row and column of the photograph's.
        cosine: (N,) their cosines.
        query_shape: Rows and columns of the query.
        photograph_shape: Rows and columns of the photograph.
        total: Number of matches, of which the N are the most similar.
    """

    query: Int64[np.ndarray, "n 2"]
    photograph: Int64[np.ndarray, "n 2"]
    cosine: Float32[np.ndarray, " n"]
    query_shape: tuple[int, int]
    photograph_shape: tuple[int, int]
    total: int

    def __len__(self) -> int:
        return len(self.cosine)

    def centres(self) -> tuple[Float64[np.ndarray, "n 2"], Float64[np.ndarray, "n 2"]]:
        """Centres (N, 2) of the patches in the query and in the photograph: x and y as shares of width and height."""
        pairs = ((self.query, self.query_shape), (self.photograph, self.photograph_shape))
        query, photograph = (((rows + 0.5) / np.asarray(shape))[:, ::-1] for rows, shape in pairs)
        return query, photograph


def mutual_matches(
    query: Int8[np.ndarray, "y x w"], photograph: Int8[np.ndarray, "v u w"], most: int = 30
) -> PatchMatches:
    """The most similar pairs of patches, each the best match of the other: those that `patch_similarities` counts.

    Args:
        query: Patch features of the query.
        photograph: Patch features of the photograph.
        most: Largest number of pairs.
    """
    width = query.shape[-1]
    cosines = unit_patches(query.reshape(-1, width)) @ unit_patches(photograph.reshape(-1, width)).T
    best = cosines.argmax(axis=1)
    mutual = np.flatnonzero(cosines.argmax(axis=0)[best] == np.arange(len(best)))
    mutual = mutual[cosines[mutual, best[mutual]] > LEAST_COSINE]
    cosine = cosines[mutual, best[mutual]]
    order = np.argsort(-cosine, kind="stable")[:most]
    pairs = mutual[order]
    return PatchMatches(
        np.stack(np.divmod(pairs, query.shape[1]), axis=1),
        np.stack(np.divmod(best[pairs], photograph.shape[1]), axis=1),
        cosine[order],
        (query.shape[0], query.shape[1]),
        (photograph.shape[0], photograph.shape[1]),
        len(mutual),
    )
