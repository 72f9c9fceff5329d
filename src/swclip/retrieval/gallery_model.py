"""A gallery with its model: the evidence and the posteriors of embedded photographs."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from jaxtyping import Float64, Int64

from swclip.calibration.conformal import Calibration
from swclip.calibration.posterior_config import EFFORT, EffortName, PosteriorConfig, check_effort, default_posterior
from swclip.calibration.region_cells import RegionCells, adapted_cells
from swclip.errors import ConfigError
from swclip.gallery.gallery import Gallery
from swclip.gallery.patches import PatchSource, check_encoder
from swclip.models.embed import PathLike
from swclip.models.keypoints import KeypointVerifier
from swclip.models.patches import encoder_of
from swclip.models.photograph_vectors import PhotographVectors, Vectors
from swclip.retrieval.answer import CandidateSet
from swclip.retrieval.evidence import Evidence
from swclip.retrieval.hierarchy import RESOLUTIONS, Hierarchy
from swclip.retrieval.pooling import combine_evidence
from swclip.retrieval.posterior import gallery_kernel, smoothed
from swclip.retrieval.prior import Weights
from swclip.retrieval.region_fit import in_area_probability
from swclip.retrieval.scores import check_queries
from swclip.retrieval.search import NO_POSTERIOR_ON_DISK, ExactSearch, Search
from swclip.retrieval.verification import compares, log_factors, needed, with_verification

if TYPE_CHECKING:
    from swclip.models.locator_model import LocatorModel

_LOG = logging.getLogger(__name__)


class GalleryModel:
    """A gallery, its model, and from scores to posteriors; `swclip.Locator` takes photographs and gives answers.

    The arguments and errors are those of `swclip.Locator`.

    Attributes:
        gallery: The candidates.
        model: The model.
        posterior: The posterior.
        calibration: The calibration.
    """

    def __init__(
        self,
        gallery: Gallery,
        model: LocatorModel,
        posterior: PosteriorConfig | None = None,
        resolutions: Sequence[int] = RESOLUTIONS,
        calibration: Calibration | None = None,
        *,
        search: Search | None = None,
        effort: EffortName = EFFORT,
        verify: int | None = None,
    ) -> None:
        check_effort(effort)
        gallery.check_model(model.fingerprint, "the given model")
        self.gallery = gallery
        self.model = model
        fitted = (posterior or gallery.posterior or default_posterior(model)).at(effort)
        comparable = compares(gallery.verifier, fitted)
        if fitted.matcher is not None and not comparable and verify is None:
            _LOG.warning("answers are not verified: %s", needed(fitted))
        self.posterior, self.calibration = with_verification(
            fitted, None if calibration is None else calibration.at(effort), verify, comparable
        )
        if self.posterior.verified_candidates and isinstance(gallery.verifier, PatchSource):
            check_encoder(gallery.verifier.fingerprint, encoder_of(model).fingerprint, "the gallery")
        self._search: Search = search or ExactSearch()
        self._candidates = CandidateSet.of(gallery, Hierarchy.of(gallery.positions_deg, gallery.cities, resolutions))
        self._region_cells: RegionCells | None = None

    @property
    def region_cells(self) -> RegionCells:
        """The cells that the candidates cover, at the calibration's resolution and spreads; computed once."""
        if self._region_cells is None:
            positions, cities = self.gallery.positions_deg, self.gallery.cities
            if self.calibration is None:
                self._region_cells = adapted_cells(positions, cities)
            else:
                self._region_cells = self.calibration.cells(positions, cities)
        return self._region_cells

    def evidence(self, query: Vectors) -> Evidence:
        """The evidence of embedded photographs about all candidates, separately for each photograph, not yet verified.

        Args:
            query: Vectors of Q photographs by this model.

        Raises:
            ConfigError: The gallery is searched on disk, where not all candidates are scored.
        """
        self._check_exhaustive()
        queries = check_queries(query, self.gallery)
        return Evidence.of(queries, self.gallery, self.posterior, self._candidates.photographed)

    def combined(
        self, evidence: Evidence, together: bool, prior: Weights | None
    ) -> tuple[Float64[np.ndarray, "r s"], list[Evidence]]:
        """Verify and combine evidence; see `swclip.retrieval.pooling.combine_evidence`."""
        if not self.posterior.verified_candidates:
            return combine_evidence(evidence, together, prior)
        locator = self.with_prior(prior)
        gallery, of_candidate = locator.gallery, locator._candidates.photographed.of_candidate
        return combine_evidence(
            evidence,
            together,
            prior,
            lambda single: log_factors(single.log_p, single.vectors.details, gallery, self.posterior, of_candidate),
        )

    @property
    def vectors_needed(self) -> dict[str, Any]:
        """The vectors of queries that are used, as options of `swclip.models.embed.photograph_vectors`."""
        return {
            "whitened": self.posterior.whitened_temperature is not None,
            "patches": bool(self.posterior.verified_candidates) and self.posterior.matcher is None,
        }

    def with_details(self, query: PhotographVectors, paths: Sequence[PathLike]) -> PhotographVectors:
        """Vectors of photographs, with their paths where these are what the gallery's verifier compares."""
        by_keypoints = self.posterior.verified_candidates and self.posterior.matcher is not None
        return replace(query, details=tuple(paths)) if by_keypoints else query

    def to(self, device: str | torch.device) -> Self:
        """Move the model, and the matcher of keypoints if there is one, to a device."""
        self.model.to(device)
        if isinstance(self.gallery.verifier, KeypointVerifier):
            self.gallery.verifier.matcher.to(device)
        return self

    def smoothed_posterior(self, log_p: Float64[np.ndarray, "q m"]) -> Float64[np.ndarray, "q m"]:
        """Smooth a log posterior (Q, M) spatially, to the probabilities (Q, M) of answers."""
        kernel = gallery_kernel(self.gallery, self.posterior.smoothing_m, self.posterior.kernel)
        return np.asarray(np.exp(smoothed(log_p, kernel)))

    def with_prior(self, weights: Weights | None) -> Self:
        """The same with the candidates that a prior does not exclude."""
        return self if weights is None or weights.rows is None else self.restricted(weights.rows)

    def restricted(self, rows: Int64[np.ndarray, " s"]) -> Self:
        """The same with a subset of the candidates, and the cells that they cover.

        Args:
            rows: (S,) candidates, increasing.
        """
        part = copy.copy(self)
        part.gallery = self.gallery.take(rows)
        part._candidates = CandidateSet.of(part.gallery, self._candidates.hierarchy.take(rows))
        part._region_cells = self.region_cells.take(rows).reached()
        return part

    def in_area_probability(self, query: Vectors) -> Float64[np.ndarray, " q"] | None:
        """(Q,) probabilities that photographs were taken in the gallery's area; None where that was not fitted.

        Args:
            query: Vectors of Q photographs by this model.
        """
        queries = check_queries(query, self.gallery)
        model = None if self.calibration is None else self.calibration.in_area
        return in_area_probability(queries, self.gallery, self.posterior, model, self._candidates.photographed)

    def _check_exhaustive(self) -> None:
        if not self._search.exhaustive:
            raise ConfigError(NO_POSTERIOR_ON_DISK)
