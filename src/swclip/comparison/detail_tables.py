"""Detail tables of a comparison: best system by district, agreement, query changes and further figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from swclip.comparison.curves import sorted_systems
from swclip.comparison.findings import excludes_zero
from swclip.comparison.tables import INCLUDES_ZERO
from swclip.reporting.page import Cell, Row, Table
from swclip.reporting.units import metres, percent, signed, signed_interval

_PARTS = {"both": "#0b5cad", "only_first": "#5aa7d6", "only_second": "#f2b134", "neither": "#cfd6dd"}
_CHANCE = 0.05
_FIRST_DISTRICTS = 15
_NARROW = 14


@dataclass(frozen=True)
class Part:
    """A part of a bar: name, share and colour."""

    name: str
    share: float
    colour: str


@dataclass(frozen=True)
class Agreement:
    """Queries that two systems answer within a radius: both, one of them, or neither, as parts of a bar."""

    radius_m: int
    parts: list[Part]


@dataclass(frozen=True)
class QueryChanges:
    """Tables of the largest query changes between two systems; None where there are none."""

    system: str
    against: str
    gains: Table | None
    losses: Table | None


def winner_tables(document: Mapping[str, Any]) -> tuple[Table, Table | None]:
    """Best system by district: the fifteen districts with most queries, and all others."""
    districts = sorted(document["winners"]["regions"].items(), key=lambda item: (-item[1]["n"], item[0]))
    rows = [_winner_row(name, winner, document["winners"]["min_blocks"]) for name, winner in districts]
    columns = ["district", "queries", "best", "second", "difference of medians"]
    first, rest = rows[:_FIRST_DISTRICTS], rows[_FIRST_DISTRICTS:]
    return Table(columns, first), Table(columns, rest) if rest else None


def winner_sentences(document: Mapping[str, Any]) -> list[str]:
    """In how many districts each system is best, and how many significant gaps to expect by chance."""
    winners = document["winners"]
    gaps = [winner["gap"] for winner in winners["regions"].values() if winner["gap"] is not None]
    with_interval = [gap for gap in gaps if gap["low"] is not None]
    wins = [
        f"{name} in {count['regions']:,} ({count['shown']:,} significant)"
        for name, count in sorted(winners["wins"].items(), key=lambda item: -item[1]["regions"])
        if count["regions"]
    ]
    if not wins:
        return ["In no district does a single system have the smallest median."]
    sentences = [
        f"System with the smallest median, by number of districts ({len(winners['regions']):,}): {', '.join(wins)}."
    ]
    if len(with_interval) >= 10:
        sentences.append(
            f"The intervals of {sum(map(excludes_zero, gaps)):,} of {len(with_interval):,} gaps exclude 0; without any "
            f"differences, about {round(_CHANCE * len(with_interval))} would exclude it by chance."
        )
    return sentences


def agreement_bars(document: Mapping[str, Any], system: str, against: str) -> list[Agreement]:
    """Agreement of two systems, one bar per radius."""
    pair = next(pair for pair in document["pairs"] if {pair["system"], pair["against"]} == {system, against})
    names = {
        "both": "both",
        "only_first": f"only {pair['system']}",
        "only_second": f"only {pair['against']}",
        "neither": "neither",
    }
    return [
        Agreement(int(radius), [Part(name, shares[key], _PARTS[key]) for key, name in names.items()])
        for radius, shares in pair["agreement"].items()
    ]


def agreement_table(document: Mapping[str, Any]) -> Table:
    """Agreement of all pairs of systems."""
    rows = [
        Row(
            [
                Cell(f"{pair['system']}, {pair['against']}"),
                Cell(f"{radius} m"),
                *(Cell(percent(shares[key])) for key in _PARTS),
            ]
        )
        for pair in document["pairs"]
        for radius, shares in pair["agreement"].items()
    ]
    return Table(["first, second", "within", "both", "only the first", "only the second", "neither"], rows)


def changes_table(document: Mapping[str, Any]) -> Table:
    """Shares of queries with large changes, between systems and between seeds of one system."""
    seeds = {name: share for name, share in document["moved_between_seeds"].items() if share is not None}
    rows = [
        Row(
            [
                Cell(f"{pair['system']} compared with {pair['against']}"),
                Cell(percent(pair["moved"]["nearer"])),
                Cell(percent(pair["moved"]["farther"])),
            ]
        )
        for pair in document["pairs"]
    ]
    rows += [
        Row([Cell(f"{name}, between seeds"), Cell(percent(share)), Cell(percent(share))], reference=True)
        for name, share in seeds.items()
    ]
    return Table(["", "at most half the error", "at least twice the error"], rows)


def changes_by_pair(document: Mapping[str, Any], system: str, against: str) -> list[QueryChanges]:
    """The largest query changes of each pair of systems, the given pair first."""
    pairs = sorted(document["pairs"], key=lambda pair: {pair["system"], pair["against"]} != {system, against})
    return [
        QueryChanges(pair["system"], pair["against"], _rows_table(pair, "gains"), _rows_table(pair, "losses"))
        for pair in pairs
    ]


def further_table(document: Mapping[str, Any]) -> tuple[Table, str]:
    """Figures beyond the error that at least one system has, and their definitions."""
    systems = {name: document["systems"][name]["mean"] for name in sorted_systems(document)}
    texts = {title: [_text_or_none(format_, report) for report in systems.values()] for title, format_, _ in _FURTHER}
    columns = {title: column for title, column in texts.items() if any(text is not None for text in column)}
    rows = [Row([Cell(name), *(_cell(column[at]) for column in columns.values())]) for at, name in enumerate(systems)]
    notes = [definition for title, _, definition in _FURTHER if definition and title in columns]
    if any(text is None for column in columns.values() for text in column):
        notes.append("A dash means that the reports of the system do not have the figure.")
    return Table(["system", *columns], rows), " ".join(notes)


def _winner_row(name: str, winner: Mapping[str, Any], min_blocks: int) -> Row:
    blocks = winner["blocks"]
    counts = [Cell(name), Cell(f"{winner['n']:,}", small=f"{blocks:,} block{'s' if blocks != 1 else ''}")]
    if winner["first"] is None:
        smallest = metres(min(winner["median"].values()))
        return Row([*counts, Cell("tied", small=smallest, faint=True), Cell(""), Cell("")])
    gap = winner["gap"]
    if gap["low"] is None:
        last = Cell(signed(gap["value"], "median"), faint=True, note=f"no interval, fewer than {min_blocks} blocks")
    else:
        last = Cell(
            signed(gap["value"], "median"),
            small=signed_interval(gap, "median"),
            best=excludes_zero(gap),
            faint=not excludes_zero(gap),
            note="" if excludes_zero(gap) else INCLUDES_ZERO,
        )
    first, second = winner["first"], winner["second"]
    best = Cell(first, small=metres(winner["median"][first]), best=excludes_zero(gap))
    return Row([*counts, best, Cell(second, small=metres(winner["median"][second])), last])


def _rows_table(pair: Mapping[str, Any], side: str) -> Table | None:
    rows = [
        Row(
            [
                Cell(row["image_id"], small=row["region"]),
                Cell(metres(row["error_m"])),
                Cell(metres(row["against_m"])),
                Cell(signed(row["change_m"], "median")),
            ]
        )
        for row in pair["moved"][side]
    ]
    names = (pair["system"], pair["against"])
    if max(map(len, names)) > _NARROW:  # a table of four columns must fit a phone
        names = ("its error", "other error")
    return Table(["query", *names, "change"], rows) if rows else None


def _text_or_none(format_: Callable[[Mapping[str, Any]], str], report: Mapping[str, Any]) -> str | None:
    # Reports of an earlier version, or of a subset of the queries, lack some figures: the keys are absent or null.
    try:
        return format_(report)
    except (KeyError, TypeError, StopIteration):
        return None


def _cell(text: str | None) -> Cell:
    return Cell("\N{EN DASH}", faint=True) if text is None else Cell(text)


def _level(report: Mapping[str, Any], level: float) -> Mapping[str, Any]:
    figures: Mapping[str, Any] = next(item for item in report["calibration"]["levels"] if item["level"] == level)
    return figures


_FURTHER: tuple[tuple[str, Callable[[Mapping[str, Any]], str], str], ...] = (
    ("recall@5", lambda report: percent(report["recall_at_k_25m"]["5"]), ""),
    ("recall@20", lambda report: percent(report["recall_at_k_25m"]["20"]), ""),
    (
        "MRR",
        lambda report: f"{report['mrr_25m']:.3f}",
        "MRR: mean of 1 / rank of the first candidate within 25 m, at most 1.",
    ),
    (
        "nDCG@20",
        lambda report: f"{report['ndcg_at_k']['20']:.3f}",
        "nDCG@20: how well the first 20 candidates are ranked by distance, at most 1.",
    ),
    (
        "GeoScore",
        lambda report: f"{report['geoscore']:,.0f}",
        "GeoScore: mean of 5,000 exp(-error / 1,492.7 km), at most 5,000.",
    ),
    (
        "district gap",
        lambda report: metres(report["regional"]["gap"]),
        "District gap: largest minus smallest median error of the districts.",
    ),
    (
        "Moran's I",
        lambda report: f"{report['spatial']['errors_moran']['i']:.2f}",
        "Moran's I: spatial autocorrelation of the errors, about 0 for none.",
    ),
    (
        "80 % coverage",
        lambda report: percent(_level(report, 0.8)["coverage"]),
        "80 % coverage: share of 80 % prediction regions that contain the true position.",
    ),
    (
        "80 % area",
        lambda report: f"{_level(report, 0.8)['area_km2']['median']:,.3g} km²",
        "80 % area: median area of these regions; among calibrated systems, smaller is better.",
    ),
)
