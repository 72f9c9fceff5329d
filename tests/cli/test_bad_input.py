"""Mistakes of users: one message that names the file and what to do, an exit code, and no partial files."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from swclip.cli.app import run

# Command, exit code, and part of the message. MADE contains run, other and gallery; OUT does not exist.
WRONG_PATHS = [
    ("prepare NOWHERE --out OUT", 2, "nowhere"),
    (
        "split NOWHERE --protocol known-places --out OUT/s.parquet",
        3,
        "nowhere/manifest.parquet: there is no manifest",
    ),
    ("train NOWHERE --splits TOWN/splits.parquet --out OUT", 3, "there is no manifest"),
    ("train TOWN --splits NOWHERE --out OUT", 3, "nowhere: the splits do not exist"),
    ("train TOWN --splits TOWN/splits.parquet --recipe NOWHERE --out OUT", 5, "nowhere' is neither a shipped one"),
    ("train TOWN --splits TOWN/splits.parquet --image-tower NOWHERE --out OUT", 5, "nowhere'"),
    ("train TOWN --splits TOWN/splits.parquet --text-tower NOWHERE --out OUT", 5, "nowhere'"),
    ("evaluate NOWHERE --out OUT", 3, "nowhere: is not a run"),
    ("evaluate MADE/run --splits NOWHERE --out OUT", 3, "nowhere: the splits do not exist"),
    ("index NOWHERE TOWN --out OUT", 3, "nowhere: is not a swclip model"),
    ("index MADE/run NOWHERE --out OUT", 3, "there is no manifest"),
    ("locate NOWHERE TOWN/p00-0.jpg", 3, "nowhere"),
    ("locate MADE/gallery NOWHERE", 7, "nowhere"),
    ("benchmark NOWHERE --splits TOWN/splits.parquet --out OUT", 3, "there is no manifest"),
    ("benchmark TOWN --splits NOWHERE --out OUT", 3, "the splits do not exist"),
    ("benchmark TOWN --splits TOWN/splits.parquet --systems clip NOWHERE --out OUT", 5, "is neither a shipped one"),
]
EMPTY = [
    ("prepare EMPTY --out OUT", 2, "empty"),
    ("split EMPTY --protocol known-places --out OUT/s.parquet", 3, "empty/manifest.parquet"),
    ("train EMPTY --splits TOWN/splits.parquet --out OUT", 3, "empty/manifest.parquet"),
    ("train TOWN --splits EMPTY --out OUT", 3, "empty/splits.parquet"),
    ("evaluate EMPTY --out OUT", 3, "empty: is not a run"),
    ("index EMPTY TOWN --out OUT", 3, "empty: is not a swclip model"),
    ("locate EMPTY TOWN/p00-0.jpg", 3, "empty"),
    ("locate MADE/gallery EMPTY", 2, "empty: the folder holds no photographs"),
    ("benchmark EMPTY --splits TOWN/splits.parquet --out OUT", 3, "empty/manifest.parquet"),
]
OTHER = [
    ("locate MADE/gallery TOWN/p00-0.jpg --model MADE/other", 4, "was made by model"),
    ("train TOWN --splits TOWN/splits.parquet --out MADE/run --steps 9", 5, "another configuration"),
    ("index MADE/run TOWN --out TOWN", 2, "is not replaced"),
]


def _refused(arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str], where: str = "") -> str:
    capsys.readouterr()
    assert run(arguments) == code
    captured = capsys.readouterr()
    # Progress bars may precede the message, which is printed once, at the end.
    errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, captured.err
    assert message in captured.err[captured.err.index("error: ") :]
    assert where in errors[0]
    assert "Traceback" not in captured.err
    return captured.out


@pytest.mark.parametrize(("command", "code", "message"), [*WRONG_PATHS, *EMPTY, *OTHER])
def test_wrong_input_is_reported_and_changes_no_files(
    command: str, code: int, message: str, town: Path, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    names = {
        "TOWN": town,
        "MADE": made,
        "OUT": tmp_path / "out",
        "EMPTY": tmp_path / "empty",
        "NOWHERE": tmp_path / "nowhere",
    }
    arguments = []
    for word in command.split():
        for name, path in names.items():
            word = word.replace(name, str(path))
        arguments.append(word)
    before = {path: path.read_bytes() for folder in (town, made) for path in folder.rglob("*") if path.is_file()}
    out = _refused(arguments, code, message, capsys)
    if arguments[2:] == [str(tmp_path / "nowhere")]:  # unreadable photographs get an answer with an error
        assert "no such file" in json.loads(out)[0]["error"]
    else:
        assert out == ""
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path != tmp_path / "empty")
    assert not [
        name for name in left if not name.startswith("out/config.toml") and name not in ("out", "out/run.json")
    ], left
    after = {path: path.read_bytes() for folder in (town, made) for path in folder.rglob("*") if path.is_file()}
    assert after == before


@pytest.mark.parametrize("command_name", ["split", "train", "index", "benchmark"])
def test_manifest_of_another_version_is_refused(
    command_name: str, town_copy: Path, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = town_copy / "manifest.parquet", f"--out={tmp_path / 'out'}"
    table = pq.ParquetFile(path).read()
    metadata = dict(table.schema.metadata)
    metadata[b"swclip.manifest"] = json.dumps({**json.loads(metadata[b"swclip.manifest"]), "version": "99"}).encode()
    pq.write_table(table.replace_schema_metadata(metadata), path)
    splits = f"--splits={town_copy / 'splits.parquet'}"
    command = {
        "split": ["split", str(town_copy), "--protocol=known-places", out],
        "train": ["train", str(town_copy), splits, out],
        "index": ["index", str(made / "run"), str(town_copy), out],
        "benchmark": ["benchmark", str(town_copy), splits, out],
    }[command_name]
    _refused(command, 3, f"{path}: manifest schema version 99, this swclip reads version 1", capsys)
    assert not (tmp_path / "out").exists()


def test_file_that_is_not_a_photograph_is_reported(
    town_copy: Path, made: Path, tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = town_copy / "p03-1.jpg"
    bad.write_text("this is a letter")
    out = _refused(
        ["locate", str(made / "gallery"), str(bad), str(town_copy / "p00-0.jpg")], 7, f"{bad}: is not an", capsys
    )
    answers = json.loads(out)
    assert [answer.get("error") is None for answer in answers] == [False, True]
    splits = f"--splits={town_copy / 'splits.parquet'}"
    for more in ([], ["--freeze=image", "--image-tower=builtin:small"]):
        run_folder = tmp_path / f"run{len(more)}"
        command = ["train", str(town_copy), splits, f"--out={run_folder}", "--steps=4", *tiny, *more]
        _refused(command, 2, str(bad), capsys)
        assert not (run_folder / "model").exists()


def test_truncated_checkpoint_is_reported(
    town: Path, made: Path, tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(made / "run", folder)
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "status": "running"}))
    (folder / "checkpoints").mkdir()
    cut = folder / "checkpoints" / "step-00000002.safetensors"
    cut.write_bytes((folder / "model" / "model.safetensors").read_bytes()[:5000])
    command = [
        "train",
        str(town),
        f"--splits={town / 'splits.parquet'}",
        f"--out={folder}",
        "--steps=4",
        "--seed=0",
        *tiny,
    ]
    _refused(command, 3, f"{cut}: the checkpoint is cut short or damaged", capsys)
    _refused(["evaluate", str(folder), f"--out={tmp_path / 'report'}"], 3, "has not finished", capsys)
    cut.unlink()  # as the message says
    assert run(command) == 0
    assert (folder / "model" / "model.safetensors").read_bytes() == (
        made / "run" / "model" / "model.safetensors"
    ).read_bytes()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 200 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("command_name", ["train", "checkpoint", "index", "evaluate", "benchmark"])
def test_full_disk_is_reported_and_leaves_no_partial_files(
    command_name: str, town: Path, made: Path, tiny: list[str], small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    splits, out = f"--splits={town / 'splits.parquet'}", small_disk / "out"
    train = ["train", str(town), splits, f"--out={out}", *tiny]
    command = {
        "train": [*train, "--steps=2"],
        "checkpoint": [*train, "--steps=4", "--set=checkpoint_every=1", "--set=evaluate_every=0"],
        "index": ["index", str(made / "run"), str(town), f"--out={out}"],
        "evaluate": ["evaluate", str(made / "run"), f"--out={out}"],
        "benchmark": ["benchmark", str(town), splits, f"--out={out}", "--steps=2", *tiny],
    }[command_name]
    _refused(command, 6, "the disk is full", capsys, str(small_disk))
    left = {path.relative_to(small_disk).as_posix() for path in small_disk.rglob("*") if path.is_file()}
    assert not [name for name in left if Path(name).name.startswith(".")], "no partial files"
    assert not [
        name for name in left if name.endswith(("safetensors", "report.json", "report.html", "gallery.json"))
    ], left
