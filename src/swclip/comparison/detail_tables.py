"""Detail tables of a comparison: best system by district, agreement, query changes and further figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from swclip.comparison.document import ComparisonDocument, Pair, QueryChange, Winner, Winners
from swclip.comparison.mean_report import MeanReport
from swclip.comparison.tables import difference_cell
from swclip.reporting.page import Cell, Row, Table
from swclip.reporting.units import metres, percent, signed

_PARTS = {"both": "#0b5cad", "only_first": "#5aa7d6", "only_second": "#f2b134", "neither": "#cfd6dd"}
_CHANCE = 0.05
_FIRST_DISTRICTS = 15
_NARROW = 14


@dataclass(frozen=True)
class BarPart:
    """A part of a bar: name, share and colour."""

    name: str
    share: float
    colour: str


@dataclass(frozen=True)
class AgreementBar:
    """Queries that two systems answer within a radius: both, one of them, or neither, as parts of a bar."""

    radius_m: int
    parts: list[BarPart]


@dataclass(frozen=True)
class ChangeTables:
    """Tables of the largest query changes between two systems; None where there are none."""

    system: str
    against: str
    gains: Table | None
    losses: Table | None


def winner_tables(winners: Winners) -> tuple[Table, Table | None]:
    """Best system by district: the fifteen districts with most queries, and all others."""
    districts = sorted(winners.regions.items(), key=lambda item: (-item[1].n, item[0]))
    rows = [_winner_row(name, winner, winners.min_blocks) for name, winner in districts]
    columns = ["district", "queries", "best", "second", "difference of medians"]
    first, rest = rows[:_FIRST_DISTRICTS], rows[_FIRST_DISTRICTS:]
    return Table(columns, first), Table(columns, rest) if rest else None


def winner_sentences(winners: Winners) -> list[str]:
    """In how many districts each system is best, and how many significant gaps to expect by chance."""
    gaps = [winner.gap for winner in winners.regions.values() if winner.gap is not None]
    with_interval = [gap for gap in gaps if gap.interval is not None]
    wins = [
        f"{name} in {count.regions:,} ({count.shown:,} significant)"
        for name, count in sorted(winners.wins.items(), key=lambda item: -item[1].regions)
        if count.regions
    ]
    if not wins:
        return ["In no district does a single system have the smallest median."]
    sentences = [
        f"System with the smallest median, by number of districts ({len(winners.regions):,}): {', '.join(wins)}."
    ]
    if len(with_interval) >= 10:
        sentences.append(
            f"The intervals of {sum(gap.excludes_zero for gap in gaps):,} of {len(with_interval):,} gaps exclude 0; "
            f"without any differences, about {round(_CHANCE * len(with_interval))} would exclude it by chance."
        )
    return sentences


def agreement_bars(document: ComparisonDocument, system: str, against: str) -> list[AgreementBar]:
    """Agreement of two systems, one bar per radius."""
    pair = next(pair for pair in document.pairs if {pair.system, pair.against} == {system, against})
    names = {
        "both": "both",
        "only_first": f"only {pair.system}",
        "only_second": f"only {pair.against}",
        "neither": "neither",
    }
    return [
        AgreementBar(int(radius), [BarPart(name, getattr(shares, key), _PARTS[key]) for key, name in names.items()])
        for radius, shares in pair.agreement.items()
    ]


def agreement_table(document: ComparisonDocument) -> Table:
    """Agreement of all pairs of systems."""
    rows = [
        Row(
            [
                Cell(f"{pair.system}, {pair.against}"),
                Cell(f"{radius} m"),
                *(Cell(percent(getattr(shares, key))) for key in _PARTS),
            ]
        )
        for pair in document.pairs
        for radius, shares in pair.agreement.items()
    ]
    return Table(["first, second", "within", "both", "only the first", "only the second", "neither"], rows)


def changes_table(document: ComparisonDocument) -> Table:
    """Shares of queries with large changes, between systems and between seeds of one system."""
    seeds = {name: share for name, share in document.moved_between_seeds.items() if share is not None}
    rows = [
        Row(
            [
                Cell(f"{pair.system} compared with {pair.against}"),
                Cell(percent(pair.moved.nearer)),
                Cell(percent(pair.moved.farther)),
            ]
        )
        for pair in document.pairs
    ]
    rows += [
        Row([Cell(f"{name}, between seeds"), Cell(percent(share)), Cell(percent(share))], reference=True)
        for name, share in seeds.items()
    ]
    return Table(["systems", "at most half the error", "at least twice the error"], rows)


def changes_by_pair(document: ComparisonDocument, system: str, against: str) -> list[ChangeTables]:
    """The largest query changes of each pair of systems, the given pair first."""
    pairs = sorted(document.pairs, key=lambda pair: {pair.system, pair.against} != {system, against})
    return [
        ChangeTables(
            pair.system, pair.against, _change_table(pair, pair.moved.gains), _change_table(pair, pair.moved.losses)
        )
        for pair in pairs
    ]


def further_table(document: ComparisonDocument) -> tuple[Table, str]:
    """Figures beyond the error that at least one system has, and their definitions."""
    systems = document.means
    texts = {title: [format_(mean) for mean in systems.values()] for title, format_, _ in _FURTHER}
    columns = {title: column for title, column in texts.items() if any(text is not None for text in column)}
    rows = [Row([Cell(name), *(_cell(column[at]) for column in columns.values())]) for at, name in enumerate(systems)]
    notes = [definition for title, _, definition in _FURTHER if definition and title in columns]
    if any(text is None for column in columns.values() for text in column):
        notes.append("A dash means that the reports of the system do not have the figure.")
    return Table(["system", *columns], rows), " ".join(notes)


def _winner_row(name: str, winner: Winner, min_blocks: int) -> Row:
    counts = [Cell(name), Cell(f"{winner.n:,}", small=f"{winner.blocks:,} block{'s' if winner.blocks != 1 else ''}")]
    first, second, gap = winner.first, winner.second, winner.gap
    if first is None or second is None or gap is None:
        smallest = metres(min(winner.median.values()))
        return Row([*counts, Cell("tied", small=smallest, faint=True), Cell(""), Cell("")])
    if gap.interval is None:
        last = Cell(signed(gap.value, "median"), faint=True, note=f"no interval, fewer than {min_blocks} blocks")
    else:
        last = difference_cell(gap, "median")
    best = Cell(first, small=metres(winner.median[first]), best=gap.excludes_zero)
    return Row([*counts, best, Cell(second, small=metres(winner.median[second])), last])


def _change_table(pair: Pair, changes: list[QueryChange]) -> Table | None:
    rows = [
        Row(
            [
                Cell(change.image_id, small=change.region),
                Cell(metres(change.error_m)),
                Cell(metres(change.against_m)),
                Cell(signed(change.change_m, "median")),
            ]
        )
        for change in changes
    ]
    names = (pair.system, pair.against)
    if max(map(len, names)) > _NARROW:  # a table of four columns must fit a phone
        names = ("its error", "other error")
    return Table(["query", *names, "change"], rows) if rows else None


def _cell(text: str | None) -> Cell:
    return Cell("\N{EN DASH}", faint=True) if text is None else Cell(text)


def _recall_text(k: int) -> Callable[[MeanReport], str | None]:
    def text(mean: MeanReport) -> str | None:
        recall = mean.recall(k)
        return None if recall is None else percent(recall)

    return text


def _ndcg_text(mean: MeanReport) -> str | None:
    ndcg = (mean.ndcg_at_k or {}).get("20")
    return None if ndcg is None else f"{ndcg:.3f}"


def _moran_text(mean: MeanReport) -> str | None:
    moran = None if mean.spatial is None else mean.spatial.errors_moran
    return None if moran is None else f"{moran.i:.2f}"


def _coverage_text(mean: MeanReport) -> str | None:
    figures = mean.coverage_at(0.8)
    return None if figures is None else percent(figures.coverage)


def _area_text(mean: MeanReport) -> str | None:
    figures = mean.coverage_at(0.8)
    return None if figures is None or figures.area_km2.median is None else f"{figures.area_km2.median:,.3g} km²"


_FURTHER: tuple[tuple[str, Callable[[MeanReport], str | None], str], ...] = (
    ("recall@5", _recall_text(5), ""),
    ("recall@20", _recall_text(20), ""),
    (
        "MRR",
        lambda mean: None if mean.mrr_25m is None else f"{mean.mrr_25m:.3f}",
        "MRR: mean of 1 / rank of the first candidate within 25 m, at most 1.",
    ),
    ("nDCG@20", _ndcg_text, "nDCG@20: how well the first 20 candidates are ranked by distance, at most 1."),
    (
        "GeoScore",
        lambda mean: f"{mean.geoscore:,.0f}",
        "GeoScore: mean of 5,000 exp(-error / 1,492.7 km), at most 5,000.",
    ),
    (
        "district gap",
        lambda mean: None if mean.regional is None else metres(mean.regional.gap),
        "District gap: largest minus smallest median error of the districts.",
    ),
    ("Moran's I", _moran_text, "Moran's I: spatial autocorrelation of the errors, about 0 for none."),
    (
        "80 % coverage",
        _coverage_text,
        "80 % coverage: share of 80 % prediction regions that contain the true position.",
    ),
    (
        "80 % area",
        _area_text,
        "80 % area: median area of these regions; among calibrated systems, smaller is better.",
    ),
)
