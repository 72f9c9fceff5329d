"""Documents of text that are written answer by answer: what stands before, between and after them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import IO, Any

from swclip.answers.record import Answer

_SPOOL_BYTES = 16 * 2**20


@dataclass(frozen=True)
class TextForm:
    """A document of answers: what is before, between and after them.

    Attributes:
        head: Before the first answer.
        item: One answer.
        between: Between two answers.
        tail: After all.
        late_head: Before what `late` gives, which follows all that `item` gave.
        late: What of an answer belongs into a second part of the document, "" for nothing; None for one part alone.
    """

    head: str
    item: Callable[[Answer], str]
    between: str
    tail: str
    late_head: str = ""
    late: Callable[[Answer], str] | None = None


class TextWriter:
    """Takes answers for a document; `text_writer` makes one."""

    def __init__(self, form: TextForm, put: Callable[[str], object], late: IO[str]) -> None:
        self._form, self._put, self._late, self._any = form, put, late, False

    def write(self, answers: Sequence[Answer]) -> None:
        """Write further answers."""
        for answer in answers:
            self._put((self._form.between if self._any else self._form.head) + self._form.item(answer))
            self._any = True
            if self._form.late is not None:
                self._late.write(self._form.late(answer))

    def end(self) -> None:
        """Write what follows the last answer."""
        self._put(self._form.late_head if self._any else self._form.head + self._form.late_head)
        self._late.seek(0)
        while piece := self._late.read(_SPOOL_BYTES):
            self._put(piece)
        self._put(self._form.tail)


@contextmanager
def text_writer(form: TextForm, put: Callable[[str], object]) -> Iterator[TextWriter]:
    """Write a document as its answers come; a second part of it waits on disk, so that memory stays bounded.

    Nothing is written before the first answers, so that what fails at once leaves nothing behind.

    Args:
        form: The document.
        put: Called with each piece of text.

    Yields:
        What takes the answers; the document is ended if the block ends well.

    Example:
        >>> pieces = []
        >>> with text_writer(TextForm("[", lambda answer: answer.photograph, ",", "]"), pieces.append) as writer:
        ...     writer.write([Answer("a.jpg", error="is empty"), Answer("b.jpg")])
        >>> "".join(pieces)
        '[a.jpg,b.jpg]'
    """
    with SpooledTemporaryFile(_SPOOL_BYTES, "w+", encoding="utf-8", newline="") as late:
        writer = TextWriter(form, put, late)
        yield writer
        writer.end()


def plain_json(value: Any) -> str:
    """A value as JSON in one line; NaN is refused, since it is not JSON."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
