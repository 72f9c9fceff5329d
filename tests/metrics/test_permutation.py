"""p-values against counts, and rank correlation against SciPy's and loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import kstest, spearmanr

from swclip.metrics.morans_i import centred_ranks, spearman, two_sided_p, unit_deviation

whole = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=30)


@given(st.integers(-5, 5), whole)
def test_p_is_a_count(observed: int, drawn: list[float]) -> None:
    smaller = min(sum(t >= observed for t in drawn), sum(t <= observed for t in drawn))
    assert two_sided_p(observed, drawn) == min(1.0, 2 * (1 + smaller) / (len(drawn) + 1))


@given(st.integers(-5, 5), whole)
def test_both_sides_are_alike(observed: int, drawn: list[float]) -> None:
    assert two_sided_p(observed, drawn) == two_sided_p(-observed, [-t for t in drawn])


def test_rounding_breaks_no_tie() -> None:
    assert two_sided_p(0.3, [0.1 + 0.2] * 99) == 1.0
    assert two_sided_p(0.1 + 0.2, [0.3] * 99) == 1.0


def test_of_chance_alone_p_is_uniform() -> None:
    generator = np.random.default_rng(0)
    found = [two_sided_p(sample[0], sample[1:]) for sample in generator.normal(size=(2_000, 200))]
    assert kstest(found, "uniform").pvalue > 0.01


@given(hnp.arrays(np.float64, 12, elements=st.integers(-4, 4)), hnp.arrays(np.float64, 12, elements=st.integers(-4, 4)))
def test_spearman_is_scipys(a: np.ndarray, b: np.ndarray) -> None:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        assert spearman(a, b) is None
    else:
        assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)


def test_spearman_of_ten_people() -> None:
    """IQ and hours of television a week, the example of many textbooks: rho = -29 / 165."""
    iq = [106, 100, 86, 101, 99, 103, 97, 113, 112, 110]
    hours = [7, 27, 2, 50, 28, 29, 20, 12, 6, 17]
    assert spearman(iq, hours) == pytest.approx(-29 / 165)


@given(hnp.arrays(np.float64, st.integers(1, 20), elements=st.floats(allow_nan=False, allow_infinity=False)))
@example(np.array([0.0, 5e-324]))  # their mean cannot be written
@example(np.array([-1.7e308, 1.7e308]))  # nor the difference of these
@example(np.array([1e-320, 3e-320, 7e-320]))
def test_unit_deviation_has_mean_0_and_length_1(values: np.ndarray) -> None:
    unit = unit_deviation(values)
    if unit is None:
        assert (values == values[0]).all()
    elif values.max() / 4.0 - values.min() / 4.0 > 1e-6 * np.abs(values).max():
        assert unit.mean() == pytest.approx(0.0, abs=1e-9)
        assert unit @ unit == pytest.approx(1.0)


def test_of_equals_there_is_none() -> None:
    assert centred_ranks([1.0]) is None
    assert centred_ranks([]) is None
    assert unit_deviation([0.1] * 7) is None
