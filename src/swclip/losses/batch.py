"""The batch of the losses: local rows of this process, and rows gathered from all processes, with gradients.

`all_gather_rows` sums the gradients that all processes return for a row, and DDP averages the gradients of the
parameters over the processes. The minimised quantity is therefore the **mean over the processes of their losses**. A
loss that all processes compute equally from gathered rows, or the mean of losses over each process's local rows against
gathered columns, has exactly the gradient of one process with the whole batch; no rescaling is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float, Float64, Int64, Shaped
from numpy.typing import ArrayLike
from torch import Tensor

from swclip.errors import ConfigError
from swclip.losses.checked_input import checked_accuracies, checked_bandwidth_scale, checked_positions
from swclip.losses.targets import pairwise_distance_m


def process_count() -> int:
    """Number of processes of the training; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def process_rank() -> int:
    """This process's rank; 0 without a process group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


class _AllGatherRows(torch.autograd.Function):
    """Forward: rows of all processes in order of rank. Backward: gradients of the local rows, summed over processes."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.n_rows = len(rows)
        return _all_gather(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # all_reduce and a slice instead of reduce_scatter: gloo, used on CPUs and in the tests, has no reduce_scatter
        # of tensors in the older supported torch versions.
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        first = ctx.n_rows * dist.get_rank()
        return total[first : first + ctx.n_rows]


def _all_gather(rows: Tensor) -> Tensor:
    parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


def check_same_rows(n_rows: int, device: torch.device) -> None:
    """Refuse different numbers of rows in the processes; no effect without a process group.

    Args:
        n_rows: Number of local rows.
        device: Device on which the process group communicates.

    Raises:
        ConfigError: The numbers differ; the message has them.
    """
    if process_count() == 1:
        return
    counts = _all_gather(torch.tensor([n_rows], device=device)).tolist()
    if len(set(counts)) > 1:
        raise ConfigError(
            f"the processes have {counts} samples, and all must have the same number: "
            "use a batch size that the number of processes divides, and drop a last, smaller batch."
        )


def all_gather_rows(rows: Shaped[Tensor, "b ..."]) -> Shaped[Tensor, "n ..."]:
    """Rows of all processes, in order of rank; gradients flow back to the process of each row.

    All processes must have the same number of rows: see `check_same_rows`.

    Args:
        rows: (B, ...) the local rows, on the process group's kind of device.

    Returns:
        (B * processes, ...); `rows` itself without a process group.

    Example:
        >>> all_gather_rows(torch.arange(3)).tolist()
        [0, 1, 2]
    """
    if process_count() == 1:
        return rows
    if not rows.requires_grad:
        return _all_gather(rows)
    gathered: Tensor = _AllGatherRows.apply(rows)  # type: ignore[no-untyped-call]
    return gathered


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
