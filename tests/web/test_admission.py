"""Slots, the queue, rate limits and API keys."""

from __future__ import annotations

import asyncio
import time

import pytest

from swclip.errors import ConfigError
from swclip.web.admission import VARIABLE, Admission, Keys, RateLimiter, client_name
from swclip.web.problems import Problem

ONE, OTHER = "correct-horse-battery", "staple-correct-horse"


def test_requests_get_slots_then_wait_then_are_refused() -> None:
    async def scenario() -> None:
        admission, release, entered = Admission(slots=2, queue=1), asyncio.Event(), []

        async def client(name: int) -> None:
            async with admission.slot(time.monotonic() + 30):
                entered.append(name)
                await release.wait()

        guests = [asyncio.create_task(client(name)) for name in range(3)]
        await asyncio.sleep(0)
        assert entered == [0, 1]
        assert (admission.active, admission.waiting) == (2, 1)
        with pytest.raises(Problem) as refused:
            async with admission.slot(time.monotonic() + 30):
                pass
        assert refused.value.kind == "busy"
        assert int(refused.value.headers["Retry-After"]) >= 1
        release.set()
        await asyncio.gather(*guests)
        assert entered == [0, 1, 2]
        assert (admission.active, admission.waiting) == (0, 0)

    asyncio.run(scenario())


def test_waiting_for_a_slot_times_out() -> None:
    async def scenario() -> None:
        admission = Admission(slots=1, queue=5)
        async with admission.slot(time.monotonic() + 30):
            with pytest.raises(Problem, match="no slot became free"):
                async with admission.slot(time.monotonic() + 0.01):
                    pass
        assert (admission.active, admission.waiting) == (0, 0)
        async with admission.slot(time.monotonic() + 30):  # the slot is free again
            assert admission.active == 1

    asyncio.run(scenario())


def test_rate_limit_refills_and_is_per_client() -> None:
    now = [0.0]
    rate = RateLimiter(3, clock=lambda: now[0])
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


def test_zero_rate_is_no_limit_and_old_clients_are_forgotten() -> None:
    free, counted = RateLimiter(0), RateLimiter(1, clock=lambda: 0.0)
    for number in range(20_000):
        free.check("a")
        counted.check(str(number))
    assert len(counted._tokens) == 10_000


def test_keys_are_read_from_the_environment() -> None:
    keys = Keys.from_environment({VARIABLE: f" {ONE} ,{OTHER},"})
    assert len(keys) == 2
    assert keys.accepts(ONE)
    assert keys.accepts(OTHER)
    for wrong in (None, "", ONE[:-1], ONE + "x", ONE.upper(), f"{ONE},{OTHER}", "é" * 20):
        assert not keys.accepts(wrong)


def test_without_keys_all_requests_are_accepted() -> None:
    keys = Keys.from_environment({})
    assert len(keys) == 0
    assert keys.accepts(None)
    assert keys.accepts("anything")


@pytest.mark.parametrize(
    "text", ["", " , ", "short", f"{ONE},short", "with-ünicode-characters", "tab\tin-the-middle-of-it"]
)
def test_invalid_keys_are_refused(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Keys.from_environment({VARIABLE: text})
    assert "short" not in str(refused.value).replace("shorter", "")  # no key in the message


def test_clients_are_identified_by_a_digest_of_their_key() -> None:
    assert ONE not in client_name(ONE, "10.0.0.1")
    assert client_name(ONE, "10.0.0.1") == client_name(ONE, "10.0.0.2") != client_name(OTHER, "10.0.0.1")
    assert client_name(None, "10.0.0.1") == "address 10.0.0.1"
    assert client_name(None, "2001:db8::1") == client_name(None, "2001:db8::2") != client_name(None, "2001:db8:0:1::1")
