"""The tables of a comparison that look inside: who is ahead in each region, who agrees, and which queries moved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from swclip.comparison.curves import sorted_systems
from swclip.comparison.findings import is_shown
from swclip.comparison.tables import NO_DIFFERENCE
from swclip.reporting.page import Cell, Row, Table
from swclip.reporting.units import metres, percent, signed, signed_interval

_PARTS = {"both": "#0b5cad", "only_first": "#5aa7d6", "only_second": "#f2b134", "neither": "#cfd6dd"}
_CHANCE = 0.05
_SOME_REGIONS = 15
_NARROW = 14


@dataclass(frozen=True)
class Part:
    """A part of a bar: what it stands for, how large it is, its colour."""

    name: str
    share: float
    colour: str


@dataclass(frozen=True)
class Agreement:
    """How two systems share the queries out within one radius, in the parts of a bar."""

    radius_m: int
    parts: list[Part]


@dataclass(frozen=True)
class Moved:
    """The queries that moved most between two systems, as tables; None where there are none."""

    system: str
    against: str
    gains: Table | None
    losses: Table | None


def winner_tables(document: Mapping[str, Any]) -> tuple[Table, Table | None]:
    """Who is ahead in each region: the first fifteen regions, those with most queries first, and all others."""
    regions = sorted(document["winners"]["regions"].items(), key=lambda item: (-item[1]["n"], item[0]))
    rows = [_winner_row(name, own, document["winners"]["min_blocks"]) for name, own in regions]
    columns = ["region", "queries", "ahead", "next", "gap of the medians"]
    some, rest = rows[:_SOME_REGIONS], rows[_SOME_REGIONS:]
    return Table(columns, some), Table(columns, rest) if rest else None


def winner_sentences(document: Mapping[str, Any]) -> list[str]:
    """How many regions each system is ahead in, and how many of these gaps chance alone would show."""
    winners = document["winners"]
    gaps = [own["gap"] for own in winners["regions"].values() if own["gap"] is not None]
    with_interval = [gap for gap in gaps if gap["low"] is not None]
    wins = [
        f"{name} in {own['regions']:,} ({own['shown']:,} shown)"
        for name, own in sorted(winners["wins"].items(), key=lambda item: -item[1]["regions"])
        if own["regions"]
    ]
    if not wins:
        return ["In no region does one system have the smallest median by itself."]
    sentences = [f"Of {len(winners['regions']):,} regions the smallest median is that of {', of '.join(wins)}."]
    if len(with_interval) >= 10:
        sentences.append(
            f"{sum(map(is_shown, gaps)):,} of {len(with_interval):,} gaps leave 0 out; were all systems alike, about "
            f"{round(_CHANCE * len(with_interval))} would by chance."
        )
    return sentences


def agreement_bars(document: Mapping[str, Any], system: str, against: str) -> list[Agreement]:
    """The queries that two systems answer both, alone, or neither; a bar a radius."""
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
    """The same of all pairs, in figures."""
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


def moved_table(document: Mapping[str, Any]) -> Table:
    """How many queries each system moves, beside how many move between two seeds of one system."""
    seeds = {name: share for name, share in document["moved_between_seeds"].items() if share is not None}
    rows = [
        Row(
            [
                Cell(f"{pair['system']} against {pair['against']}"),
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
    return Table(["", "half or less", "twice or more"], rows)


def moved_pairs(document: Mapping[str, Any], system: str, against: str) -> list[Moved]:
    """The queries that moved most, pair by pair; the named pair, whichever way round it stands, first."""
    pairs = sorted(document["pairs"], key=lambda pair: {pair["system"], pair["against"]} != {system, against})
    return [
        Moved(pair["system"], pair["against"], _rows_table(pair, "gains"), _rows_table(pair, "losses"))
        for pair in pairs
    ]


def further_table(document: Mapping[str, Any]) -> tuple[Table, str]:
    """Figures beyond the error that the reports of at least one system have, and what they are."""
    systems = {name: document["systems"][name]["mean"] for name in sorted_systems(document)}
    told = {title: [_told(tell, report) for report in systems.values()] for title, tell, _ in _FURTHER}
    known = {title: texts for title, texts in told.items() if any(text is not None for text in texts)}
    rows = [Row([Cell(name), *(_known(texts[at]) for texts in known.values())]) for at, name in enumerate(systems)]
    notes = [meant for title, _, meant in _FURTHER if meant and title in known]
    if any(text is None for texts in known.values() for text in texts):
        notes.append("A dash: not in the system's reports.")
    return Table(["system", *known], rows), " ".join(notes)


def _winner_row(name: str, own: Mapping[str, Any], min_blocks: int) -> Row:
    counts = [Cell(name), Cell(f"{own['n']:,}", small=f"{own['blocks']:,} block{'s' if own['blocks'] != 1 else ''}")]
    if own["first"] is None:
        nearest = metres(min(own["median"].values()))
        return Row([*counts, Cell("none by itself", small=nearest, faint=True), Cell(""), Cell("")])
    gap = own["gap"]
    if gap["low"] is None:
        last = Cell(signed(gap["value"], "median"), faint=True, note=f"fewer than {min_blocks} blocks, no interval")
    else:
        last = Cell(
            signed(gap["value"], "median"),
            small=signed_interval(gap, "median"),
            best=is_shown(gap),
            faint=not is_shown(gap),
            note="" if is_shown(gap) else NO_DIFFERENCE,
        )
    first, second = own["first"], own["second"]
    ahead = Cell(first, small=metres(own["median"][first]), best=is_shown(gap))
    return Row([*counts, ahead, Cell(second, small=metres(own["median"][second])), last])


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
    if max(map(len, names)) > _NARROW:  # a table of four columns is to fit a phone
        names = ("its error", "the other's")
    return Table(["query", *names, "change"], rows) if rows else None


def _told(tell: Callable[[Mapping[str, Any]], str], report: Mapping[str, Any]) -> str | None:
    # What a report of an earlier version, or of a part of the queries, does not have is absent or null there.
    try:
        return tell(report)
    except (KeyError, TypeError, StopIteration):
        return None


def _known(text: str | None) -> Cell:
    return Cell("\N{EN DASH}", faint=True) if text is None else Cell(text)


def _level(report: Mapping[str, Any], level: float) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next(own for own in report["calibration"]["levels"] if own["level"] == level)
    return found


_FURTHER: tuple[tuple[str, Callable[[Mapping[str, Any]], str], str], ...] = (
    ("recall@5", lambda report: percent(report["recall_at_k_25m"]["5"]), ""),
    ("recall@20", lambda report: percent(report["recall_at_k_25m"]["20"]), ""),
    (
        "MRR",
        lambda report: f"{report['mrr_25m']:.3f}",
        "MRR: mean of 1 / rank of the first candidate within 25 m, at best 1.",
    ),
    (
        "nDCG@20",
        lambda report: f"{report['ndcg_at_k']['20']:.3f}",
        "nDCG@20: how well the first 20 candidates are ordered by nearness, at best 1.",
    ),
    (
        "GeoScore",
        lambda report: f"{report['geoscore']:,.0f}",
        "GeoScore: mean of 5,000 exp(-error / 1,492.7 km), at best 5,000.",
    ),
    (
        "region gap",
        lambda report: metres(report["regional"]["gap"]),
        "Region gap: the largest of the regions' medians less the smallest.",
    ),
    (
        "Moran's I",
        lambda report: f"{report['spatial']['errors_moran']['i']:.2f}",
        "Moran's I: how much the errors of neighbouring queries resemble each other, about 0 for not at all.",
    ),
    (
        "80 % hold",
        lambda report: percent(_level(report, 0.8)["coverage"]),
        "80 % hold: how often the areas that are stated to hold the truth with 80 % do.",
    ),
    (
        "80 % area",
        lambda report: f"{_level(report, 0.8)['area_km2']['median']:,.3g} km²",
        "80 % area: their median; of two systems whose areas hold what they state, the smaller ones say more.",
    ),
)
