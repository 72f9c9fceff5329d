"""An evaluation in a notebook: tables, plots, a card, and the files of the command."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import escape

from swclip.evaluation import frames as tables
from swclip.evaluation.result import Evaluation
from swclip.reporting.figures import curve_figure, districts_figure, map_figure, reliability_figure
from swclip.reporting.page import interval_text
from swclip.reporting.plots import data_uri
from swclip.reporting.save import save_evaluation
from swclip.reporting.tiles import Tiles
from swclip.reporting.units import metres, percent

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from swclip.data.manifest import Manifest


@dataclass(frozen=True)
class EvaluationReport(Evaluation):
    """An `Evaluation` with tables, plots and files, computed on request from its report and predictions."""

    @classmethod
    def of(cls, evaluation: Evaluation) -> EvaluationReport:
        """Wrap an evaluation."""
        return cls(**{field.name: getattr(evaluation, field.name) for field in fields(Evaluation)})

    def summary(self) -> pd.DataFrame:
        """The headline figures with their intervals, one row; see `tables.summary_frame`."""
        return tables.summary_frame(self.report)

    def errors(self) -> pd.DataFrame:
        """Statistics of the error by estimator, and of the baselines; see `tables.errors_frame`."""
        return tables.errors_frame(self.report)

    def regions(self) -> pd.DataFrame:
        """Errors by district; see `tables.districts_frame`."""
        return tables.districts_frame(self.report)

    def levels(self) -> pd.DataFrame:
        """Accuracy at each hierarchy level; see `tables.levels_frame`."""
        return tables.levels_frame(self.report)

    def coverage(self) -> pd.DataFrame:
        """Coverage of the prediction regions; see `tables.coverage_frame`."""
        return tables.coverage_frame(self.report)

    def spatial(self) -> pd.DataFrame:
        """Spatial statistics of errors and embeddings; see `tables.spatial_frame`."""
        return tables.spatial_frame(self.report)

    def correlogram(self) -> pd.DataFrame:
        """Embedding distance by geographic distance; see `tables.correlogram_frame`."""
        return tables.correlogram_frame(self.report)

    def plot_curve(self, **options: Any) -> Figure:
        """The error distribution (CDF); see `figures.curve_figure`."""
        return curve_figure(self, **options)

    def plot_map(self, **options: Any) -> Figure:
        """A map of the queries; see `figures.map_figure`."""
        return map_figure(self, **options)

    def plot_reliability(self, **options: Any) -> Figure:
        """Reliability diagram; see `figures.reliability_figure`."""
        return reliability_figure(self, **options)

    def plot_regions(self, **options: Any) -> Figure:
        """Errors by district; see `figures.districts_figure`."""
        return districts_figure(self, **options)

    def save(
        self,
        folder: str | os.PathLike[str],
        *,
        title: str = "evaluation",
        manifest: Manifest | None = None,
        leakage: Mapping[str, Any] | None = None,
        figures: bool = True,
        tiles: Tiles | None = None,
    ) -> Path:
        """Write report.json, predictions.parquet, report.html and figures, as `swclip evaluate` does.

        Args:
            folder: Output folder, created if needed.
            title: Name of the system.
            manifest: Photographs of the examples; without it the page shows none.
            leakage: Leakage report of the splits; that of the evaluation where None.
            figures: Write charts and maps as PNG and SVG to FOLDER/figures.
            tiles: Map tiles below the maps of the page, such as `Tiles.of("osm")` of `swclip.reporting.tiles`, which
                the browser of a reader loads from their provider; None for a page that loads nothing.

        Returns:
            The path of report.json.
        """
        return save_evaluation(
            self, folder, title=title, manifest=manifest, leakage=leakage, figures=figures, tiles=tiles
        )

    def __repr__(self) -> str:
        report = self.report
        return (
            f"EvaluationReport({report.n_queries:,} queries, median error {metres(report.error_m.median)}, "
            f"{percent(report.accuracy_within_m['25'])} within 25 m)"
        )

    def _repr_html_(self) -> str:
        return card_html(self)


def card_html(evaluation: Evaluation) -> str:
    """The headline figures and a small error distribution as one self-contained HTML element.

    It sets its own colours, to be legible in dark and light notebooks.
    """
    report = evaluation.report
    head = [f"{report.n_queries:,} queries"]
    if report.n_unanswered:
        head.append(f"{report.n_unanswered:,} unanswered")
    size = report.gallery_size
    head.append("gallery not known" if size is None else f"{size:,} candidates")
    head.append(f"estimator: {report.estimator}")
    references = (("oracle error", report.baselines.floor), ("constant baseline", report.baselines.constant))
    baselines = [(name, figures) for name, figures in references if figures is not None]
    error, intervals = report.error_m, report.intervals
    rows = [
        _row(
            "median error", error.median, intervals.error_m.median, [figures.median for _, figures in baselines], metres
        ),
        _row("mean error", error.mean, intervals.error_m.mean, [figures.mean for _, figures in baselines], metres),
    ]
    for radius in ("25", "100"):
        share, interval = report.accuracy_within_m[radius], intervals.accuracy_within_m[radius]
        of_baselines = [figures.accuracy_within_m[radius] for _, figures in baselines]
        rows.append(_row(f"within {radius} m", share, interval, of_baselines, percent))
    recall = (report.recall_at_k_25m or {}).get("1")
    if recall is not None:
        rows.append(["recall@1 at 25 m", percent(recall), "", *[""] * len(baselines)])
    header = ["figure", "value", "95 % interval", *(name for name, _ in baselines)]
    th = "padding:3px 14px 3px 0;font-weight:500;color:#566372;text-align:right"
    td = "padding:3px 14px 3px 0;text-align:right;white-space:nowrap;border-top:1px solid #dfe4ea"
    cells = "".join(f'<th style="{th}">{escape(name)}</th>' for name in header)
    body = "".join(f"<tr>{''.join(_cell(text, at, td) for at, text in enumerate(row))}</tr>" for row in rows)
    curve = data_uri(curve_figure(evaluation, size=(4.6, 2.7), titled=False))
    return (
        '<div style="display:inline-block;max-width:100%;box-sizing:border-box;background:#fff;color:#18212b;'
        "border:1px solid #dfe4ea;border-radius:10px;padding:14px 18px;font:14px/1.45 system-ui,-apple-system,"
        "'Segoe UI',Roboto,'Liberation Sans',Arial,sans-serif;font-variant-numeric:tabular-nums\">"
        f'<div style="color:#566372;margin-bottom:6px">{escape(", ".join(head))}</div>'
        '<div style="display:flex;flex-wrap:wrap;gap:10px 26px;align-items:center">'
        '<div style="overflow-x:auto;max-width:100%;min-width:0">'
        '<table style="border-collapse:collapse;margin:0;border:0;background:#fff;color:#18212b">'
        f'<thead><tr style="background:#fff">{cells}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
        f'<img src="{curve}" alt="Error distribution" style="width:340px;max-width:100%;height:auto;margin:0">'
        "</div></div>"
    )


def _cell(text: str, at: int, style: str) -> str:
    column = {0: ";text-align:left", 1: ";font-weight:680"}.get(at, ";color:#566372")
    return f'<td style="{style}{column};background:#fff">{escape(text)}</td>'


def _row(
    name: str, value: float, interval: Sequence[float], references: Sequence[float], unit: Callable[[float], str]
) -> list[str]:
    return [name, unit(value), interval_text(interval, unit), *(unit(reference) for reference in references)]
