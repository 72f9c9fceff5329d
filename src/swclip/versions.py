"""Versions of software that artefacts record."""

from __future__ import annotations

import platform
from importlib.metadata import version


def own_version() -> str:
    """Return the version of swclip."""
    return version("swclip")


def versions() -> dict[str, str]:
    """Return the versions of swclip, its numerical libraries and Python."""
    packages = {name: version(name) for name in ("swclip", "torch", "transformers", "numpy")}
    return {**packages, "python": platform.python_version()}
