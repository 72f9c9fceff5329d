"""`swclip train` and `swclip benchmark`: flags and output files."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from swclip.cli.app import run
from swclip.cli.options import RecipeOptions
from swclip.errors import ConfigError
from swclip.training.config import load_recipe
from swclip.training.run import read_run


def test_flags_override_the_recipe(town: Path, tiny: list[str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    flags = [
        "--recipe=clip",
        "--location=fourier",
        "--freeze=image",
        "--image-tower=builtin:small",
        "--steps=2",
        "--seed=9",
        "--bandwidth-m",
        "5",
        "50",
    ]
    splits = f"--splits={town / 'splits.parquet'}"
    chosen = [flag for flag in tiny if "grid" not in flag and "text-tower" not in flag]
    assert (
        run(["train", str(town), splits, f"--out={out}", *flags, *chosen, "--set=batch.neighbours_per_anchor=1"]) == 0
    )
    config = load_recipe(str(out / "config.toml"))
    assert (config.steps, config.seed, config.freeze_image, config.batch.size) == (2, 9, True, 16)
    assert (config.model.location.form, config.model.location.text_tower) == ("fourier", "none")
    assert config.objective.targets.bandwidths_m == (5.0, 50.0)
    assert config.batch.neighbours_per_anchor == 1
    assert config.objective.targets.alpha == 0.0, "other values are those of the recipe"
    assert read_run(out).system == "clip"


def test_a_tower_that_nobody_trained_or_chose_is_not_frozen(
    town: Path, tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    splits, out = f"--splits={town / 'splits.parquet'}", f"--out={tmp_path / 'out'}"
    for command in (["train"], ["bandwidth"], ["benchmark", "--systems", "nearest-neighbour", "clip"]):
        assert run([command[0], str(town), splits, out, "--freeze=image", *tiny, *command[1:]]) == 5
        errors = capsys.readouterr().err
        assert len(errors.splitlines()) == 1
        assert "Add --image-tower: a name on the model hub (facebook/dinov2-small, " in errors
    assert list(tmp_path.iterdir()) == []
    assert RecipeOptions(freeze="image", image_tower=["builtin:small"]).config("clip").freeze_image, "chosen by name"
    assert RecipeOptions(freeze="image", assignments=["model.image.tower=dino"]).config("clip").freeze_image


def test_a_hub_that_cannot_be_reached_is_one_line(
    town: Path, tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:  # bound, and not listening
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
        monkeypatch.setenv("no_proxy", "*")
        command = ["train", str(town), f"--splits={town / 'splits.parquet'}", f"--out={tmp_path / 'out'}", *tiny[1:]]
        for option in ("--image-tower=ada/tower", "--text-tower=ada/tower"):
            assert run([*command, option]) == 8
            (line,) = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("Bandwidth")]
            assert line.startswith("error: tower 'ada/tower': there is no such folder, the hub cannot be reached")


def test_missing_flags_override_nothing() -> None:
    assert RecipeOptions().overrides(seed=None) == {}
    assert RecipeOptions(freeze="none").overrides() == {"freeze_image": False}
    assert RecipeOptions(steps=3, assignments=["steps=4"]).overrides() == {"steps": 4}, "--set takes precedence"


def test_several_towers_each_with_its_options() -> None:
    options = RecipeOptions(image_tower=["dino", "a.onnx", "clip"], size_px=308, crop="whole", normalisation="imagenet")
    image = options.overrides()["model"]["image"]
    assert image == {
        "tower": "dino",
        "size_px": 308,
        "crop": "whole",
        "beside": [
            {"tower": "a.onnx", "normalisation": "imagenet"},
            {"tower": "clip", "size_px": 308, "crop": "whole"},
        ],
    }
    config = load_recipe("sw-clip", {"freeze_image": True, **options.overrides()})
    assert [tower.tower for tower in config.model.image.towers] == ["dino", "a.onnx", "clip"]
    alone = RecipeOptions(image_tower=["a.onnx"], size_px=308).overrides()["model"]["image"]
    assert alone == {"tower": "a.onnx", "size_px": 308, "beside": []}, "one tower replaces those of a recipe"
    with pytest.raises(ConfigError, match="--normalisation is for ONNX files, and dino has its own"):
        RecipeOptions(image_tower=["dino"], normalisation="clip").overrides()


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--set=stepz=3", "stepz is not an option"),
        ("--set=steps", "write KEY=VALUE"),
        ("--set=batch.size=many", "batch.size = 'many'"),
        ("--steps=0", "steps 0 must be at least 1"),
        ("--location=template", "give it a text tower"),
        ("--set=region=borough", "no column 'borough'"),
    ],
)
def test_invalid_values_are_refused(
    flag: str, message: str, town: Path, tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", str(town), f"--splits={town / 'splits.parquet'}", f"--out={tmp_path / 'run'}", *tiny, flag]
    assert run(command) == 5
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors


@pytest.mark.slow
def test_benchmark_does_not_repeat_finished_runs(
    town: Path, tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    splits, out = f"--splits={town / 'splits.parquet'}", tmp_path / "out"
    command = ["benchmark", str(town), splits, f"--out={out}", "--steps=3", *tiny, "--seeds", "0", "1", "--systems"]
    assert run([*command, "nearest-neighbour", "clip"]) == 0
    assert capsys.readouterr().out == f"{out / 'benchmark.json'}\n"
    document = json.loads((out / "benchmark.json").read_text())
    assert set(document["systems"]) == {"nearest-neighbour", "clip"}
    assert set(document["systems"]["clip"]["seeds"]) == {"0", "1"}
    for system in document["systems"].values():
        for report in [*system["seeds"].values(), system["mean"]]:
            assert report["n_queries"] == 10
            assert report["error_m"]["median"] >= report["baselines"]["floor"]["median"]
    assert "<html" in (out / "benchmark.html").read_text()[:200]
    # The colour encodes the place, and untrained features preserve it: the nearest photograph is mostly the right one.
    nearest = document["systems"]["nearest-neighbour"]["mean"]
    assert nearest["error_m"]["median"] < 1.0
    before = {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*") if path.is_file()}
    assert run([*command, "clip"]) == 0
    assert {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*") if path.is_file()} == before
    again = json.loads((out / "benchmark.json").read_text())
    assert again["systems"]["clip"]["mean"]["error_m"] == document["systems"]["clip"]["mean"]["error_m"]


@pytest.mark.parametrize("command", ["train", "benchmark", "bandwidth"])
def test_a_device_that_is_not_available_is_refused_before_anything_is_written(
    town: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [command, str(town), f"--splits={town / 'splits.parquet'}", f"--out={tmp_path / 'out'}"]
    assert run([*arguments, "--device", "tpu9"]) == ConfigError.exit_code
    assert "device 'tpu9' cannot be used" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
