"""What the arguments of a failed command are, so that swapped and misplaced ones are named."""

from __future__ import annotations

import inspect
import os
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cyclopts import App, CycloptsError

from swclip.errors import SwclipError

# Kinds of files and folders, with the words for them in messages.
_MANIFEST, _SPLITS, _RUN, _GALLERY, _REPORT = "a manifest", "splits", "a run", "a gallery", "a report"
_MODEL, _PHOTOGRAPH, _RECIPE, _TABLE = "a model", "a photograph", "a recipe", "a table"
_PHOTOGRAPHS = "a folder of photographs"

# The positional arguments of each command, and what each can be.
_POSITIONAL: dict[str, dict[str, tuple[str, ...]]] = {
    "quickstart": {"PHOTOGRAPHS": (_PHOTOGRAPHS, _TABLE)},
    "prepare": {"SOURCE": (_PHOTOGRAPHS, _TABLE)},
    "pack": {"MANIFEST": (_MANIFEST,)},
    "inspect": {"MANIFEST": (_MANIFEST,)},
    "split": {"MANIFEST": (_MANIFEST,)},
    "bandwidth": {"MANIFEST": (_MANIFEST,)},
    "train": {"MANIFEST": (_MANIFEST,)},
    "evaluate": {"RUN": (_RUN,)},
    "benchmark": {"MANIFEST": (_MANIFEST,)},
    "index": {"RUN": (_RUN, _MODEL), "MANIFEST": (_MANIFEST,)},
    "locate": {"GALLERY": (_GALLERY,), "PHOTOGRAPHS": (_PHOTOGRAPH, _PHOTOGRAPHS, _MANIFEST)},
    "serve": {"GALLERY": (_GALLERY,)},
    "export": {"SOURCE": (_RUN, _GALLERY, _MODEL)},
    "push": {"RUN": (_RUN,)},
    "attribution": {"SOURCE": (_MANIFEST, _GALLERY)},
    "gallery append": {"GALLERY": (_GALLERY,), "MANIFEST": (_MANIFEST,)},
    "gallery upsert": {"GALLERY": (_GALLERY,), "MANIFEST": (_MANIFEST,)},
    **{
        f"gallery {name}": {"GALLERY": (_GALLERY,)}
        for name in ("info", "verify", "delete", "filter", "export", "compact", "build-index")
    },
}
_WRITERS = {
    _MANIFEST: " (`swclip prepare` writes it)",
    _RUN: " (`swclip train` writes it)",
    _GALLERY: " (`swclip index` writes it)",
}
_MARKERS = {
    "run.json": _RUN,
    "gallery.json": _GALLERY,
    "report.json": _REPORT,
    "manifest.parquet": _MANIFEST,
    "photographs.lance": _MANIFEST,
    "splits.parquet": _SPLITS,
    "model.safetensors": _MODEL,
}


def kind_of(path: str | os.PathLike[str]) -> str | None:
    """What a file or folder is, in words; None if it does not exist or is none of swclip's kinds."""
    place = Path(path)
    if place.is_dir():
        for name, kind in _MARKERS.items():
            if (place / name).exists():
                return kind
        return _PHOTOGRAPHS if any(map(_is_photograph, _some_files(place))) else None
    if not place.is_file():
        return None
    if _is_photograph(place):
        return _PHOTOGRAPH
    if place.suffix == ".parquet":
        return _kind_of_parquet(place)
    return {".toml": _RECIPE, ".csv": _TABLE, ".tsv": _TABLE, ".geojson": _TABLE}.get(place.suffix)


def misplaced_arguments(app: App, arguments: Sequence[str]) -> str | None:
    """One sentence about arguments that are in each other's place, with the command in the right order.

    Args:
        app: The command line.
        arguments: Those of a command that failed.

    Returns:
        The sentence; None where the arguments are of the expected kinds.
    """
    try:
        chain, _, _ = app.parse_commands([word for word in arguments if not word.startswith("-")])
        _, bound, unused, _ = app.parse_known_args(list(arguments))
    except (CycloptsError, SwclipError):  # the command line itself is invalid
        return None
    slots = _POSITIONAL.get(" ".join(chain))
    if slots is None:
        return None
    values = [*_positional(bound), *(word for word in unused if not word.startswith("-"))]
    kinds = {value: kind_of(value) for value in values}
    wrong = [
        (value, name, allowed)
        for value, (name, allowed) in zip(values, _spread(slots, len(values)), strict=True)
        if kinds[value] is not None and kinds[value] not in allowed
    ]
    if not wrong:
        return None
    placed = _in_order(slots, kinds)
    if placed is None:
        value, name, allowed = wrong[0]
        writer = next((_WRITERS[kind] for kind in allowed if kind in _WRITERS), "")
        return f"{value} is {kinds[value]}, but {name} must be {' or '.join(allowed)}{writer}."
    facts = " and ".join(f"{value} is {kind}" for value, kind in kinds.items() if kind is not None)
    rest = [word for word in arguments[len(chain) :] if word not in values]
    command = shlex.join(["swclip", *chain, *placed, *rest])
    return f"{facts}, but `swclip {' '.join(chain)}` takes {' '.join(slots)}. Type: {command}"


def _positional(bound: inspect.BoundArguments) -> list[str]:
    """The values of positional arguments."""
    values: list[str] = []
    for name, parameter in bound.signature.parameters.items():
        value: Any = bound.arguments.get(name)
        if value is None or parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            continue
        values += [str(item) for item in value] if isinstance(value, (list, tuple)) else [str(value)]
    return values


def _spread(slots: dict[str, tuple[str, ...]], count: int) -> list[tuple[str, tuple[str, ...]]]:
    """The slot of each of `count` values; the last slot takes all that are left."""
    names = list(slots.items())
    return [names[min(place, len(names) - 1)] for place in range(count)]


def _in_order(slots: dict[str, tuple[str, ...]], kinds: dict[str, str | None]) -> list[str] | None:
    """The values in the order of the slots, without those that fit none; None if a slot stays empty."""
    placed: list[str] = []
    for number, allowed in enumerate(slots.values(), start=1):
        fitting = [value for value, kind in kinds.items() if kind in allowed and value not in placed]
        if not fitting:
            return None
        placed += fitting if number == len(slots) and len(slots) > 1 else fitting[:1]
    return placed


def _is_photograph(path: Path) -> bool:
    from swclip.ingest.folders import PHOTOGRAPH_SUFFIXES

    return path.suffix.lower() in PHOTOGRAPH_SUFFIXES


def _some_files(folder: Path) -> Iterable[Path]:
    """Files in a folder and in the folders directly below it."""
    for entry in sorted(folder.iterdir()):
        yield from sorted(entry.iterdir()) if entry.is_dir() else [entry]


def _kind_of_parquet(path: Path) -> str:
    import pyarrow.parquet as pq
    from pyarrow import ArrowException

    try:
        metadata = pq.read_schema(path).metadata or {}
    except (ArrowException, OSError):
        return _TABLE
    return _MANIFEST if b"swclip.manifest" in metadata else _SPLITS if b"swclip.splits" in metadata else _TABLE
