"""Injected position errors: of the stated size, reproducible from the seed, and only where intended."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from injected_errors import displaced, misplaced, with_positions, without_photographs

from swclip.data.manifest import read_manifest
from swclip.data.splits import candidates_for, indices, read_splits
from swclip.errors import ConfigError, InputError, MismatchError
from swclip.geo.coordinates import LocalFrame
from swclip.geo.distance import haversine_m

FRAME = LocalFrame(52.2, 0.12)


def grid(n: int, step_m: float = 30.0, each: int = 1) -> np.ndarray:
    """n x n positions, each of them `each` times."""
    east, north = np.meshgrid(np.arange(n), np.arange(n))
    return np.repeat(FRAME.to_deg(step_m * np.stack([east.ravel(), north.ravel()], axis=1)), each, axis=0)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_noise_has_the_stated_size_along_each_axis() -> None:
    positions = grid(60)
    moved, accuracy_m = displaced(positions, 12.0, generator())
    by_m = FRAME.to_xy_m(moved) - FRAME.to_xy_m(positions)
    assert by_m.std(axis=0) == pytest.approx([12.0, 12.0], rel=0.04)
    assert np.abs(by_m.mean(axis=0)).max() < 0.7
    assert abs(np.corrcoef(by_m.T)[0, 1]) < 0.05
    assert np.hypot(*by_m.T).mean() == pytest.approx(12.0 * np.sqrt(np.pi / 2), rel=0.03)
    assert set(accuracy_m) == {12.0}


def test_a_higher_level_gives_longer_displacements() -> None:
    positions = grid(5)
    near, far = (FRAME.to_xy_m(displaced(positions, s, generator(3))[0]) for s in (5.0, 50.0))
    home = FRAME.to_xy_m(positions)
    np.testing.assert_allclose(far - home, 10.0 * (near - home), atol=1e-6)
    still, accuracy_m = displaced(positions, 0.0, generator(3))
    np.testing.assert_array_equal(still, positions)
    assert set(accuracy_m) == {0.0}


def test_headings_of_a_panorama_share_a_fix() -> None:
    moved, accuracy_m = displaced(grid(4, each=3), 20.0, generator(), spread=0.5)
    assert len(np.unique(moved, axis=0)) == 16
    np.testing.assert_array_equal(moved[0::3], moved[2::3])
    np.testing.assert_array_equal(accuracy_m[0::3], accuracy_m[1::3])


def test_different_accuracies_are_returned() -> None:
    positions = grid(60)
    moved, accuracy_m = displaced(positions, 12.0, generator(), spread=0.6)
    assert accuracy_m.mean() == pytest.approx(12.0, rel=0.05)
    assert np.log(accuracy_m).std() == pytest.approx(0.6, rel=0.05)
    standard = (FRAME.to_xy_m(moved) - FRAME.to_xy_m(positions)) / accuracy_m[:, None]
    assert standard.std(axis=0) == pytest.approx([1.0, 1.0], rel=0.05)


def test_noise_has_its_size_in_distant_cities() -> None:
    both = np.concatenate([grid(30), grid(30) + np.array([13.0, -40.0])])
    moved, _ = displaced(both, 10.0, generator())
    for part in (slice(0, 900), slice(900, 1800)):
        away_m = haversine_m(*both[part].T, *moved[part].T)
        assert away_m.mean() == pytest.approx(10.0 * np.sqrt(np.pi / 2), rel=0.06)


def test_the_configured_share_is_at_a_distant_place() -> None:
    positions = grid(10, 50.0, each=2)
    taken, wrong = misplaced(positions, 0.2, 200.0, generator())
    assert wrong.sum() == 40
    np.testing.assert_array_equal(taken[~wrong], positions[~wrong])
    assert haversine_m(*positions[wrong].T, *taken[wrong].T).min() >= 200.0
    originals = {tuple(position) for position in positions}
    assert {tuple(position) for position in taken[wrong]} <= originals
    np.testing.assert_array_equal(wrong[0::2], wrong[1::2])
    more, _ = misplaced(positions, 0.2, 200.0, generator(1))
    assert not np.array_equal(more, taken)
    nobody, none_wrong = misplaced(positions, 0.0, 200.0, generator())
    np.testing.assert_array_equal(nobody, positions)
    assert not none_wrong.any()


def test_invalid_values_are_refused() -> None:
    with pytest.raises(InputError, match="none that is 900 m away"):
        misplaced(grid(3), 0.5, 900.0, generator())
    with pytest.raises(ConfigError, match=r"share of 1.0"):
        misplaced(grid(3), 1.0, 10.0, generator())
    with pytest.raises(ConfigError, match=r"-1.0 m"):
        displaced(grid(3), -1.0, generator())


def test_other_positions_with_the_same_splits(town: Path) -> None:
    manifest, splits = read_manifest(town), read_splits(town / "splits.parquet")
    rows = indices(splits, manifest, "train")
    positions = manifest.positions_deg.copy()
    positions[rows], _ = displaced(positions[rows], 30.0, generator())
    other, same = with_positions(manifest, splits, positions)
    assert other.digest != manifest.digest
    np.testing.assert_array_equal(indices(same, other, "train"), rows)
    queries = indices(same, other, "query")
    np.testing.assert_array_equal(other.positions_deg[queries], manifest.positions_deg[queries])
    assert candidates_for(same, "query").equals(candidates_for(splits, "query"))
    assert read_manifest(town).digest == manifest.digest, "nothing is written"
    with pytest.raises(MismatchError):
        with_positions(other, splits, positions)
    bare = candidates_for(without_photographs(splits), "query")
    assert bare["image_ids"].map(len).sum() == 0
    assert len(bare) == len(candidates_for(splits, "query"))
