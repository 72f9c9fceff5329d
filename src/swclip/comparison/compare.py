"""Compare systems on the same queries: means over seeds, paired differences, and the best system by district."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from swclip.comparison.comparison import Comparison, errors_of
from swclip.comparison.document import (
    COMPARISON_VERSION,
    ComparisonDocument,
    Curves,
    Difference,
    Pair,
    System,
    SystemDifference,
    Winner,
    Winners,
    Wins,
)
from swclip.comparison.mean_report import MeanReport
from swclip.comparison.query_changes import RADII_M, agreement, changes_between_seeds, query_changes
from swclip.errors import ConfigError, MismatchError
from swclip.evaluation.result import Evaluation
from swclip.external.measure_coordinates import ESTIMATOR as AS_GIVEN
from swclip.metrics.bootstrap import (
    ERROR_STATISTICS,
    LEVEL,
    RESAMPLES,
    Interval,
    ResampledStatistics,
    resample_blocks,
    resample_statistics,
)
from swclip.metrics.districts import DistrictResamples, resample_districts
from swclip.metrics.error_report import Intervals
from swclip.reporting.page import ErrorCurve, error_curve

Seed = int | str
_Runs = Mapping[str, Mapping[str, Evaluation]]


def compare(
    evaluations: Mapping[str, Mapping[Seed, Evaluation]],
    made_with: Mapping[str, Any],
    *,
    baseline: str | None = None,
    reference: str | None = None,
    seed: int = 0,
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
        seed: Seed of the bootstrap, the same as that of single reports: equal figures have equal intervals.
        resamples: Bootstrap resamples.
        notes: Caveats, as sentences.

    Raises:
        ConfigError: There are no systems, a system has no seed, or baseline or reference is not among them.
        MismatchError: Two evaluations have different queries, or answers by different estimators.
    """
    runs = {name: {str(key): evaluation for key, evaluation in seeds.items()} for name, seeds in evaluations.items()}
    if not runs or not all(runs.values()):
        raise ConfigError("a comparison needs at least one system, and at least one seed of each.")
    base = next(iter(runs)) if baseline is None else baseline
    for role, name in (("baseline", base), ("reference", reference)):
        if name is not None and name not in runs:
            raise ConfigError(f"{role} {name!r} is not among the systems; choose one of {', '.join(runs)}.")
    if reference == base:
        raise ConfigError(f"baseline and reference are both {base!r}; choose another reference, or none.")
    first = next(iter(runs[base].values()))
    for name, seeds in runs.items():
        for of_seed, evaluation in seeds.items():
            _check_same_queries(first, evaluation, f"{base}", f"{name}, seed {of_seed}")
    estimator = _common_estimator(runs)
    blocks = first.predictions["block"].tolist()
    resampled = resample_blocks(blocks, resamples, np.random.default_rng(seed))
    errors = {name: errors_of(seeds) for name, seeds in runs.items()}
    drawn = {name: resample_statistics(of_system, resampled) for name, of_system in errors.items()}
    systems = {}
    for name, seeds in runs.items():
        reports = {of_seed: evaluation.report for of_seed, evaluation in seeds.items()}
        intervals = Intervals.of(
            drawn[name].intervals(), resamples, first.report.intervals.block, first.report.intervals.blocks
        )
        differences = {
            key: _difference(runs, drawn, name, other)
            for key, other in (("difference", base), ("difference_from_reference", reference))
            if other is not None and name != other
        }
        systems[name] = System(seeds=reports, mean=MeanReport.of(list(reports.values()), intervals), **differences)
    pairs = [(name, base) for name in runs if name != base]
    if reference is not None:
        pairs += [(name, reference) for name in runs if name not in (base, reference)]
    document = ComparisonDocument(
        version=COMPARISON_VERSION,
        systems=systems,
        baseline=base,
        reference=reference,
        estimator=estimator,
        curves=Curves(
            systems={name: error_curve(of_system) for name, of_system in errors.items()}, floor=_oracle_curve(runs)
        ),
        winners=winners_by_district(errors, first.predictions["region"].tolist(), blocks, resampled, base),
        pairs=[
            Pair(
                system=a,
                against=b,
                agreement={str(radius): agreement(errors[a], errors[b], radius) for radius in RADII_M},
                moved=query_changes(first.predictions, errors, a, b),
            )
            for a, b in pairs
        ],
        moved_between_seeds={name: changes_between_seeds(of_system) for name, of_system in errors.items()},
        notes=list(notes),
        made_with=dict(made_with),
    )
    return Comparison(document, runs)


def _check_same_queries(a: Evaluation, b: Evaluation, name_a: str, name_b: str) -> None:
    ids_a, ids_b = (evaluation.predictions["image_id"].tolist() for evaluation in (a, b))
    if ids_a != ids_b:
        raise MismatchError(
            f"{name_a} has {len(ids_a)} queries and {name_b} has {len(ids_b)}, and they differ or are in another "
            "order; evaluate both with one manifest and one splits file."
        )


def _common_estimator(runs: _Runs) -> str | None:
    """The estimator of all systems with a posterior; None where there is no such system."""
    names = {
        name: sorted({str(evaluation.report.estimator) for evaluation in seeds.values()} - {AS_GIVEN})
        for name, seeds in runs.items()
    }
    different = {estimator for of_system in names.values() for estimator in of_system}
    if len(different) > 1:
        texts = "; ".join(f"{name}: {', '.join(of_system)}" for name, of_system in names.items() if of_system)
        raise MismatchError(
            f"the systems answer by different estimators ({texts}), which can reverse the sign of their difference; "
            "evaluate all with one --estimator."
        )
    return next(iter(different), None)


def _oracle_curve(runs: _Runs) -> ErrorCurve | None:
    """Distribution of the oracle error of the first system whose gallery is known."""
    for seeds in runs.values():
        oracle = next(iter(seeds.values())).predictions["floor_m"]
        if oracle.notna().all():
            return error_curve(oracle)
    return None


def _difference(runs: _Runs, drawn: Mapping[str, ResampledStatistics], a: str, b: str) -> SystemDifference:
    """Figures of a minus those of b, also by seed; a system with one seed is compared with all seeds of the other."""
    several = max(len(runs[a]), len(runs[b])) > 1
    pairs = [(s, t) for s in runs[a] for t in runs[b] if s == t or 1 in (len(runs[a]), len(runs[b]))]
    errors = {name: dict(zip(runs[name], errors_of(runs[name]), strict=True)) for name in (a, b)}
    figures = {}
    for key, interval in drawn[a].minus(drawn[b]).items():
        by_seed = {}
        if several:
            values = {name: {s: ERROR_STATISTICS[key](error) for s, error in errors[name].items()} for name in (a, b)}
            by_seed = {"by_seed": [values[a][s] - values[b][t] for s, t in pairs]}
        figures[key] = Difference(value=interval.value, low=interval.low, high=interval.high, p=interval.p, **by_seed)
    return SystemDifference.model_validate({"from": b, **figures})


MIN_BLOCKS = 8
"""Districts with fewer blocks have no interval: resampling few blocks underestimates the uncertainty."""


def winners_by_district(
    errors_m: Mapping[str, Float64[np.ndarray, "s q"]],
    districts: Sequence[str],
    blocks: Sequence[str],
    resampled: Sequence[Int64[np.ndarray, " m"]],
    baseline: str,
    level: float = LEVEL,
) -> Winners:
    """Compare the median errors of systems in each district.

    The median of a system with several seeds is the mean of the medians of its seeds. First and second of a district
    are chosen from the queries on which their difference is measured, so the gap between them is optimistically biased;
    with many districts some gaps exclude 0 by chance.

    Args:
        errors_m: Errors of each system, (S, Q), metres, one row per seed.
        districts: District of each query.
        blocks: Block of each query.
        resampled: Result of `resample_blocks`.
        baseline: The system that `difference` is taken from.
        level: Confidence level of the intervals.

    Returns:
        The systems in each district, and the number of districts in which each is first.

    Example:
        >>> from swclip.metrics.bootstrap import resample_blocks
        >>> blocks = [str(at) for at in range(20)]
        >>> near, far = np.full((1, 20), 5.0), np.full((1, 20), 9.0)
        >>> resampled = resample_blocks(blocks, 50, np.random.default_rng(0))
        >>> winners = winners_by_district({"a": near, "b": far}, ["York"] * 20, blocks, resampled, "b")
        >>> winners.regions["York"].first, winners.regions["York"].gap.high, winners.wins["a"]
        ('a', -4.0, Wins(regions=1, shown=1))
    """
    drawn = {name: resample_districts(errors, districts, resampled) for name, errors in errors_m.items()}
    names = [key.removeprefix("region:") for key in drawn[baseline].keys if key.startswith("region:")]
    inside: dict[str, set[str]] = {name: set() for name in names}
    counts = dict.fromkeys(names, 0)
    for district, block in zip(map(str, districts), map(str, blocks), strict=True):
        inside[district].add(block)
        counts[district] += 1
    pairs = _Pairs(drawn, level)
    regions = {}
    for name in names:
        key, n_blocks = f"region:{name}", len(inside[name])
        median = {system: float(draws.values[list(draws.keys).index(key)]) for system, draws in drawn.items()}
        ranked = sorted(median, key=lambda system: median[system])
        first = second = gap = None
        if len(ranked) > 1 and median[ranked[0]] < median[ranked[1]]:
            first, second = ranked[:2]
            gap = _district_difference(pairs.minus(first, second)[key], n_blocks)
        regions[name] = Winner(
            n=counts[name],
            blocks=n_blocks,
            median=median,
            first=first,
            second=second,
            gap=gap,
            difference={
                system: _district_difference(pairs.minus(system, baseline)[key], n_blocks)
                for system in drawn
                if system != baseline
            },
        )
    return Winners(min_blocks=MIN_BLOCKS, regions=regions, wins={name: _wins(regions, name) for name in drawn})


def _wins(regions: Mapping[str, Winner], system: str) -> Wins:
    gaps = [winner.gap for winner in regions.values() if winner.first == system]
    return Wins(regions=len(gaps), shown=sum(gap is not None and gap.excludes_zero for gap in gaps))


class _Pairs:
    """Differences of pairs of systems in all districts, each computed once."""

    def __init__(self, drawn: Mapping[str, DistrictResamples], level: float) -> None:
        self._drawn, self._level = drawn, level
        self._cache: dict[tuple[str, str], dict[str, Interval]] = {}

    def minus(self, a: str, b: str) -> dict[str, Interval]:
        if (a, b) not in self._cache:
            self._cache[a, b] = self._drawn[a].minus(self._drawn[b], self._level)
        return self._cache[a, b]


def _district_difference(interval: Interval, n_blocks: int) -> Difference:
    if n_blocks < MIN_BLOCKS or not math.isfinite(interval.low):
        return Difference(value=interval.value, low=None, high=None)
    return Difference(value=interval.value, low=interval.low, high=interval.high)
