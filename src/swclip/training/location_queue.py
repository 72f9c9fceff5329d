"""Locations of earlier batches as further candidates of the contrast, and noise on positions, by step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from swclip.data.samplers import BatchSampler
from swclip.errors import ConfigError
from swclip.geo.coordinates import displaced
from swclip.losses import QueuedLocations
from swclip.models.location_text import Words
from swclip.models.locator_model import LocatorModel

# Purposes of random generators, beside those of the samplers (0 to 3).
_QUEUE_NOISE, _BATCH_NOISE = 10, 11


@dataclass(frozen=True)
class QueueConfig:
    """GeoCLIP's dynamic queue: locations of earlier batches as further negatives.

    Attributes:
        size: Number of locations in the queue, the latest ones; 0 for no queue. The queue is shorter in the first
            steps.
        noise_m: Standard deviation, in metres to the east and to the north, of the noise on their positions, drawn at
            each step.

    Raises:
        ConfigError: A value that cannot work.
    """

    size: int = 0
    noise_m: float = 0.0

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ConfigError(f"queue size {self.size} must be 0 (no queue) or more.")
        check_noise("queue noise_m", self.noise_m)


def check_noise(name: str, noise_m: float) -> None:
    """Refuse a standard deviation that is negative or not finite.

    Args:
        name: Its name in the message.
        noise_m: The standard deviation, metres.

    Raises:
        ConfigError: It cannot work; the message has the value.
    """
    if not (math.isfinite(noise_m) and noise_m >= 0.0):
        raise ConfigError(f"{name} {noise_m} must be 0 or more metres.")


@dataclass(frozen=True)
class QueuedPlaces:
    """The queue at one step; the same in every process.

    Attributes:
        positions_deg: (Q, 2) latitude, longitude in degrees, noise included.
        accuracy_m: (Q,) GPS accuracies of their photographs in metres, NaN where unknown.
        words: Q mappings of the prompt's other fields, or None.
    """

    positions_deg: Tensor
    accuracy_m: Tensor
    words: list[Words] | None


class LocationQueue:
    """The queue at any step.

    Since a batch is a pure function of seed and step, the queue at a step consists of the locations of the batches
    before it: it has no state, needs no checkpoint, and a run that was killed resumes with the queue it would have had.

    Args:
        sampler: Draws the batches; not shared with another thread, since samplers cache permutations.
        positions_deg: (N, 2) positions of the training photographs, degrees.
        accuracy_m: (N,) their GPS accuracies, metres.
        words: N mappings for the prompt, or None.
        config: Size and noise.
        seed: Seed of the noise.
    """

    def __init__(
        self,
        sampler: BatchSampler,
        positions_deg: Float64[np.ndarray, "n 2"],
        accuracy_m: Float[Tensor, " n"],
        words: Sequence[Words] | None,
        config: QueueConfig,
        seed: int,
    ) -> None:
        self._sampler, self._positions_deg, self._accuracy_m, self._words = sampler, positions_deg, accuracy_m, words
        self._config, self._seed = config, seed
        self._drawn: dict[int, Int64[np.ndarray, " b"]] = {}

    def rows(self, step: int) -> Int64[np.ndarray, " q"]:
        """Numbers (Q,) of the photographs whose locations are queued at a step, the latest batch first."""
        size = self._config.size
        batches = min(step, -(-size // self._sampler.batch_size))
        steps = range(step - 1, step - 1 - batches, -1)
        self._drawn = {s: self._drawn[s] if s in self._drawn else self._sampler.global_batch(s) for s in steps}
        rows = [self._drawn[s] for s in steps]
        return np.concatenate(rows)[:size] if rows else np.empty(0, dtype=np.int64)

    def at(self, step: int) -> QueuedPlaces | None:
        """The queue at a step; None where it is empty."""
        rows = self.rows(step)
        if not len(rows):
            return None
        noise_m = np.random.default_rng([self._seed, _QUEUE_NOISE, step]).normal(size=(len(rows), 2))
        places = displaced(self._positions_deg[rows], self._config.noise_m * noise_m)
        words = None if self._words is None else [self._words[row] for row in rows]
        return QueuedPlaces(torch.from_numpy(places), self._accuracy_m[torch.from_numpy(rows)], words)


def noisy_positions(
    positions_deg: Float64[Tensor, "b 2"], noise_m: float, seed: int, step: int, rank: int = 0
) -> Float64[Tensor, "b 2"]:
    """The local positions of a batch with Gaussian noise, equal to a draw for the whole batch.

    Args:
        positions_deg: (B, 2) degrees.
        noise_m: Standard deviation, in metres to the east and to the north; 0 returns the positions unchanged.
        seed: Seed of the noise.
        step: The step.
        rank: This process's number, which selects its rows of the batch's noise.

    Returns:
        (B, 2) degrees.
    """
    if noise_m == 0.0:
        return positions_deg
    share = len(positions_deg)
    drawn = np.random.default_rng([seed, _BATCH_NOISE, step]).normal(size=((rank + 1) * share, 2))[rank * share :]
    return torch.from_numpy(displaced(positions_deg.numpy(), noise_m * drawn))


def embed_locations(
    model: LocatorModel, positions_deg: Tensor, words: list[Words] | None, queue: QueuedPlaces | None
) -> tuple[Float[Tensor, "b d"], QueuedLocations | None]:
    """Embed the locations of a batch and of its queue in one pass: a location in both is encoded once.

    Args:
        model: The model.
        positions_deg: (B, 2) positions of the batch, degrees.
        words: B mappings for the prompt, or None.
        queue: The queue, or None.

    Returns:
        (B, D) embeddings of the batch, and the embedded queue or None.
    """
    if queue is None:
        return model.position_embeddings(positions_deg, words), None
    everywhere = torch.cat([positions_deg, queue.positions_deg])
    both = model.position_embeddings(everywhere, None if words is None else [*words, *(queue.words or [])])
    at = len(positions_deg)
    return both[:at], QueuedLocations(both[at:].float(), queue.positions_deg, queue.accuracy_m)
