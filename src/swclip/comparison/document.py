"""The document of a comparison, as in benchmark.json and compare.json.

The version changes when a key changes its meaning or is removed; keys may be added within a version.
"""

from __future__ import annotations

import os
from typing import Any, Literal

from pydantic import Field

from swclip.comparison.mean_report import MeanReport
from swclip.errors import ArtefactError
from swclip.evaluation.report import Report
from swclip.files import read_json
from swclip.metrics.parts import Part
from swclip.reporting.page import ErrorCurve

Version = Literal["2"]

COMPARISON_VERSION: Version = "2"
"""Format version of benchmark.json and compare.json."""

_ROUNDING = 1e-9


class Difference(Part):
    """A figure of one system minus that of another, with its paired interval."""

    value: float
    low: float | None = Field(description="null where there are too few blocks for an interval")
    high: float | None
    p: float | None = Field(default=None, description="two-sided p-value of no difference, not corrected")
    by_seed: list[float] | None = None
    by_draw: list[float] | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Low and high; None where there is no interval."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    @property
    def excludes_zero(self) -> bool:
        """Whether there is an interval, and it excludes 0 by more than rounding.

        Example:
            >>> ends = ((-10.0, 4.0), (1.0, 3.0), (None, None))
            >>> [Difference(value=2.0, low=low, high=high).excludes_zero for low, high in ends]
            [False, True, False]
        """
        return self.interval is not None and (self.interval[0] > _ROUNDING or self.interval[1] < -_ROUNDING)

    def negated(self) -> Difference:
        """The difference with the opposite sign."""
        low, high = (None, None) if self.interval is None else (-self.interval[1], -self.interval[0])
        by_seed = None if self.by_seed is None else [-value for value in self.by_seed]
        by_draw = {} if self.by_draw is None else {"by_draw": [-value for value in self.by_draw]}
        return Difference(value=-self.value, low=low, high=high, p=self.p, by_seed=by_seed, **by_draw)


class SystemDifference(Part):
    """The figures of a system minus those of the baseline or the reference."""

    against: str = Field(alias="from")
    median: Difference
    mean: Difference
    within_25: Difference
    within_50: Difference
    within_100: Difference

    @property
    def figures(self) -> dict[str, Difference]:
        """The differences by figure, errors first."""
        return {name: getattr(self, name) for name in FIGURES}


FIGURES = tuple(name for name in SystemDifference.model_fields if name != "against")
"""Figures that differences are computed for, in order."""


def is_gain(figure: str, difference: Difference) -> bool:
    """Whether a difference is a gain: a lower error or a higher share."""
    return bool((difference.value > 0.0) == figure.startswith("within"))


class System(Part):
    """One system: the reports of its seeds, their mean, and its differences from baseline and reference."""

    seeds: dict[str, Report]
    mean: MeanReport
    difference: SystemDifference | None = Field(default=None, description="from the baseline; absent for itself")
    difference_from_reference: SystemDifference | None = None


class DrawnFigure(Part):
    """A figure of a system over several draws of the splits."""

    value: float = Field(description="mean over draws and seeds")
    low: float
    high: float
    by_draw: list[float]


class DrawnSystem(Part):
    """One system over several draws of the splits."""

    figures: dict[str, DrawnFigure]
    difference: SystemDifference | None = None
    difference_from_reference: SystemDifference | None = None


class Draws(Part):
    """Several draws of the splits: intervals hold draws, seeds and blocks together."""

    seeds: list[int] = Field(description="of the splits, by draw")
    n_queries: list[int] = Field(description="by draw")
    resamples: int
    systems: dict[str, DrawnSystem]


class Curves(Part):
    """Error distributions, over seeds pooled."""

    systems: dict[str, ErrorCurve]
    floor: ErrorCurve | None = Field(description="of the oracle error; null where no gallery is known")


class Winner(Part):
    """The systems in one district."""

    n: int
    blocks: int
    median: dict[str, float] = Field(description="by system, metres")
    first: str | None = Field(description="null where there is one system, or the two best medians are equal")
    second: str | None
    gap: Difference | None = Field(description="first minus second")
    difference: dict[str, Difference] = Field(description="by system, from the baseline")


class Wins(Part):
    """Districts in which a system is first, and of these those whose gap excludes 0."""

    regions: int
    shown: int


class Winners(Part):
    """Best system by district."""

    min_blocks: int = Field(description="districts with fewer blocks have no interval")
    regions: dict[str, Winner]
    wins: dict[str, Wins]


class Agreement(Part):
    """Shares of the queries that two systems answer within a radius; they sum to 1."""

    both: float
    only_first: float
    only_second: float
    neither: float


class QueryChange(Part):
    """One query whose error differs between two systems."""

    image_id: str
    region: str
    error_m: float
    against_m: float
    change_m: float = Field(description="error_m minus against_m")
    times: float = Field(description="ratio of the larger to the smaller error")


class QueryChanges(Part):
    """The queries whose errors differ most between two systems."""

    nearer: float = Field(description="share of queries with at most half the error of the other system")
    farther: float = Field(description="share of queries with at least twice the error")
    gains: list[QueryChange] = Field(description="at most ten, largest first")
    losses: list[QueryChange]


class Pair(Part):
    """Two systems query by query."""

    system: str
    against: str
    agreement: dict[str, Agreement] = Field(description="by radius in metres")
    moved: QueryChanges


class ComparisonDocument(Part):
    """benchmark.json and compare.json."""

    version: Version
    systems: dict[str, System]
    baseline: str
    reference: str | None
    estimator: str | None = Field(
        description="of the answers of all systems; null where all have predicted coordinates without a posterior"
    )
    curves: Curves
    winners: Winners
    pairs: list[Pair]
    moved_between_seeds: dict[str, float | None] = Field(description="by system; null with one seed")
    notes: list[str] = Field(description="caveats, as sentences")
    made_with: dict[str, Any]
    draws: Draws | None = Field(default=None, description="the other keys are of the first draw")
    reading: list[str] | None = Field(default=None, description="statistical summary, in the files")

    @property
    def means(self) -> dict[str, MeanReport]:
        """The mean report of each system, smallest median error first."""
        means = {name: system.mean for name, system in self.systems.items()}
        return dict(sorted(means.items(), key=lambda item: (item[1].error_m.median, item[0])))

    @property
    def from_baseline(self) -> dict[str, SystemDifference]:
        """Differences from the baseline by system, smallest median error first."""
        differences = {name: self.systems[name].difference for name in self.means}
        return {name: difference for name, difference in differences.items() if difference is not None}

    @property
    def from_reference(self) -> dict[str, SystemDifference]:
        """Differences from the reference by system, smallest median error first; empty where there is none."""
        differences = {name: self.systems[name].difference_from_reference for name in self.means}
        return {name: difference for name, difference in differences.items() if difference is not None}

    def as_dict(self) -> dict[str, Any]:
        """The values for JSON; keys that were never set are left out."""
        return self.model_dump(exclude_unset=True, by_alias=True)


def read_document(path: str | os.PathLike[str]) -> ComparisonDocument:
    """Read benchmark.json or compare.json.

    Args:
        path: The file.

    Raises:
        ArtefactError: It is missing, a key is missing, unknown or of another type, or it is of another version.
    """
    document, where = read_json(path, "the comparison"), os.fspath(path)
    version = document.get("version") if isinstance(document, dict) else None
    if version != COMPARISON_VERSION:
        raise ArtefactError(
            f"{where}: a comparison of version {version}, and this swclip reads {COMPARISON_VERSION}; compare again, "
            "or use the swclip that wrote it."
        )
    return ComparisonDocument.of_json(document, where, "compare again")
