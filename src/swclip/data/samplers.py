"""Batch samplers: random photographs, or anchors with their geographic neighbours.

A batch is a pure function of the seed and the step. A run that was killed therefore resumes with the batches it would
have drawn, and every process of a distributed run draws the same global batch and takes its slice of it.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int64
from numpy.typing import ArrayLike

from swclip.errors import ConfigError, MismatchError
from swclip.geo.neighbours import SphereIndex

# Purposes of random generators, so that permutations and batches of one seed are independent.
_BATCH, _EPOCH, _REGIONS, _REGION = range(4)


class BatchSampler(ABC):
    """An endless sequence of batches of row numbers, the same for the same seed.

    `batch(step)` works for any step. Iterating starts at `step` and advances it, and `state_dict` /
    `load_state_dict` keep it across a restart; a loader that fetches ahead must count the steps itself and set `step`.

    Args:
        n: Number of photographs.
        batch_size: Photographs in the global batch, of all processes together.
        seed: Seed of all draws.
        rank: This process's number.
        world_size: Number of processes, which must divide the batch size.

    Raises:
        ConfigError: The batch is larger than the data, or cannot be divided among the processes.
    """

    def __init__(self, n: int, batch_size: int, *, seed: int = 0, rank: int = 0, world_size: int = 1) -> None:
        if batch_size < 1:
            raise ConfigError(f"batch size {batch_size} must be at least 1.")
        if batch_size > n:
            raise ConfigError(
                f"batch size {batch_size} is larger than the {n} training photographs; choose at most {n}."
            )
        if world_size < 1 or not 0 <= rank < world_size:
            raise ConfigError(f"rank {rank} is not one of {world_size} processes.")
        if batch_size % world_size:
            raise ConfigError(f"batch size {batch_size} cannot be divided among {world_size} processes.")
        if seed < 0:
            raise ConfigError(f"seed {seed} must be 0 or more.")
        self.n, self.batch_size, self.seed = n, batch_size, seed
        self.rank, self.world_size = rank, world_size
        self.step = 0
        # Two permutations: a batch may straddle the end of an epoch. Bounded, since each is as long as the data.
        self._cache: dict[tuple[int, ...], Int64[np.ndarray, " n"]] = {}
        self._kept = 2

    def __len__(self) -> int:
        """Batches of an epoch: together they have as many photographs as the data, at least."""
        return -(-self.n // self.batch_size)

    def __iter__(self) -> Iterator[Int64[np.ndarray, " b"]]:
        """This process's batches from `step` on, without end."""
        while True:
            rows = self.batch(self.step)
            self.step += 1
            yield rows

    def batch(self, step: int) -> Int64[np.ndarray, " b"]:
        """This process's slice (batch_size / world_size,) of the global batch of a step."""
        share = self.batch_size // self.world_size
        return self.global_batch(step)[self.rank * share : (self.rank + 1) * share]

    @abstractmethod
    def global_batch(self, step: int) -> Int64[np.ndarray, " batch"]:
        """The whole batch of a step: (batch_size,) distinct row numbers."""

    @abstractmethod
    def identity(self) -> dict[str, str | int | float | None]:
        """Settings that determine the batches, beside the step."""

    def state_dict(self) -> dict[str, object]:
        """The next step and the sampler's identity, as values for JSON."""
        return {"step": self.step, "identity": self.identity()}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Continue at the step of a saved sampler. The number of processes may have changed.

        Raises:
            MismatchError: The saved sampler had other data or other settings.
        """
        saved, current = state["identity"], self.identity()
        if saved != current:
            raise MismatchError(
                f"the checkpoint's batches came from {saved}, these from {current}; resume with its options."
            )
        step = state["step"]
        if not isinstance(step, int):
            raise MismatchError(f"the checkpoint's sampler step is {step!r}, not a number.")
        self.step = step

    def _permutation(self, n: int, purpose: int, *key: int) -> Int64[np.ndarray, " n"]:
        name = (purpose, *key)
        if name not in self._cache:
            while len(self._cache) >= self._kept:
                del self._cache[next(iter(self._cache))]
            self._cache[name] = np.random.default_rng([self.seed, purpose, *key]).permutation(n)
        return self._cache[name]

    def _identity(self, **more: str | int | float | None) -> dict[str, str | int | float | None]:
        return {
            "sampler": type(self).__name__,
            "photographs": self.n,
            "batch_size": self.batch_size,
            "seed": self.seed,
            **more,
        }


class RandomBatchSampler(BatchSampler):
    """Batches from a permutation of all photographs, one permutation per epoch, as plain CLIP is trained.

    Args:
        n: Number of photographs.
        batch_size: Photographs in the global batch.
        seed: Seed of the permutations.
        rank: This process's number.
        world_size: Number of processes.

    Example:
        >>> sampler = RandomBatchSampler(6, 3, seed=1)
        >>> sorted([*sampler.batch(0).tolist(), *sampler.batch(1).tolist()])
        [0, 1, 2, 3, 4, 5]
    """

    def global_batch(self, step: int) -> Int64[np.ndarray, " batch"]:
        """The next photographs of the epoch's permutation; the last ones, if they do not fill a batch, are skipped."""
        whole = self.n // self.batch_size
        epoch, place = divmod(step, whole)
        first = place * self.batch_size
        return self._permutation(self.n, _EPOCH, epoch)[first : first + self.batch_size].copy()

    def __len__(self) -> int:
        """Batches of an epoch."""
        return self.n // self.batch_size

    def identity(self) -> dict[str, str | int | float | None]:
        """Settings that determine the batches, beside the step."""
        return self._identity()


class NeighbourBatchSampler(BatchSampler):
    """Anchors, each followed by geographic neighbours, so that soft targets differ from one-hot ones.

    A random batch over a city has hardly any pair within 100 m, and soft targets on it are one-hot in practice. Here a
    batch of B has ceil(B / (1 + neighbours)) anchors, each followed by up to `neighbours_per_anchor` others within
    `radius_m` (or of its `k` nearest), drawn uniformly among those not yet in the batch; the rest of the batch is
    filled with random others. Anchors follow permutations, so that each photograph is an anchor about once in
    n / anchors batches; as a neighbour a photograph is drawn more often the more neighbours it has.

    Args:
        positions_deg: (N, 2) latitude, longitude in degrees.
        batch_size: Photographs in the global batch.
        neighbours_per_anchor: Largest number of neighbours of an anchor; 0 gives anchors only.
        radius_m: A neighbour is within this radius of its anchor, metres. Give exactly one of `radius_m` and `k`.
        k: A neighbour is among the k photographs nearest to its anchor.
        regions: District of each photograph, None where unknown (those count as one); for `balance_regions`.
        balance_regions: Draw as many anchors from each district, however many photographs it has.
        max_per_position: Largest number of photographs of one identical position (the headings of a panorama) in a
            batch; no limit where None.
        seed: Seed of all draws.
        rank: This process's number.
        world_size: Number of processes.

    Raises:
        ConfigError: An option has a value that cannot work, or two contradict each other.

    Example:
        >>> positions_deg = [[52.0, 0.0], [52.0, 0.0001], [53.0, 0.0], [53.0, 0.0001]]
        >>> sampler = NeighbourBatchSampler(positions_deg, 2, neighbours_per_anchor=1, radius_m=10.0)
        >>> sorted(sampler.batch(0).tolist()) in ([0, 1], [2, 3])
        True
    """

    def __init__(
        self,
        positions_deg: ArrayLike,
        batch_size: int,
        *,
        neighbours_per_anchor: int = 3,
        radius_m: float | None = None,
        k: int | None = None,
        regions: Sequence[str | None] | None = None,
        balance_regions: bool = False,
        max_per_position: int | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        positions = np.asarray(positions_deg, dtype=np.float64).reshape(-1, 2)
        super().__init__(len(positions), batch_size, seed=seed, rank=rank, world_size=world_size)
        if neighbours_per_anchor < 0:
            raise ConfigError(f"neighbours_per_anchor {neighbours_per_anchor} must be 0 or more.")
        if (radius_m is None) == (k is None):
            raise ConfigError(f"give either radius_m or k to define neighbours, not {radius_m=} and {k=}.")
        if radius_m is not None and not radius_m > 0.0:
            raise ConfigError(f"radius_m {radius_m} must be positive.")
        if k is not None and k < 1:
            raise ConfigError(f"k {k} must be at least 1.")
        self._neighbours, self._radius_m, self._k = neighbours_per_anchor, radius_m, k
        self._anchors_per_batch = max(1, -(-batch_size // (1 + neighbours_per_anchor)))
        self._limit = max_per_position
        self._place = None if max_per_position is None else self._places(positions, max_per_position)
        self._regions = self._by_region(regions) if balance_regions else None
        self._positions_deg = positions
        self._index = SphereIndex(positions)
        self._digest = zlib.crc32(positions.tobytes())
        if self._regions is not None:
            self._kept = 2 * len(self._regions)
            self._digest = zlib.crc32(np.concatenate(self._regions).tobytes(), self._digest)

    def _places(self, positions: np.ndarray, limit: int) -> Int64[np.ndarray, " n"]:
        if limit < 1:
            raise ConfigError(f"max_per_position {limit} must be at least 1.")
        # One complex number a position: a sort of 1M rows by two columns takes ten times as long.
        _, place, counts = np.unique(positions[:, 0] + 1j * positions[:, 1], return_inverse=True, return_counts=True)
        room = int(np.minimum(counts, limit).sum())
        if room < self.batch_size:
            raise ConfigError(
                f"batch size {self.batch_size} with at most {limit} photographs at one position: the {self.n} "
                f"photographs fill {room}; choose a smaller batch, or a larger max_per_position."
            )
        return np.asarray(place, dtype=np.int64)

    def _by_region(self, regions: Sequence[str | None] | None) -> list[Int64[np.ndarray, " r"]]:
        if regions is None:
            raise ConfigError("balance_regions needs the district of each photograph; pass regions.")
        if len(regions) != self.n:
            raise ConfigError(f"{len(regions)} districts for {self.n} photographs; give one each.")
        rows: dict[str | None, list[int]] = {}
        for row, region in enumerate(regions):
            rows.setdefault(region, []).append(row)
        # By name and not by first appearance, so that the order of the rows does not matter; unknown ones first.
        names = sorted(rows, key=lambda name: (name is not None, name or ""))
        return [np.asarray(rows[name], dtype=np.int64) for name in names]

    def global_batch(self, step: int) -> Int64[np.ndarray, " batch"]:
        """Anchors with their neighbours, then random others."""
        rng = np.random.default_rng([self.seed, _BATCH, step])
        batch = _Draw(self.n, self._place, self._limit)
        anchors = [anchor for anchor in self._anchors(step) if batch.admit(np.array([anchor]), 1).size]
        rows: list[Int64[np.ndarray, " m"]] = []
        missing = self.batch_size - len(anchors)
        for anchor, near in zip(anchors, self._near(anchors), strict=True):
            rows.append(np.array([anchor], dtype=np.int64))
            room = min(self._neighbours, missing)
            if room:
                rows.append(batch.admit(rng.permutation(batch.free(near)), room))
                missing -= len(rows[-1])
        if missing:
            rows.append(self._others(batch, missing, rng))
        return np.concatenate(rows)

    def _anchors(self, step: int) -> list[int]:
        numbers = range(step * self._anchors_per_batch, (step + 1) * self._anchors_per_batch)
        if self._regions is None:
            return [int(self._permutation(self.n, _EPOCH, i // self.n)[i % self.n]) for i in numbers]
        anchors: list[int] = []
        order = np.empty(0, dtype=np.int64)
        for i in numbers:
            # Each round takes one anchor of each district, in a new order (not cached: short, and used once).
            turn, place = divmod(i, len(self._regions))
            if place == 0 or not anchors:
                order = np.random.default_rng([self.seed, _REGIONS, turn]).permutation(len(self._regions))
            region = int(order[place])
            rows = self._regions[region]
            anchors.append(
                int(rows[self._permutation(len(rows), _REGION, region, turn // len(rows))[turn % len(rows)]])
            )
        return anchors

    def _near(self, anchors: list[int]) -> list[Int64[np.ndarray, " m"]]:
        if not anchors or not self._neighbours:
            return [np.empty(0, dtype=np.int64)] * len(anchors)
        positions = self._positions_deg[anchors]
        if self._radius_m is not None:
            return self._index.within(positions, self._radius_m)
        # One more than `k`: the anchor finds itself. Where many share its position it may not; then k are kept.
        k = self._k or 1
        _, nearest = self._index.nearest(positions, k + 1)
        return [near[near != anchor][:k] for anchor, near in zip(anchors, nearest, strict=True)]

    def _others(self, batch: _Draw, missing: int, rng: np.random.Generator) -> Int64[np.ndarray, " m"]:
        rows = np.empty(0, dtype=np.int64)
        # From a large data set draw a few and drop those taken; permuting a million for a hundred costs 20 ms.
        for _ in range(3 if self.n > 64 * self.batch_size else 0):
            drawn = np.unique(rng.integers(self.n, size=2 * (missing - len(rows)) + 8))
            rows = np.concatenate([rows, batch.admit(rng.permutation(batch.free(drawn)), missing - len(rows))])
            if len(rows) == missing:
                return rows
        return np.concatenate([rows, batch.admit(batch.free(rng.permutation(self.n)), missing - len(rows))])

    def identity(self) -> dict[str, str | int | float | None]:
        """Settings that determine the batches, beside the step."""
        return self._identity(
            neighbours_per_anchor=self._neighbours,
            radius_m=self._radius_m,
            k=self._k,
            max_per_position=self._limit,
            regions=None if self._regions is None else len(self._regions),
            digest=self._digest,
        )


class _Draw:
    """The photographs that are in the batch so far."""

    def __init__(self, n: int, place: Int64[np.ndarray, " n"] | None, limit: int | None) -> None:
        self._taken = np.zeros(n, dtype=np.bool_)
        self._place, self._limit = place, limit
        self._at: dict[int, int] = {}

    def free(self, rows: Int64[np.ndarray, " m"]) -> Int64[np.ndarray, " f"]:
        """The `rows` that are not in the batch."""
        free: Int64[np.ndarray, " f"] = rows[~self._taken[rows]]
        return free

    def admit(self, rows: Int64[np.ndarray, " m"], room: int) -> Int64[np.ndarray, " a"]:
        """Admit the first `room` of the distinct `rows` that the limit allows; return those admitted."""
        if self._place is None or self._limit is None:
            admitted = self.free(rows)[:room]
            self._taken[admitted] = True
            return admitted
        chosen: list[int] = []
        for row in self.free(rows).tolist():
            if len(chosen) == room:
                break
            place = int(self._place[row])
            if self._at.get(place, 0) < self._limit:
                self._at[place] = self._at.get(place, 0) + 1
                chosen.append(row)
        admitted = np.asarray(chosen, dtype=np.int64)
        self._taken[admitted] = True
        return admitted
