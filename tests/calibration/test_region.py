"""Regions: tails and cuts against loops over all cells in order of density."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swclip.calibration.region import cell_density, density_cuts, tail_mass


def _problem(seed: int, cells: int = 40, power: float = 6.0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    mass = generator.random(cells) ** power * (generator.random(cells) < 0.8)
    mass[0] = 0.5
    return mass / mass.sum(), generator.uniform(0.5, 2.0, cells)


def _tail_by_loop(mass: np.ndarray, area: np.ndarray, cell: int) -> float:
    return float(sum(m for m, a in sorted(zip(mass, area, strict=True)) if m / a <= mass[cell] / area[cell]))


@pytest.mark.parametrize("seed", range(5))
def test_tails_equal_a_loop(seed: int) -> None:
    mass, area = _problem(seed)
    cells = np.arange(len(mass))
    tails = tail_mass(np.tile(mass, (len(mass), 1)), area, cells)
    for cell in cells:
        assert tails[cell] == pytest.approx(_tail_by_loop(mass, area, cell), rel=1e-12, abs=0.0)
    assert tails[(mass / area).argmax()] == 1.0
    assert (tails[mass == 0.0] == 0.0).all()


def test_tiny_tails_are_exact() -> None:
    """1e-200 beside a mass of 1: taken from 1 it would be lost."""
    mass = np.array([[1.0, 2e-200, 1e-200, 1e-200, 0.0]])
    tails = [float(tail_mass(mass, np.ones(5), np.array([cell]))[0]) for cell in range(5)]
    assert tails == [1.0, 4e-200, 2e-200, 2e-200, 0.0]


def test_differences_by_rounding_are_ties() -> None:
    """A flat posterior's region is all of it, though m * (1 / m) of areas is not always 1."""
    area = np.random.default_rng(0).uniform(1.0, 2.0, 500)
    mass = area / area.sum()
    assert len(set((mass / area).tolist())) > 1
    assert (tail_mass(np.tile(mass, (500, 1)), area, np.arange(500)) == 1.0).all()
    cuts, areas = density_cuts(mass, area, np.array([0.01, 0.99]))
    assert areas == pytest.approx(area.sum())
    assert (cell_density(mass, area) >= cuts[0]).all()


def test_ties_share_a_tail_and_unreached_cells_have_none() -> None:
    mass = np.array([[0.2, 0.4, 0.4], [0.25, 0.25, 0.5], [0.0, 0.5, 0.5], [0.2, 0.4, 0.4]])
    area = np.array([1.0, 2.0, 2.0])  # densities 0.2 all three in the first row
    assert tail_mass(mass, area, np.array([0, 1, 0, -1])).tolist() == pytest.approx([1.0, 0.25, 0.0, 0.0])


@given(
    st.integers(0, 10_000),
    st.lists(st.floats(1e-15, 1.0), min_size=1, max_size=6),
    st.integers(1, 60),
    st.sampled_from([0.0, 1.0, 30.0]),
)
def test_cuts_equal_a_loop(seed: int, thresholds: list[float], cells: int, power: float) -> None:
    mass, area = _problem(seed, cells, power)
    cuts, areas = density_cuts(mass, area, np.array(thresholds))
    density = cell_density(mass, area)
    tails = tail_mass(np.tile(mass, (cells, 1)), area, np.arange(cells))
    for threshold, cut, size in zip(thresholds, cuts, areas, strict=True):
        # A threshold within rounding of some cell's tail may fall to either side of it.
        if np.isclose(tails, threshold, rtol=1e-9, atol=0.0).any() and threshold < 1.0:
            continue
        inside = tails >= threshold
        assert np.array_equal(density >= cut, inside)
        assert size == pytest.approx(area[inside].sum(), rel=1e-9)
        assert inside[density.argmax()]


def test_regions_grow_as_the_threshold_falls_and_keep_the_densest() -> None:
    mass, area = _problem(1)
    thresholds = np.geomspace(1e-14, 1.0, 50)
    cuts, areas = density_cuts(mass, area, thresholds)
    assert (np.diff(cuts) >= 0).all()
    assert (np.diff(areas) <= 1e-12).all()
    assert areas[-1] == pytest.approx(area[(mass / area).argmax()])
    assert areas[0] == pytest.approx(area[mass > 0].sum())


def test_cuts_of_many_cells_equal_a_full_sort() -> None:
    """Buckets and the cells below all thresholds change nothing: against a full sort of 20,000 cells."""
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 12, 20_000)
    mass = np.exp(logits - logits.max())
    mass /= mass.sum()
    area = generator.uniform(0.9, 1.1, len(mass))
    order = np.argsort(mass / area)
    tails = np.cumsum(mass[order])
    thresholds = np.geomspace(1e-12, 0.9, 200)
    cuts, areas = density_cuts(mass, area, thresholds)
    at = np.searchsorted(tails, thresholds)
    np.testing.assert_allclose(cuts, (mass / area)[order][at], rtol=1e-9)
    np.testing.assert_allclose(areas, [area[order][start:].sum() for start in at], rtol=1e-10)
