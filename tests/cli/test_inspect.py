"""`swclip inspect`: what it prints, what it writes, and what it says of a manifest that it cannot read."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import swclip
from fixtures.processes import Command
from swclip.cli.app import run
from swclip.data.manifest import write_manifest
from swclip.inspection import pixels
from swclip.inspection.inspection import InspectionReport


def test_a_page_a_table_and_the_next_command(
    odd_manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "inspected"
    assert run(["inspect", str(odd_manifest), "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{out / 'inspection.html'}\n"
    shown = " ".join(printed.err.split())
    for text in (
        "72 photographs",
        "│ unreadable │ 2 │",
        "known-places",
        f"Suspicious photographs: {out / 'suspicious.csv'}",
    ):
        assert text in shown
    (line,) = [line for line in printed.err.splitlines() if line.startswith("Next: ")]
    command = line.split()[1:]
    assert command[:3] == ["swclip", "split", str(odd_manifest)]
    assert run([*command[1:-1], str(tmp_path / "splits.parquet"), "--no-picture-hash"]) == 0


def test_json_on_standard_output_and_the_default_folder(odd_manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(odd_manifest / "manifest.parquet"), "--pixels", "none", "--format", "json"]) == 0
    report = InspectionReport.model_validate_json(capsys.readouterr().out)
    assert report.photographs == 72
    assert report.pixels is None
    assert (odd_manifest / "inspection" / "inspection.html").is_file()


def test_python_gives_the_same_figures(odd_manifest: Path, tmp_path: Path) -> None:
    steps: set[str] = set()
    inspection = swclip.inspect(odd_manifest, pixels=5, progress=lambda step, done, total: steps.add(step))
    assert inspection.report.pixels is not None
    assert inspection.report.pixels.chosen == 5
    assert inspection.recommended is not None
    assert {"Reading photographs", "Trying splits"} <= steps
    assert "2 unreadable" in repr(swclip.inspect(odd_manifest))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["missing"], 3, "there is no manifest; make one with: swclip prepare"),
        (["FOLDER", "--pixels", "-3"], 5, "--pixels -3: must be 0 or more"),
        (["FOLDER", "--pixels", "some"], 5, "pixels"),
        (["FOLDER", "--tiles", "https://tiles.example.org/a.png"], 5, "{z}"),
    ],
)
def test_bad_input(
    arguments: list[str], code: int, message: str, odd_manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["inspect", *(argument.replace("FOLDER", str(odd_manifest)) for argument in arguments)]) == code
    assert message in capsys.readouterr().err


def test_a_killed_run_resumes_and_ends_as_an_undisturbed_one(
    tmp_path: Path, start: Callable[..., Command], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, count = np.random.default_rng(1), 200
    names = [f"{number}.jpg" for number in range(count)]
    for name in names:
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(tmp_path / name)
    east = 20.0 * np.arange(count) / 111_195.0
    write_manifest(tmp_path, pd.DataFrame({"image_id": names, "image_path": names, "lat_deg": 0.1, "lon_deg": east}))
    cache = tmp_path / "cache"
    process = start("inspect", tmp_path, "--workers=1", environment={"SWCLIP_CACHE": str(cache)})
    while process.poll() is None and not any(file.stat().st_size for file in cache.glob("quality/*")):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    (kept,) = cache.glob("quality/*.jsonl")
    lines = kept.read_text(encoding="utf-8").splitlines(keepends=True)
    known = sum(line.endswith("\n") and line != "\n" for line in lines)
    assert known > 0

    read: list[str] = []
    measure = pixels.measure_photograph
    monkeypatch.setattr(pixels, "measure_photograph", lambda path: (read.append(path), measure(path))[1])
    monkeypatch.setenv("SWCLIP_CACHE", str(cache))
    resumed = swclip.inspect(tmp_path)
    assert len(read) == count - known
    monkeypatch.setenv("SWCLIP_CACHE", str(tmp_path / "other"))
    undisturbed = swclip.inspect(tmp_path)
    assert resumed.report == undisturbed.report
    pd.testing.assert_frame_equal(resumed.photographs, undisturbed.photographs)
