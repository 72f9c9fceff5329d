"""Decoding in processes: a hang, a crash or a defect costs one photograph, and processes are used again."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from fixtures.odd_preprocess import OddPreprocess
from fixtures.service import encoded
from swclip.imaging.decode import PhotographError
from swclip.imaging.preprocess import Preprocess
from swclip.web.decoding import Decoded, DecoderError, Decoders, Encoded


def odd(data: bytes) -> Encoded:
    return Encoded(data, OddPreprocess(), 100)


def process_id(decoded: Decoded) -> int:
    return int(decoded.pixels[0, 0, 0])


def decoding(use: Callable[[Decoders], Awaitable[None]], count: int = 1, decode_s: float = 60.0) -> None:
    """Run a test with processes, all of which are gone afterwards."""

    async def main() -> None:
        decoders = Decoders(count, decode_s)
        await decoders.start()
        assert len(decoders.process_ids) == count
        try:
            await use(decoders)
        finally:
            started = decoders.process_ids
            await decoders.close()
        assert decoders.process_ids == []
        for number in started:
            with pytest.raises(ProcessLookupError):
                os.kill(number, 0)

    asyncio.run(main())


def test_pixels_are_those_of_this_process() -> None:
    async def use(decoders: Decoders) -> None:
        photograph = Encoded(encoded("JPEG", (300, 200)), Preprocess(), 10**6, with_exif=True)
        there, here = await decoders.decode(photograph), photograph.decode()
        assert there.pixels.tobytes() == here.pixels.tobytes()
        assert there.exif_deg is here.exif_deg is None
        with pytest.raises(PhotographError, match="has no bytes") as error:
            await decoders.decode(Encoded(b"", Preprocess(), 10**6))
        assert error.value.reason == "empty"
        with pytest.raises(PhotographError, match="megapixels"):
            await decoders.decode(Encoded(encoded("PNG"), Preprocess(), 10))

    decoding(use)


def test_processes_are_used_again_after_defects_and_output() -> None:
    async def use(decoders: Decoders) -> None:
        first = process_id(await decoders.decode(odd(b"")))
        with pytest.raises(ZeroDivisionError, match="a defect"):
            await decoders.decode(odd(b"fail"))
        assert process_id(await decoders.decode(odd(b"print"))) == first
        assert process_id(await decoders.decode(odd(b""))) == first
        os.kill(first, signal.SIGTERM)  # as systemd does to all processes of a service that it stops
        assert process_id(await decoders.decode(odd(b""))) == first

    decoding(use)


def test_processes_write_no_files(tmp_path: Path) -> None:
    async def use(decoders: Decoders) -> None:
        with pytest.raises(OSError, match="File too large"):
            await decoders.decode(odd(os.fsencode(tmp_path / "copy.jpg")))

    decoding(use)
    assert (tmp_path / "copy.jpg").read_bytes() == b""


def test_crash_and_lost_process_are_replaced() -> None:
    async def use(decoders: Decoders) -> None:
        first = process_id(await decoders.decode(odd(b"")))
        with pytest.raises(DecoderError):
            await decoders.decode(odd(b"crash"))
        second = process_id(await decoders.decode(odd(b"")))
        assert second != first
        os.kill(second, signal.SIGKILL)
        assert process_id(await decoders.decode(odd(b""))) != second

    decoding(use)


def test_hang_ends_its_process_and_no_other() -> None:
    async def use(decoders: Decoders) -> None:
        with pytest.raises(TimeoutError):
            await decoders.decode(odd(b"hang"))
        await decoders.decode(odd(b""))

    decoding(use, decode_s=0.5)


def test_cancelled_decoding_ends_its_process() -> None:
    async def use(decoders: Decoders) -> None:
        hanging = [asyncio.create_task(decoders.decode(odd(b"hang"))) for _ in range(3)]  # one of them waits
        await asyncio.sleep(0.1)
        before = set(decoders.process_ids)
        for task in hanging:
            task.cancel()
        assert await asyncio.gather(*hanging, return_exceptions=True) != []
        assert process_id(await decoders.decode(odd(b""))) not in before

    decoding(use, count=2)


def test_process_ends_with_its_input() -> None:
    async def use(decoders: Decoders) -> None:
        (number,) = decoders.process_ids
        stdin = decoders._idle[0].stdin
        assert stdin is not None
        stdin.close()
        deadline = time.monotonic() + 30
        while decoders.process_ids and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        assert decoders.process_ids == []
        assert process_id(await decoders.decode(odd(b""))) != number

    decoding(use)
