"""A comparison as data frames and as an HTML fragment for notebooks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from swclip.comparison.curves import sorted_systems
from swclip.comparison.findings import FIGURES, better, excludes_zero
from swclip.comparison.tables import difference_table, system_table
from swclip.reporting.page import Table

_ERRORS = ("median", "mean", "p75", "p90", "p95", "p99", "worst5_mean")
_SHARES = ("10", "25", "50", "100", "500")


def system_frame(document: Mapping[str, Any]) -> pd.DataFrame:
    """Figures of the systems.

    Args:
        document: `Comparison.document`.

    Returns:
        One row per system, smallest median first: system, seeds, estimator, n_queries, gallery_size; errors as
        NAME_m and shares as within_RADIUS, where they are known with _low and _high (95 %) and _sd (over seeds, NaN
        with one); recall_at_1, recall_at_10, mrr.
    """
    rows = []
    for name in sorted_systems(document):
        mean = document["systems"][name]["mean"]
        row = {"system": name, "seeds": mean["seeds"], "estimator": mean.get("estimator")}
        row |= {key: mean[key] for key in ("n_queries", "gallery_size")}
        for group, keys, pattern in (("error_m", _ERRORS, "{}_m"), ("accuracy_within_m", _SHARES, "within_{}")):
            for key in keys:
                label, interval = pattern.format(key), mean["intervals"][group].get(key)
                row[label] = mean[group][key]
                if interval is not None:
                    row[f"{label}_low"], row[f"{label}_high"] = interval
                    row[f"{label}_sd"] = (mean["seed_sd"] or {}).get(group, {}).get(key, float("nan"))
        row |= {f"recall_at_{k}": mean["recall_at_k_25m"][k] for k in ("1", "10")}
        rows.append({**row, "mrr": mean["mrr_25m"]})
    return pd.DataFrame(rows)


def difference_frame(document: Mapping[str, Any]) -> pd.DataFrame:
    """Differences from baseline and reference.

    Args:
        document: `Comparison.document`.

    Returns:
        One row per system, system it is compared with, and figure: system, against, figure (median and mean in metres;
        within_25, within_50, within_100 as shares), value, low, high (paired, 95 %), shown (the interval excludes 0),
        better (the value is a gain).
    """
    rows = [
        {
            "system": name,
            "against": difference["from"],
            "figure": figure,
            **{key: difference[figure][key] for key in ("value", "low", "high")},
            "shown": excludes_zero(difference[figure]),
            "better": difference[figure]["value"] != 0.0 and better(figure, difference[figure]),
        }
        for key in ("difference", "difference_from_reference")
        for name in sorted_systems(document)
        if (difference := document["systems"][name].get(key)) is not None
        for figure in FIGURES
    ]
    return pd.DataFrame(rows, columns=["system", "against", "figure", "value", "low", "high", "shown", "better"])


def district_frame(document: Mapping[str, Any]) -> pd.DataFrame:
    """Figures of the systems by district.

    Args:
        document: `Comparison.document`.

    Returns:
        One row per district and system: region, n, blocks, system, median_m, rank (equal medians share a rank),
        difference_m, low_m, high_m (from the baseline, paired, 95 %; null for the baseline, low and high also with too
        few blocks), shown (the interval excludes 0), gap_shown (that of first minus second excludes 0).
    """
    rows = []
    for district, winner in document["winners"]["regions"].items():
        for system, median in winner["median"].items():
            difference = winner["difference"].get(system)
            rows.append(
                {
                    "region": district,
                    "n": winner["n"],
                    "blocks": winner["blocks"],
                    "system": system,
                    "median_m": median,
                    "rank": 1 + sum(other < median for other in winner["median"].values()),
                    "difference_m": None if difference is None else difference["value"],
                    "low_m": None if difference is None else difference["low"],
                    "high_m": None if difference is None else difference["high"],
                    "shown": difference is not None and excludes_zero(difference),
                    "gap_shown": winner["gap"] is not None and excludes_zero(winner["gap"]),
                }
            )
    numbers = ["difference_m", "low_m", "high_m"]
    return pd.DataFrame(rows).astype(dict.fromkeys(numbers, "float64"))


def comparison_html(document: Mapping[str, Any]) -> str:
    """Systems and differences as HTML tables for a notebook.

    Args:
        document: `Comparison.document`.
    """
    parts = [_html(system_table(document))]
    for key in ("difference", "difference_from_reference"):
        table = difference_table(document, key)
        if table.rows:
            other = next(system[key]["from"] for system in document["systems"].values() if key in system)
            parts.append(
                _html(
                    table, f"Paired difference from {other} with its 95 % interval; bold where the interval excludes 0"
                )
            )
    return "\n".join(parts)


def _html(table: Table, caption: str = "") -> str:
    from markupsafe import escape

    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    body = []
    for row in table.rows:
        cells = []
        for cell in row.cells:
            text = f"<b>{escape(cell.text)}</b>" if cell.best else str(escape(cell.text))
            cells.append(f"<td>{text}" + (f"<br><small>{escape(cell.small)}</small>" if cell.small else "") + "</td>")
        body.append(f"<tr>{''.join(cells)}</tr>")
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
