"""benchmarks/proof.py: the page is built from benchmark.json and contains no local paths."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

REPORT: dict[str, Any] = {
    "n_queries": 40,
    "n_answerable": 38,
    "gallery_size": 90,
    "estimator": "mode",
    "error_m": {
        "median": 50.0,
        "mean": 80.0,
        "p75": 90.0,
        "p90": 200.0,
        "p95": 300.0,
        "p99": 400.0,
        "worst5_mean": 350.0,
    },
    "accuracy_within_m": {"25": 0.2, "50": 0.5, "100": 0.8},
    "recall_at_k_25m": {"1": 0.2, "10": 0.6},
    "by_region": {"all": {"n": 40, "median": 50.0}},
    "intervals": {"error_m": {"median": [40.0, 60.0]}, "accuracy_within_m": {}, "block": "block_id", "blocks": 12},
    "seeds": 1,
    "seed_sd": None,
}


@pytest.fixture(scope="module")
def proof() -> ModuleType:
    path = Path(__file__).parent.parent / "benchmarks" / "proof.py"
    spec = importlib.util.spec_from_file_location("proof", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["proof"] = module  # dataclasses look up their module
    spec.loader.exec_module(module)
    return module


def document() -> dict[str, Any]:
    baseline = {**REPORT["error_m"], "accuracy_within_m": REPORT["accuracy_within_m"]}
    figures = {"error_m": REPORT["error_m"], "accuracy_within_m": REPORT["accuracy_within_m"]}
    mean = {
        **REPORT,
        "baselines": dict.fromkeys(("floor", "constant", "random"), baseline),
        "estimators": {"mode": figures},
    }
    curve = {"x": [10.0, 100.0], "y": [50.0, 100.0]}
    versions = {"swclip": "1", "torch": "2", "transformers": "3", "numpy": "4", "python": "5", "seeds": [0]}
    return {
        "systems": {"clip": {"mean": mean}},
        "baseline": "clip",
        "reference": None,
        "curves": {"systems": {"clip": curve}, "floor": curve},
        "made_with": {**versions, "image_tower": "/home/someone/towers/dino"},
    }


def test_write_only_builds_the_page_from_existing_results(
    proof: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tmp_path / "work" / "wuhan" / "new" / "benchmark.json"
    report.parent.mkdir(parents=True)
    report.write_text(json.dumps(document()))
    (tmp_path / "dino").mkdir()
    arguments = ["proof.py", "wuhan", f"--manifest={tmp_path / 'somewhere'}", f"--image-tower={tmp_path / 'dino'}"]
    arguments += [f"--work={tmp_path / 'work'}", f"--docs={tmp_path / 'docs'}", "--write-only", "--only", "new"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--systems", "clip", "sw-clip-template"])
    monkeypatch.setattr(proof, "recipe_names", lambda: ["clip", "sw-clip-template"])
    proof.main()
    text = (tmp_path / "docs" / "results" / "wuhan.md").read_text()
    assert "swclip split wuhan --protocol new-streets --out proof/splits/new.parquet" in text
    assert "--image-tower dino --text-tower none --freeze image" in text
    assert "40 queries (38 with a candidate within 25 m), 90 candidates" in text
    assert text.index("**Limitations.**") < text.index("40 queries")
    assert "sw-clip-template is omitted" in text
    assert "](../images/wuhan-new.png)" in text
    assert str(tmp_path) not in text
    assert "/home" not in text
    assert (tmp_path / "docs" / "images" / "wuhan-new.png").stat().st_size > 1_000


def test_unknown_recipe_is_named(proof: ModuleType) -> None:
    with pytest.raises(SystemExit, match="there is no recipe 'sw-klip'"):
        proof.chosen_systems(["clip", "sw-klip"], "none")
