"""Packed data sets: the same rows, bytes, splits and models as from loose files; resuming; an object store."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import swclip
from swclip.cli.app import run
from swclip.data.manifest import Manifest, read_manifest, write_manifest
from swclip.data.pack import pack
from swclip.data.splits import read_splits
from swclip.errors import ArtefactError, InputError, MismatchError
from swclip.evaluation.evaluate import EmbedConfig, evaluate
from swclip.imaging.decode import PhotographError, decode_photograph
from swclip.imaging.packed import pack_location, packed_photograph, table_path
from swclip.imaging.phash import hash_photographs
from swclip.imaging.photograph_file import photograph_bytes, photograph_exists, photograph_sha256
from swclip.models.feature_cache import FeatureCache
from swclip.training.config import TrainingConfig
from swclip.training.loop import train


@pytest.fixture(scope="module")
def loose(town: Path) -> Manifest:
    return read_manifest(town)


@pytest.fixture(scope="module")
def packed(loose: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return pack(loose, tmp_path_factory.mktemp("pack") / "town")


def photographs(folder: Path, count: int) -> Manifest:
    """Photographs in a folder beside that of their manifest; every third has a map tile."""
    rng = np.random.default_rng(0)
    (folder / "pictures").mkdir(parents=True)
    names = [f"{number}.jpg" for number in rng.permutation(count)]
    for name in names:
        pixels = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((16, 12)).save(folder / "pictures" / name)
        Image.fromarray(pixels).save(folder / "pictures" / f"map-{name}.png")
    frame = pd.DataFrame(
        {
            "image_id": names,
            "image_path": [f"../pictures/{name}" for name in names],
            "lat_deg": np.linspace(1.0, 2.0, count),
            "lon_deg": 3.0,
            "captured_at": pd.Timestamp("2020-01-01"),
            "map_path": [f"../pictures/map-{name}.png" if k % 3 == 0 else None for k, name in enumerate(names)],
            "number": np.arange(count),
        }
    )
    return write_manifest(folder / "data", frame)


def test_rows_order_and_bytes_are_those_of_the_files(tmp_path: Path) -> None:
    manifest = photographs(tmp_path, 12)
    again = pack(manifest, tmp_path / "packed", workers=3)
    assert again.digest == manifest.digest
    pd.testing.assert_frame_equal(again.frame.drop(columns="packed_row"), manifest.frame)
    contents = [path.read_bytes() for path in manifest.image_paths]
    maps = [None if path is None else path.read_bytes() for path in manifest.map_paths]
    hashes = hash_photographs(manifest.image_paths)
    pixels = np.asarray(decode_photograph(manifest.image_paths[7]))
    sha256 = [photograph_sha256(path) for path in manifest.image_paths]
    shutil.rmtree(tmp_path / "pictures")  # nothing else is needed, and the folder can be moved
    (tmp_path / "packed").rename(tmp_path / "moved")
    moved = read_manifest(tmp_path / "moved")
    assert moved.path == tmp_path / "moved/photographs.lance"
    assert [photograph_bytes(path) for path in moved.image_paths] == contents
    assert [None if path is None else photograph_bytes(path) for path in moved.map_paths] == maps
    assert [photograph_sha256(path) for path in moved.image_paths] == sha256
    assert np.array_equal(decode_photograph(moved.image_paths[7]), pixels)
    assert moved.image_paths[7].name == Path(manifest.frame["image_path"][7]).name
    of_pack = hash_photographs(moved.image_paths)
    assert np.array_equal(of_pack.perceptual, hashes.perceptual)
    assert of_pack.content == hashes.content
    assert photograph_exists(moved.image_paths[11])
    beyond = Path(str(moved.image_paths[11]).replace("/11/", "/12/"))
    assert not photograph_exists(beyond)
    with pytest.raises(PhotographError, match="no photograph in row 12"):
        photograph_bytes(beyond)


def test_splits_features_model_and_report_are_the_same(
    loose: Manifest, packed: Manifest, town: Path, tmp_path: Path, small: Callable[..., TrainingConfig]
) -> None:
    """Trained, evaluated and indexed from both, with a cache each: all is equal to the last bit."""
    of_files, of_pack = (swclip.split(m, "known-places", seed=3) for m in (loose, packed))
    pd.testing.assert_frame_equal(of_files.frame, of_pack.frame)
    pd.testing.assert_frame_equal(of_files.candidates, of_pack.candidates)
    assert of_files.leakage == of_pack.leakage
    splits, config = read_splits(town / "splits.parquet"), small(steps=2, evaluate_every=2, checkpoint_every=0)
    models, errors, galleries = [], [], []
    for name, manifest in (("files", loose), ("pack", packed)):
        cache = FeatureCache(tmp_path / name / "cache")
        folder = tmp_path / name / "run"
        train(manifest, splits, config, folder, cache=cache)
        models.append((folder / "model/model.safetensors").read_bytes())
        model = swclip.load(folder)
        found = evaluate(model, manifest, splits, embedding=EmbedConfig(cache=cache))
        errors.append(found.predictions["error_m"].to_numpy())
        galleries.append(swclip.build_gallery(folder, manifest, cache=False))
    assert models[0] == models[1]
    assert np.array_equal(*errors)
    assert np.array_equal(galleries[0].location_embeddings, galleries[1].location_embeddings)
    assert np.array_equal(galleries[0].image_embeddings, galleries[1].image_embeddings)


KILLED = """
import os, signal, sys
from swclip.data import pack as module
from swclip.data.manifest import read_manifest
module._COMMIT_ROWS, module._ROWS_AT_ONCE = 7, 5
read, count = module.photograph_bytes, [0]
def counted(path):
    count[0] += 1
    if count[0] == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return read(path)
module.photograph_bytes = counted
module.pack(read_manifest(sys.argv[1]), sys.argv[2], workers=1)
"""


def test_a_killed_run_is_refused_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = photographs(tmp_path, 40)
    target = tmp_path / "packed"
    command = [sys.executable, "-c", KILLED, str(manifest.path), str(target)]
    assert subprocess.run([*command, "30"], check=False).returncode == -9
    with pytest.raises(ArtefactError, match=r"has \d+ of 40 photographs; finish it with: swclip pack"):
        read_manifest(target)
    read: list[Path] = []
    monkeypatch.setattr("swclip.data.pack.photograph_bytes", lambda path: read.append(path) or photograph_bytes(path))
    calls: list[tuple[int, int]] = []
    again = pack(manifest, target, progress=lambda done, total: calls.append((done, total)))
    assert 0 < calls[0][0] < 40, "some rows of the killed run are kept"
    assert calls[-1] == (40, 40)
    assert len({path for path in read if "map" not in path.name}) == 40 - calls[0][0]
    pd.testing.assert_frame_equal(again.frame.drop(columns="packed_row"), manifest.frame)
    for row in (0, 13, 14, 39):
        assert photograph_bytes(again.image_paths[row]) == manifest.image_paths[row].read_bytes()
    assert len(pack(manifest, target)) == 40, "a finished pack is left as it is"


def test_what_cannot_be_packed_is_named(tmp_path: Path) -> None:
    manifest, other = photographs(tmp_path / "a", 9), photographs(tmp_path / "b", 8)
    missing = manifest.image_paths[4]
    content = missing.read_bytes()
    missing.unlink()
    with pytest.raises(PhotographError, match=missing.name):
        pack(manifest, tmp_path / "packed")
    with pytest.raises(ArtefactError, match="has 0 of 9"):
        read_manifest(tmp_path / "packed")
    missing.write_bytes(content)
    again = pack(manifest, tmp_path / "packed")
    with pytest.raises(MismatchError, match=r"of another manifest \(of 9 photographs"):
        pack(other, tmp_path / "packed")
    with pytest.raises(InputError, match="is packed already"):
        pack(again, tmp_path / "twice")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"):
        pack(manifest, tmp_path / "file")


def test_object_store_and_the_command(
    bucket: Any, town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "s3://bucket/packs/town"
    assert run(["pack", str(town), "--out", url]) == 0
    assert capsys.readouterr().out == f"{url}\n"
    loose, packed = read_manifest(town), read_manifest(url)
    assert packed.digest == loose.digest
    assert photograph_bytes(packed.image_paths[11]) == loose.image_paths[11].read_bytes()
    assert read_manifest(packed.path).digest == loose.digest, "the path that a run records"
    # The command line makes a `Path` of its argument, which loses a slash.
    assert run(["split", url, "--protocol", "known-places", "--out", str(tmp_path / "splits.parquet")]) == 0
    assert read_splits(tmp_path / "splits.parquet").meta["manifest_digest"] == loose.digest


def test_paths_of_packs() -> None:
    assert pack_location("s3:/bucket/town/photographs.lance") == "s3://bucket/town"
    assert pack_location(table_path("s3://bucket/town")) == "s3://bucket/town"
    assert pack_location("data/town") == "data/town"
    path = Path(table_path("s3://bucket/town")) / "12/photograph/a.jpg"
    assert packed_photograph(path) == ("s3://bucket/town", 12, "photograph")
    for file in ("data/photographs.lance", "a/photographs.lance/_versions/1.manifest", "b/12/photograph/a.jpg"):
        assert packed_photograph(file) is None
