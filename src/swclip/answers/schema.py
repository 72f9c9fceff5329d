"""The schema of an answer as JSON, made from the record itself; `docs/answer.schema.json` is what it says.

Within a version fields may come, and none goes away or changes its meaning or type: a reader leaves alone what it does
not know, and the schema allows it.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from pydantic import TypeAdapter

from swclip.answers.fields import element_of, record_fields
from swclip.answers.record import ANSWER_VERSION, Answer
from swclip.errors import ArtefactError

_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean"}
_RANGES: tuple[tuple[str, dict[str, float]], ...] = (
    ("lat_deg", {"minimum": -90.0, "maximum": 90.0}),
    ("lon_deg", {"minimum": -180.0, "maximum": 180.0}),
    ("resolution", {"minimum": 0, "maximum": 15}),
    ("_m", {"minimum": 0.0}),
    ("_km2", {"minimum": 0.0}),
    ("probability_within_50m", {"minimum": 0.0, "maximum": 1.0}),
    ("scored_share", {"minimum": 0.0, "maximum": 1.0}),
    ("probability", {"minimum": 0.0}),
    ("left_out_at_most", {"minimum": 0.0}),
)
"""What names that end so can be. Sums of floats may be above 1 in their last digit."""
_WORDS = (("None", "null"), ("True", "true"))

_ADAPTER = TypeAdapter(Answer)


def answer_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of one answer: an item of the JSON list, or a line of the JSON lines."""
    parts: dict[str, Any] = {}
    top = _object(Answer, parts)
    version = {"const": ANSWER_VERSION, "description": "Version of this record."}
    point = ("lat_deg", "lon_deg")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Answer",
        **top,
        "properties": {"schema_version": version, **top["properties"]},
        "required": ["schema_version", *top["required"]],
        "if": {"properties": {"error": {"type": "null"}}},
        "then": {"properties": {name: {"type": "number"} for name in point}},
        "else": {"properties": {**{name: {"type": "null"} for name in point}, "candidates": {"maxItems": 0}}},
        "$defs": parts,
    }


def answer_from_json(line: bytes, where: str) -> Answer:
    """An answer from one line of JSON lines.

    Args:
        line: What `JSON_LINES` wrote.
        where: The file, for the message.

    Raises:
        ArtefactError: It is no answer of this version.

    Example:
        >>> answer_from_json(b'{"schema_version": "1", "photograph": "a.jpg", "error": "is empty"}', "x.jsonl").error
        'is empty'
    """
    try:
        return _ADAPTER.validate_json(line)
    except ValueError as error:
        raise ArtefactError(f"{where}: a line is no answer of this swclip ({error}).") from error


def _object(record: type, parts: dict[str, Any]) -> dict[str, Any]:
    fields = {field.name: field for field in record_fields(record)}
    properties = {name: _of_kind(name, f.kind, f.optional, f.meaning, parts) for name, f in fields.items()}
    return {"type": "object", "properties": properties, "required": list(fields)}


def _of_kind(name: str, kind: Any, optional: bool, meaning: str, parts: dict[str, Any]) -> dict[str, Any]:
    for python, json in _WORDS:
        meaning = re.sub(rf"\b{python}\b", json, meaning)
    described = {"description": meaning}
    element = element_of(kind)
    if element is not None:
        return {"type": "array", "items": _plain(name, element, parts), **described}
    found = _plain(name, kind, parts)
    if not optional:
        return {**found, **described}
    if "$ref" in found:
        return {"anyOf": [found, {"type": "null"}], **described}
    return {**found, "type": [found["type"], "null"], **described}


def _plain(name: str, kind: Any, parts: dict[str, Any]) -> dict[str, Any]:
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        parts[kind.__name__] = _object(kind, parts)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    span = next((values for ending, values in _RANGES if name.endswith(ending) and kind in (int, float)), {})
    return {"type": _TYPES[kind], **span}
