"""The `swclip` command: its verbs, and how errors reach a person."""

from __future__ import annotations

import errno
import importlib.metadata
import logging
import os
import sys
import warnings
from typing import Any

import cyclopts

from swclip.errors import DiskFullError, SwclipError, SwclipWarning

VERBS = (
    "demo",
    "synth",
    "prepare",
    "split",
    "bandwidth",
    "train",
    "evaluate",
    "index",
    "gallery",
    "locate",
    "serve",
    "export",
    "benchmark",
    "compare",
    "push",
)

app = cyclopts.App(
    name="swclip",
    help="Where was this photograph taken? Street-view geo-localization with spatially weighted CLIP.",
    version=lambda: importlib.metadata.version("swclip"),
    help_format="plaintext",
    suppress_keyboard_interrupt=False,  # `run` says what to do next
)
for verb in VERBS:
    app.command(f"swclip.cli.{verb}:{verb}", name=verb)  # a string: imported when the verb is used


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 for done, the error's own code for what a user can mend, 130 for Ctrl-C."""
    warnings.formatwarning = _format_warning
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run the command line.

    Args:
        arguments: What follows `swclip`.

    Returns:
        The exit code.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    # Tokenizers warn of a fork when photographs are decoded beside them; there is none.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        result: Any = app(arguments, result_action="return_value", exit_on_error=True)
    except SwclipError as error:
        return _say(error)
    except KeyboardInterrupt as stopped:
        print(str(stopped) or "interrupted; the same command goes on where it can.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if not _disk_full(error):
            raise
        name = getattr(error, "filename", None) or "output"
        return _say(DiskFullError(f"{name}: the disk is full; free some space and run the command again."))
    return result if isinstance(result, int) else 0


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning meant for the user as a sentence; any other with the place in the code that it comes from."""
    if issubclass(category, SwclipWarning):
        return f"warning: {message}\n"
    return f"{filename}:{lineno}: {category.__name__}: {message}\n"


def _disk_full(error: Exception) -> bool:
    # safetensors is written in Rust and has an error of its own, with the system's number in its text.
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or f"(os error {errno.ENOSPC})" in str(error)


def _say(error: SwclipError) -> int:
    print(f"error: {error}", file=sys.stderr)
    return error.exit_code
