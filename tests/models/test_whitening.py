"""Whitening: covariance of the whitened features, rows that do not depend on each other, and the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from swclip.errors import ArtefactError, ConfigError, InputError
from swclip.models.whitening import WHITENING_NAME, Whitening, read_whitening, write_whitening


def features(rows: int = 400, seed: int = 0) -> np.ndarray:
    """Correlated features of rank 6 in 8 dimensions, with variances from 100 to 0.01."""
    draw = np.random.default_rng(seed)
    scales = np.array([10.0, 5.0, 2.0, 1.0, 0.3, 0.1])
    return (draw.normal(size=(rows, 6)) * scales @ draw.normal(size=(6, 8)) + 3.0).astype(np.float32)


def test_whitened_training_features_have_unit_covariance() -> None:
    x = features()
    whitening = Whitening.fit(x, 4)
    y = (x.astype(np.float64) - whitening.mean) @ whitening.projection
    np.testing.assert_allclose(y.mean(axis=0), 0.0, atol=1e-4)
    np.testing.assert_allclose(np.cov(y.T, bias=True), np.eye(4), atol=1e-3)
    np.testing.assert_allclose(whitening(x), y / np.linalg.norm(y, axis=1, keepdims=True), atol=1e-5)


@pytest.mark.parametrize("rows", [40, 90])
def test_directions_are_eigenvectors_of_the_covariance_of_few_photographs_and_of_many(rows: int) -> None:
    x = np.random.default_rng(4).normal(size=(rows, 60)).astype(np.float32) * np.geomspace(
        30.0, 0.1, 60, dtype=np.float32
    )
    whitening = Whitening.fit(x, 25)
    variance, vectors = np.linalg.eigh(np.cov(x.astype(np.float64).T, bias=True))
    scaled = vectors[:, ::-1][:, :25] / np.sqrt(variance[::-1][:25])
    signs = np.sign((scaled * whitening.projection).sum(axis=0))
    np.testing.assert_allclose(whitening.projection, scaled * signs, rtol=1e-5, atol=1e-6)


def test_directions_without_variance_are_left_out() -> None:
    assert Whitening.fit(features(), 8).dimensions == 6
    assert Whitening.fit(features(5), 8).dimensions == 4


def test_whitened_similarities_are_those_of_mahalanobis() -> None:
    """All directions kept: a rotation and rescaling of the features changes no similarity."""
    x = np.random.default_rng(2).normal(size=(400, 6)).astype(np.float32)
    mapped = (x * [10.0, 5.0, 1.0, 0.5, 2.0, 1.0]) @ np.linalg.qr(np.random.default_rng(3).normal(size=(6, 6)))[0]
    plain, other = Whitening.fit(x)(x[:50]), Whitening.fit(mapped.astype(np.float32))(mapped[:50])
    np.testing.assert_allclose(plain @ plain.T, other @ other.T, atol=1e-4)


def test_a_row_does_not_depend_on_the_others_and_nan_remains() -> None:
    x = features(37)
    whitening = Whitening.fit(x, 4)
    together = whitening(x)
    for row in range(len(x)):
        assert (whitening(x[row : row + 1])[0] == together[row]).all()
    x[5, 2] = np.nan
    again = whitening(x)
    assert np.isnan(again[5]).all()
    assert (np.delete(again, 5, axis=0) == np.delete(together, 5, axis=0)).all()


def test_the_file_has_the_same_bytes_and_values_for_the_same_features(tmp_path: Path) -> None:
    first, again = (Whitening.fit(features(), 4, max_rows=100, seed=7) for _ in range(2))
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    written = [write_whitening(tmp_path / name, each) for name, each in (("a", first), ("b", again))]
    assert written[0].read_bytes() == written[1].read_bytes()
    read = read_whitening(tmp_path / "a")
    assert read is not None
    assert read.fingerprint == first.fingerprint
    assert (read(features(9)) == first(features(9))).all()
    assert Whitening.fit(features(), 4, max_rows=100, seed=8).fingerprint != first.fingerprint
    assert read_whitening(tmp_path) is None


@pytest.mark.parametrize("damage", [b"", b"\x10\x00\x00\x00\x00\x00\x00\x00{}"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / WHITENING_NAME).write_bytes(damage)
    with pytest.raises(ArtefactError, match=f"{WHITENING_NAME}.*damaged"):
        read_whitening(tmp_path)


def test_unusable_features_are_refused() -> None:
    with pytest.raises(InputError, match="at least two"):
        Whitening.fit(features(1))
    with pytest.raises(InputError, match="finite"):
        Whitening.fit(np.full((4, 3), np.nan, dtype=np.float32))
    with pytest.raises(InputError, match="vary"):
        Whitening.fit(np.ones((4, 3), dtype=np.float32))
    with pytest.raises(ConfigError, match="dimensions"):
        Whitening.fit(features(), 0)
