"""The cities: valid plans, spatial autocorrelation of buildings, and the sources of randomness."""

from __future__ import annotations

import numpy as np
import pytest

from swclip.synthetic.cities import CITIES
from swclip.synthetic.fields import SmoothField, hash01, noise_tile, pulse
from swclip.synthetic.scene import build_scene, city_plan


@pytest.mark.parametrize("city", range(len(CITIES)))
def test_blocks_are_convex_and_adjoin_their_streets(city: int) -> None:
    plan = city_plan(city, 0)
    assert len(plan.blocks) > 80
    for block in plan.blocks:
        edge = np.roll(block.corners, -1, axis=0) - block.corners
        following = np.roll(edge, -1, axis=0)
        assert (edge[:, 0] * following[:, 1] - edge[:, 1] * following[:, 0] > -1e-6).all()
        for i, number in enumerate(block.streets):
            if number < 0:
                continue
            street = plan.streets[number]
            direction = (street.end - street.start) / street.length_m
            offset = block.corners[i] - street.start
            distance = abs(direction[0] * offset[1] - direction[1] * offset[0])
            assert distance == pytest.approx(street.half_width_m, abs=1e-6)


def test_similarity_of_buildings_decreases_with_distance() -> None:
    """The correlation of wall colour and height decreases with distance (Tobler's law)."""
    correlations = []
    for city in (0, 1):
        scene = build_scene(city, 0)
        ends = scene.walls.walls
        front = ends.kind == 0
        owner = ends.owner[front]
        position = np.zeros((len(scene.buildings), 2))
        position[owner] = ends.ends[front].mean(axis=1)
        appearance = np.concatenate([scene.buildings.wall, scene.buildings.eave_m[:, None]], axis=1).astype(float)
        appearance = (appearance - appearance.mean(axis=0)) / appearance.std(axis=0)
        rng = np.random.default_rng(0)
        a, b = rng.integers(0, len(position), (2, 400_000))
        distance = np.hypot(*(position[a] - position[b]).T)
        similar = (appearance[a] * appearance[b]).mean(axis=1)
        bands = [(0.5, 40.0), (40.0, 120.0), (120.0, 250.0), (400.0, 900.0)]
        correlations.append([similar[(distance >= lo) & (distance < hi)].mean() for lo, hi in bands])
    mean = np.mean(correlations, axis=0)
    assert mean[0] > mean[1] > mean[2] > mean[3]
    assert mean[0] > 0.08
    assert abs(mean[3]) < 0.12


def test_smooth_field_has_unit_variance_and_decaying_correlation() -> None:
    rng = np.random.default_rng(1)
    near, far, variance = [], [], []
    for _ in range(300):
        field = SmoothField.draw(rng)
        origin = field(0.0, 0.0)
        near.append(origin * field(30.0, 0.0))
        far.append(origin * field(2000.0, 900.0))
        variance.append(origin**2)
    assert np.mean(variance) == pytest.approx(1.0, abs=0.25)
    assert np.mean(near) > 0.7
    assert abs(np.mean(far)) < 0.25


def test_filtered_pulse_is_the_mean_of_the_sharp_pulse() -> None:
    rng = np.random.default_rng(2)
    x = rng.uniform(-3.0, 3.0, 40).astype(np.float32)
    width = rng.uniform(0.05, 2.5, 40).astype(np.float32)
    filtered = pulse(x, 0.3, 0.75, width)
    for i in range(40):
        samples = np.linspace(x[i] - width[i] / 2, x[i] + width[i] / 2, 20001) % 1.0
        assert filtered[i] == pytest.approx(((samples >= 0.3) & (samples <= 0.75)).mean(), abs=2e-3)


def test_hash_is_uniform_and_depends_on_each_key() -> None:
    a, b = np.meshgrid(np.arange(200), np.arange(200))
    value = hash01(a, b)
    assert value.min() >= 0.0
    assert value.max() < 1.0
    assert np.histogram(value, bins=10, range=(0, 1))[0] == pytest.approx(np.full(10, 4000), rel=0.08)
    assert abs(np.corrcoef(value[:, 1:].ravel(), value[:, :-1].ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(value[1:].ravel(), value[:-1].ravel())[0, 1]) < 0.02
    tile = noise_tile(1.0)
    assert tile.std() == pytest.approx(1.0, abs=1e-3)
