"""The hash grid and the Fourier encoder against loops, and their continuity on the sphere."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from swclip.geo.distance import EARTH_RADIUS_M, haversine_m
from swclip.models.coordinate_encoders import FourierEncoder, HashGrid, ecef_m

PRIMES = (1, 2_654_435_761, 805_459_861)


def _grid(seed: int = 0, features: int = 3) -> HashGrid:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return HashGrid(levels=4, coarsest_m=900.0, finest_m=20.0, features=features, log2_size=9)


def _positions(*rows: tuple[float, float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def _point(lat: float, lon: float) -> list[float]:
    a, b = math.radians(lat), math.radians(lon)
    return [EARTH_RADIUS_M * v for v in (math.cos(a) * math.cos(b), math.cos(a) * math.sin(b), math.sin(a))]


GRID = _grid()


def _raw(grid: HashGrid, lat: float, lon: float) -> np.ndarray:
    """Trilinear interpolation in nested loops."""
    out: list[float] = []
    for level in range(4):
        side = 900.0 * (20.0 / 900.0) ** (level / 3)
        place = [
            v / side + (level * g) % 1.0 for v, g in zip(_point(lat, lon), (0.754878, 0.569840, 0.430160), strict=True)
        ]
        total = np.zeros(grid.table.weight.shape[1])
        for corner in itertools.product((0, 1), repeat=3):
            row, share = 0, 1.0
            for axis in range(3):
                low = math.floor(place[axis])
                row ^= (low + corner[axis]) * PRIMES[axis]
                part = place[axis] - low
                share *= part if corner[axis] else 1.0 - part
            total += share * grid.table.weight[level * 512 + row % 512].detach().numpy()
        out.extend(total)
    return np.array(out)


def _normalised(raw: np.ndarray) -> np.ndarray:
    return (raw - raw.mean()) / np.sqrt(raw.var() + 1e-5)


@given(st.floats(-90, 90), st.floats(-180, 180))
def test_the_grid_is_trilinear_interpolation(lat: float, lon: float) -> None:
    wanted = _normalised(_raw(GRID, lat, lon))
    np.testing.assert_allclose(GRID(_positions((lat, lon)))[0].detach(), wanted, atol=1e-4)


@given(st.floats(-89.9, 89.9), st.floats(-180, 180), st.floats(0.01, 0.5), st.floats(0, 2 * math.pi))
def test_features_are_continuous(lat: float, lon: float, metres: float, way: float) -> None:
    """The finest cubes have 20 m sides: before they are normalised, a feature changes by at most
    2 max|table| sqrt(3) / side a metre, and normalising stretches that by no more than 1 / their spread."""
    north, east = metres * math.cos(way), metres * math.sin(way)
    degree = math.radians(1.0) * EARTH_RADIUS_M
    target = (lat + north / degree, lon + east / (degree * math.cos(math.radians(lat))))
    moved = (GRID(_positions((lat, lon))) - GRID(_positions(target))).norm().item()
    raw = 2 * GRID.table.weight.abs().max().item() * math.sqrt(3) / 20.0 * metres * 1.05
    spread = _raw(GRID, lat, lon).std() - raw
    assume(spread > 0.01)
    assert moved <= raw * math.sqrt(12) / spread + 1e-4


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ((12.3, 180.0), (12.3, -180.0), True),
        ((90.0, 0.0), (90.0, 137.0), True),
        ((-90.0, -20.0), (-90.0, 60.0), True),
        ((12.3, 179.99999), (12.3, -179.99999), False),
        ((89.99999, 0.0), (89.99999, 180.0), False),
    ],
)
def test_features_have_no_seam_and_no_special_pole(
    one: tuple[float, float], other: tuple[float, float], same: bool
) -> None:
    grid = GRID
    with torch.random.fork_rng():
        torch.manual_seed(1)
        fourier = FourierEncoder((2000.0, 300.0), 16, 8, 5)
    away = float(haversine_m(*np.array(one), *np.array(other)))
    assert away < (1e-3 if same else 3.0)
    for encoder in (grid, fourier):
        a, b = encoder(_positions(one)), encoder(_positions(other))
        if same:
            torch.testing.assert_close(a, b, atol=1e-5, rtol=0)
        else:
            assert 1e-4 < (a - b).abs().max() < 1.0


@settings(max_examples=25)
@given(st.floats(-90, 90), st.floats(-180, 180))
def test_the_fourier_encoder_follows_its_formula(lat: float, lon: float) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        encoder = FourierEncoder((2000.0, 300.0), 4, 6, 3)
    total = torch.zeros(3)
    for scale in range(2):
        cosines, sines = [], []
        for number in range(4):
            phase = sum(p * encoder.frequencies[scale, axis, number].item() for axis, p in enumerate(_point(lat, lon)))
            cosines.append(math.cos(phase))
            sines.append(math.sin(phase))
        total = total + encoder.networks[scale](torch.tensor([*cosines, *sines], dtype=torch.float32))
    torch.testing.assert_close(encoder(_positions((lat, lon)))[0], total, atol=1e-5, rtol=1e-5)


def test_geoclips_networks_have_three_hidden_layers_with_relu() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        encoder = FourierEncoder((2000.0, 300.0), 4, 6, 3, layers=3, activation="relu")
    for network in encoder.networks:
        kinds = [type(module).__name__ for module in network]
        assert kinds == ["Linear", "ReLU"] * 3 + ["Linear"]
        assert [m.weight.shape for m in network if hasattr(m, "weight")] == [(6, 8), (6, 6), (6, 6), (3, 6)]
    total = torch.zeros(3)
    for scale in range(2):
        phase = ecef_m(_positions((52.0, 0.1)))[0] @ encoder.frequencies[scale]
        x = torch.cat([phase.cos(), phase.sin()]).float()
        for layer in (0, 2, 4):
            x = (encoder.networks[scale][layer].weight @ x + encoder.networks[scale][layer].bias).clamp_min(0.0)
        total = total + encoder.networks[scale][6].weight @ x + encoder.networks[scale][6].bias
    torch.testing.assert_close(encoder(_positions((52.0, 0.1)))[0], total, atol=1e-5, rtol=1e-5)


def test_frequencies_have_the_stated_wavelengths() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = FourierEncoder((2000.0, 125.0), 4000, 4, 2)
    spread = encoder.frequencies.std(dim=(1, 2)) / (2 * math.pi)
    torch.testing.assert_close(1 / spread, torch.tensor([2000.0, 125.0], dtype=torch.float64), rtol=0.03, atol=0)


def test_a_point_is_on_the_sphere() -> None:
    points = ecef_m(_positions((0, 0), (0, 90), (90, 12), (-45, 180)))
    half = EARTH_RADIUS_M / math.sqrt(2)
    wanted = torch.tensor(
        [[EARTH_RADIUS_M, 0, 0], [0, EARTH_RADIUS_M, 0], [0, 0, EARTH_RADIUS_M], [-half, 0, -half]], dtype=torch.float64
    )
    torch.testing.assert_close(points, wanted, atol=1e-6, rtol=0)
