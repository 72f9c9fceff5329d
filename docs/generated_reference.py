"""The parts of the reference that are written by the code: commands, recipe keys, recipes, and exit codes of errors.

A page has a line such as `<!-- generated: commands -->`, which is replaced when the site is built.
"""

from __future__ import annotations

import importlib
import inspect
import re
import types
import typing
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, get_args, get_origin

import tomli_w
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

MARK = re.compile(r"^<!-- generated: ([a-z-]+) -->$", re.MULTILINE)


def commands() -> str:
    """Every command with its options and examples: what `swclip NAME --help` shows."""
    from swclip.cli.app import COMMANDS, app

    pages = []
    for name in COMMANDS:
        pages.append(_command([name], level=2))
        if app[name].default_command is None:  # a group of commands
            pages += [_command([name, part], level=3) for part in app[name] if not part.startswith("-")]
    return "\n\n".join(pages)


def _command(words: list[str], level: int) -> str:
    from swclip.cli.app import app
    from swclip.cli.help import complete_help, example_lines

    complete_help(app, words)
    chain = [app]
    for word in words:
        chain.append(chain[-1][word])
    title = f"{'#' * level} swclip {' '.join(words)}"
    with app.app_stack(chain):  # with what all commands inherit from `swclip`
        text = chain[-1].generate_docs(heading_level=level, recursive=False)
    text = re.sub(r"\A#+ .*", title, text).partition(f"\n{'#' * (level + 1)} ")[0]  # without the commands of a group
    text = re.sub(r"^## Table of Contents\n+(?: *- .*\n)+\n*", "", text, flags=re.MULTILINE)
    text = text.replace(f"](#{words[0]}-", f"](#swclip-{words[0]}-")
    text = re.sub(r"`--([\w-]+), --no-\1`", r"`--no-\1`", text)  # of flags that are on by default, as in the terminal
    if examples := example_lines(chain[-1]):
        text += "\n**Examples**:\n\n```console\n" + "\n".join(examples) + "\n```\n"
    return text


def package() -> str:
    """The docstring of the package, as `help(swclip)` prints it."""
    import swclip

    return f"```text\n{inspect.getdoc(swclip)}\n```"


PYTHON = {
    "Photographs and splits": (
        "prepare",
        "fetch",
        "merge",
        "pack",
        "synth",
        "inspect",
        "split",
        "split_each_city",
        "Manifest",
        "Splits",
        "read_manifest",
        "read_splits",
    ),
    "Training": ("train", "recipes", "load_recipe", "TrainingConfig"),
    "Measuring": ("evaluate", "evaluate_predictions", "evaluate_vectors", "benchmark", "compare", "experiment"),
    "Locating": ("locate", "Locator", "build_gallery", "load_gallery", "Gallery", "Prior", "read_area", "Answer"),
    "Models": ("load", "LocatorModel"),
}


def python() -> str:
    """The public names of `swclip`, from their docstrings."""
    import swclip

    listed = [name for names in PYTHON.values() for name in names]
    expected = set(swclip.__all__) - {"losses", "__version__"}
    if set(listed) != expected:
        raise RuntimeError(f"generated_reference.PYTHON and swclip.__all__ differ: {set(listed) ^ expected}")
    return "\n\n".join(
        f"## {title}\n\n" + "\n\n".join(_autodoc("swclip", name) for name in names) for title, names in PYTHON.items()
    )


def python_losses() -> str:
    """The public names of `swclip.losses`: modules, functions, and the settings of the objective."""
    import swclip.losses as losses

    kinds: dict[str, list[str]] = {"Modules": [], "Functions": [], "Settings": []}
    for name in losses.__all__:
        value = getattr(losses, name)
        kinds["Settings" if is_dataclass(value) else "Modules" if isinstance(value, type) else "Functions"].append(name)
    return "\n\n".join(
        f"## {title}\n\n" + "\n\n".join(_autodoc("swclip.losses", name) for name in names)
        for title, names in kinds.items()
    )


def _autodoc(module: str, name: str) -> str:
    value = getattr(importlib.import_module(module), name)
    if not isinstance(value, type):
        return f"```{{eval-rst}}\n.. autofunction:: {module}.{name}\n```"
    return f"```{{eval-rst}}\n.. autoclass:: {module}.{name}\n   :members:\n```"


def recipe_keys() -> str:
    """The keys of a recipe: a table for each table of the TOML file."""
    from swclip.training.config import TrainingConfig

    return "\n".join(_table(TrainingConfig, ""))


def recipes() -> str:
    """The shipped recipes, each with its purpose and its file."""
    from importlib import resources

    from swclip.training.config import recipe_summaries

    folder = resources.files("swclip.training") / "recipes"
    parts = []
    for name, summary in recipe_summaries().items():
        body = (folder / f"{name}.toml").read_text(encoding="utf-8").partition("\n")[2]
        parts.append(f"### {name}\n\n{summary}\n\n```toml\n{body}```\n")
    return "\n".join(parts)


def _table(kind: type, prefix: str) -> list[str]:
    """Markdown of a dataclass of settings and of those within it."""
    texts = _attributes(kind)
    hints = typing.get_type_hints(kind)
    rows, below = [], []
    for item in fields(kind):
        key, hint = prefix + item.name, hints[item.name]
        parts = () if get_origin(hint) is tuple else (hint, *get_args(hint))
        inner = next((part for part in parts if isinstance(part, type) and is_dataclass(part)), None)
        if inner is not None:
            below += _table(inner, f"{key}.")
            continue
        values = _values(hint)
        rows.append(f"| `{key}` | {_default(item)} | {_cell(f'{values[0].upper()}{values[1:]}. {texts[item.name]}')} |")
    if not rows:
        return below
    summary = inspect.getdoc(kind) or ""
    heading = f"### `[{prefix.removesuffix('.')}]`" if prefix else "### At the top"
    lead = summary.partition("\n\n")[0].replace("\n", " ")
    return [heading, "", lead, "", "| key | default | values and meaning |", "|---|---|---|", *rows, "", *below]


def _attributes(kind: type) -> dict[str, str]:
    """The texts of the section Attributes (or Args) of a Google-style docstring, and of those that it inherits from."""
    texts: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        docstring = inspect.cleandoc(vars(base).get("__doc__") or "")
        section = re.search(r"^(?:Attributes|Args):\n(.*?)(?=^\S|\Z)", docstring, re.MULTILINE | re.DOTALL)
        for name, text in re.findall(r"^    (\w+): (.*?)(?=^    \w|\Z)", section[1] if section else "", re.M | re.S):
            texts[name] = " ".join(text.split())
    hints = typing.get_type_hints(kind)
    missing = [item.name for item in fields(kind) if item.name not in texts and not is_dataclass(hints[item.name])]
    if missing:
        raise RuntimeError(f"{kind.__name__}: its docstring does not describe {', '.join(missing)}")
    return texts


def _default(item: Any) -> str:
    value = item.default if item.default is not MISSING else item.default_factory()
    if value is None:
        return "none"
    text = " ".join(tomli_w.dumps({"v": value}).partition("= ")[2].split())
    return f"`{text.replace('[ ', '[').replace(', ]', ']')}`"


def _values(hint: Any) -> str:
    """The type of a key, as a reader of TOML would say it."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(f"`{value}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_values(part) for part in arguments if part is not type(None))
    if origin is tuple:
        inner = [part for part in arguments if part is not Ellipsis]
        if is_dataclass(inner[0]):
            keys = ", ".join(f"`{item.name}`" for item in fields(inner[0]))
            return f"list of tables with {keys}"
        return f"list of {_values(inner[0])}" if Ellipsis in arguments else f"{len(inner)} of {_values(inner[0])}"
    return {int: "integer", float: "number", str: "text", bool: "yes or no (`true`, `false`)"}.get(hint, str(hint))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


GENERATORS = {
    "commands": commands,
    "package": package,
    "python": python,
    "python-losses": python_losses,
    "recipe-keys": recipe_keys,
    "recipes": recipes,
}


SECTION = re.compile(r"(Args|Arguments|Attributes|Example|Examples|Note|Raises|References|Returns|Warns|Yields):$")


def literal_formulas(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Mark the indented formulas of a docstring's text as literal; reStructuredText would read them as quotations."""
    result, section, literal = [], False, False
    for line in lines:
        if line and not line.startswith(" "):
            section, literal = SECTION.match(line) is not None, False
        elif line.startswith("    ") and not section and not literal and result and not result[-1]:
            result += ["::", ""]
            literal = True
        result.append(line)
    lines[:] = result


def fill(app: Sphinx, name: str, source: list[str]) -> None:
    """Replace the marks of a page."""
    source[0] = MARK.sub(lambda mark: GENERATORS[mark[1]](), source[0])


def pages_to_read_again(app: Sphinx, env: BuildEnvironment, *_: object) -> list[str]:
    """Pages with a mark: the code that writes them may have changed."""
    return [name for name in env.found_docs if MARK.search(env.doc2path(name).read_text(encoding="utf-8"))]


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("env-get-outdated", pages_to_read_again)
    app.connect("source-read", fill)
    app.connect("autodoc-process-docstring", literal_formulas, priority=400)  # before Napoleon's
    return {"version": "1", "parallel_read_safe": True}
