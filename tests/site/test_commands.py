"""The commands and the Python of the documentation run, in a folder of small photographs.

A comment above a block says why it is not run: `<!-- needs-network -->`, `<!-- needs-gpu -->`, `<!-- needs-data -->`,
`<!-- long -->`; `<!-- tested-elsewhere -->` where another test runs it. The options of its commands are
checked all the same (tests/docs), and SWCLIP_DOCS="long needs-network" runs the blocks of these reasons too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fixtures.doc_inputs import write_inputs
from fixtures.doc_pages import PAGES, ROOT, Block, blocks
from swclip.connectors.stand_in import StandIn
from swclip.connectors.stand_in_data import Photographs
from swclip.data.manifest import read_manifest
from swclip.errors import SwclipWarning

pytestmark = pytest.mark.slow

RUN = os.environ.get("SWCLIP_DOCS", "").split()
LITTLE = {
    "fetch": ["--per-second", "0"],
    "train": ["--steps", "6"],
    "benchmark": ["--steps", "6"],
    "evaluate": ["--resamples", "20"],
    "compare": ["--resamples", "20"],
}
"""Options that commands get beside those of the page: what they learn is not tested here."""


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory, towers: Path, made_up: Any, saved: Any) -> Path:
    """The inputs of all pages, and what the shell commands of the README make of them."""
    folder = write_inputs(tmp_path_factory.mktemp("workshop") / "work", towers / "dinov2")
    with pytest.MonkeyPatch.context() as patch:
        session = Session(folder, patch)
        for block in blocks(ROOT / "README.md"):
            if block.language == "sh":
                session.run(block)
        session.close()
    for name in ("data-2023", "data-2024", "data-2024-fixed"):
        shutil.copytree(folder / "data", folder / name)
    for system, name in enumerate(("clip", "sw")):
        for seed in (0, 1):
            evaluation = made_up(1, system=2 * system + seed)
            report = evaluation.report.recorded(model=f"{name}-{seed}", run={"system": name, "seed": seed})
            for place in (f"reports/{name}-{seed}", f"reports/{name}/{seed}"):
                saved(dataclasses.replace(evaluation, report=report), folder / place)
    shutil.copytree(folder, folder.parent / "kept")
    return folder


class Session:
    """One folder in which blocks run one after the other, as a reader would run them."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.names: dict[str, Any] = {"__name__": "page"}
        self.service: list[str] = []
        self.server: subprocess.Popen[str] | None = None
        self.address = ""
        self.stand_in = contextlib.ExitStack()
        self.replaced: dict[str, str] = {}
        patch.chdir(folder)
        patch.setenv("SWCLIP_CACHE", str(folder / "cache"))
        patch.setenv("MPLBACKEND", "agg")
        patch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")

    def run(self, block: Block) -> None:
        if block.language == "python":
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("default")
                exec(compile(block.text, str(block), "exec"), self.names)
            return
        for line in block.lines():
            first, _, then = line.partition(" | swclip ")
            words = shlex.split(f"swclip {then}" if then else line, comments=True)
            words = [self.replaced.get(word, word) for word in words]
            piped = self.shell(block, first) if then else ""
            if words[:3] == ["python", "-m", "swclip.connectors.stand_in"]:
                self.start_stand_in(words[3], words[words.index("--port") + 1])
            elif words[:2] == ["swclip", "serve"]:
                self.service = words[2:]
            elif words[0] == "swclip":
                code, output = swclip(words[1:], piped)
                assert code == 0, f"{block}: {line}\n{output}"
            elif words[0] == "curl":
                reply = self.shell(block, line.replace("http://127.0.0.1:8000", self.started_service()))
                assert "/etc/hostname" in line or json.loads(reply)["results"][0]["problem"] is None, (
                    f"{block}: {reply}"
                )
            else:
                self.shell(block, line)

    def shell(self, block: Block, line: str) -> str:
        """Run a line that is not `swclip`; its standard output."""
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{block}: {line}\n{done.stdout}{done.stderr}"
        return done.stdout

    def start_stand_in(self, manifest: str, port: str) -> None:
        """Start what a reader starts in another terminal, on a free port in place of the one that the page names."""
        server = self.stand_in.enter_context(StandIn(Photographs.of_manifest(manifest)))
        self.replaced[f"http://127.0.0.1:{port}"] = server.address

    def started_service(self) -> str:
        """The address of the service of the last `swclip serve`, on a free port in place of the port that it names."""
        if self.server is None:
            options = [*self.service, "--threads", "1"]
            options += [] if "--port" in options else ["--port", "0"]
            options[options.index("--port") + 1] = "0"
            command = [sys.executable, "-m", "swclip", "serve", *options]
            self.server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert self.server.stdout is not None
            lines = iter(self.server.stdout)
            self.address = next(match[1] for line in lines if (match := re.search(r"serves at (http://[^\s/]+)", line)))
        return self.address

    def close(self) -> None:
        """Stop the servers, if there are any."""
        self.stand_in.close()
        if self.server is not None:
            self.server.terminate()
            self.server.communicate()
            self.server = None


def swclip(arguments: list[str], piped: str = "") -> tuple[int, str]:
    """Run a command in this process, with little computing; its exit code and what it printed."""
    from swclip.cli.app import run

    little = LITTLE.get(arguments[0])
    if little is not None and little[0] not in arguments:
        arguments = [*arguments, *little]
    printed = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        warnings.simplefilter("default")
        sys.stdin, stdin = io.TextIOWrapper(io.BytesIO(piped.encode())), sys.stdin
        try:
            code = run(arguments)
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        finally:
            sys.stdin = stdin
    return code, printed.getvalue()


@pytest.fixture
def session(workshop: Path) -> Iterator[Any]:
    """The workshop as the README left it, at the same path: a run records the path of its splits."""
    shutil.rmtree(workshop)
    shutil.copytree(workshop.parent / "kept", workshop)
    with pytest.MonkeyPatch.context() as patch:
        opened = Session(workshop, patch)
        yield opened
        opened.close()


def with_blocks() -> list[Path]:
    """Pages with a block to run, but those that other tests run."""
    pages = [page for page in PAGES if page.name not in ("README.md", "losses.md", "city.md")]
    return [page for page in pages if any(block.reason is None or block.reason in RUN for block in blocks(page))]


@pytest.mark.parametrize("page", with_blocks(), ids=lambda page: str(page.relative_to(ROOT)))
def test_the_blocks_of_a_page_run(page: Path, session: Session) -> None:
    for block in blocks(page):
        if block.reason is None or block.reason in RUN:
            session.run(block)


def test_the_lesson_from_a_name_makes_what_it_says(session: Session) -> None:
    for block in blocks(ROOT / "docs" / "city.md"):
        if block.reason is None:
            session.run(block)
    manifest = read_manifest(session.folder / "london")
    assert manifest.frame["captured_at"].max() < pd.Timestamp("2024-01-01")
    assert manifest.frame.groupby("sequence_id").ngroups > 2
    for name in ("inspection/inspection.html", "fetch.json", "splits.parquet"):
        assert (session.folder / "london" / name).is_file(), name
    assert (session.folder / "london-answer.png").is_file()


def test_the_shell_of_the_readme_makes_what_it_says(workshop: Path) -> None:
    for name in ("data/manifest.parquet", "data/splits.parquet", "runs/first/model", "report/report.html", "gallery"):
        assert (workshop / name).exists(), name


def test_the_python_of_the_readme_runs(session: Session) -> None:
    (block, _) = [block for block in blocks(ROOT / "README.md") if block.language == "python"]
    text = block.text.replace("tower = {", 'tower = {"steps": 6, ').replace("photos_per_city=80", "photos_per_city=24")
    with warnings.catch_warnings():
        warnings.simplefilter("error", SwclipWarning)  # such as that of a frozen tower that was not trained
        session.run(dataclasses.replace(block, text=text))
    answer = session.names["answer"]
    assert 49.0 < answer.lat_deg < 61.0
    assert answer.region.cannot_tell or answer.region.area_km2 > 0.0
    assert (session.folder / "runs/python/model").is_dir()
