"""What a comparison leaves in its folder: benchmark.json, benchmark.html and the error curves as pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swclip.data.manifest import Manifest
from swclip.evaluation.benchmark_page import write_benchmark_page
from swclip.evaluation.comparison import Comparison
from swclip.evaluation.curve_figure import write_curves
from swclip.evaluation.reading import critical_reading
from swclip.files import write_json


def write_benchmark(
    folder: Path,
    comparison: Comparison,
    *,
    manifest: Manifest | None = None,
    leakage: Mapping[str, Any] | None = None,
) -> Path:
    """Write a comparison.

    Args:
        folder: Where to.
        comparison: What to write; benchmark.json holds its document and `reading`.
        manifest: Where the photographs of the page's examples are; without it the page has none.
        leakage: The leakage report of the split, where there is one.

    Returns:
        benchmark.json, which is written last.
    """
    target = folder / "benchmark.json"
    # Figures of an earlier comparison must not stand beside a new page if this is interrupted.
    target.unlink(missing_ok=True)
    write_benchmark_page(folder / "benchmark.html", comparison, manifest=manifest, leakage=leakage)
    write_curves([folder / f"error-curves.{ending}" for ending in ("png", "svg")], comparison.document)
    write_json(target, {**comparison.document, "reading": critical_reading(comparison.document)})
    return target
