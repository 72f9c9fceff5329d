"""Locates the photographs of requests in batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64

from swclip.answers.record import Answer
from swclip.calibration.posterior_config import ESTIMATOR, EstimatorName
from swclip.calibration.region_cells import RegionCells
from swclip.calibration.region_of_answer import RegionBuilder, RegionRequest, outside_area
from swclip.errors import ArtefactError
from swclip.imaging.preprocess import Pixels
from swclip.models.embed import evaluating, pixel_vectors
from swclip.models.photograph_vectors import PhotographVectors
from swclip.retrieval.evidence import Evidence
from swclip.retrieval.locator import Locator
from swclip.retrieval.prior import Weights
from swclip.web.regions import PosteriorRegions, level_thresholds, regions_by_level


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
    """

    pixels: tuple[Pixels, ...]
    names: tuple[str, ...]
    region: float
    combined: bool = False
    estimator: EstimatorName = ESTIMATOR
    top_k: int = 5
    prior: Weights | None = None


@dataclass(frozen=True, eq=False)
class LocatedAnswer:
    """An answer, its posterior over cells, and its regions at all coverage levels.

    Attributes:
        answer: The record.
        cells: The cells that the candidates reach.
        mass: (C,) posterior mass of each cell.
        regions: The regions.
    """

    answer: Answer
    cells: RegionCells
    mass: Float64[np.ndarray, " c"]
    regions: PosteriorRegions


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
        query = self._embed([pixels for task in tasks for pixels in task.pixels])
        evidence, in_area = self.locator.evidence(query), self.locator.in_area_probability(query)
        answers: list[list[LocatedAnswer]] = []
        start = 0
        for task in tasks:
            rows = slice(start, start + len(task.pixels))
            start = rows.stop
            answers.append(self._answer(evidence.rows(rows), task, None if in_area is None else in_area[rows]))
        return answers

    def _embed(self, pixels: list[Pixels]) -> PhotographVectors:
        model = self.locator.model
        with evaluating(model), torch.inference_mode():
            query = pixel_vectors(model, pixels, **self.locator.vectors_needed)
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

    def _with_prior(self, prior: Weights | None) -> Locator:
        """The locator restricted by a prior; the last one is cached, since requests often repeat a prior."""
        if prior is None or prior.rows is None:
            return self.locator
        key = prior.rows.tobytes()
        if self._last is None or self._last[0] != key:
            self._last = key, self.locator.with_prior(prior)
        return self._last[1]
