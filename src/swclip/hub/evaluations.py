"""Evaluation reports of a model for its card: verification, tables, and metadata for the hub."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import EvalResult

from swclip.errors import MismatchError
from swclip.evaluation.report import Report, read_report
from swclip.metrics.error_report import Intervals
from swclip.metrics.parts import Errors
from swclip.reporting.page import Cell, Row, Table, interval_text, table_markdown
from swclip.reporting.units import area, distance, metres, percent

TASK = "image-feature-extraction"
"""The closest task of the hub, which has none for geo-localization."""

_RADII = ("25", "100", "1000")
_MAX_DISTRICTS = 20
_PROTOCOLS = {
    "known-places": "the training data contain other photographs of the same or neighbouring places",
    "new-streets": "the training data exclude whole blocks of streets with a buffer around them",
    "new-city": "the training data exclude a whole city",
    "published": "the training data are those of the data set's published splits",
}


def read_model_report(path: str | os.PathLike[str], fingerprint: str) -> Report:
    """Read a report and check that it evaluates a given model.

    Args:
        path: report.json, or the output folder of `swclip evaluate`.
        fingerprint: Fingerprint of the model.

    Raises:
        ArtefactError: The report is missing or of another version.
        MismatchError: The report evaluates another model or another tool.
    """
    source = Path(path)
    file = source / "report.json" if source.is_dir() else source
    report = read_report(file)
    model = report.made_with.get("model")
    if model != fingerprint:
        raise MismatchError(
            f"{file}: this report evaluates model {model}, but the run has {fingerprint}; evaluate the run again: "
            "swclip evaluate RUN --out REPORT"
        )
    return report


def protocol_of(report: Report) -> str:
    """Return the name of the split protocol of a report."""
    splits = report.made_with.get("splits", {})
    return str(splits.get("protocol") or "unknown protocol")


def query_text(report: Report) -> str:
    """Describe the queries and candidates of a report in a few sentences."""
    protocol = protocol_of(report)
    meaning = f" ({_PROTOCOLS[protocol]})" if protocol in _PROTOCOLS else ""
    queries = "validation queries, which also selected the weights," if report.on == "val" else "queries"
    intervals = report.intervals
    text = f"{report.n_queries:,} {queries} by the protocol `{protocol}`{meaning}"
    if report.gallery_size is not None:
        text += f", answered from {round(report.gallery_size):,} candidates"
    if report.n_answerable is not None:
        text += f"; {report.n_answerable:,} have a candidate within 25 m of the truth"
    return (
        f"{text}. In brackets: {100 * intervals.level:.0f} % intervals, which resample {intervals.blocks:,} "
        f"blocks of queries ({intervals.block})."
    )


def error_table(report: Report) -> str:
    """Tabulate the errors of the model, the oracle error and the baselines, as Markdown."""
    rows = [_error_row("this model", report.error_m, report.accuracy_within_m, report.intervals)]
    baselines = report.baselines
    for name, baseline in (
        ("oracle", baselines.floor),
        ("constant baseline", baselines.constant),
        ("random baseline", baselines.random),
    ):
        if baseline is not None:
            rows.append(_error_row(name, baseline, baseline.accuracy_within_m, None))
    columns = ["", "median", "mean", "p95", *(f"within {distance(float(radius))}" for radius in _RADII)]
    return table_markdown(Table(columns, rows))


def recall_text(report: Report) -> str:
    """State the recall at 25 m in a sentence; empty if candidates were not ranked."""
    recall = {k: share for k, share in (report.recall_at_k_25m or {}).items() if share is not None}
    if not recall:
        return ""
    figures = ", ".join(f"recall@{k} {percent(share)}" for k, share in recall.items())
    return f"Share of queries with a candidate within 25 m of the truth among the first k: {figures}."


def district_table(report: Report) -> str:
    """Tabulate the errors by district, as Markdown; empty for one district, or too many for a card."""
    districts = report.by_region
    if not 1 < len(districts) <= _MAX_DISTRICTS:
        return ""
    rows = [
        Row([Cell(str(name)), Cell(f"{errors.n:,}"), Cell(metres(errors.median)), Cell(metres(errors.mean))])
        for name, errors in sorted(districts.items(), key=lambda item: item[1].median)
    ]
    return table_markdown(Table(["district", "queries", "median", "mean"], rows))


def calibration_text(report: Report) -> str:
    """State the coverage of prediction regions in a sentence; empty if there are no regions."""
    calibration = report.calibration
    if calibration is None:
        return ""
    parts = []
    for level in calibration.levels:
        size = level.area_km2.median
        coverage = f"{percent(level.coverage)} at nominal coverage {percent(level.level)}"
        parts.append(coverage if size is None else f"{coverage} (median area {area(size)})")
    source = calibration.method.source
    queries = "validation queries" if source == "validation" else source
    return f"Coverage of prediction regions, calibrated on the {queries}: {'; '.join(parts)}." if parts else ""


def eval_results(report: Report) -> list[EvalResult]:
    """Return the headline figures as metadata for the hub, each with its protocol."""
    made, protocol = report.made_with, protocol_of(report)
    digest = str(made.get("manifest", {}).get("digest", ""))[:12]
    figures: list[tuple[str, str, float | None]] = [
        ("median_error_m", "median error (m)", report.error_m.median),
        ("mean_error_m", "mean error (m)", report.error_m.mean),
        ("p95_error_m", "95th percentile of the error (m)", report.error_m.p95),
        *(
            (f"within_{radius}_m", f"share within {radius} m", report.accuracy_within_m.get(radius))
            for radius in _RADII
        ),
        ("recall_at_1_25m", "recall@1 at 25 m", (report.recall_at_k_25m or {}).get("1")),
    ]
    return [
        EvalResult(
            task_type=TASK,
            task_name="street-view geo-localization",
            dataset_type="street-view-photographs",
            dataset_name=f"photographs {digest}, {protocol}",
            dataset_split="validation" if report.on == "val" else "query",
            dataset_args={"protocol": protocol, "queries": report.n_queries, "manifest": digest},
            metric_type=kind,
            metric_name=name,
            metric_value=value,
        )
        for kind, name, value in figures
        if value is not None
    ]


def _error_row(name: str, errors: Errors, within: Mapping[str, float], intervals: Intervals | None) -> Row:
    ends = {} if intervals is None else {"median": intervals.error_m.median, "mean": intervals.error_m.mean}
    cells = [Cell(name)]
    for figure, error_m in (("median", errors.median), ("mean", errors.mean), ("p95", errors.p95)):
        cells.append(Cell(metres(error_m), interval_text(ends[figure], metres) if figure in ends else ""))
    for radius in _RADII:
        share, interval = within.get(radius), intervals.accuracy_within_m.get(radius) if intervals else None
        text = "" if share is None else percent(share)
        cells.append(Cell(text, interval_text(interval, percent) if interval else ""))
    return Row(cells)
