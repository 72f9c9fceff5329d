"""Help pages: a line for each command, whole paragraphs, groups of options, examples that can be typed."""

from __future__ import annotations

import io
import itertools
import re
import shlex
from collections.abc import Iterator

import pytest
from cyclopts import App
from rich.console import Console

from swclip.cli.app import COMMANDS, GROUPS, app
from swclip.cli.help import complete_help, example_commands
from swclip.training.config import load_recipe

BELOW = {
    name: [part for part in app[name] if not part.startswith("-")]
    for name in COMMANDS
    if app[name].default_command is None
}
"""The commands of each command that is a group of them."""
PAGES = [[name] for name in COMMANDS if name not in BELOW] + [[name, part] for name in BELOW for part in BELOW[name]]


WIDTHS = [80, 120]


@pytest.fixture(scope="module")
def pages() -> dict[int, dict[str, str]]:
    """All help pages by width of the terminal and command; the list of commands has the name ""."""
    shown: dict[int, dict[str, str]] = {}
    for width in WIDTHS:
        shown[width] = {}
        for words in [[], *([name] for name in BELOW), *PAGES]:
            stream = io.StringIO()
            if words:
                complete_help(app, words)
            app.help_print(words, console=Console(file=stream, width=width))
            shown[width][" ".join(words)] = stream.getvalue()
    return shown


def _command(words: list[str]) -> App:
    command = app
    for word in words:
        command = command[word]
    return command


def _panels(page: str) -> Iterator[tuple[str, list[str]]]:
    """The groups of a page: their titles, and their lines without the frame."""
    for title, body in re.findall(r"^╭─ (.+?) ─+╮$(.*?)^╰─+╯$", page, re.MULTILINE | re.DOTALL):
        yield title, [line.strip("│").strip() for line in body.strip().splitlines()]


@pytest.mark.parametrize("width", WIDTHS)
def test_each_command_has_one_line_in_its_group(width: int, pages: dict[int, dict[str, str]]) -> None:
    panels = dict(_panels(pages[width][""]))
    for title, commands in GROUPS.items():
        shown = [tuple(line.split(maxsplit=1)) for line in panels[title]]
        assert shown == list(commands.items()), "one line each, in this order"
    assert set(BELOW) == {"gallery", "recipes"}
    for name, commands_below in BELOW.items():
        (_, lines), *_ = _panels(pages[width][name])
        assert [line.split()[0] for line in lines] == sorted(commands_below)


@pytest.mark.parametrize("width", WIDTHS)
def test_pages_fit_the_terminal_and_cut_nothing(width: int, pages: dict[int, dict[str, str]]) -> None:
    for words in PAGES:
        name = " ".join(words)
        page = pages[width][name]
        assert max(map(len, page.splitlines())) <= width, name
        assert page.startswith(f"Usage: swclip {name} ")
        for unwanted in ("…", "ARGS", "--empty-", "[default: None]", "[default: False]"):
            assert unwanted not in page, (name, unwanted)
        flat = " ".join(re.sub(r"[│╭╮╰╯─]", " ", page).split())
        for argument in _command(words).assemble_argument_collection(parse_docstring=False):
            if argument.show and argument.name.startswith("--"):
                assert any(f" {option} " in flat for option in (argument.name, *argument.negatives)), argument.name


@pytest.mark.parametrize("width", WIDTHS)
def test_a_page_is_the_docstring_in_whole_paragraphs(width: int, pages: dict[int, dict[str, str]]) -> None:
    for words in PAGES:
        docstring = _command(words).default_command.__doc__
        assert docstring is not None
        first, *rest = docstring.split("Args:")[0].split("Examples:")[0].strip().split("\n\n")
        if words[0] not in BELOW:
            assert first == COMMANDS[words[0]], "the list of commands shows the first line of the docstring"
        page = pages[width][" ".join(words)]
        description = re.split(r"^(?:╭|Examples:)", page, maxsplit=1, flags=re.MULTILINE)[0].strip().split("\n\n")[1:]
        assert [" ".join(paragraph.split()) for paragraph in description] == [
            " ".join(paragraph.split()) for paragraph in (first, *rest)
        ]
        for paragraph in description:
            lines = paragraph.split("\n")
            for line, following in itertools.pairwise(lines):
                assert len(line.rstrip()) + 1 + len(following.split()[0]) > width, "broken only where the line is full"


def test_advanced_options_come_last(pages: dict[int, dict[str, str]]) -> None:
    for words in PAGES:
        titles = [title for title, _ in _panels(pages[80][" ".join(words)])]
        assert "Advanced" not in titles[:-1]
        assert "Parameters" not in titles, "the general group is called Options everywhere"


def test_examples_can_be_typed(pages: dict[int, dict[str, str]]) -> None:
    for words in PAGES:
        commands = example_commands(_command(words))
        assert len(commands) >= (1 if words == ["recipes", "list"] else 2), f"{words} has too few examples"
        for command in commands:
            for line in command.splitlines():
                assert f"  {line}\n" in pages[80][" ".join(words)], "an example is shown as it is typed"
            arguments = shlex.split(command.partition(" > ")[0].replace("\\\n", " "))
            while "=" in arguments[0]:  # a variable of the environment
                del arguments[0]
            assert arguments[: 1 + len(words)] == ["swclip", *words]
            app.parse_args(arguments[1:], exit_on_error=False, print_error=False)


def test_the_defaults_of_the_recipe_are_true(pages: dict[int, dict[str, str]]) -> None:
    page, config = " ".join(re.sub("│", " ", pages[80]["train"]).split()), load_recipe("sw-clip")
    effective = {
        "--image-tower": config.model.image.tower,
        "--freeze": "image" if config.freeze_image else "none",
        "--steps": str(config.steps),
        "--batch-size": str(config.batch.size),
        "--text-tower": config.model.location.text_tower,
        "--location": config.model.location.form,
    }
    for option, value in effective.items():
        described = page.split(f" {option} ")[1]
        assert described[described.index("[default: ") :].startswith(f"[default: the recipe's; sw-clip: {value}]"), (
            option
        )
    assert config.model.image.size_px is None, "the help says: that of the tower"
