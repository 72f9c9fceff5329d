"""Comparison of systems and seeds: means over seeds, intervals, and paired differences from a baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float64

from swclip.comparison.curves import curves_figure
from swclip.comparison.findings import winners_by_district
from swclip.comparison.frames import comparison_html, difference_frame, district_frame, system_frame
from swclip.comparison.pooling import mean_report, seed_spread, with_gallery
from swclip.comparison.query_changes import RADII_M, agreement, changes_between_seeds, query_changes, query_table
from swclip.errors import ConfigError, MismatchError
from swclip.evaluation.result import Evaluation
from swclip.metrics.bootstrap import (
    ERROR_STATISTICS,
    LEVEL,
    RESAMPLES,
    ResampledStatistics,
    resample_blocks,
    resample_statistics,
)
from swclip.metrics.error_report import nested_intervals
from swclip.reporting.page import error_curve
from swclip.reporting.units import metres, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Seed = int | str

COMPARISON_VERSION = "1"
"""Format version of benchmark.json and compare.json."""


@dataclass(frozen=True)
class Comparison:
    """Systems measured on the same queries.

    Attributes:
        document: Content of benchmark.json and compare.json: version; systems (NAME: seeds (SEED: report), mean
            (report), difference (from the baseline, absent for the baseline itself), difference_from_reference
            (likewise)); baseline; reference (None where there is none); curves (error distributions: systems, floor);
            winners (see `winners_by_district`); pairs (system, against, agreement by radius in metres, moved: see
            `query_changes`); moved_between_seeds (NAME: share, None with one seed); notes (caveats); made_with. A
            difference has `from` and, by figure, value, low, high (paired block bootstrap) and by_seed.
        evaluations: The compared evaluations by system and seed.
    """

    document: dict[str, Any]
    evaluations: dict[str, dict[str, Evaluation]]

    @property
    def baseline(self) -> str:
        """The system that the differences are taken from."""
        return str(self.document["baseline"])

    @property
    def reference(self) -> str | None:
        """The second system that differences are taken from."""
        name: str | None = self.document["reference"]
        return name

    def errors_m(self, system: str) -> Float64[np.ndarray, "s q"]:
        """Errors of a system in metres, one row per seed, one column per query."""
        return _errors(self.evaluations[system])

    @property
    def systems(self) -> pd.DataFrame:
        """One row per system, smallest median first: figures, intervals and standard deviations over seeds."""
        return system_frame(self.document)

    @property
    def differences(self) -> pd.DataFrame:
        """One row per system, system it is compared with, and figure: value, low, high, shown, better."""
        return difference_frame(self.document)

    @property
    def regions(self) -> pd.DataFrame:
        """One row per district and system: median, rank, and difference from the baseline."""
        return district_frame(self.document)

    @property
    def query_changes(self) -> pd.DataFrame:
        """One row per query with the errors of all systems, largest difference first; see `query_table`."""
        seeds = {name: list(runs) for name, runs in self.evaluations.items()}
        first = next(iter(self.evaluations[self.baseline].values()))
        errors = {name: self.errors_m(name) for name in self.evaluations}
        return query_table(first.predictions, errors, seeds, self.baseline)

    def plot(self, title: str | None = None) -> Figure:
        """Plot the error distributions (CDF), one line per system."""
        return curves_figure(self.document, title=title)

    def __repr__(self) -> str:
        medians = {name: system["mean"]["error_m"]["median"] for name, system in self.document["systems"].items()}
        texts = ", ".join(f"{name} {median:,.0f} m" for name, median in medians.items())
        return f"Comparison(median errors: {texts}; differences from {self.baseline})"

    def _repr_html_(self) -> str:
        return comparison_html(self.document)


def compare(
    evaluations: Mapping[str, Mapping[Seed, Evaluation]],
    made_with: Mapping[str, Any],
    *,
    baseline: str | None = None,
    reference: str | None = None,
    generator: np.random.Generator | None = None,
    resamples: int = RESAMPLES,
    notes: Sequence[str] = (),
) -> Comparison:
    """Compare systems on the same queries.

    The intervals of a mean over seeds resample blocks of queries and keep the seeds: they measure the variation over
    other streets. The variation over seeds is the standard deviation `seed_sd`.

    Args:
        evaluations: Evaluations by system and seed, all on the same queries.
        made_with: Provenance of the comparison.
        baseline: The system that differences are taken from; the first where None.
        reference: A second system that differences are taken from, such as the full method of an ablation.
        generator: Random generator of the bootstrap; seeded with 0 where None.
        resamples: Bootstrap resamples.
        notes: Caveats, as sentences.

    Raises:
        ConfigError: There are no systems, a system has no seed, or baseline or reference is not among them.
        MismatchError: Two evaluations have different queries.
    """
    runs = {name: {str(seed): evaluation for seed, evaluation in seeds.items()} for name, seeds in evaluations.items()}
    if not runs or not all(runs.values()):
        raise ConfigError("a comparison needs at least one system, and at least one seed of each.")
    base = next(iter(runs)) if baseline is None else baseline
    for what, name in (("baseline", base), ("reference", reference)):
        if name is not None and name not in runs:
            raise ConfigError(f"{what} {name!r} is not among the systems; choose one of {', '.join(runs)}.")
    if reference == base:
        raise ConfigError(f"baseline and reference are both {base!r}; choose another reference, or none.")
    first = next(iter(runs[base].values()))
    for name, seeds in runs.items():
        for seed, evaluation in seeds.items():
            _check_same_queries(first, evaluation, f"{base}", f"{name}, seed {seed}")
    draws = np.random.default_rng(0) if generator is None else generator
    blocks = first.predictions["block"].tolist()
    resampled = resample_blocks(blocks, resamples, draws)
    errors = {name: _errors(seeds) for name, seeds in runs.items()}
    drawn = {name: resample_statistics(of_system, resampled) for name, of_system in errors.items()}
    systems: dict[str, Any] = {}
    for name, seeds in runs.items():
        reports = {seed: evaluation.report.as_dict() for seed, evaluation in seeds.items()}
        mean = mean_report(list(reports.values()))
        mean["intervals"] = {
            **first.report.intervals.model_dump(),
            **nested_intervals(drawn[name].intervals()),
            "level": LEVEL,
            "resamples": resamples,
        }
        mean["seeds"] = len(reports)
        mean["seed_sd"] = seed_spread(list(reports.values()))
        systems[name] = {"seeds": reports, "mean": mean}
        for key, other in (("difference", base), ("difference_from_reference", reference)):
            if other is not None and name != other:
                systems[name][key] = {"from": other, **_difference(runs, drawn, name, other)}
    pairs = [(name, base) for name in runs if name != base]
    if reference is not None:
        pairs += [(name, reference) for name in runs if name not in (base, reference)]
    document = {
        "version": COMPARISON_VERSION,
        "systems": systems,
        "baseline": base,
        "reference": reference,
        "curves": {
            "systems": {name: error_curve(of_system) for name, of_system in errors.items()},
            "floor": _oracle_curve(runs),
        },
        "winners": winners_by_district(errors, first.predictions["region"].tolist(), blocks, resampled, base),
        "pairs": [
            {
                "system": a,
                "against": b,
                "agreement": {str(radius): agreement(errors[a], errors[b], radius) for radius in RADII_M},
                "moved": query_changes(first.predictions, errors, a, b),
            }
            for a, b in pairs
        ],
        "moved_between_seeds": {name: changes_between_seeds(of_system) for name, of_system in errors.items()},
        "notes": list(notes),
        "made_with": dict(made_with),
    }
    return Comparison(document, runs)


def comparison_table(document: Mapping[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    """A comparison as a console table.

    Args:
        document: `Comparison.document`.

    Returns:
        Title, columns, rows of text.
    """
    systems = document["systems"]
    seeds = max(len(system["seeds"]) for system in systems.values())
    first = with_gallery(system["mean"] for system in systems.values())
    title = f"{round(first['n_queries']):,} queries, "
    title += "gallery not known" if first["gallery_size"] is None else f"{round(first['gallery_size']):,} candidates"
    title += f", mean of {seeds} seeds" if seeds > 1 else ""
    columns = [
        "system",
        "median",
        "mean",
        "p95",
        "within 25 m",
        "within 100 m",
        "recall@1",
        f"median vs {document['baseline']}",
    ]
    rows = []
    for name, system in systems.items():
        report = system["mean"]
        error, accuracy = report["error_m"], report["accuracy_within_m"]
        difference = system.get("difference", {}).get("median")
        rows.append(
            [
                name,
                *(metres(error[key]) for key in ("median", "mean", "p95")),
                *(percent(accuracy[key]) for key in ("25", "100")),
                "" if report["recall_at_k_25m"]["1"] is None else percent(report["recall_at_k_25m"]["1"]),
                "" if difference is None else difference_text(difference),
            ]
        )
    for key, name in (("floor", "oracle error"), ("random", "random baseline")):
        figures = first["baselines"].get(key)
        if figures is None:  # the gallery is not known
            continue
        shares = (percent(figures["accuracy_within_m"][radius]) for radius in ("25", "100"))
        rows.append([f"({name})", *(metres(figures[key]) for key in ("median", "mean", "p95")), *shares, "", ""])
    return title, columns, rows


def _oracle_curve(runs: Mapping[str, Mapping[str, Evaluation]]) -> dict[str, list[float]] | None:
    """Distribution of the oracle error of the first system whose gallery is known."""
    for seeds in runs.values():
        oracle = next(iter(seeds.values())).predictions["floor_m"]
        if oracle.notna().all():
            return error_curve(oracle)
    return None


def difference_text(difference: Mapping[str, float]) -> str:
    """Format a difference of distances with its interval: -40 m [-60 m, -20 m]."""
    sign = "+" if difference["value"] > 0 else ""
    return f"{sign}{metres(difference['value'])} [{metres(difference['low'])}, {metres(difference['high'])}]"


def _errors(seeds: Mapping[str, Evaluation]) -> Float64[np.ndarray, "s q"]:
    return np.stack([_error_m(evaluation) for evaluation in seeds.values()])


def _difference(
    runs: Mapping[str, Mapping[str, Evaluation]], drawn: Mapping[str, ResampledStatistics], a: str, b: str
) -> dict[str, Any]:
    """Figures of a minus those of b, also by seed; a system with one seed is compared with all seeds of the other."""
    several = max(len(runs[a]), len(runs[b])) > 1
    pairs = [(s, t) for s in runs[a] for t in runs[b] if s == t or 1 in (len(runs[a]), len(runs[b]))]
    figures: dict[str, Any] = {}
    for key, interval in drawn[a].minus(drawn[b]).items():
        figures[key] = {"value": interval.value, "low": interval.low, "high": interval.high}
        if several:
            by_seed = {name: {s: ERROR_STATISTICS[key](_error_m(e)) for s, e in runs[name].items()} for name in (a, b)}
            figures[key]["by_seed"] = [by_seed[a][s] - by_seed[b][t] for s, t in pairs]
    return figures


def _error_m(evaluation: Evaluation) -> Float64[np.ndarray, " q"]:
    return evaluation.predictions["error_m"].to_numpy(dtype=np.float64)


def _check_same_queries(a: Evaluation, b: Evaluation, name_a: str, name_b: str) -> None:
    ids_a: pd.Series[Any] = a.predictions["image_id"]
    ids_b: pd.Series[Any] = b.predictions["image_id"]
    if ids_a.tolist() != ids_b.tolist():
        raise MismatchError(
            f"{name_a} has {len(ids_a)} queries and {name_b} has {len(ids_b)}, and they differ or are in another "
            "order; evaluate both with one manifest and one splits file."
        )
