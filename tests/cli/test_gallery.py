"""`swclip gallery` and `swclip index --grid`."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
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


def test_info_shows_the_contents(gallery: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["gallery", "info", gallery, "--format", "json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert (info["photographs"], info["candidates"]) == (60, 20)
    assert info["cities"] == {"Leeds": 10, "York": 10}
    assert info["accuracy_m"] == [5.0, 5.0]
    assert run(["gallery", "info", gallery]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "candidates in Leeds" in captured.err
    assert info["fingerprint"] in captured.err


def test_verify_reports_faults(gallery: str, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["gallery", "verify", gallery]) == 0
    assert "60 entries, no faults" in " ".join(capsys.readouterr().err.split())
    store = GalleryStore.open(gallery)
    store.table.update(where="image_id = 'p03-1'", values={"lat_deg": 53.9})
    shutil.rmtree(Path(gallery) / "model")
    shutil.copytree(made / "other" / "model", Path(gallery) / "model")
    assert run(["gallery", "verify", gallery]) == 3
    output = capsys.readouterr().err
    assert "1 entry differ in lat_deg from another entry of their candidate: photo/p03" in output
    assert "the gallery's model is" in output


def test_append_skips_and_upsert_replaces_existing_photographs(
    made: Path, town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = _part(town, tmp_path / "first", slice(0, 20))
    name = str(tmp_path / "gallery")
    assert run(["index", str(made / "run"), str(first), "--out", name]) == 0
    assert run(["gallery", "append", name, str(town), "--commit-rows", "16"]) == 0
    output = " ".join(capsys.readouterr().err.split())
    assert "40 added, 20 already present and skipped (version 4)" in output
    whole, grown = load_gallery(made / "gallery"), load_gallery(name)
    assert grown.image_ids == whole.image_ids
    np.testing.assert_array_equal(grown.positions_deg, whole.positions_deg)
    np.testing.assert_allclose(grown.image_embeddings, whole.image_embeddings, atol=1e-5)
    np.testing.assert_allclose(grown.location_embeddings, whole.location_embeddings, atol=1e-5)
    assert grown.cities == whole.cities
    assert run(["gallery", "append", name, str(town)]) == 0
    assert "60 already present" in " ".join(capsys.readouterr().err.split())
    renewed = _part(town, tmp_path / "renewed", slice(0, 3), licence="CC0", weather="rain", city="Hull")
    assert run(["gallery", "upsert", name, str(renewed)]) == 0
    assert "3 replaced" in capsys.readouterr().err
    rows = GalleryStore.open(name).read(["image_id", "licence", "extra", "city"]).to_pylist()
    assert sum(row["licence"] == "CC0" for row in rows) == 3
    assert {row["extra"] for row in rows if row["licence"] == "CC0"} == {'{"weather": "rain"}'}
    assert {row["city"] for row in rows if row["licence"] == "CC0"} == {"Hull"}  # all of the place
    assert run(["gallery", "verify", name]) == 0


def test_galleries_of_another_model_are_refused(
    gallery: str, made: Path, town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["gallery", "append", gallery, str(town), "--model", str(made / "other")]) == 4
    assert "was made by model" in capsys.readouterr().err
    assert run(["index", str(made / "other"), str(town), "--out", str(tmp_path / "b")]) == 0
    assert run(["gallery", "merge", gallery, str(tmp_path / "b"), "--both", "ours"]) == 4
    assert "swclip gallery append" in capsys.readouterr().err


def test_unreadable_photograph_is_reported(
    gallery: str, town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = _part(town, tmp_path / "more", slice(0, 2), image_id=["good", "bad"])
    broken = tmp_path / "broken.jpg"
    broken.write_text("no picture")
    frame = read_manifest(more).frame.assign(image_path=[str(town / "p00-0.jpg"), str(broken)])
    write_manifest(more, frame)
    assert run(["gallery", "append", gallery, str(more)]) == 7
    output = capsys.readouterr().err
    assert "1 added" in output
    assert "broken.jpg: is not an image" in output
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
    for command, code, message in (
        (["delete", gallery], 5, "name the entries to delete"),
        (["delete", gallery, "--image-id", "nobody"], 2, "'nobody' is not in the gallery"),
        (["delete", gallery, "--near", "1"], 5, "must be used together"),
        (["delete", gallery, "--near", "here", "--radius-m", "5"], 5, "LAT,LON"),
        (["delete", gallery, "--since", "yesterday"], 5, "must be a date"),
        (["filter", gallery, "--out", york + "2", "--source", "nobody"], 2, "no entry meets"),
        (["filter", gallery, "--out", str(tmp_path)], 2, "is not replaced"),
        (["info", str(tmp_path)], 3, "is not a gallery"),
        (["compact", gallery, "--keep-days", "-1"], 5, "0 or more"),
    ):
        assert run(["gallery", *command]) == code, command
        assert message in capsys.readouterr().err


def test_thumbnails_are_stored_and_appended(
    made: Path, town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = str(tmp_path / "gallery")
    first = _part(town, tmp_path / "first", slice(0, 6))
    assert run(["index", str(made / "run"), str(first), "--out", name, "--thumbnails", "20"]) == 0
    assert run(["gallery", "append", name, str(_part(town, tmp_path / "more", slice(6, 9)))]) == 0
    store = GalleryStore.open(name)
    assert len(store.with_thumbnail()) == 9  # appended photographs get thumbnails too
    data = store.thumbnail("p00-0")
    assert data is not None
    assert data[:3] == b"\xff\xd8\xff"
    assert run(["index", str(made / "run"), str(first), "--out", name, "--thumbnails", "2"]) == 5


def test_gallery_of_a_grid_needs_no_photographs(
    made: Path, town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    low, high = read_manifest(town).positions_deg.min(axis=0), read_manifest(town).positions_deg.max(axis=0)
    ring = [[low[1], low[0]], [high[1], low[0]], [high[1], high[0]], [low[1], high[0]], [low[1], low[0]]]
    area, name = tmp_path / "area.geojson", str(tmp_path / "grid")
    area.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    command = ["index", str(made / "run"), "--grid", str(area), "--spacing-m", "20", "--out", name]
    assert run(command) == 0
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
    for arguments, message in (
        (["index", str(made / "run"), "--out", "x"], "give the source of the candidates"),
        (["index", str(made / "run"), "--grid", str(area), "--out", "x"], "go together"),
        (
            ["index", str(made / "run"), "--grid", "cities", "--spacing-m", "9", "--out", "x"],
            "the cities of a manifest",
        ),
        ([*command[:2], str(town), *command[2:]], "leave the manifest out"),
    ):
        assert run(arguments) == 5
        assert message in capsys.readouterr().err


# `swclip gallery append` that waits for a signal between its second and its third commit.
APPEND = """
import sys, time
from swclip.cli import app
from swclip.gallery.store import GalleryStore

append, commits = GalleryStore.append, []
def waiting(*arguments):
    if len(commits) == 2:
        print("waiting", flush=True)
        while True:
            time.sleep(1)
    commits.append(append(*arguments))
    return commits[-1]
GalleryStore.append = waiting
app.main(sys.argv[1:])
"""


@pytest.mark.slow
def test_append_resumes_after_ctrl_c(made: Path, town: Path, tmp_path: Path) -> None:
    first, name = str(_part(town, tmp_path / "first", slice(0, 4))), str(tmp_path / "gallery")
    assert run(["index", str(made / "run"), first, "--out", name]) == 0
    command = [sys.executable, "-c", APPEND, "gallery", "append", name, str(town), "--commit-rows", "1", "--no-cache"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        output = process.communicate()[1]
    assert process.returncode == 130
    assert "run the same command again to resume" in output
    store = GalleryStore.open(name)
    assert store.count() == 6
    assert run(["gallery", "verify", name]) == 0
    assert run(["gallery", "append", name, str(town)]) == 0
    assert store.count() == 60
    assert load_gallery(name).image_ids == load_gallery(made / "gallery").image_ids


def test_help_does_not_import_torch() -> None:
    code = (
        "import sys\nfrom swclip.cli.app import run\n"
        "try:\n    run(['gallery', '--help'])\nexcept SystemExit:\n    pass\n"
        "assert not {'torch', 'lancedb', 'pandas'} & set(sys.modules), sorted(sys.modules)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert "upsert" in process.stdout


def test_lance_table_opens_as_pandas(gallery: str) -> None:
    import lancedb

    frame = lancedb.connect(gallery).open_table("entries").to_pandas()
    assert isinstance(frame, pd.DataFrame)
    assert frame["image_id"].nunique() == 60


def test_gallery_at_a_url_can_be_built_changed_and_used(
    made: Path, town: Path, bucket: object, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "s3://bucket/galleries/town"
    command = ["index", str(made / "run"), str(town), "--splits", str(town / "splits.parquet"), "--out", name]
    assert run(command) == 0
    assert run(["gallery", "append", name, str(town), "--commit-rows", "8"]) == 0
    assert run(["gallery", "verify", name]) == 0
    np.testing.assert_allclose(
        load_gallery(name).image_embeddings, load_gallery(made / "gallery").image_embeddings, atol=1e-5
    )
    capsys.readouterr()
    assert run(["locate", name, str(town / "p00-0.jpg"), "--top-k", "3"]) == 0
    remote = json.loads(capsys.readouterr().out)[0]
    assert run(["locate", str(made / "gallery"), str(town / "p00-0.jpg"), "--top-k", "3"]) == 0
    local = json.loads(capsys.readouterr().out)[0]
    assert [c["image_ids"] for c in remote["candidates"]] == [c["image_ids"] for c in local["candidates"]]
    assert remote["lat_deg"] == pytest.approx(local["lat_deg"], abs=1e-4)
    assert run(command) == 2
    assert "a gallery exists" in capsys.readouterr().err


def test_search_on_disk_gives_the_answers_of_search_in_memory(
    gallery: str, town: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    photograph = str(town / "p03-0.jpg")
    assert run(["locate", gallery, photograph, "--search", "disk"]) == 0
    assert "has no index" in caplog.text
    caplog.clear()
    from lancedb.index import IvfFlat

    table = GalleryStore.open(gallery).table
    table.create_index("location_embedding", config=IvfFlat(distance_type="dot", num_partitions=1))
    assert run(["locate", gallery, photograph, "--search", "disk"]) == 0
    assert "has an index of an earlier swclip, which is no longer used" in caplog.text
    caplog.clear()
    capsys.readouterr()
    assert run(["gallery", "build-index", gallery, "--queries", "20"]) == 0
    output = " ".join(capsys.readouterr().err.split())
    assert "location_embedding: an index of 60 embeddings, 60 of them new" in output
    assert not GalleryStore.open(gallery).table.list_indices()
    assert "Recall against an exact search, 20 queries" in output
    assert "recall@10" in output
    answers = {}
    for search in ("disk", "memory", "auto"):
        assert run(["locate", gallery, photograph, "--search", search]) == 0
        answers[search] = json.loads(capsys.readouterr().out)[0]
    assert answers["auto"] == answers["memory"]
    disk, memory = answers["disk"], answers["memory"]
    assert (disk["lat_deg"], disk["lon_deg"]) == (memory["lat_deg"], memory["lon_deg"])
    assert [c["candidate_id"] for c in disk["candidates"]] == [c["candidate_id"] for c in memory["candidates"]]
    assert disk["probability_within_50m"] == pytest.approx(memory["probability_within_50m"], abs=1e-4)
    for name in ("image_ids", "image_similarities", "location_similarity"):
        assert disk["candidates"][0][name] == pytest.approx(memory["candidates"][0][name], abs=1e-6)
    assert disk["left_out_at_most"] is None
    assert disk["region"] is None
    assert "has no index" not in caplog.text
    assert "answers state no regions: this gallery is searched on disk" in caplog.text
    assert run(["gallery", "info", gallery, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["indices"]["image_embedding"] == "60 embeddings, 0 since"
    for more in (["--in", "Leeds"], ["--figure", "a.png"]):
        assert run(["locate", gallery, photograph, "--search", "disk", *more]) == 5
        assert "searched on disk" in capsys.readouterr().err
    assert run(["gallery", "build-index", gallery, "--queries", "-1"]) == 5


def test_large_gallery_is_searched_on_disk(
    gallery: str, town: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swclip.retrieval.search.MAX_MEMORY_BYTES", 100)
    assert run(["locate", gallery, str(town / "p03-0.jpg")]) == 0
    assert json.loads(capsys.readouterr().out)[0]["left_out_at_most"] is None
    assert run(["locate", gallery, str(town / "p03-0.jpg"), "--search", "memory"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["left_out_at_most"] == 0.0


def test_attribution_goes_from_a_table_to_answers_and_credits(
    made: Path, town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = read_manifest(town).frame[:6]
    table = frame[["image_path", "lat_deg", "lon_deg"]].assign(
        license=["CC-BY-SA-4.0"] * 5 + [""], Photographer=["Ada"] * 3 + ["Bo", "", ""], copyright="2021",
        permalink=[f"https://example.org/{i}" for i in range(6)],
    )  # fmt: skip
    table.to_csv(town / "credited.csv", index=False)
    data, gallery = str(tmp_path / "data"), str(tmp_path / "gallery")
    assert run(["prepare", str(town / "credited.csv"), "--out", data]) == 0
    written = read_manifest(data).frame
    assert written["author"].tolist() == ["Ada"] * 3 + ["Bo", None, None]
    assert written["source_url"].tolist() == table["permalink"].tolist()
    assert run(["index", str(made / "run"), data, "--out", gallery]) == 0
    capsys.readouterr()
    credits = []
    for source in (data, gallery):
        assert run(["attribution", source, "--format", "json"]) == 0
        credits.append(json.loads(capsys.readouterr().out))
    assert credits[0]["credits"] == credits[1]["credits"]
    assert (credits[0]["photographs"], credits[0]["without_licence"], credits[0]["without_author"]) == (6, 1, 2)
    assert run(["attribution", gallery]) == 0
    assert "1 photograph states no licence" in capsys.readouterr().out
    assert run(["attribution", gallery, "--out", str(tmp_path / "credits.html")]) == 0
    assert "https://example.org/5" in (tmp_path / "credits.html").read_text()
    assert run(["gallery", "info", gallery]) == 0
    assert "photographs under CC-BY-SA-4.0" in capsys.readouterr().err
    photograph = str(town / "p00-0.jpg")
    assert run(["locate", gallery, photograph]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    first = answer["candidates"][0]
    by_id = written.set_index("image_id")
    for name in ("licence", "author", "source_url"):
        expected = [None if pd.isna(value) else value for value in by_id[name][first["image_ids"]]]
        assert first[f"image_{name}s"] == expected
    for kind, words in (("csv", "https://example.org/"), ("geojson", "CC-BY-SA-4.0")):
        assert run(["locate", gallery, photograph, "--format", kind]) == 0
        assert words in capsys.readouterr().out
    assert run(["locate", gallery, photograph, "--out", str(tmp_path / "answers.parquet")]) == 0
    (row,) = geopandas.read_parquet(tmp_path / "answers.parquet")["candidates"]
    assert list(row[0]["image_source_urls"]) == first["image_source_urls"]
