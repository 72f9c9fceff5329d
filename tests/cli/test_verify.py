"""Verification on the command line: train, index, evaluate, locate with figures of the matches."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swclip.answers.record import RankedCandidate
from swclip.calibration.posterior_config import read_posterior, write_posterior
from swclip.cli.app import run
from swclip.cli.locate_matches import _title
from swclip.gallery.inspect import gallery_info
from swclip.gallery.store import GalleryStore
from swclip.models.patch_matching import PatchMatches
from swclip.reporting.answer_figure import MatchedPhotograph, write_match_figure

USAGE, UNREADABLE = 5, 7


@pytest.fixture(scope="module")
def verified(town: Path, tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run whose posterior verifies 5 candidates, and its gallery with thumbnails."""
    folder = tmp_path_factory.mktemp("verified")
    splits = f"--splits={town / 'splits.parquet'}"
    flags = [f"--out={folder / 'run'}", "--steps=4", "--verify=5", "--set=verification.dimensions=6"]
    assert run(["train", str(town), splits, *flags, *tiny]) == 0
    fitted = read_posterior(folder / "run")
    assert fitted is not None
    # Whether four steps gain by it is left to chance.
    plain = replace(fitted.at("balanced"), image_weight=0.5)
    whole = replace(plain, verified_candidates=5, verified_temperature=0.01, balanced=plain)
    write_posterior(folder / "run" / "model", whole)
    assert run(["index", str(folder / "run"), str(town), f"--out={folder / 'gallery'}", "--thumbnails=64"]) == 0
    return folder


def answers(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    capsys.readouterr()
    assert run(arguments) == 0
    listed: list[dict[str, object]] = json.loads(capsys.readouterr().out)
    return listed


def test_a_run_that_verifies_has_galleries_with_patch_features(
    verified: Path, town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    info = gallery_info(GalleryStore.open(verified / "gallery"))
    assert info.patch_features == info.photographs > 0
    assert run(["gallery", "info", str(verified / "gallery")]) == 0
    assert f"{info.photographs:,} photographs, 0.0 kB each" in capsys.readouterr().err
    assert run(["index", str(verified / "run"), str(town), f"--out={tmp_path / 'plain'}", "--no-patch-features"]) == 0
    assert gallery_info(GalleryStore.open(tmp_path / "plain")).patch_features == 0
    photograph = str(next(iter(sorted(town.glob("*.jpg")))))
    # Without patch features the answer is that of --verify 0; requesting it is an error that says what to do.
    without = answers(["locate", str(tmp_path / "plain"), photograph, "--region=0.8"], capsys)
    assert without == answers(["locate", str(verified / "gallery"), photograph, "--verify=0"], capsys)
    assert without != answers(["locate", str(verified / "gallery"), photograph], capsys)
    for option in ("--verify=5", "--matches=figures"):
        assert run(["locate", str(tmp_path / "plain"), photograph, option]) != 0
        message = " ".join(capsys.readouterr().err.split())
        assert "--patch-features" in message or "--gallery-photographs" in message


def test_matches_are_drawn_beside_the_answers(
    verified: Path, town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = sorted(town.glob("*.jpg"))[:2]
    broken = tmp_path / "broken.jpg"
    broken.write_text("a letter")
    command = ["locate", str(verified / "gallery"), str(first), str(broken), str(second)]
    assert run([*command, f"--matches={tmp_path / 'figures'}"]) == UNREADABLE
    drawn = sorted((tmp_path / "figures").iterdir())
    assert [path.name for path in drawn] == [f"1-{first.stem}.png", f"3-{second.stem}.png"]
    with Image.open(drawn[0]) as picture:
        # Three candidates below each other, each beside the query.
        assert picture.height > 1.3 * picture.width
    from_manifest = tmp_path / "sharp"
    shown = [f"--matches={from_manifest}", f"--gallery-photographs={town}"]
    assert run(["locate", str(verified / "gallery"), str(first), *shown]) == 0
    assert [path.name for path in from_manifest.iterdir()] == [f"{first.stem}.png"]


def test_an_evaluation_states_the_time_of_verification(verified: Path, tmp_path: Path) -> None:
    assert run(["evaluate", str(verified / "run"), f"--out={tmp_path / 'best'}", "--no-figures"]) == 0
    report = json.loads((tmp_path / "best" / "report.json").read_text())
    assert report["posterior"]["verified_candidates"] == 5
    assert report["posterior"]["verification_ms"] > 0.0
    assert run(["evaluate", str(verified / "run"), f"--out={tmp_path / 'plain'}", "--no-figures", "--verify=0"]) == 0
    report = json.loads((tmp_path / "plain" / "report.json").read_text())
    assert "verification_ms" not in report["posterior"]
    assert "verified_candidates" not in report["posterior"]


def test_a_run_without_verification_says_how_to_get_it(
    made: Path, town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photograph = str(next(iter(sorted(town.glob("*.jpg")))))
    assert run(["locate", str(made / "gallery"), photograph, "--verify=5"]) == USAGE
    assert "--verify 20" in " ".join(capsys.readouterr().err.split())
    assert run(["index", str(made / "run"), str(town), f"--out={tmp_path / 'g'}", "--patch-features"]) != 0
    assert "--verify 20" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "g").exists()


def test_photographs_of_a_figure_of_matches_are_credited(tmp_path: Path) -> None:
    one = np.array([[0, 0]])
    matches = PatchMatches(one, one, np.ones(1, np.float32), (2, 2), (2, 2), 1)
    candidate = RankedCandidate(
        candidate_id="c", lat_deg=53.8, lon_deg=-1.55, probability=0.5, distance_m=3.0, city=None,
        image_ids=("a", "b", "c"), image_licences=("CC-BY-4.0", "CC-BY-SA-4.0", None),
        image_authors=(None, "Ada $x $", None), image_source_urls=(None, None, "https://example.org"),
    )  # fmt: skip
    titles = [_title(1, candidate, name, matches) for name in "abc"]
    assert titles[0].endswith("1 matching patch\nPhotograph: CC-BY-4.0")
    assert titles[1].endswith("1 matching patch\nPhotograph: Ada $x $, CC-BY-SA-4.0")
    assert titles[2].endswith("1 matching patch")
    picture = Image.new("RGB", (64, 48), (90, 120, 150))
    rows = [MatchedPhotograph(picture, title, matches) for title in titles]
    write_match_figure(tmp_path / "figure.png", picture, "query $x.jpg", rows)
    assert (tmp_path / "figure.png").stat().st_size > 5_000
