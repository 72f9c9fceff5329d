"""Mining far look-alikes with the weights of the moment, for the sampler to put into later batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64

from swclip.data.look_alikes import NOBODY, LookAlikes, Mined, far_look_alikes
from swclip.data.samplers import NeighbourBatchSampler
from swclip.errors import ConfigError
from swclip.models.embed import evaluating
from swclip.models.location_text import Words
from swclip.models.locator_model import LocatorModel
from swclip.training.bandwidth import Bandwidths
from swclip.training.distributed import Process, sum_over_all
from swclip.training.inputs import Source

_PARTS_OF = 1024
_IMAGES_AT_ONCE = 64
Side = Literal["image", "location"]
Embed = Callable[[Int64[np.ndarray, " b"], Side], Float32[np.ndarray, "b d"]]
"""From numbers of photographs and a side to unit vectors."""
_POOL = 13  # what a generator is for, beside the samplers' purposes and those of noise on positions


@dataclass(frozen=True)
class HardConfig:
    """Far look-alikes as hard negatives in the batch.

    Attributes:
        share: Share of a batch that is kept for look-alikes of its anchors; 0 for none.
        by: What alike is: `image`, two photographs' embeddings; `location`, a photograph's embedding and another's
            location's, which is what the contrast itself confuses.
        every: Steps between two minings. The first is after so many steps: before it nothing is known.
        radius_m: A look-alike is farther away than this, metres, ...
        bandwidths: ... and than so many of the widest bandwidth.
        among: Each anchor's look-alikes are drawn from so many of the most similar.
        pool: They are looked for among at most so many photographs, drawn anew each time.
    """

    share: float = 0.0
    by: Side = "image"
    every: int = 50
    radius_m: float = 100.0
    bandwidths: float = 3.0
    among: int = 10
    pool: int = 16384

    def __post_init__(self) -> None:
        if not 0.0 <= self.share < 1.0:
            raise ConfigError(f"batch.hard share {self.share} must be 0 (none) or more, and below 1.")
        for name in ("every", "among", "pool"):
            if getattr(self, name) < 1:
                raise ConfigError(f"batch.hard {name} {getattr(self, name)} must be at least 1.")
        if not (self.radius_m >= 0.0 and self.bandwidths >= 0.0):
            raise ConfigError(
                f"batch.hard radius_m {self.radius_m} and bandwidths {self.bandwidths} must be 0 or more."
            )


class Miner:
    """Finds the look-alikes of the anchors to come.

    Args:
        config: What to look for.
        sampler: Who says which photographs will be anchors. Not the one that another thread draws from.
        positions_deg: (N, 2) positions of the training photographs.
        widest_m: The widest bandwidth of each photograph (N,), metres.
        embed: What embeds them; see `embedder`.
        found: Where the look-alikes are put, for the sampler.
        seed: Seed of the pool.
        process: This process; each embeds its part.

    References:
        L. Xiong et al., "Approximate nearest neighbor negative contrastive learning for dense text retrieval" (2021):
        negatives mined from the model's own embeddings, anew every so many steps.
    """

    def __init__(
        self,
        config: HardConfig,
        sampler: NeighbourBatchSampler,
        positions_deg: Float64[np.ndarray, "n 2"],
        widest_m: Float64[np.ndarray, " n"],
        embed: Embed,
        found: LookAlikes,
        seed: int,
        process: Process,
    ) -> None:
        self._config, self._sampler, self._positions_deg = config, sampler, positions_deg
        self._apart_m = np.maximum(config.radius_m, config.bandwidths * widest_m)
        self._embed, self._found, self._seed, self._process = embed, found, seed, process

    def mine(self, done: int) -> dict[str, float]:
        """Mine after `done` steps, where it is time; what is found holds from step `done` + 1 on (see `LookAlikes`).

        Returns:
            Figures for the log: how many look-alikes an anchor has, and how similar the most similar is, on average;
            empty where it is not time.
        """
        if done % self._config.every:
            return {}
        rows = self._sampler.anchors(done + 1, self._config.every)
        n = len(self._positions_deg)
        pool = np.arange(n)
        if n > self._config.pool:
            rng = np.random.default_rng([self._seed, _POOL, done])
            pool = np.sort(rng.choice(n, self._config.pool, replace=False))
        which, similarity = far_look_alikes(
            self._embedded(rows, "image"),
            self._positions_deg[rows],
            self._embedded(pool, self._config.by),
            self._positions_deg[pool],
            self._apart_m[rows],
            self._config.among,
        )
        others = np.where(which == NOBODY, NOBODY, pool[which])
        self._found.put(Mined(done + 1, rows, others))
        there = which[:, 0] != NOBODY
        best = float(similarity[there, 0].mean()) if there.any() else 0.0
        return {"look_alikes": float((which != NOBODY).sum(axis=1).mean()), "look_alike_similarity": best}

    def _embedded(self, rows: Int64[np.ndarray, " r"], side: Side) -> Float32[np.ndarray, "r d"]:
        """Embeddings, each part by one process; the parts, and so the bits, do not depend on how many there are."""
        starts = range(0, len(rows), _PARTS_OF)
        own = {
            start: self._embed(rows[start : start + _PARTS_OF], side)
            for number, start in enumerate(starts)
            if number % self._process.count == self._process.rank
        }
        if self._process.count == 1:
            return np.concatenate([own[start] for start in starts])
        width = max(part.shape[1] for part in own.values()) if own else 0
        width = int(sum_over_all(torch.tensor([width if self._process.leads else 0], device=self._process.device)))
        whole = torch.zeros(len(rows), width, device=self._process.device)
        for start, part in own.items():
            whole[start : start + len(part)] = torch.from_numpy(part)
        return np.asarray(sum_over_all(whole).cpu().numpy())


def widest_bandwidths_m(bandwidths: Bandwidths, count: int) -> Float64[np.ndarray, " n"]:
    """The widest bandwidth of each of `count` photographs (N,), metres, without a start that is coarser."""
    widest = np.full(count, max(bandwidths.objective.targets.bandwidths_m))
    return widest if bandwidths.stretch is None else widest * bandwidths.stretch.numpy()


def embedder(
    model: LocatorModel,
    source: Source,
    positions_deg: Float64[np.ndarray, "n 2"],
    words: Sequence[Words] | None,
    *,
    frozen: bool,
) -> Embed:
    """What embeds training photographs with the weights of the moment, without dropout and augmentation.

    Args:
        model: The model that is trained.
        source: Its inputs by the photographs' numbers: features of a frozen tower, or pixels.
        positions_deg: (N, 2) where the photographs were taken.
        words: N mappings for the prompt, or None.
        frozen: Whether the inputs are features.
    """

    def embed(rows: Int64[np.ndarray, " b"], side: Side) -> Float32[np.ndarray, "b d"]:
        with evaluating(model):
            if side == "location":
                own = None if words is None else [words[row] for row in rows]
                found = model.position_embeddings(torch.from_numpy(positions_deg[rows]).to(model.device), own)
            else:
                encode = model.encode_image_features if frozen else model.encode_pixels
                parts = [rows[start : start + _IMAGES_AT_ONCE] for start in range(0, len(rows), _IMAGES_AT_ONCE)]
                found = torch.cat([encode(source.rows(part).to(model.device)) for part in parts])
            return np.asarray(found.float().cpu().numpy())

    return embed
