"""Where recipes come from: those that ship, files, and the recipes that a recipe builds on."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from swclip.errors import ConfigError


def recipe_names() -> list[str]:
    """Names of the recipes that ship with the package."""
    folder = resources.files("swclip.training") / "recipes"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def recipe_layers(name: str) -> list[tuple[str, dict[str, Any]]]:
    """A recipe and all it builds on, the ground first.

    A recipe may begin with `base = "sw-clip"` (one that ships) or `base = "other.toml"` (relative to its own file): it
    then states only what it has otherwise.

    Args:
        name: The name of a shipped recipe, or the path of a TOML file.

    Returns:
        What to call each layer in an error, and its values without `base`.

    Raises:
        ConfigError: No such recipe, not TOML, a base that is no text, or one that builds on itself.
    """
    layers: list[tuple[str, dict[str, Any]]] = []
    seen: list[str] = []
    place: Path | None = None
    base: object = name
    while base is not None:
        if not isinstance(base, str):
            raise ConfigError(f"{layers[-1][0]}: base = {base!r} must be the name of a recipe, or a TOML file.")
        where, identity, text, place = _found(base, place, layers[-1][0] if layers else None)
        if identity in seen:
            ring = " -> ".join(Path(step).name for step in [*seen[seen.index(identity) :], identity])
            raise ConfigError(f"{layers[-1][0]}: base = {base!r} leads back to where it came from ({ring}); cut it.")
        seen.append(identity)
        values = _values(text, where)
        base = values.pop("base", None)
        layers.append((where, values))
    return layers[::-1]


def merged(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Nested tables, the second over the first; a list replaces a list."""
    both = dict(values)
    for key, value in overrides.items():
        below = both.get(key)
        both[key] = merged(below if isinstance(below, Mapping) else {}, value) if isinstance(value, Mapping) else value
    return both


def _found(name: str, beside: Path | None, asked_by: str | None) -> tuple[str, str, bytes, Path | None]:
    """What to call a recipe, what tells it from others, its text, and the folder its own base is relative to."""
    if name in recipe_names():
        text = (resources.files("swclip.training") / "recipes" / f"{name}.toml").read_bytes()
        return f"recipe {name}", name, text, None
    path = Path(name) if beside is None else beside / name
    if not path.is_file():
        lead = "" if asked_by is None else f"{asked_by}: base: "
        raise ConfigError(
            f"{lead}recipe {name!r} is neither one that ships ({', '.join(recipe_names())}) nor a TOML file there is."
        )
    return str(path), str(path.resolve()), path.read_bytes(), path.parent


def _values(text: bytes, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}: is not valid TOML ({error}).") from error
