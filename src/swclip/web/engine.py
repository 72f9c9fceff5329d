"""Questions to answers: the gallery, its model and its ground, asked in batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64

from swclip.answers.record import Answer
from swclip.calibration.posterior_config import EstimatorName
from swclip.calibration.region_cells import RegionCells
from swclip.calibration.region_of_answer import RegionMaker, RegionRequest
from swclip.errors import ArtefactError
from swclip.models.embed import device_of, encode_readable, evaluating
from swclip.retrieval.locator import Locator
from swclip.retrieval.pooling import combine_evidence
from swclip.retrieval.prior import Weights
from swclip.retrieval.scores import Evidence
from swclip.web.regions import Levels, levels_of, thresholds_of

_CREDIBLE = thresholds_of(None)


@dataclass(frozen=True, eq=False)
class Question:
    """What one request asks.

    Attributes:
        pixels: Photographs as the model takes them, each (3, H, W).
        names: What each is called in the answers.
        region: Nominal coverage of the answers' regions.
        combined: They show one place.
        estimator: How the point is taken; None for the gallery's own.
        top_k: Candidates listed.
        prior: What is known of the place beforehand; None for nothing.
    """

    pixels: tuple[Float32[np.ndarray, "3 h w"], ...]
    names: tuple[str, ...]
    region: float
    combined: bool = False
    estimator: EstimatorName | None = None
    top_k: int = 5
    prior: Weights | None = None


@dataclass(frozen=True, eq=False)
class Found:
    """An answer, its posterior on the ground, and the regions of all levels.

    Attributes:
        answer: The record.
        ground: The cells that the candidates reach.
        mass: (C,) mass of each.
        levels: The regions.
    """

    answer: Answer
    ground: RegionCells
    mass: Float64[np.ndarray, " c"]
    levels: Levels


class Engine:
    """Answers questions with a gallery. One thread at a time may ask.

    Args:
        locator: The gallery and its model.
    """

    def __init__(self, locator: Locator) -> None:
        self.locator = locator
        self._conformal = thresholds_of(locator.calibration)
        self._last: tuple[bytes, Locator] | None = None

    def answer(self, questions: Sequence[Question]) -> list[list[Found]]:
        """Answer a batch.

        Args:
            questions: Their photographs are seen by the model together.

        Returns:
            For each question an answer for each of its photographs, or one for all where they are combined.

        Raises:
            ArtefactError: The model's embeddings are not numbers.
        """
        query = self._embed([pixels for question in questions for pixels in question.pixels])
        evidence = self.locator.evidence(query)
        found: list[list[Found]] = []
        at = 0
        for question in questions:
            own = slice(at, at + len(question.pixels))
            at = own.stop
            found.append(self._answer(evidence.rows(own), question))
        return found

    def _embed(self, pixels: list[Float32[np.ndarray, "3 h w"]]) -> Float32[np.ndarray, "q d"]:
        model = self.locator.model
        with evaluating(model), torch.inference_mode():
            query: Float32[np.ndarray, "q d"] = encode_readable(model.encode_pixels, pixels, device_of(model))
        if not np.isfinite(query).all():
            raise ArtefactError("the model's embeddings are not numbers; its training diverged, train it again.")
        return query

    def _answer(self, evidence: Evidence, question: Question) -> list[Found]:
        prior, together = question.prior, question.combined and len(question.pixels) > 1
        locator = self._among(prior)
        log_p, each = combine_evidence(evidence, question.combined, prior)
        answers = locator.answer_posteriors(
            log_p,
            top_k=question.top_k,
            estimator=question.estimator,
            evidence=each,
            names=question.names if together else (),
        )
        stated = locator.smoothed_posterior(log_p)
        masses = locator.region_cells.mass(stated / stated.sum(axis=1, keepdims=True))
        # Coverage was calibrated on validation queries one by one and without a prior: only for such is it nominal.
        alone = prior is None and not together
        thresholds = self._conformal if alone else _CREDIBLE
        calibration = locator.calibration if alone else None
        maker = RegionMaker(locator.region_cells, calibration, RegionRequest(question.region))
        found = []
        for row, (answer, mass) in enumerate(zip(answers, masses, strict=True)):
            names = {"photograph": question.names[row], "photographs": question.names if together else ()}
            record = answer.model_copy(update={**names, "region": maker.region_of_mass(mass)})
            found.append(Found(record, locator.region_cells, mass, levels_of(mass, locator.region_cells, thresholds)))
        return found

    def _among(self, prior: Weights | None) -> Locator:
        """The locator of an area; the last is kept, since an area is asked about several photographs."""
        if prior is None or prior.rows is None:
            return self.locator
        key = prior.rows.tobytes()
        if self._last is None or self._last[0] != key:
            self._last = key, self.locator.with_prior(prior)
        return self._last[1]
