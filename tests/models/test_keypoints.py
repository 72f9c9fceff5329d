"""Keypoint matchers: geometric inliers of synthetic scenes, and tiny models of transformers' own classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fixtures.models import two_views, write_keypoint_matcher
from swclip.errors import ConfigError
from swclip.models.keypoints import KeypointMatcher, KeypointVerifier, inliers


@pytest.mark.parametrize("wrong", [0, 20, 40])
def test_inliers_are_the_matches_of_one_scene(wrong: int) -> None:
    first, second = two_views(100)
    noise = np.random.default_rng(1)
    second = second + noise.normal(0.0, 0.5, second.shape)
    second[:wrong] = noise.uniform([0.0, 0.0], [640.0, 480.0], (wrong, 2))
    mask = inliers(first, second)
    assert mask[wrong:].mean() > 0.95
    assert mask[:wrong].sum() <= 0.2 * wrong
    np.testing.assert_array_equal(mask, inliers(first, second))


def test_random_matches_and_few_matches_have_few_inliers() -> None:
    noise = np.random.default_rng(2)
    first, second = noise.uniform([0.0, 0.0], [640.0, 480.0], (2, 100, 2))
    assert inliers(first, second).sum() < 25
    first, second = two_views(7)
    assert not inliers(first, second).any()


@pytest.fixture(scope="module", params=["lightglue", "efficientloftr"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_keypoint_matcher(tmp_path_factory.mktemp(request.param), request.param)


def picture(seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC)


def test_a_saved_model_matches_points_within_both_pictures(folder: Path) -> None:
    matcher = KeypointMatcher(str(folder))
    first, second = picture(0), picture(0).crop((20, 10, 320, 240))
    points, others = matcher.match(first, second)
    assert points.shape == others.shape == (len(points), 2)
    assert ((points >= 0) & (points < first.size)).all()
    assert ((others >= 0) & (others < second.size)).all()
    again = matcher.match(first, second)
    np.testing.assert_array_equal(points, again[0])
    np.testing.assert_array_equal(others, again[1])
    assert matcher.fingerprint == KeypointMatcher(str(folder)).fingerprint


def test_the_verifier_counts_inliers_of_the_photographs_that_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = {}
    for number in range(3):
        paths[f"i{number}"] = tmp_path / f"{number}.png"
        picture(number).save(paths[f"i{number}"])
    paths["broken"] = tmp_path / "broken.png"
    paths["broken"].write_text("a letter")

    class Scenes:
        """Two views of a scene for a photograph and itself, random points otherwise."""

        def match(self, one: Image.Image, other: Image.Image) -> tuple[np.ndarray, np.ndarray]:
            if one.tobytes() == other.tobytes():
                return two_views(60)
            first, second = np.random.default_rng(3).uniform([0.0, 0.0], [320.0, 240.0], (2, 60, 2))
            return first, second

    verifier = KeypointVerifier(Scenes(), paths)  # type: ignore[arg-type]
    similarity = verifier.compare(paths["i1"], ["i0", "i1", "broken", "missing"])
    assert similarity[1] == pytest.approx(np.log(61.0))
    assert similarity[0] < np.log(25.0)
    assert np.isnan(similarity[2:]).all()
    assert verifier.compare(paths["i1"], []).shape == (0,)


def test_models_that_cannot_be_used_are_refused(tmp_path: Path, towers: Path) -> None:
    with pytest.raises(ConfigError, match="keypoint matcher"):
        KeypointMatcher(str(tmp_path / "missing"))
    with pytest.raises(ConfigError, match="keypoint matcher"):
        KeypointMatcher(str(towers / "dinov2"))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ConfigError, match="safetensors"):
        KeypointMatcher(str(tmp_path))
