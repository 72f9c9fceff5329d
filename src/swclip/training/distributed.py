"""Several processes under torchrun: joining, leaving, and averaging gradients."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Process:
    """This process among all of a run."""

    rank: int
    count: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes the run's files."""
        return self.rank == 0


@contextmanager
def join_processes() -> Iterator[Process]:
    """Join the process group that torchrun describes in the environment; alone where there is none.

    Yields:
        Rank, count and device: a GPU of its own where there are any (NCCL), else the CPU (gloo).
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    gpu = torch.cuda.is_available()
    device = torch.device("cuda", local) if gpu else torch.device("cpu")
    if count == 1 or dist.is_initialized():
        alone = not dist.is_initialized()
        yield Process(0 if alone else dist.get_rank(), 1 if alone else dist.get_world_size(), device)
        return
    if gpu:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if gpu else "gloo")
    try:
        yield Process(dist.get_rank(), dist.get_world_size(), device)
    finally:
        dist.destroy_process_group()


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Mean of the gradients over all processes, in one message per dtype.

    Not torch's DistributedDataParallel: its hooks count on one backward pass a step, and a batch in chunks makes
    several. A parameter that a process did not use counts as zero there; one that none used is left without a gradient,
    as in a single process, so that its weight does not decay.
    """
    if not (dist.is_initialized() and dist.get_world_size() > 1):
        return
    weights = list(parameters)
    used = torch.tensor([p.grad is not None for p in weights], dtype=torch.int32, device=weights[0].device)
    dist.all_reduce(used, dist.ReduceOp.MAX)
    by_kind: dict[torch.dtype, list[nn.Parameter]] = {}
    for parameter in (p for p, anywhere in zip(weights, used.tolist(), strict=True) if anywhere):
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        by_kind.setdefault(parameter.dtype, []).append(parameter)
    for kind in by_kind.values():
        gradients = [parameter.grad for parameter in kind if parameter.grad is not None]
        flat: Tensor = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        at = 0
        for gradient in gradients:
            gradient.copy_(flat[at : at + gradient.numel()].view_as(gradient))
            at += gradient.numel()


def sum_over_all(values: Tensor) -> Tensor:
    """The sum of a tensor over all processes, in each of them; the tensor itself where there is one process."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(values)
    return values


def wait_for_all() -> None:
    """Wait until every process has come here."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.barrier()
