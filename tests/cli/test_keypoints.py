"""Verification by keypoints on the command line: train, index, evaluate, locate.

The matcher is a tiny model of random weights, whose matches have no geometry. It is loaded and identified as any other;
its matches are replaced by those of a synthetic scene for photographs of one colour, which are of one place.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fixtures.models import two_views, write_keypoint_matcher
from swclip.calibration.posterior_config import read_posterior, write_posterior
from swclip.cli.app import run
from swclip.gallery.inspect import gallery_info
from swclip.gallery.store import GalleryStore
from swclip.hub.folder import write_model_folder
from swclip.models.keypoints import KeypointMatcher
from swclip.retrieval.locator import Locator

from .test_verify import answers

USAGE = 5


def matches(_matcher: KeypointMatcher, picture: Image.Image, other: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """Two views of a scene for photographs of a similar colour, random points otherwise."""
    apart = np.abs(np.asarray(picture).mean(axis=(0, 1)) - np.asarray(other).mean(axis=(0, 1))).max()
    if apart < 20.0:
        return two_views(60)
    first, second = np.random.default_rng(3).uniform([0.0, 0.0], [40.0, 40.0], (2, 20, 2))
    return first, second


@pytest.fixture(scope="module", autouse=True)
def _scenes() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KeypointMatcher, "match", matches)
        yield


@pytest.fixture(scope="module")
def matcher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_keypoint_matcher(tmp_path_factory.mktemp("matchers") / "tiny")


@pytest.fixture(scope="module")
def keypoints(town: Path, tiny: list[str], matcher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that verifies 3 candidates by keypoints, and its gallery."""
    folder = tmp_path_factory.mktemp("keypoints")
    flags = [f"--out={folder / 'run'}", "--steps=4", "--verify=2", f"--verify-with={matcher}"]
    assert run(["train", str(town), f"--splits={town / 'splits.parquet'}", *flags, *tiny]) == 0
    fitted = read_posterior(folder / "run")
    assert fitted is not None
    # Whether four steps gain by random weights is left to chance.
    if fitted.verified_candidates:
        assert (fitted.matcher, fitted.matcher_fingerprint) == (str(matcher), KeypointMatcher(str(matcher)).fingerprint)
    plain = replace(fitted.at("balanced"), image_weight=0.5, smoothing_m=0.0)
    whole = replace(
        plain,
        verified_candidates=3,
        verified_temperature=0.5,
        matcher=str(matcher),
        matcher_fingerprint=KeypointMatcher(str(matcher)).fingerprint,
        balanced=plain,
    )
    write_posterior(folder / "run" / "model", whole)
    assert read_posterior(folder / "run") == whole
    assert run(["index", str(folder / "run"), str(town), f"--out={folder / 'gallery'}"]) == 0
    return folder


@pytest.fixture(scope="module")
def photograph(town: Path) -> str:
    return str(min(town.glob("*.jpg")))


def test_answers_are_verified_where_the_photographs_are_at_hand(
    keypoints: Path,
    town: Path,
    photograph: str,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    gallery = str(keypoints / "gallery")
    assert gallery_info(GalleryStore.open(gallery)).patch_features == 0
    command, shown = ["locate", gallery, photograph], f"--gallery-photographs={town}"
    plain = answers([*command, "--verify=0"], capsys)
    verified = answers([*command, shown], capsys)
    assert verified != plain
    (expected,) = Locator.from_gallery(gallery, photographs=town).locate(photograph)
    (found,) = verified
    assert found["candidates"] == json.loads(json.dumps(expected.as_dict()["candidates"]))
    # Only the probabilities of the three best candidates change, and their sum remains.
    posteriors = [
        Locator.from_gallery(gallery, photographs=town, verify=count).posterior_of(photograph) for count in (0, None)
    ]
    changed = np.flatnonzero(posteriors[0] != posteriors[1])
    assert 2 <= len(changed) <= 3
    assert posteriors[0][changed].sum() == pytest.approx(posteriors[1][changed].sum())
    # A gallery that is searched on disk has the same verifier.
    on_disk = [answers([*command, "--search=disk", shown, verify], capsys) for verify in ("--verify=0", "--verify=3")]
    assert on_disk[0] != on_disk[1]
    # Without the photographs the answer is that of --verify 0, and says so; requesting more is an error.
    assert run(command) == 0
    assert json.loads(capsys.readouterr().out) == plain
    assert "--gallery-photographs" in caplog.text
    for options in (["--verify=3"], [f"--verify-with={read_posterior(keypoints / 'run').matcher}"]):  # type: ignore[union-attr]
        assert run([*command, *options]) == USAGE
        assert "--gallery-photographs" in " ".join(capsys.readouterr().err.split())


def test_an_evaluation_by_keypoints(keypoints: Path, matcher: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    moved.symlink_to(matcher)
    flags = ["--no-figures", f"--verify-with={moved}"]
    assert run(["evaluate", str(keypoints / "run"), f"--out={tmp_path / 'report'}", *flags]) == 0
    report: dict[str, Any] = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["posterior"]["matcher"] == str(matcher)
    assert report["posterior"]["verified_candidates"] == 3
    assert report["posterior"]["verification_ms"] > 0.0


def test_another_matcher_is_refused(
    keypoints: Path, town: Path, photograph: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_keypoint_matcher(tmp_path / "other", seed=1)
    shown = f"--gallery-photographs={town}"
    assert run(["locate", str(keypoints / "gallery"), photograph, shown, f"--verify-with={other}"]) != 0
    assert "not the keypoint matcher that the posterior was fitted with" in " ".join(capsys.readouterr().err.split())


def test_a_run_without_keypoints_needs_no_matcher(
    made: Path, town: Path, photograph: str, matcher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = [f"--gallery-photographs={town}", f"--verify-with={matcher}"]
    assert run(["locate", str(made / "gallery"), photograph, *shown]) == USAGE
    assert "not fitted with keypoints" in " ".join(capsys.readouterr().err.split())
    assert run(["evaluate", str(made / "run"), f"--out={tmp_path / 'r'}", f"--verify-with={matcher}"]) == USAGE
    assert "without keypoints" in " ".join(capsys.readouterr().err.split())


def test_a_matcher_that_cannot_be_used_is_refused_before_the_training(
    town: Path, tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", str(town), f"--splits={town / 'splits.parquet'}", f"--out={tmp_path / 'run'}", *tiny]
    assert run([*command, "--verify=2", f"--verify-with={tmp_path / 'missing'}"]) == USAGE
    assert "keypoint matcher" in capsys.readouterr().err
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    assert run([*command, f"--verify-with={tmp_path / 'missing'}"]) == USAGE
    assert "--verify 10" in " ".join(capsys.readouterr().err.split())


def test_a_published_model_names_its_matcher_without_the_path(keypoints: Path, matcher: Path, tmp_path: Path) -> None:
    write_model_folder(tmp_path / "model", keypoints / "run", "ada/leeds")
    published = read_posterior(tmp_path / "model")
    assert published is not None
    assert published.matcher == matcher.name
    assert published.matcher_fingerprint is not None
    assert str(matcher.parent) not in (tmp_path / "model" / "config.toml").read_text()
