"""How well answers tell photographs of the area from those of elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from swclip.metrics.bootstrap import resample_blocks
from swclip.metrics.outside import answered_when_kept, auroc, outside_figures


def test_auroc_is_the_share_of_pairs_in_order() -> None:
    generator = np.random.default_rng(0)
    inside, outside = generator.integers(0, 9, 60) / 8.0, generator.integers(0, 6, 40) / 8.0
    pairs = (inside[:, None] > outside[None]).mean() + 0.5 * (inside[:, None] == outside[None]).mean()
    assert auroc(inside, outside) == pytest.approx(pairs)


def test_answered_where_95_percent_of_the_placed_queries_are_kept() -> None:
    inside = np.linspace(0.01, 1.0, 100)
    errors_m = np.where(np.arange(100) < 50, 500.0, 5.0)  # the less probable half is misplaced
    outside = np.array([0.1, 0.5, 0.52, 0.6, 0.99])
    # 95 % of the 50 placed queries, from 0.51 on, are at 0.53 and above.
    assert answered_when_kept(inside, errors_m, outside) == pytest.approx(2 / 5)
    assert answered_when_kept(inside, errors_m + 1000.0, outside) is None


def test_figures_have_intervals_around_them() -> None:
    generator = np.random.default_rng(1)
    inside, outside = generator.normal(0.7, 0.2, 200).clip(0, 1), generator.normal(0.3, 0.2, 100).clip(0, 1)
    resampled = [resample_blocks(np.arange(n) // 4, 200, generator) for n in (200, 100)]
    figures = outside_figures(inside, np.full(200, 10.0), outside, resampled[0], resampled[1], 0.5, "wuhan")
    assert figures.auroc_interval[0] < figures.auroc < figures.auroc_interval[1]
    assert figures.answered_when_95_kept is not None
    assert figures.answered_when_95_kept_interval is not None
    low, high = figures.answered_when_95_kept_interval
    assert low <= figures.answered_when_95_kept <= high
    assert figures.answered_outside == pytest.approx((outside >= 0.5).mean())
    assert figures.answered_queries == pytest.approx((inside >= 0.5).mean())
