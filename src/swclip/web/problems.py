"""Errors as problem details (RFC 9457)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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
    """A kind of problem: its HTTP status and title."""

    status: int
    title: str


KINDS: dict[str, Kind] = {
    "malformed-request": Kind(400, "The request body cannot be read"),
    "key-needed": Kind(401, "An API key is required"),
    "not-found": Kind(404, "There is nothing at this address"),
    "method-not-allowed": Kind(405, "The method is not allowed at this address"),
    "too-slow": Kind(408, "The request arrived too slowly"),
    "version-gone": Kind(410, "This version of the API is no longer available"),
    "photograph-too-large": Kind(413, "The photograph is too large"),
    "request-too-large": Kind(413, "The request is too large"),
    "not-multipart": Kind(415, "Photographs must be sent as multipart/form-data"),
    "not-a-photograph": Kind(415, "The file is not a photograph"),
    "photograph-damaged": Kind(422, "The photograph cannot be decoded"),
    "invalid-options": Kind(422, "The options cannot be used"),
    "prior-excludes-all": Kind(422, "No candidate is compatible with the prior"),
    "too-many-requests": Kind(429, "Too many requests from one client"),
    "internal": Kind(500, "The service failed"),
    "busy": Kind(503, "The service is busy"),
    "not-ready": Kind(503, "The service is not ready"),
    "too-late": Kind(504, "The request timed out"),
    "refused": Kind(400, "The request cannot be served"),
}
"""Kinds by name. The name is the last part of `type`, which does not change between versions."""

_BY_STATUS = {404: "not-found", 405: "method-not-allowed", 413: "request-too-large", 415: "not-multipart"}


class FieldProblem(BaseModel):
    """A problem with one field of the request."""

    field: str = Field(description="Name of the form field or query parameter.")
    detail: str = Field(description="The problem with it.")


class ProblemDetail(BaseModel):
    """A problem detail (RFC 9457)."""

    type: str = Field(description="The kind of problem: a stable URN.", examples=[_URN + "busy"])
    title: str = Field(description="The kind as text.")
    status: int = Field(description="The HTTP status.", ge=400, le=599)
    detail: str = Field(description="What is wrong with this request, and what to do.")
    instance: str | None = Field(None, description="Id of the request in the service's log.")
    photograph: int | None = Field(None, description="The photograph of the request, numbered from 0.")
    errors: list[FieldProblem] | None = Field(None, description="The invalid fields.")
    problems: list[ProblemDetail] | None = Field(
        None, description="Of several photographs, none of which can be used: the problem of each."
    )


class Problem(Exception):
    """A request that is refused.

    Args:
        kind: The name of a kind in `KINDS`.
        detail: What is wrong and what to do, without private data.
        photograph: The photograph of the request, numbered from 0.
        errors: The invalid fields.
        problems: Of several photographs, none of which can be used: the problem of each.
        headers: Further headers of the response.
    """

    def __init__(
        self,
        kind: str,
        detail: str,
        *,
        photograph: int | None = None,
        errors: list[FieldProblem] | None = None,
        problems: Sequence[Problem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind, self.photograph, self.errors, self.headers = kind, photograph, errors, dict(headers or {})
        self.detail, self.problems = detail, problems

    def body(self, instance: str | None = None, status: int | None = None) -> ProblemDetail:
        """The body of the response."""
        kind = KINDS[self.kind]
        return ProblemDetail(
            type=_URN + self.kind,
            title=kind.title,
            status=status or kind.status,
            detail=self.detail,
            instance=instance,
            photograph=self.photograph,
            errors=self.errors,
            problems=[problem.body() for problem in self.problems] or None,
        )


def busy(retry_after_s: int, reason: str = "all slots are in use and the queue is full") -> Problem:
    """The problem of a service that cannot accept the request now."""
    detail = f"{reason}; try again in {retry_after_s} s."
    return Problem("busy", detail, headers={"Retry-After": str(retry_after_s)})


def invalid(field: str, detail: str) -> Problem:
    """The problem of one invalid field."""
    return Problem("invalid-options", f"{field}: {detail}", errors=[FieldProblem(field=field, detail=detail)])


def from_validation(error: ValidationError | RequestValidationError) -> Problem:
    """The problem of a pydantic validation error, without the values that were sent."""
    problems = [
        FieldProblem(field=_field_name(entry["loc"]), detail=str(entry["msg"]).removeprefix("Value error, "))
        for entry in error.errors()
    ]
    listed = "; ".join(f"{item.field}: {item.detail}" for item in problems[:3])
    more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
    return Problem("invalid-options", listed + more, errors=problems)


def response(problem: Problem, instance: str | None = None, status: int | None = None) -> Response:
    """A problem as a response."""
    body = problem.body(instance, status)
    content = json.dumps(body.model_dump(exclude_none=True), ensure_ascii=False)
    headers = {"Cache-Control": "no-store", **problem.headers}
    return Response(content, body.status, headers=headers, media_type=MEDIA_TYPE)


def documented(*kinds: str) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI responses of kinds of problems."""
    responses: dict[int | str, dict[str, Any]] = {}
    for status in sorted({KINDS[name].status for name in kinds}):
        names = [name for name in kinds if KINDS[name].status == status]
        description = "; ".join(f"`{name}`: {KINDS[name].title.lower()}" for name in names)
        responses[status] = {"description": description, "content": {MEDIA_TYPE: {"schema": _SCHEMA}}}
        if "busy" in names or "too-many-requests" in names:
            header = {"description": "Seconds after which to try again.", "schema": {"type": "integer"}}
            responses[status]["headers"] = {"Retry-After": header}
    return responses


_SCHEMA = {"$ref": "#/components/schemas/ProblemDetail"}


def install(app: FastAPI) -> None:
    """Make an application return all errors as problems."""

    async def on_problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return response(error, _instance(request))

    async def on_validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return response(from_validation(error), _instance(request))

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        kind = _BY_STATUS.get(error.status_code, "refused")
        detail = {
            "not-found": "check the address.",
            "method-not-allowed": "see the Allow header for allowed methods.",
        }
        problem = Problem(kind, detail.get(kind, KINDS[kind].title + "."), headers=error.headers)
        return response(problem, _instance(request), error.status_code)

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(HTTPException, on_http)


def _instance(request: Request) -> str | None:
    return getattr(request.state, "instance", None)


def _field_name(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location if part not in ("query", "path", "body", "header")) or "request"
