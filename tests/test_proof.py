"""benchmarks/proof.py: the page is built from benchmark.json and contains no local paths."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from swclip.comparison.compare import compare
from swclip.comparison.document import ComparisonDocument
from swclip.comparison.draws import compare_draws
from swclip.comparison.tables import estimator_table
from swclip.files import write_json
from swclip.reporting.page import table_markdown
from swclip.reporting.units import metres


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


def compared(made_up: Any, systems: dict[str, tuple[int, ...]], **options: Any) -> ComparisonDocument:
    """A comparison of synthetic systems, by name and seeds, with the provenance of a benchmark."""
    versions = {"swclip": "1", "torch": "2", "transformers": "3", "numpy": "4", "python": "5"}
    runs = {
        name: {seed: made_up(1, system=10 * at + seed, spread_m=40.0 + 30.0 * at) for seed in seeds}
        for at, (name, seeds) in enumerate(systems.items())
    }
    made = {**versions, "seeds": [0, 1], "image_tower": "/home/someone/towers/dino"}
    return compare(runs, made, resamples=20, **options).document


def test_write_only_builds_the_page_from_existing_results(
    proof: ModuleType, made_up: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tmp_path / "work" / "wuhan" / "new" / "benchmark.json"
    write_json(report, compared(made_up, {"clip": (0,)}).as_dict())
    (tmp_path / "dino").mkdir()
    arguments = ["proof.py", "wuhan", f"--manifest={tmp_path / 'somewhere'}", f"--image-tower={tmp_path / 'dino'}"]
    arguments += [f"--work={tmp_path / 'work'}", f"--out={tmp_path / 'docs'}", "--write-only", "--only", "new"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--systems", "clip", "sw-clip-template"])
    monkeypatch.setattr(proof, "recipe_names", lambda: ["clip", "sw-clip-template"])
    proof.main()
    text = (tmp_path / "docs" / "results" / "wuhan.md").read_text()
    assert "swclip split wuhan --protocol new-streets --out proof/splits/new.parquet" in text
    assert "--image-tower dino --text-tower none --freeze image" in text
    assert "45 queries (4 with a candidate within 25 m), 135 candidates" in text
    assert text.index("**Limitations.**") < text.index("45 queries")
    assert "sw-clip-template is omitted" in text
    assert "](../images/wuhan-new.png)" in text
    assert str(tmp_path) not in text
    assert "/home" not in text
    assert (tmp_path / "docs" / "images" / "wuhan-new.png").stat().st_size > 1_000


def test_unknown_recipe_is_named(proof: ModuleType) -> None:
    with pytest.raises(SystemExit, match="there is no recipe 'sw-klip'"):
        proof.chosen_systems(["clip", "sw-klip"], "none")


def test_missing_results_are_named(proof: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["proof.py", "wuhan", "--manifest=somewhere", f"--work={tmp_path}", "--write-only", "--only", "new"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--systems", "clip"])
    with pytest.raises(SystemExit, match=r"benchmark\.json"):
        proof.main()


def test_markdown_has_the_tables_and_the_summary(proof: ModuleType, made_up: Any) -> None:
    document = compared(made_up, {"sw": (0, 1), "clip": (0,), "plus": (0,)}, baseline="clip", reference="sw")
    text = proof.comparison_markdown(document)
    for words in (
        "45 queries",
        "135 candidates",
        "oracle error",
        "constant baseline",
        "Seeds 0, 1.",
        "(baseline)",
        "Paired difference from sw (the reference)",
        "- sw improves on one-hot CLIP",
    ):
        assert words in text
    assert not re.search(r"\b20\d\d\b", text), "no date"
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1
    assert table_markdown(estimator_table(document)) in text


def test_markdown_of_several_draws(proof: ModuleType, made_up: Any) -> None:
    comparisons = []
    for draw in range(3):
        runs = {
            name: {0: made_up(1, system=10 * draw + at, spread_m=40.0 + 60.0 * at)}
            for at, name in enumerate(("sw-clip", "clip"))
        }
        made = {"seeds": [0]}
        comparisons.append(compare(runs, made, baseline="clip", reference="sw-clip", resamples=20))
    draws = compare_draws(comparisons, [4, 5, 6])
    document = comparisons[0].document.model_copy(update={"draws": draws})
    text = proof.draws_markdown(document)
    assert "3 draws of the splits (seeds 4, 5, 6), with 45, 45, 45 queries" in text
    median = draws.systems["sw-clip"].figures["median"]
    assert median.value == pytest.approx(np.mean(median.by_draw))
    assert f"| sw-clip | {metres(median.value)} (" in text
    assert "Paired difference from clip" in text
    assert "- sw-clip improves on one-hot CLIP" in text
    assert "first draw" not in text
