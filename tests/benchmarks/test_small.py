"""Every benchmark runs at the toy size of benchmarks/small.toml."""

from __future__ import annotations

import fcntl
import os
import re
import runpy
import shlex
import sys
import tomllib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import pandas as pd
import pytest
import torch

from swclip.cli.app import run
from swclip.data.manifest import read_manifest

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SHARED = {"common", "injected_errors", "made_up", "trained_runs"}
"""Modules that benchmarks import."""
NAMES = sorted({path.stem for path in BENCHMARKS.glob("*.py")} - SHARED)
SMALL: dict[str, str] = tomllib.loads((BENCHMARKS / "small.toml").read_text(encoding="utf-8"))
TOWER = "--image-tower builtin:street --text-tower none"


class Inputs:
    """What the toy command lines name: made when the first of them needs it, once for all processes of the tests."""

    sets = "--set evaluate_every=0 --set checkpoint_every=0"
    frozen = (
        f"--set model.image.tower=builtin:street --set model.location.text_tower=none --set freeze_image=true {sets}"
    )
    training = f"{TOWER} --freeze image --batch-size 16 {sets}"

    def __init__(self, folder: Path, towers: Path) -> None:
        self._folder = folder
        self.tower, self.cache = towers / "dinov2", folder / "cache"

    def filled_in(self, command: str, out: Path) -> list[str]:
        """The words of a toy command line."""
        names = {name: out if name == "out" else getattr(self, name) for name in re.findall(r"\{(\w+)\}", command)}
        return shlex.split(command.format(**names))

    @cached_property
    def data(self) -> Path:
        """Two generated cities with captions and map tiles."""
        sizes = ["--cities", 2, "--photos-per-city", 48, "--size", 64]
        return self._made("data", "synth", *sizes, "--captions", "--maps")

    @cached_property
    def tables(self) -> str:
        """Two tables of photographs and positions, one of each city."""
        manifest = read_manifest(self.data)
        frame = manifest.frame.assign(image=[str(path) for path in manifest.image_paths])
        frame = frame.rename(columns={"lat_deg": "lat", "lon_deg": "lon", "heading_deg": "heading"})
        paths = []
        for number, (_, rows) in enumerate(frame.groupby("city")):
            paths.append(self._folder / f"city-{number}.csv")
            pd.DataFrame(rows[["image", "lat", "lon", "heading", "city"]]).to_csv(paths[-1], index=False)
        return shlex.join(map(str, paths))

    @cached_property
    def splits(self) -> Path:
        """Known places."""
        return self._made("splits.parquet", "split", self.data, "--protocol", "known-places")

    @cached_property
    def run(self) -> Path:
        """A model with all kinds of evidence, trained for a few steps."""
        options = shlex.split(f"--recipe sw-clip-plus --steps 4 {self.training}")
        return self._made("run", "train", self.data, "--splits", self.splits, *options)

    @cached_property
    def gallery(self) -> Path:
        """The gallery of the run."""
        return self._made("gallery", "index", self.run, self.data, "--splits", self.splits)

    @cached_property
    def exported(self) -> Path:
        """The run as ONNX."""
        return self._made("exported", "export", self.run)

    @cached_property
    def photograph(self) -> Path:
        """One of the photographs."""
        return read_manifest(self.data).image_paths[0]

    @cached_property
    def compared(self) -> Path:
        """A benchmark over two draws of the splits, without training."""
        systems = "--systems nearest-neighbour nearest-neighbour-whitened --baseline nearest-neighbour"
        options = shlex.split(f"--draws 2 {systems} {TOWER} --freeze image")
        return self._made("compared", "benchmark", self.data, "--splits", self.splits, *options)

    def _made(self, name: str, *command: object) -> Path:
        path = self._folder / name
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                assert run([*map(str, command), "--out", str(path)]) == 0
        return path


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, towers: Path) -> Inputs:
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "benchmarks"
    shared.mkdir(exist_ok=True)
    return Inputs(shared, towers)


@pytest.fixture(autouse=True)
def state_of_this_process(inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Benchmarks are scripts that may set threads and environment; other tests run in this process afterwards."""
    threads, environment = torch.get_num_threads(), dict(os.environ)
    monkeypatch.setenv("SWCLIP_CACHE", str(inputs.cache))
    yield
    assert torch.is_grad_enabled()
    torch.set_num_threads(threads)
    os.environ.clear()
    os.environ.update(environment)


def called(name: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a benchmark in this process, as if from the command line."""
    path = BENCHMARKS / f"{name}.py"
    monkeypatch.setattr(sys, "argv", [str(path), *words])
    try:
        runpy.run_path(str(path), run_name="__main__")
    except SystemExit as ended:
        if ended.code:
            pytest.fail(f"{path.name}: {ended}")


@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")  # Ray warns of its own defaults
@pytest.mark.filterwarnings("ignore:lance")  # of the forks by which Ray starts machines
@pytest.mark.parametrize("name", NAMES)
def test_runs_at_toy_size(
    name: str, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert name in SMALL, f"benchmarks/small.toml has no line for {name}.py"
    if SMALL[name].startswith("#"):
        pytest.skip(f"{name}.py {SMALL[name].removeprefix('# ')}")
    words = inputs.filled_in(SMALL[name], tmp_path)
    capsys.readouterr()
    called(name, words, monkeypatch)
    table = re.compile(r"^\|.*\|\n\|( ?-+ ?\|)+\n\|.*\|$", re.MULTILINE)
    assert table.search(capsys.readouterr().out), "the figures are printed as a table"
    written = [path for path in tmp_path.rglob("*.md") if table.search(path.read_text(encoding="utf-8"))]
    assert written, "the figures are written as a table"


def test_the_table_has_every_benchmark() -> None:
    listed = re.findall(r"^\| \[(\w+)\]\((\w+)\.py\) \|", (BENCHMARKS / "README.md").read_text("utf-8"), re.MULTILINE)
    assert all(name == file for name, file in listed)
    assert sorted(name for name, _ in listed) == NAMES == sorted(SMALL)


@pytest.mark.parametrize("name", NAMES)
def test_help_names_the_options(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    called(name, ["--help"], monkeypatch)
    text = capsys.readouterr().out
    assert "--out" in text
    assert f"python benchmarks/{name}.py" in text, "the docstring has a command"
