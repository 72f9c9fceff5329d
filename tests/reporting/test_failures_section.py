"""Texts and charts of the spatial statistics follow the figures."""

from __future__ import annotations

import numpy as np
import pytest

from fixtures.reports import edited, without
from swclip.evaluation.report import Report
from swclip.metrics.spatial import Band, CorrelogramBands, Moran, Spatial
from swclip.reporting.failures_section import correlogram_chart, failures_section, lisa_note, moran_text

MORAN = Moran(i=0.31, expected=-0.002, z=9.0, p=0.001, permutations=999, neighbours=8, n=600)


def band(low: float, high: float, mean: float, pairs: int = 1_000) -> Band:
    return Band(low_m=low, high_m=high, pairs=pairs, mean_distance=mean, spearman=0.2, p=0.01)


def with_bands(report: Report, image: list[Band]) -> Report:
    assert report.spatial is not None
    spatial = report.spatial.model_copy(update={"correlogram": CorrelogramBands(image=image, location=None)})
    return report.model_copy(update={"spatial": spatial})


@pytest.mark.parametrize(
    ("i", "p", "words"),
    [
        (0.31, 0.001, "Large errors are clustered"),
        (-0.2, 0.001, "Errors are dispersed"),
        (0.31, 0.05, "No spatial autocorrelation is detected"),
        (0.0, 0.9, "No spatial autocorrelation is detected"),
    ],
)
def test_moran_text_follows_sign_and_significance(i: float, p: float, words: str) -> None:
    text = moran_text(MORAN.model_copy(update={"i": i, "p": p}))
    assert text.startswith(words)
    assert f"{i:.2f}" in text
    assert moran_text(None) == ""


def test_lisa_note_states_the_correction(report: Report) -> None:
    assert "(Benjamini-Hochberg): at most about 5 % of the marked queries" in lisa_note(report)
    counts = report.spatial.lisa.counts
    section = failures_section(report)
    assert section is not None
    assert [(name, int(count)) for name, count, _ in section.lisa] == list(counts.items())
    assert lisa_note(without(report, spatial=None)) == ""


@pytest.mark.parametrize(
    ("means", "words"),
    [
        ([0.2, 0.4, 0.6, 0.8], "rises up to the largest distance"),
        ([0.2, 0.7, 0.79, 0.8], "Beyond about 140 m it no longer rises"),
        ([0.5, 0.5, 0.4, 0.3], "nearby pairs are not more similar"),
    ],
)
def test_correlogram_text_depends_on_where_it_flattens(report: Report, means: list[float], words: str) -> None:
    edges = [0.0, 50.0, 100.0, 200.0, 400.0]
    bands = [band(low, high, mean) for low, high, mean in zip(edges, edges[1:], means, strict=False)]
    section = failures_section(with_bands(report, bands))
    assert section is not None
    assert words in section.correlogram
    assert "positions" not in section.correlogram
    chart = correlogram_chart({"image": bands})
    assert chart is not None
    assert chart.series[0].x == pytest.approx([25.0, np.sqrt(5_000), np.sqrt(20_000), np.sqrt(80_000)])
    assert chart.series[0].y == means


def test_bands_without_pairs_are_left_out(report: Report) -> None:
    empty = Band(low_m=25.0, high_m=50.0, pairs=0, mean_distance=None, spearman=None, p=None)
    section = failures_section(with_bands(report, [band(0, 25, 0.1), empty, band(50, 100, 0.3)]))
    assert section is not None
    assert section.charts[0].series[0].y == [0.1, 0.3]
    alone = failures_section(with_bands(report, [empty]))
    assert alone is not None
    assert alone.charts == []


def test_correlogram_text_ignores_bands_with_few_pairs(report: Report) -> None:
    bands = [band(0, 10, 0.9, pairs=16), band(10, 25, 0.1), band(25, 50, 0.2), band(50, 100, 0.4)]
    section = failures_section(with_bands(report, bands))
    assert section is not None
    assert section.correlogram.startswith("The mean embedding distance is 0.10 for photographs 10 to 25 m apart")


def test_every_part_of_the_spatial_statistics_is_optional(report: Report) -> None:
    for name in Spatial.model_fields:
        assert (
            failures_section(edited(report, lambda document, name=name: document["spatial"].update({name: None})))
            is not None
        )
    assert failures_section(without(report, spatial=None)) is None
    for name in ("correlogram", "mantel", "smoothness"):  # positions whose model has no location tower
        section = failures_section(
            edited(report, lambda document, name=name: document["spatial"][name].update(location=None))
        )
        assert section is not None
        assert section.smoothness is not None
