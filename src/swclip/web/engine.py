"""Locates the photographs of requests in batches, with the prediction regions of all coverage levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float64, Int64

from swclip.answers.record import Answer
from swclip.calibration.conformal import Calibration
from swclip.calibration.posterior_config import ESTIMATOR, EstimatorName
from swclip.calibration.region import cell_density, density_cuts, is_uninformative
from swclip.calibration.region_cells import RegionCells
from swclip.calibration.region_of_answer import RegionBuilder, RegionRequest, outside_area
from swclip.errors import ArtefactError
from swclip.imaging.preprocess import Pixels
from swclip.models.embed import evaluating, pixel_vectors
from swclip.models.patch_matching import PatchMatches
from swclip.models.photograph_vectors import PhotographVectors
from swclip.retrieval.evidence import Evidence
from swclip.retrieval.locator import Locator
from swclip.retrieval.prior import Weights
from swclip.retrieval.verification import SHOWN, matches_at, patch_source

LEVELS: tuple[float, ...] = tuple(round(0.5 + step / 100, 2) for step in range(46))
"""Coverage levels, 0.5 to 0.95."""

_LISTED_MASS = 0.999


@dataclass(frozen=True, eq=False)
class LevelRegion:
    """The region of one coverage level.

    Attributes:
        level: The nominal coverage.
        cells: Number of cells; None where the region covers everything.
        area_km2: Area of the cells; None where the region covers everything.
        cannot_tell: Whether the region is too large to be informative, so that the answer abstains.
    """

    level: float
    cells: int | None
    area_km2: float | None
    cannot_tell: bool


@dataclass(frozen=True, eq=False)
class PosteriorRegions:
    """All regions of one posterior; each contains those of lower levels.

    Attributes:
        order: (K,) cells, densest first: those of all bounded regions, and further ones until they contain nearly all
            of the mass.
        from_level: (K,) the lowest level whose region contains the cell; NaN for none.
        regions: The regions, one per level of `LEVELS`.
    """

    order: Int64[np.ndarray, " k"]
    from_level: Float64[np.ndarray, " k"]
    regions: tuple[LevelRegion, ...]


def nearest_level(level: float) -> float:
    """The lowest of `LEVELS` that is at least `level`."""
    return LEVELS[int(np.searchsorted(np.array(LEVELS), level - 1e-9))]


def level_thresholds(calibration: Calibration | None, area: str | None = None) -> tuple[float | None, ...]:
    """The minimum tail of a cell in the region of each level; None where the region covers everything.

    Args:
        calibration: The calibration of conformal regions (`conformal.Calibration.region`). Where None, the regions are
            highest-density regions: the densest cells until their mass reaches the level.
        area: The area of the posterior; None for the thresholds of all areas together.
    """
    return tuple(1.0 - level if calibration is None else calibration.threshold(level, area) for level in LEVELS)


def regions_by_level(
    mass: Float64[np.ndarray, " c"], cells: RegionCells, thresholds: Sequence[float | None]
) -> PosteriorRegions:
    """The regions of a posterior.

    Args:
        mass: (C,) mass of each cell, with a sum of 1.
        cells: The cells.
        thresholds: The thresholds of `level_thresholds`.

    Example:
        >>> cells = RegionCells.of([[51.5, -0.1]], resolution=11)
        >>> mass = np.zeros(len(cells))
        >>> mass[0] = 1.0
        >>> [region.cells for region in regions_by_level(mass, cells, level_thresholds(None)).regions[:2]]
        [1, 1]
    """
    tails = np.array([value for value in thresholds if value is not None] + [1.0 - _LISTED_MASS])
    cuts, areas = density_cuts(mass, cells.area_km2, tails)
    density = cell_density(mass, cells.area_km2)
    listed = np.flatnonzero(density >= cuts.min())
    order = listed[np.argsort(-density[listed], kind="stable")]
    sizes = np.searchsorted(-density[order], -cuts, side="right")
    extents = iter(zip(sizes.tolist(), areas.tolist(), strict=True))
    from_level = np.full(len(order), np.nan)
    regions = []
    for level, threshold in zip(LEVELS, thresholds, strict=True):
        if threshold is None:
            regions.append(LevelRegion(level, None, None, True))
            continue
        size, area_km2 = next(extents)
        inside = from_level[:size]
        inside[np.isnan(inside)] = level
        abstains = bool(is_uninformative(area_km2, level, cells.total_area_km2))
        regions.append(LevelRegion(level, size, area_km2, abstains))
    return PosteriorRegions(order, from_level, tuple(regions))


@dataclass(frozen=True, eq=False)
class LocateTask:
    """The photographs of one request, and how to locate them.

    Attributes:
        pixels: Preprocessed photographs, each (3, H, W) for each tower.
        names: Names of the photographs in the answers.
        region: Nominal coverage of the answers' regions.
        combined: Whether the photographs show one place.
        estimator: How the point is estimated.
        top_k: Number of candidates listed.
        prior: Prior weights of the candidates; None without a prior.
        matches: Whether to state the patches that match between photographs and their best candidates.
    """

    pixels: tuple[Pixels, ...]
    names: tuple[str, ...]
    region: float
    combined: bool = False
    estimator: EstimatorName = ESTIMATOR
    top_k: int = 5
    prior: Weights | None = None
    matches: bool = False


@dataclass(frozen=True, eq=False)
class LocatedAnswer:
    """An answer, its posterior over cells, and its regions at all coverage levels.

    Attributes:
        answer: The record.
        cells: The cells that the candidates reach.
        mass: (C,) posterior mass of each cell.
        regions: The regions.
        matches: Of each photograph, where requested, for each of the best candidates the gallery's photograph that is
            most similar to it and the patches that match; None where none has patch features.
    """

    answer: Answer
    cells: RegionCells
    mass: Float64[np.ndarray, " c"]
    regions: PosteriorRegions
    matches: tuple[list[tuple[str, PatchMatches] | None], ...] | None = None


class Engine:
    """Locates photographs with a gallery. Not thread-safe.

    Args:
        locator: The gallery and its model.
    """

    def __init__(self, locator: Locator) -> None:
        self.locator = locator
        self._last: tuple[bytes, Locator] | None = None

    def answer(self, tasks: Sequence[LocateTask]) -> list[list[LocatedAnswer]]:
        """Process a batch of tasks, with all photographs in one batch of the model.

        Args:
            tasks: The tasks.

        Returns:
            For each task the answers to its photographs, or one answer to all where they are combined.

        Raises:
            ArtefactError: The model's embeddings are not finite.
        """
        query = self._embed([pixels for task in tasks for pixels in task.pixels], any(task.matches for task in tasks))
        evidence, in_area = self.locator.evidence(query), self.locator.in_area_probability(query)
        answers: list[list[LocatedAnswer]] = []
        start = 0
        for task in tasks:
            rows = slice(start, start + len(task.pixels))
            start = rows.stop
            located = self._answer(evidence.rows(rows), task, None if in_area is None else in_area[rows])
            answers.append(self._with_matches(located, query.take(rows)) if task.matches else located)
        return answers

    def _embed(self, pixels: list[Pixels], with_patches: bool) -> PhotographVectors:
        model, needed = self.locator.model, self.locator.vectors_needed
        with evaluating(model), torch.inference_mode():
            query = pixel_vectors(model, pixels, **{**needed, "patches": needed["patches"] or with_patches})
        if not query.finite.all():
            raise ArtefactError("the model's embeddings are not finite; its training diverged, train it again.")
        return query

    def _answer(
        self, evidence: Evidence, task: LocateTask, in_area: Float64[np.ndarray, " p"] | None
    ) -> list[LocatedAnswer]:
        prior, together = task.prior, task.combined and len(task.pixels) > 1
        # Certainty was calibrated on single validation queries without a prior, and is true only of such tasks.
        calibrated = prior is None and not together
        locator = self._with_prior(prior)
        log_p, per_photograph = self.locator.combined(evidence, task.combined, prior)
        answers = locator.answer_posteriors(
            log_p,
            top_k=task.top_k,
            estimator=task.estimator,
            evidence=per_photograph,
            names=task.names if together else (),
            single=calibrated,
            in_area=in_area if calibrated else None,
        )
        smoothed = locator.smoothed_posterior(log_p)
        cells = locator.region_cells
        masses, areas = cells.mass(smoothed / smoothed.sum(axis=1, keepdims=True)), cells.areas.of_posteriors(smoothed)
        calibration = locator.calibration if calibrated else None
        maker = RegionBuilder(cells, calibration, RegionRequest(task.region))
        located = []
        for row, (answer, mass) in enumerate(zip(answers, masses, strict=True)):
            area = cells.areas.names[areas[row]]
            names = {"photograph": task.names[row], "photographs": task.names if together else ()}
            region, inside = maker.region_of_mass(mass, area), answer.in_area_probability
            if inside is not None and calibration is not None and calibration.abstains(inside):
                region = outside_area(region, inside)
            record = answer.model_copy(update={**names, "region": region})
            regions = regions_by_level(mass, cells, level_thresholds(calibration, area))
            located.append(LocatedAnswer(record, cells, mass, regions))
        return located

    def _with_matches(self, located: list[LocatedAnswer], query: PhotographVectors) -> list[LocatedAnswer]:
        """Answers with the matches of their photographs, one each, or of all of them where one answers all."""
        source, details = patch_source(self.locator.gallery), query.details or (None,) * len(query)
        with_matches = []
        for row, item in enumerate(located):
            candidates = [candidate.image_ids for candidate in item.answer.candidates[:SHOWN]]
            compared = details if len(located) == 1 else details[row : row + 1]
            matches = tuple(matches_at(patches, source, candidates) for patches in compared)
            with_matches.append(replace(item, matches=matches))
        return with_matches

    def _with_prior(self, prior: Weights | None) -> Locator:
        """The locator restricted by a prior; the last one is cached, since requests often repeat a prior."""
        if prior is None or prior.rows is None:
            return self.locator
        key = prior.rows.tobytes()
        if self._last is None or self._last[0] != key:
            self._last = key, self.locator.with_prior(prior)
        return self._last[1]
