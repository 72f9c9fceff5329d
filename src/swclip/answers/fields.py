"""The fields of the record of an answer with their types and words, from which its schemas are made."""

from __future__ import annotations

import dataclasses
import inspect
import types
from collections.abc import Iterator
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints


class RecordField(NamedTuple):
    """One field of a record.

    Attributes:
        name: Its name.
        kind: str, int, float, bool, a dataclass, or a tuple type of one of them.
        optional: Whether it may be None.
        meaning: What the docstring of the record says of it.
    """

    name: str
    kind: Any
    optional: bool
    meaning: str


def record_fields(record: type) -> Iterator[RecordField]:
    """The fields of a dataclass whose docstring describes each under "Attributes:".

    Raises:
        TypeError: A field is not described, or is of a kind that no schema is made of.

    Example:
        >>> from swclip.answers.record import RankedCandidate
        >>> next(record_fields(RankedCandidate))
        RecordField(name='candidate_id', kind=<class 'str'>, optional=False, meaning='Its id in the gallery.')
    """
    meanings, hints = _meanings(record), get_type_hints(record)
    for field in dataclasses.fields(record):
        kind, optional = hints[field.name], False
        if isinstance(kind, types.UnionType):
            kinds = [own for own in get_args(kind) if own is not type(None)]
            if len(kinds) != 1:
                raise TypeError(f"{record.__name__}.{field.name} may be of several types, which no schema is made of")
            kind, optional = kinds[0], True
        if field.name not in meanings:
            raise TypeError(f"{record.__name__}.{field.name} is not described under Attributes in its docstring")
        yield RecordField(field.name, kind, optional, meanings[field.name])


def element_of(kind: Any) -> Any:
    """What a tuple type is of, such as str of tuple[str, ...]; None where the kind is no tuple."""
    return get_args(kind)[0] if get_origin(kind) is tuple else None


def _meanings(record: type) -> dict[str, str]:
    text = inspect.getdoc(record) or ""
    found: dict[str, str] = {}
    name = ""
    for line in text.partition("Attributes:\n")[2].splitlines():
        if not line.strip():
            break
        indent = len(line) - len(line.lstrip())
        if indent == 4:
            name, _, meaning = line.strip().partition(": ")
            found[name] = meaning
        elif indent > 4 and name:
            found[name] += " " + line.strip()
    return found
