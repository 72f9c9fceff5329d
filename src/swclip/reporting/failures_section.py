"""Where it fails: the patterns that errors and embeddings make on the ground, each with a sentence on what it says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from swclip.evaluation.report import Report
from swclip.metrics.lisa import Label
from swclip.metrics.spatial import Band, Component, LisaCounts, Moran, Spatial
from swclip.reporting.page import COLOURS, Cell, Row, Table
from swclip.reporting.plots import Chart, Series, linear_axis, metre_axis
from swclip.reporting.units import chance, distance, metres, percent

SIGNIFICANT = 0.05
# From the first band that reaches this share of the largest distance, embeddings differ as much as they ever do.
_FLAT_SHARE = 0.95
# A sentence does not rest on the mean of fewer pairs, as long as there are bands with more.
_ENOUGH_PAIRS = 30

_WHAT = {"image": "photographs", "location": "positions"}
_COLOUR = {"image": COLOURS[0], "location": COLOURS[1]}


@dataclass(frozen=True)
class Failures:
    """What a page says of patterns in space.

    Attributes:
        moran: Whether errors come in clusters, as sentences; empty where it was not measured.
        lisa: What the colours of the map of clusters mean, and how many queries have each; empty where not measured.
        correlogram: What the chart of embeddings over the ground says; empty where there is none.
        charts: That chart, where there is one.
        bands: Its figures.
        smoothness: Figures of the embeddings' smoothness, None where not measured.
        components: Moran's I of the leading components, None where not measured.
    """

    moran: str
    lisa: list[tuple[str, str, str]]
    correlogram: str
    charts: list[Chart]
    bands: Table | None
    smoothness: Table | None
    components: Table | None


def failures(report: Report) -> Failures | None:
    """Lay out `spatial` of a report; None where it has none."""
    spatial = report.spatial
    if spatial is None:
        return None
    measured = {name: _with_pairs(own) for name, own in spatial.correlogram or ()}
    bands = {name: own for name, own in measured.items() if own}
    chart = correlogram_chart(bands)
    return Failures(
        moran=moran_text(spatial.errors_moran),
        lisa=_lisa_rows(spatial.lisa),
        correlogram=" ".join(_correlogram_text(name, own) for name, own in bands.items()),
        charts=[] if chart is None else [chart],
        bands=_band_table(bands) if bands else None,
        smoothness=_smoothness_table(spatial),
        components=_component_table(spatial.components),
    )


def _with_pairs(bands: Sequence[Band] | None) -> list[Band]:
    return [band for band in bands or () if band.pairs and band.mean_distance is not None]


def _embedding_distance(band: Band) -> float:
    """The mean distance of a band that has pairs."""
    return math.nan if band.mean_distance is None else band.mean_distance


def moran_text(own: Moran | None) -> str:
    """Moran's I of the errors, for someone who never heard of it.

    Example:
        >>> own = Moran(i=0.31, expected=-0.002, z=9.0, p=0.001, permutations=999, neighbours=8, n=600)
        >>> moran_text(own)[:57]
        'Large errors lie together: a query is likely to go wrong '
    """
    if own is None:
        return ""
    if own.p >= SIGNIFICANT:
        says = "No pattern is shown: whether a query goes wrong does not follow from its neighbours."
    elif own.i > own.expected:
        says = "Large errors lie together: a query is likely to go wrong where its neighbours do."
    else:
        says = "Neighbours differ more than chance would have it: a query goes wrong where its neighbours do not."
    return (
        f"{says} Moran's I of the errors is {own.i:.2f} over the {own.neighbours} nearest of {own.n:,} queries "
        f"(near 0 without a pattern, towards 1 if neighbours are alike; {chance(own.p)}, from shuffling the errors "
        f"over the places {own.permutations:,} times)."
    )


_LISA: dict[Label, str] = {
    "high-high": "large errors among large ones: the streets to look at first",
    "low-low": "small errors among small ones: what works",
    "high-low": "a large error among small ones: a photograph that fails where others do not",
    "low-high": "a small error among large ones",
    "not significant": "no more alike to its neighbours than chance would have it",
}


def _lisa_rows(own: LisaCounts | None) -> list[tuple[str, str, str]]:
    """Label, count and meaning."""
    if own is None:
        return []
    return [(name, f"{own.counts.get(name, 0):,}", meaning) for name, meaning in _LISA.items()]


def lisa_note(report: Report) -> str:
    """What it takes for a query to be marked, and how many are by chance."""
    own = None if report.spatial is None else report.spatial.lisa
    if own is None:
        return ""
    return (
        f"A query is marked where its neighbours' errors are alike, or unlike, to a degree that shuffling them "
        f"{own.permutations:,} times hardly ever gives. With so many queries asked at once the bar is set higher "
        f"({own.correction}): of the marked about {100 * own.alpha:g} % at most are to be put down to chance."
    )


def correlogram_chart(bands: Mapping[str, Sequence[Band]]) -> Chart | None:
    """Mean distance of embeddings against distance on the ground; None without bands."""
    if not bands:
        return None
    series = []
    for name, own in bands.items():
        x = [_middle(band) for band in own]
        y = [_embedding_distance(band) for band in own]
        told = [
            f"{_between(band)}: {_embedding_distance(band):.3f} ({band.pairs:,} pairs of {_WHAT[name]})" for band in own
        ]
        series.append(Series(_WHAT[name], x, y, _COLOUR[name], told, "both"))
    reach = [value for own in series for value in own.x]
    top = max(value for own in series for value in own.y)
    return Chart(
        "correlogram",
        "How embeddings change with distance",
        "Mean distance of two embeddings against their distance on the ground",
        metre_axis("distance on the ground", reach),
        linear_axis("distance of embeddings (1 - cosine)", 0.0, max(1.1 * top, 0.01), "{:g}".format),
        series,
    )


def _correlogram_text(name: str, bands: Sequence[Band]) -> str:
    bands = [band for band in bands if band.pairs >= _ENOUGH_PAIRS] or bands
    near, far = bands[0], bands[-1]
    at_near, at_far = _embedding_distance(near), _embedding_distance(far)
    text = (
        f"Two {_WHAT[name]} {_between(near)} apart differ by {at_near:.2f} on average, two {_between(far)} apart by "
        f"{at_far:.2f}"
    )
    if at_far <= at_near:
        return f"{text}: what is near is not more alike."
    if len(bands) < 3:
        return f"{text}."
    top = max(map(_embedding_distance, bands))
    flat = next(band for band in bands if _embedding_distance(band) >= _FLAT_SHARE * top)
    if flat is far:
        return f"{text}, and the line still rises at the end: they tell near from far over all of this range."
    return f"{text}; from about {distance(_round(_middle(flat)))} on they tell no more of the distance."


def _band_table(bands: Mapping[str, Sequence[Band]]) -> Table:
    rows = [
        Row(
            [
                Cell(_between(band)),
                Cell(_WHAT[name]),
                Cell(f"{band.pairs:,}"),
                Cell(f"{_embedding_distance(band):.3f}"),
                Cell(_figure(band.spearman)),
                Cell(_figure(band.p, 3)),
            ]
        )
        for name, own in bands.items()
        for band in own
    ]
    return Table(["on the ground", "of", "pairs", "mean distance", "rank correlation", "p"], rows)


def _smoothness_table(spatial: Spatial) -> Table | None:
    smoothness, mantel = dict(spatial.smoothness or ()), dict(spatial.mantel or ())
    rows = []
    within, k = 0.0, 0
    for name, what in _WHAT.items():
        own, over = smoothness.get(name), mantel.get(name)
        if own is None:
            continue
        within, k = own.within_m, own.k
        rows.append(
            Row(
                [
                    Cell(what),
                    Cell(_figure(own.ratio)),
                    Cell(_figure(own.spearman)),
                    Cell("" if over is None else f"{over.r:.2f}", small="" if over is None else chance(over.p)),
                ]
            )
        )
    if not rows:
        return None
    columns = [
        "",
        f"ground ratio of the {k} most alike",
        f"rank correlation within {distance(within)}",
        "Mantel correlation",
    ]
    return Table(columns, rows)


def _component_table(components: Sequence[Component] | None) -> Table | None:
    if not components:
        return None
    rows = [
        Row(
            [
                Cell(str(own.component)),
                Cell(percent(own.variance_share), share=own.variance_share),
                Cell(f"{own.i:.2f}"),
                Cell(f"{own.p:.3f}"),
            ]
        )
        for own in components
    ]
    return Table(["component", "share of the variance", "Moran's I", "p"], rows)


def _figure(value: float | None, decimals: int = 2) -> str:
    return "" if value is None else f"{value:.{decimals}f}"


def _middle(band: Band) -> float:
    low, high = band.low_m, band.high_m
    return math.sqrt(low * high) if low > 0 else high / 2.0


def _between(band: Band) -> str:
    low, high = band.low_m, band.high_m
    if low == 0.0:
        return f"up to {distance(high)}"
    left, right = metres(low) if low % 1 else distance(low), distance(high)
    number, _, unit = left.rpartition(" ")
    return f"{number if right.endswith(f' {unit}') else left} to {right}"


def _round(value: float) -> float:
    return float(f"{value:.1g}") if value >= 1_000 else float(f"{value:.2g}")
