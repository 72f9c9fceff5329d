"""What the model is trained on: features of a frozen tower, or decoded photographs, fetched one batch ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from swclip.imaging.preprocess import Preprocess

_IN_MEMORY_BYTES = 2 << 30


class Source(Protocol):
    """Where the inputs of a batch come from."""

    def rows(self, rows: Int64[np.ndarray, " b"]) -> Tensor:
        """Inputs of some photographs, by their number in the training set."""
        ...


class FeatureSource:
    """Features of a frozen tower, all in memory, of the type they are kept in."""

    def __init__(self, features: Float[np.ndarray, "n f"]) -> None:
        self._features = torch.from_numpy(features)

    def rows(self, rows: Int64[np.ndarray, " b"]) -> Tensor:
        """(B, F) features, float32."""
        return self._features[torch.from_numpy(rows)].float()


class PhotographSource:
    """Decoded and preprocessed photographs; kept in memory after the first time while there is room.

    Args:
        paths: N photographs.
        preprocess: How a photograph becomes the model's input.
        workers: Decoding threads.
        memory_bytes: Photographs are kept, in half precision, if all of them fit into this.
    """

    def __init__(
        self, paths: Sequence[Path], preprocess: Preprocess, workers: int, memory_bytes: int = _IN_MEMORY_BYTES
    ) -> None:
        self._paths, self._preprocess = list(paths), preprocess
        self._pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="swclip-decode")
        shape = (len(self._paths), 3, preprocess.size_px, preprocess.size_px)
        fits = 2 * int(np.prod(shape)) <= memory_bytes
        self._kept = torch.zeros(shape, dtype=torch.float16) if fits else None
        self._there = np.zeros(len(self._paths), dtype=np.bool_)

    def rows(self, rows: Int64[np.ndarray, " b"]) -> Tensor:
        """(B, 3, H, W) normalised pixels, float32.

        Raises:
            PhotographError: One cannot be decoded.
        """
        if self._kept is None:
            read = self._pool.map(self._preprocess.read, (self._paths[row] for row in rows))
            return torch.from_numpy(np.stack(list(read)))
        missing = rows[~self._there[rows]]
        for row, pixels in zip(
            missing, self._pool.map(self._preprocess.read, (self._paths[row] for row in missing)), strict=True
        ):
            self._kept[int(row)] = torch.from_numpy(pixels).to(torch.float16)
        self._there[missing] = True
        # Through float16 the first time too, so that a photograph is the same whenever it is drawn.
        return self._kept[torch.from_numpy(rows)].to(torch.float32)


def fetched_ahead(
    source: Source, batch: Callable[[int], Int64[np.ndarray, " b"]], first: int, steps: int
) -> Iterator[tuple[int, Int64[np.ndarray, " b"], Tensor]]:
    """Batches from step `first` on, the next one fetched while the current one is used.

    Yields:
        Step, rows and inputs.
    """

    def fetch(step: int) -> tuple[int, Int64[np.ndarray, " b"], Tensor]:
        rows = batch(step)
        return step, rows, source.rows(rows)

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="swclip-fetch") as pool:
        waiting = pool.submit(fetch, first) if first < steps else None
        while waiting is not None:
            current = waiting.result()
            following = current[0] + 1
            waiting = pool.submit(fetch, following) if following < steps else None
            yield current
