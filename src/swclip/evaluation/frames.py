"""The figures of a report as data frames, one row a thing, for notebooks and spreadsheets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from swclip.evaluation.report import Report
from swclip.metrics.coverage_parts import DistrictCoverage, LevelCoverage
from swclip.metrics.parts import Errors

COVERAGE_COLUMNS = (
    "level", "region", "n", "coverage", "coverage_low", "coverage_high", "median_area_km2", "cannot_tell",
)  # fmt: skip
SPATIAL_COLUMNS = ("figure", "of", "value", "p", "n")
CORRELOGRAM_COLUMNS = ("embedding", "low_m", "high_m", "pairs", "mean_distance", "spearman", "p")


def summary_frame(report: Report) -> pd.DataFrame:
    """The headline figures in one row, intervals beside them; null where a figure cannot be known.

    Args:
        report: The report.

    Returns:
        n_queries, n_unanswered, n_answerable, gallery_size, estimator; for median, mean (metres) and the shares within
        25, 50, 100 m the figure and its low and high; p95_m, recall_at_1_25m, mrr_25m, geoscore, floor_median_m,
        constant_median_m, random_median_m.
    """
    row: dict[str, Any] = {
        "n_queries": report.n_queries,
        "n_unanswered": report.n_unanswered,
        "n_answerable": report.n_answerable,
        "gallery_size": report.gallery_size,
        "estimator": report.estimator,
    }
    errors, intervals = report.error_m, report.intervals.error_m
    for name, value, (low, high) in (
        ("median", errors.median, intervals.median),
        ("mean", errors.mean, intervals.mean),
    ):
        row |= {f"{name}_m": value, f"{name}_low_m": low, f"{name}_high_m": high}
    row["p95_m"] = errors.p95
    for radius in ("25", "50", "100"):
        low, high = report.intervals.accuracy_within_m[radius]
        row |= {f"within_{radius}_m": report.accuracy_within_m[radius]}
        row |= {f"within_{radius}_m_low": low, f"within_{radius}_m_high": high}
    row["recall_at_1_25m"] = (report.recall_at_k_25m or {}).get("1")
    row["mrr_25m"] = report.mrr_25m
    row["geoscore"] = report.geoscore
    for name, guess in report.baselines:
        row[f"{name}_median_m"] = None if guess is None else guess.median
    return pd.DataFrame([row])


def errors_frame(report: Report) -> pd.DataFrame:
    """Statistics of the error, metres, and shares within each radius: a row an estimator and a baseline.

    Args:
        report: The report.

    Returns:
        Index `answer`; median, mean, p75, ..., worst5_mean, within_10_m, ...
    """
    rows = {name: _figures(own.error_m, own.accuracy_within_m) for name, own in report.estimators.items()}
    for name, guess in report.baselines:
        if guess is not None:
            rows[name] = _figures(guess, guess.accuracy_within_m)
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("answer")


def districts_frame(report: Report) -> pd.DataFrame:
    """The errors of each region, hardest first.

    Args:
        report: The report.

    Returns:
        Index `region`; n, median, mean, p95 (metres), within_25_m, ...
    """
    rows = {
        name: {"n": own.n, "median": own.median, "mean": own.mean, "p95": own.p95, **_within(own.accuracy_within_m)}
        for name, own in sorted(report.by_region.items(), key=lambda item: -item[1].median)
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("region")


def levels_frame(report: Report) -> pd.DataFrame:
    """Accuracy and scores of the city and of each size of cell; no rows where the system has no posterior.

    Args:
        report: The report.
    """
    rows = {name: dict(own) for name, own in report.levels.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("level")


def coverage_frame(report: Report) -> pd.DataFrame:
    """How often the stated regions held the truth: a row a level, for all queries and for each region of the report.

    Args:
        report: The report.

    Returns:
        `COVERAGE_COLUMNS`; no rows where no regions were stated.
    """
    rows: list[dict[str, Any]] = []
    for own in report.calibration.levels if report.calibration is not None else ():
        rows.append(_coverage_row(own.level, "all", own, own.area_km2.median, own.cannot_tell))
        for region, figures in own.by_region.items():
            if region != "all":  # the one region of queries whose cities are not known
                rows.append(_coverage_row(own.level, region, figures, figures.median_area_km2, None))
    return pd.DataFrame(rows, columns=list(COVERAGE_COLUMNS))


def _coverage_row(
    level: float, region: str, own: LevelCoverage | DistrictCoverage, median_area_km2: float | None, cannot_tell: float | None
) -> dict[str, Any]:
    low, high = own.coverage_interval or (None, None)
    return {
        "level": level,
        "region": region,
        "n": own.n,
        "coverage": own.coverage,
        "coverage_low": low,
        "coverage_high": high,
        "median_area_km2": median_area_km2,
        "cannot_tell": cannot_tell,
    }


def spatial_frame(report: Report) -> pd.DataFrame:
    """How errors and embeddings lie on the ground: Moran's I, Mantel's r, smoothness; a row a figure.

    Args:
        report: The report.

    Returns:
        `SPATIAL_COLUMNS`: the figure's name, of what, its value, p where it was tested, n where it is of a count; no
        rows where nothing was measured.
    """
    rows: list[dict[str, Any]] = []
    if (spatial := report.spatial) is not None:
        if (errors := spatial.errors_moran) is not None:
            rows.append({"figure": "Moran's I", "of": "errors", "value": errors.i, "p": errors.p, "n": errors.n})
        for own in spatial.components or []:
            rows.append({"figure": "Moran's I", "of": f"component {own.component}", "value": own.i, "p": own.p})
        for kind, test in spatial.mantel or ():
            if test is not None:
                rows.append({"figure": "Mantel's r", "of": f"{kind} embeddings", "value": test.r, "p": test.p})
        for kind, smooth in spatial.smoothness or ():
            if smooth is not None:
                for name, value in (("ratio", smooth.ratio), ("spearman", smooth.spearman)):
                    rows.append({"figure": f"smoothness, {name}", "of": f"{kind} embeddings", "value": value})
        if spatial.lisa is not None:
            rows += [{"figure": "LISA", "of": kind, "n": count} for kind, count in spatial.lisa.counts.items()]
    return pd.DataFrame(rows, columns=list(SPATIAL_COLUMNS))


def correlogram_frame(report: Report) -> pd.DataFrame:
    """Distance of embeddings by distance on the ground: a row a band and kind of embedding.

    Args:
        report: The report.

    Returns:
        `CORRELOGRAM_COLUMNS`; no rows where nothing was measured.
    """
    bands = report.spatial.correlogram if report.spatial is not None else None
    rows = [{"embedding": kind, **dict(band)} for kind, own in bands or () for band in own or []]
    return pd.DataFrame(rows, columns=list(CORRELOGRAM_COLUMNS))


def _figures(errors: Errors, accuracy: Mapping[str, float]) -> dict[str, float]:
    return {**{name: getattr(errors, name) for name in Errors.model_fields}, **_within(accuracy)}


def _within(accuracy: Mapping[str, float]) -> dict[str, float]:
    return {f"within_{radius}_m": share for radius, share in accuracy.items()}
