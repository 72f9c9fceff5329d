"""Spatial statistics on a report page: Moran's I and LISA of the errors, correlogram and smoothness of embeddings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from swclip.evaluation.report import Report
from swclip.metrics.lisa import Label
from swclip.metrics.spatial import Band, Component, LisaCounts, Moran, Spatial
from swclip.reporting.page import COLOURS, Cell, Row, Table
from swclip.reporting.plots import Chart, Series, linear_axis, metre_axis
from swclip.reporting.units import distance, metres, p_value, percent

SIGNIFICANT = 0.05
# The correlogram counts as flat from the first band whose mean distance is this share of the largest one.
_FLAT_SHARE = 0.95
# Bands with fewer pairs are not used in sentences, unless all bands have fewer.
_ENOUGH_PAIRS = 30

_SUBJECT = {"image": "photographs", "location": "positions"}
_COLOUR = {"image": COLOURS[0], "location": COLOURS[1]}


@dataclass(frozen=True)
class FailuresSection:
    """Texts, tables and charts of the spatial statistics.

    Attributes:
        moran: Whether errors are clustered, as sentences; empty where not measured.
        lisa: Label, number of queries and meaning of each cluster type; empty where not measured.
        correlogram: Summary of the correlogram, as sentences; empty where there is none.
        charts: The correlogram, where there is one.
        bands: Figures of the correlogram, None where there is none.
        smoothness: Smoothness of the embeddings, None where not measured.
        components: Moran's I of the leading components, None where not measured.
    """

    moran: str
    lisa: list[tuple[str, str, str]]
    correlogram: str
    charts: list[Chart]
    bands: Table | None
    smoothness: Table | None
    components: Table | None


def failures_section(report: Report) -> FailuresSection | None:
    """The section of a report's `spatial`; None where it was not measured."""
    spatial = report.spatial
    if spatial is None:
        return None
    measured = {name: _with_pairs(bands) for name, bands in spatial.correlogram or ()}
    bands = {name: nonempty for name, nonempty in measured.items() if nonempty}
    chart = correlogram_chart(bands)
    return FailuresSection(
        moran=moran_text(spatial.errors_moran),
        lisa=_lisa_rows(spatial.lisa),
        correlogram=" ".join(_correlogram_text(*item) for item in bands.items()),
        charts=[] if chart is None else [chart],
        bands=_band_table(bands) if bands else None,
        smoothness=_smoothness_table(spatial),
        components=_component_table(spatial.components),
    )


def _with_pairs(bands: Sequence[Band] | None) -> list[Band]:
    return [band for band in bands or () if band.pairs and band.mean_distance is not None]


def _embedding_distance(band: Band) -> float:
    """Mean embedding distance of a band with pairs."""
    return math.nan if band.mean_distance is None else band.mean_distance


def moran_text(moran: Moran | None) -> str:
    """Moran's I of the errors, with its interpretation.

    Example:
        >>> moran = Moran(i=0.31, expected=-0.002, z=9.0, p=0.001, permutations=999, neighbours=8, n=600)
        >>> moran_text(moran)[:51]
        'Large errors are clustered: neighbouring queries te'
    """
    if moran is None:
        return ""
    if moran.p >= SIGNIFICANT:
        finding = "No spatial autocorrelation is detected: errors of neighbouring queries are unrelated."
    elif moran.i > moran.expected:
        finding = "Large errors are clustered: neighbouring queries tend to have similar errors."
    else:
        finding = "Errors are dispersed: neighbouring queries have less similar errors than expected by chance."
    return (
        f"{finding} Moran's I of the errors is {moran.i:.2f} with the {moran.neighbours} nearest neighbours of each of "
        f"{moran.n:,} queries (about 0 without spatial autocorrelation, towards 1 for similar neighbours; "
        f"{p_value(moran.p)}, {moran.permutations:,} permutations)."
    )


_LISA: dict[Label, str] = {
    "high-high": "large error among large errors: where the system fails systematically",
    "low-low": "small error among small errors: where the system works",
    "high-low": "large error among small errors: a single photograph that fails",
    "low-high": "small error among large errors",
    "not significant": "no significant association with its neighbours",
}


def _lisa_rows(lisa: LisaCounts | None) -> list[tuple[str, str, str]]:
    """Label, count and meaning."""
    if lisa is None:
        return []
    return [(name, f"{lisa.counts.get(name, 0):,}", meaning) for name, meaning in _LISA.items()]


def lisa_note(report: Report) -> str:
    """Significance test and correction of the clusters; empty where they were not measured."""
    lisa = None if report.spatial is None else report.spatial.lisa
    if lisa is None:
        return ""
    return (
        f"A query belongs to a cluster where its local Moran's I is significant ({lisa.permutations:,} permutations). "
        f"The p-values are corrected for testing every query ({lisa.correction}): at most about {100 * lisa.alpha:g} % "
        "of the marked queries are expected to be false discoveries."
    )


def correlogram_chart(bands: Mapping[str, Sequence[Band]]) -> Chart | None:
    """Mean embedding distance against geographic distance; None without bands."""
    if not bands:
        return None
    series = []
    for name, measured in bands.items():
        x = [_middle(band) for band in measured]
        y = [_embedding_distance(band) for band in measured]
        labels = [
            f"{_range_text(band)}: {_embedding_distance(band):.3f} ({band.pairs:,} pairs of {_SUBJECT[name]})"
            for band in measured
        ]
        series.append(Series(_SUBJECT[name], x, y, _COLOUR[name], labels, "both"))
    reach = [value for line in series for value in line.x]
    top = max(value for line in series for value in line.y)
    return Chart(
        "correlogram",
        "Correlogram of the embeddings",
        "Mean embedding distance of pairs against their geographic distance",
        metre_axis("geographic distance", reach),
        linear_axis("embedding distance (1 - cosine)", 0.0, max(1.1 * top, 0.01), "{:g}".format),
        series,
    )


def _correlogram_text(name: str, bands: Sequence[Band]) -> str:
    bands = [band for band in bands if band.pairs >= _ENOUGH_PAIRS] or bands
    near, far = bands[0], bands[-1]
    at_near, at_far = _embedding_distance(near), _embedding_distance(far)
    text = (
        f"The mean embedding distance is {at_near:.2f} for {_SUBJECT[name]} {_range_text(near)} apart and {at_far:.2f} "
        f"for {_SUBJECT[name]} {_range_text(far)} apart"
    )
    if at_far <= at_near:
        return f"{text}: nearby pairs are not more similar."
    if len(bands) < 3:
        return f"{text}."
    top = max(map(_embedding_distance, bands))
    flat = next(band for band in bands if _embedding_distance(band) >= _FLAT_SHARE * top)
    if flat is far:
        return f"{text}. It rises up to the largest distance: the embeddings resolve distance over the whole range."
    return f"{text}. Beyond about {distance(_round(_middle(flat)))} it no longer rises."


def _band_table(bands: Mapping[str, Sequence[Band]]) -> Table:
    rows = [
        Row(
            [
                Cell(_range_text(band)),
                Cell(_SUBJECT[name]),
                Cell(f"{band.pairs:,}"),
                Cell(f"{_embedding_distance(band):.3f}"),
                Cell(_figure(band.spearman)),
                Cell(_figure(band.p, 3)),
            ]
        )
        for name, measured in bands.items()
        for band in measured
    ]
    return Table(
        ["geographic distance", "embeddings of", "pairs", "mean embedding distance", "rank correlation", "p"], rows
    )


def _smoothness_table(spatial: Spatial) -> Table | None:
    smoothness, mantel = dict(spatial.smoothness or ()), dict(spatial.mantel or ())
    rows = []
    within, k = 0.0, 0
    for name, subject in _SUBJECT.items():
        figures, test = smoothness.get(name), mantel.get(name)
        if figures is None:
            continue
        within, k = figures.within_m, figures.k
        rows.append(
            Row(
                [
                    Cell(subject),
                    Cell(_figure(figures.ratio)),
                    Cell(_figure(figures.spearman)),
                    Cell("" if test is None else f"{test.r:.2f}", small="" if test is None else p_value(test.p)),
                ]
            )
        )
    if not rows:
        return None
    columns = [
        "embeddings of",
        f"distance ratio, {k} nearest embeddings",
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
                Cell(str(component.component)),
                Cell(percent(component.variance_share), share=component.variance_share),
                Cell(f"{component.i:.2f}"),
                Cell(f"{component.p:.3f}"),
            ]
        )
        for component in components
    ]
    return Table(["component", "explained variance", "Moran's I", "p"], rows)


def _figure(value: float | None, decimals: int = 2) -> str:
    return "" if value is None else f"{value:.{decimals}f}"


def _middle(band: Band) -> float:
    low, high = band.low_m, band.high_m
    return math.sqrt(low * high) if low > 0 else high / 2.0


def _range_text(band: Band) -> str:
    low, high = band.low_m, band.high_m
    if low == 0.0:
        return f"up to {distance(high)}"
    left, right = metres(low) if low % 1 else distance(low), distance(high)
    number, _, unit = left.rpartition(" ")
    return f"{number if right.endswith(f' {unit}') else left} to {right}"


def _round(value: float) -> float:
    return float(f"{value:.1g}") if value >= 1_000 else float(f"{value:.2g}")
