"""Single values of a recipe from the command line: dotted keys to nested tables, text to TOML values."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

from swclip.errors import ConfigError


def assigned(assignments: Iterable[str]) -> dict[str, Any]:
    """`KEY=VALUE` texts as values by dotted key; a value is TOML, or plain text where it is none.

    Raises:
        ConfigError: A text without `=`.

    Example:
        >>> assigned(["steps=10", "model.image.tower=builtin:small"])
        {'steps': 10, 'model.image.tower': 'builtin:small'}
    """
    values: dict[str, Any] = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text!r}: write KEY=VALUE, such as --set objective.neighbourhood.weight=0.5.")
        try:
            values[key.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            values[key.strip()] = value
    return values


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as nested tables.

    Raises:
        ConfigError: A key is both a value and a table.

    Example:
        >>> nested({"batch.size": 8, "steps": 2})
        {'batch': {'size': 8}, 'steps': 2}
    """
    tables: dict[str, Any] = {}
    for key, value in values.items():
        *parents, last = key.split(".")
        table = tables
        for parent in parents:
            table = table.setdefault(parent, {})
            if not isinstance(table, dict):
                raise ConfigError(f"{key} = {value!r}: {parent} is already set to a value; it cannot be a table too.")
        table[last] = value
    return tables
