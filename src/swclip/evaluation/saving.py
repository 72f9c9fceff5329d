"""An evaluation as files: the report, the predictions, the page and the figures."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from swclip.data.manifest import Manifest
from swclip.evaluation import plots
from swclip.evaluation.answers_page import write_answers_page
from swclip.evaluation.measure import Evaluation
from swclip.evaluation.predictions import write_predictions
from swclip.evaluation.report import write_report_page
from swclip.files import atomic_file, write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 150
_FIGURES: dict[str, Callable[[Evaluation], Figure]] = {
    "curve": plots.curve_figure,
    "map": plots.map_figure,
    "regions": plots.regions_figure,
    "reliability": plots.reliability_figure,
}


def save_evaluation(
    evaluation: Evaluation,
    folder: str | os.PathLike[str],
    *,
    title: str,
    manifest: Manifest | None = None,
    leakage: Mapping[str, Any] | None = None,
    figures: bool = True,
) -> Path:
    """Write what `swclip evaluate` writes.

    FOLDER/predictions.parquet, FOLDER/report.html, FOLDER/figures/*.png, FOLDER/unanswered.csv where a tool did not
    answer all, and at last FOLDER/report.json: where that is, the others are there and belong to it.

    Args:
        evaluation: What to write.
        folder: Made if it is not there.
        title: What was evaluated.
        manifest: Where the photographs of the examples are; without it the page has none.
        leakage: The leakage report of the splits; the evaluation's own where None.
        figures: Write the figures.

    Returns:
        The path of report.json.

    Raises:
        DiskFullError: The disk filled.
        InputError: The folder cannot be written.
    """
    out, report = Path(folder), evaluation.report
    # Figures of an earlier evaluation must not stand beside new predictions if this one is interrupted.
    (out / "report.json").unlink(missing_ok=True)
    _clear_figures(out / "figures")
    write_predictions(out / "predictions.parquet", evaluation.predictions)
    unanswered = out / "unanswered.csv"
    unanswered.unlink(missing_ok=True)
    if missing := (report.get("unanswered") or {}).get("queries"):
        with atomic_file(unanswered) as beside:
            pd.DataFrame(missing, columns=["image_id", "reason"]).to_csv(beside, index=False)
    page = out / "report.html"
    if answers_alone(report):
        write_answers_page(page, evaluation, title=title)
    else:
        found = report.get("leakage") if leakage is None else leakage
        write_report_page(page, evaluation, title=title, manifest=manifest, leakage=found)
    if figures:
        _write_figures(evaluation, out / "figures")
    write_json(out / "report.json", report)
    return out / "report.json"


def answers_alone(report: Mapping[str, Any]) -> bool:
    """Whether a report is of bare coordinates, without a posterior or candidates behind them."""
    return report.get("posterior", {}) is None


def _clear_figures(folder: Path) -> None:
    for name in _FIGURES:
        (folder / f"{name}.png").unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _write_figures(evaluation: Evaluation, folder: Path) -> None:
    probable = np.isfinite(evaluation.predictions["probability"].to_numpy(dtype=np.float64)).any()
    for name, draw in _FIGURES.items():
        if name != "reliability" or probable:
            with atomic_file(folder / f"{name}.png") as beside:
                draw(evaluation).savefig(beside, dpi=_DPI)
