"""The figures of a report as data frames, for notebooks and spreadsheets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from swclip.evaluation.report import Report
from swclip.metrics.calibration import DistrictCoverage, LevelCoverage
from swclip.metrics.parts import Errors

COVERAGE_COLUMNS = (
    "level", "region", "n", "coverage", "coverage_low", "coverage_high", "median_area_km2", "cannot_tell",
)  # fmt: skip
SPATIAL_COLUMNS = ("figure", "of", "value", "p", "n")
CORRELOGRAM_COLUMNS = ("embedding", "low_m", "high_m", "pairs", "mean_distance", "spearman", "p")


def summary_frame(report: Report) -> pd.DataFrame:
    """The main figures with their intervals in one row; null where a figure does not exist.

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
    for name, baseline in report.baselines:
        row[f"{name}_median_m"] = None if baseline is None else baseline.median
    return pd.DataFrame([row])


def errors_frame(report: Report) -> pd.DataFrame:
    """Error statistics in metres and shares within each radius, one row per estimator and baseline.

    Args:
        report: The report.

    Returns:
        Index `answer`; median, mean, p75, ..., worst5_mean, within_10_m, ...
    """
    rows = {name: _figures(one.error_m, one.accuracy_within_m) for name, one in report.estimators.items()}
    for name, baseline in report.baselines:
        if baseline is not None:
            rows[name] = _figures(baseline, baseline.accuracy_within_m)
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("answer")


def districts_frame(report: Report) -> pd.DataFrame:
    """The errors of each district, largest median first.

    Args:
        report: The report.

    Returns:
        Index `region`; n, median, mean, p95 (metres), within_25_m, ...
    """
    rows = {
        name: {
            "n": part.n,
            "median": part.median,
            "mean": part.mean,
            "p95": part.p95,
            **_within(part.accuracy_within_m),
        }
        for name, part in sorted(report.by_region.items(), key=lambda item: -item[1].median)
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("region")


def levels_frame(report: Report) -> pd.DataFrame:
    """Accuracy and scores of each hierarchy level; no rows where the system has no posterior.

    Args:
        report: The report.
    """
    rows = {name: dict(figures) for name, figures in report.levels.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("level")


def coverage_frame(report: Report) -> pd.DataFrame:
    """Coverage of the prediction regions, one row per coverage level for all queries and for each district.

    Args:
        report: The report.

    Returns:
        `COVERAGE_COLUMNS`; no rows without prediction regions.
    """
    rows: list[dict[str, Any]] = []
    for level in report.calibration.levels if report.calibration is not None else ():
        rows.append(_coverage_row(level.level, "all", level, level.area_km2.median, level.cannot_tell))
        for district, figures in level.by_region.items():
            if district != "all":  # the only district where no city is known
                rows.append(_coverage_row(level.level, district, figures, figures.median_area_km2, None))
    return pd.DataFrame(rows, columns=list(COVERAGE_COLUMNS))


def _coverage_row(
    level: float,
    district: str,
    figures: LevelCoverage | DistrictCoverage,
    median_area_km2: float | None,
    cannot_tell: float | None,
) -> dict[str, Any]:
    low, high = figures.coverage_interval or (None, None)
    return {
        "level": level,
        "region": district,
        "n": figures.n,
        "coverage": figures.coverage,
        "coverage_low": low,
        "coverage_high": high,
        "median_area_km2": median_area_km2,
        "cannot_tell": cannot_tell,
    }


def spatial_frame(report: Report) -> pd.DataFrame:
    """Spatial statistics of errors and embeddings: Moran's I, Mantel's r, smoothness, LISA; one row per figure.

    Args:
        report: The report.

    Returns:
        `SPATIAL_COLUMNS`: name of the figure, its variable, its value, p where it was tested, n where it is a count; no
        rows without spatial statistics.
    """
    rows: list[dict[str, Any]] = []
    if (spatial := report.spatial) is not None:
        if (errors := spatial.errors_moran) is not None:
            rows.append({"figure": "Moran's I", "of": "errors", "value": errors.i, "p": errors.p, "n": errors.n})
        for part in spatial.components or []:
            rows.append({"figure": "Moran's I", "of": f"component {part.component}", "value": part.i, "p": part.p})
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
    """Embedding distance by bands of ground distance, one row per band and kind of embedding.

    Args:
        report: The report.

    Returns:
        `CORRELOGRAM_COLUMNS`; no rows without a correlogram.
    """
    correlogram = report.spatial.correlogram if report.spatial is not None else None
    rows = [{"embedding": kind, **dict(band)} for kind, bands in correlogram or () for band in bands or []]
    return pd.DataFrame(rows, columns=list(CORRELOGRAM_COLUMNS))


def _figures(errors: Errors, accuracy: Mapping[str, float]) -> dict[str, float]:
    return {**{name: getattr(errors, name) for name in Errors.model_fields}, **_within(accuracy)}


def _within(accuracy: Mapping[str, float]) -> dict[str, float]:
    return {f"within_{radius}_m": share for radius, share in accuracy.items()}
