"""Validation while training: the error of the nearest location embedding, on queries kept out of the training side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Float32, Float64, Int64

from swclip.calibration.conformal import Calibration
from swclip.data.manifest import Manifest
from swclip.data.splits import Splits, candidates_for, indices
from swclip.gallery.build import build_gallery, candidate_words
from swclip.gallery.hubness import Bank, HubnessConfig, bank_rows
from swclip.gallery.patches import ComputedPatches
from swclip.geo.distance import geodesic_m
from swclip.metrics.districts import exchangeable_units
from swclip.models.embed import (
    FeatureEncoder,
    FeatureSource,
    Progress,
    embed_photographs,
    embed_positions,
    feature_vectors,
    photograph_vectors,
    tower_features,
)
from swclip.models.embed_modalities import chosen_modalities, with_modalities
from swclip.models.embed_patches import VerificationConfig, fit_patch_encoder, patch_features
from swclip.models.keypoints import KeypointMatcher, KeypointVerifier
from swclip.models.locator_model import LocatorModel
from swclip.models.patches import PatchEncoder
from swclip.models.photograph_vectors import PhotographVectors
from swclip.models.whitening import NOVELTY_DIMENSIONS, Whitening, WhiteningConfig
from swclip.retrieval.posterior_fit import PosteriorFit, fit_posterior
from swclip.retrieval.region_fit import FOLDS, calibrate, split_blocks
from swclip.retrieval.verification_fit import fit_verification

_NEAR_M = 10.0
NOVELTY_PHOTOGRAPHS = 4_000
"""Training photographs whose features the novelty of others is measured by; of a tuned tower they take a pass."""


@dataclass(frozen=True)
class Validation:
    """The validation queries of a split, and their candidates.

    Attributes:
        manifest: The photographs.
        rows: (V,) rows of the validation queries in the manifest.
        truth_deg: (V, 2) their recorded positions, latitude and longitude in degrees.
        candidates: The table of the candidates.
        cache: Stored features of a frozen tower, or tokens below the trained blocks; None where nothing is stored.
        frozen: Whether the tower is frozen.
        units: Place or block of each query, by the split's protocol: queries of the same unit are not independent.
        protocol: The split's protocol; None where it is not known.
    """

    manifest: Manifest
    rows: Any
    truth_deg: Float64[np.ndarray, "v 2"]
    candidates: pd.DataFrame
    cache: FeatureSource | None
    frozen: bool
    units: Sequence[str]
    protocol: str | None

    @classmethod
    def of(
        cls, manifest: Manifest, splits: Splits, cache: FeatureSource | None, frozen: bool = False
    ) -> Validation | None:
        """The validation of a split; None where it has no validation queries.

        Args:
            manifest: The photographs.
            splits: Their splits.
            cache: Stored features of a frozen tower, or tokens below the trained blocks; None where nothing is stored.
            frozen: Whether the tower is frozen.

        Raises:
            MismatchError: The splits were made from another manifest.
        """
        rows = indices(splits, manifest, "val")
        if len(rows) == 0:
            return None
        truth, candidates = manifest.positions_deg[rows], candidates_for(splits, "val")
        queries = manifest.frame.iloc[rows].drop(columns="block_id", errors="ignore")
        blocks = splits.frame.set_index("image_id")["block_id"].reindex(queries["image_id"]).to_numpy()
        protocol = splits.meta.get("protocol")
        units = exchangeable_units(queries.assign(block_id=blocks), truth, protocol)
        return cls(manifest, rows, truth, candidates, cache, frozen, units, protocol)

    def queries(self, model: LocatorModel, features: Float[np.ndarray, "v f"] | None) -> PhotographVectors:
        """Embed the validation queries.

        A model with further modalities embeds each query twice: by the photograph alone, then with its caption and
        tile, since the best weights and the posterior are chosen for both.

        Args:
            model: The model.
            features: (V, F) features of the queries by a frozen tower; None to embed the photographs.

        Returns:
            V rows; 2V with further modalities.
        """
        if features is not None:
            image = feature_vectors(model, features)
            if model.whitening is not None:
                image = replace(image, whitened=model.whitening(features))
        else:
            image = photograph_vectors(model, self._paths(), cache=self.cache)
        if model.views is None:
            return image
        captions = [self.manifest.captions[row] for row in self.rows]
        maps = [self.manifest.map_paths[row] for row in self.rows]
        if chosen_modalities(model, captions, maps) == ("image",):
            return image
        return PhotographVectors.stacked([image, with_modalities(model, image, captions, maps)])

    def _truth_deg(self, queries: PhotographVectors) -> Float64[np.ndarray, "q 2"]:
        return np.tile(self.truth_deg, (len(queries) // len(self.truth_deg), 1))

    def features(self, model: LocatorModel) -> Float[np.ndarray, "v f"] | None:
        """Features (V, F) of the queries by the frozen tower; None where it is trained."""
        if self.cache is None or not self.frozen:
            return None
        return self.cache.features(model, self._paths())

    def _paths(self) -> list[Path]:
        return [self.manifest.image_paths[row] for row in self.rows]

    def measure(self, model: LocatorModel, queries: PhotographVectors) -> dict[str, float]:
        """Errors of the nearest location embedding.

        Args:
            model: The model.
            queries: Vectors of the validation queries.

        Returns:
            `val_median_m`, `val_mean_m`, and `val_log_error`, the mean of log10(1 + error / 10 m): the score by which
            the best weights are chosen, since it is sensitive to small errors and to the tail.
        """
        places = self.candidates[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64)
        words = candidate_words(list(self.candidates["city"])) if model.location.reads_words else None
        similarity = queries.embeddings @ embed_positions(model, places, words).T
        error = geodesic_m(self._truth_deg(queries), places[similarity.argmax(axis=1)])
        return {
            "val_median_m": float(np.median(error)),
            "val_mean_m": float(error.mean()),
            "val_log_error": float(np.log10(1.0 + error / _NEAR_M).mean()),
        }

    def fit(
        self,
        model: LocatorModel,
        queries: PhotographVectors,
        bank: Bank | None = None,
        hubness: HubnessConfig | None = None,
        verification: VerificationConfig | None = None,
        progress: Progress | None = None,
    ) -> tuple[PosteriorFit, Calibration]:
        """Fit the posterior by maximum likelihood of the validation queries' places, and calibrate prediction regions.

        Folds of whole units are left out of the fit in turn, so that regions are calibrated out of sample.

        Args:
            model: The model.
            queries: Vectors of the validation queries.
            bank: Training photographs by which hubness is measured; None without hubness.
            hubness: Shares of the hubness that are tried beside 0; needed with a bank.
            verification: Number of candidates whose verification is tried, and by which model; None for none.
            progress: Called with (done, total) queries that were compared with their candidates.

        Returns:
            The posterior with its score, and the calibration of the regions.
        """
        matcher = None if verification is None or verification.matcher is None else verification.matcher
        by_patches = verification is not None and verification.candidates > 0 and matcher is None
        gallery = build_gallery(model, self.candidates, self.manifest, cache=self.cache, bank=bank, patches=by_patches)
        truth, repeats = self._truth_deg(queries), len(queries) // len(self.truth_deg)
        fold_of = np.tile(split_blocks(self.units, FOLDS, np.random.default_rng(0)), repeats)
        tried = HubnessConfig() if hubness is None else hubness
        fit = fit_posterior(queries, truth, gallery, image_hubness=tried.photographs, fold_of=fold_of)

        def calibrated(fit: PosteriorFit) -> Calibration:
            calibration = calibrate(queries, truth, gallery, fit, fold_of, self.units, variants=repeats)
            return replace(calibration, protocol=self.protocol)

        details: tuple[Any, ...] = ()
        if isinstance(gallery.verifier, ComputedPatches):
            gallery = replace(gallery, verifier=gallery.verifier.computed())
            details = tuple(patch_features(model, self._paths(), cache=self.cache))
        elif matcher is not None and gallery.image_ids:
            paths = dict(zip(self.manifest.frame["image_id"], self.manifest.image_paths, strict=True))
            gallery = replace(gallery, verifier=KeypointVerifier(KeypointMatcher(matcher, model.device), paths))
            details = tuple(self._paths())
        if details and verification is not None:
            queries = replace(queries, details=details * repeats)
            fit = fit_verification(
                queries, truth, gallery, fit, verification.candidates, fold_of=fold_of, progress=progress
            )
        fast, balanced = (None if other is None else calibrated(other) for other in (fit.fast, fit.balanced))
        return fit, replace(calibrated(fit), fast=fast, balanced=balanced)

    def whitening(self, model: LocatorModel, rows: Int64[np.ndarray, " n"], config: WhiteningConfig) -> Whitening:
        """Fit a whitening on the features of training photographs.

        Args:
            model: The model, with `frozen_tower` set where the tower was tuned.
            rows: (N,) rows of the training photographs in the manifest.
            config: Dimensions, and number of photographs.
        """
        features = self._training_features(model.frozen_side or model, rows, config.photographs)
        return Whitening.fit(features, config.dimensions, widths=model.feature_widths, max_rows=config.photographs)

    def patch_encoder(
        self, model: LocatorModel, rows: Int64[np.ndarray, " n"], config: VerificationConfig
    ) -> PatchEncoder:
        """Fit the patch features on training photographs.

        Args:
            model: The model, with `frozen_tower` set where the tower was tuned.
            rows: (N,) rows of the training photographs in the manifest.
            config: Dimensions, and number of photographs.
        """
        paths = [self.manifest.image_paths[row] for row in rows]
        return fit_patch_encoder(model, paths, config.dimensions, photographs=config.photographs)

    def novelty(self, model: LocatorModel, rows: Int64[np.ndarray, " n"]) -> Whitening:
        """Fit the whitening by which the novelty of photographs is measured, on the features of training photographs.

        Args:
            model: The model as trained.
            rows: (N,) rows of the training photographs in the manifest.
        """
        features = self._training_features(model, rows, NOVELTY_PHOTOGRAPHS)
        return Whitening.fit(features, NOVELTY_DIMENSIONS, widths=model.feature_widths)

    def _training_features(
        self, side: FeatureEncoder, rows: Int64[np.ndarray, " n"], most: int
    ) -> Float32[np.ndarray, "k f"]:
        if len(rows) > most:
            rows = np.sort(np.random.default_rng(0).choice(rows, most, replace=False))
        paths = [self.manifest.image_paths[row] for row in rows]
        return tower_features(side, paths) if self.cache is None else self.cache.features(side, paths)

    def bank(self, model: LocatorModel, rows: Int64[np.ndarray, " n"]) -> Bank:
        """Bank of queries for hubness: embeddings of photographs, or of a regular sample of them.

        Args:
            model: The model.
            rows: (N,) rows of the photographs in the manifest.
        """
        rows = rows[bank_rows(len(rows))]
        embedded = embed_photographs(model, [self.manifest.image_paths[row] for row in rows], cache=self.cache)
        ids = self.manifest.frame["image_id"].to_numpy()[rows]
        return Bank(embedded.astype(np.float16), [str(image_id) for image_id in ids])
