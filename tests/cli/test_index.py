"""`swclip index` and `swclip locate`: output, files and errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fixtures.models import tiny_model
from swclip.calibration.conformal import Calibration, write_calibration
from swclip.calibration.posterior_config import PosteriorConfig, write_posterior
from swclip.cli.app import run
from swclip.data.manifest import read_manifest, write_manifest
from swclip.data.splits import write_splits
from swclip.gallery.read_write import load_gallery


@pytest.fixture
def made(photographs: Callable[[int], list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The photographs of a manifest of six, beside two runs, one of them with a fitted posterior."""
    monkeypatch.setenv("SWCLIP_CACHE", str(tmp_path / "cache"))
    paths, positions = photographs(6), np.array([51.5, -0.1]) + np.arange(6)[:, None] * [2e-4, 1e-4]
    frame = pd.DataFrame({"image_id": [p.stem for p in paths], "image_path": [str(p) for p in paths]})
    write_manifest(tmp_path, frame.assign(lat_deg=positions[:, 0], lon_deg=positions[:, 1], city="Leeds"))
    for name, seed in (("run", 1), ("other", 2)):
        tiny_model(positions, seed=seed).save(tmp_path / name / "model")
    write_posterior(tmp_path / "run" / "model", PosteriorConfig(0.1, 0.01, 1.0, 5.0))
    monkeypatch.chdir(tmp_path)
    return paths


def test_locate_with_an_indexed_gallery(made: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["index", "run", ".", "--out", "gallery"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "6 candidates, 6 photographs" in captured.err
    assert load_gallery("gallery").posterior == PosteriorConfig(0.1, 0.01, 1.0, 5.0)
    assert run(["locate", "gallery", "photographs/00[0-2].png", str(made[4]), "--top-k", "2"]) == 0
    answers = json.loads(capsys.readouterr().out)
    assert [answer["candidates"][0]["image_ids"] for answer in answers] == [["000"], ["001"], ["002"], ["004"]]
    assert [len(answer["candidates"]) for answer in answers] == [2] * 4
    assert run(["locate", "gallery", "photographs", "--format", "geojson", "--out", "a.geojson", "--model", "run"]) == 0
    assert capsys.readouterr().out == ""
    assert len(json.loads(Path("a.geojson").read_text())["features"]) == 6


def test_undecodable_file_does_not_stop_the_others(made: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    run(["index", "run", ".", "--out", "gallery"])
    capsys.readouterr()
    Path("note.txt").write_text("no picture")
    assert run(["locate", "gallery", str(made[0]), "note.txt", str(made[1]), "--format", "csv"]) == 7
    captured = capsys.readouterr()
    assert captured.out.count(str(made[0])) == captured.out.count(str(made[1])) == 5
    assert "1 of 3 photographs could not be read" in captured.err
    assert "note.txt: is not an image" in captured.err
    assert "Traceback" not in captured.err


def test_cells_sets_the_resolutions(made: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["index", "run", ".", "--out", "gallery"]) == 0
    capsys.readouterr()
    command = ["locate", "gallery", str(made[0]), str(made[1]), "--format", "jsonl"]
    assert run([*command, "--cells", "9", "--cells", "5"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["photograph"] for line in lines] == [str(made[0]), str(made[1])]
    for line in lines:
        assert [cell["resolution"] for cell in line["cells"]] == [5, 9]
        assert 0.0 < line["cells"][0]["probability"] <= 1.0
        assert (line["scored_share"], line["left_out_at_most"]) == (1.0, 0.0)
    assert run([*command, "--cells", "16"]) == 5
    assert "resolution 16" in capsys.readouterr().err


def test_answers_have_regions_calibrated_by_the_run(
    made: list[Path], capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert run(["index", "run", ".", "--out", "without"]) == 0
    assert run(["locate", "without", str(made[0])]) == 0
    region = json.loads(capsys.readouterr().out)[0]["region"]
    assert region["cells"]
    assert region["calibrated"] is False
    assert "train it again on splits with validation queries" in caplog.text
    write_calibration("run/model", Calibration(np.full(60, 0.1), (None,) * 60, 11, 25.0))
    assert run(["index", "run", ".", "--out", "gallery"]) == 0
    assert Path("gallery/model/regions.json").read_bytes() == Path("run/model/regions.json").read_bytes()
    capsys.readouterr()
    command = ["locate", "gallery", str(made[0]), str(made[1]), "--region-out", "regions.geojson"]
    assert run([*command, "--region", "0.9"]) == 0
    for answer in json.loads(capsys.readouterr().out):
        assert answer["region"]["probability"] == 0.9
        assert answer["region"]["cells"]
        assert not answer["region"]["cannot_tell"]
        assert answer["region"]["calibrated"] is True
    features = json.loads(Path("regions.geojson").read_text())["features"]
    assert [feature["properties"]["photograph"] for feature in features] == [str(made[0]), str(made[1])]
    assert all(feature["geometry"]["type"] in ("Polygon", "MultiPolygon") for feature in features)
    assert run([*command, "--region-limit-km2", "0.0001", "--format", "csv"]) == 0
    assert ",True,True," in capsys.readouterr().out
    assert all(feature["geometry"] is None for feature in json.loads(Path("regions.geojson").read_text())["features"])
    for wrong in (["--region", "80"], ["--region-limit-km2", "0"]):
        assert run([*command, *wrong]) == 5
    Path("gallery/model/regions.json").write_text("{}")
    assert run(command) == 3
    assert "regions.json" in capsys.readouterr().err


def test_second_index_uses_cached_features(
    made: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["index", "run", ".", "--out", "none", "--no-cache"])
    assert not (tmp_path / "cache").exists()
    run(["index", "run", ".", "--out", "first"])
    cached = sorted((tmp_path / "cache").rglob("*.safetensors"))
    assert len(cached) == 1
    run(["index", "run", ".", "--out", "second"])
    assert sorted((tmp_path / "cache").rglob("*.safetensors")) == cached
    for name in ("none", "second"):
        first, other = load_gallery("first").image_embeddings, load_gallery(name).image_embeddings
        np.testing.assert_allclose(first, other, atol=1e-5)


def test_candidates_from_photographs_grid_and_splits(made: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["index", "run", ".", "--out", "bare", "--no-photographs"]) == 0
    assert (len(load_gallery("bare")), load_gallery("bare").image_ids) == (6, [])
    assert run(["index", "run", ".", "--out", "grid", "--grid", "cities", "--spacing-m", "20"]) == 0
    assert len(load_gallery("grid")) > 6
    manifest = read_manifest(".")
    frame = pd.DataFrame({"image_id": [p.stem for p in made], "split": ["train", "train", "val", *["query"] * 3]})
    places = manifest.frame[["lat_deg", "lon_deg", "city"]].head(3).assign(candidate_id=["a", "b", "c"])
    places = places.assign(image_ids=[["000"], ["001"], ["002"]], for_val=[True, True, False], for_query=True)
    write_splits(
        "splits.parquet", frame.assign(block_id=None), places, {"protocol": "x", "manifest_digest": manifest.digest}
    )
    assert run(["index", "run", ".", "--out", "split", "--splits", "splits.parquet"]) == 0
    gallery = load_gallery("split")
    assert (gallery.candidate_ids, gallery.image_ids) == (["a", "b", "c"], ["000", "001", "002"])
    capsys.readouterr()
    assert run(["index", "run", ".", "--out", "x", "--splits", "splits.parquet", "--grid", "cities"]) == 5
    assert run(["index", "run", ".", "--out", "x", "--grid", "cities", "--spacing-m", "-1"]) == 5
    assert not Path("x").exists()


def test_unreadable_photograph_is_omitted_and_recorded(made: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    made[2].write_text("no picture")
    assert run(["index", "run", ".", "--out", "gallery"]) == 7
    assert "1 photographs could not be read and were left out of the gallery" in " ".join(
        capsys.readouterr().err.split()
    )
    assert [entry["path"] for entry in load_gallery("gallery").meta["left_out"]] == ["photographs/002.png"]


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (["locate", "gallery", "photographs/000.png", "--model", "other"], 4, "was made by model"),
        (["locate", "nowhere", "photographs/000.png"], 3, "is not a gallery"),
        (["locate", "gallery"], 5, "no photographs were named"),
        (["locate", "gallery", "photographs/*.tif"], 2, "no file matches"),
        (
            ["locate", "gallery", "photographs/000.png", "--beam", "16"],
            5,
            "build-index GALLERY` and use --search disk",
        ),
        (["locate", "gallery", "photographs/000.png", "--top-k", "0"], 5, "top_k is 0"),
        (["locate", "gallery", "photographs/000.png", "--device", "tpu9"], 5, "device 'tpu9' cannot be used"),
        (["index", "run", ".", "--out", "x", "--device", "tpu9"], 5, "device 'tpu9' cannot be used"),
        (["index", "run", "nowhere", "--out", "x"], 3, "nowhere"),
        (["index", "nowhere", ".", "--out", "x"], 3, "nowhere"),
        (["index", "run", ".", "--out", "photographs"], 2, "is not replaced"),
    ],
)
def test_invalid_commands_are_refused(
    made: list[Path], capsys: pytest.CaptureFixture[str], command: list[str], code: int, message: str
) -> None:
    if command[:2] == ["locate", "gallery"]:
        run(["index", "run", ".", "--out", "gallery", "--no-photographs"])
    capsys.readouterr()
    assert run(command) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert not Path("x").exists()
