"""Several systems and seeds side by side: means over seeds, intervals, and paired differences from a baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float64

from swclip.comparison.curves import curves_figure
from swclip.comparison.findings import region_winners
from swclip.comparison.frames import comparison_html, difference_frame, region_frame, system_frame
from swclip.comparison.pooling import mean_report, seed_spread, with_gallery
from swclip.comparison.query_changes import RADII_M, agreement, moved, moved_between_seeds, query_table
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
"""Of benchmark.json and compare.json."""


@dataclass(frozen=True)
class Comparison:
    """Systems measured on the same queries.

    Attributes:
        document: What benchmark.json and compare.json hold: version; systems (NAME: seeds (SEED: report), mean
            (report), difference (from the baseline, absent for the baseline itself), difference_from_reference
            (likewise)); baseline; reference (None where there is none); curves (share of queries within each distance:
            systems, floor); winners (see `region_winners`); pairs (system, against, agreement by radius in metres,
            moved: see `moved`); moved_between_seeds (NAME: share, None with one seed); notes (what a reader must know
            first); made_with. A difference holds `from` and, by figure, value, low, high (paired block bootstrap) and
            by_seed.
        evaluations: The evaluations it was made from, by system and seed.
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
        """Errors of a system in metres, one row a seed, one column a query."""
        return _errors(self.evaluations[system])

    @property
    def systems(self) -> pd.DataFrame:
        """One row a system, the smallest median first: its figures, their intervals and their spread over seeds."""
        return system_frame(self.document)

    @property
    def differences(self) -> pd.DataFrame:
        """One row a system, the one it is held against, and a figure: value, low, high, shown, better."""
        return difference_frame(self.document)

    @property
    def regions(self) -> pd.DataFrame:
        """One row a region and system: its median, its rank, and the difference from the baseline."""
        return region_frame(self.document)

    @property
    def moved(self) -> pd.DataFrame:
        """One row a query with every system's error, those on which systems differ most first; see `query_table`."""
        seeds = {name: list(runs) for name, runs in self.evaluations.items()}
        first = next(iter(self.evaluations[self.baseline].values()))
        errors = {name: self.errors_m(name) for name in self.evaluations}
        return query_table(first.predictions, errors, seeds, self.baseline)

    def plot(self, title: str | None = None) -> Figure:
        """The error curves: share of queries answered within each distance, a line a system."""
        return curves_figure(self.document, title=title)

    def __repr__(self) -> str:
        medians = {name: own["mean"]["error_m"]["median"] for name, own in self.document["systems"].items()}
        told = ", ".join(f"{name} {median:,.0f} m" for name, median in medians.items())
        return f"Comparison(median errors: {told}; differences from {self.baseline})"

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
    """Put systems beside each other.

    The intervals of a mean over seeds resample blocks of queries and keep the seeds: they say how far the figure
    would move on other streets. How far it moves with another seed is the spread, `seed_sd`.

    Args:
        evaluations: System, seed, evaluation; all on the same queries.
        made_with: How the benchmark was made.
        baseline: The system to take differences from; the first one where None.
        reference: A second system to take differences from, such as the method whose parts the others leave out.
        generator: Of the bootstrap; seeded with 0 where None.
        resamples: Bootstrap resamples.
        notes: What a reader must know before the figures; sentences.

    Raises:
        ConfigError: There are no systems, a system has no seed, or the baseline or the reference is not one of them.
        MismatchError: Two evaluations are not of the same queries.
    """
    runs = {name: {str(seed): found for seed, found in seeds.items()} for name, seeds in evaluations.items()}
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
        for seed, found in seeds.items():
            _check_same_queries(first, found, f"{base}", f"{name}, seed {seed}")
    draws = np.random.default_rng(0) if generator is None else generator
    blocks = first.predictions["block"].tolist()
    resampled = resample_blocks(blocks, resamples, draws)
    errors = {name: _errors(seeds) for name, seeds in runs.items()}
    drawn = {name: resample_statistics(own, resampled) for name, own in errors.items()}
    systems: dict[str, Any] = {}
    for name, seeds in runs.items():
        reports = {seed: found.report.as_dict() for seed, found in seeds.items()}
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
            "systems": {name: error_curve(own) for name, own in errors.items()},
            "floor": _floor_curve(runs),
        },
        "winners": region_winners(errors, first.predictions["region"].tolist(), blocks, resampled, base),
        "pairs": [
            {
                "system": a,
                "against": b,
                "agreement": {str(radius): agreement(errors[a], errors[b], radius) for radius in RADII_M},
                "moved": moved(first.predictions, errors, a, b),
            }
            for a, b in pairs
        ],
        "moved_between_seeds": {name: moved_between_seeds(own) for name, own in errors.items()},
        "notes": list(notes),
        "made_with": dict(made_with),
    }
    return Comparison(document, runs)


def comparison_table(document: Mapping[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    """A comparison for the console.

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
    for name in ("floor", "random"):
        guess = first["baselines"].get(name)
        if guess is None:  # figures of some of the queries, whose candidates are not known
            continue
        shares = (percent(guess["accuracy_within_m"][key]) for key in ("25", "100"))
        rows.append([f"({name})", *(metres(guess[key]) for key in ("median", "mean", "p95")), *shares, "", ""])
    return title, columns, rows


def _floor_curve(runs: Mapping[str, Mapping[str, Evaluation]]) -> dict[str, list[float]] | None:
    """The floor of the first system whose gallery is known."""
    for seeds in runs.values():
        floor = next(iter(seeds.values())).predictions["floor_m"]
        if floor.notna().all():
            return error_curve(floor)
    return None


def difference_text(difference: Mapping[str, float]) -> str:
    """A difference of distances with its interval: -40 m [-60 m, -20 m]."""
    sign = "+" if difference["value"] > 0 else ""
    return f"{sign}{metres(difference['value'])} [{metres(difference['low'])}, {metres(difference['high'])}]"


def _errors(seeds: Mapping[str, Evaluation]) -> Float64[np.ndarray, "s q"]:
    return np.stack([_one(found) for found in seeds.values()])


def _difference(
    runs: Mapping[str, Mapping[str, Evaluation]], drawn: Mapping[str, ResampledStatistics], a: str, b: str
) -> dict[str, Any]:
    """Figures of a less those of b, with what each seed says by itself: a system with one seed is held against all."""
    several = max(len(runs[a]), len(runs[b])) > 1
    pairs = [(s, t) for s in runs[a] for t in runs[b] if s == t or 1 in (len(runs[a]), len(runs[b]))]
    figures: dict[str, Any] = {}
    for key, found in drawn[a].minus(drawn[b]).items():
        figures[key] = {"value": found.value, "low": found.low, "high": found.high}
        if several:
            own = {name: {s: ERROR_STATISTICS[key](_one(e)) for s, e in runs[name].items()} for name in (a, b)}
            figures[key]["by_seed"] = [own[a][s] - own[b][t] for s, t in pairs]
    return figures


def _one(found: Evaluation) -> Float64[np.ndarray, " q"]:
    return found.predictions["error_m"].to_numpy(dtype=np.float64)


def _check_same_queries(a: Evaluation, b: Evaluation, name_a: str, name_b: str) -> None:
    ids_a: pd.Series[Any] = a.predictions["image_id"]
    ids_b: pd.Series[Any] = b.predictions["image_id"]
    if ids_a.tolist() != ids_b.tolist():
        raise MismatchError(
            f"{name_a} was measured on {len(ids_a)} queries and {name_b} on {len(ids_b)}, and they are not the same "
            "photographs in the same order; evaluate both with one manifest and one splits file."
        )
