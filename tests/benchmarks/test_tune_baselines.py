"""The search for the baselines' hyper-parameters: equal numbers of settings, and complete tables."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from swclip.training.config import load_recipe, nested

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "tune_baselines.py"
SMALL = ["steps=4", "evaluate_every=2", "freeze_image=true", "batch.size=12", "model.embedding_dim=16"]
SMALL += ["model.image.size_px=32", "model.image.head_width=16", "model.location.hidden_width=16", "queue.size=20"]


@pytest.fixture
def tuning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    monkeypatch.setenv("SWCLIP_CACHE", str(tmp_path / "cache"))
    return runpy.run_path(str(SCRIPT))


def test_every_system_has_as_many_settings_and_each_can_be_loaded(tuning: dict[str, Any]) -> None:
    grids = tuning["GRIDS"]
    assert {len(grid) for grid in grids.values()} == {6}
    for system, grid in grids.items():
        configs = [load_recipe(system, nested(values)) for values in grid]
        assert configs[0] == load_recipe(system), "the recipe as shipped is among them"
        assert all(one != other for at, one in enumerate(configs) for other in configs[:at]), system


def test_a_search_is_written_and_not_repeated(
    tuning: dict[str, Any], town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuning["GRIDS"].clear()
    tuning["GRIDS"] |= {
        "geoclip": [{}, {"optimizer.rate": 1e-2, "queue.noise_m": 20.0}],
        "rank-n-contrast": [{"objective.rank_n_contrast.tau": 0.5, "model.location.text_tower": "none"}],
    }
    out = tmp_path / "out"
    arguments = [str(town), "--splits", str(town / "splits.parquet"), "--out", str(out)]
    arguments += ["--systems", "geoclip", "rank-n-contrast"]
    for value in SMALL:
        arguments += ["--set", value]
    assert tuning["main"](arguments) == 0
    printed = capsys.readouterr().out
    assert printed == (out / "tuning.md").read_text()
    document = json.loads((out / "tuning.json").read_text())
    assert document["made_with"]["overrides"]["steps"] == 4
    geoclip = document["systems"]["geoclip"]
    errors = [trial["val_log_error"] for trial in geoclip["trials"]]
    best = errors.index(min(errors))
    assert geoclip["finished"]
    assert geoclip["best"] == tuning["GRIDS"]["geoclip"][best]
    assert printed.count("**") == 4, "one chosen setting a system"
    for trial in geoclip["trials"]:
        lines = [json.loads(line) for line in (out / trial["run"] / "metrics.jsonl").read_text().splitlines()]
        figures = [line for line in lines if "val_log_error" in line]
        assert trial["val_log_error"] == min(line["val_log_error"] for line in figures)
        assert [line["step"] for line in figures] == [2, 4]
    chosen = load_recipe(str(out / "recipes" / "geoclip.toml"))
    assert chosen == load_recipe("geoclip", nested(geoclip["best"]))

    # Again: nothing is trained a second time.
    stamps = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/metrics.jsonl")}
    assert len(stamps) == 3
    assert tuning["main"](arguments) == 0
    assert capsys.readouterr().out == printed
    assert {path: path.stat().st_mtime_ns for path in out.glob("runs/*/metrics.jsonl")} == stamps


def test_unknown_systems_are_refused(
    tuning: dict[str, Any], town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(town), "--splits", str(town / "splits.parquet"), "--out", str(tmp_path), "--systems", "geoclop"]
    assert tuning["main"](arguments) == 2
    assert "there are no settings for geoclop" in capsys.readouterr().err
