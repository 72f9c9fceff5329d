"""Strict conversion between frozen dataclasses and plain values (TOML, JSON), with errors that name key and value."""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Mapping
from typing import Any, TypeVar, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from swclip.errors import ConfigError

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class _Removed:
    """An option that an earlier release had: the key that switched it on, its value when off, and all of its keys."""

    switch: str
    off: Any
    keys: tuple[str, ...]
    advice: str


# By the dataclass that had them. Configurations that an earlier release wrote (config.toml of a run, config.json of a
# model) name every option: where a removed one was off its keys are dropped, where it was on they are refused.
_REMOVED = {
    "BatchConfig": _Removed("hard.share", 0.0, ("hard",), "remove the table batch.hard, and train without it"),
    "HubnessConfig": _Removed("locations", [], ("locations",), "leave hubness.locations out, and train again"),
    "ImageConfig": _Removed(
        "tokens",
        "none",
        ("tokens", "token_grid", "token_queries"),
        "remove the three token keys and train again, or use such a model with swclip 0.1",
    ),
}


_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}


def _adapter(kind: Any) -> TypeAdapter[Any]:
    """The converter of a dataclass, which takes longer to make than to use."""
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def as_plain(config: Any) -> dict[str, Any]:
    """Convert a nested dataclass to a dictionary of JSON values; tuples become lists, None is kept."""
    values: dict[str, Any] = _adapter(type(config)).dump_python(config, mode="json")
    return values


def structure(kind: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Build a nested dataclass from plain values.

    Keys of options that were removed are dropped where the option was off.

    Args:
        kind: The dataclass.
        values: The values; missing keys take their defaults.
        where: Name of the source in messages, such as a file's path.

    Raises:
        ConfigError: An unknown key (with the known ones), an option that was removed and is switched on, a value of
            the wrong type, or one the dataclass refuses.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{_lead(where)}a table of options belongs here, not {reprlib.repr(values)}.")
    values = _without_removed(kind, values, where, "")
    _check_keys(kind, values, where, "")
    try:
        structured: T = _adapter(kind).validate_python(dict(values))
        return structured
    except ValidationError as error:
        key, first = first_error(error)
        message = f"{_lead(where)}{key} = {first['input']!r}: {first['msg']}."
        raise ConfigError(message) from error


def first_error(error: ValidationError) -> tuple[str, ErrorDetails]:
    """The first error of a validation: its key, with dots, and its details."""
    first = error.errors()[0]
    return ".".join(str(part) for part in first["loc"]), first


def without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    """Remove None at any depth: TOML has no null, and a missing key takes its default."""
    return {key: _without_none(value) for key, value in values.items() if value is not None}


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return without_none(value)
    return [_without_none(item) for item in value] if isinstance(value, list) else value


def _lead(where: str) -> str:
    return f"{where}: " if where else ""


def _without_removed(kind: Any, values: Mapping[str, Any], where: str, prefix: str) -> dict[str, Any]:
    """The values without the keys of removed options, at any depth."""
    kept = dict(values)
    if (option := _REMOVED.get(kind.__name__)) is not None:
        table, _, key = option.switch.rpartition(".")
        owner = values.get(table, {}) if table else values
        value = owner.get(key, option.off) if isinstance(owner, Mapping) else owner
        if value != option.off:
            raise ConfigError(
                f"{_lead(where)}{prefix}{option.switch} = {value!r}: this option was removed in swclip 0.2.0, since no "
                f"gain was measured; {option.advice}."
            )
        for key in option.keys:
            kept.pop(key, None)
    hints = get_type_hints(kind)
    for key, value in kept.items():
        if dataclasses.is_dataclass(hints.get(key)) and isinstance(value, Mapping):
            kept[key] = _without_removed(hints[key], value, where, f"{prefix}{key}.")
    return kept


def _check_keys(kind: Any, values: Mapping[str, Any], where: str, prefix: str) -> None:
    hints = get_type_hints(kind)
    options = {field.name for field in dataclasses.fields(kind)}
    for key, value in values.items():
        if key not in options:
            raise ConfigError(f"{_lead(where)}{prefix}{key} is not an option; options: {', '.join(sorted(options))}.")
        if dataclasses.is_dataclass(hints[key]) and isinstance(value, Mapping):
            _check_keys(hints[key], value, where, f"{prefix}{key}.")
        elif isinstance(value, (list, tuple)):  # of tables
            for item_kind in filter(dataclasses.is_dataclass, get_args(hints[key])):
                for number, item in enumerate(value):
                    if isinstance(item, Mapping):
                        _check_keys(item_kind, item, where, f"{prefix}{key}.{number}.")
