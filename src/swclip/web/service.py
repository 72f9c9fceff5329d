"""The service behind the routes: from the body of a request to its response."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from starlette.requests import Request

from swclip.errors import ConfigError
from swclip.geo.areas import AreaError, parse_area
from swclip.retrieval.locator import Locator
from swclip.retrieval.prior import NoCandidatesError, Prior, UnknownCityError, Weights
from swclip.web import responses as schemas
from swclip.web.admission import Admission, RateLimiter
from swclip.web.batching import Batcher, ClosedError, QueueFullError
from swclip.web.body import Body
from swclip.web.engine import Engine, LocatedAnswer, LocateTask
from swclip.web.form import PHOTOGRAPHS, LocateOptions, read_form, read_options, request_too_large
from swclip.web.meters import Meters
from swclip.web.problems import Problem, busy, invalid
from swclip.web.regions import nearest_level
from swclip.web.settings import Limits
from swclip.web.uploads import Prepared, prepare

_MAX_CORNERS = 5_000

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
        self.rate = RateLimiter(limits.rate_per_minute)
        self.admission = Admission(limits.concurrency, limits.queue)
        self._decoders = ThreadPoolExecutor(limits.decoders, thread_name_prefix="swclip-decode")
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

    def close(self) -> None:
        """Finish the pending requests and stop the threads."""
        self._batcher.close(self.limits.timeout_s)
        self._decoders.shutdown(cancel_futures=True)

    async def locate(self, request: Request) -> schemas.LocateResponse:
        """Answer the photographs of a request.

        Raises:
            Problem: The request is refused, or none of its photographs can be used.
        """
        deadline = time.monotonic() + self.limits.timeout_s
        body = Body(request.receive, self.limits.pause_s, deadline)
        try:
            self._check_length(request)
            async with self.admission.slot(deadline):
                form = await read_form(request.headers, body.chunks(), self.limits)
                return await self._answer(form.photographs, read_options(form.fields), deadline)
        except Problem as problem:
            if not body.complete:
                await body.drain()
                problem.headers["Connection"] = "close"
            raise

    def _check_length(self, request: Request) -> None:
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self.limits.request_bytes:
            raise request_too_large(self.limits)

    async def _answer(
        self, photographs: list[bytes], options: LocateOptions, deadline: float
    ) -> schemas.LocateResponse:
        if not photographs:
            raise invalid(PHOTOGRAPHS, "is missing; send at least one photograph.")
        prior = await self._in_thread(partial(self._prior, options), deadline)
        prepared = await self._prepared(photographs, options, deadline)
        photographs.clear()  # frees the memory, which may be large
        usable = [(number, item) for number, item in enumerate(prepared) if isinstance(item, Prepared)]
        problems = {number: item for number, item in enumerate(prepared) if isinstance(item, Problem)}
        if not usable:
            raise next(iter(problems.values()))
        task = LocateTask(
            tuple(item.pixels for _, item in usable),
            tuple(str(number) for number, _ in usable),
            nearest_level(options.region),
            options.combined,
            options.estimator,
            options.top_k,
            prior,
        )
        located = await self._submit(task, deadline)
        groups = [[number for number, _ in usable]] if options.combined else [[number] for number, _ in usable]
        exif = {number: item.exif_deg for number, item in usable}
        results = await self._in_thread(
            lambda: [self._result(item, group, exif, options) for item, group in zip(located, groups, strict=True)],
            deadline,
        )
        results += [
            schemas.Result(photographs=[number], answer=None, posterior=None, exif=None, problem=problem.body())
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

    async def _prepared(
        self, photographs: list[bytes], options: LocateOptions, deadline: float
    ) -> list[Prepared | Problem]:
        jobs = [
            partial(
                prepare,
                data,
                self.locator.model.preprocess,
                max_pixels=self.limits.pixels,
                with_exif=options.compare_exif,
                number=number,
            )
            for number, data in enumerate(photographs)
        ]
        prepared = await asyncio.gather(*(self._in_thread(job, deadline) for job in jobs))
        for item in prepared:
            self.meters.photograph("usable" if isinstance(item, Prepared) else item.kind)
        return list(prepared)

    async def _submit(self, task: LocateTask, deadline: float) -> list[LocatedAnswer]:
        try:
            future = self._batcher.submit(task)
        except QueueFullError:
            raise busy(self.admission.retry_after_s) from None
        except ClosedError:
            raise Problem("not-ready", "the service is shutting down; try again later.") from None
        return await _before(asyncio.wrap_future(future), deadline)

    async def _in_thread(self, job: Callable[[], Result], deadline: float) -> Result:
        """Run a job that would block the event loop in the decoding threads."""
        return await _before(asyncio.get_running_loop().run_in_executor(self._decoders, job), deadline)

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


async def _before(work: asyncio.Future[Result], deadline: float) -> Result:
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            return await work
    except TimeoutError:
        detail = "the request was not processed in time; try again, with fewer photographs."
        raise Problem("too-late", detail, headers={"Retry-After": "5"}) from None
