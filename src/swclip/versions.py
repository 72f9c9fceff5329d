"""What an artefact was made with: the versions that its record names."""

from __future__ import annotations

import platform
from importlib.metadata import version


def own_version() -> str:
    """The version of swclip."""
    return version("swclip")


def versions() -> dict[str, str]:
    """Versions of swclip, what it computes with, and Python."""
    packages = {name: version(name) for name in ("swclip", "torch", "transformers", "numpy")}
    return {**packages, "python": platform.python_version()}
