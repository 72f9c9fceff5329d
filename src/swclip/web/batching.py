"""Dynamic batching of concurrent requests: one thread runs the model on the requests that arrived meanwhile."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

Item = TypeVar("Item")
Output = TypeVar("Output")


class QueueFullError(Exception):
    """The queue of waiting items is full."""


class ClosedError(Exception):
    """The batcher is closed and accepts no more items."""


class Batcher(Generic[Item, Output]):
    """Processes items in batches, in the order of their arrival.

    A batch starts when it has `max_batch` units, or when its first item has waited for `max_wait_s`. Under load there
    is no such wait: the next batch is full by the time the previous one is done.

    Args:
        process: Processes a batch; returns one output per item, in their order. Called in a single thread.
        units: Size of an item in units; an item is never split.
        max_batch: Maximum units of a batch; a larger item is a batch by itself.
        max_wait_s: How long the first item of a batch waits for others, in seconds.
        capacity: Maximum number of waiting items; further ones are refused.
        on_batch: Called with the units of each batch.

    Example:
        >>> with Batcher(lambda numbers: [n * 2 for n in numbers], capacity=4) as batcher:
        ...     batcher.submit(21).result()
        42
    """

    def __init__(
        self,
        process: Callable[[Sequence[Item]], Sequence[Output]],
        *,
        units: Callable[[Item], int] = lambda item: 1,
        max_batch: int = 16,
        max_wait_s: float = 0.004,
        capacity: int = 64,
        on_batch: Callable[[int], None] = lambda units: None,
    ) -> None:
        self._process, self._units, self._on_batch = process, units, on_batch
        self._max_batch, self._max_wait_s, self._capacity = max_batch, max_wait_s, capacity
        self._waiting: deque[tuple[Item, Future[Output]]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="swclip-model", daemon=True)
        self._thread.start()

    def __enter__(self) -> Batcher[Item, Output]:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def alive(self) -> bool:
        """Whether items are accepted and processed."""
        return self._thread.is_alive() and not self._closed

    def submit(self, item: Item) -> Future[Output]:
        """Enqueue an item; if its future is cancelled before its batch starts, the item is skipped.

        Raises:
            QueueFullError: `capacity` items are waiting already.
            ClosedError: The batcher was closed.
        """
        with self._changed:
            if self._closed:
                raise ClosedError
            if len(self._waiting) >= self._capacity:
                raise QueueFullError
            future: Future[Output] = Future()
            self._waiting.append((item, future))
            self._changed.notify()
            return future

    def close(self, wait_s: float | None = None) -> None:
        """Accept no more items, process the waiting ones, and stop the thread.

        Args:
            wait_s: Maximum time to wait for that in seconds, None for no limit. Remaining items are cancelled.
        """
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(wait_s)
        with self._changed:
            while self._waiting:
                self._waiting.popleft()[1].cancel()

    def _work(self) -> None:
        while batch := self._next():
            running = [entry for entry in batch if entry[1].set_running_or_notify_cancel()]
            if running:
                self._on_batch(sum(self._units(item) for item, _ in running))
                self._run(running)

    def _next(self) -> list[tuple[Item, Future[Output]]]:
        """Wait for the next batch; empty when closed and done."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            deadline = time.monotonic() + self._max_wait_s
            while not self._closed and sum(self._units(item) for item, _ in self._waiting) < self._max_batch:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    break
                self._changed.wait(remaining)
            batch: list[tuple[Item, Future[Output]]] = []
            units = 0
            while self._waiting and (not batch or units + self._units(self._waiting[0][0]) <= self._max_batch):
                batch.append(self._waiting.popleft())
                units += self._units(batch[-1][0])
            return batch

    def _run(self, running: list[tuple[Item, Future[Output]]]) -> None:
        try:
            outputs = self._process([item for item, _ in running])
            if len(outputs) != len(running):
                raise RuntimeError(f"{len(outputs)} outputs for {len(running)} items")
        except Exception as error:
            if len(running) > 1:  # one invalid item must not fail the others
                for entry in running:
                    self._run([entry])
                return
            running[0][1].set_exception(error)
            return
        for (_, future), output in zip(running, outputs, strict=True):
            future.set_result(output)
