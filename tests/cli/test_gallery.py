"""`swclip gallery` and `swclip index --grid` as they are typed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest

from swclip.cli.app import run
from swclip.data.manifest import read_manifest, write_manifest
from swclip.gallery.read_write import load_gallery
from swclip.gallery.store import GalleryStore


@pytest.fixture
def gallery(made: Path, tmp_path: Path) -> str:
    """A copy of the town's gallery: 60 photographs at 20 places."""
    shutil.copytree(made / "gallery", tmp_path / "gallery")
    return str(tmp_path / "gallery")


def _part(town: Path, folder: Path, rows: slice, **columns: object) -> Path:
    manifest = read_manifest(town)
    frame = manifest.frame.iloc[rows].assign(image_path=[str(path) for path in manifest.image_paths[rows]])
    folder.mkdir()
    write_manifest(folder, frame.assign(**columns))
    return folder


def test_info_says_what_is_there(gallery: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["gallery", "info", gallery, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["photographs"], found["candidates"]) == (60, 20)
    assert found["cities"] == {"Leeds": 10, "York": 10}
    assert found["accuracy_m"] == [5.0, 5.0]
    assert run(["gallery", "info", gallery]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "candidates in Leeds" in captured.err
    assert found["fingerprint"] in captured.err


def test_verify_says_what_is_wrong(gallery: str, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["gallery", "verify", gallery]) == 0
    assert "60 entries, all sound" in " ".join(capsys.readouterr().err.split())
    store = GalleryStore.open(gallery)
    store.table.update(where="image_id = 'p03-1'", values={"lat_deg": 53.9})
    shutil.rmtree(Path(gallery) / "model")
    shutil.copytree(made / "other" / "model", Path(gallery) / "model")
    assert run(["gallery", "verify", gallery]) == 3
    said = capsys.readouterr().err
    assert "1 entry differ in lat_deg from another entry of their candidate: photo/p03" in said
    assert "the model beside them is" in said


def test_append_goes_on_and_upsert_replaces(
    made: Path, town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = _part(town, tmp_path / "first", slice(0, 20))
    name = str(tmp_path / "gallery")
    assert run(["index", str(made / "run"), str(first), "--out", name]) == 0
    assert run(["gallery", "append", name, str(town), "--commit-rows", "16"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "40 put in, 20 there already, left as they are (version 4)" in said
    whole, grown = load_gallery(made / "gallery"), load_gallery(name)
    assert grown.image_ids == whole.image_ids
    np.testing.assert_array_equal(grown.positions_deg, whole.positions_deg)
    np.testing.assert_allclose(grown.image_embeddings, whole.image_embeddings, atol=1e-5)
    np.testing.assert_allclose(grown.location_embeddings, whole.location_embeddings, atol=1e-5)
    assert grown.cities == whole.cities
    assert run(["gallery", "append", name, str(town)]) == 0
    assert "60 there already" in " ".join(capsys.readouterr().err.split())
    renewed = _part(town, tmp_path / "renewed", slice(0, 3), licence="CC0", weather="rain", city="Hull")
    assert run(["gallery", "upsert", name, str(renewed)]) == 0
    assert "3 replaced" in capsys.readouterr().err
    rows = GalleryStore.open(name).read(["image_id", "licence", "extra", "city"]).to_pylist()
    assert sum(row["licence"] == "CC0" for row in rows) == 3
    assert {row["extra"] for row in rows if row["licence"] == "CC0"} == {'{"weather": "rain"}'}
    assert {row["city"] for row in rows if row["licence"] == "CC0"} == {"Hull"}  # all three of the place are renewed
    assert run(["gallery", "verify", name]) == 0


def test_photographs_of_another_model_are_refused(
    gallery: str, made: Path, town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["gallery", "append", gallery, str(town), "--model", str(made / "other")]) == 4
    assert "was made by model" in capsys.readouterr().err
    assert run(["index", str(made / "other"), str(town), "--out", str(tmp_path / "b")]) == 0
    assert run(["gallery", "merge", gallery, str(tmp_path / "b"), "--both", "ours"]) == 4
    assert "swclip gallery append" in capsys.readouterr().err


def test_a_photograph_that_cannot_be_read_is_named(
    gallery: str, town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = _part(town, tmp_path / "more", slice(0, 2), image_id=["good", "bad"])
    broken = tmp_path / "broken.jpg"
    broken.write_text("no picture")
    frame = read_manifest(more).frame.assign(image_path=[str(town / "p00-0.jpg"), str(broken)])
    write_manifest(more, frame)
    assert run(["gallery", "append", gallery, str(more)]) == 2
    said = capsys.readouterr().err
    assert "1 put in" in said
    assert "broken.jpg: is not an image" in said
    assert load_gallery(gallery).image_ids.count("good") == 1


def test_filter_delete_merge_export_compact(gallery: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    york, points = str(tmp_path / "york"), tmp_path / "points.parquet"
    assert run(["gallery", "filter", gallery, "--out", york, "--city", "York"]) == 0
    assert run(["gallery", "delete", gallery, "--city", "York"]) == 0
    assert len(load_gallery(york)) == len(load_gallery(gallery)) == 10
    assert run(["gallery", "merge", gallery, york]) == 0
    assert run(["gallery", "verify", gallery]) == 0
    assert len(load_gallery(gallery).image_ids) == 60
    lat, lon = load_gallery(gallery).positions_deg[0]
    near = [f"--near={lat},{lon}", "--radius-m", "1"]
    assert run(["gallery", "export", gallery, "--out", str(points), *near]) == 0
    assert len(geopandas.read_parquet(points)) == 3
    assert run(["gallery", "delete", gallery, "--image-id", "p00-0", "--image-id", "p01-0"]) == 0
    assert len(load_gallery(gallery).image_ids) == 58
    assert run(["gallery", "compact", gallery, "--keep-days", "0"]) == 0
    assert len(GalleryStore.open(gallery).versions()) == 1
    assert len(load_gallery(gallery).image_ids) == 58
    capsys.readouterr()
    for command, code, said in (
        (["delete", gallery], 5, "say which entries"),
        (["delete", gallery, "--image-id", "nobody"], 2, "'nobody' is not there"),
        (["delete", gallery, "--near", "1"], 5, "go together"),
        (["delete", gallery, "--near", "here", "--radius-m", "5"], 5, "LAT,LON"),
        (["delete", gallery, "--since", "yesterday"], 5, "no date"),
        (["filter", gallery, "--out", york + "2", "--source", "nobody"], 2, "no entry meets"),
        (["filter", gallery, "--out", str(tmp_path)], 2, "is not replaced"),
        (["info", str(tmp_path)], 3, "no gallery is there"),
        (["compact", gallery, "--keep-days", "-1"], 5, "0 or more"),
    ):
        assert run(["gallery", *command]) == code, command
        assert said in capsys.readouterr().err


def test_thumbnails_are_kept_without_exif(
    made: Path, town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = str(tmp_path / "gallery")
    first = _part(town, tmp_path / "first", slice(0, 6))
    assert run(["index", str(made / "run"), str(first), "--out", name, "--thumbnails", "20"]) == 0
    assert run(["gallery", "append", name, str(_part(town, tmp_path / "more", slice(6, 9)))]) == 0
    store = GalleryStore.open(name)
    assert len(store.with_thumbnail()) == 9  # what is appended gets them as well
    data = store.thumbnail("p00-0")
    assert data is not None
    assert data[:3] == b"\xff\xd8\xff"
    assert run(["index", str(made / "run"), str(first), "--out", name, "--thumbnails", "2"]) == 5


def test_a_grid_over_an_area_needs_no_photograph(
    made: Path, town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    low, high = read_manifest(town).positions_deg.min(axis=0), read_manifest(town).positions_deg.max(axis=0)
    ring = [[low[1], low[0]], [high[1], low[0]], [high[1], high[0]], [low[1], high[0]], [low[1], low[0]]]
    area, name = tmp_path / "area.geojson", str(tmp_path / "grid")
    area.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    asked = ["index", str(made / "run"), "--grid", str(area), "--spacing-m", "20", "--out", name]
    assert run(asked) == 0
    gallery = load_gallery(name)
    assert len(gallery) > 100
    assert gallery.image_ids == []
    assert gallery.meta["grid"]["spacing_m"] == 20.0
    assert run(["gallery", "verify", name]) == 0
    capsys.readouterr()
    assert run(["locate", name, str(town / "p00-0.jpg")]) == 0
    assert json.loads(capsys.readouterr().out)[0]["candidates"][0]["candidate_id"].startswith("at+53.")
    assert run(["gallery", "append", name, str(town)]) == 0
    assert len(load_gallery(name)) == len(gallery) + 20
    assert run(["index", str(made / "run"), str(town), "--grid", "cities", "--spacing-m", "50", "--out", name]) == 0
    assert len(load_gallery(name)) > 20
    capsys.readouterr()
    for wrong, said in (
        (["index", str(made / "run"), "--out", "x"], "say what the gallery is made of"),
        (["index", str(made / "run"), "--grid", str(area), "--out", "x"], "go together"),
        (
            ["index", str(made / "run"), "--grid", "cities", "--spacing-m", "9", "--out", "x"],
            "the cities of a manifest",
        ),
        ([*asked[:2], str(town), *asked[2:]], "leave the manifest out"),
    ):
        assert run(wrong) == 5
        assert said in capsys.readouterr().err


def test_ctrl_c_leaves_what_was_committed_and_the_same_command_goes_on(made: Path, town: Path, tmp_path: Path) -> None:
    name = str(tmp_path / "gallery")
    assert run(["index", str(made / "run"), str(_part(town, tmp_path / "first", slice(0, 4))), "--out", name]) == 0
    command = [sys.executable, "-m", "swclip", "gallery", "append", name, str(town), "--commit-rows", "1", "--no-cache"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ.copy())
    store = GalleryStore.open(name)
    while store.count() < 8:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said = process.communicate()[1]
    assert process.returncode == 130
    assert "the same command goes on" in said
    assert 8 <= store.count() < 60
    assert run(["gallery", "verify", name]) == 0
    assert run(["gallery", "append", name, str(town)]) == 0
    assert store.count() == 60
    assert load_gallery(name).image_ids == load_gallery(made / "gallery").image_ids


def test_help_needs_no_torch() -> None:
    code = (
        "import sys\nfrom swclip.cli.app import run\n"
        "try:\n    run(['gallery', '--help'])\nexcept SystemExit:\n    pass\n"
        "assert not {'torch', 'lancedb', 'pandas'} & set(sys.modules), sorted(sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert "upsert" in found.stdout


def test_a_table_opens_as_pandas(gallery: str) -> None:
    import lancedb

    frame = lancedb.connect(gallery).open_table("entries").to_pandas()
    assert isinstance(frame, pd.DataFrame)
    assert frame["image_id"].nunique() == 60


def test_a_gallery_at_a_url_answers(made: Path, town: Path, bucket: object, capsys: pytest.CaptureFixture[str]) -> None:
    name = "s3://bucket/galleries/town"
    asked = ["index", str(made / "run"), str(town), "--splits", str(town / "splits.parquet"), "--out", name]
    assert run(asked) == 0
    assert run(["gallery", "append", name, str(town), "--commit-rows", "8"]) == 0
    assert run(["gallery", "verify", name]) == 0
    np.testing.assert_allclose(
        load_gallery(name).image_embeddings, load_gallery(made / "gallery").image_embeddings, atol=1e-5
    )
    capsys.readouterr()
    assert run(["locate", name, str(town / "p00-0.jpg"), "--top-k", "3"]) == 0
    ours = json.loads(capsys.readouterr().out)[0]
    assert run(["locate", str(made / "gallery"), str(town / "p00-0.jpg"), "--top-k", "3"]) == 0
    theirs = json.loads(capsys.readouterr().out)[0]
    assert [one["image_ids"] for one in ours["candidates"]] == [one["image_ids"] for one in theirs["candidates"]]
    assert ours["lat_deg"] == pytest.approx(theirs["lat_deg"], abs=1e-4)
    assert run(asked) == 2
    assert "a gallery is there" in capsys.readouterr().err


def test_an_indexed_gallery_answers_from_disk_as_from_memory(
    gallery: str, town: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    photograph = str(town / "p03-0.jpg")
    assert run(["locate", gallery, photograph, "--search", "disk"]) == 0
    assert "has no index" in caplog.text
    caplog.clear()
    capsys.readouterr()
    assert run(["gallery", "build-index", gallery, "--queries", "20"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "location_embedding: IVF_RQ over 60 entries" in said
    assert "Recall against an exact search, 20 queries" in said
    assert "recall@10" in said
    found = {}
    for search in ("disk", "memory", "auto"):
        assert run(["locate", gallery, photograph, "--search", search]) == 0
        found[search] = json.loads(capsys.readouterr().out)[0]
    assert found["auto"] == found["memory"]
    disk, memory = found["disk"], found["memory"]
    assert (disk["lat_deg"], disk["lon_deg"]) == (memory["lat_deg"], memory["lon_deg"])
    assert [one["candidate_id"] for one in disk["candidates"]] == [one["candidate_id"] for one in memory["candidates"]]
    assert disk["probability_within_50m"] == pytest.approx(memory["probability_within_50m"], abs=1e-4)
    for name in ("image_ids", "image_similarities", "location_similarity"):
        assert disk["candidates"][0][name] == pytest.approx(memory["candidates"][0][name], abs=1e-6)
    assert disk["left_out_at_most"] is None
    assert disk["region"] is None
    assert "has no index" not in caplog.text
    assert "answers state no regions: this gallery is searched on disk" in caplog.text
    assert run(["gallery", "info", gallery, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["indices"]["image_embedding"] == "IVF_RQ over 60 entries, 0 since"
    for more in (["--in", "Leeds"], ["--figure", "a.png"]):
        assert run(["locate", gallery, photograph, "--search", "disk", *more]) == 5
        assert "searched on disk" in capsys.readouterr().err
    assert run(["gallery", "build-index", gallery, "--queries", "-1"]) == 5


def test_a_gallery_that_is_too_large_for_memory_is_searched_on_disk(
    gallery: str, town: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swclip.retrieval.shortlist_search.MAX_MEMORY_BYTES", 100)
    assert run(["locate", gallery, str(town / "p03-0.jpg")]) == 0
    assert json.loads(capsys.readouterr().out)[0]["left_out_at_most"] is None
    assert run(["locate", gallery, str(town / "p03-0.jpg"), "--search", "memory"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["left_out_at_most"] == 0.0
