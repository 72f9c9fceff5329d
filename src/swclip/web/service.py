"""The service behind the routes: from a request's body to the reply."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from starlette.requests import Request

from swclip.geo.areas import AreaError, parse_area
from swclip.retrieval.locator import Locator
from swclip.retrieval.prior import NoCandidatesError, Prior, UnknownCityError, Weights
from swclip.web import responses as schemas
from swclip.web.admission import Admission, Rate
from swclip.web.batching import Batcher, ClosedError, QueueFullError
from swclip.web.body import Body
from swclip.web.engine import Engine, Found, Question
from swclip.web.form import PHOTOGRAPHS, LocateOptions, read_form, read_options, request_too_large
from swclip.web.meters import Meters
from swclip.web.problems import Problem, busy, invalid
from swclip.web.regions import nearest_level
from swclip.web.settings import Limits
from swclip.web.uploads import Prepared, prepare

_MAX_CORNERS = 5_000

Result = TypeVar("Result")


class Service:
    """Takes requests in, within limits, and answers them.

    Args:
        locator: The gallery and its model.
        limits: What is allowed.
    """

    def __init__(self, locator: Locator, limits: Limits) -> None:
        self.engine, self.limits, self.meters = Engine(locator), limits, Meters()
        self.locator = locator
        self.rate = Rate(limits.rate_per_minute)
        self.admission = Admission(limits.concurrency, limits.queue)
        self._decoders = ThreadPoolExecutor(limits.decoders, thread_name_prefix="swclip-decode")
        self._batcher: Batcher[Question, list[Found]] = Batcher(
            self.engine.answer,
            units=lambda question: len(question.pixels),
            max_batch=limits.max_batch,
            max_wait_s=limits.max_wait_ms / 1000.0,
            capacity=limits.concurrency + limits.queue,
            on_batch=self.meters.batch,
        )
        self.meters.watch("requests_inside", "Requests that hold a place.", lambda: self.admission.inside)
        self.meters.watch("requests_waiting", "Requests that wait for a place.", lambda: self.admission.waiting)
        self.meters.watch("questions_waiting", "Questions that wait for the model.", lambda: len(self._batcher))

    @property
    def ready(self) -> bool:
        """Whether questions are answered."""
        return self._batcher.alive

    def close(self) -> None:
        """Answer what is there, and end the threads."""
        self._batcher.close(self.limits.timeout_s)
        self._decoders.shutdown(cancel_futures=True)

    async def locate(self, request: Request) -> schemas.LocateResponse:
        """Answer the photographs of a request.

        Raises:
            Problem: It is refused, or none of its photographs can be used.
        """
        deadline = time.monotonic() + self.limits.timeout_s
        body = Body(request.receive, self.limits.pause_s, deadline)
        try:
            self._check_length(request)
            async with self.admission.place(deadline):
                form = await read_form(request.headers, body.pieces(), self.limits)
                return await self._answer(form.photographs, read_options(form.fields), deadline)
        except Problem as problem:
            if not body.whole:
                await body.hear_out()
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
        prior = await self._aside(partial(self._prior, options), deadline)
        prepared = await self._prepared(photographs, options, deadline)
        photographs.clear()  # the bytes are not needed any more, and there may be many
        usable = [(number, one) for number, one in enumerate(prepared) if isinstance(one, Prepared)]
        problems = {number: one for number, one in enumerate(prepared) if isinstance(one, Problem)}
        if not usable:
            raise next(iter(problems.values()))
        question = Question(
            tuple(one.pixels for _, one in usable),
            tuple(str(number) for number, _ in usable),
            nearest_level(options.region),
            options.combined,
            options.estimator,
            options.top_k,
            prior,
        )
        found = await self._ask(question, deadline)
        groups = [[number for number, _ in usable]] if options.combined else [[number] for number, _ in usable]
        exif = {number: one.exif_deg for number, one in usable}
        results = await self._aside(
            lambda: [self._result(one, group, exif, options) for one, group in zip(found, groups, strict=True)],
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
            known = Prior(options.city, area, near, options.near_radius_m)
            return known.weights(gallery.positions_deg, gallery.cities)
        except AreaError as error:
            raise invalid("prior", error.detail) from None
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
        found = await asyncio.gather(*(self._aside(job, deadline) for job in jobs))
        for one in found:
            self.meters.photograph("usable" if isinstance(one, Prepared) else one.kind)
        return list(found)

    async def _ask(self, question: Question, deadline: float) -> list[Found]:
        try:
            future = self._batcher.submit(question)
        except QueueFullError:
            raise busy(self.admission.retry_after_s) from None
        except ClosedError:
            raise Problem("not-ready", "the service is shutting down; ask again in a moment.") from None
        return await _before(asyncio.wrap_future(future), deadline)

    async def _aside(self, job: Callable[[], Result], deadline: float) -> Result:
        """Work that would hold up the event loop, in the decoding threads."""
        return await _before(asyncio.get_running_loop().run_in_executor(self._decoders, job), deadline)

    def _result(
        self, found: Found, group: list[int], exif: dict[int, tuple[float, float] | None], options: LocateOptions
    ) -> schemas.Result:
        return schemas.result_of(
            found,
            group,
            max_cells=self.limits.max_cells if options.include_posterior else None,
            exif=[exif[number] for number in group] if options.compare_exif else None,
        )


async def _before(work: asyncio.Future[Result], deadline: float) -> Result:
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            return await work
    except TimeoutError:
        detail = "the service did not come to it in time; try again, with fewer photographs."
        raise Problem("too-late", detail, headers={"Retry-After": "5"}) from None
