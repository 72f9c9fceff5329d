"""Decoding of uploaded photographs, in processes that are ended when they take too long.

A file of some hundred kilobytes can be made to take minutes to decode, or to crash a decoder. A thread cannot be ended:
it would hold up other requests and the end of the service. A process can, at the cost of one photograph's answer.

A process runs `work` of this module, which therefore imports little. Requests and replies are pickled; both ends are
this module.
"""

from __future__ import annotations

import asyncio
import math
import os
import pickle
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass

from swclip.geo.coordinates import position_problem
from swclip.imaging.decode import open_photograph
from swclip.imaging.preprocess import JointPreprocess, Pixels, Preprocess
from swclip.ingest.exif import read_exif

if sys.platform != "win32":
    import resource

_PROGRAM = "from swclip.web.decoding import work; work()"
_LENGTH_BYTES = 8
_MARGIN_S = 2


@dataclass(frozen=True, eq=False)
class Decoded:
    """A photograph as input of the model.

    Attributes:
        pixels: The preprocessed pixels, (3, H, W) for each tower.
        exif_deg: Latitude and longitude of its EXIF metadata in degrees; None where not requested or not usable.
    """

    pixels: Pixels
    exif_deg: tuple[float, float] | None


@dataclass(frozen=True, eq=False)
class Encoded:
    """A photograph to decode.

    Attributes:
        data: The file's bytes.
        preprocess: The preprocessing of the model.
        max_pixels: Maximum number of pixels.
        with_exif: Read the EXIF position too.
    """

    data: bytes
    preprocess: Preprocess | JointPreprocess
    max_pixels: int
    with_exif: bool = False

    def decode(self) -> Decoded:
        """Decode and preprocess it in this process.

        Raises:
            PhotographError: It cannot be used as a photograph.
        """
        pixels = self.preprocess.read(self.data, max_pixels=self.max_pixels)
        return Decoded(pixels, _exif_position(self.data, self.max_pixels) if self.with_exif else None)


class DecoderError(Exception):
    """A process ended while it decoded a photograph."""


class Decoders:
    """Processes that decode photographs. They start when they are first needed.

    Args:
        count: Maximum number of processes.
        decode_s: Maximum time for a photograph in seconds.
    """

    def __init__(self, count: int, decode_s: float) -> None:
        self._count, self._decode_s = count, decode_s
        self._free = asyncio.Semaphore(count)
        self._idle: list[asyncio.subprocess.Process] = []
        self._processes: list[asyncio.subprocess.Process] = []

    @property
    def process_ids(self) -> list[int]:
        """Ids of the running processes, the oldest first."""
        return [process.pid for process in self._processes if process.returncode is None]

    async def start(self) -> None:
        """Start the processes, so that the first photographs need not wait for them."""
        self._idle += await asyncio.gather(*(self._started() for _ in range(self._count)))

    async def decode(self, photograph: Encoded) -> Decoded:
        """Decode and preprocess a photograph. If this is cancelled, its process is ended.

        Raises:
            PhotographError: It cannot be used as a photograph.
            TimeoutError: It takes too long.
            DecoderError: It crashes the decoder.
        """
        async with self._free:
            try:
                reply = await self._decode(photograph)
            except (ConnectionError, EOFError):
                try:  # it may have ended before, for lack of memory
                    reply = await self._decode(photograph)
                except (ConnectionError, EOFError) as error:
                    raise DecoderError from error
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def _decode(self, photograph: Encoded) -> Decoded | Exception:
        process = await self._ready()
        try:
            async with asyncio.timeout(self._decode_s):
                reply = await _exchange(process, photograph)
        except BaseException:
            _kill(process)
            raise
        self._idle.append(process)
        return reply

    async def close(self) -> None:
        """End all processes."""
        for process in self._processes:
            _kill(process)
            await process.wait()

    async def _ready(self) -> asyncio.subprocess.Process:
        while self._idle:
            process = self._idle.pop()
            if process.returncode is None:
                return process
        return await self._started()

    async def _started(self) -> asyncio.subprocess.Process:
        self._processes = [process for process in self._processes if process.returncode is None]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _PROGRAM, str(math.ceil(self._decode_s) + _MARGIN_S),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,  # Ctrl-C is meant for the service, which first finishes its requests
        )  # fmt: skip
        self._processes.append(process)
        assert process.stdout is not None
        try:
            await process.stdout.readexactly(1)
        except asyncio.IncompleteReadError as error:
            raise DecoderError("a process that decodes photographs does not start") from error
        except asyncio.CancelledError:
            _kill(process)
            raise
        return process


async def _exchange(process: asyncio.subprocess.Process, photograph: Encoded) -> Decoded | Exception:
    assert process.stdin is not None
    assert process.stdout is not None
    request = pickle.dumps(photograph, pickle.HIGHEST_PROTOCOL)
    process.stdin.write(len(request).to_bytes(_LENGTH_BYTES, "big"))
    process.stdin.write(request)
    await process.stdin.drain()
    length = int.from_bytes(await process.stdout.readexactly(_LENGTH_BYTES), "big")
    reply: Decoded | Exception = pickle.loads(await process.stdout.readexactly(length))
    return reply


def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()


def work() -> None:
    """Decode the photographs of the input until it ends, in a process of its own."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # systemd sends it to all processes; this one ends with its input
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):  # what a decoder prints is no reply, and may quote the file in the log
        os.dup2(nowhere, descriptor)
    if sys.platform != "win32":
        with suppress(OSError, ValueError):  # where a sandbox forbids it
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # no byte of a photograph can be written to a file
    replies.write(b"\0")
    replies.flush()
    while length := requests.read(_LENGTH_BYTES):
        photograph: Encoded = pickle.loads(requests.read(int.from_bytes(length, "big")))
        if sys.platform != "win32":
            signal.alarm(int(sys.argv[1]))  # ends the process, should the service have ended without it
        try:
            reply: Decoded | Exception = photograph.decode()
        except Exception as error:
            reply = error
        if sys.platform != "win32":
            signal.alarm(0)
        pickled = pickle.dumps(reply, pickle.HIGHEST_PROTOCOL)
        replies.write(len(pickled).to_bytes(_LENGTH_BYTES, "big"))
        replies.write(pickled)
        replies.flush()


def _exif_position(data: bytes, max_pixels: int) -> tuple[float, float] | None:
    with open_photograph(data, max_pixels=max_pixels) as image:
        exif = read_exif(image)
    lat, lon = exif.lat_deg, exif.lon_deg
    if lat is None or lon is None or exif.problem is not None or position_problem(lat, lon) is not None:
        return None
    if any(note.code == "datum-unknown" for note in exif.notes):
        return None  # the distance to a position in an unknown datum would be wrong by up to 1 km
    return lat, lon
