"""Batching: composition of batches, refused items, invalid items and shutdown."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError

import pytest

from swclip.web.batching import Batcher, ClosedError, QueueFullError


class Gate:
    """Doubles numbers once it is open, and records the batches; 13 raises an error."""

    def __init__(self) -> None:
        self.open, self.entered = threading.Event(), threading.Event()
        self.batches: list[list[int]] = []

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.entered.set()
        self.open.wait(30)
        self.batches.append(list(numbers))
        if 13 in numbers:
            raise ValueError("unlucky")
        return [2 * number for number in numbers]


def test_items_that_arrive_during_a_batch_form_the_next_batch() -> None:
    gate, seen = Gate(), []
    with Batcher(gate, max_batch=4, max_wait_s=0.0, on_batch=seen.append) as batcher:
        first = batcher.submit(0)
        gate.entered.wait(30)
        others = [batcher.submit(number) for number in range(1, 7)]
        assert len(batcher) == 6
        gate.open.set()
        assert [future.result(30) for future in [first, *others]] == [0, 2, 4, 6, 8, 10, 12]
    assert gate.batches == [[0], [1, 2, 3, 4], [5, 6]]
    assert seen == [1, 4, 2]


def test_items_are_not_split_and_a_large_item_is_a_batch_by_itself() -> None:
    gate = Gate()
    with Batcher(gate, units=lambda number: number, max_batch=5, max_wait_s=0.0) as batcher:
        futures = [batcher.submit(1)]
        gate.entered.wait(30)
        futures += [batcher.submit(number) for number in (3, 2, 1, 9, 4)]
        gate.open.set()
        assert [future.result(30) for future in futures] == [2, 6, 4, 2, 18, 8]
    assert gate.batches == [[1], [3, 2], [1], [9], [4]]


def test_first_item_waits_for_others() -> None:
    gate = Gate()
    gate.open.set()
    with Batcher(gate, max_batch=2, max_wait_s=30.0) as batcher:
        futures = [batcher.submit(1), batcher.submit(2)]
        assert [future.result(10) for future in futures] == [2, 4]  # the second filled the batch
    assert gate.batches == [[1, 2]]


def test_items_beyond_the_capacity_are_refused() -> None:
    gate = Gate()
    with Batcher(gate, max_wait_s=0.0, capacity=2) as batcher:
        first = batcher.submit(1)
        gate.entered.wait(30)
        waiting = [batcher.submit(2), batcher.submit(3)]
        with pytest.raises(QueueFullError):
            batcher.submit(4)
        gate.open.set()
        assert [future.result(30) for future in [first, *waiting]] == [2, 4, 6]
        assert batcher.submit(5).result(30) == 10


def test_invalid_item_does_not_fail_the_others() -> None:
    gate = Gate()
    with Batcher(gate, max_wait_s=0.0) as batcher:
        futures = [batcher.submit(0)]
        gate.entered.wait(30)
        futures += [batcher.submit(number) for number in (1, 13, 3)]
        gate.open.set()
        with pytest.raises(ValueError, match="unlucky"):
            futures[2].result(30)
        assert [futures[row].result(30) for row in (0, 1, 3)] == [0, 2, 6]
        assert batcher.alive


def test_cancelled_items_are_skipped() -> None:
    gate = Gate()
    with Batcher(gate, max_wait_s=0.0) as batcher:
        first = batcher.submit(1)
        gate.entered.wait(30)
        dropped, kept = batcher.submit(2), batcher.submit(3)
        assert dropped.cancel()
        gate.open.set()
        assert (first.result(30), kept.result(30)) == (2, 6)
        with pytest.raises(CancelledError):
            dropped.result(0)
    assert gate.batches == [[1], [3]]


def test_close_processes_waiting_items_and_refuses_new_ones() -> None:
    gate = Gate()
    batcher = Batcher(gate, max_wait_s=0.0)
    futures = [batcher.submit(1)]
    gate.entered.wait(30)
    futures += [batcher.submit(2), batcher.submit(3)]
    gate.open.set()
    batcher.close()
    assert [future.result(0) for future in futures] == [2, 4, 6]
    assert not batcher.alive
    with pytest.raises(ClosedError):
        batcher.submit(4)


def test_close_times_out() -> None:
    gate = Gate()
    batcher = Batcher(gate, max_wait_s=0.0)
    batcher.submit(1)
    gate.entered.wait(30)
    left = batcher.submit(2)
    batcher.close(wait_s=0.01)
    assert left.cancelled()
    gate.open.set()
