"""What a comparison leaves in its folder: its document, its page, every query, and the error curves as pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swclip.data.manifest import Manifest
from swclip.comparison.page import write_benchmark_page
from swclip.comparison.comparison import Comparison
from swclip.reporting.curve_figure import write_curves
from swclip.comparison.findings import critical_reading
from swclip.files import atomic_file, write_json

_LONGEST_TITLE = 60


def write_benchmark(
    folder: Path,
    comparison: Comparison,
    *,
    manifest: Manifest | None = None,
    leakage: Mapping[str, Any] | None = None,
) -> Path:
    """Write the comparison of a benchmark: benchmark.json, benchmark.html, moved.csv, error-curves.png and .svg.

    Args:
        folder: Where to.
        comparison: What to write; benchmark.json holds its document and `reading`.
        manifest: Where the photographs of the page's examples are; without it the page has none.
        leakage: The leakage report of the split, where there is one.

    Returns:
        benchmark.json, which is written last.
    """
    return _write(folder, "benchmark", "error-curves", comparison, manifest, leakage)


def write_compare(
    folder: Path,
    comparison: Comparison,
    *,
    manifest: Manifest | None = None,
    leakage: Mapping[str, Any] | None = None,
) -> Path:
    """Write the comparison of reports: compare.json, compare.html, moved.csv, curves.png and curves.svg.

    Args:
        folder: Where to.
        comparison: What to write; compare.json holds its document and `reading`.
        manifest: Where the photographs of the page's examples are; without it the page has none.
        leakage: The leakage report of the split, where there is one.

    Returns:
        compare.json, which is written last.
    """
    names = list(comparison.evaluations)
    title = f"{' and '.join([', '.join(names[:-1]), names[-1]] if len(names) > 1 else names)} compared"
    if len(title) > _LONGEST_TITLE:
        title = f"{len(names)} systems compared"
    elif len(names) == 1:
        title = f"{names[0]}, seed by seed"
    return _write(folder, "compare", "curves", comparison, manifest, leakage, title=title)


def _write(
    folder: Path,
    stem: str,
    curves: str,
    comparison: Comparison,
    manifest: Manifest | None,
    leakage: Mapping[str, Any] | None,
    title: str = "Where was this taken?",
) -> Path:
    target = folder / f"{stem}.json"
    # Figures of an earlier comparison must not stand beside a new page if this is interrupted.
    target.unlink(missing_ok=True)
    write_benchmark_page(folder / f"{stem}.html", comparison, manifest=manifest, leakage=leakage, title=title)
    write_curves([folder / f"{curves}.{ending}" for ending in ("png", "svg")], comparison.document)
    with atomic_file(folder / "moved.csv") as beside:
        comparison.moved.to_csv(beside, index=False, float_format="%.10g")
    write_json(target, {**comparison.document, "reading": critical_reading(comparison.document)})
    return target
