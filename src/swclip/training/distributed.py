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
    """One process of a run.

    Attributes:
        rank: Its number, from 0.
        count: Number of processes of the run.
        device: Its device.
    """

    rank: int
    count: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes the run's files."""
        return self.rank == 0


@contextmanager
def join_processes(device: torch.device) -> Iterator[Process]:
    """Join the process group that torchrun describes in the environment; a single process without it.

    Args:
        device: The device of a single process. Under torchrun and on GPUs, each process has that of its local rank.

    Yields:
        The process; several communicate by NCCL on GPUs, else by gloo.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    gpu = device.type == "cuda"
    if gpu and (count > 1 or device.index is None):
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
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
    """Average the gradients over all processes, in one message per dtype.

    This replaces torch's DistributedDataParallel, whose hooks expect one backward pass per step; a batch in chunks has
    several. A parameter that a process did not use has gradient 0 there; one that no process used remains without a
    gradient, as in a single process, so that its weight does not decay.
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
    """Sum a tensor over all processes, in each of them; unchanged with a single process."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(values)
    return values


def wait_for_all() -> None:
    """Wait until all processes have called this."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.barrier()
