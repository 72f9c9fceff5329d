"""Write an evaluation: report, predictions, page and figures."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from swclip.data.manifest import Manifest
from swclip.evaluation.report import report_of
from swclip.evaluation.result import Evaluation, write_predictions
from swclip.files import atomic_file, guarded_cell, write_json
from swclip.reporting.figures import clear_figures, write_figures
from swclip.reporting.report import write_report_page
from swclip.reporting.tiles import Tiles


def save_evaluation(
    evaluation: Evaluation,
    folder: str | os.PathLike[str],
    *,
    title: str,
    manifest: Manifest | None = None,
    leakage: Mapping[str, Any] | None = None,
    figures: bool = True,
    tiles: Tiles | None = None,
) -> Path:
    """Write the files of `swclip evaluate`.

    FOLDER/predictions.parquet, FOLDER/figures, FOLDER/report.html, FOLDER/unanswered.csv where queries are unanswered,
    and last FOLDER/report.json: where it exists, the other files are complete and belong to it.

    Args:
        evaluation: The evaluation.
        folder: Output folder, created if needed.
        title: Name of the system.
        manifest: Photographs of the examples; without it the page shows none.
        leakage: Leakage report of the splits; that of the evaluation where None.
        figures: Write the figures.
        tiles: Map tiles below the maps of the page, which the reader's browser loads; None for a page that loads
            nothing.

    Returns:
        The path of report.json.

    Raises:
        DiskFullError: The disk is full.
        InputError: The folder cannot be written.
    """
    out, report = Path(folder), evaluation.report
    document = report.as_dict()
    report_of(document, "the report that was measured")
    # An interruption must not leave figures of an earlier evaluation beside new predictions.
    (out / "report.json").unlink(missing_ok=True)
    clear_figures(out / "figures")
    write_predictions(out / "predictions.parquet", evaluation.predictions)
    unanswered = out / "unanswered.csv"
    unanswered.unlink(missing_ok=True)
    if report.unanswered is not None and report.unanswered.queries:
        with atomic_file(unanswered) as beside:
            frame = pd.DataFrame(report.unanswered.queries, columns=["image_id", "reason"])
            frame.map(guarded_cell).to_csv(beside, index=False)
    if figures:
        write_figures(out / "figures", evaluation, title=title)
    leakage = report.leakage if leakage is None else leakage
    write_report_page(out / "report.html", evaluation, title=title, manifest=manifest, leakage=leakage, tiles=tiles)
    write_json(out / "report.json", document)
    return out / "report.json"
