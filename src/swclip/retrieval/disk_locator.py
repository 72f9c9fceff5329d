"""Answers from a gallery that stays on disk: each query is answered from its shortlist.

What an answer then says, beside one from the whole gallery:

- Probabilities are of the whole gallery: the sum over what is not in the shortlist is estimated (`shortlist`), and
  the candidates, cities and cells of an answer hold the less, the more lies outside. `left_out_at_most` is None: an
  index has no bound for what it missed.
- The point is taken among the shortlist, where the mode sees the neighbours of the best candidates. The geometric
  median, at which all of a wide posterior pulls, is taken over the sample too.
- `image_share` is what the shortlist alone would say: the photographs outside are not weighed in it.
- There are no regions. They are calibrated on whole posteriors, whose tail this search does not see.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, Float64

from swclip.answers.record import Answer
from swclip.calibration.posterior_config import EstimatorName
from swclip.calibration.region_of_answer import RegionRequest
from swclip.errors import ConfigError
from swclip.gallery import ann
from swclip.models.embed import PathLike
from swclip.retrieval.answer import Part, answers_to
from swclip.retrieval.hierarchy import RESOLUTIONS
from swclip.retrieval.locator import Locator
from swclip.retrieval.posterior import PosteriorConfig
from swclip.retrieval.prior import Prior, Weights
from swclip.retrieval.scores import Evidence, location_similarity
from swclip.retrieval.shortlist import IMAGE, LOCATION, ShortlistConfig, Shortlister

if TYPE_CHECKING:
    from lancedb.table import Table

    from swclip.gallery.store import GalleryStore
    from swclip.models.locator_model import LocatorModel

EXACT_BYTES = 2 * 2**30
"""Embeddings up to this are searched whole, in memory: a million of 512 numbers. Measured in docs/results/search.md."""

NO_REGIONS_ON_DISK = (
    "answers state no regions: this gallery is searched on disk, and regions are calibrated on searches of the whole "
    "gallery; answers from a gallery in memory have them"
)

_LOG = logging.getLogger(__name__)


def embedding_bytes(table: Table) -> int:
    """Bytes that the embeddings of a gallery's table take in memory, those of locations once an entry."""
    dim = int(table.schema.field(LOCATION).type.list_size)
    return 4 * dim * (table.count_rows() + table.count_rows(f"{IMAGE} IS NOT NULL"))


def goes_to_disk(store: GalleryStore) -> bool:
    """Whether a gallery is too large to be searched in memory unless that is asked for."""
    return embedding_bytes(store.table) > EXACT_BYTES


class NearestLocator(Locator):
    """A locator whose gallery stays on disk; see `Locator` for how it is asked.

    Build the indices first (`swclip.gallery.ann.build_index` for both columns): without one, each query reads the whole
    column. A beam is refused, since the index takes its place.

    Args:
        table: The gallery's table, a handle that is used for nothing else; see `Shortlister`.
        model: The model that made it.
        meta: What holds for the gallery: the model's `fingerprint`, and its `posterior` where one was fitted.
        posterior: From scores to probabilities; None takes the gallery's own, or else the model's temperature.
        resolutions: H3 resolutions of the cells that answers speak of.
        config: How shortlists are made.

    Raises:
        MismatchError: Another model made the gallery.
        ConfigError: There are no resolutions, or one is not 0 to 15.
        ArtefactError: The table is not one of a gallery.

    Example:
        ```python
        table = lancedb.connect("gallery").open_table("entries")
        locator = NearestLocator(table, model, {"fingerprint": model.fingerprint}, posterior)
        answer, = locator.locate(["photo.jpg"])
        print(answer.lat_deg, answer.lon_deg, answer.probability_within_50m, answer.scored_share)
        ```
    """

    def __init__(
        self,
        table: Table,
        model: LocatorModel,
        meta: Mapping[str, Any],
        posterior: PosteriorConfig | None = None,
        resolutions: Sequence[int] = RESOLUTIONS,
        config: ShortlistConfig | None = None,
    ) -> None:
        self.shortlister = Shortlister(table, meta, config)
        super().__init__(self.shortlister.gallery, model, posterior, resolutions)

    @classmethod
    def of_store(
        cls, store: GalleryStore, model: LocatorModel, resolutions: Sequence[int] = RESOLUTIONS
    ) -> NearestLocator:
        """The locator of a gallery that is open.

        Args:
            store: The gallery; its table is checked out at its present version.
            model: The model that made it.
            resolutions: H3 resolutions of the cells that answers speak of.
        """
        there = {LOCATION: None, IMAGE: f"{IMAGE} IS NOT NULL"}
        if any(store.table.count_rows(own) and ann.index_state(store.table, at) is None for at, own in there.items()):
            _LOG.warning(
                "%s: has no index, so that every question reads all embeddings; make one with: swclip gallery "
                "build-index %s",
                store.path,
                store.path,
            )
        about = store.description
        meta = {**about.meta, "fingerprint": about.fingerprint, "dim": about.dim, "version": store.version}
        return cls(store.table, model, meta, resolutions=resolutions)

    def posterior_of(
        self,
        photographs: PathLike | Sequence[PathLike],
        caption: str | None = None,
        map_tile: PathLike | None = None,
        prior: Prior | None = None,
    ) -> Float64[np.ndarray, " m"]:
        """Raise ConfigError: no posterior over the whole gallery is ever made."""
        raise ConfigError(_NO_POSTERIOR)

    def evidence(self, query: Float32[np.ndarray, "q d"]) -> Evidence:
        """Raise ConfigError: no posterior over the whole gallery is ever made."""
        raise ConfigError(_NO_POSTERIOR)

    def _warn_of_regions(self, alone: bool) -> None:
        _LOG.warning("%s", NO_REGIONS_ON_DISK)

    def _weighed(
        self,
        query: Float64[np.ndarray, "q d"],
        known: Weights | None,
        names: Sequence[str],
        top_k: int,
        estimator: EstimatorName,
        wanted: RegionRequest | None,
    ) -> list[Answer]:
        raise ConfigError(
            "photographs together, and what is known of a place beforehand, need the posterior over the whole gallery, "
            "and this one is searched on disk: search it in memory (--search memory), or take the part of it that "
            "matters (swclip gallery filter GALLERY --city NAME --out PART)."
        )

    def _answers(
        self,
        query: Float64[np.ndarray, "q d"],
        top_k: int,
        estimator: EstimatorName,
        beam: int | None,
        wanted: RegionRequest | None,
    ) -> list[Answer]:
        if beam is not None:
            raise ConfigError(
                "a beam is for a gallery in memory; this one is searched on disk by its index: leave the beam out."
            )
        found: list[Answer] = []
        for row in np.ascontiguousarray(query, dtype=np.float32):
            own = self.shortlister.shortlist(row, self.posterior)
            part = Part.of(own.gallery, self._whole.hierarchy.take(own.rows))
            nearest = location_similarity(row[None], own.gallery).argmax(axis=1)
            median = estimator == "geometric-median"
            points = own.geometric_median(self.gallery.positions_deg)[None] if median else None
            log_p = own.log_posterior[None]
            says = [Evidence.of(row[None], own.gallery, self.posterior, part.photographed)]
            (answer,) = answers_to(
                log_p, nearest, part, self.posterior, top_k, estimator, evidence=says, points_deg=points
            )
            share = len(own.rows) / len(self.gallery)
            found.append(answer.model_copy(update={"scored_share": share, "left_out_at_most": None}))
        return found


_NO_POSTERIOR = (
    "this gallery is searched on disk, and only a shortlist of its candidates is scored: there is no posterior over "
    "all of them. Search it in memory (--search memory), or use the candidates of the answers."
)
