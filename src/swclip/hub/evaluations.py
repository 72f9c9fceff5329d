"""The evaluation of a model as its card tells it: checked to be of this model, as tables and as the hub's metadata."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import EvalResult

from swclip.comparison.markdown import table_markdown
from swclip.errors import MismatchError
from swclip.evaluation.report import Report, read_report
from swclip.metrics.error_report import Intervals
from swclip.metrics.parts import Errors
from swclip.reporting.page import Cell, Row, Table, interval_text
from swclip.reporting.units import area, distance, metres, percent

TASK = "image-feature-extraction"
"""The hub's task that fits best: it has none for geo-localization."""

_RADII = ("25", "100", "1000")
_MOST_REGIONS = 20
_PROTOCOLS = {
    "known-places": "the area is known: other photographs of the same places, or of their neighbours, were trained on",
    "new-streets": "whole blocks of streets, with a buffer round them, were never seen in training",
    "new-city": "a whole city was never seen in training",
}


def read_model_report(path: str | os.PathLike[str], fingerprint: str) -> Report:
    """Read a report and make sure that it is about one model.

    Args:
        path: report.json, or the folder that `swclip evaluate` wrote.
        fingerprint: The model's.

    Raises:
        ArtefactError: It is missing, or not a report of this version.
        MismatchError: It is about another model, or about what another tool answered.
    """
    given = Path(path)
    file = given / "report.json" if given.is_dir() else given
    report = read_report(file)
    model = report.made_with.get("model")
    if model != fingerprint:
        raise MismatchError(
            f"{file}: this report is about model {model}, and the run holds {fingerprint}; evaluate the run again: "
            "swclip evaluate RUN --out REPORT"
        )
    return report


def protocol_of(report: Report) -> str:
    """How the queries of a report were held out, in a word."""
    splits = report.made_with.get("splits", {})
    return str(splits.get("protocol") or "unknown protocol")


def asked_text(report: Report) -> str:
    """What was asked, and of what candidates, in a few sentences."""
    protocol = protocol_of(report)
    means = f" ({_PROTOCOLS[protocol]})" if protocol in _PROTOCOLS else ""
    asked = "validation queries, which also chose the weights," if report.on == "val" else "queries"
    intervals = report.intervals
    text = f"{report.n_queries:,} {asked} by the protocol `{protocol}`{means}"
    if report.gallery_size is not None:
        text += f", answered from {round(report.gallery_size):,} candidates"
    if report.n_answerable is not None:
        text += f"; {report.n_answerable:,} have a candidate within 25 m of the truth"
    return (
        f"{text}. In brackets: the {100 * intervals.level:.0f} % interval from resampling {intervals.blocks:,} "
        f"blocks of queries ({intervals.block})."
    )


def error_table(report: Report) -> str:
    """The errors of the model beside the best that the gallery allows and a guess, as Markdown."""
    rows = [_error_row("this model", report.error_m, report.accuracy_within_m, report.intervals)]
    baselines = report.baselines
    for name, guess in (
        ("best possible", baselines.floor),
        ("one guess for all", baselines.constant),
        ("random candidate", baselines.random),
    ):
        if guess is not None:
            rows.append(_error_row(name, guess, guess.accuracy_within_m, None))
    columns = ["", "median", "mean", "p95", *(f"within {distance(float(radius))}" for radius in _RADII)]
    return table_markdown(Table(columns, rows))


def recall_text(report: Report) -> str:
    """Recall at 25 m in a sentence; empty where candidates were not ranked."""
    known = {k: share for k, share in (report.recall_at_k_25m or {}).items() if share is not None}
    if not known:
        return ""
    told = ", ".join(
        f"{percent(share)} among the first {k}" if k != "1" else f"{percent(share)} the first"
        for k, share in known.items()
    )
    return f"A candidate within 25 m of the truth is: {told}."


def region_table(report: Report) -> str:
    """The errors by region, as Markdown; empty where there is one region, or too many for a card."""
    regions = report.by_region
    if not 1 < len(regions) <= _MOST_REGIONS:
        return ""
    rows = [
        Row([Cell(str(name)), Cell(f"{found.n:,}"), Cell(metres(found.median)), Cell(metres(found.mean))])
        for name, found in sorted(regions.items(), key=lambda item: item[1].median)
    ]
    return table_markdown(Table(["region", "queries", "median", "mean"], rows))


def sureness_text(report: Report) -> str:
    """Whether regions keep their promise, in sentences; empty where there are none."""
    calibration = report.calibration
    if calibration is None:
        return ""
    parts = []
    for level in calibration.levels:
        size = level.area_km2.median
        held = f"regions that promise {percent(level.level)} held {percent(level.coverage)} of the truths"
        parts.append(held if size is None else f"{held} (median area {area(size)})")
    source = calibration.method.source
    on = "validation queries" if source == "validation" else source
    return f"Calibrated on the {on}, {'; '.join(parts)}." if parts else ""


def eval_results(report: Report) -> list[EvalResult]:
    """The headline figures as the hub's metadata, each with its protocol."""
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
