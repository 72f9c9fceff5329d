"""An evaluation as files: the report, the predictions, the page and the figures."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from swclip.data.manifest import Manifest
from swclip.evaluation.predictions import write_predictions
from swclip.evaluation.report import report_of
from swclip.evaluation.result import Evaluation
from swclip.files import atomic_file, write_json
from swclip.reporting.figures import clear_figures, write_figures
from swclip.reporting.report import write_report_page


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

    FOLDER/predictions.parquet, FOLDER/figures, FOLDER/report.html, FOLDER/unanswered.csv where a tool did not
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
    document = report.as_dict()
    report_of(document, "the report that was measured")
    # Figures of an earlier evaluation must not stand beside new predictions if this one is interrupted.
    (out / "report.json").unlink(missing_ok=True)
    clear_figures(out / "figures")
    write_predictions(out / "predictions.parquet", evaluation.predictions)
    unanswered = out / "unanswered.csv"
    unanswered.unlink(missing_ok=True)
    if report.unanswered is not None and report.unanswered.queries:
        with atomic_file(unanswered) as beside:
            pd.DataFrame(report.unanswered.queries, columns=["image_id", "reason"]).to_csv(beside, index=False)
    if figures:
        write_figures(out / "figures", evaluation, title=title)
    found = report.leakage if leakage is None else leakage
    write_report_page(out / "report.html", evaluation, title=title, manifest=manifest, leakage=found)
    write_json(out / "report.json", document)
    return out / "report.json"
