"""Files of answers, of any format, written as the answers come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

from swclip.answers.formats import Format, text_form
from swclip.answers.record import Answer
from swclip.answers.text_form import TextForm, TextWriter, text_writer


class AnswerWriter(Protocol):
    """What takes answers, in the order asked."""

    def write(self, answers: Sequence[Answer]) -> None: ...


@contextmanager
def answer_file(path: Path, format: Format, resolutions: Sequence[int] = ()) -> Iterator[AnswerWriter]:
    """A file of answers, of which an older one is overwritten.

    Args:
        path: The file.
        format: Its format.
        resolutions: H3 resolutions of the cells that the answers speak of.

    Example:
        ```python
        with answer_file(Path("answers.parquet"), "parquet", [6, 8, 10]) as file:
            file.write(locator.locate(photographs))
        ```
    """
    if format != "parquet":
        with text_file(path, text_form(format, resolutions)) as text:
            yield text
        return
    from swclip.answers.table import TableWriter

    with TableWriter(path, resolutions) as table:
        yield table


@contextmanager
def text_file(path: Path, form: TextForm) -> Iterator[TextWriter]:
    """A file of text, in UTF-8 and with the line ends that the form has, whatever the system's are."""
    with ExitStack() as stack:
        stream = stack.enter_context(path.open("w", encoding="utf-8", newline=""))
        yield stack.enter_context(text_writer(form, stream.write))
