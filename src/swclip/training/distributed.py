"""Several processes under torchrun, on one machine or several: joining, agreement, what the leader shares, gradients.

Only the leading process reads and writes the run's folder: the others get its contents from it, so that a machine may
be without that folder. Gradients are averaged by torch's DistributedDataParallel.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from swclip.errors import MismatchError, SwclipError, first_line

T = TypeVar("T")

# The leader alone validates and fits the posterior while the others wait: longer than the 10 minutes of NCCL's default.
_PATIENCE = timedelta(hours=1)


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
        """Whether this process reads and writes the run's files."""
        return self.rank == 0


@contextmanager
def join_processes(device: torch.device) -> Iterator[Process]:
    """Join the process group that torchrun describes in the environment; a single process without it.

    Args:
        device: The device of a single process. Under torchrun and on GPUs, each process has that of its local rank.

    Yields:
        The process; several communicate by NCCL on GPUs, else by gloo.

    Raises:
        SwclipError: Another process has ended.
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
    store, rank, _ = next(iter(dist.rendezvous("env://", timeout=_PATIENCE)))  # type: ignore[attr-defined]
    store = dist.PrefixStore(_name_of_start(store, rank, count), store)  # type: ignore[attr-defined]
    dist.init_process_group("nccl" if gpu else "gloo", store=store, rank=rank, world_size=count, timeout=_PATIENCE)
    process = Process(rank, count, device)
    try:
        yield process
    except RuntimeError as error:
        if not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        raise SwclipError(
            f"{_name(process)}: another process of this training has ended ({first_line(error)}); see its message. "
            "The same command resumes from the newest checkpoint."
        ) from error
    finally:
        dist.destroy_process_group()


def _name_of_start(store: Any, rank: int, count: int) -> str:
    """A name that the processes of one start share, and no earlier start has.

    torchrun keeps its store when it restarts processes: without a prefix of their own they read the addresses of ended
    processes there, and wait for them for ever. Its count of restarts is no such prefix, since it may differ between
    machines. Hence the leader's random name, sent to every process as the answer to a random greeting of its own.

    References:
        https://github.com/pytorch/pytorch/issues/135712
    """
    name = uuid.uuid4().hex
    if rank:
        store.set(f"swclip/greeting/{rank}", name)
        answer = f"swclip/answer/{name}"
        store.wait([answer], _PATIENCE)
        start: str = store.get(answer).decode()
        store.set(f"swclip/{start}/{rank}", "here")
        return start
    greetings = {f"swclip/greeting/{other}": f"swclip/{name}/{other}" for other in range(1, count)}
    while missing := [key for key, here in greetings.items() if not store.check([here])]:
        for key in missing:
            if store.check([key]):  # of an ended process too, until it is replaced
                store.set(f"swclip/answer/{store.get(key).decode()}", name)
        time.sleep(0.02)
    return name


def gathered(process: Process, value: T) -> list[T]:
    """A value of each process, by rank, in all of them."""
    if process.count == 1:
        return [value]
    values: list[T] = [value] * process.count
    dist.all_gather_object(values, value)
    return values


@contextmanager
def errors_in_all(process: Process) -> Iterator[None]:
    """Raise a user's error of one process in all, so that none waits for one that has ended.

    The work within must not communicate.

    Raises:
        SwclipError: That of this process, else that of the lowest rank, with its rank and host.
    """
    error: SwclipError | None = None
    try:
        yield
    except SwclipError as raised:
        error = raised
    errors = gathered(process, None if error is None else (type(error), f"{_name(process)}: {error}"))
    if error is not None:
        raise error
    for kind, message in filter(None, errors):
        raise kind(message)


def from_leader(process: Process, result: Callable[[], T]) -> T:
    """The result of a function that only the leading process calls; its error, if a user can fix it, is raised in all.

    Args:
        process: This process.
        result: The function, which must not communicate.
    """
    values: list[T | None] = [None]
    with errors_in_all(process):
        if process.leads:
            values = [result()]
    if process.count > 1:
        dist.broadcast_object_list(values, src=0)
    return values[0]  # type: ignore[return-value]  # None only where it is the result


def tensors_from_leader(process: Process, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the leading process, by name; those of the other processes are not read."""
    if process.count == 1:
        return dict(tensors)
    forms = from_leader(process, lambda: {name: (value.shape, value.dtype) for name, value in tensors.items()})
    shared: dict[str, Tensor] = {}
    for name, (shape, dtype) in forms.items():
        # NCCL sends from and to the GPU; a checkpoint is read into memory.
        value = (
            tensors[name].to(process.device) if process.leads else torch.empty(shape, dtype=dtype).to(process.device)
        )
        dist.broadcast(value, src=0)
        shared[name] = value.cpu()
    return shared


def check_agreement(process: Process, facts: Mapping[str, str], place: str) -> None:
    """Refuse processes that work on other data, with other settings or by other software than the leader.

    Args:
        process: This process.
        facts: What must be equal, by name.
        place: Where this process has its data, for the message.

    Raises:
        MismatchError: In all processes: names the process, its host, and up to three facts that differ.
    """
    leader, *others = gathered(process, (_name(process), dict(facts), place))
    for name, values, where in others:
        differing = [key for key in {**leader[1], **values} if leader[1].get(key) != values.get(key)]
        if differing:
            listed = "; ".join(f"{key}: {values.get(key)}, not {leader[1].get(key)}" for key in differing[:3])
            raise MismatchError(
                f"{name} ({where}) differs from {leader[0]} ({leader[2]}): {listed}. Give every process the same "
                "photographs, splits, settings and versions."
            )


class _Trained(nn.Module):
    """The trained parameters, as the module that DDP wraps; returns the embeddings that were computed with them."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        super().__init__()
        self.parameters_of_run = nn.ParameterList(parameters)

    def forward(self, embedded: Tensor) -> Tensor:
        return embedded


def replicate(process: Process, parameters: Iterable[nn.Parameter]) -> DistributedDataParallel | None:
    """Let torch's DDP average the gradients of parameters over all processes, and start from the leader's values.

    A backward pass from embeddings that went through the returned module averages the gradients, with those that were
    accumulated before. A parameter that no process used keeps no gradient, as in a single process, so that its weight
    does not decay.

    Args:
        process: This process.
        parameters: The trained parameters.

    Returns:
        The module; None for a single process.
    """
    if process.count == 1:
        return None
    return DistributedDataParallel(_Trained(parameters), find_unused_parameters=True, gradient_as_bucket_view=True)


def _name(process: Process) -> str:
    return f"process {process.rank} on {socket.gethostname()}"
