"""A multipart body as it arrives: photographs and fields, in memory only and never more than is allowed.

Frameworks write uploads of some size to temporary files. Photographs that strangers send are not to be on a disk, so
the body is read here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from swclip.web.problems import Problem, invalid
from swclip.web.settings import MEGABYTE, Limits

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

PHOTOGRAPHS = "photographs"
"""Name of the parts that are photographs."""

_FIELD_BYTES = 256 * 1024
_FIELDS = 16


@dataclass
class Form:
    """What a request brought.

    Attributes:
        photographs: The files' bytes, in their order.
        fields: The other parts as text.
    """

    photographs: list[bytes] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)


async def read_form(content_type: str | None, body: AsyncIterator[bytes], limits: Limits) -> Form:
    """Read a multipart body.

    Args:
        content_type: The request's Content-Type.
        body: Its bytes in pieces.
        limits: What is allowed; the first byte beyond ends the reading.

    Raises:
        Problem: It is not multipart, is malformed or cut short, too large, holds too many photographs, or repeats a
            field.
    """
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        raise Problem(
            "not-multipart",
            "send the photographs as parts named `photographs` of multipart/form-data; "
            "curl does so with -F photographs=@photo.jpg.",
        )
    reader = _Reader(limits)
    try:
        parser = MultipartParser(options.get(b"boundary", b""), reader.callbacks())
        async for piece in body:
            reader.count(len(piece))
            parser.write(piece)
        parser.finalize()
    except FormParserError as error:
        raise Problem("malformed-request", "the multipart body is malformed; send it again.") from error
    if not reader.ended:
        raise Problem("malformed-request", "the multipart body ends before its last boundary; send it again.")
    return reader.form


class _Reader:
    """Gathers the parts that the parser reports."""

    def __init__(self, limits: Limits) -> None:
        self.form, self.ended = Form(), False
        self._limits, self._bytes = limits, 0
        self._header, self._value, self._name = b"", b"", ""
        self._part = bytearray()

    def callbacks(self) -> MultipartCallbacks:
        """What the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._named,
            "on_part_data": self._data,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }

    def count(self, piece: int) -> None:
        """Count bytes of the body."""
        self._bytes += piece
        if self._bytes > self._limits.request_bytes:
            raise Problem(
                "request-too-large",
                f"a request may hold {self._limits.max_request_mb:g} MB; send fewer or smaller photographs.",
            )

    def _begin(self) -> None:
        self._name, self._part = "", bytearray()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            # A file's name is not looked at: it says nothing about the place, and must not reach a log.
            self._name = parse_options_header(self._value)[1].get(b"name", b"").decode("utf-8", "replace")
        self._header, self._value = b"", b""

    def _named(self) -> None:
        if not self._name:
            raise Problem("malformed-request", "a part of the body has no name; name it `photographs` or as an option.")
        if self._name == PHOTOGRAPHS:
            if len(self.form.photographs) >= self._limits.max_files:
                raise Problem(
                    "request-too-large", f"a request may hold {self._limits.max_files} photographs; send fewer at once."
                )
        elif self._name in self.form.fields:
            raise invalid(self._name[:80], "is given twice; give it once.")
        elif len(self.form.fields) >= _FIELDS:
            raise Problem("invalid-options", f"more than {_FIELDS} fields are given; there are not as many options.")

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._part += data[start:end]
        if self._name == PHOTOGRAPHS:
            if len(self._part) > self._limits.upload_bytes:
                raise Problem(
                    "photograph-too-large",
                    f"a photograph may hold {self._limits.upload_bytes / MEGABYTE:g} MB; reduce it.",
                    photograph=len(self.form.photographs),
                )
        elif len(self._part) > _FIELD_BYTES:
            raise invalid(self._name[:80], f"is longer than {_FIELD_BYTES // 1024} kB; shorten it.")

    def _end_part(self) -> None:
        if self._name == PHOTOGRAPHS:
            self.form.photographs.append(bytes(self._part))
        else:
            try:
                self.form.fields[self._name] = self._part.decode("utf-8")
            except UnicodeDecodeError:
                raise invalid(self._name[:80], "is not UTF-8 text.") from None
        self._part = bytearray()

    def _end(self) -> None:
        self.ended = True
