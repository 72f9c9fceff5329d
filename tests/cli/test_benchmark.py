"""`swclip benchmark` with several splits and processes, and splits that hold out each city in turn."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures.processes import Command
from swclip.cli.app import run
from swclip.data.splits import find_splits, read_splits
from swclip.errors import ArtefactError
from swclip.training.run import sole_trainer

pytestmark = pytest.mark.slow

ALL = ["--protocol=new-city", "--all-cities", "--block-m=60", "--buffer-m=0", "--val-share=0.4", "--no-picture-hash"]


@pytest.fixture(scope="module")
def cities(town: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("all") / "cities"
    assert run(["split", str(town), *ALL, f"--out={folder}"]) == 0
    return folder


def test_all_cities_writes_one_splits_file_per_city(cities: Path) -> None:
    assert sorted(path.name for path in cities.glob("*.parquet") if "candidates" not in path.name) == [
        "leeds.parquet",
        "york.parquet",
    ]
    for name in ("Leeds", "York"):
        assert read_splits(cities / f"{name.lower()}.parquet").meta["parameters"]["city"] == name
        assert (cities / f"{name.lower()}.leakage.json").is_file()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--protocol=new-streets", "--all-cities", "--out=OUT/x"], "use it with --protocol new-city"),
        (["--protocol=new-city", "--all-cities", "--city=York", "--out=OUT/x"], "without --city"),
        (["--protocol=new-city", "--all-cities", "--out=OUT/x.parquet"], "give a folder as --out"),
    ],
)
def test_invalid_uses_of_all_cities_are_refused(
    flags: list[str], message: str, town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["split", str(town), *(flag.replace("OUT", str(tmp_path)) for flag in flags)]) == 5
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_splits_are_found_by_file_folder_and_glob(town: Path, cities: Path, tmp_path: Path) -> None:
    both = [cities / "leeds.parquet", cities / "york.parquet"]
    assert find_splits([cities]) == both
    assert find_splits(sorted(cities.glob("*.parquet"))) == both
    assert find_splits([town, cities / "york.parquet"]) == [town / "splits.parquet", both[1]]
    assert find_splits([tmp_path]) == [tmp_path / "splits.parquet"], "a missing file is reported when it is read"
    with pytest.raises(ArtefactError, match="these are candidates"):
        find_splits([cities / "york.candidates.parquet"])


def test_several_splits_are_evaluated_separately_and_pooled(
    town: Path, cities: Path, tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "benchmark",
        str(town),
        f"--out={tmp_path}",
        "--steps=2",
        *tiny,
        "--systems",
        "nearest-neighbour",
        "clip",
    ]
    assert run([*command, f"--splits={cities}"]) == 0
    names = ["leeds/benchmark.json", "york/benchmark.json", "benchmark.json"]
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / name) for name in names]
    documents = [json.loads((tmp_path / name).read_text()) for name in names]
    queries = [document["systems"]["clip"]["mean"]["n_queries"] for document in documents]
    assert queries == [30, 30, 60]
    for name in names:
        folder = (tmp_path / name).parent
        assert all((folder / f).is_file() for f in ("benchmark.html", "error-curves.png", "error-curves.svg"))
    assert (tmp_path / "york" / "runs" / "clip-0" / "model").is_dir()
    assert "Pooled over 2 splits" in (tmp_path / "benchmark.html").read_text()
    assert "Pooled over" not in (tmp_path / "york" / "benchmark.html").read_text()


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="no process groups here")
def test_interrupted_benchmark_stops_all_processes_and_resumes(
    town: Path, tiny: list[str], tmp_path: Path, start: Callable[..., Command]
) -> None:
    splits, steps = f"--splits={town / 'splits.parquet'}", 3000
    command = ["benchmark", town, splits, f"--out={tmp_path}", "--systems", "clip", "sw-clip", "--jobs=2", *tiny]
    flags = [
        f"--steps={steps}",
        "--set=checkpoint_every=20",
        "--set=evaluate_every=0",
        "--freeze=image",
        "--image-tower=builtin:small",
    ]
    process = start(*command, *flags, new_session=True)
    runs = [tmp_path / "runs" / name for name in ("clip-0", "sw-clip-0")]
    deadline = time.monotonic() + 300
    while not all(any((folder / "checkpoints").glob("step-*")) for folder in runs) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # to the whole process group, like a terminal
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "run the same command again to resume" in errors
    assert "Traceback" not in errors
    for folder in runs:
        with sole_trainer(folder):  # no process is training there
            pass
    assert not list(tmp_path.rglob(".*.safetensors")), "no partial files"
    before = {folder: max(path.name for path in (folder / "checkpoints").glob("step-*")) for folder in runs}
    again = start(*command, *flags, new_session=True)
    while all(
        max((p.name for p in (folder / "checkpoints").glob("step-*")), default="") <= before[folder] for folder in runs
    ):
        assert time.monotonic() < deadline + 120
        assert again.poll() is None
        time.sleep(0.02)
    logged = [json.loads(line)["step"] for line in (runs[0] / "metrics.jsonl").read_text().splitlines()]
    assert logged == sorted(set(logged)), "resumed from a checkpoint, without repeating steps"
    os.killpg(again.pid, signal.SIGINT)
    again.communicate(timeout=60)
