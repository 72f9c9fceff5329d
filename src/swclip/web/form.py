"""The form of a request: photographs and options, read in memory and within limits.

Starlette writes larger files to temporary files. Photographs of users must not be written to disk, so its parser may
use as much memory as the largest allowed request, and is stopped at the first byte beyond that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from swclip.calibration.posterior_config import EstimatorName
from swclip.web.problems import Problem, from_validation, invalid
from swclip.web.settings import MEGABYTE, Limits

PHOTOGRAPHS = "photographs"
"""Name of the form parts that are photographs."""

_FIELD_BYTES = 256 * 1024
_FIELDS = 16
_PRIOR = (
    "GeoJSON Polygon or MultiPolygon (or a Feature or FeatureCollection of these) that contains the place. Longitude "
    "before latitude."
)


class LocateOptions(BaseModel):
    """Options of a request. All are form fields beside the photographs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    combined: bool = Field(False, description="The photographs show one place: give one answer to all of them.")
    estimator: EstimatorName | None = Field(
        None,
        description="How the point is estimated from the posterior; null for mode.",
    )
    top_k: int = Field(5, ge=1, le=50, description="Number of candidates listed with an answer.")
    region: float = Field(0.8, ge=0.5, le=0.95, description="Nominal coverage of the prediction region.")
    include_posterior: bool = Field(False, description="List the cells of the posterior.")
    matches: bool = Field(
        False,
        description="State the patches that match between a photograph and its three best candidates, for a gallery "
        "with patch features.",
    )
    compare_exif: bool = Field(
        False, description="State the distance to the photograph's EXIF position, which is not used for the answer."
    )
    city: str | None = Field(
        None, max_length=200, description="City of the gallery that contains the place; not case-sensitive."
    )
    prior: str | None = Field(None, description=_PRIOR)
    near_lat_deg: float | None = Field(None, ge=-90, le=90, description="Latitude of a rough position in degrees.")
    near_lon_deg: float | None = Field(None, ge=-180, le=180, description="Longitude of the rough position in degrees.")
    near_radius_m: float | None = Field(
        None, gt=0, le=1e7, description="Standard deviation of the rough position in metres."
    )

    @model_validator(mode="after")
    def _near_is_complete(self) -> LocateOptions:
        near = (self.near_lat_deg, self.near_lon_deg, self.near_radius_m)
        if any(part is None for part in near) and any(part is not None for part in near):
            raise ValueError("near_lat_deg, near_lon_deg and near_radius_m must be used together; send all or none")
        return self


def read_options(fields: Mapping[str, str]) -> LocateOptions:
    """Parse the options of a form; empty fields are ignored.

    Raises:
        Problem: A field is unknown or has an invalid value.
    """
    try:
        return LocateOptions.model_validate({name: value for name, value in fields.items() if value != ""})
    except ValidationError as error:
        raise from_validation(error) from None


def request_schema(max_files: int) -> dict[str, Any]:
    """The OpenAPI schema of the form.

    Args:
        max_files: Maximum number of photographs per request.
    """
    schema = LocateOptions.model_json_schema()
    # Form fields are text and cannot be null: optional fields are omitted.
    properties = {name: _without_null(value) for name, value in schema["properties"].items()}
    files = {
        "type": "array",
        "items": {"type": "string", "format": "binary"},
        "minItems": 1,
        "maxItems": max_files,
        "description": "Photographs: JPEG, PNG, WebP, TIFF, BMP, GIF, AVIF; HEIC where the service has its plugin.",
    }
    return {
        "type": "object",
        "required": [PHOTOGRAPHS],
        "properties": {PHOTOGRAPHS: files, **properties},
        "additionalProperties": False,
    }


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    options = [option for option in schema.get("anyOf", []) if option.get("type") != "null"]
    if not options:
        return schema
    rest = {name: value for name, value in schema.items() if name != "anyOf" and (name, value) != ("default", None)}
    return {**options[0], **rest}


@dataclass
class Form:
    """The parsed form of a request.

    Attributes:
        photographs: The bytes of the files, in their order.
        fields: The other parts, as text.
    """

    photographs: list[bytes] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)


async def read_body(receive: Receive, pause_s: float, deadline: float) -> AsyncIterator[bytes]:
    """Yield the chunks of a request's body.

    Args:
        receive: The request's ASGI channel.
        pause_s: Maximum wait for a chunk in seconds.
        deadline: Latest time for the end of the body, by `time.monotonic()`.

    Raises:
        Problem: The body arrives too slowly.
        ClientDisconnect: The client disconnected.
    """
    more = True
    while more:
        try:
            async with asyncio.timeout(min(pause_s, deadline - time.monotonic())):
                message = await receive()
        except TimeoutError:
            detail = f"the body paused for {pause_s:g} s, or took too long in total; send smaller photographs."
            raise Problem("too-slow", detail) from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        more = message.get("more_body", False)
        if chunk := message.get("body", b""):
            yield chunk


async def read_form(headers: Headers, body: AsyncIterator[bytes], limits: Limits) -> Form:
    """Read a multipart body.

    Args:
        headers: The request's headers.
        body: The chunks of the body.
        limits: Limits on requests; reading stops at the first byte beyond them.

    Raises:
        Problem: The body is not multipart, malformed, truncated or too large, has too many photographs, or repeats a
            field.
    """
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
        raise Problem(
            "not-multipart",
            "send the photographs as parts named `photographs` of multipart/form-data, "
            "such as with curl -F photographs=@photo.jpg.",
        )
    try:
        parts = await _Parser(headers, body, limits).parse()
    except MultiPartException as error:
        detail = f"the multipart body is malformed ({error.message}); send it again."
        raise Problem("malformed-request", detail) from error
    try:
        form = Form()
        for name, part in parts.multi_items():
            await _add_part(form, name, part, limits)
        return form
    finally:
        await parts.close()


class _Parser(MultiPartParser):
    """Starlette's parser with the limits of a request: files stay in memory, and parts are counted as they arrive."""

    def __init__(self, headers: Headers, body: AsyncIterator[bytes], limits: Limits) -> None:
        # The size of a part is checked in `on_part_data`, with a problem of its own.
        super().__init__(headers, self._chunks(body), max_part_size=limits.request_bytes)
        self.spool_max_size = limits.request_bytes
        self._limits, self._parts, self._part_bytes, self._complete = limits, 0, 0, False

    def on_part_begin(self) -> None:
        super().on_part_begin()
        self._parts, self._part_bytes = self._parts + 1, 0
        if self._parts > self._limits.max_files + _FIELDS:
            too_many = self._photographs() > self._limits.max_files
            raise _too_many_photographs(self._limits) if too_many else _too_many_fields()

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._part_bytes += end - start
        if self._part_bytes > self._limits.upload_bytes:
            raise _too_large(self._photographs(), self._limits)
        super().on_part_data(data, start, end)

    def on_end(self) -> None:
        self._complete = True

    async def _chunks(self, body: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """Yield the chunks of the body. An exception raised here makes the parser close its files."""
        total = 0
        async for chunk in body:
            total += len(chunk)
            if total > self._limits.request_bytes:
                raise request_too_large(self._limits)
            yield chunk
        if not self._complete:
            raise Problem("malformed-request", "the multipart body ends before its final boundary; send it again.")

    def _photographs(self) -> int:
        return sum(name == PHOTOGRAPHS for name, _ in self.items)


async def _add_part(form: Form, name: str, part: UploadFile | str, limits: Limits) -> None:
    """Add a part to the form."""
    if name == PHOTOGRAPHS:
        if isinstance(part, str):
            raise invalid(PHOTOGRAPHS, "is sent as text; send it as a file, with a file name.")
        if len(form.photographs) >= limits.max_files:
            raise _too_many_photographs(limits)
        form.photographs.append(await part.read())
        await part.close()
        return
    if name in form.fields:
        raise invalid(name[:80], "is sent twice; send it once.")
    if len(form.fields) >= _FIELDS:
        raise _too_many_fields()
    try:
        text = part if isinstance(part, str) else (await part.read()).decode("utf-8")
    except UnicodeDecodeError:
        raise invalid(name[:80], "is not UTF-8 text.") from None
    if len(text.encode("utf-8", "surrogatepass")) > _FIELD_BYTES:
        raise invalid(name[:80], f"is longer than {_FIELD_BYTES // 1024} kB; shorten it.")
    form.fields[name] = text


def request_too_large(limits: Limits) -> Problem:
    """The problem of a request with too many bytes."""
    return Problem(
        "request-too-large",
        f"a request may have at most {limits.max_request_mb:g} MB; send fewer or smaller photographs.",
    )


def _too_many_photographs(limits: Limits) -> Problem:
    return Problem("request-too-large", f"a request may have at most {limits.max_files} photographs; send fewer.")


def _too_many_fields() -> Problem:
    return Problem("invalid-options", f"the request has more than {_FIELDS} fields; send each option once.")


def _too_large(photograph: int, limits: Limits) -> Problem:
    return Problem(
        "photograph-too-large",
        f"a photograph may have at most {limits.upload_bytes / MEGABYTE:g} MB; reduce it.",
        photograph=photograph,
    )
