"""The batch of the losses: local rows of this process, and gathered rows of all processes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Float64, Int64
from numpy.typing import ArrayLike
from torch import Tensor

from swclip.losses.checked_input import checked_accuracies, checked_bandwidth_scale, checked_positions
from swclip.losses.gather import all_gather_rows, check_same_rows, process_count, process_rank
from swclip.losses.targets import pairwise_distance_m


@dataclass(frozen=True)
class GatheredRows:
    """Embeddings of the batch, with gradients.

    Attributes:
        local: (B, D) rows of this process.
        gathered: (N, D) rows of all processes, in order of rank; `local` itself without gathering.
    """

    local: Float[Tensor, "b d"]
    gathered: Float[Tensor, "n d"]

    @property
    def others(self) -> Float[Tensor, "n d"] | None:
        """`gathered`, or None where it is `local`: one matrix then serves both directions, as in CLIP's code."""
        return None if self.gathered is self.local else self.gathered


@dataclass(frozen=True)
class Places:
    """Positions of the photographs of all processes.

    Attributes:
        positions_deg: (N, 2) latitude, longitude in degrees.
        accuracy_m: (N,) 1-sigma GPS accuracies in metres, NaN where unknown; None for all unknown.
        bandwidth_scale: (N,) factor on the bandwidths by photograph; None for 1.
        local: The rows of this process.
    """

    positions_deg: Float64[Tensor, "n 2"]
    accuracy_m: Float[Tensor, " n"] | None
    bandwidth_scale: Float64[Tensor, " n"] | None
    local: slice

    @cached_property
    def distance_m(self) -> Float64[Tensor, "b n"]:
        """(B, N) great-circle distances from the local positions to all; computed when first read."""
        return pairwise_distance_m(self.positions_deg[self.local], self.positions_deg)

    @property
    def no_distance_m(self) -> Float64[Tensor, "b n"]:
        """(B, N) zeros without memory: a stand-in for `distance_m` where targets do not depend on it."""
        return self.positions_deg.new_zeros(()).expand(self.local.stop - self.local.start, len(self.positions_deg))

    @cached_property
    def of_rows(self) -> Places:
        """The local positions alone; this object itself where all are local."""
        part, count = self.local, self.local.stop - self.local.start
        if count == len(self.positions_deg):
            return self
        accuracy_m, scale = self.accuracies[0], self.bandwidth_scales["bandwidth_scale_a"]
        return Places(self.positions_deg[part], accuracy_m, scale, slice(0, count))

    @property
    def matches(self) -> Int64[Tensor, " b"]:
        """(B,) the numbers of the local rows among all."""
        return torch.arange(self.local.start, self.local.stop)

    @property
    def accuracies(self) -> tuple[Tensor | None, Tensor | None]:
        """GPS accuracies of the local (B,) and all (N,) rows."""
        return (None if self.accuracy_m is None else self.accuracy_m[self.local]), self.accuracy_m

    @property
    def bandwidth_scales(self) -> dict[str, Tensor | None]:
        """Bandwidth scales of the local (B,) and all (N,) rows, as arguments of `pair_weights` and `soft_targets`."""
        scale = self.bandwidth_scale
        return {"bandwidth_scale_a": None if scale is None else scale[self.local], "bandwidth_scale_b": scale}


def gather_embeddings(rows: Float[Tensor, "b d"], gather: bool = True) -> GatheredRows:
    """Local (B, D) and gathered (N, D) embeddings; without `gather` the batch is that of this process."""
    return GatheredRows(rows, all_gather_rows(rows) if gather else rows)


def gather_places(
    positions_deg: Float64[Tensor, "b 2"],
    accuracy_m: Float[Tensor, " b"] | None,
    bandwidth_scale: Float64[Tensor, " b"] | None,
    device: torch.device,
    gather: bool = True,
) -> Places:
    """Gather positions, accuracies and bandwidth scales of all processes.

    Args:
        positions_deg: (B, 2) latitude, longitude in degrees.
        accuracy_m: (B,) GPS accuracies, or None in all processes.
        bandwidth_scale: (B,) factors on the bandwidths, or None in all processes.
        device: Device of the embeddings, on which the process group communicates.
        gather: Whether the batch is that of all processes.
    """
    count = len(positions_deg)
    if not gather or process_count() == 1:
        # Distances are computed on the device of the positions, and so are their weights.
        accuracy_m, bandwidth_scale = (
            None if values is None else values.to(positions_deg.device) for values in (accuracy_m, bandwidth_scale)
        )
        return Places(positions_deg, accuracy_m, bandwidth_scale, slice(0, count))
    accuracy_m, bandwidth_scale = (
        None if values is None else all_gather_rows(values.to(device)) for values in (accuracy_m, bandwidth_scale)
    )
    start = process_rank() * count
    return Places(all_gather_rows(positions_deg.to(device)), accuracy_m, bandwidth_scale, slice(start, start + count))


def checked_places(
    rows: Tensor,
    positions_deg: ArrayLike | Tensor,
    accuracy_m: ArrayLike | Tensor | None,
    bandwidth_scale: ArrayLike | Tensor | None,
    gather: bool,
) -> Places:
    """Check and gather positions, accuracies and bandwidth scales.

    Args:
        rows: (B, D) embeddings of the local photographs.
        positions_deg: (B, 2) latitude, longitude in degrees.
        accuracy_m: (B,) 1-sigma GPS accuracies in metres, NaN where unknown, or None.
        bandwidth_scale: Factor on the bandwidths: a number, (B,), or None.
        gather: Whether the batch is that of all processes.

    Raises:
        InputError: Invalid input; the message names the row and a remedy.
        ConfigError: Processes have different numbers of photographs.
    """
    count = len(rows)
    positions = checked_positions(positions_deg, count)
    accuracies = checked_accuracies(accuracy_m, count)
    scales = checked_bandwidth_scale(bandwidth_scale, count)
    if gather:
        check_same_rows(count, rows.device)
    return gather_places(positions, accuracies, scales, rows.device, gather)
