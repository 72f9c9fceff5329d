"""The functions of `import swclip`: paths and objects as arguments, and the same results as the commands."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import swclip
from swclip.cli.app import run
from swclip.errors import ArtefactError, ConfigError, InputError, MismatchError, SwclipWarning
from swclip.training.config import TrainingConfig

SMALL: dict[str, Any] = {
    "steps": 4,
    "batch.size": 16,
    "model.embedding_dim": 8,
    "model.image": {"size_px": 32, "head_width": 16},
    "model.location.text_tower": "none",
    "model.location.grid_log2_size": 6,
    "model.location.hidden_width": 16,
}


@pytest.fixture(scope="module", autouse=True)
def _separate_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWCLIP_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("COLUMNS", "200")
        yield


@pytest.fixture(scope="module")
def config() -> TrainingConfig:
    return swclip.load_recipe("sw-clip", SMALL)


@pytest.fixture(scope="module")
def trained(town: Path, config: TrainingConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    facts = swclip.train(town, town / "splits.parquet", config, folder)
    assert facts.status == "finished"
    return folder


def test_split_counts_images_and_shows_a_bar_for_each_step(
    town: Path, terminal: None, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[int, int]] = []
    count = len(swclip.read_manifest(town))
    swclip.split(town, "known-places", hold_out="place", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done + 1, count) for done in range(count)]
    swclip.split(town, "known-places", hold_out="place", progress=True)
    shown = capsys.readouterr().err
    assert "Reading images" in shown
    assert "Comparing queries" in shown


def test_synth_shows_a_progress_bar(tmp_path: Path, terminal: None, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = swclip.synth(tmp_path / "cities", cities=1, photos_per_city=4, size_px=32, progress=True)
    assert len(manifest) == 4
    printed = capsys.readouterr()
    assert "Rendering" in printed.err
    assert printed.out == ""
    assert repr(manifest) == f"Manifest(4 photographs, 1 city, {tmp_path / 'cities' / 'manifest.parquet'})"


def test_prepare_counts_kept_and_rejected_rows(town: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    (tmp_path / "bad.jpg").write_text("no picture")
    table = tmp_path / "table.csv"
    rows = [f"{town / name}.jpg,53.8,-1.5{at}" for at, name in enumerate(("p00-0", "p01-0"))]
    table.write_text("\n".join(["image,lat,lon", *rows, "bad.jpg,53.8,-1.6"]))
    result = swclip.prepare(table, tmp_path / "data", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (3, 3)
    assert result.splits is None
    assert repr(result) == f"PrepareResult(2 of 3 kept, 1 rejected, {tmp_path / 'data' / 'manifest.parquet'})"


def test_splits_in_memory_equal_those_of_file_and_command(town: Path, tmp_path: Path) -> None:
    in_memory = swclip.split(town, "new-streets", block_m=80.0, val_share=0.2, seed=3)
    written = swclip.split(
        swclip.read_manifest(town), "new-streets", tmp_path / "streets.parquet", block_m=80.0, val_share=0.2, seed=3
    )
    flags = ["--protocol=new-streets", "--block-m=80", "--val-share=0.2", "--seed=3"]
    assert run(["split", str(town), *flags, f"--out={tmp_path / 'command.parquet'}"]) == 0
    read = swclip.read_splits(tmp_path / "streets.parquet")
    by_command = swclip.read_splits(tmp_path / "command.parquet")
    assert in_memory.in_memory
    assert not written.in_memory
    for splits in (written, read, by_command):
        assert splits.frame.equals(in_memory.frame)
        assert splits.meta == in_memory.meta
        assert splits.leakage == json.loads((tmp_path / "streets.leakage.json").read_text())
    assert in_memory.leakage is not None
    assert in_memory.leakage["counts"].items() <= written.meta["counts"].items()
    assert repr(in_memory).startswith("Splits(new-streets: ")
    assert repr(in_memory).endswith("candidates, splits in memory)")


def test_invalid_split_writes_no_files(town: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="protocol 'streets' is not known"):
        swclip.split(town, "streets", tmp_path / "s.parquet")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_each_city_is_held_out_in_turn(town: Path, tmp_path: Path) -> None:
    options = {"block_m": 60.0, "buffer_m": 0.0, "val_share": 0.4, "picture_hash": False}
    all_splits = swclip.split_each_city(town, tmp_path / "cities", **options)
    assert [splits.path.name for splits in all_splits] == ["leeds.parquet", "york.parquet"]
    assert [splits.meta["parameters"]["city"] for splits in all_splits] == ["Leeds", "York"]


def test_recipes_have_one_line_descriptions() -> None:
    lines = swclip.recipes()
    assert {"clip", "sw-clip", "sw-clip-no-text"} <= set(lines)
    assert all(line and "\n" not in line and not line.startswith("#") for line in lines.values())


def test_training_saves_splits_in_memory(town: Path, config: TrainingConfig, tmp_path: Path) -> None:
    splits = swclip.split(town, picture_hash=False, val_share=0.3)
    facts = swclip.train(swclip.read_manifest(town), splits, config, tmp_path / "run")
    saved = swclip.read_splits(tmp_path / "run" / "splits.parquet")
    assert saved.frame.equals(splits.frame)
    assert Path(facts.splits) == (tmp_path / "run" / "splits.parquet").resolve()
    again = swclip.train(town, splits, config, tmp_path / "run")
    assert again.figures["seconds"] == facts.figures["seconds"], "the finished run is not repeated"
    other = swclip.split(town, picture_hash=False, val_share=0.3, seed=9)
    with pytest.raises(ConfigError, match="contains other splits"):
        swclip.train(town, other, config, tmp_path / "run")
    assert repr(facts).startswith("RunFacts(sw-clip, seed 0, finished, validation median ")


def test_frozen_untrained_tower_warns(town: Path, tmp_path: Path) -> None:
    config = swclip.load_recipe("clip", {**SMALL, "steps": 1, "freeze_image": True})
    with pytest.warns(SwclipWarning, match="builtin:small untrained, and that image tower is not pretrained"):
        swclip.train(town, town / "splits.parquet", config, tmp_path / "run")


def test_command_prints_warnings_as_sentences(town: Path, tmp_path: Path) -> None:
    flags = [
        "--steps=1",
        "--freeze=image",
        "--image-tower=builtin:small",
        "--text-tower=none",
        "--size-px=32",
        "--recipe=clip",
    ]
    command = [sys.executable, "-m", "swclip", "train", town, f"--splits={town / 'splits.parquet'}", *flags]
    done = subprocess.run([*command, f"--out={tmp_path / 'run'}"], capture_output=True, text=True, check=True)
    (line,) = [line for line in done.stderr.splitlines() if "not pretrained" in line]
    assert line.startswith("warning: freeze_image keeps builtin:small")


def test_evaluate_gives_the_report_of_the_command(town: Path, trained: Path, tmp_path: Path) -> None:
    assert run(["evaluate", str(trained), f"--out={tmp_path / 'report'}", "--no-figures"]) == 0
    expected = json.loads((tmp_path / "report" / "report.json").read_text())
    of_run, of_model = swclip.evaluate(trained), swclip.evaluate(swclip.load(trained), town, town / "splits.parquet")
    for report in (of_run.report.as_dict(), of_model.report.as_dict()):
        assert report["error_m"] == expected["error_m"]
        assert report["posterior"] == expected["posterior"]
        assert report["posterior"]["fitted"]
        assert report["made_with"]["run"] == expected["made_with"]["run"]
    assert of_run.predictions.equals(of_model.predictions)
    assert repr(of_run).startswith("EvaluationReport(10 queries, median error ")


def test_posterior_is_ignored_after_the_weights_changed(trained: Path, town: Path) -> None:
    model = swclip.load(trained)
    with torch.no_grad():
        model.logit_scale.add_(0.1)
    with pytest.raises(ConfigError, match="add manifest and splits"):
        swclip.evaluate(model)
    assert not swclip.evaluate(model, town, town / "splits.parquet").report.posterior["fitted"]


def test_evaluate_refuses_mismatching_arguments(trained: Path, town: Path, tmp_path: Path) -> None:
    other = swclip.synth(tmp_path / "cities", cities=1, photos_per_city=4, size_px=16)
    with pytest.raises(MismatchError, match="this is not the manifest that"):
        swclip.evaluate(trained, other)
    with pytest.raises(ArtefactError, match="is not a swclip model"):
        swclip.evaluate(tmp_path)
    with pytest.raises(ConfigError, match="device 'tpu"):
        swclip.evaluate(trained, device="tpu9")


def test_evaluate_predictions_accepts_paths(town: Path, tmp_path: Path) -> None:
    manifest, splits = swclip.read_manifest(town), swclip.read_splits(town / "splits.parquet")
    queries = splits.frame.loc[splits.frame["split"] == "query", "image_id"].tolist()
    rows = manifest.frame.set_index("image_id").loc[queries]
    table = tmp_path / "theirs.csv"
    table.write_text(
        "id,predicted_lat,predicted_lon\n"
        + "".join(f"{i},{lat},{lon}\n" for i, lat, lon in zip(queries, rows["lat_deg"], rows["lon_deg"], strict=True))
    )
    report = swclip.evaluate_predictions(table, manifest=town, splits=town / "splits.parquet")
    assert report.report.error_m.median == pytest.approx(0.0, abs=1e-3)
    assert report.report.n_queries == len(queries)


def test_galleries_in_memory_and_on_disk_give_the_answers_of_the_commands(
    town: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gallery = swclip.build_gallery(swclip.load(trained), town)
    written = swclip.build_gallery(trained, swclip.read_manifest(town), tmp_path / "gallery", thumbnails=16)
    assert repr(gallery) == "Gallery(20 candidates, 60 photographs, 8 dimensions)"
    assert gallery.posterior == written.posterior is not None
    assert (tmp_path / "gallery" / "model" / "regions.json").is_file()
    photograph = town / "p03-1.jpg"
    (answer,) = swclip.locate(tmp_path / "gallery", photograph)
    (in_memory,) = swclip.locate(gallery, [photograph], model=trained)
    assert (answer.lat_deg, answer.lon_deg) == pytest.approx((in_memory.lat_deg, in_memory.lon_deg))
    assert answer.region is not None
    assert answer.region.calibrated
    assert run(["index", str(trained), str(town), f"--out={tmp_path / 'commands'}"]) == 0
    capsys.readouterr()
    assert run(["locate", str(tmp_path / "commands"), str(photograph)]) == 0
    (by_command,) = json.loads(capsys.readouterr().out)
    assert (by_command["lat_deg"], by_command["lon_deg"]) == pytest.approx((answer.lat_deg, answer.lon_deg), abs=1e-9)


def test_locate_accepts_folders_patterns_and_a_locator(
    town: Path, trained: Path, tmp_path: Path, terminal: None, capsys: pytest.CaptureFixture[str]
) -> None:
    swclip.build_gallery(trained, town, tmp_path / "gallery", photographs=False)
    locator = swclip.Locator.from_gallery(tmp_path / "gallery")
    assert repr(locator) == ("Locator(Gallery(20 candidates, 0 photographs, 8 dimensions), calibrated regions)")
    everything = swclip.locate(locator, town, region=None)
    answers = swclip.locate(
        tmp_path / "gallery", [str(town / "p00-*.jpg"), town / "p07-1.jpg"], region=None, progress=True
    )
    assert len(everything) == 60
    assert [Path(answer.photograph).name for answer in answers] == ["p00-0.jpg", "p00-1.jpg", "p00-2.jpg", "p07-1.jpg"]
    assert "Locating" in capsys.readouterr().err
    (tmp_path / "note.txt").write_text("no picture")
    (failed,) = swclip.locate(locator, tmp_path / "note.txt")
    assert failed.error is not None
    with pytest.raises(InputError, match="holds no photographs"):
        swclip.locate(locator, tmp_path / "gallery")
    with pytest.raises(ConfigError, match="a locator already has its model"):
        swclip.locate(locator, town, cells=[5])
    with pytest.raises(ConfigError, match="add the model"):
        swclip.locate(locator.gallery, town)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give the source of the candidates"),
        ({"grid": "cities", "spacing_m": 20.0}, "covers the cities of a manifest"),
        ({"grid": "area.geojson"}, "go together"),
        ({"splits": "S"}, "give the source of the candidates"),
        ({"manifest": "M", "thumbnails": 32}, "add out"),
        ({"manifest": "M", "grid": "area.geojson", "spacing_m": 20.0}, "leave the manifest out"),
    ],
)
def test_invalid_gallery_options_are_refused(options: dict[str, Any], message: str, trained: Path, town: Path) -> None:
    paths = {"M": town, "S": town / "splits.parquet"}
    arguments = {key: paths.get(value, value) if isinstance(value, str) else value for key, value in options.items()}
    with pytest.raises(ConfigError, match=message):
        swclip.build_gallery(trained, **arguments)


def test_unreadable_photographs_raise_or_are_collected(town: Path, trained: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    names = ["p00-1", "p01-1", "p02-1"]
    table.write_text("image,lat,lon\n" + "".join(f"{town / n}.jpg,53.8{at},-1.55\n" for at, n in enumerate(names)))
    manifest = swclip.prepare(table, tmp_path / "data", copy=True).manifest
    manifest.image_paths[1].write_text("no picture")
    with pytest.raises(InputError, match="1 photograph"):
        swclip.build_gallery(trained, manifest)
    failures: list[Any] = []
    gallery = swclip.build_gallery(trained, manifest, failures=failures)
    assert [path for path, _ in failures] == [manifest.image_paths[1]]
    assert len(gallery.image_ids) == 2


def test_benchmark_writes_its_page_and_reports_failed_runs(
    town: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    overrides = {**SMALL, "steps": 2}
    done = swclip.benchmark(
        town, town / "splits.parquet", tmp_path / "out", systems=["nearest-neighbour", "clip"], overrides=overrides
    )
    assert done.files == [tmp_path / "out" / "benchmark.json"]
    assert (tmp_path / "out" / "benchmark.html").is_file()
    assert repr(done) == "Benchmark(splits: 2 runs)"
    (comparison,) = done.comparisons.values()
    assert comparison.baseline == "clip"
    assert repr(comparison).startswith("Comparison(median errors: ")
    broken = {**overrides, "optimizer.rate": 1e30, "optimizer.warmup": 0.0, "steps": 20}
    arguments: Any = {"systems": ["nearest-neighbour", "clip"], "overrides": broken}
    kept = swclip.benchmark(town, [town], tmp_path / "broken", errors="keep", **arguments)
    assert [failure.title for failure in kept.failures] == ["clip, seed 0"]
    with pytest.raises(ConfigError, match="clip, seed 0"):
        swclip.benchmark(town, [town], tmp_path / "broken", **arguments)


def test_image_and_position_embeddings_are_comparable(town: Path, trained: Path) -> None:
    model, manifest = swclip.load(trained), swclip.read_manifest(town)
    similarity = model.encode_images(manifest.image_paths[:5]) @ model.encode_positions(manifest.positions_deg).T
    assert similarity.shape == (5, 60)
    assert np.abs(similarity).max() <= 1.0 + 1e-5
