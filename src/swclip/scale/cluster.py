"""A cluster of Ray: join or start it, see what it has, run steps of Ray Data on it, and state its errors as swclip's.

RAY_ADDRESS names the cluster. Without it, a cluster on this machine is started for the command, and ended with it.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from swclip.errors import ConfigError, InputError, PackageError, SwclipError, first_line

if TYPE_CHECKING:
    from ray.data import Dataset

_PACKAGES = {"ray": "ray", "lance": "pylance"}
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # no report to the makers of Ray
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # its coming default; Ray warns until it is chosen
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # what matters is raised
    "LANCE_LOG": "error",
}
"""Environment of Ray and Lance."""


@dataclass(frozen=True)
class Workers:
    """How the steps of a command share the processors of a cluster.

    Where the cluster has GPUs, each gets an actor, and each processor a task that decodes photographs. Elsewhere each
    processor is shared by an actor and a task, since the tower takes most of the time.

    Attributes:
        actors: Number of actors, which hold the model.
        device: Device of an actor: cpu or cuda.
        actor: Ray's resources of an actor.
        task: Ray's resources of a task.
    """

    actors: int
    device: str
    actor: dict[str, Any]
    task: dict[str, Any]

    @classmethod
    def of_cluster(cls, device: str, batches: int) -> Workers:
        """The workers of the cluster that is joined.

        Args:
            device: auto (GPUs where the cluster has any), cpu or cuda.
            batches: Number of batches: no more actors are started.

        Raises:
            ConfigError: The device is another, or the cluster has no GPU.
        """
        import ray

        if device not in ("auto", "cpu", "cuda"):
            raise ConfigError(
                f"--device {device}: with --engine ray each actor has a GPU of its own, or none; use auto, cpu or cuda."
            )
        has: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        gpus, cpus = int(has.get("GPU", 0)), int(has.get("CPU", 0))
        if device == "cuda" and not gpus:
            raise ConfigError("--device cuda: the Ray cluster has no GPU; use --device cpu or add a machine with one.")
        if gpus and device != "cpu":
            return cls(min(gpus, batches), "cuda", {"num_cpus": 0, "num_gpus": 1}, {"num_cpus": 1})
        return cls(max(1, min(cpus, batches)), "cpu", {"num_cpus": 0.75}, {"num_cpus": 0.25})


@contextmanager
def cluster() -> Iterator[None]:
    """Join the cluster of RAY_ADDRESS, or start one on this machine; leave or end it afterwards.

    A program that has joined a cluster already keeps it.

    Raises:
        PackageError: Ray or Lance is not installed.
        InputError: There is no cluster at the address, or it lost the work.
    """
    missing = [package for module, package in _PACKAGES.items() if find_spec(module) is None]
    if missing:
        raise PackageError(f"--engine ray needs {', '.join(missing)}; install: pip install 'swclip[ray]'")
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import ray
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # its errors are raised here too
    joined = not ray.is_initialized()
    try:
        if joined:
            _join(os.environ.get("RAY_ADDRESS") or "local")
        with _ray_errors():
            yield
    finally:
        if joined:
            ray.shutdown()


def _join(address: str) -> None:
    import ray

    local: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    in_main_thread = threading.current_thread() is threading.main_thread()
    on_terminate = signal.getsignal(signal.SIGTERM)
    try:
        with warnings.catch_warnings():
            # Lance warns of every fork; those of Ray become other programs at once.
            warnings.filterwarnings("ignore", "lance")
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(
            f"RAY_ADDRESS={address}: the Ray cluster cannot be joined ({first_line(error)}); start it with `ray start "
            "--head`, or unset RAY_ADDRESS to use this machine alone."
        ) from error
    finally:
        if in_main_thread:
            signal.signal(signal.SIGTERM, on_terminate)  # Ray sets its own


@contextmanager
def _ray_errors() -> Iterator[None]:
    from ray.exceptions import RayError, RayTaskError

    try:
        yield
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, SwclipError):
            raise cause from None
        raise
    except RayError as error:
        raise InputError(
            f"the Ray cluster lost the work ({first_line(error)}); see `ray status` and its logs, and run the command "
            "again."
        ) from error


def blocks(rows: pa.Table, size: int) -> Dataset:
    """Rows as a data set of Ray, in blocks of `size` rows that stay in their order through all steps.

    A block is the unit that Ray computes again where a worker or a machine is lost.
    """
    import ray.data

    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    context.raise_original_map_exception = True
    with ray.data.DataContext.current(context):
        starts = range(0, len(rows), size)
        # Taken, since a slice would be sent with the whole table.
        return ray.data.from_arrow([rows.take(np.arange(at, min(at + size, len(rows)))) for at in starts])


def in_tasks(
    data: Dataset, function: Callable[..., pa.Table], workers: Workers, size: int | None, *more: Any
) -> Dataset:
    """Apply a function to batches of `size` rows, or to whole blocks where None, in tasks."""
    return data.map_batches(function, fn_args=more, batch_size=size, batch_format="pyarrow", **workers.task)


def in_actors(data: Dataset, actor: type[Any], workers: Workers, size: int, *more: Any) -> Dataset:
    """Apply an object to batches of `size` rows, in actors that each make it once."""
    import ray.data

    pool = ray.data.ActorPoolStrategy(min_size=1, max_size=workers.actors, initial_size=workers.actors)
    return data.map_batches(
        actor,
        fn_constructor_args=more,
        compute=pool,
        batch_size=size,
        batch_format="pyarrow",
        zero_copy_batch=True,
        **workers.actor,
    )


def results(data: Dataset) -> Iterator[dict[str, Any]]:
    """Run the steps and yield the rows of the last one as they are ready."""
    rows = iter(data.iter_rows())
    try:
        yield from rows
    finally:
        close = getattr(rows, "close", None)
        if close is not None:
            close()  # ends the tasks and actors where the caller stops early


def shared(value: Any) -> Sequence[Any]:
    """A value that all actors read, in the store of Ray; `received` gets it there."""
    import ray

    return [ray.put(value)]  # in a list, which Ray passes as it is: the actors get it themselves, also on a new machine


def received(reference: Sequence[Any]) -> Any:
    """The value of `shared`, in an actor."""
    import ray

    return ray.get(reference[0])
