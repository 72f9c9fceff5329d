"""The service behind the routes: from the body of a request to its response."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from starlette.requests import Request

from swclip.calibration.posterior_config import ESTIMATOR
from swclip.errors import ConfigError
from swclip.geo.areas import AreaError, parse_area
from swclip.imaging.decode import PhotographError
from swclip.retrieval.locator import Locator
from swclip.retrieval.prior import NoCandidatesError, Prior, UnknownCityError, Weights
from swclip.web import responses as schemas
from swclip.web.admission import Admission, RateLimiter
from swclip.web.batching import Batcher, ClosedError, QueueFullError
from swclip.web.decoding import Decoded, DecoderError, Decoders, Encoded
from swclip.web.engine import Engine, LocatedAnswer, LocateTask, nearest_level
from swclip.web.form import PHOTOGRAPHS, LocateOptions, read_body, read_form, read_options, request_too_large
from swclip.web.gallery_description import matches_info
from swclip.web.middleware import Meters
from swclip.web.problems import Problem, busy, invalid
from swclip.web.settings import Limits

_MAX_CORNERS = 5_000
_CLOSE_S = 0.5
_UNUSABLE = {
    "too-large": (
        "photograph-too-large",
        "The image has more pixels, scans or parts than the service accepts; reduce it, or save it as a plain JPEG.",
    ),
    "too-slow": ("photograph-too-large", "The image takes too long to decode; reduce it, or save it as a plain JPEG."),
    "not-an-image": (
        "not-a-photograph",
        "The file is not in a format that the service reads (JPEG, PNG, WebP, TIFF, BMP, GIF, AVIF, or HEIC with its "
        "plugin); convert it.",
    ),
    "truncated": ("photograph-damaged", "The file is truncated or damaged; copy or download it again."),
    "crash": ("photograph-damaged", "The file is damaged such that it cannot be decoded; copy or download it again."),
    "empty": ("photograph-damaged", "The file is empty; choose it again."),
    "missing": ("photograph-damaged", "The file cannot be read."),
}
"""Kind of problem and detail, for each reason for which a photograph cannot be used."""

Result = TypeVar("Result")


class Service:
    """Answers requests within limits.

    Args:
        locator: The gallery and its model.
        limits: Limits on requests.
    """

    def __init__(self, locator: Locator, limits: Limits) -> None:
        self.engine, self.limits, self.meters = Engine(locator), limits, Meters()
        self.locator = locator
        self._has_patches = matches_info(locator) is not None
        self.rate = RateLimiter(limits.rate_per_minute)
        self.admission = Admission(limits.concurrency, limits.queue)
        self.decoders = Decoders(limits.decoders, limits.decode_s)
        self._threads = CapacityLimiter(limits.decoders)
        self._batcher: Batcher[LocateTask, list[LocatedAnswer]] = Batcher(
            self.engine.answer,
            units=lambda task: len(task.pixels),
            max_batch=limits.max_batch,
            max_wait_s=limits.max_wait_ms / 1000.0,
            capacity=limits.concurrency + limits.queue,
            on_batch=self.meters.batch,
        )
        self.meters.watch("requests_inside", "Requests in progress.", lambda: self.admission.active)
        self.meters.watch("requests_waiting", "Requests that wait for a slot.", lambda: self.admission.waiting)
        self.meters.watch("questions_waiting", "Requests that wait for the model.", lambda: len(self._batcher))

    @property
    def ready(self) -> bool:
        """Whether the model's thread is running."""
        return self._batcher.alive

    async def close(self) -> None:
        """Stop the model's thread and the decoders; by then the server has finished or given up all requests."""
        await self.decoders.close()
        await to_thread.run_sync(self._batcher.close, _CLOSE_S)

    async def locate(self, request: Request) -> schemas.LocateResponse:
        """Answer the photographs of a request.

        Raises:
            Problem: The request is refused, or none of its photographs can be used.
        """
        deadline = time.monotonic() + self.limits.timeout_s
        self._check_length(request)
        async with self.admission.slot(deadline):
            form = await read_form(
                request.headers, read_body(request.receive, self.limits.pause_s, deadline), self.limits
            )
            return await self._answer(form.photographs, read_options(form.fields), deadline)

    def _check_length(self, request: Request) -> None:
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self.limits.request_bytes:
            raise request_too_large(self.limits)

    async def _answer(
        self, photographs: list[bytes], options: LocateOptions, deadline: float
    ) -> schemas.LocateResponse:
        if not photographs:
            raise invalid(PHOTOGRAPHS, "is missing; send at least one photograph.")
        if options.matches and not self._has_patches:
            raise invalid("matches", "needs a gallery with patch features, which this one does not have; leave it out.")
        prior = await self._in_thread(partial(self._prior, options), deadline)
        decoded = await self._decoded(photographs, options, deadline)
        photographs.clear()  # frees the memory, which may be large
        usable = [(number, item) for number, item in enumerate(decoded) if isinstance(item, Decoded)]
        problems = {number: item for number, item in enumerate(decoded) if isinstance(item, Problem)}
        if not usable:
            first = problems[0]
            each = list(problems.values()) if len(problems) > 1 else ()
            raise Problem(first.kind, first.detail, photograph=0, problems=each)
        task = LocateTask(
            tuple(item.pixels for _, item in usable),
            tuple(str(number) for number, _ in usable),
            nearest_level(options.region),
            options.combined,
            options.estimator or ESTIMATOR,
            options.top_k,
            prior,
            options.matches,
        )
        located = await self._submit(task, deadline)
        groups = [[number for number, _ in usable]] if options.combined else [[number] for number, _ in usable]
        exif = {number: item.exif_deg for number, item in usable}
        results = await self._in_thread(
            lambda: [self._result(item, group, exif, options) for item, group in zip(located, groups, strict=True)],
            deadline,
        )
        results += [
            schemas.Result(
                photographs=[number], answer=None, posterior=None, exif=None, matches=None, problem=problem.body()
            )
            for number, problem in problems.items()
        ]
        return schemas.LocateResponse(
            model=self.locator.model.fingerprint,
            combined=options.combined,
            results=sorted(results, key=lambda result: result.photographs[0]),
        )

    def _prior(self, options: LocateOptions) -> Weights | None:
        near = None
        if options.near_lat_deg is not None and options.near_lon_deg is not None:
            near = (options.near_lat_deg, options.near_lon_deg)
        gallery = self.locator.gallery
        try:
            area = None if options.prior is None else parse_area(options.prior, max_corners=_MAX_CORNERS)
            prior = Prior(options.city, area, near, options.near_radius_m)
            return prior.weights(gallery.positions_deg, gallery.cities)
        except AreaError as error:
            raise invalid("prior", error.detail) from None
        except ConfigError as error:
            raise invalid("near_lat_deg", str(error)) from None
        except UnknownCityError as error:
            raise invalid("city", str(error)) from None
        except NoCandidatesError as error:
            raise Problem("prior-excludes-all", str(error)) from None

    async def _decoded(
        self, photographs: list[bytes], options: LocateOptions, deadline: float
    ) -> list[Decoded | Problem]:
        decoded = await _before(
            asyncio.gather(*(self._decode(data, options, number) for number, data in enumerate(photographs))), deadline
        )
        for item in decoded:
            self.meters.photograph("usable" if isinstance(item, Decoded) else item.kind)
        return decoded

    async def _decode(self, data: bytes, options: LocateOptions, number: int) -> Decoded | Problem:
        """Decode a photograph. Problems do not include the decoder's message, which may quote the file."""
        photograph = Encoded(data, self.locator.model.preprocess, self.limits.pixels, options.compare_exif)
        try:
            return await self.decoders.decode(photograph)
        except PhotographError as error:
            reason: str = error.reason
        except TimeoutError:
            reason = "too-slow"
        except DecoderError:
            reason = "crash"
        kind, detail = _UNUSABLE[reason]
        return Problem(kind, detail, photograph=number)

    async def _submit(self, task: LocateTask, deadline: float) -> list[LocatedAnswer]:
        try:
            future = self._batcher.submit(task)
        except QueueFullError:
            raise busy(self.admission.retry_after_s) from None
        except ClosedError:
            raise Problem("not-ready", "the service is shutting down; try again later.") from None
        return await _before(asyncio.wrap_future(future), deadline)

    async def _in_thread(self, job: Callable[[], Result], deadline: float) -> Result:
        """Run a job that would block the event loop in a thread, which an ending process does not wait for."""
        return await _before(to_thread.run_sync(job, abandon_on_cancel=True, limiter=self._threads), deadline)

    def _result(
        self,
        located: LocatedAnswer,
        group: list[int],
        exif: dict[int, tuple[float, float] | None],
        options: LocateOptions,
    ) -> schemas.Result:
        return schemas.result_of(
            located,
            group,
            max_cells=self.limits.max_cells if options.include_posterior else None,
            exif=[exif[number] for number in group] if options.compare_exif else None,
        )


async def _before(work: Awaitable[Result], deadline: float) -> Result:
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            return await work
    except TimeoutError:
        detail = "the request was not processed in time; try again, with fewer photographs."
        raise Problem("too-late", detail, headers={"Retry-After": "5"}) from None
