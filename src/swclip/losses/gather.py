"""Gathering a batch from all processes, with gradients: the only file that talks to other processes about a loss.

The rule: `all_gather_rows` sums the gradients that all processes send back to a row, and DDP averages the gradients of
the parameters over the processes. What is minimised is therefore the **mean over the processes of their losses**. A
loss that every process computes alike from gathered rows, or the mean of losses over each process's own rows against
gathered columns, thus gets exactly the gradient of one process with the whole batch; nothing needs rescaling.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor

from swclip.errors import ConfigError


def process_count() -> int:
    """How many processes train together; 1 without a process group."""
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
        # all_reduce and a slice, not reduce_scatter: gloo, which the tests and CPU users run, has no reduce_scatter
        # of tensors in the older torch versions that are supported.
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        first = ctx.n_rows * dist.get_rank()
        return total[first : first + ctx.n_rows]


def _all_gather(rows: Tensor) -> Tensor:
    parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


def check_same_rows(n_rows: int, device: torch.device) -> None:
    """Refuse processes that hold different numbers of rows; a no-op without a process group.

    Raises:
        ConfigError: Naming the numbers.
    """
    if process_count() == 1:
        return
    counts = _all_gather(torch.tensor([n_rows], device=device)).tolist()
    if len(set(counts)) > 1:
        raise ConfigError(
            f"the processes hold {counts} samples; each must hold as many: "
            "use a batch size that the number of processes divides, and drop a last, smaller batch."
        )


def all_gather_rows(rows: Shaped[Tensor, "b ..."]) -> Shaped[Tensor, "n ..."]:
    """Rows of all processes, in order of rank; gradients flow back to the process that holds the row.

    Every process must hold as many rows: see `check_same_rows`.

    Args:
        rows: (B, ...) this process's rows, on the process group's kind of device.

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
