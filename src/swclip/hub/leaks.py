"""The last look before something is published: no file may name this machine's folders, its user, or a token."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from swclip.errors import ArtefactError

_SHORTEST = 4
"""Names shorter than this ("/", "/me") would be found everywhere by chance."""


def private_names(*places: str | os.PathLike[str]) -> list[str]:
    """What must not be in what is published: paths as they are and resolved, home and working folder, the token.

    Args:
        places: Files and folders that the model was made from.
    """
    from huggingface_hub import get_token

    found: dict[str, None] = {}
    paths = [Path(place) for place in places]
    for path in (*paths, *(path.parent for path in paths if path.is_absolute()), Path.cwd(), Path.home()):
        found[str(path)] = found[str(path.resolve())] = None
    if token := get_token():
        found[token] = None
    return [name for name in found if len(name) >= _SHORTEST and (os.sep in name or name == token)]


def check_no_leaks(folder: Path, names: Iterable[str]) -> None:
    """Refuse a folder in which a file's bytes, or its name, hold one of some names.

    Args:
        folder: What is to be published.
        names: As `private_names` gives them.

    Raises:
        ArtefactError: One does. The name itself is not repeated: it may be a token.
    """
    wanted = {form for name in names for form in (name.encode(), json.dumps(name)[1:-1].encode())}
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        text = _text(path)
        if any(name in text or name in path.name.encode() for name in wanted):
            raise ArtefactError(
                f"{path.relative_to(folder)}: would publish a path of this machine, or a token; nothing was published. "
                "Look at the run's config.toml and model/config.json for it."
            )


def _text(path: Path) -> bytes:
    """What of a file may hold names: all of it, of safetensors the header. Numbers hold any four bytes by chance."""
    with path.open("rb") as stream:
        if path.suffix == ".safetensors":
            return stream.read(int.from_bytes(stream.read(8), "little"))
        return stream.read()
