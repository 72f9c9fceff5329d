"""Photographs in, places out: a gallery with its model, ready to answer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64, Int64

from swclip.errors import ArtefactError, ConfigError
from swclip.geo.distance import geodesic_m
from swclip.geo.neighbours import SphereIndex
from swclip.retrieval.answers import NEAR_M, Answer, RankedCandidate, rounded_deg
from swclip.retrieval.embed import Failure, PathLike, Progress
from swclip.retrieval.estimate import ESTIMATOR_NAMES, EstimatorName, geometric_median, ground_density
from swclip.retrieval.estimate import top_k as best_candidates
from swclip.retrieval.evidence import Photographed, chunks, location_similarity, log_probability
from swclip.retrieval.gallery import Gallery, load_gallery
from swclip.retrieval.posterior import (
    PosteriorConfig,
    default_posterior,
    gallery_kernel,
    log_posterior,
    smoothed,
)
from swclip.retrieval.views import embed_queries, given_views

if TYPE_CHECKING:
    from swclip.models.locator_model import LocatorModel


class Locator:
    """Answers from a gallery that was embedded before; only the photographs that are asked about are encoded.

    Args:
        gallery: The gallery.
        model: The model that made it.
        posterior: From scores to probabilities; None takes the gallery's own, or else the model's temperature.

    Raises:
        MismatchError: Another model made the gallery.

    Example:
        ```python
        locator = swclip.Locator.from_gallery("gallery")
        answer, = locator.locate(["photo.jpg"])
        print(answer.lat_deg, answer.lon_deg, answer.probability_within_50m)
        ```
    """

    def __init__(self, gallery: Gallery, model: LocatorModel, posterior: PosteriorConfig | None = None) -> None:
        gallery.check_model(model.fingerprint, "the model given")
        self.gallery = gallery
        self.model = model
        self.posterior = posterior or gallery.posterior or default_posterior(model)
        self._index = SphereIndex(gallery.positions_deg)
        self._photographed = Photographed.of(gallery)

    @classmethod
    def from_gallery(cls, path: str | os.PathLike[str], model: str | os.PathLike[str] | None = None) -> Locator:
        """Load a gallery and the model saved with it.

        Args:
            path: The folder that `swclip index` wrote.
            model: A run or model folder to use in place of the gallery's own; it must be the same model.

        Raises:
            ArtefactError: The gallery or the model is missing, cut short, or of another version.
            MismatchError: The model is not the one that made the gallery.
        """
        from swclip.models.locator_model import load_model

        gallery = load_gallery(path)
        source = Path(path if model is None else model)
        loaded = load_model(source)
        gallery.check_model(loaded.fingerprint, str(source), str(path))
        return cls(gallery, loaded)

    def locate(
        self,
        photographs: PathLike | Sequence[PathLike],
        top_k: int = 5,
        estimator: EstimatorName = "mode",
        *,
        captions: str | Sequence[str | None] | None = None,
        maps: PathLike | Sequence[PathLike | None] | None = None,
        batch_size: int = 32,
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> list[Answer]:
        """Say where photographs were taken.

        Args:
            photographs: One path or several.
            top_k: How many candidates to list with each answer.
            estimator: "mode" (the densest place of the posterior smoothed on the ground), "argmax" (the most similar
                location embedding, as in the paper), or "geometric-median".
            captions: What is said about each photograph, None where nothing is; for a model with a caption view.
            maps: A map tile a photograph, likewise.
            batch_size: Photographs that the model sees at once.
            workers: Decoding threads.
            progress: Called with (done, total) photographs.

        Returns:
            An answer a photograph, in their order. One that cannot be decoded has its reason in `error`.

        Raises:
            ConfigError: The estimator is not known, top_k is below 1, or the model has not a view that is given.
            ArtefactError: The model's embeddings are not numbers.
        """
        if estimator not in ESTIMATOR_NAMES:
            raise ConfigError(f"estimator {estimator!r} is not known; choose one of {', '.join(ESTIMATOR_NAMES)}.")
        if top_k < 1:
            raise ConfigError(f"top_k is {top_k}; ask for at least one candidate.")
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
        answers = iter(self._answers(query[answered], top_k, estimator))
        good, reasons = set(answered.tolist()), iter(failures)
        named: list[Answer] = []
        for row, path in enumerate(asked):
            answer = next(answers) if row in good else Answer("", error=next(reasons)[1])
            named.append(Answer(**{**vars(answer), "photograph": os.fspath(path)}))
        return named

    def posterior_of(
        self, photograph: PathLike, caption: str | None = None, map_tile: PathLike | None = None
    ) -> Float64[np.ndarray, " m"]:
        """The posterior of one photograph over the gallery's candidates, smoothed on the ground; it sums to 1.

        Raises:
            InputError: The photograph cannot be decoded.
        """
        captions, maps = [caption], [map_tile]
        query = embed_queries(self.model, [photograph], captions, maps, use=given_views(captions, maps))
        log_p = log_posterior(query, self.gallery, self.posterior, smooth=True)
        probability: Float64[np.ndarray, " m"] = np.exp(log_p[0], dtype=np.float64)
        return probability

    def _answers(self, query: Float64[np.ndarray, "q d"], top_k: int, estimator: EstimatorName) -> list[Answer]:
        gallery, config = self.gallery, self.posterior
        kernel = gallery_kernel(gallery, config.smoothing_m, config.kernel)
        found: list[Answer] = []
        for chunk in chunks(len(query), gallery):
            similarity = location_similarity(query[chunk], gallery)
            log_p = log_probability(query[chunk], gallery, config, self._photographed)
            probability = np.exp(smoothed(log_p, kernel))
            # The list is in the order by which the answer was chosen, so that the first of it is the answer.
            order_by = similarity.astype(np.float64) if estimator == "argmax" else ground_density(log_p, kernel)
            ranked = best_candidates(order_by, top_k)
            points = gallery.positions_deg[ranked[:, 0]]
            if estimator == "geometric-median":
                points = geometric_median(log_p, gallery.positions_deg)
            nearest = gallery.positions_deg[similarity.argmax(axis=1)]
            near = self._index.within(points, NEAR_M)
            for row, point in enumerate(points):
                found.append(
                    Answer(
                        photograph="",
                        lat_deg=rounded_deg(point[0]),
                        lon_deg=rounded_deg(point[1]),
                        probability_within_50m=min(1.0, float(probability[row, near[row]].sum())),
                        argmax_lat_deg=rounded_deg(nearest[row, 0]),
                        argmax_lon_deg=rounded_deg(nearest[row, 1]),
                        estimator=estimator,
                        candidates=self._ranked(ranked[row], probability[row], point),
                    )
                )
        return found

    def _ranked(
        self, rows: Int64[np.ndarray, " k"], probability: Float64[np.ndarray, " m"], point: Float64[np.ndarray, " 2"]
    ) -> tuple[RankedCandidate, ...]:
        gallery = self.gallery
        places = gallery.positions_deg[rows]
        away_m = geodesic_m(np.broadcast_to(point, places.shape), places)
        return tuple(
            RankedCandidate(
                candidate_id=gallery.candidate_ids[row],
                lat_deg=rounded_deg(place[0]),
                lon_deg=rounded_deg(place[1]),
                probability=float(probability[row]),
                distance_m=round(float(distance), 2),
                city=gallery.cities[row],
                image_ids=tuple(gallery.image_ids_of(int(row))),
            )
            for row, place, distance in zip(rows, places, away_m, strict=True)
        )
