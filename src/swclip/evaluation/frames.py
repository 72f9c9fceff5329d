"""The figures of a report as data frames, one row a thing, for notebooks and spreadsheets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

COVERAGE_COLUMNS = (
    "level", "region", "n", "coverage", "coverage_low", "coverage_high", "median_area_km2", "cannot_tell",
)  # fmt: skip
SPATIAL_COLUMNS = ("figure", "of", "value", "p", "n")
CORRELOGRAM_COLUMNS = ("embedding", "low_m", "high_m", "pairs", "mean_distance", "spearman", "p")


def summary_frame(report: Mapping[str, Any]) -> pd.DataFrame:
    """The headline figures in one row, intervals beside them; null where a figure cannot be known.

    Args:
        report: What report.json holds.

    Returns:
        n_queries, n_unanswered, n_answerable, gallery_size, estimator; for median, mean (metres) and the shares within
        25, 50, 100 m the figure and its low and high; p95_m, recall_at_1_25m, mrr_25m, geoscore, floor_median_m,
        constant_median_m, random_median_m.
    """
    intervals = report["intervals"]
    row: dict[str, Any] = {
        "n_queries": report["n_queries"],
        "n_unanswered": (report.get("unanswered") or {}).get("n", 0),
        "n_answerable": report.get("n_answerable"),
        "gallery_size": report.get("gallery_size"),
        "estimator": report["estimator"],
    }
    for name in ("median", "mean"):
        low, high = intervals["error_m"][name]
        row |= {f"{name}_m": report["error_m"][name], f"{name}_low_m": low, f"{name}_high_m": high}
    row["p95_m"] = report["error_m"]["p95"]
    for radius in ("25", "50", "100"):
        low, high = intervals["accuracy_within_m"][radius]
        row |= {f"within_{radius}_m": report["accuracy_within_m"][radius]}
        row |= {f"within_{radius}_m_low": low, f"within_{radius}_m_high": high}
    row["recall_at_1_25m"] = report["recall_at_k_25m"]["1"]
    row["mrr_25m"] = report.get("mrr_25m")
    row["geoscore"] = report.get("geoscore")
    for name, figures in report["baselines"].items():
        row[f"{name}_median_m"] = None if figures is None else figures["median"]
    return pd.DataFrame([row])


def errors_frame(report: Mapping[str, Any]) -> pd.DataFrame:
    """Statistics of the error, metres, and shares within each radius: a row an estimator and a baseline.

    Args:
        report: What report.json holds.

    Returns:
        Index `answer`; median, mean, p75, ..., worst5_mean, within_10_m, ...
    """
    rows: dict[str, dict[str, Any]] = {}
    for name, own in report["estimators"].items():
        rows[name] = {**own["error_m"], **_within(own["accuracy_within_m"])}
    statistics = list(report["error_m"])
    for name, own in report["baselines"].items():
        if own is not None:
            rows[name] = {**{key: own[key] for key in statistics}, **_within(own["accuracy_within_m"])}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("answer")


def regions_frame(report: Mapping[str, Any]) -> pd.DataFrame:
    """The errors of each region, hardest first.

    Args:
        report: What report.json holds.

    Returns:
        Index `region`; n, median, mean, p95 (metres), within_25_m, ...
    """
    rows = {
        name: {**{key: own[key] for key in ("n", "median", "mean", "p95")}, **_within(own["accuracy_within_m"])}
        for name, own in sorted(report["by_region"].items(), key=lambda item: -float(item[1]["median"]))
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("region")


def levels_frame(report: Mapping[str, Any]) -> pd.DataFrame:
    """Accuracy and scores of the city and of each size of cell; no rows where the system has no posterior.

    Args:
        report: What report.json holds.
    """
    return pd.DataFrame.from_dict(report.get("levels") or {}, orient="index").rename_axis("level")


def coverage_frame(report: Mapping[str, Any]) -> pd.DataFrame:
    """How often the stated regions held the truth: a row a level, for all queries and for each region of the report.

    Args:
        report: What report.json holds.

    Returns:
        `COVERAGE_COLUMNS`; no rows where no regions were stated.
    """
    rows: list[dict[str, Any]] = []
    for own in (report.get("calibration") or {}).get("levels", []):
        whole = {**own, "median_area_km2": own["area_km2"]["median"], "cannot_tell": own["cannot_tell"]}
        parts = {"all": whole, **own.get("by_region", {})}
        for region, figures in parts.items():
            low, high = figures["coverage_interval"] or (None, None)
            rows.append(
                {
                    "level": own["level"],
                    "region": region,
                    "n": figures["n"],
                    "coverage": figures["coverage"],
                    "coverage_low": low,
                    "coverage_high": high,
                    "median_area_km2": figures["median_area_km2"],
                    "cannot_tell": figures.get("cannot_tell"),
                }
            )
    return pd.DataFrame(rows, columns=list(COVERAGE_COLUMNS))


def spatial_frame(report: Mapping[str, Any]) -> pd.DataFrame:
    """How errors and embeddings lie on the ground: Moran's I, Mantel's r, smoothness; a row a figure.

    Args:
        report: What report.json holds.

    Returns:
        `SPATIAL_COLUMNS`: the figure's name, of what, its value, p where it was tested, n where it is of a count; no
        rows where nothing was measured.
    """
    spatial = report.get("spatial") or {}
    rows: list[dict[str, Any]] = []
    if errors := spatial.get("errors_moran"):
        rows.append({"figure": "Moran's I", "of": "errors", "value": errors["i"], "p": errors["p"], "n": errors["n"]})
    for own in spatial.get("components") or []:
        rows.append({"figure": "Moran's I", "of": f"component {own['component']}", "value": own["i"], "p": own["p"]})
    for kind, own in (spatial.get("mantel") or {}).items():
        if own is not None:
            rows.append({"figure": "Mantel's r", "of": f"{kind} embeddings", "value": own["r"], "p": own["p"]})
    for kind, own in (spatial.get("smoothness") or {}).items():
        if own is not None:
            for name in ("ratio", "spearman"):
                rows.append({"figure": f"smoothness, {name}", "of": f"{kind} embeddings", "value": own[name]})
    for kind, count in ((spatial.get("lisa") or {}).get("counts") or {}).items():
        rows.append({"figure": "LISA", "of": kind, "n": count})
    return pd.DataFrame(rows, columns=list(SPATIAL_COLUMNS))


def correlogram_frame(report: Mapping[str, Any]) -> pd.DataFrame:
    """Distance of embeddings by distance on the ground: a row a band and kind of embedding.

    Args:
        report: What report.json holds.

    Returns:
        `CORRELOGRAM_COLUMNS`; no rows where nothing was measured.
    """
    bands = (report.get("spatial") or {}).get("correlogram") or {}
    rows = [{"embedding": kind, **band} for kind, own in bands.items() for band in own or []]
    return pd.DataFrame(rows, columns=list(CORRELOGRAM_COLUMNS))


def _within(accuracy: Mapping[str, float]) -> dict[str, float]:
    return {f"within_{radius}_m": share for radius, share in accuracy.items()}
