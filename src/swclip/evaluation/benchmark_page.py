"""benchmark.html: several systems on the same queries, side by side."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from swclip.data.manifest import Manifest
from swclip.evaluation.comparison import Comparison
from swclip.evaluation.examples import PER_KIND, Album, Example, pick_rows
from swclip.evaluation.figures import error_curve, map_data
from swclip.evaluation.leakage_table import leakage_section
from swclip.evaluation.page import (
    COLOURS,
    REFERENCE_COLOUR,
    Cell,
    Mark,
    Row,
    Table,
    accuracy_columns,
    accuracy_row,
    interval_text,
    map_note,
    marks_note,
    reference_marks,
    reference_rows,
    write_page,
)
from swclip.evaluation.report import answerable_text, kicker, made_rows, scale_of
from swclip.evaluation.words import distance, metres, percent

# Below this an error is not worth telling from another: the ratio of 1 m to 2 m would win every contest.
_SMALLEST_M = 10.0


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
    systems = {name: system["mean"] for name, system in comparison.document["systems"].items()}
    baseline = comparison.baseline
    first = systems[baseline]
    best = min(systems, key=lambda name: float(systems[name]["error_m"]["median"]))
    other = baseline if best != baseline else next((name for name in systems if name != baseline), baseline)
    colours = {name: COLOURS[at % len(COLOURS)] for at, name in enumerate(systems)}
    firsts = {name: next(iter(seeds.values())) for name, seeds in comparison.evaluations.items()}
    drawn = map_data(firsts, np.random.default_rng(seed))
    marks = [_mark(name, report, colours[name]) for name, report in systems.items()]
    marks += reference_marks(first["baselines"])
    examples = _examples(comparison, best, other, manifest) if manifest is not None and best != other else {}
    seeds = max(len(seeds) for seeds in comparison.evaluations.values())
    contents = [
        ("systems", "Side by side"),
        ("curve-section", "Curve"),
        ("map-section", "Map"),
        ("figures", "All figures"),
        ("regions", "By region"),
        *([("examples", "Examples")] if examples else []),
        ("leakage", "Leakage"),
        ("made", "How it was made"),
    ]
    page = {
        "title": title,
        "kicker": f"{kicker({**first, 'made_with': comparison.document['made_with']})}, {len(systems)} systems",
        "lede": _lede(comparison, best, other),
        "contents": contents,
        "marks": marks,
        "scale": scale_of(marks),
        "marks_note": marks_note(first["baselines"]),
        "seeds_note": f"mean of {seeds} seeds" if seeds > 1 else "one seed",
        "spread_note": " After ± the standard deviation over seeds." if seeds > 1 else "",
        "systems": _system_table(systems),
        "baseline": baseline,
        "differences": _difference_table(comparison),
        "curve_note": f"{'Seeds are pooled. ' if seeds > 1 else ''}{answerable_text(first)}",
        "map_note": f"{'One seed of each system. ' if seeds > 1 else ''}{map_note(drawn['left_out'])}",
        "accuracy": _accuracy_table(systems),
        "regions": _region_table(systems),
        "examples": examples,
        "best": best,
        "other": other,
        "leakage": leakage_section(leakage),
        # Each system has a posterior of its own: it stands in benchmark.json, with the reports of the seeds.
        "made": made_rows({**first, "posterior": None, "made_with": comparison.document["made_with"]}),
        "block": first["intervals"]["block"],
        "random_draws": first["baselines"]["random"]["draws"],
    }
    curves = [
        {
            "name": name,
            "colour": colours[name],
            "dash": "solid",
            "reference": False,
            **error_curve(comparison.errors_m(name)),
        }
        for name in systems
    ]
    floor = error_curve(firsts[baseline].predictions["floor_m"])
    curves.append({"name": "floor", "colour": REFERENCE_COLOUR, "dash": "dash", "reference": True, **floor})
    write_page(path, "benchmark.html.j2", page, {"curves": curves, "map": drawn, "map_system": best})


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


def _system_table(systems: Mapping[str, Mapping[str, Any]]) -> Table:
    columns = ["system", "median", "mean", "p95", "within 25 m", "within 100 m", "recall@1", "recall@10"]
    figures = {name: _headline(report) for name, report in systems.items()}
    lowest = [min(row[at][0] for row in figures.values()) for at in range(3)]
    highest = [max(row[at][0] for row in figures.values()) for at in range(3, 7)]
    best = [*lowest, *highest]
    rows = []
    for name, row in figures.items():
        cells = [
            Cell(
                (metres if at < 3 else percent)(value) + spread,
                small=small,
                best=value == best[at] and len(systems) > 1,
            )
            for at, (value, spread, small) in enumerate(row)
        ]
        rows.append(Row([Cell(name), *cells]))
    first = next(iter(systems.values()))
    for name, guess in reference_rows(first["baselines"]):
        errors = [Cell(metres(guess[key])) for key in ("median", "mean", "p95")]
        shares = [Cell(percent(guess["accuracy_within_m"][key])) for key in ("25", "100")]
        rows.append(Row([Cell(name), *errors, *shares, Cell(""), Cell("")], reference=True))
    return Table(columns, rows)


def _headline(report: Mapping[str, Any]) -> list[tuple[float, str, str]]:
    """Value, spread over seeds and interval of each headline figure."""
    intervals, spread = report["intervals"], report.get("seed_sd")
    figures = []
    for group, key, unit in (
        ("error_m", "median", metres),
        ("error_m", "mean", metres),
        ("error_m", "p95", metres),
        ("accuracy_within_m", "25", percent),
        ("accuracy_within_m", "100", percent),
    ):
        interval = intervals[group].get(key)
        deviation = (spread or {}).get(group, {}).get(key)
        figures.append(
            (
                float(report[group][key]),
                "" if deviation is None else f" ± {_spread(deviation, float(report[group][key]), unit)}",
                "" if interval is None else interval_text(interval, unit),
            )
        )
    return figures + [(float(report["recall_at_k_25m"][k]), "", "") for k in ("1", "10")]


def _spread(deviation: float, value: float, unit: Callable[[float], str]) -> str:
    # In the unit of the value it stands beside: 23.8 km ± 1.5 km, not ± 1,473 m.
    if unit is metres and value >= 9_999.5:
        return f"{deviation / 1_000.0:,.1f} km"
    return unit(deviation)


def _difference_table(comparison: Comparison) -> Table | None:
    rows = []
    for name, system in comparison.document["systems"].items():
        if "difference" not in system:
            continue
        difference = system["difference"]
        cells = [
            Cell(text, small=small, best=difference[key]["low"] > 0.0 or difference[key]["high"] < 0.0)
            for key in ("median", "mean", "within_25", "within_100")
            for text, small in [_signed(difference[key], shares=key.startswith("within"))]
        ]
        rows.append(Row([Cell(name), *cells]))
    return Table(["system", "median", "mean", "within 25 m", "within 100 m"], rows) if rows else None


def _signed(difference: Mapping[str, float], shares: bool) -> tuple[str, str]:
    def text(value: float) -> str:
        sign = "+" if value > 0 else "\N{MINUS SIGN}" if value < 0 else ""
        return f"{sign}{100.0 * abs(value):.1f} points" if shares else f"{sign}{metres(abs(value))}"

    return text(difference["value"]), interval_text((difference["low"], difference["high"]), text)


def _accuracy_table(systems: Mapping[str, Mapping[str, Any]]) -> Table:
    first = next(iter(systems.values()))
    references = reference_rows(first["baselines"])
    radii = accuracy_columns([*systems.values(), *(figures for _, figures in references)])
    best = {radius: max(float(report["accuracy_within_m"][radius]) for report in systems.values()) for radius in radii}
    rows = [accuracy_row(name, report, radii, best) for name, report in systems.items()]
    rows += [accuracy_row(name, figures, radii) for name, figures in references]
    return Table(["", *(distance(float(radius)) for radius in radii)], rows)


def _region_table(systems: Mapping[str, Mapping[str, Any]]) -> Table:
    regions = next(iter(systems.values()))["by_region"]
    hardest = sorted(regions, key=lambda name: -min(float(r["by_region"][name]["median"]) for r in systems.values()))
    rows = []
    for region in hardest:
        medians = {name: float(report["by_region"][region]["median"]) for name, report in systems.items()}
        lowest = min(medians.values())
        cells = [Cell(metres(value), best=value == lowest and len(systems) > 1) for value in medians.values()]
        rows.append(Row([Cell(region), Cell(f"{regions[region]['n']:,}"), *cells]))
    return Table(["region", "queries", *systems], rows)


def _examples(comparison: Comparison, best: str, other: str, manifest: Manifest) -> dict[str, list[Example]]:
    """Queries where the best system gains most on the other, and where it loses most; first seeds."""
    evaluation = next(iter(comparison.evaluations[best].values()))
    own, against = comparison.errors_m(best)[0], comparison.errors_m(other)[0]
    ratio = np.log(np.maximum(against, _SMALLEST_M)) - np.log(np.maximum(own, _SMALLEST_M))
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
