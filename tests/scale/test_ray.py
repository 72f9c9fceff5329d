"""Building galleries and locating on a cluster of local machines, whose workers and machines are killed on the way."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from fixtures.models import tiny_model
from swclip.cli.app import run
from swclip.data.manifest import read_manifest, write_manifest
from swclip.data.pack import pack
from swclip.gallery.build import manifest_candidates
from swclip.gallery.inspect import verify
from swclip.gallery.store import GalleryStore
from swclip.scale import build_gallery as on_cluster
from swclip.scale.cluster import QUIET

pytest.importorskip("ray", reason="the extra ray is not installed")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Ray warns of its own defaults
    pytest.mark.filterwarnings("ignore:lance"),  # of the forks by which machines are added
]

BATCH, SMALL = "--batch-size=4", "--thumbnails=16"


LONG = pytest.mark.skipif(
    "SWCLIP_LONG_TESTS" not in os.environ, reason="takes half a minute; SWCLIP_LONG_TESTS=1 runs it"
)


@pytest.fixture(scope="module")
def place(town: Path, bucket: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a manifest of 60 photographs and 2 files of text, its pack in the bucket, a model, and a gallery.

    One of the two is alone at its position.
    """
    folder = tmp_path_factory.mktemp("place")
    shutil.copytree(town, folder / "data")
    frame = read_manifest(town).frame
    (folder / "data" / "text.jpg").write_text("no picture")
    (folder / "data" / "alone.jpg").write_text("no picture either")
    alone = {"image_id": "alone", "image_path": "alone.jpg", "lat_deg": 53.9, "lon_deg": -1.5, "city": "Leeds"}
    other = frame.iloc[7].to_dict() | {"image_id": "text", "image_path": "text.jpg"}
    rows = pd.concat([frame.iloc[:30], pd.DataFrame([alone, other]), frame.iloc[30:]], ignore_index=True)
    rows.loc[rows["place_id"] == "p03", "city"] = None
    manifest = write_manifest(folder / "data", rows.assign(author=[f"Ada {row}" for row in range(len(rows))]))
    pack(manifest, "s3://bucket/pack")
    tiny_model(manifest.positions_deg).save(folder / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWCLIP_CACHE", str(folder / "cache"))
        assert run(["index", str(folder / "model"), "s3://bucket/pack", f"--out={folder / 'plain'}", SMALL]) == 7
    return folder


@pytest.fixture(scope="module")
def cluster(bucket: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A cluster of one machine with one processor, which sees the bucket; RAY_ADDRESS names it."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**QUIET, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}.items():
            patch.setenv(name, value)
        # The names of sockets are limited to 107 bytes.
        folder = Path(os.environ.get("RAY_TMPDIR") or "/tmp") / f"swclip-{os.getpid()}"
        machine = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
        machines = Cluster(initialize_head=True, head_node_args={**machine, "temp_dir": str(folder)})
        patch.setenv("RAY_ADDRESS", machines.address)
        yield machines
        machines.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def _dies_once(marker: Path) -> Callable[[], None]:
    """A function that kills the process that calls it, the first time that any process does."""

    def die() -> None:
        try:
            marker.touch(exist_ok=False)
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

    return die


def test_a_gallery_is_the_same_though_a_worker_dies_in_each_step(
    place: Path,
    cluster: Any,
    bucket: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    decode, write = on_cluster.decode, on_cluster.write_fragment
    deaths = {name: _dies_once(tmp_path / name) for name in ("decoding", "embedding", "writing")}

    def decode_and_die(rows: pa.Table, *more: Any) -> pa.Table:
        if 20 in rows["number"].to_pylist():
            deaths["decoding"]()
        return decode(rows, *more)

    class DyingEmbedder(on_cluster.Embedder):
        def __call__(self, rows: pa.Table) -> pa.Table:
            if 28 in rows["number"].to_pylist():
                deaths["embedding"]()
            return super().__call__(rows)

    def write_and_die(rows: pa.Table, *more: Any) -> pa.Table:
        written = write(rows, *more)
        if 40 in rows["number"].to_pylist():
            deaths["writing"]()  # the file of the fragment stays
        return written

    monkeypatch.setattr(on_cluster, "decode", decode_and_die)
    monkeypatch.setattr(on_cluster, "Embedder", DyingEmbedder)
    monkeypatch.setattr(on_cluster, "write_fragment", write_and_die)
    monkeypatch.setattr(on_cluster, "_FRAGMENT_ROWS", (8, 8))
    command = ["index", str(place / "model"), "s3://bucket/pack", "--out=s3://bucket/gallery", SMALL, BATCH]
    capsys.readouterr()
    assert run([*command, "--engine=ray"]) == 7
    errors = capsys.readouterr().err
    assert "21 candidates, 60 photographs" in errors
    assert errors.count("is not an image") == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["decoding", "embedding", "writing"]
    actual, expected = GalleryStore.open("s3://bucket/gallery"), GalleryStore.open(place / "plain")
    assert actual.description == expected.description
    tables = [store.read() for store in (actual, expected)]
    # The position whose only photograph cannot be decoded is the last entry; otherwise the order is the same too.
    keys = [[key for key in table["entry_id"].to_pylist() if key.startswith("photo/")] for table in tables]
    assert keys[0] == keys[1]
    assert len(keys[0]) == 60
    assert tables[0].sort_by("entry_id").equals(tables[1].sort_by("entry_id"))
    assert verify(actual, actual.description.fingerprint) == []
    assert len(actual.versions()) == 1
    files = bucket.list_objects_v2(Bucket="bucket", Prefix="gallery/entries.lance/data/")["Contents"]
    assert len(files) == 9  # 62 rows by 8, and that position: none of a lost worker


@LONG
def test_a_gallery_is_the_same_though_it_is_interrupted_and_a_machine_dies(
    place: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import ray

    head, lost = cluster.head_node.node_id, cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20)
    manifest = read_manifest(place / "data")
    options: Any = {"batch_size": 4, "thumbnails_px": 16, "failures": []}

    class WaitingEmbedder(on_cluster.Embedder):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.node = ray.get_runtime_context().get_node_id()
            (tmp_path / self.node).touch()

        def __call__(self, rows: pa.Table) -> pa.Table:
            while len(list(tmp_path.iterdir())) < 2:  # until both machines embed
                time.sleep(0.05)
            if self.node != head:
                (tmp_path / "embeds").touch()
                time.sleep(1000)  # until the machine is lost
            return super().__call__(rows)

    def lose() -> None:
        while not (tmp_path / "embeds").exists():
            time.sleep(0.05)
        cluster.remove_node(lost, allow_graceful=False)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    def build(**more: Any) -> on_cluster.BuiltGallery:
        model, candidates = tiny_model(manifest.positions_deg), manifest_candidates(manifest)
        return on_cluster.build_gallery_on_cluster(model, candidates, manifest, place / "lost", **options, **more)

    with monkeypatch.context() as patch:
        patch.setattr(on_cluster, "_FRAGMENT_ROWS", (4, 4))
        with pytest.raises(KeyboardInterrupt):
            build(progress=interrupt)
    assert not ray.is_initialized()
    assert not [path for path in place.iterdir() if "lost" in path.name]
    monkeypatch.setattr(on_cluster, "Embedder", WaitingEmbedder)
    loss = threading.Thread(target=lose, daemon=True)
    loss.start()
    built = build()
    loss.join()
    assert len(list(tmp_path.iterdir())) == 3
    assert (built.candidates, built.photographs) == (21, 60)
    tables = [GalleryStore.open(place / name).read().sort_by("entry_id") for name in ("lost", "plain")]
    assert tables[0].equals(tables[1])


def test_answers_are_the_same(
    place: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from swclip.scale import locate

    die = _dies_once(tmp_path / "answering")

    class DyingAnswerer(locate.Answerer):
        def __call__(self, rows: pa.Table) -> pa.Table:
            if 32 in rows["number"].to_pylist():
                die()
            return super().__call__(rows)

    monkeypatch.setattr(locate, "Answerer", DyingAnswerer)
    monkeypatch.chdir(place)  # the names of photographs are relative to this folder, which is not that of the workers
    command = ["locate", "plain", "data", "--batch-size=4", "--near=53.8,-1.55", "--radius-m=300"]
    outputs = [[f"--out={tmp_path / name}.jsonl", f"--region-out={tmp_path / name}.geojson"] for name in ("one", "ray")]
    assert run([*command, *outputs[0]]) == 7
    expected = capsys.readouterr().err
    assert run([*command, *outputs[1], "--engine=ray"]) == 7
    assert capsys.readouterr().err.endswith(expected[expected.index("error:") :])
    for suffix in ("jsonl", "geojson"):
        assert (tmp_path / f"ray.{suffix}").read_bytes() == (tmp_path / f"one.{suffix}").read_bytes()
    assert len((tmp_path / "ray.jsonl").read_text().splitlines()) == 62
    assert (tmp_path / "answering").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["index", "model", "data", "--out=gallery", "--workers=2"], "--workers cannot be used with --engine ray"),
        (["locate", "plain", "data", "--together"], "--together cannot be used with --engine ray"),
        (["locate", "plain", "data", "--matches=figures"], "--matches cannot be used with --engine ray"),
    ],
)
def test_options_that_the_engine_does_not_use_are_refused(
    place: Path, options: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    assert run([*options, "--engine=ray"]) == 5
    assert message in capsys.readouterr().err


def test_a_missing_package_is_named(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from swclip.scale import cluster

    monkeypatch.chdir(place)
    command = ["index", "model", "data", "--out=gallery", "--engine=ray"]
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    assert run(command) == 9
    assert "pip install 'swclip[ray]'" in capsys.readouterr().err
    assert not (place / "gallery").exists()
