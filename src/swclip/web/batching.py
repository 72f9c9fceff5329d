"""Concurrent questions in batches: one thread has the model, and takes what has gathered while it was at work."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

Question = TypeVar("Question")
Reply = TypeVar("Reply")


class QueueFullError(Exception):
    """As many questions wait as may."""


class ClosedError(Exception):
    """The batcher takes no more questions."""


class Batcher(Generic[Question, Reply]):
    """Answers questions in batches, in the order in which they came.

    A batch is closed when it holds `max_batch` units, or when its first question has waited for `max_wait_s`. Under
    load nobody waits: the next batch has filled by the time the last is done.

    Args:
        answer: Answers a batch; as many replies as questions, in their order. Called in one thread only.
        units: What a question counts for towards `max_batch`; a question is never split.
        max_batch: Units in a batch; a question of more is a batch of its own.
        max_wait_s: How long the first question of a batch waits for others, seconds.
        capacity: Questions that may wait; further ones are refused.
        on_batch: Told the units of each batch.

    Example:
        >>> with Batcher(lambda numbers: [n * 2 for n in numbers], capacity=4) as batcher:
        ...     batcher.submit(21).result()
        42
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Question]], Sequence[Reply]],
        *,
        units: Callable[[Question], int] = lambda question: 1,
        max_batch: int = 16,
        max_wait_s: float = 0.004,
        capacity: int = 64,
        on_batch: Callable[[int], None] = lambda units: None,
    ) -> None:
        self._answer, self._units, self._on_batch = answer, units, on_batch
        self._max_batch, self._max_wait_s, self._capacity = max_batch, max_wait_s, capacity
        self._waiting: deque[tuple[Question, Future[Reply]]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="swclip-model", daemon=True)
        self._thread.start()

    def __enter__(self) -> Batcher[Question, Reply]:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def alive(self) -> bool:
        """Whether questions are still taken and answered."""
        return self._thread.is_alive() and not self._closed

    def submit(self, question: Question) -> Future[Reply]:
        """Ask; a future that is cancelled before its batch begins costs nothing.

        Raises:
            QueueFullError: `capacity` questions wait already.
            ClosedError: The batcher was closed.
        """
        with self._changed:
            if self._closed:
                raise ClosedError
            if len(self._waiting) >= self._capacity:
                raise QueueFullError
            future: Future[Reply] = Future()
            self._waiting.append((question, future))
            self._changed.notify()
            return future

    def close(self, wait_s: float | None = None) -> None:
        """Take no more questions, answer those that wait, and end the thread.

        Args:
            wait_s: How long to wait for that, seconds; None waits as long as it takes. What is left then is cancelled.
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
            running = [one for one in batch if one[1].set_running_or_notify_cancel()]
            if running:
                self._on_batch(sum(self._units(question) for question, _ in running))
                self._reply(running)

    def _next(self) -> list[tuple[Question, Future[Reply]]]:
        """The next batch; empty once closed and done."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            until = time.monotonic() + self._max_wait_s
            while not self._closed and sum(self._units(one) for one, _ in self._waiting) < self._max_batch:
                left = until - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            batch: list[tuple[Question, Future[Reply]]] = []
            units = 0
            while self._waiting and (not batch or units + self._units(self._waiting[0][0]) <= self._max_batch):
                batch.append(self._waiting.popleft())
                units += self._units(batch[-1][0])
            return batch

    def _reply(self, running: list[tuple[Question, Future[Reply]]]) -> None:
        try:
            replies = self._answer([question for question, _ in running])
            if len(replies) != len(running):
                raise RuntimeError(f"{len(replies)} replies to {len(running)} questions")
        except Exception as error:
            if len(running) > 1:  # one bad question must not be the others' end
                for one in running:
                    self._reply([one])
                return
            running[0][1].set_exception(error)
            return
        for (_, future), reply in zip(running, replies, strict=True):
            future.set_result(reply)
