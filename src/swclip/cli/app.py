"""The `swclip` command: its subcommands, and how errors are reported."""

from __future__ import annotations

import errno
import importlib.metadata
import logging
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from types import FrameType
from typing import Any

import cyclopts

from swclip.cli.arguments import misplaced_arguments
from swclip.cli.console import console, typed
from swclip.cli.help import DEFAULTS, EVERYWHERE, FORMATTER, OPTIONS, complete_help
from swclip.cli.startup import lean_imports
from swclip.errors import (
    ArtefactError,
    ConfigError,
    DiskFullError,
    InputError,
    SwclipError,
    SwclipWarning,
)
from swclip.progress import signs_of_life

# Commands by group, with the summaries that `swclip --help` lists, so that it imports none of them. A summary fits one
# line of a terminal with 80 columns.
GROUPS = {
    "Start": {
        "demo": "Run the whole workflow on generated cities.",
        "quickstart": "Go from photographs with positions to a report and a gallery.",
        "doctor": "Check versions, device, memory, cache, hub and extras.",
        "completion": "Print the script that completes commands and options in a shell.",
    },
    "Data": {
        "fetch": "Download street photographs of an area, with their manifest.",
        "prepare": "Make a manifest from geotagged photographs.",
        "merge": "Merge several manifests into one.",
        "pack": "Pack a manifest and its photographs into one table.",
        "inspect": "Show what a manifest has, what is suspicious, and what it can bear.",
        "split": "Split a manifest into training photographs and queries.",
        "synth": "Generate street photographs of synthetic cities.",
    },
    "Train": {
        "train": "Train a model, or resume an interrupted run.",
        "bandwidth": "Estimate the bandwidth of the soft labels from the data.",
        "recipes": "List the recipes of `swclip train`, or show one.",
    },
    "Measure": {
        "evaluate": "Evaluate a run, or the results of another tool.",
        "benchmark": "Train and evaluate several systems, and compare them.",
        "compare": "Compare reports that `swclip evaluate` wrote.",
        "experiment": "Fetch photographs of cities, and compare systems on them.",
    },
    "Use": {
        "index": "Build a gallery: the places that an answer can name.",
        "gallery": "Inspect and change a gallery.",
        "locate": "Estimate where photographs were taken.",
        "serve": "Serve a gallery over HTTP, with an API and a web page.",
    },
    "Share": {
        "attribution": "Print the licences and authors to show with photographs.",
        "export": "Export a model to ONNX, or the embeddings of a gallery.",
        "push": "Publish a trained model on a model hub.",
    },
}
COMMANDS = {name: summary for group in GROUPS.values() for name, summary in group.items()}


EXIT_CODES = {
    0: "Everything is done.",
    1: "An unexpected error, or `swclip doctor` found a fault.",
    **{
        kind.exit_code: (kind.__doc__ or "").partition("\n")[0]
        for kind in sorted(SwclipError.__subclasses__(), key=lambda kind: kind.exit_code)
    },
    128 + signal.SIGINT: "Ctrl-C; the same command resumes.",
    128 + signal.SIGTERM: "SIGTERM, as Ctrl-C.",
}
"""Exit codes with their meaning."""


def _nothing() -> None:
    """What a flag does that is read before the commands."""


app = cyclopts.App(
    name="swclip",
    help="Where was this photograph taken? Street-view geo-localization with spatially weighted CLIP.",
    version=lambda: importlib.metadata.version("swclip"),
    help_format="plaintext",
    help_formatter=FORMATTER,
    help_epilogue=(
        "swclip COMMAND --help explains a command and shows examples of its use.\n\nExit codes:\n"
        + "\n".join(f"{code:>5}  {meaning}" for code, meaning in EXIT_CODES.items())
    ),
    usage="Usage: swclip COMMAND [OPTIONS]",
    default_parameter=DEFAULTS,
    group_parameters=OPTIONS,
    suppress_keyboard_interrupt=False,  # `run` prints what to do next
)
for _flag in ("--help", "--version"):
    app[_flag].group = EVERYWHERE
for _names, _text in (
    (("--verbose", "-v"), "Show log messages, and the traceback of an error."),
    (("--quiet", "-q"), "Show only results and errors."),
):
    app.command(_nothing, name=_names, help=_text, group=EVERYWHERE)  # for the help page: `run` reads these flags
for _order, (_title, _commands) in enumerate(GROUPS.items()):
    _group = cyclopts.Group(_title, sort_key=_order)
    for _place, (_name, _summary) in enumerate(_commands.items()):
        # A string: imported when the command is used.
        app.command(f"swclip.cli.{_name}:{_name}", name=_name, help=_summary, group=_group, sort_key=_place)


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does: what is computed is kept, and what is incomplete is removed."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 on success, the code of the error if a user can fix it, 130 on Ctrl-C and 143 on
    SIGTERM."""
    lean_imports()
    warnings.formatwarning = _format_warning
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:  # a shell may have it ignored
        signal.signal(signal.SIGTERM, _terminate)
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run the command line.

    Args:
        arguments: The arguments after `swclip`.

    Returns:
        The exit code.
    """
    arguments, level = _verbosity(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    before = logging.getLogger("swclip").level
    logging.getLogger("swclip").setLevel(level)
    console.quiet = level > logging.WARNING
    # Tokenizers warn about forks when photographs are decoded in parallel, although no process is forked.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    words = [word for word in arguments if not word.startswith("-")]
    try:
        typed[:] = chain = list(app.parse_commands(words)[0])
        if {"--help", "-h"} & set(arguments):
            complete_help(app, words)
        with signs_of_life(" ".join(["swclip", *chain])) if chain != ["serve"] else nullcontext():
            result: Any = app(arguments, result_action="return_value", exit_on_error=False, print_error=False)
    except cyclopts.CycloptsError as error:
        return _refuse(ConfigError(_sentence(error, typed, arguments)), arguments)
    except SwclipError as error:
        if level < logging.WARNING:
            traceback.print_exc()
        return _refuse(error, arguments)
    except KeyboardInterrupt as stopped:
        print(str(stopped) or "interrupted; run the same command again to resume.", file=sys.stderr)
        return 128 + (signal.SIGTERM if isinstance(stopped, Terminated) else signal.SIGINT)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if isinstance(error, UnicodeEncodeError) and error.reason == "surrogates not allowed":
            # A name with bytes that are not UTF-8 reached a file format or a library that has none.
            return _print_error(InputError(f"{error.object}: is not valid UTF-8; rename the file or its folder."))
        if not _disk_full(error):
            raise
        name = getattr(error, "filename", None) or "output"
        return _print_error(DiskFullError(f"{name}: the disk is full; free some space and run the command again."))
    finally:
        typed.clear()
        console.quiet = False
        logging.getLogger("swclip").setLevel(before)
    return result if isinstance(result, int) else 0


def _verbosity(arguments: list[str]) -> tuple[list[str], int]:
    """The arguments without -v and -q, and the level of the log messages that are shown."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    flags = {"-v": logging.INFO, "--verbose": logging.INFO, "-q": logging.ERROR, "--quiet": logging.ERROR}
    levels = [flags[word] for word in arguments[:end] if word in flags]
    kept = [word for word in arguments[:end] if word not in flags]
    return kept + arguments[end:], levels[-1] if levels else logging.WARNING


def _refuse(error: SwclipError, arguments: list[str]) -> int:
    """Print an error, or the sentence about misplaced arguments which explains it."""
    if isinstance(error, (InputError, ArtefactError, ConfigError)):
        sentence = misplaced_arguments(app, arguments)
        if sentence is not None:
            return _print_error(ConfigError(sentence))
    return _print_error(error)


def _sentence(error: cyclopts.CycloptsError, chain: Sequence[str], arguments: Sequence[str]) -> str:
    """The message of an invalid command line, with where to read on."""
    match error:
        case cyclopts.UnknownCommandError():
            text = str(error).partition(" Available commands:")[0].rstrip(".")
        case cyclopts.MissingArgumentError(argument=argument) if argument is not None and not argument.tokens:
            text = f"{argument.name} {'needs a value' if argument.name in arguments else 'is missing'}"
        case cyclopts.UnusedCliTokensError(unused_tokens=tokens) if tokens:
            text = f"{tokens[0]!r} is one argument too many"
        case _:
            text = " ".join(str(error).split()).rstrip(".")
    return f"{text}{'' if text.endswith('?') else '.'} See: {' '.join(['swclip', *chain, '--help'])}"


def _terminate(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends the process at once
    raise Terminated


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning for the user as a sentence; any other warning with its file and line."""
    if issubclass(category, SwclipWarning):
        return f"warning: {message}\n"
    return f"{filename}:{lineno}: {category.__name__}: {message}\n"


def _disk_full(error: Exception) -> bool:
    # safetensors is written in Rust and raises an error class of its own, with the system's error number in its text.
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or f"(os error {errno.ENOSPC})" in str(error)


def _print_error(error: SwclipError) -> int:
    text = f"error: {error}".encode("utf-8", "backslashreplace").decode()  # it may name a file that is not UTF-8
    print(text, file=sys.stderr)
    return error.exit_code
