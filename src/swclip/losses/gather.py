"""Gather a batch from all processes, with gradients.

`all_gather_rows` sums the gradients that all processes return for a row, and DDP averages the gradients of the
parameters over the processes. The minimised quantity is therefore the **mean over the processes of their losses**. A
loss that all processes compute equally from gathered rows, or the mean of losses over each process's local rows against
gathered columns, has exactly the gradient of one process with the whole batch; no rescaling is needed.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor

from swclip.errors import ConfigError


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
