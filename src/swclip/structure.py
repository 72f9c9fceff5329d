"""Strict conversion between frozen dataclasses and plain values (TOML, JSON), with errors that name key and value."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from swclip.errors import ConfigError

T = TypeVar("T")


def as_plain(config: Any) -> dict[str, Any]:
    """Convert a nested dataclass to a dictionary of JSON values; tuples become lists, None is kept."""
    values: dict[str, Any] = TypeAdapter(type(config)).dump_python(config, mode="json")
    return values


def structure(kind: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Build a nested dataclass from plain values.

    Args:
        kind: The dataclass.
        values: The values; missing keys take their defaults.
        where: Name of the source in messages, such as a file's path.

    Raises:
        ConfigError: A key is unknown (the message lists the options), or a value has the wrong type or is invalid.
    """
    _check_keys(kind, values, where, "")
    try:
        return TypeAdapter(kind).validate_python(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        message = f"{_lead(where)}{key} = {first['input']!r}: {first['msg']}."
        raise ConfigError(message) from error


def without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    """Remove None at any depth: TOML has no null, and a missing key takes its default."""
    return {k: without_none(v) if isinstance(v, Mapping) else v for k, v in values.items() if v is not None}


def _lead(where: str) -> str:
    return f"{where}: " if where else ""


def _check_keys(kind: Any, values: Mapping[str, Any], where: str, prefix: str) -> None:
    hints = get_type_hints(kind)
    options = {field.name for field in dataclasses.fields(kind)}
    for key, value in values.items():
        if key not in options:
            raise ConfigError(f"{_lead(where)}{prefix}{key} is not an option; options: {', '.join(sorted(options))}.")
        if dataclasses.is_dataclass(hints[key]) and isinstance(value, Mapping):
            _check_keys(hints[key], value, where, f"{prefix}{key}.")
