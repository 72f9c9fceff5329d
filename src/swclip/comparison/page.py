"""benchmark.html: several systems on the same queries, side by side."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from swclip.comparison.comparison import Comparison
from swclip.comparison.curves import curves_chart, sorted_systems, write_curves
from swclip.comparison.detail_tables import (
    agreement_bars,
    agreement_table,
    further_table,
    moved_pairs,
    moved_table,
    winner_sentences,
    winner_tables,
)
from swclip.comparison.findings import critical_reading
from swclip.comparison.pooling import baselines_of, with_gallery
from swclip.comparison.query_changes import log_ratio, typical_m
from swclip.comparison.tables import accuracy_table, difference_table, estimator_table, region_table, system_table
from swclip.data.manifest import Manifest
from swclip.evaluation.report import Report
from swclip.files import atomic_file, write_json
from swclip.metrics.error_report import Intervals
from swclip.reporting.examples import PER_KIND, Album, Example, pick_rows
from swclip.reporting.inline_svg import page_charts
from swclip.reporting.map_data import map_data
from swclip.reporting.page import Mark, line_style, map_note, marks_note, reference_marks, write_page
from swclip.reporting.report import answerable_text, kicker, made_rows, scale_of
from swclip.reporting.tables import leakage_section
from swclip.reporting.units import distance, percent

if TYPE_CHECKING:
    from swclip.comparison.benchmark import Benchmark
    from swclip.data.splits import Splits

_ORACLE = "The dashed line is the oracle error, the best achievable by naming candidates of this gallery. "


def write_benchmark_page(
    path: str | os.PathLike[str],
    comparison: Comparison,
    *,
    title: str = "Where was this taken?",
    manifest: Manifest | None = None,
    leakage: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> None:
    """Write the page of a comparison.

    Args:
        path: The HTML file.
        comparison: What to show.
        title: The page's title.
        manifest: Where the photographs of the examples are; without it the page has none.
        leakage: The leakage report of the split, where there is one.
        seed: Of the choice of what a map leaves out when it would hold too much.

    Raises:
        DiskFullError: The disk filled; what was there before is as it was.
        InputError: The folder cannot be written.
    """
    document = comparison.document
    systems = {name: document["systems"][name]["mean"] for name in sorted_systems(document)}
    baseline, reference = comparison.baseline, comparison.reference
    first = with_gallery([systems[baseline], *systems.values()])
    best = min(systems, key=lambda name: float(systems[name]["error_m"]["median"]))
    other = baseline if best != baseline else next((name for name in systems if name != baseline), baseline)
    styles = {name: line_style(at) for at, name in enumerate(document["systems"])}
    firsts = {name: next(iter(comparison.evaluations[name].values())) for name in systems}
    drawn = map_data(firsts, np.random.default_rng(seed))
    marks = [_mark(name, report, styles[name][0]) for name, report in systems.items()]
    baselines = baselines_of(first)
    marks += reference_marks(baselines)
    setting = _setting(comparison, first)
    examples: dict[str, list[Example]] = {"gains": [], "losses": []}
    if manifest is not None and best != other:
        examples = _examples(comparison, best, other, manifest)
    seeds = max(len(seeds) for seeds in comparison.evaluations.values())
    further, further_note = further_table(document)
    contents = [
        ("reading-section", "Reading"),
        ("systems", "Side by side"),
        ("curve-section", "Curve"),
        ("map-section", "Map"),
        ("figures", "All figures"),
        ("regions", "By region"),
        *([("queries", "Query by query")] if len(systems) > 1 else []),
        ("leakage", "Leakage"),
        ("made", "How it was made"),
    ]
    page = {
        "title": title,
        "kicker": f"{kicker(setting)}, {len(systems)} systems",
        "lede": _lede(comparison, best, other),
        "contents": contents,
        "marks": marks,
        "scale": scale_of(marks),
        "marks_note": marks_note(baselines),
        "seeds_note": f"mean of {seeds} seeds" if seeds > 1 else "one seed",
        "several_seeds": seeds > 1,
        "seeds": seeds,
        "parts": first.get("parts"),
        "reading": critical_reading(document),
        "systems": system_table(document),
        "differences": [
            (name, difference_table(document, key))
            for name, key in ((baseline, "difference"), (reference, "difference_from_reference"))
            if name is not None and len(systems) > 1
        ],
        "estimators": estimator_table(document),
        "charts": page_charts([curves_chart(document)], full_width=("error-curve",)),
        "curve_note": f"{'Seeds are pooled. ' if seeds > 1 else ''}{_ORACLE if document['curves']['floor'] else ''}"
        f"{answerable_text(setting)}",
        "map_note": f"{'One seed of each system. ' if seeds > 1 else ''}{map_note(drawn['left_out'])}",
        "accuracy": accuracy_table(document),
        "regions": region_table(document),
        "notes": document["notes"],
        "several_systems": len(systems) > 1,
        "further": further,
        "further_note": further_note,
        "alike": "The same queries for all"
        if "reports" in document["made_with"]
        else "Same photographs, same split, same candidates",
        "candidates_shown": len(firsts[baseline].candidates) > 0,
        **(_query_by_query(document, best, other) if len(systems) > 1 else {}),
        "examples": examples,
        "best": best,
        "other": other,
        "leakage": leakage_section(leakage),
        "made": made_rows(setting),
        "block": first["intervals"]["block"],
        "random_draws": None if baselines.random is None else baselines.random.draws,
    }
    write_page(path, "benchmark.html.j2", page, {"map": drawn, "map_system": best})


def _setting(comparison: Comparison, mean: Mapping[str, Any]) -> Report:
    """A report that says what was asked of what, and how: that of one seed, with what the comparison did.

    Args:
        comparison: The comparison.
        mean: The mean report of the system whose gallery the page speaks of.
    """
    means = {name: system["mean"] for name, system in comparison.document["systems"].items()}
    name = next(name for name, own in means.items() if own is mean)
    report = next(iter(comparison.evaluations[name].values())).report
    return report.model_copy(
        update={
            "estimator": mean["estimator"],
            "intervals": Intervals.model_validate(mean["intervals"]),
            # Each system has a posterior of its own: it stands in benchmark.json, with the reports of the seeds.
            "posterior": None,
            "made_with": comparison.document["made_with"],
        }
    )


def _query_by_query(document: Mapping[str, Any], best: str, other: str) -> dict[str, Any]:
    some, more = winner_tables(document)
    return {
        "winners": some,
        "more_winners": more,
        "winner_sentences": winner_sentences(document),
        "agreement": agreement_bars(document, best, other),
        "more_agreement": agreement_table(document) if len(document["pairs"]) > 1 else None,
        "moved_table": moved_table(document),
        "moved_pairs": moved_pairs(document, best, other),
    }


def _lede(comparison: Comparison, best: str, other: str) -> str:
    systems = comparison.document["systems"]
    own = systems[best]["mean"]
    text = (
        f"{best} places half of the photographs within {distance(own['error_m']['median'])} of where they were taken, "
        f"and {percent(own['accuracy_within_m']['100'])} within 100 m"
    )
    if best == other:
        return f"{text}."
    against = systems[other]["mean"]
    median, share = against["error_m"]["median"], against["accuracy_within_m"]["100"]
    text += f"; {other} within {distance(median)}, and {percent(share)}."
    pair = systems[best if other == comparison.baseline else other].get("difference", {}).get("median")
    if pair is not None and pair["low"] <= 0.0 <= pair["high"]:
        text += " On these queries the two medians cannot be told apart."
    return text


def _mark(name: str, report: Mapping[str, Any], colour: str) -> Mark:
    low, high = report["intervals"]["error_m"]["median"]
    return Mark(name, report["error_m"]["median"], low, high, colour)


def _examples(comparison: Comparison, best: str, other: str, manifest: Manifest) -> dict[str, list[Example]]:
    """Queries where the best system gains most on the other, and where it loses most; the answers of its first seed."""
    evaluation = next(iter(comparison.evaluations[best].values()))
    own, against = typical_m(comparison.errors_m(best)), typical_m(comparison.errors_m(other))
    ratio = log_ratio(against, own)
    album, frame = Album(manifest, evaluation.candidates), evaluation.predictions
    blocks, taken = frame["block"].tolist(), set[int]()
    gains = [row for row in np.argsort(-ratio, kind="stable").tolist() if ratio[row] > 0.0]
    losses = [row for row in np.argsort(ratio, kind="stable").tolist() if ratio[row] < 0.0]

    def shown(rows: list[int]) -> list[Example]:
        return [_example(album, frame.iloc[row], {best: own[row], other: against[row]}) for row in rows]

    return {
        "gains": shown(pick_rows(gains, blocks, PER_KIND, taken)),
        "losses": shown(pick_rows(losses, blocks, PER_KIND, taken)),
    }


def _example(album: Album, row: pd.Series[Any], errors_m: Mapping[str, float]) -> Example:
    return album.example(row, {name: float(error) for name, error in errors_m.items()})


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


def write_benchmarks(folder: Path, benchmark: Benchmark, manifest: Manifest, splits: Sequence[Splits]) -> list[Path]:
    """Write each comparison of a benchmark: of one split into the folder, of several into a folder each.

    Args:
        folder: The benchmark's folder.
        benchmark: What to write; the pooled comparison of several splits goes into the folder itself.
        manifest: Where the photographs of the pages' examples are.
        splits: The splits, for their leakage reports.

    Returns:
        The benchmark.json files.
    """
    leakage = {one.path.stem: one.leakage for one in splits}
    if len(splits) > 1:
        (folder / "benchmark.json").unlink(missing_ok=True)  # of another set of splits, or of runs that failed now
    files = [
        write_benchmark(
            folder if len(splits) == 1 else folder / name, comparison, manifest=manifest, leakage=leakage[name]
        )
        for name, comparison in benchmark.comparisons.items()
    ]
    if benchmark.pooled is not None:
        files.append(write_benchmark(folder, benchmark.pooled, manifest=manifest))
    return files


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
