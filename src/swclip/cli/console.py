"""Tables, notes and next steps on standard error. Results go to standard output."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from swclip.files import stated_path
from swclip.progress import console as console  # shared with the progress bars

typed: list[str] = []
"""The words after `swclip` that name the command which was typed; empty where Python calls a command's function."""


def next_step(command: str, *words: str | Path) -> None:
    """End a command with what to do next, on standard error.

    Args:
        command: The command that ends. The line is printed if the user typed it, and not where another command, such as
            `demo`, or a Python program calls it.
        words: The next command, one word each, quoted for a shell where needed; or one sentence.
    """
    if " ".join(typed) == command:
        text = str(words[0]) if len(words) == 1 else shell(*words)
        console.print(f"Next: {text}", markup=False, soft_wrap=True)


def shell(*words: str | Path) -> str:
    """A command as it is typed in a shell."""
    return shlex.join(map(str, words))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table with the first column aligned left and the others, mostly numbers, aligned right."""
    table = Table(title=Text(title), title_justify="left")
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # not as markup, which a file name may look like
    console.print(table)


def command_line() -> str:
    """`swclip ...`, quoted so that it can be pasted into a shell; absolute paths as `stated_path` states them."""
    return shlex.join(["swclip", *map(_stated_argument, sys.argv[1:])])


def _stated_argument(argument: str) -> str:
    option, equals, value = argument.rpartition("=")
    return f"{option}{equals}{stated_path(value)}" if os.path.isabs(value) else argument
