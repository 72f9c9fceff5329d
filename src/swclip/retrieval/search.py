"""Search strategies of a locator: all candidates in memory, or a shortlist of a gallery on disk."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from jaxtyping import Float64

from swclip.answers.record import Answer
from swclip.calibration.posterior_config import PosteriorConfig
from swclip.calibration.region_of_answer import RegionBuilder
from swclip.retrieval.answer import AnswerOptions, CandidateSet, answers_from_posteriors
from swclip.retrieval.scores import Evidence, chunks, location_similarity


class Search(Protocol):
    """A search strategy: answers queries from a set of candidates."""

    @property
    def exhaustive(self) -> bool:
        """Whether every candidate is scored, so that there is a posterior over all of them."""

    def answers(
        self,
        query: Float64[np.ndarray, "q d"],
        candidates: CandidateSet,
        config: PosteriorConfig,
        options: AnswerOptions,
        regions: RegionBuilder | None,
    ) -> list[Answer]:
        """Answer embedded photographs separately.

        Args:
            query: (Q, D) unit vectors.
            candidates: The gallery's candidates.
            config: The posterior.
            options: Candidates to list, and estimator.
            regions: Makes the prediction regions; None for answers without.

        Returns:
            Q answers, without the photographs' names.
        """


class ExactSearch:
    """Scores all candidates of a gallery in memory, in chunks of queries of bounded memory."""

    exhaustive = True

    def answers(
        self,
        query: Float64[np.ndarray, "q d"],
        candidates: CandidateSet,
        config: PosteriorConfig,
        options: AnswerOptions,
        regions: RegionBuilder | None,
    ) -> list[Answer]:
        """Answer embedded photographs; see `Search`."""
        answers: list[Answer] = []
        for chunk in chunks(len(query), candidates.gallery):
            nearest = location_similarity(query[chunk], candidates.gallery).argmax(axis=1)
            evidence = Evidence.of(query[chunk], candidates.gallery, config, candidates.photographed)
            each = [evidence.rows(slice(row, row + 1)) for row in range(len(evidence))]
            answers += answers_from_posteriors(evidence.log_p, nearest, candidates, config, options, regions, each)
        return answers
