"""A report with everything that one can contain."""

from __future__ import annotations

from typing import Any

import pytest

from swclip.evaluation.report import Report


@pytest.fixture(scope="module")
def report(full: Any) -> Report:
    whole: Report = full.full_evaluation(3, n_queries=400, cities=full.EIGHT).report
    return whole
