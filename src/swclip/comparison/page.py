"""benchmark.html and compare.html: several systems on the same queries, with their data files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from swclip.comparison.comparison import Comparison, curves_chart, write_curves
from swclip.comparison.detail_tables import (
    agreement_bars,
    agreement_table,
    changes_by_pair,
    changes_table,
    further_table,
    winner_sentences,
    winner_tables,
)
from swclip.comparison.document import ComparisonDocument
from swclip.comparison.draws import DRAWS
from swclip.comparison.findings import claims, statistical_summary, verdict
from swclip.comparison.mean_report import MeanReport, with_gallery
from swclip.comparison.query_changes import log_ratio, median_over_seeds_m
from swclip.comparison.tables import (
    accuracy_table,
    difference_table,
    district_table,
    draws_tables,
    estimator_table,
    system_table,
)
from swclip.data.manifest import Manifest
from swclip.evaluation.report import Report
from swclip.files import atomic_file, guarded_cell, write_json
from swclip.reporting.examples import PER_KIND, Album, Example, pick_rows
from swclip.reporting.inline_svg import page_charts
from swclip.reporting.map_data import map_data
from swclip.reporting.page import Mark, baselines_note, line_style, map_note, reference_marks, write_page
from swclip.reporting.report import answerable_text, scale_for
from swclip.reporting.setting import protocol_words, provenance_rows, setting_text
from swclip.reporting.tables import leakage_section
from swclip.reporting.tiles import Tiles
from swclip.reporting.units import distance, percent

if TYPE_CHECKING:
    from swclip.comparison.benchmark import Benchmark
    from swclip.data.splits import Splits

_ORACLE = "The dashed line is the oracle error, the smallest of any answer at a candidate. "


def write_comparison_page(
    path: str | os.PathLike[str],
    comparison: Comparison,
    *,
    title: str = "",
    record: str = "benchmark.json",
    manifest: Manifest | None = None,
    leakage: Mapping[str, Any] | None = None,
    seed: int = 0,
    tiles: Tiles | None = None,
) -> None:
    """Write the page of a comparison.

    Args:
        path: The HTML file.
        comparison: The comparison.
        title: Title of the page; by default what is compared on what.
        record: Name of the file with the figures and settings.
        manifest: Photographs of the examples; without it the page shows none.
        leakage: Leakage report of the splits, where there is one.
        seed: Seed of the sample that a map shows of many queries and candidates.
        tiles: Map tiles below the map, which the reader's browser loads; None for a page that loads nothing.

    Raises:
        DiskFullError: The disk is full; an existing file is unchanged.
        InputError: The folder cannot be written.
    """
    document, systems = comparison.document, comparison.document.means
    baseline, reference = comparison.baseline, comparison.reference
    first = with_gallery([systems[baseline], *systems.values()])
    best = next(iter(systems))
    other = baseline if best != baseline else next((name for name in systems if name != baseline), baseline)
    styles = {name: line_style(at) for at, name in enumerate(document.systems)}
    firsts = {name: next(iter(comparison.evaluations[name].values())) for name in systems}
    map_ = map_data(firsts, np.random.default_rng(seed))
    marks = [_mark(name, mean, styles[name][0]) for name, mean in systems.items()]
    marks += reference_marks(first.baselines)
    setting = _setting(comparison, first)
    examples: dict[str, list[Example]] = {"gains": [], "losses": []}
    if manifest is not None and best != other:
        examples = _examples(comparison, best, other, manifest)
    seeds = max(len(seeds) for seeds in comparison.evaluations.values())
    further, further_note = further_table(document)
    contents = [
        ("findings", "Statistical summary"),
        *([("draws", "Draws")] if document.draws is not None else []),
        ("systems", "Systems"),
        ("map-section", "Map"),
        ("differences", "Differences"),
        ("curve-section", "Error distribution"),
        ("figures", "All figures"),
        ("districts", "Districts"),
        *([("queries", "Queries")] if len(systems) > 1 else []),
        ("leakage", "Leakage"),
        ("definitions", "Definitions"),
        ("provenance", "How this was made"),
    ]
    page = {
        "title": title or comparison_title(comparison),
        "setting": f"{setting_text(setting)}, {len(systems)} systems",
        "summary": _summary(comparison, best, other),
        "contents": contents,
        "marks": marks,
        "scale": scale_for(marks),
        "baselines_note": baselines_note(first.baselines),
        "seeds_note": f"mean of {seeds} seeds" if seeds > 1 else "one seed",
        "several_seeds": seeds > 1,
        "seeds": seeds,
        "parts": first.parts,
        "findings": statistical_summary(document),
        "systems": system_table(document),
        "differences": [
            (name, difference_table(differences, systems))
            for name, differences in ((baseline, document.from_baseline), (reference, document.from_reference))
            if differences
        ],
        "draws": draws_tables(document),
        "estimators": estimator_table(document),
        "estimator": document.estimator,
        "charts": page_charts([curves_chart(document)], full_width=("error-curve",)),
        "curve_note": f"{'Seeds are pooled. ' if seeds > 1 else ''}{_ORACLE if document.curves.floor else ''}"
        f"{answerable_text(setting)}",
        "map_note": f"{'One seed of each system. ' if seeds > 1 else ''}{map_note(map_['left_out'])}",
        "accuracy": accuracy_table(document),
        "districts": district_table(document),
        "notes": document.notes,
        "several_systems": len(systems) > 1,
        "further": further,
        "further_note": further_note,
        "common_setting": "The same queries for all systems"
        if "reports" in document.made_with
        else "The same photographs, splits and candidates for all systems",
        "candidates_shown": len(firsts[baseline].candidates) > 0,
        **(_query_by_query(document, best, other) if len(systems) > 1 else {}),
        "examples": examples,
        "best": best,
        "other": other,
        "leakage": leakage_section(leakage),
        "provenance": provenance_rows(setting),
        "record": record,
        "block": first.intervals.block,
        "random_draws": first.baselines.random and first.baselines.random.draws,
    }
    write_page(path, "benchmark.html.j2", page, {"map": map_, "map_system": best}, tiles=tiles)


def _setting(comparison: Comparison, mean: MeanReport) -> Report:
    """A report that describes the setting of a comparison: that of one seed, with the provenance of the comparison.

    Args:
        comparison: The comparison.
        mean: The mean report of the system whose gallery the page describes.
    """
    name = next(name for name, system in comparison.document.systems.items() if system.mean is mean)
    report = next(iter(comparison.evaluations[name].values())).report
    return report.model_copy(
        update={
            "estimator": mean.estimator,
            "intervals": mean.intervals,
            # The posteriors differ by system; benchmark.json has them in the reports of the seeds.
            "posterior": None,
            "made_with": comparison.document.made_with,
        }
    )


def _query_by_query(document: ComparisonDocument, best: str, other: str) -> dict[str, Any]:
    winners, more_winners = winner_tables(document.winners)
    return {
        "winners": winners,
        "more_winners": more_winners,
        "winner_sentences": winner_sentences(document.winners),
        "agreement": agreement_bars(document, best, other),
        "more_agreement": agreement_table(document) if len(document.pairs) > 1 else None,
        "changes_table": changes_table(document),
        "changes_by_pair": changes_by_pair(document, best, other),
    }


def _summary(comparison: Comparison, best: str, other: str) -> str:
    systems = comparison.document.systems
    mean, against = systems[best].mean, systems[other].mean
    text = (
        f"{best} locates half of the queries within {distance(mean.error_m.median)} of their true position and "
        f"{percent(mean.accuracy_within_m['100'])} within 100 m"
    )
    if best == other:
        return f"{text}."
    text += f"; for {other} these are {distance(against.error_m.median)} and "
    text += f"{percent(against.accuracy_within_m['100'])}."
    for claim in claims(comparison.document):
        if {claim.system, claim.against} == {best, other}:
            return f"{text} That {claim.text} is {verdict(claim)}."
    difference = systems[best if other == comparison.baseline else other].difference
    if difference is not None and difference.median.interval is not None:
        low, high = difference.median.interval
        if low <= 0.0 <= high:
            text += " The interval of the difference of the medians includes 0."
    return text


def _mark(name: str, mean: MeanReport, colour: str) -> Mark:
    low, high = mean.intervals.error_m.median
    return Mark(name, mean.error_m.median, low, high, colour)


def _examples(comparison: Comparison, best: str, other: str, manifest: Manifest) -> dict[str, list[Example]]:
    """Queries with the largest gains and losses of the best system over the other, with answers of its first seed."""
    evaluation = next(iter(comparison.evaluations[best].values()))
    errors, against = (median_over_seeds_m(comparison.errors_m(name)) for name in (best, other))
    ratio = log_ratio(against, errors)
    album, frame = Album(manifest, evaluation.candidates), evaluation.predictions
    blocks, taken = frame["block"].tolist(), set[int]()
    gains = [row for row in np.argsort(-ratio, kind="stable").tolist() if ratio[row] > 0.0]
    losses = [row for row in np.argsort(ratio, kind="stable").tolist() if ratio[row] < 0.0]

    def examples(rows: list[int]) -> list[Example]:
        return [_example(album, frame.iloc[row], {best: errors[row], other: against[row]}) for row in rows]

    return {
        "gains": examples(pick_rows(gains, blocks, PER_KIND, taken)),
        "losses": examples(pick_rows(losses, blocks, PER_KIND, taken)),
    }


def _example(album: Album, row: pd.Series[Any], errors_m: Mapping[str, float]) -> Example:
    return album.example(row, {name: float(error) for name, error in errors_m.items()})


Kind = Literal["benchmark", "compare"]

_CURVES = {"benchmark": "error-curves", "compare": "curves"}
# Numbers of systems and of cities that a title names, and its longest list of systems.
_NAMED, _LONGEST_LIST = 3, 60


def write_comparison(
    folder: Path,
    comparison: Comparison,
    kind: Kind,
    *,
    draw: str | None = None,
    manifest: Manifest | None = None,
    leakage: Mapping[str, Any] | None = None,
    tiles: Tiles | None = None,
) -> Path:
    """Write the files of a comparison.

    Of a benchmark these are benchmark.json, benchmark.html, moved.csv, error-curves.png and .svg; of reports
    compare.json, compare.html, moved.csv, curves.png and .svg. The JSON file has the document, and `reading`, the
    statistical summary.

    Args:
        folder: Output folder.
        comparison: The comparison.
        kind: Whether it is of a benchmark or of reports.
        draw: Name of the draw of the splits, where the comparison is one of several.
        manifest: Photographs of the examples; without it the page shows none.
        leakage: Leakage report of the splits, where there is one.
        tiles: Map tiles below the map, which the reader's browser loads; None for a page that loads nothing.

    Returns:
        The path of the JSON file, which is written last.
    """
    target = folder / f"{kind}.json"
    # An interruption must not leave figures of an earlier comparison beside a new page.
    target.unlink(missing_ok=True)
    title = comparison_title(comparison) + (f", {draw}" if draw else "")
    write_comparison_page(
        folder / f"{kind}.html",
        comparison,
        title=title,
        record=target.name,
        manifest=manifest,
        leakage=leakage,
        tiles=tiles,
    )
    write_curves([folder / f"{_CURVES[kind]}.{ending}" for ending in ("png", "svg")], comparison.document)
    with atomic_file(folder / "moved.csv") as beside:
        comparison.query_changes.map(guarded_cell).to_csv(beside, index=False, float_format="%.10g")
    document = comparison.document.model_copy(update={"reading": statistical_summary(comparison.document)})
    write_json(target, document.as_dict())
    return target


def write_benchmarks(
    folder: Path, benchmark: Benchmark, manifest: Manifest, splits: Sequence[Splits], *, tiles: Tiles | None = None
) -> list[Path]:
    """Write the comparisons of a benchmark: of one splits file into the folder, of several into a subfolder each.

    Args:
        folder: Output folder.
        benchmark: The benchmark; the pooled comparison of several splits files is written into the folder itself.
        manifest: Photographs of the examples.
        splits: The splits, for their leakage reports.
        tiles: Map tiles below the maps, which the reader's browser loads; None for pages that load nothing.

    Returns:
        The paths of the benchmark.json files.
    """
    leakage = {one.path.stem: one.leakage for one in splits}
    if len(splits) > 1:
        (folder / "benchmark.json").unlink(missing_ok=True)  # of other splits, or of runs that failed this time
    write = partial(write_comparison, kind="benchmark", manifest=manifest, tiles=tiles)
    files = []
    for name, comparison in benchmark.comparisons.items():
        files.append(write(folder if len(splits) == 1 else folder / name, comparison, leakage=leakage[name]))
    files += [write(folder / DRAWS / name, comparison, draw=name) for name, comparison in benchmark.draws.items()]
    if benchmark.pooled is not None:
        files.append(write(folder, benchmark.pooled))
    return files


def comparison_title(comparison: Comparison) -> str:
    """What a comparison is of: its systems, the protocol of the splits, and the cities of the queries."""
    names = list(comparison.document.means)
    splits = comparison.document.made_with.get("splits")
    protocol = splits.get("protocol") if isinstance(splits, Mapping) else None
    frame = next(iter(next(iter(comparison.evaluations.values())).values())).predictions
    cities = sorted(frame["city"].dropna().unique())
    where = f" on {protocol_words(str(protocol))}" if protocol else ""
    if cities:
        where += (
            f" {'of' if protocol else 'in'} {_listed(cities) if len(cities) <= _NAMED else f'{len(cities)} cities'}"
        )
    if len(names) == 1:
        return f"Seeds of {names[0]}{where}"
    if len(names) <= _NAMED and len(listed := _listed(names)) <= _LONGEST_LIST:
        return f"Comparison of {listed}{where}"
    return f"Comparison of {len(names)} systems{where}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(", ".join(part) for part in (names[:-1], names[-1:]) if len(part))
