"""The version is the same wherever it is written, and has a section in the changelog."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_version_is_the_same_in_all_files() -> None:
    if not (ROOT / "CITATION.cff").is_file():
        pytest.skip("not a checkout")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    citation = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.M)
    assert citation is not None
    assert citation[1] == version
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", changelog, re.M)


def test_the_lock_names_every_development_dependency() -> None:
    lock = {
        re.split(r"[=\[ ]", line)[0].lower().replace("_", "-")
        for line in (ROOT / "requirements-dev.lock").read_text().splitlines()
        if line and not line.startswith("#")
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["dev"], *extras["serve"], *extras["export"]]
    names = {re.split(r"[\[<>=! ]", line)[0].lower() for line in wanted} - {"swclip"}
    assert names <= lock
