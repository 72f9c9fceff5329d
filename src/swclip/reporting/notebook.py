"""What an evaluation offers in a notebook: tables, plots, a card, and the files that the command writes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from swclip.evaluation import frames as tables

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from swclip.data.manifest import Manifest
    from swclip.evaluation.measure import Evaluation


class NotebookViews:
    """The views of an `Evaluation`; each is made when it is asked for, from its report and predictions alone."""

    def summary(self) -> pd.DataFrame:
        """The headline figures with their intervals, one row; see `tables.summary_frame`."""
        return tables.summary_frame(_of(self).report)

    def errors(self) -> pd.DataFrame:
        """Statistics of the error by estimator, and of the baselines; see `tables.errors_frame`."""
        return tables.errors_frame(_of(self).report)

    def regions(self) -> pd.DataFrame:
        """The errors of each region; see `tables.regions_frame`."""
        return tables.regions_frame(_of(self).report)

    def levels(self) -> pd.DataFrame:
        """How well city and cells are known; see `tables.levels_frame`."""
        return tables.levels_frame(_of(self).report)

    def coverage(self) -> pd.DataFrame:
        """How often stated regions hold the truth; see `tables.coverage_frame`."""
        return tables.coverage_frame(_of(self).report)

    def spatial(self) -> pd.DataFrame:
        """How errors and embeddings lie on the ground; see `tables.spatial_frame`."""
        return tables.spatial_frame(_of(self).report)

    def correlogram(self) -> pd.DataFrame:
        """Embedding distance by ground distance; see `tables.correlogram_frame`."""
        return tables.correlogram_frame(_of(self).report)

    def plot_curve(self, **options: Any) -> Figure:
        """The error curve; see `report_figures.curve_figure`."""
        from swclip.reporting.figures import curve_figure

        return curve_figure(_of(self), **options)

    def plot_map(self, **options: Any) -> Figure:
        """A map of the queries; see `map_figure.map_figure`."""
        from swclip.reporting.map_figure import map_figure

        return map_figure(_of(self), **options)

    def plot_reliability(self, **options: Any) -> Figure:
        """Stated against found probability; see `report_figures.reliability_figure`."""
        from swclip.reporting.figures import reliability_figure

        return reliability_figure(_of(self), **options)

    def plot_regions(self, **options: Any) -> Figure:
        """Errors by region; see `report_figures.regions_figure`."""
        from swclip.reporting.figures import regions_figure

        return regions_figure(_of(self), **options)

    def save(
        self,
        folder: str | os.PathLike[str],
        *,
        title: str = "evaluation",
        manifest: Manifest | None = None,
        leakage: Mapping[str, Any] | None = None,
        figures: bool = True,
    ) -> Path:
        """Write report.json, predictions.parquet, report.html and figures, as `swclip evaluate` does.

        Args:
            folder: Made if it is not there.
            title: What was evaluated.
            manifest: Where the photographs of the examples are; without it the page has none.
            leakage: The leakage report of the splits; the evaluation's own where None.
            figures: Write the charts and maps as PNG and SVG into FOLDER/figures.

        Returns:
            The path of report.json.
        """
        from swclip.reporting.save import save_evaluation

        return save_evaluation(_of(self), folder, title=title, manifest=manifest, leakage=leakage, figures=figures)

    def _repr_html_(self) -> str:
        from swclip.reporting.notebook_card import card_html

        return card_html(_of(self))


def _of(views: NotebookViews) -> Evaluation:
    """Only `Evaluation` inherits the views."""
    return cast("Evaluation", views)
