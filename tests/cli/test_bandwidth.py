"""`swclip bandwidth`: output and files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from swclip.cli.app import run
from swclip.training.run import read_run


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small generated city and its splits."""
    folder = tmp_path_factory.mktemp("generated")
    cities = folder / "cities"
    assert run(["synth", f"--out={cities}", "--cities=1", "--photos-per-city=32", "--size=32", "--workers=1"]) == 0
    splits = folder / "splits.parquet"
    command = ["split", str(cities), "--protocol=known-places", f"--out={splits}", "--no-picture-hash"]
    assert run(command) == 0
    return folder


def test_estimate_and_search_on_a_generated_city(
    generated: Path, tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    splits = f"--splits={generated / 'splits.parquet'}"
    command = ["bandwidth", str(generated / "cities"), splits, *tiny, f"--out={out}", "--steps=2"]
    assert run([*command, "--search", "40"]) == 0
    shown = capsys.readouterr()
    record = json.loads((out / "bandwidth.json").read_text())
    for word in ("nugget", "sill", "practical range", "geometric mean", "log error", " *"):
        assert word in shown.err
    assert [row["name"] for row in record["search"]] == ["40 m", record["form"]]
    best = min(record["search"], key=lambda row: row["val_log_error"])
    assert float(shown.out) == pytest.approx(min(best["bandwidths_m"]), rel=1e-4)
    assert set(record["semivariogram"]) >= {"nugget", "sill", "range_m", "lag_m", "gamma", "pairs", "statement"}
    assert record["adaptive"]["quantiles_m"]["0.05"] <= record["adaptive"]["quantiles_m"]["0.95"]
    with Image.open(out / "semivariogram.png") as picture:
        assert picture.width > 800
    assert "<svg" in (out / "semivariogram.svg").read_text()[:1000]
    # A training run with the same form of bandwidth computes the same value.
    trained = read_run(out / "search" / record["form"])
    assert trained.figures["bandwidth"]["used"] == record["form"]
    assert min(trained.figures["bandwidth"]["bandwidths_m"]) == pytest.approx(record["bandwidth_m"])
    before = (out / "semivariogram.svg").read_bytes()
    assert run(command) == 0
    assert capsys.readouterr().out == f"{record['bandwidth_m']:g}\n"
    assert (out / "semivariogram.svg").read_bytes() == before, "the same figures, the same bytes"


def test_no_files_are_written_without_out(
    town: Path, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert (
        run(
            [
                "bandwidth",
                str(town),
                f"--splits={town / 'splits.parquet'}",
                "--freeze=image",
                "--image-tower=builtin:small",
                *tiny,
            ]
        )
        == 0
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--recipe=clip", "--search", "10"], "one-hot targets"),
        (["--search", "10", "10"], "a value occurs twice"),
        (["--search", "-5"], "must be a positive"),
        (["--set=bandwidth.photographs=1"], "at least 2"),
    ],
)
def test_invalid_values_are_refused(
    flags: list[str], message: str, town: Path, tiny: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["bandwidth", str(town), f"--splits={town / 'splits.parquet'}", *tiny, *flags]) == 5
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors
