"""Tables, notes and next steps on standard error. Results go to standard output."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from swclip.files import stated_path
from swclip.progress import console as console  # shared with the progress bars

_UNBROKEN = 9
"""Cells of at most this many characters are not wrapped."""

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
    """Print a table with the first column aligned left and the others, mostly numbers, aligned right.

    No name is broken: columns that do not fit the terminal follow in a further table, beside the same first column.
    """
    console.print(Text(title, "italic"), soft_wrap=True)
    for part in _parts(columns, rows):
        table = Table()
        for column in part:
            header = Text(columns[column])
            table.add_column(header, justify="right" if column else "left", no_wrap=not column, overflow="fold")
        for row in rows:
            table.add_row(*(Text(row[column]) for column in part))  # not as markup, which a file name may look like
        console.print(table)


def _parts(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[list[int]]:
    """The columns of each table: as many as fit beside the first one."""

    def least(text: str) -> int:  # a number stays with its unit, longer texts wrap between words
        return cell_len(text) if cell_len(text) <= _UNBROKEN else max(map(cell_len, text.split()))

    widths = [
        3 + max([*(map(least, [row[column] for row in rows])), *map(cell_len, name.split() or [""])])
        for column, name in enumerate(columns)
    ]
    widths[0] = 3 + max(map(cell_len, [columns[0], *(row[0] for row in rows)]))
    parts: list[list[int]] = [[0]]
    for column in range(1, len(columns)):
        if len(parts[-1]) > 1 and sum(widths[c] for c in [*parts[-1], column]) + 1 > console.width:
            parts.append([0])
        parts[-1].append(column)
    return parts


def command_line() -> str:
    """`swclip ...`, quoted so that it can be pasted into a shell; absolute paths as `stated_path` states them."""
    return shlex.join(["swclip", *map(_stated_argument, sys.argv[1:])])


def _stated_argument(argument: str) -> str:
    option, equals, value = argument.rpartition("=")
    return f"{option}{equals}{stated_path(value)}" if os.path.isabs(value) else argument
