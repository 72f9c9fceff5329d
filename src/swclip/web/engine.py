"""Questions to answers: the gallery, its model and its ground, asked in batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64

from swclip.errors import ArtefactError
from swclip.retrieval.answers import Answer
from swclip.retrieval.embed import device_of, encode_readable, evaluating
from swclip.retrieval.evidence import log_softmax
from swclip.retrieval.ground_cells import GroundCells
from swclip.retrieval.locate import Locator
from swclip.retrieval.posterior_config import EstimatorName
from swclip.web.prior import Prior
from swclip.web.regions import Levels, levels_of, reached, thresholds_of

_CREDIBLE = thresholds_of(None)


@dataclass(frozen=True, eq=False)
class Question:
    """What one request asks.

    Attributes:
        pixels: Photographs as the model takes them, each (3, H, W).
        combined: They show one place.
        estimator: How the point is taken; None for the gallery's own.
        top_k: Candidates listed.
        prior: What is known of the place beforehand; None for nothing.
    """

    pixels: tuple[Float32[np.ndarray, "3 h w"], ...]
    combined: bool = False
    estimator: EstimatorName | None = None
    top_k: int = 5
    prior: Prior | None = None


@dataclass(frozen=True, eq=False)
class Found:
    """An answer, its posterior on the ground, and the regions.

    Attributes:
        answer: Point, candidates, city and cells.
        ground: The cells that the candidates reach.
        mass: (C,) mass of each.
        levels: The regions.
        calibrated: Whether they are conformal, and the promise is that of the validation queries.
    """

    answer: Answer
    ground: GroundCells
    mass: Float64[np.ndarray, " c"]
    levels: Levels
    calibrated: bool


class Engine:
    """Answers questions with a gallery. One thread at a time may ask.

    Args:
        locator: The gallery and its model.
    """

    def __init__(self, locator: Locator) -> None:
        self.locator = locator
        self._conformal = thresholds_of(locator.calibration)
        self._last: tuple[bytes, Locator, GroundCells] | None = None

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
        log_p = self.locator.log_posterior(query)
        found: list[list[Found]] = []
        at = 0
        for question in questions:
            rows = log_p[at : at + len(question.pixels)]
            at += len(question.pixels)
            found.append(self._answer(rows, question))
        return found

    def _embed(self, pixels: list[Float32[np.ndarray, "3 h w"]]) -> Float32[np.ndarray, "q d"]:
        model = self.locator.model
        with evaluating(model), torch.inference_mode():
            query: Float32[np.ndarray, "q d"] = encode_readable(model.encode_pixels, pixels, device_of(model))
        if not np.isfinite(query).all():
            raise ArtefactError("the model's embeddings are not numbers; its training diverged, train it again.")
        return query

    def _answer(self, log_p: Float64[np.ndarray, "q m"], question: Question) -> list[Found]:
        prior, locator, ground = question.prior, self.locator, self.locator.ground
        log_weight = None if prior is None else prior.log_weight
        if prior is not None and prior.rows is not None:
            locator, ground = self._restricted(prior.rows)
            log_p = log_softmax(log_p[:, prior.rows])
            log_weight = None if log_weight is None else log_weight[prior.rows]
        log_p = pooled(log_p, question.combined, log_weight)
        answers = locator.answer_posteriors(log_p, top_k=question.top_k, estimator=question.estimator)
        masses = ground.mass(locator.stated(log_p))
        # The validation queries were asked one at a time and without a prior: only for such does the promise hold.
        alone = prior is None and not (question.combined and len(question.pixels) > 1)
        calibrated = alone and locator.calibration is not None
        thresholds = self._conformal if alone else _CREDIBLE
        return [
            Found(answer, ground, mass, levels_of(mass, ground, thresholds), calibrated)
            for answer, mass in zip(answers, masses, strict=True)
        ]

    def _restricted(self, rows: Int64[np.ndarray, " s"]) -> tuple[Locator, GroundCells]:
        """The locator of an area and its ground; the last is kept, since an area is asked about several photographs."""
        key = rows.tobytes()
        if self._last is None or self._last[0] != key:
            locator = self.locator.restricted(rows)
            self._last = key, locator, reached(locator.ground)
        return self._last[1:]


def pooled(
    log_p: Float64[np.ndarray, "q m"], combined: bool, log_prior: Float64[np.ndarray, " m"] | None
) -> Float64[np.ndarray, "r m"]:
    """Posteriors of photographs with what else is known.

    Photographs x_1 .. x_n of one place m are taken as independent given the place. With the same weight for all
    candidates beforehand, p(m | x) is proportional to p(x | m), so that

        p(m | x_1 .. x_n)  is proportional to  w(m) prod_i p(m | x_i)

    with w the prior. Views of one place are less independent than that, so the posterior of several may be too sure of
    itself; how much, `benchmarks/combined.py` measures.

    Args:
        log_p: (q, M) log posteriors, one a photograph.
        combined: Take all photographs together.
        log_prior: (M,) log w; None for none.

    Returns:
        (q, M), or (1, M) where combined; each row's exponentials sum to 1.

    Example:
        >>> two = np.log([[0.5, 0.5], [0.8, 0.2]])
        >>> np.exp(pooled(two, True, np.log([1.0, 4.0]))).round(3).tolist()
        [[0.5, 0.5]]
    """
    rows = log_p.sum(axis=0, keepdims=True) if combined else log_p
    if log_prior is not None:
        rows = rows + log_prior
    return rows if rows is log_p else log_softmax(rows)
