"""The locator: a gallery with its model, from photographs to answers."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64

from swclip.answers.record import Answer
from swclip.calibration.conformal import read_calibration
from swclip.calibration.posterior_config import (
    EFFORT,
    ESTIMATOR,
    EffortName,
    EstimatorName,
    check_estimator,
    default_posterior,
    read_posterior,
)
from swclip.calibration.region import LEVEL
from swclip.calibration.region_of_answer import NOT_ALONE, NOT_CALIBRATED, RegionBuilder, RegionRequest
from swclip.data.manifest import Manifest, read_manifest
from swclip.errors import ConfigError
from swclip.files import default_cache_folder
from swclip.gallery.build import build_gallery, manifest_candidates
from swclip.gallery.hubness import read_bank
from swclip.gallery.patches import ComputedPatches
from swclip.gallery.read_write import gallery_of
from swclip.gallery.store import GalleryStore
from swclip.models.embed import PathLike, Progress
from swclip.models.embed_modalities import embed_queries, offered_modalities
from swclip.models.feature_cache import FeatureCache
from swclip.models.photograph_vectors import PhotographVectors
from swclip.progress import count_progress
from swclip.retrieval.answer import AnswerOptions, answers_from_posteriors
from swclip.retrieval.evidence import Evidence
from swclip.retrieval.gallery_model import GalleryModel
from swclip.retrieval.hierarchy import RESOLUTIONS
from swclip.retrieval.prior import Prior, Weights
from swclip.retrieval.queries import Queries, paths_of
from swclip.retrieval.scores import chunks
from swclip.retrieval.search import (
    NO_REGIONS_ON_DISK,
    ShortlistSearch,
    exceeds_memory,
)
from swclip.retrieval.verification import needed, with_keypoints

SearchName = Literal["auto", "memory", "disk"]

_LOG = logging.getLogger(__name__)


class Locator(GalleryModel):
    """Locates photographs in a gallery that was embedded before, so that only the photographs are encoded.

    Args:
        gallery: The gallery.
        model: The model that embedded it.
        posterior: From scores to probabilities; None for that of the gallery, or else the model's temperature.
        resolutions: H3 resolutions of the cells in answers.
        calibration: Calibration of the regions, for this model with this posterior; None for uncalibrated regions.
        search: The search strategy; None scores all candidates in memory.
        effort: Which evidence is used; `fast` leaves out whitened features. Posterior and calibration are those that
            were fitted for it.
        verify: Number of the most probable candidates that are verified (`swclip.retrieval.verification`); None for
            the number that the posterior was fitted with, where the gallery has patch features; 0 for none. Regions
            are calibrated for the fitted number and for 0.

    Attributes:
        gallery: The candidates.
        model: The model.
        posterior: The posterior.
        calibration: The calibration.

    Raises:
        MismatchError: Another model embedded the gallery.
        ConfigError: There are no resolutions, or one is not 0 to 15; or candidates are to be verified, and the gallery
            has no patch features, or the posterior was not fitted with verification.

    Example:
        ```python
        locator = swclip.Locator.from_gallery("gallery")
        answer, = locator.locate(["photo.jpg"])
        print(answer.lat_deg, answer.lon_deg, answer.probability_within_50m)
        print(answer.city, answer.city_probability, [(c.cell_id, c.probability) for c in answer.cells])
        print(answer.region.probability, answer.region.area_km2, answer.region.cannot_tell)
        leeds = swclip.Prior(city="Leeds")
        answer, = locator.locate(["left.jpg", "right.jpg"], together=True, prior=leeds)
        ```
    """

    def __repr__(self) -> str:
        regions = "calibrated regions" if self.calibration is not None else "regions not calibrated"
        return f"{type(self).__name__}({self.gallery!r}, {regions})"

    @classmethod
    def from_gallery(
        cls,
        path: str | os.PathLike[str],
        model: str | os.PathLike[str] | None = None,
        resolutions: Sequence[int] = RESOLUTIONS,
        search: SearchName = "auto",
        effort: EffortName = EFFORT,
        verify: int | None = None,
        *,
        photographs: Manifest | str | os.PathLike[str] | None = None,
        verify_with: str | None = None,
    ) -> Locator:
        """Load a gallery and the model saved with it.

        Args:
            path: The gallery that `swclip index` wrote, a folder or a URL.
            model: A run or model folder to use in place of the gallery's copy; it must be the same model.
            resolutions: H3 resolutions of the cells in answers.
            search: `memory` loads the whole gallery and scores all candidates; `disk` scores a shortlist from its index
                (`swclip gallery build-index`); `auto` is `memory` up to
                `swclip.retrieval.search.MAX_MEMORY_BYTES`.
            effort: Which evidence is used.
            verify: Number of candidates that are verified.
            photographs: The manifest of the gallery's photographs, or its path; a posterior that was fitted with
                keypoints compares them, and answers without verification where they are missing.
            verify_with: Where the keypoint matcher is, on the hub or in a folder, if not where it was then.

        Raises:
            ArtefactError: The gallery or the model is missing, damaged, or of another version.
            MismatchError: The model is not the one that embedded the gallery, or the matcher not that of the posterior.
        """
        from swclip.models.locator_model import load_model

        store = GalleryStore.open(path)
        gallery_folder = store.model_folder(default_cache_folder())
        model_folder = gallery_folder if model is None else Path(model)
        loaded = load_model(model_folder)
        store.description.check_model(loaded.fingerprint, str(model_folder), str(path))
        shortlists = search == "disk" or (search == "auto" and exceeds_memory(store))
        on_disk = ShortlistSearch.of_store(store) if shortlists else None
        gallery = gallery_of(store) if on_disk is None else on_disk.shortlister.gallery
        calibration = read_calibration(gallery_folder)
        fitted = (gallery.posterior or default_posterior(loaded)).at(effort)
        if verify_with is not None or (photographs is not None and fitted.matcher is not None):
            if photographs is None:
                raise ConfigError(needed(fitted))
            gallery = with_keypoints(gallery, fitted, photographs, verify_with)
            if on_disk is not None:
                on_disk.shortlister.gallery = gallery
        return cls(gallery, loaded, None, resolutions, calibration, search=on_disk, effort=effort, verify=verify)

    @classmethod
    def from_pretrained(
        cls,
        model: str | os.PathLike[str],
        manifest: Manifest | str | os.PathLike[str],
        *,
        cache: bool = True,
        progress: bool | Progress | None = None,
    ) -> Locator:
        """Load a trained model, and embed the photographs whose places its answers can name, in memory.

        A published model has no gallery. `swclip.build_gallery` has further choices: a grid, splits, a gallery on disk.

        Args:
            model: A name on the hub (`hf://owner/name`, `hf://owner/name@revision`, or `owner/name` where no such path
                exists), a run, or a model's folder.
            manifest: The photographs, or the path of their manifest.
            cache: Cache image features in $SWCLIP_CACHE (or ~/.cache/swclip).
            progress: True for a progress bar, or a callback that is called with (done, total).

        Raises:
            ArtefactError: The model or the manifest does not exist, or is damaged.
            HubError: The hub cannot be reached, or has no such model.
            InputError: Photographs cannot be decoded.

        Example:
            ```python
            locator = swclip.Locator.from_pretrained("hf://ada/leeds", "data")
            answer, = locator.locate("new-photo.jpg")
            ```
        """
        from swclip.models.locator_model import load_model

        table = read_manifest(manifest) if isinstance(manifest, (str, os.PathLike)) else manifest
        loaded = load_model(model)
        assert loaded.folder is not None  # of a model that was loaded
        posterior = read_posterior(loaded.folder)
        with count_progress(progress, "Embedding the gallery") as report:
            gallery = build_gallery(
                loaded,
                manifest_candidates(table),
                table,
                posterior=posterior,
                bank=read_bank(loaded.folder),
                patches=posterior is not None and posterior.verified_candidates > 0 and posterior.matcher is None,
                cache=FeatureCache() if cache else None,
                progress=report,
            )
        if isinstance(gallery.verifier, ComputedPatches):
            with count_progress(progress, "Computing patch features") as report:
                gallery = replace(gallery, verifier=gallery.verifier.computed(report))
        elif posterior is not None and posterior.matcher is not None:
            gallery = with_keypoints(gallery, posterior, table)
        return cls(gallery, loaded, posterior, calibration=read_calibration(loaded.folder))

    def locate(
        self,
        photographs: PathLike | Sequence[PathLike] | Queries,
        top_k: int = 5,
        estimator: EstimatorName = ESTIMATOR,
        *,
        captions: str | Sequence[str | None] | None = None,
        maps: PathLike | Sequence[PathLike | None] | None = None,
        together: bool = False,
        prior: Prior | None = None,
        region: float | None = LEVEL,
        region_limit_km2: float | None = None,
        batch_size: int = 32,
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> list[Answer]:
        """Estimate where photographs were taken.

        Args:
            photographs: One path or several; or photographs that the model has embedded.
            top_k: Number of candidates to list with each answer.
            estimator: "mode" (where the spatially smoothed posterior is densest), "argmax" (the most probable
                candidate; of locations alone the most similar one, as in the paper), or "geometric-median".
            captions: A text about each photograph, None where it has none; for a model with captions.
            maps: A map tile of each photograph, likewise.
            together: The photographs show one place: return one answer to all that can be decoded; see
                `swclip.retrieval.pooling`. Needs 24 bytes for each photograph and candidate.
            prior: Prior knowledge of the places.
            region: Nominal coverage of each answer's region; None for no regions. It is calibrated for a single
                photograph without a prior; otherwise the answer states that it is not.
            region_limit_km2: Answers with larger regions abstain; None to abstain only where a region is uninformative.
            batch_size: Photographs per batch.
            workers: Decoding threads.
            progress: Called with (done, total) photographs.

        Returns:
            One answer per photograph, in their order. That of a photograph that cannot be decoded has the reason in
            `error`. With `together`, the first answer is that to all photographs that can be decoded; an error for
            each of the others follows.

        Raises:
            ConfigError: The estimator is unknown, top_k is below 1, the nominal coverage is not between 0 and 1, the
                model lacks a modality, or a gallery on disk is searched with a prior or for photographs together.
            UnknownCityError: The prior's city is not in the gallery.
            NoCandidatesError: The prior leaves no candidate.
            ArtefactError: The model's embeddings are not numbers.
        """
        options = self._options(top_k, estimator)
        region_request = None if region is None else RegionRequest(region, region_limit_km2)
        weights = None if prior is None else prior.weights(self.gallery.positions_deg, self.gallery.cities)
        queries = photographs if isinstance(photographs, Queries) else paths_of(photographs)
        if weights is not None or (together and len(queries) > 1):
            self._check_exhaustive()
        if not isinstance(queries, Queries):
            decoding: Any = {"batch_size": batch_size, "workers": workers, "progress": progress}
            queries = Queries.of(self.model, queries, captions, maps, **self.vectors_needed, **decoding)
        vectors = self.with_details(queries.vectors, queries.names)
        combined = tuple(queries.names) if together and len(queries.names) > 1 else ()
        if region_request is not None:
            self.warn_of_regions(single=weights is None and not combined)
        if weights is not None or combined:
            answers = self._answers_with_prior(vectors, weights, combined, options, region_request)
        else:
            regions, options = self._region_maker(region_request), self._calibrated(options)
            answers = self._search.answers(vectors, self._candidates, self.posterior, options, regions)
        if together:
            named = {"photograph": queries.names[0], "photographs": combined} if queries.names else {}
            return [*(answer.model_copy(update=named) for answer in answers), *queries.errors.values()]
        in_order = (
            answer.model_copy(update={"photograph": name}) for answer, name in zip(answers, queries.names, strict=True)
        )
        return [queries.errors[row] if row in queries.errors else next(in_order) for row in range(len(queries))]

    def posterior_of(
        self,
        photographs: PathLike | Sequence[PathLike],
        caption: str | None = None,
        map_tile: PathLike | None = None,
        prior: Prior | None = None,
    ) -> Float64[np.ndarray, " m"]:
        """The spatially smoothed posterior of a photograph over the gallery's candidates.

        Args:
            photographs: One photograph, or several of one place.
            caption: A text about a single photograph.
            map_tile: A map tile of a single photograph.
            prior: Prior knowledge of the place.

        Returns:
            (M,) probabilities that sum to 1.

        Raises:
            ConfigError: The gallery is searched on disk, where there is no posterior over all candidates.
            InputError: A photograph cannot be decoded.
        """
        self._check_exhaustive()
        paths = paths_of(photographs)
        captions, maps = ([caption], [map_tile]) if len(paths) == 1 else (None, None)
        query = embed_queries(
            self.model, paths, captions, maps, use=offered_modalities(captions, maps), **self.vectors_needed
        )
        weights = None if prior is None else prior.weights(self.gallery.positions_deg, self.gallery.cities)
        log_p, _ = self.combined(self.evidence(self.with_details(query, paths)), True, weights)
        rows = np.arange(len(self.gallery)) if weights is None or weights.rows is None else weights.rows
        probability = np.zeros(len(self.gallery))
        probability[rows] = self.with_prior(weights).smoothed_posterior(log_p)[0]
        return probability

    def answer_posteriors(
        self,
        log_p: Float64[np.ndarray, "q m"],
        top_k: int = 5,
        estimator: EstimatorName = ESTIMATOR,
        *,
        evidence: Sequence[Evidence] | None = None,
        names: Sequence[str] = (),
        region: RegionRequest | None = None,
        single: bool = False,
        in_area: Float64[np.ndarray, " q"] | None = None,
    ) -> list[Answer]:
        """Answers from existing posteriors, such as of several photographs of one place.

        Args:
            log_p: (Q, M) log posteriors, not smoothed; -inf where a candidate is excluded.
            top_k: Number of candidates to list with each answer.
            estimator: As for `locate`.
            evidence: Q times the evidence of the photographs of a row (`pooling.combine_evidence`), given with the
                listed candidates.
            names: The photographs' names, where a row combines several.
            region: The region of the answers, by its share of the posterior; None for none.
            single: Each row is of a single photograph without a prior, for which stated probabilities are calibrated.
            in_area: (Q,) `in_area_probability` of those photographs; None to leave it open.

        Returns:
            One answer per row. `argmax_lat_deg` and `argmax_lon_deg` are those of its most probable candidate.

        Raises:
            ConfigError: The estimator is unknown.
        """
        options = self._options(top_k, estimator)
        options = self._calibrated(options) if single else options
        nearest = log_p.argmax(axis=1) if len(log_p) else np.zeros(0, dtype=np.int64)
        regions = None if region is None else RegionBuilder(self.region_cells, None, region)
        return answers_from_posteriors(
            log_p, nearest, self._candidates, self.posterior, options, regions, evidence, names, in_area=in_area
        )

    def _options(self, top_k: int, estimator: EstimatorName) -> AnswerOptions:
        check_estimator(estimator)
        if top_k < 1:
            raise ConfigError(f"top_k is {top_k}; it must be at least 1.")
        return AnswerOptions(top_k, estimator)

    def _calibrated(self, options: AnswerOptions) -> AnswerOptions:
        """The options of an answer to a single photograph without a prior, for which the calibration is."""
        if self.calibration is None:
            return options
        return replace(options, stated=self.calibration.stated, in_area=self.calibration.in_area)

    def warn_of_regions(self, single: bool) -> None:
        """Warn where answers have no regions, or regions without calibrated coverage."""
        if not self._search.exhaustive:
            _LOG.warning("%s", NO_REGIONS_ON_DISK)
        elif self.calibration is None:
            _LOG.warning("%s", NOT_CALIBRATED)
        elif not single:
            _LOG.warning("%s", NOT_ALONE)

    def _region_maker(self, request: RegionRequest | None) -> RegionBuilder | None:
        if request is None or not self._search.exhaustive:
            return None
        return RegionBuilder(self.region_cells, self.calibration, request)

    def _answers_with_prior(
        self,
        query: PhotographVectors,
        weights: Weights | None,
        names: Sequence[str],
        options: AnswerOptions,
        region: RegionRequest | None,
    ) -> list[Answer]:
        """Answers without calibrated coverage: to each photograph, with a prior, or with names one to all of them."""
        locator, together = self.with_prior(weights), bool(names)
        answers: list[Answer] = []
        for chunk in [slice(0, len(query))] if together else chunks(len(query), self.gallery):
            log_p, evidence = self.combined(self.evidence(query.take(chunk)), together, weights)
            answers += locator.answer_posteriors(
                log_p, options.top_k, options.estimator, evidence=evidence, names=names, region=region
            )
        return answers
