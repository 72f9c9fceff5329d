"""The benchmarks of exports, on models and rows small enough to check by hand."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def _loaded(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"{name}_benchmark", BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_variants_are_timed_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    module, now, calls = _loaded("export"), [0.0], []
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])

    def way(name: str, seconds: list[float]) -> Any:
        left = iter(seconds)

        def run() -> None:
            calls.append(name)
            now[0] += next(left)

        return run

    result = module._raced({"slow": way("slow", [9.0, 4.0, 6.0, 8.0]), "fast": way("fast", [9.0, 2.0, 2.0, 2.0])}, 3)
    assert calls == ["slow", "fast"] * 4, "the first round is not counted, and all fall in turn"
    assert result["slow"] == {"least_s": 4.0, "median_s": 6.0, "times_as_fast_as_slow": 1.0}
    assert result["fast"] == {"least_s": 2.0, "median_s": 2.0, "times_as_fast_as_slow": 3.0}


def test_all_searches_of_codes_give_the_same_cosines() -> None:
    ways = _loaded("export")._cosines(16, 1_000)
    result = {name: way() for name, way in ways.items()}
    for name, cosines in result.items():
        assert cosines.shape == (32, 1_000), name
        np.testing.assert_allclose(cosines[:, :500], result["float32"][:, :500], atol=0.02)
