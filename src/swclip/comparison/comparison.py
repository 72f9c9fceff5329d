"""The result of a comparison: its document, data frames, figure of the error distributions, and card for notebooks."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Float64
from markupsafe import escape

from swclip.comparison.document import ComparisonDocument, is_gain
from swclip.comparison.query_changes import query_table
from swclip.comparison.tables import difference_table, system_table
from swclip.evaluation.result import Evaluation
from swclip.reporting.page import REFERENCE_COLOUR, Table, line_style
from swclip.reporting.plots import Chart, chart_figure, error_chart, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ERRORS = ("median", "mean", "p75", "p90", "p95", "p99", "worst5_mean")
_SHARES = ("10", "25", "50", "100", "500")


@dataclass(frozen=True)
class Comparison:
    """Systems measured on the same queries.

    Attributes:
        document: The figures, as in benchmark.json and compare.json.
        evaluations: The compared evaluations by system and seed.
    """

    document: ComparisonDocument
    evaluations: dict[str, dict[str, Evaluation]]

    @property
    def baseline(self) -> str:
        """The system that the differences are taken from."""
        return self.document.baseline

    @property
    def reference(self) -> str | None:
        """The second system that differences are taken from."""
        return self.document.reference

    def errors_m(self, system: str) -> Float64[np.ndarray, "s q"]:
        """Errors of a system in metres, one row per seed, one column per query."""
        return errors_of(self.evaluations[system])

    @property
    def systems(self) -> pd.DataFrame:
        """One row per system, smallest median first.

        Columns: system, seeds, estimator, n_queries, gallery_size; errors as NAME_m and shares as within_RADIUS, where
        they are known with _low and _high (95 %) and _sd (over seeds, NaN with one); recall_at_1, recall_at_10, mrr.
        """
        rows = []
        for name, mean in self.document.means.items():
            row = {"system": name, "seeds": mean.seeds, "estimator": mean.estimator}
            row |= {"n_queries": mean.n_queries, "gallery_size": mean.gallery_size}
            headline = [(f"{key}_m", mean.error(key)) for key in _ERRORS]
            headline += [(f"within_{radius}", mean.accuracy(radius)) for radius in _SHARES]
            for label, figure in headline:
                row[label] = figure.value
                if figure.interval is not None:
                    row[f"{label}_low"], row[f"{label}_high"] = figure.interval
                    row[f"{label}_sd"] = float("nan") if figure.seed_sd is None else figure.seed_sd
            row |= {f"recall_at_{k}": mean.recall(k) for k in (1, 10)}
            rows.append({**row, "mrr": mean.mrr_25m})
        return pd.DataFrame(rows)

    @property
    def differences(self) -> pd.DataFrame:
        """One row per system, system it is compared with, and figure.

        Columns: system, against, figure (median and mean in metres; within_25, within_50, within_100 as shares), value,
        low, high (paired, 95 %), p (two-sided, not corrected), shown (the interval excludes 0), better (the value is a
        gain).
        """
        rows = [
            {
                "system": name,
                "against": difference.against,
                "figure": figure,
                "value": of_figure.value,
                "low": of_figure.low,
                "high": of_figure.high,
                "p": of_figure.p,
                "shown": of_figure.excludes_zero,
                "better": of_figure.value != 0.0 and is_gain(figure, of_figure),
            }
            for differences in (self.document.from_baseline, self.document.from_reference)
            for name, difference in differences.items()
            for figure, of_figure in difference.figures.items()
        ]
        return pd.DataFrame(
            rows, columns=["system", "against", "figure", "value", "low", "high", "p", "shown", "better"]
        )

    @property
    def regions(self) -> pd.DataFrame:
        """One row per district and system.

        Columns: region, n, blocks, system, median_m, rank (equal medians share a rank), difference_m, low_m, high_m
        (from the baseline, paired, 95 %; null for the baseline, low and high also with too few blocks), shown (the
        interval excludes 0), gap_shown (that of first minus second excludes 0).
        """
        rows = []
        for district, winner in self.document.winners.regions.items():
            for system, median in winner.median.items():
                difference = winner.difference.get(system)
                rows.append(
                    {
                        "region": district,
                        "n": winner.n,
                        "blocks": winner.blocks,
                        "system": system,
                        "median_m": median,
                        "rank": 1 + sum(other < median for other in winner.median.values()),
                        "difference_m": None if difference is None else difference.value,
                        "low_m": None if difference is None else difference.low,
                        "high_m": None if difference is None else difference.high,
                        "shown": difference is not None and difference.excludes_zero,
                        "gap_shown": winner.gap is not None and winner.gap.excludes_zero,
                    }
                )
        return pd.DataFrame(rows).astype(dict.fromkeys(["difference_m", "low_m", "high_m"], "float64"))

    @property
    def query_changes(self) -> pd.DataFrame:
        """One row per query with the errors of all systems, largest difference first; see `query_table`."""
        seeds = {name: list(runs) for name, runs in self.evaluations.items()}
        first = next(iter(self.evaluations[self.baseline].values()))
        errors = {name: self.errors_m(name) for name in self.evaluations}
        return query_table(first.predictions, errors, seeds, self.baseline)

    def plot(self, title: str | None = None) -> Figure:
        """Plot the error distributions (CDF), one line per system."""
        return _curves_figure(self.document, title)

    def __repr__(self) -> str:
        medians = {name: system.mean.error_m.median for name, system in self.document.systems.items()}
        texts = ", ".join(f"{name} {median:,.0f} m" for name, median in medians.items())
        return f"Comparison(median errors: {texts}; differences from {self.baseline})"

    def _repr_html_(self) -> str:
        parts = [_html(system_table(self.document))]
        for other, differences in (
            (self.baseline, self.document.from_baseline),
            (self.reference, self.document.from_reference),
        ):
            if differences:
                caption = f"Paired difference from {other} with its 95 % interval; bold where the interval excludes 0"
                parts.append(_html(difference_table(differences, self.document.means), caption))
        return "\n".join(parts)


def errors_of(seeds: Mapping[str, Evaluation]) -> Float64[np.ndarray, "s q"]:
    """Errors of the runs of one system in metres, one row per seed, one column per query."""
    return np.stack([one.predictions["error_m"].to_numpy(dtype=np.float64) for one in seeds.values()])


def _html(table: Table, caption: str = "") -> str:
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


_SIZE = (8.6, 4.8)

# With more lines than this, only baseline and reference are thick.
_ALL_THICK = 5


def curves_chart(document: ComparisonDocument) -> Chart:
    """One line per system and a dashed line for the oracle error; among many, baseline and reference are thick."""
    curves, names = document.curves, list(document.means)
    order = {name: number for number, name in enumerate(document.systems)}
    chosen = {document.baseline, document.reference} if len(names) > _ALL_THICK else set(names)
    lines = [(name, curves.systems[name], *line_style(order[name]), 2.6 if name in chosen else 1.5) for name in names]
    if curves.floor is not None:
        lines.append(("oracle error", curves.floor, REFERENCE_COLOUR, "dash", 1.8))
    return error_chart("error-curve", lines)


def write_curves(
    paths: Sequence[str | os.PathLike[str]], document: ComparisonDocument, *, title: str | None = None
) -> None:
    """Write the error distributions to files; equal documents give identical bytes.

    Args:
        paths: Files to write; the suffix sets the format (PNG, SVG, PDF).
        document: The document of the comparison.
        title: Title of the figure.
    """
    save(paths, _curves_figure(document, title))


def _curves_figure(document: ComparisonDocument, title: str | None) -> Figure:
    return chart_figure(replace(curves_chart(document), title=title or ""), size=_SIZE)
