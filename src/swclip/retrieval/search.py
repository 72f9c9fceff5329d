"""Search strategies of a locator: all candidates in memory, or a shortlist of a gallery on disk."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from swclip.answers.record import Answer
from swclip.calibration.posterior_config import PosteriorConfig
from swclip.calibration.region_of_answer import RegionBuilder
from swclip.gallery.patches import PatchTable
from swclip.models.photograph_vectors import PhotographVectors
from swclip.retrieval.answer import AnswerOptions, CandidateSet, answers_from_posteriors
from swclip.retrieval.evidence import Evidence
from swclip.retrieval.region_fit import in_area_probability
from swclip.retrieval.scores import chunks, location_similarity
from swclip.retrieval.shortlist import IMAGE, LOCATION, WHITENED, Shortlister
from swclip.retrieval.verification import log_factors

if TYPE_CHECKING:
    from lancedb.table import Table

    from swclip.gallery.store import GalleryStore

MAX_MEMORY_BYTES = 2 * 2**30
"""Embeddings up to this size are searched exactly, in memory: a million of 512 numbers. Measured in
docs/results/search.md."""

NO_REGIONS_ON_DISK = (
    "answers state no regions: this gallery is searched on disk, but regions are calibrated on searches of the whole "
    "gallery; answers from a gallery in memory have them"
)
NO_POSTERIOR_ON_DISK = (
    "this gallery is searched on disk, where only a shortlist of its candidates is scored, and there is no posterior "
    "over all of them: photographs together, a prior, and a map of the posterior need one. Search it in memory "
    "(--search memory), or take the relevant part of it (swclip gallery filter GALLERY --city NAME --out PART)."
)

_LOG = logging.getLogger(__name__)


class Search(Protocol):
    """A search strategy: answers queries from a set of candidates."""

    @property
    def exhaustive(self) -> bool:
        """Whether every candidate is scored, so that there is a posterior over all of them."""

    def answers(
        self,
        query: PhotographVectors,
        candidates: CandidateSet,
        config: PosteriorConfig,
        options: AnswerOptions,
        regions: RegionBuilder | None,
    ) -> list[Answer]:
        """Answer embedded photographs separately.

        Args:
            query: Vectors of Q photographs.
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
        query: PhotographVectors,
        candidates: CandidateSet,
        config: PosteriorConfig,
        options: AnswerOptions,
        regions: RegionBuilder | None,
    ) -> list[Answer]:
        """Answer embedded photographs; see `Search`."""
        answers: list[Answer] = []
        for chunk in chunks(len(query), candidates.gallery):
            nearest = location_similarity(query.embeddings[chunk], candidates.gallery).argmax(axis=1)
            evidence = Evidence.of(query.take(chunk), candidates.gallery, config, candidates.photographed)
            if config.verified_candidates:
                details, of_candidate = evidence.vectors.details, candidates.photographed.of_candidate
                factors = log_factors(evidence.log_p, details, candidates.gallery, config, of_candidate)
                evidence = evidence.times(factors)
            each = [evidence.rows(slice(row, row + 1)) for row in range(len(evidence))]
            inside = in_area_probability(
                query.take(chunk), candidates.gallery, config, options.in_area, candidates.photographed
            )
            answers += answers_from_posteriors(
                evidence.log_p, nearest, candidates, config, options, regions, each, in_area=inside
            )
        return answers


def embedding_bytes(table: Table) -> int:
    """Memory that the embeddings of a gallery's table would take, with one location embedding per entry."""
    dim = int(table.schema.field(LOCATION).type.list_size)
    photographs = table.count_rows(f"{IMAGE} IS NOT NULL")
    whitened = int(table.schema.field(WHITENED).type.list_size) if WHITENED in table.schema.names else 0
    return 4 * (dim * table.count_rows() + (dim + whitened) * photographs)


def exceeds_memory(store: GalleryStore) -> bool:
    """Whether a gallery is too large to be searched in memory unless the user requests it."""
    return embedding_bytes(store.table) > MAX_MEMORY_BYTES


class ShortlistSearch:
    """Answers each query of a gallery that remains on disk from a shortlist by the table's index.

    Differences to an answer from a gallery in memory:

    - Probabilities are those of the whole gallery: the sum over the candidates outside the shortlist is estimated
      (`shortlist`), and the candidates, cities and cells of an answer have the rest. `left_out_at_most` is None: an
      index gives no bound for what it missed.
    - The point is taken from the shortlist, which includes the neighbours of the best candidates for the mode. The
      geometric median, which depends on the whole of a wide posterior, uses the sample too.
    - `image_share` is that of the shortlist alone, without the photographs outside.
    - There are no regions. They are calibrated on whole posteriors, whose tail this search does not compute.

    Build the indices first (`swclip.gallery.index_build.build_index` for each column): without one, each query reads
    the whole column.

    Args:
        shortlister: Computes the shortlists.

    Example:
        ```python
        table = lancedb.connect("gallery").open_table("entries")
        shortlister = Shortlister(table, {"fingerprint": model.fingerprint}, indices=Path("gallery/index"))
        locator = Locator(shortlister.gallery, model, posterior, search=ShortlistSearch(shortlister))
        answer, = locator.locate(["photo.jpg"])
        print(answer.lat_deg, answer.lon_deg, answer.probability_within_50m, answer.scored_share)
        ```
    """

    exhaustive = False

    def __init__(self, shortlister: Shortlister) -> None:
        self.shortlister = shortlister

    @classmethod
    def of_store(cls, store: GalleryStore) -> ShortlistSearch:
        """Search an open gallery, whose table is checked out at its current version."""
        description = store.description
        meta = {
            **description.meta,
            "fingerprint": description.fingerprint,
            "dim": description.dim,
            "version": store.version,
        }
        shortlister = Shortlister(store.table, meta, indices=store.indices)
        photographed = (IMAGE, WHITENED) if description.whitened else (IMAGE,)
        columns = {LOCATION, *(photographed if shortlister.gallery.image_ids else ())}
        if columns - {*shortlister.indices}:
            old = "an index of an earlier swclip, which is no longer used" if store.table.list_indices() else "no index"
            _LOG.warning(
                "%s: has %s, so that every query reads all embeddings; build one with: swclip gallery build-index %s",
                store.path,
                old,
                store.path,
            )
        shortlister.gallery = replace(shortlister.gallery, verifier=PatchTable.of_store(store))
        return cls(shortlister)

    def answers(
        self,
        query: PhotographVectors,
        candidates: CandidateSet,
        config: PosteriorConfig,
        options: AnswerOptions,
        regions: RegionBuilder | None,
    ) -> list[Answer]:
        """Answer embedded photographs without regions; see `Search`."""
        answers: list[Answer] = []
        for row in range(len(query)):
            photograph = query.take(slice(row, row + 1))
            shortlist = self.shortlister.shortlist(photograph, config)
            part = CandidateSet.of(shortlist.gallery, candidates.hierarchy.take(shortlist.rows))
            unverified, of_candidate = shortlist.log_posterior[None], part.photographed.of_candidate
            factors = log_factors(unverified, photograph.details, shortlist.gallery, config, of_candidate)
            shortlist = replace(shortlist, log_posterior=shortlist.log_posterior + factors[0])
            nearest = location_similarity(photograph.embeddings, shortlist.gallery).argmax(axis=1)
            median = options.estimator == "geometric-median"
            points = shortlist.geometric_median(candidates.gallery.positions_deg)[None] if median else None
            evidence = [Evidence.of(photograph, shortlist.gallery, config, part.photographed).times(factors)]
            log_p = shortlist.log_posterior[None]
            inside = in_area_probability(photograph, part.gallery, config, options.in_area, part.photographed)
            (answer,) = answers_from_posteriors(
                log_p, nearest, part, config, options, evidence=evidence, points_deg=points, in_area=inside
            )
            share = len(shortlist.rows) / len(candidates.gallery)
            answers.append(answer.model_copy(update={"scored_share": share, "left_out_at_most": None}))
        return answers
