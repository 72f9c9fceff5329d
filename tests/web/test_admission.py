"""Who is let in, and when the others are told to come back."""

from __future__ import annotations

import asyncio
import time

import pytest

from swclip.web.admission import Admission, Rate
from swclip.web.problems import Problem


def test_places_then_a_queue_then_no_more() -> None:
    async def story() -> None:
        admission, release, entered = Admission(places=2, queue=1), asyncio.Event(), []

        async def guest(name: int) -> None:
            async with admission.place(time.monotonic() + 30):
                entered.append(name)
                await release.wait()

        guests = [asyncio.create_task(guest(name)) for name in range(3)]
        await asyncio.sleep(0)
        assert entered == [0, 1]
        assert (admission.inside, admission.waiting) == (2, 1)
        with pytest.raises(Problem) as refused:
            async with admission.place(time.monotonic() + 30):
                pass
        assert refused.value.kind == "busy"
        assert int(refused.value.headers["Retry-After"]) >= 1
        release.set()
        await asyncio.gather(*guests)
        assert entered == [0, 1, 2]
        assert (admission.inside, admission.waiting) == (0, 0)

    asyncio.run(story())


def test_a_place_that_does_not_come_free_in_time() -> None:
    async def story() -> None:
        admission = Admission(places=1, queue=5)
        async with admission.place(time.monotonic() + 30):
            with pytest.raises(Problem, match="no place came free"):
                async with admission.place(time.monotonic() + 0.01):
                    pass
        assert (admission.inside, admission.waiting) == (0, 0)
        async with admission.place(time.monotonic() + 30):  # and the place is there again
            assert admission.inside == 1

    asyncio.run(story())


def test_a_rate_refills_and_is_each_clients_own() -> None:
    now = [0.0]
    rate = Rate(3, clock=lambda: now[0])
    for _ in range(3):
        rate.check("a")
    with pytest.raises(Problem) as refused:
        rate.check("a")
    assert refused.value.headers["Retry-After"] == "20"
    rate.check("b")
    now[0] = 20.0
    rate.check("a")
    with pytest.raises(Problem):
        rate.check("a")
    now[0] = 10_000.0
    for _ in range(3):
        rate.check("a")
    with pytest.raises(Problem):
        rate.check("a")


def test_no_rate_is_no_limit_and_clients_are_forgotten() -> None:
    free, counted = Rate(0), Rate(1, clock=lambda: 0.0)
    for number in range(20_000):
        free.check("a")
        counted.check(str(number))
    assert len(counted._left) == 10_000
