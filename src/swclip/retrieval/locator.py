"""Photographs in, places out: a gallery with its model, ready to answer."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float32, Float64, Int64

from swclip.answers.record import Answer
from swclip.calibration.conformal import Calibration, read_calibration
from swclip.calibration.posterior_config import EstimatorName, check_estimator
from swclip.calibration.region import LEVEL
from swclip.calibration.region_cells import RESOLUTION, SPREAD_M, GroundCells
from swclip.calibration.region_of_answer import NOT_ALONE, NOT_CALIBRATED, RegionMaker, RegionRequest
from swclip.errors import ArtefactError, ConfigError
from swclip.files import default_cache_folder
from swclip.gallery.gallery import Gallery, gallery_of
from swclip.gallery.store import GalleryStore
from swclip.models.embed import Failure, PathLike, Progress
from swclip.models.embed_modalities import embed_queries, given_views
from swclip.retrieval.answer import Part, answers_from, answers_to
from swclip.retrieval.coarse import CoarseIndex, part_of
from swclip.retrieval.hierarchy import RESOLUTIONS, Hierarchy
from swclip.retrieval.pooling import weighed
from swclip.retrieval.posterior import PosteriorConfig, default_posterior, gallery_kernel, smoothed
from swclip.retrieval.prior import Prior, Weights
from swclip.retrieval.scores import Evidence, check_queries, chunks

if TYPE_CHECKING:
    from swclip.models.locator_model import LocatorModel

Search = Literal["auto", "memory", "disk"]

_LOG = logging.getLogger(__name__)


class Locator:
    """Answers from a gallery that was embedded before; only the photographs that are asked about are encoded.

    Args:
        gallery: The gallery.
        model: The model that made it.
        posterior: From scores to probabilities; None takes the gallery's own, or else the model's temperature.
        resolutions: H3 resolutions of the cells that answers speak of.
        calibration: What regions are made by, of this model with this posterior; None for regions that promise nothing.

    Raises:
        MismatchError: Another model made the gallery.
        ConfigError: There are no resolutions, or one is not 0 to 15.

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

    def __init__(
        self,
        gallery: Gallery,
        model: LocatorModel,
        posterior: PosteriorConfig | None = None,
        resolutions: Sequence[int] = RESOLUTIONS,
        calibration: Calibration | None = None,
    ) -> None:
        gallery.check_model(model.fingerprint, "the model given")
        self.gallery = gallery
        self.model = model
        self.posterior = posterior or gallery.posterior or default_posterior(model)
        self._whole = Part.of(gallery, Hierarchy.of(gallery.positions_deg, gallery.cities, resolutions))
        self._coarse: CoarseIndex | None = None
        self.calibration = calibration
        self._ground: GroundCells | None = None

    @property
    def ground(self) -> GroundCells:
        """The cells that the candidates reach, of the calibration's kind where there is one; laid out once."""
        if self._ground is None:
            self._ground = self._laid_out(self.gallery)
        return self._ground

    @classmethod
    def from_gallery(
        cls,
        path: str | os.PathLike[str],
        model: str | os.PathLike[str] | None = None,
        resolutions: Sequence[int] = RESOLUTIONS,
        search: Search = "auto",
    ) -> Locator:
        """Load a gallery and the model saved with it.

        Args:
            path: The gallery that `swclip index` wrote, a folder or a URL.
            model: A run or model folder to use in place of the gallery's own; it must be the same model.
            resolutions: H3 resolutions of the cells that answers speak of.
            search: `memory` holds the whole gallery and looks at every candidate; `disk` leaves it where it is and
                looks at a shortlist by its index, see `nearest`; `auto` takes memory up to `nearest.EXACT_BYTES`.

        Raises:
            ArtefactError: The gallery or the model is missing, cut short, or of another version.
            MismatchError: The model is not the one that made the gallery.
        """
        from swclip.models.locator_model import load_model

        store = GalleryStore.open(path)
        own = store.model_folder(default_cache_folder())
        source = own if model is None else Path(model)
        loaded = load_model(source)
        store.description.check_model(loaded.fingerprint, str(source), str(path))
        if search != "memory":
            from swclip.retrieval.disk_locator import NearestLocator, goes_to_disk

            if search == "disk" or goes_to_disk(store):
                return NearestLocator.of_store(store, loaded, resolutions)
        return cls(gallery_of(store), loaded, resolutions=resolutions, calibration=read_calibration(own))

    def locate(
        self,
        photographs: PathLike | Sequence[PathLike],
        top_k: int = 5,
        estimator: EstimatorName | None = None,
        *,
        captions: str | Sequence[str | None] | None = None,
        maps: PathLike | Sequence[PathLike | None] | None = None,
        together: bool = False,
        prior: Prior | None = None,
        beam: int | None = None,
        region: float | None = LEVEL,
        region_limit_km2: float | None = None,
        batch_size: int = 32,
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> list[Answer]:
        """Say where photographs were taken.

        Args:
            photographs: One path or several.
            top_k: How many candidates to list with each answer.
            estimator: "mode" (the densest place of the posterior smoothed on the ground), "argmax" (the most probable
                candidate; of locations alone the most similar one, as in the paper), or "geometric-median". The one
                that answered best on the validation queries where None.
            captions: What is said about each photograph, None where nothing is; for a model with a caption view.
            maps: A map tile a photograph, likewise.
            together: They show one place: one answer to all that can be decoded; see `combine`. Takes 24 bytes for each
                photograph and candidate.
            prior: What is known of the places beforehand.
            beam: Look only into so many cells of the gallery, those that can hold the best candidates: for galleries of
                a million. Each answer states what share was scored and how much of the posterior the rest can hold.
                None looks at every candidate.
            region: Probability with which the region of each answer is to hold the place; None for no regions. It is
                calibrated for one photograph without a prior and a whole search; otherwise the answer says that it is
                not.
            region_limit_km2: Regions larger than this cannot tell; where None, those as large as a blind one.
            batch_size: Photographs that the model sees at once.
            workers: Decoding threads.
            progress: Called with (done, total) photographs.

        Returns:
            An answer a photograph, in their order. One that cannot be decoded has its reason in `error`. Together, the
            first answer is that to all photographs that can be decoded, and an error follows for each of the others.

        Raises:
            ConfigError: The estimator is not known, top_k or the beam is below 1, a beam is given with a prior or for
                photographs together, the region's probability is not between 0 and 1, or the model has not a view that
                is given.
            UnknownCityError: The prior's city is not one of the gallery's.
            NoCandidatesError: The prior leaves no candidate.
            ArtefactError: The model's embeddings are not numbers.
        """
        estimator = self.posterior.estimator if estimator is None else estimator
        check_estimator(estimator)
        if top_k < 1:
            raise ConfigError(f"top_k is {top_k}; ask for at least one candidate.")
        if beam is not None and beam < 1:
            raise ConfigError(f"beam is {beam}; open at least one cell, or leave it out to look at all candidates.")
        if beam is not None and (together or prior is not None):
            raise ConfigError(
                "a beam is for photographs one by one and without a prior: what it leaves out cannot be bounded "
                "otherwise; leave the beam out to look at all candidates."
            )
        wanted = None if region is None else RegionRequest(region, region_limit_km2)
        known = None if prior is None else prior.weights(self.gallery.positions_deg, self.gallery.cities)
        asked = [photographs] if isinstance(photographs, (str, os.PathLike)) else list(photographs)
        texts = [captions] if isinstance(captions, str) else captions
        tiles = [maps] if isinstance(maps, (str, os.PathLike)) else maps
        failures: list[Failure] = []
        query = embed_queries(
            self.model,
            asked,
            texts,
            tiles,
            use=given_views(texts, tiles),
            batch_size=batch_size,
            workers=workers,
            failures=failures,
            progress=progress,
        )
        answered = np.flatnonzero(np.isfinite(query).all(axis=1)) if query.size else np.zeros(0, dtype=np.int64)
        if len(answered) + len(failures) != len(asked):
            raise ArtefactError("the model's embeddings are not numbers; its training diverged, train it again.")
        names = [os.fspath(path) for path in asked]
        reasons = iter(failures)
        good = [names[row] for row in answered]
        bad = {
            row: Answer(photograph=names[row], error=next(reasons)[1])
            for row in sorted({*range(len(asked))} - {*answered})
        }
        combined = tuple(good) if together and len(good) > 1 else ()
        if wanted is not None:
            self._warn_of_regions(alone=known is None and not combined)
        if known is not None or combined:
            found = self._weighed(query[answered], known, combined, top_k, estimator, wanted)
        else:
            found = self._answers(query[answered], top_k, estimator, beam, wanted)
        if together:
            named = {"photograph": good[0], "photographs": combined} if good else {}
            return [*(answer.model_copy(update=named) for answer in found), *bad.values()]
        answers = iter(found)
        return [
            bad[row] if row in bad else next(answers).model_copy(update={"photograph": names[row]})
            for row in range(len(asked))
        ]

    def posterior_of(
        self,
        photographs: PathLike | Sequence[PathLike],
        caption: str | None = None,
        map_tile: PathLike | None = None,
        prior: Prior | None = None,
    ) -> Float64[np.ndarray, " m"]:
        """The posterior of a photograph over the gallery's candidates, smoothed on the ground; it sums to 1.

        Args:
            photographs: One, or several of one place.
            caption: What is said about a single one.
            map_tile: A map tile of a single one.
            prior: What is known beforehand; candidates that it rules out have probability 0.

        Raises:
            InputError: A photograph cannot be decoded.
        """
        asked = [photographs] if isinstance(photographs, (str, os.PathLike)) else list(photographs)
        captions, maps = ([caption], [map_tile]) if len(asked) == 1 else (None, None)
        query = embed_queries(self.model, asked, captions, maps, use=given_views(captions, maps))
        known = None if prior is None else prior.weights(self.gallery.positions_deg, self.gallery.cities)
        log_p, _ = weighed(self.evidence(query), True, known)
        rows = known.rows if known is not None and known.rows is not None else np.arange(len(self.gallery))
        probability = np.zeros(len(self.gallery))
        probability[rows] = self.among(known).stated(log_p)[0]
        return probability

    def evidence(self, query: Float32[np.ndarray, "q d"]) -> Evidence:
        """What embedded photographs say of all candidates, each by itself.

        Args:
            query: (Q, D) unit vectors by this locator's model.
        """
        own = check_queries(query, self.gallery)
        return Evidence.of(own, self.gallery, self.posterior, self._whole.photographed)

    def stated(self, log_p: Float64[np.ndarray, "q m"]) -> Float64[np.ndarray, "q m"]:
        """The probabilities that answers state: a log posterior smoothed on the ground."""
        kernel = gallery_kernel(self.gallery, self.posterior.smoothing_m, self.posterior.kernel)
        return np.asarray(np.exp(smoothed(log_p, kernel)))

    def answer_posteriors(
        self,
        log_p: Float64[np.ndarray, "q m"],
        top_k: int = 5,
        estimator: EstimatorName | None = None,
        *,
        evidence: Sequence[Evidence] | None = None,
        names: Sequence[str] = (),
        region: RegionRequest | None = None,
    ) -> list[Answer]:
        """Answers from posteriors that are there already, such as of several photographs of one place.

        Args:
            log_p: (Q, M) log posteriors, not smoothed; -inf where a candidate is ruled out.
            top_k: How many candidates to list with each answer.
            estimator: As for `locate`.
            evidence: Q times that of the photographs behind a row (`combine.weighed`), for what speaks for candidates.
            names: The photographs' names, where a row is of several.
            region: The region that answers are to state, by its share of the posterior; None for none.

        Returns:
            An answer a row. `argmax_lat_deg` and `argmax_lon_deg` are of its most probable candidate.

        Raises:
            ConfigError: The estimator is not known.
        """
        estimator = self.posterior.estimator if estimator is None else estimator
        check_estimator(estimator)
        nearest = log_p.argmax(axis=1) if len(log_p) else np.zeros(0, dtype=np.int64)
        maker = None if region is None else RegionMaker(self.ground, None, region)
        return answers_to(log_p, nearest, self._whole, self.posterior, top_k, estimator, maker, evidence, names)

    def among(self, known: Weights | None) -> Locator:
        """The locator of the candidates that a prior leaves."""
        return self if known is None or known.rows is None else self.restricted(known.rows)

    def restricted(self, rows: Int64[np.ndarray, " s"]) -> Locator:
        """A locator for which only some candidates exist, and the ground that they reach.

        Args:
            rows: Which, increasing.
        """
        other = copy.copy(self)
        other.gallery = part_of(self.gallery, rows)
        other._whole = Part.of(other.gallery, self._whole.hierarchy.take(rows))
        other._ground, other._coarse = self.ground.take(rows).reached(), None
        return other

    def _warn_of_regions(self, alone: bool) -> None:
        """Say where regions promise less than they are asked to."""
        if self.calibration is None:
            _LOG.warning("%s", NOT_CALIBRATED)
        elif not alone:
            _LOG.warning("%s", NOT_ALONE)

    def _weighed(
        self,
        query: Float64[np.ndarray, "q d"],
        known: Weights | None,
        names: Sequence[str],
        top_k: int,
        estimator: EstimatorName,
        wanted: RegionRequest | None,
    ) -> list[Answer]:
        """Answers that no calibration was made for: to each photograph with a prior; with names, one to all of them."""
        where, together = self.among(known), bool(names)
        found: list[Answer] = []
        for chunk in [slice(0, len(query))] if together else chunks(len(query), self.gallery):
            log_p, evidence = weighed(self.evidence(query[chunk]), together, known)
            found += where.answer_posteriors(log_p, top_k, estimator, evidence=evidence, names=names, region=wanted)
        return found

    def _answers(
        self,
        query: Float64[np.ndarray, "q d"],
        top_k: int,
        estimator: EstimatorName,
        beam: int | None,
        wanted: RegionRequest | None,
    ) -> list[Answer]:
        if beam is None:
            return answers_from(query, self._whole, self.posterior, top_k, estimator, self._regions(wanted, None))
        if self._coarse is None:
            self._coarse = CoarseIndex.of(self.gallery)
        found: list[Answer] = []
        for row in query:
            opened = self._coarse.search(row, self.posterior, beam=beam, top_k=top_k)
            # What was opened is a gallery of its own, and is answered from as the whole would be.
            own = part_of(self.gallery, opened.rows)
            part = Part.of(own, self._whole.hierarchy.take(opened.rows))
            regions = self._regions(wanted, own if len(own) < len(self.gallery) else None)
            (answer,) = answers_from(row[None], part, self.posterior, top_k, estimator, regions)
            scored = {"scored_share": opened.scored_share, "left_out_at_most": opened.left_out_at_most}
            found.append(answer.model_copy(update=scored))
        return found

    def _regions(self, wanted: RegionRequest | None, part: Gallery | None) -> RegionMaker | None:
        """What makes the regions over the whole gallery, whose ground is laid out once, or over a part of it."""
        if wanted is None:
            return None
        if part is None:
            return RegionMaker(self.ground, self.calibration, wanted)
        return RegionMaker(self._laid_out(part), self.calibration, wanted, whole=False)

    def _laid_out(self, part: Gallery) -> GroundCells:
        made_by = self.calibration
        resolution, spread_m = (RESOLUTION, SPREAD_M) if made_by is None else (made_by.resolution, made_by.spread_m)
        return GroundCells.of(part.positions_deg, resolution=resolution, spread_m=spread_m)
