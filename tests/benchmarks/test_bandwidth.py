"""benchmarks/bandwidth.py: scores, tables and the figure."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="module")
def bandwidth() -> ModuleType:
    folder = Path(__file__).parent.parent.parent / "benchmarks"
    sys.path.insert(0, str(folder))  # for common.py
    try:
        spec = importlib.util.spec_from_file_location("bandwidth_benchmark", folder / "bandwidth.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
    return module


def row(bandwidth_m: float, validation: float, query: float, median: float, less_found: float | None) -> dict[str, Any]:
    difference = {"value": less_found, "low": -9.0, "high": 9.0}
    return {
        "bandwidth_m": bandwidth_m,
        "validation_log_error": validation,
        "query_log_error": query,
        "error_m": {"median": median, "mean": 2 * median},
        "accuracy_within_m": {"25": 0.25, "100": 0.75},
        "difference_from_found": None if less_found is None else {"median": difference, "mean": difference},
    }


DOCUMENT = {
    "name": "Town",
    "form": "semivariogram",
    "validation_queries": 10,
    "queries": 1234,
    "chosen": "15 m",
    "best_on_queries": "30 m",
    "rows": {
        "found": row(14.2, 1.5, 1.25, 70.0, None),
        "15 m": row(15.0, 1.25, 1.5, 80.0, 10.0),
        "30 m": row(30.0, 1.5, 1.0, 60.0, -10.0),
    },
}


def test_log_error_is_the_mean_of_the_logarithms(bandwidth: ModuleType) -> None:
    assert bandwidth.log_error([0.0, 90.0]) == pytest.approx(0.5)
    assert bandwidth.log_error([5.0]) == pytest.approx(math.log10(1.5))


def test_the_score_of_a_run_is_that_of_its_best_weights(bandwidth: ModuleType, tmp_path: Path) -> None:
    lines = ['{"step": 10, "loss": 1.0}', '{"step": 10, "val_log_error": 1.5}', '{"step": 20, "val_log_error": 1.25}']
    (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 30, "val_log_error": null}']) + "\n")
    assert bandwidth.validated(tmp_path) == 1.25


def test_the_table_compares_the_estimate_with_the_choice_of_validation(bandwidth: ModuleType) -> None:
    *_, line = bandwidth.summary([DOCUMENT]).strip().splitlines()
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:6] == ["Town", "14.2 m (semivariogram)", "15 m", "30 m", "70 m", "80 m"]
    assert cells[6].startswith("+10 m")
    assert cells[-1] == "+0.250"
    text = bandwidth.details(DOCUMENT)
    assert "**15 m**" in text
    assert "| found: 14.2 m | 1.5000 | 1.2500 | 70 m | 140 m | 25.0 % | 75.0 % |  |  |" in text


@pytest.mark.parametrize("sets", [1, 3])
def test_a_panel_is_drawn_for_each_data_set(bandwidth: ModuleType, tmp_path: Path, sets: int) -> None:
    bandwidth.draw([DOCUMENT] * sets, tmp_path / "bandwidth")
    assert (tmp_path / "bandwidth.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "bandwidth.svg").read_text().count("Town") >= sets
