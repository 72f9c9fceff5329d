"""`swclip split`: files, output and errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from swclip.cli.split import split
from swclip.data.manifest import Manifest, write_manifest
from swclip.data.splits import read_splits
from swclip.errors import ConfigError, InputError, SwclipError
from swclip.geo.coordinates import LocalFrame


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    rng = np.random.default_rng(0)
    positions = LocalFrame(52.4, 0.26).to_deg(rng.uniform(-300, 300, size=(40, 2)))
    ids = [f"i{k}" for k in range(40)]
    for name in ids:
        small = Image.fromarray(rng.integers(0, 256, size=(8, 8, 3), dtype=np.uint8))
        small.resize((64, 64)).save(tmp_path / f"{name}.jpg")
    frame = pd.DataFrame({"image_id": ids, "lat_deg": positions[:, 0], "lon_deg": positions[:, 1], "city": "Ely"})
    return write_manifest(tmp_path, frame.assign(image_path=[f"{name}.jpg" for name in ids]))


def test_splits_candidates_and_leakage_report_are_written(
    manifest: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "streets.parquet"
    split(manifest.path, protocol="new-streets", out=out, gallery="grid:50", seed=3)
    assert sorted(path.name for path in out.parent.iterdir()) == [
        "streets.candidates.parquet",
        "streets.leakage.json",
        "streets.parquet",
    ]
    splits = read_splits(out)
    assert splits.meta["seed"] == 3
    assert splits.meta["parameters"]["gallery"] == "grid:50"
    report = json.loads((out.parent / "streets.leakage.json").read_text())
    assert report["query"]["n"] == splits.meta["counts"]["query"] > 0
    assert report["pictures"]["hashed"] == 40
    printed = capsys.readouterr()
    assert printed.out == f"{out}\n", "standard output has only the path"
    counts = report["counts"]
    first, second, third = printed.err.splitlines()[:3]
    assert first == (
        f"Splits (new-streets, seed 3): {counts['train']} for training, {counts['val']} validation queries, "
        f"{counts['query']} queries, {report['query']['candidates']['n']:,} candidates"
    )
    assert second.startswith("Leakage: a training photograph is ")
    assert f"{report['query']['nearest_training_m']['median']:.1f} m from a query (median)" in second
    assert third.startswith("Queries with a near-duplicate image in training: ")
    assert f"There are only {report['query']['n']} queries" in " ".join(printed.err.split())


def test_the_whole_report_is_a_table_on_request(
    manifest: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split(manifest.path, protocol="known-places", out=tmp_path / "s.parquet", table=True)
    printed = " ".join(capsys.readouterr().err.split())
    assert "nearest training" in printed
    assert "Leakage: a training photograph is" not in printed


def test_no_picture_hash_reads_no_images(
    manifest: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in manifest.image_paths:
        path.unlink()
    split(tmp_path, protocol="known-places", out=tmp_path, picture_hash=False)
    assert json.loads((tmp_path / "splits.leakage.json").read_text())["pictures"]["hashed"] == 0
    assert "the pictures were not compared" in capsys.readouterr().err


def test_unreadable_images_are_counted(manifest: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest.image_paths[7].write_bytes(b"")
    split(tmp_path, protocol="known-places", out=tmp_path)
    report = json.loads((tmp_path / "splits.leakage.json").read_text())
    assert [item["image_id"] for item in report["pictures"]["unreadable"]] == ["i7"]
    assert "1 images could not be read" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"protocol": "new-city"}, InputError, "at least two.*only 'Ely'"),
        ({"protocol": "new-streets", "gallery": "net"}, ConfigError, "gallery 'net'"),
        ({"protocol": "new-streets", "near_duplicate_bits": 99}, ConfigError, "within 99 bits"),
    ],
)
def test_invalid_options_leave_no_files(
    manifest: Manifest, tmp_path: Path, options: dict[str, object], error: type[SwclipError], message: str
) -> None:
    with pytest.raises(error, match=message):
        split(manifest.path, out=tmp_path / "out" / "s.parquet", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()
