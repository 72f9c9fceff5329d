"""Every refusal as a problem detail (RFC 9457): one catalogue of kinds, one form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"
_URN = "urn:swclip:problem:"


@dataclass(frozen=True)
class Kind:
    """One thing that can go wrong: its HTTP status, and what it is called."""

    status: int
    title: str


KINDS: dict[str, Kind] = {
    "malformed-request": Kind(400, "The request's body cannot be read"),
    "key-needed": Kind(401, "A key is needed"),
    "not-found": Kind(404, "There is nothing at this address"),
    "method-not-allowed": Kind(405, "This address does not take that method"),
    "too-slow": Kind(408, "The request came too slowly"),
    "version-gone": Kind(410, "This version of the interface is no longer served"),
    "photograph-too-large": Kind(413, "The photograph is too large"),
    "request-too-large": Kind(413, "The request is too large"),
    "not-multipart": Kind(415, "Photographs are sent as multipart/form-data"),
    "not-a-photograph": Kind(415, "The file is not a photograph"),
    "photograph-damaged": Kind(422, "The photograph cannot be decoded"),
    "invalid-options": Kind(422, "The options cannot be used"),
    "prior-excludes-all": Kind(422, "No candidate lies where the photograph is said to be from"),
    "too-many-requests": Kind(429, "Too many requests from one client"),
    "internal": Kind(500, "The service failed"),
    "busy": Kind(503, "The service is busy"),
    "not-ready": Kind(503, "The service is not ready"),
    "too-late": Kind(504, "The answer would come too late"),
    "refused": Kind(400, "The request cannot be served"),
}
"""By name: the last part of `type`, which stays the same from version to version."""

_BY_STATUS = {404: "not-found", 405: "method-not-allowed", 413: "request-too-large", 415: "not-multipart"}


class FieldProblem(BaseModel):
    """What is wrong with one field of the request."""

    field: str = Field(description="Name of the form field or query parameter.")
    detail: str = Field(description="What is wrong with it.")


class ProblemDetail(BaseModel):
    """A problem detail after RFC 9457."""

    type: str = Field(description="What kind of problem: a URN that stays the same.", examples=[_URN + "busy"])
    title: str = Field(description="The kind in words.")
    status: int = Field(description="The HTTP status.", ge=400, le=599)
    detail: str = Field(description="What went wrong this time, and what to do.")
    instance: str | None = Field(None, description="This request, as the service's log names it.")
    photograph: int | None = Field(None, description="Which photograph of the request, from 0.")
    errors: list[FieldProblem] | None = Field(None, description="The fields that cannot be used.")


class Problem(Exception):
    """A request that is refused.

    Args:
        kind: Name in `KINDS`.
        detail: What went wrong and what to do, without anything private.
        photograph: Which photograph of the request, from 0.
        errors: Field and what is wrong with it.
        headers: Further headers of the response.
    """

    def __init__(
        self,
        kind: str,
        detail: str,
        *,
        photograph: int | None = None,
        errors: list[FieldProblem] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind, self.photograph, self.errors, self.headers = kind, photograph, errors, dict(headers or {})
        self.detail = detail

    def body(self, instance: str | None = None, status: int | None = None) -> ProblemDetail:
        """The problem as it is sent."""
        kind = KINDS[self.kind]
        return ProblemDetail(
            type=_URN + self.kind,
            title=kind.title,
            status=status or kind.status,
            detail=self.detail,
            instance=instance,
            photograph=self.photograph,
            errors=self.errors,
        )


def busy(retry_after_s: int, why: str = "all places are taken and as many requests wait as may") -> Problem:
    """The service cannot take this request now."""
    detail = f"{why}; try again in {retry_after_s} s."
    return Problem("busy", detail, headers={"Retry-After": str(retry_after_s)})


def invalid(field: str, detail: str) -> Problem:
    """One field of the request cannot be used."""
    return Problem("invalid-options", f"{field}: {detail}", errors=[FieldProblem(field=field, detail=detail)])


def from_validation(error: ValidationError | RequestValidationError) -> Problem:
    """Pydantic's complaints, without the values that were sent."""
    found = [
        FieldProblem(field=_place(entry["loc"]), detail=str(entry["msg"]).removeprefix("Value error, "))
        for entry in error.errors()
    ]
    named = "; ".join(f"{one.field}: {one.detail}" for one in found[:3])
    more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
    return Problem("invalid-options", named + more, errors=found)


def response(problem: Problem, instance: str | None = None, status: int | None = None) -> Response:
    """A problem as a response."""
    body = problem.body(instance, status)
    content = json.dumps(body.model_dump(exclude_none=True), ensure_ascii=False)
    headers = {"Cache-Control": "no-store", **problem.headers}
    return Response(content, body.status, headers=headers, media_type=MEDIA_TYPE)


def documented(*kinds: str) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's responses for kinds of problems."""
    found: dict[int | str, dict[str, Any]] = {}
    for status in sorted({KINDS[name].status for name in kinds}):
        own = [name for name in kinds if KINDS[name].status == status]
        words = "; ".join(f"`{name}`: {KINDS[name].title.lower()}" for name in own)
        found[status] = {"description": words, "content": {MEDIA_TYPE: {"schema": _SCHEMA}}}
        if "busy" in own or "too-many-requests" in own:
            header = {"description": "Seconds after which to try again.", "schema": {"type": "integer"}}
            found[status]["headers"] = {"Retry-After": header}
    return found


_SCHEMA = {"$ref": "#/components/schemas/ProblemDetail"}


def install(app: FastAPI) -> None:
    """Let an application answer all its errors as problems."""

    async def on_problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return response(error, _instance(request))

    async def on_validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return response(from_validation(error), _instance(request))

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        kind = _BY_STATUS.get(error.status_code, "refused")
        detail = {"not-found": "check the address.", "method-not-allowed": "see Allow for those it takes."}
        problem = Problem(kind, detail.get(kind, KINDS[kind].title + "."), headers=error.headers)
        return response(problem, _instance(request), error.status_code)

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(HTTPException, on_http)


def _instance(request: Request) -> str | None:
    return getattr(request.state, "instance", None)


def _place(where: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in where if part not in ("query", "path", "body", "header")) or "request"
