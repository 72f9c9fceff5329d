"""Help pages: whole paragraphs, groups of options, examples, and usage lines that name every argument."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cyclopts import App, Group, Parameter
from cyclopts.help import DefaultFormatter

if TYPE_CHECKING:
    from cyclopts.help import HelpEntry
    from cyclopts.help.specs import ColumnSpec
    from rich.console import Console, ConsoleOptions

OPTIONS = Group("Options", sort_key=10)
EVERYWHERE = Group("Every command", sort_key=99)

ADVANCED = Parameter(group=Group("Advanced", sort_key=90))
"""Of options that most users never need; the last group of a page."""
REPEATED = Parameter(consume_multiple=True)
"""Of options that take several values: --seeds 0 1 2."""


def group(title: str) -> Parameter:
    """A group of options between the general and the advanced ones."""
    return Parameter(group=Group(title, sort_key=50))


def off(flag: str) -> Parameter:
    """Of a flag that is on by default: the option that switches it off, which is the only one that help shows."""
    return Parameter(negative=flag)


def shown_default(value: Any) -> str | None:
    """A default as one would type it; None, which is not shown, for a flag."""
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value)) or None
    return f"{value:g}" if isinstance(value, float) else str(value) or None


DEFAULTS = Parameter(negative=(), show_default=shown_default)
"""Of every option: no --empty-... and --no-... forms, and defaults without brackets and quotes."""


def _columns(console: Console, options: ConsoleOptions, entries: list[HelpEntry]) -> tuple[ColumnSpec, ...]:
    from cyclopts.help.specs import AsteriskColumn, ColumnSpec, CommandNameRenderer, NameRenderer

    commands = all(entry.type is None for entry in entries)
    longest = max((len(name) for entry in entries for name in entry.all_options), default=0)
    width = max(math.ceil(console.width * 0.35), longest)  # a name is never broken
    names = CommandNameRenderer(width) if commands else _OptionRenderer(NameRenderer(width))
    name = ColumnSpec(renderer=names, style="cyclopts.name", max_width=width)
    description = ColumnSpec(renderer=_description, overflow="fold")
    return (AsteriskColumn, name, description) if any(entry.required for entry in entries) else (name, description)


class _OptionRenderer:
    """The names of an option; of a flag that is on by default, those that switch it off."""

    def __init__(self, render: Callable[[HelpEntry], Any]) -> None:
        self._render = render

    def __call__(self, entry: HelpEntry) -> Any:
        if entry.type is bool and entry.negative_names:
            entry = entry.copy(positive_names=(), positive_shorts=())
        return self._render(entry)


def _description(entry: HelpEntry) -> Any:
    """The description as one paragraph, whatever the line lengths of the source."""
    from cyclopts.help.inline_text import InlineText
    from cyclopts.help.specs import DescriptionRenderer
    from rich.text import Text

    if isinstance(entry.description, InlineText):
        text = " ".join(str(entry.description.primary_renderable).split())
        entry = entry.copy(description=InlineText(Text(text, end="")))
    return DescriptionRenderer()(entry)


FORMATTER = DefaultFormatter(column_specs=_columns)


def complete_help(app: App, arguments: list[str]) -> None:
    """Complete the help page of the command that the arguments name: its docstring, usage and examples."""
    chain, apps, _ = app.parse_commands([argument for argument in arguments if not argument.startswith("-")])
    command = apps[-1]
    if command.default_command is None:  # a group of commands
        return
    text = inspect.getdoc(command.default_command) or ""
    command.help = "\n\n".join(_paragraphs(text))
    command.help_epilogue = _epilogue(text)
    command.usage = _usage(command, chain)


def _paragraphs(docstring: str) -> list[str]:
    """The paragraphs before the sections (Args, Examples), each in one line."""
    body = re.split(r"^(?:Args|Examples):$", docstring, maxsplit=1, flags=re.MULTILINE)[0]
    return [" ".join(paragraph.split()) for paragraph in body.strip().split("\n\n")]


def example_lines(command: App) -> list[str]:
    """The examples of a command as its help page shows them, with their comments."""
    return [] if command.default_command is None else _example_lines(inspect.getdoc(command.default_command) or "")


def example_commands(command: App) -> list[str]:
    """The examples of a command, each as it is typed, without their comments."""
    lines = [line for line in example_lines(command) if not line.startswith("#")]
    return re.findall(r"(?:.*\\\n)*.+", "\n".join(lines))


def _example_lines(docstring: str) -> list[str]:
    """The lines of the section `Examples:` of a docstring, without their indentation."""
    found = re.search(r"^Examples:\n((?:[ ]+.*\n?|\n)+)", docstring, re.MULTILINE)
    return [] if found is None else inspect.cleandoc("\n" + found[1]).rstrip().splitlines()


def _epilogue(docstring: str) -> str:
    lines = _example_lines(docstring)
    return "\n".join(["Examples:", *(f"  {line}" for line in lines)]) if lines else ""


def _usage(command: App, chain: tuple[str, ...]) -> str:
    """The usage line, which names the positional arguments: cyclopts writes [ARGS] for those that are optional."""
    required, positional = [], []
    for argument in command.assemble_argument_collection(parse_docstring=False):
        if not argument.show or argument.field_info.kind is argument.field_info.VAR_KEYWORD:
            continue
        if argument.index is None:
            if argument.required:
                from cyclopts.help.help import _resolve_metavar

                required.append(f"{argument.name} {_resolve_metavar(argument)}")
            continue
        many = argument.field_info.kind is argument.field_info.VAR_POSITIONAL
        name = argument.name.lstrip("-").upper() + ("..." if many or argument.hint in (list[str],) else "")
        positional.append(name if argument.required else f"[{name}]")
    return " ".join(["Usage: swclip", *chain, *positional, *required, "[OPTIONS]"])
