"""The command line as it was typed, for the record of what it made."""

from __future__ import annotations

import shlex
import sys


def command_line() -> str:
    """`swclip ...`, quoted so that it can be typed again."""
    return shlex.join(["swclip", *sys.argv[1:]])
