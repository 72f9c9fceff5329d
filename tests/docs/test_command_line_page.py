"""docs/command-line.md lists the exit codes that the command line has."""

from __future__ import annotations

import re

from fixtures.doc_pages import ROOT
from swclip.cli.app import EXIT_CODES


def test_exit_codes_are_those_of_the_command_line() -> None:
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", page, re.MULTILINE)
    assert {int(code): meaning for code, meaning in rows} == EXIT_CODES
