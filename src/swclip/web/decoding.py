"""Decoding of uploaded photographs, in processes that are ended when they take too long.

A file of some hundred kilobytes can be made to take minutes to decode, or to crash a decoder. A thread cannot be ended,
and would hold up the other requests and the end of the service. A process can, and what it takes with it is one answer.
What this module imports is in every process, so it imports little.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
from anyio import BrokenWorkerProcess, CapacityLimiter, to_process
from jaxtyping import Float32

from swclip.geo.coordinates import valid_positions
from swclip.imaging.decode import open_photograph
from swclip.imaging.preprocess import Preprocess
from swclip.ingest.exif import read_exif

Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class Decoded:
    """A photograph as input of the model.

    Attributes:
        pixels: (3, H, W) the preprocessed pixels.
        exif_deg: Latitude and longitude of its EXIF metadata in degrees; None where not requested or not usable.
    """

    pixels: Float32[np.ndarray, "3 h w"]
    exif_deg: tuple[float, float] | None


class DecoderError(Exception):
    """A decoder crashed."""


class Decoders:
    """Processes that decode photographs. They start when they are first needed, and end with the event loop.

    Args:
        count: Maximum number of processes.
        decode_s: Maximum time for a photograph in seconds; its process is ended then.
    """

    def __init__(self, count: int, decode_s: float) -> None:
        self._count, self._decode_s = count, decode_s
        self._free = asyncio.Semaphore(count)
        self._limiter = CapacityLimiter(count)

    async def start(self) -> None:
        """Start the processes, so that the first photographs need not wait for them."""
        await asyncio.gather(*(self._run(_nothing) for _ in range(self._count)))

    async def decode(self, data: bytes, preprocess: Preprocess, *, max_pixels: int, with_exif: bool) -> Decoded:
        """Decode and preprocess a photograph. Where this is cancelled, its process is ended.

        Args:
            data: The file's bytes.
            preprocess: The preprocessing of the model.
            max_pixels: Maximum number of pixels.
            with_exif: Read the EXIF position too.

        Raises:
            PhotographError: The file cannot be used as a photograph.
            TimeoutError: It takes too long.
            DecoderError: It crashes the decoder.
        """
        return await self._run(partial(_decode, data, preprocess, max_pixels, with_exif))

    async def _run(self, job: Callable[[], Result]) -> Result:
        async with self._free:
            try:
                async with asyncio.timeout(self._decode_s):
                    return await to_process.run_sync(_in_process, job, cancellable=True, limiter=self._limiter)
            except BrokenWorkerProcess as error:
                raise DecoderError from error


def _in_process(job: Callable[[], Result]) -> Result:
    # Ctrl-C and systemd signal all processes of the service, which first finishes its requests and then ends these.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return job()


def _nothing() -> None:
    """The first job of a process, which has imported this module by then."""


def _decode(data: bytes, preprocess: Preprocess, max_pixels: int, with_exif: bool) -> Decoded:
    pixels = preprocess.read(data, max_pixels=max_pixels)
    return Decoded(pixels, _exif_position(data, max_pixels) if with_exif else None)


def _exif_position(data: bytes, max_pixels: int) -> tuple[float, float] | None:
    with open_photograph(data, max_pixels=max_pixels) as image:
        exif = read_exif(image)
    lat, lon = exif.lat_deg, exif.lon_deg
    if lat is None or lon is None or exif.problem is not None or not bool(valid_positions(lat, lon)):
        return None
    return (lat, lon) if (lat, lon) != (0.0, 0.0) else None  # some cameras write 0, 0 without a position
