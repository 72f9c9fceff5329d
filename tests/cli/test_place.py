"""`swclip locate` with several photographs of one place, and with priors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixtures.processes import Command
from swclip.cli.app import run
from swclip.data.manifest import read_manifest
from swclip.errors import UnreadableError
from swclip.retrieval.locator import Locator

Start = Callable[..., Command]


def locate_json(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> list[dict[str, Any]]:
    assert run([*map(str, arguments)]) == 0
    answers: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return answers


def test_several_photographs_of_one_place_get_one_answer(made: Path, town: Path, start: Start) -> None:
    paths = [str(town / f"p03-{number}.jpg") for number in range(3)]
    process = start("locate", made / "gallery", *paths, "--together", "--in", "yORK", "--top-k", "20")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    (answer,) = json.loads(out)
    assert answer["photographs"] == paths
    assert len(answer["candidates"]) == 10
    assert {candidate["city"] for candidate in answer["candidates"]} == {"York"}
    assert sum(candidate["probability"] for candidate in answer["candidates"]) == pytest.approx(1.0)
    assert [item["photograph"] for item in answer["candidates"][0]["evidence"]] == paths
    assert answer["region"]["calibrated"] is False
    assert "coverage is not calibrated" in err


def test_unreadable_photograph_of_a_place_does_not_stop_the_others(made: Path, town: Path, start: Start) -> None:
    paths = [town / "p03-0.jpg", town / "splits.parquet", town / "p03-1.jpg"]
    process = start("locate", made / "gallery", *paths, "--together", "--format", "jsonl")
    out, err = process.communicate(timeout=300)
    assert process.returncode == UnreadableError.exit_code
    whole, broken = map(json.loads, out.splitlines())
    assert whole["photographs"] == [str(paths[0]), str(paths[2])]
    assert broken["photograph"] == str(paths[1])
    assert "not an image" in broken["error"]
    assert "1 of 3 photographs could not be read" in err
    assert "Traceback" not in err


def test_priors_by_area_city_and_rough_position(
    made: Path, town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = read_manifest(town).frame.drop_duplicates("place_id").reset_index(drop=True)
    lat, lon = places.loc[7, ["lat_deg", "lon_deg"]]
    ring = [[lon - 1e-3, lat - 1e-3], [lon + 1e-3, lat - 1e-3], [lon + 1e-3, lat + 1e-3], [lon - 1e-3, lat + 1e-3]]
    area = tmp_path / "area.geojson"
    area.write_text(json.dumps({"type": "Polygon", "coordinates": [[*ring, ring[0]]]}))
    photograph = town / "p15-0.jpg"
    locate = ("locate", made / "gallery", photograph, "--top-k", "20")
    (inside,) = locate_json(capsys, *locate, "--within", area)
    near = (places["lat_deg"] - lat).abs().le(1e-3) & (places["lon_deg"] - lon).abs().le(1e-3)
    assert len(inside["candidates"]) == near.sum() < 20
    (close,) = locate_json(capsys, *locate, "--near", f"{lat},{lon}", "--radius-m", "2")
    assert (close["lat_deg"], close["lon_deg"]) == pytest.approx((lat, lon), abs=1e-6)
    (both,) = locate_json(
        capsys, *locate, "--within", area, "--near", f"{lat}, {lon}", "--radius-m", "2", "--in", "Leeds"
    )
    assert (both["lat_deg"], both["lon_deg"]) == (close["lat_deg"], close["lon_deg"])
    assert {candidate["city"] for candidate in both["candidates"]} == {"Leeds"}
    (plain,) = locate_json(capsys, *locate)
    assert plain["photographs"] == []
    assert plain["candidates"][0]["evidence"] == []


def test_figure_shows_the_posterior_of_the_answer(
    made: Path, town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    posteriors: list[Any] = []
    original = Locator.posterior_of
    monkeypatch.setattr(Locator, "posterior_of", lambda *a, **b: posteriors.append(original(*a, **b)) or posteriors[-1])
    paths = [town / "p03-0.jpg", town / "p03-1.jpg"]
    (answer,) = locate_json(
        capsys, "locate", made / "gallery", *paths, "--together", "--in", "York", "--top-k", "20",
        "--figure", tmp_path / "a.png",
    )  # fmt: skip
    assert (tmp_path / "a.png").stat().st_size > 1000
    ids = Locator.from_gallery(made / "gallery").gallery.candidate_ids
    stated = {candidate["candidate_id"]: candidate["probability"] for candidate in answer["candidates"]}
    for name, probability in zip(ids, posteriors[0], strict=True):
        assert probability == pytest.approx(stated.get(name, 0.0), rel=1e-6)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--in", "Yrok"], 2, "'Yrok' is not a city of the gallery; it has York, Leeds."),
        (["--within", "AREA"], 2, "area.geojson: is not JSON"),
        (["--within", "nowhere.geojson"], 2, "nowhere.geojson: there is no such file"),
        (["--near", "53.8"], 5, "add --radius-m METRES"),
        (["--radius-m", "50"], 5, "add --near LAT,LON"),
        (["--near", "here", "--radius-m", "50"], 5, "--near 'here': must be LAT,LON"),
        (["--near", "-1.55,53.8", "--radius-m", "50"], 2, "latitude comes before longitude"),
        (["--near", "153.8,-1.55", "--radius-m", "50"], 5, "is not within -90 to 90"),
        (["--near", "53.8,-1.55", "--radius-m", "0"], 5, "give a distance above 0"),
    ],
)
def test_invalid_priors_are_refused(
    made: Path,
    town: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    code: int,
    message: str,
) -> None:
    area = tmp_path / "area.geojson"
    area.write_text("a letter")
    options = [str(area) if option == "AREA" else option for option in options]
    assert run(["locate", str(made / "gallery"), str(town / "p03-0.jpg"), *options]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
