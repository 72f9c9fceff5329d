"""Patch features of photographs: by the tower, through the feature cache, and the whitening that they need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Float32, Int8
from torch import Tensor

from swclip.errors import ConfigError
from swclip.models.embed import (
    Failure,
    FeatureSource,
    PathLike,
    Progress,
    evaluating,
    pixel_batches,
    raise_failures,
)
from swclip.models.feature_cache import FeatureCache
from swclip.models.image_tower import FrozenSide
from swclip.models.patches import PatchEncoder, encoder_of, features_and_tokens, patches_from_bytes, patches_to_bytes
from swclip.models.whitening import Whitening

if TYPE_CHECKING:
    from swclip.models.locator_model import LocatorModel


@dataclass(frozen=True)
class VerificationConfig:
    """Verification of the best candidates, by patch features or keypoints (`swclip.retrieval.verification`).

    Attributes:
        candidates: K, the number of candidates that are verified; 0 for no verification. Its temperature is fitted on
            the validation queries, and it is used where they gain by it.
        dimensions: Numbers of each patch; a photograph takes as many bytes for each of its patches.
        photographs: Largest number of training photographs that the whitening of patches is fitted on.
        matcher: A keypoint matching model in place of patch features, by its name on the model hub or its folder.

    Raises:
        ConfigError: A number is too small, or there is a matcher and nothing to verify.
    """

    candidates: int = 0
    dimensions: int = 64
    photographs: int = 512
    matcher: str | None = None

    def __post_init__(self) -> None:
        if self.candidates < 0 or self.dimensions < 1 or self.photographs < 1:
            raise ConfigError(
                f"verification candidates {self.candidates} must be 0 (none) or more, dimensions {self.dimensions} and "
                f"photographs {self.photographs} 1 or more."
            )
        if self.matcher is not None and not self.candidates:
            raise ConfigError(
                f"verification.matcher {self.matcher!r} compares the best candidates with a photograph, and "
                "verification.candidates is 0; give their number, such as --verify 10."
            )


def fit_patch_encoder(
    model: LocatorModel,
    paths: Sequence[PathLike],
    dimensions: int = VerificationConfig.dimensions,
    *,
    photographs: int = VerificationConfig.photographs,
    batch_size: int = 64,
    workers: int | None = None,
    progress: Progress | None = None,
) -> PatchEncoder:
    """Fit the whitening of patches on training photographs, at regular intervals where there are many.

    Args:
        model: The model, whose tower computes the tokens: as it was before training, where it was tuned.
        paths: Training photographs.
        dimensions: W, the numbers to keep of each patch.
        photographs: Largest number of photographs that are used.
        batch_size: Photographs per batch.
        workers: Decoding threads; the number of processors where None.
        progress: Called with (done, total).

    Raises:
        ConfigError: The tower has no patches in a grid.
        InputError: Photographs cannot be decoded.
    """
    sample = list(paths)[:: max(1, -(-len(paths) // photographs))]
    side = compared_side(model)
    tokens, failures, done = list[Float32[np.ndarray, "t c"]](), list[Failure](), 0
    with evaluating(model):
        for batch in pixel_batches(side.preprocess.read, sample, batch_size, workers, failures):
            maps = [map_ for map_ in features_and_tokens(side.image_tower, batch)[1] if map_ is not None]
            tokens += [map_.reshape(-1, map_.shape[-1]) for map_ in maps]
            done += len(batch)
            if progress is not None:
                progress(done, len(sample))
    if failures:
        raise_failures(failures)
    return PatchEncoder(Whitening.fit(np.concatenate(tokens), dimensions))


def patch_features(
    model: LocatorModel,
    paths: Sequence[PathLike],
    *,
    batch_size: int = 64,
    workers: int | None = None,
    cache: FeatureSource | None = None,
    failures: list[Failure] | None = None,
    progress: Progress | None = None,
) -> list[Int8[np.ndarray, "y x w"] | None]:
    """Patch features of photographs.

    Args:
        model: A model with patch features; it is in evaluation mode meanwhile.
        paths: N photographs.
        batch_size: Photographs per batch.
        workers: Decoding threads; the number of processors where None.
        cache: The cache of a frozen tower's features, which then stores patch features too: only missing ones are
            computed, and the result is mapped from disk. Whole pictures, of different shapes, are not cached.
        failures: A list that collects what cannot be decoded. Without one, a photograph that cannot be decoded raises.
        progress: Called with (done, total).

    Returns:
        Of each photograph, in the order of `paths`, the features of its rows and columns of patches; None for failures.

    Raises:
        ArtefactError: The model has no patch features.
        InputError: Photographs cannot be decoded and `failures` is None.
    """
    encoder, side = encoder_of(model), compared_side(model)
    if isinstance(cache, FeatureCache) and side.preprocess.shape_px is not None:
        with evaluating(model):
            rows = replace(cache, kind="patches", dtype="int8").mapped(
                _PatchBytes(side, encoder),
                paths,
                batch_size=batch_size,
                workers=workers,
                failures=failures,
                progress=progress,
            )
        return [None if row is None else patches_from_bytes(row, encoder.dimensions) for row in rows]
    undecodable: list[Failure] = []
    patches: list[Int8[np.ndarray, "y x w"] | None] = []
    with evaluating(model):
        for batch in pixel_batches(side.preprocess.read, paths, batch_size, workers, undecodable):
            tokens = features_and_tokens(side.image_tower, batch)[1]
            patches += [None if map_ is None else encoder(map_) for map_ in tokens]
            if progress is not None:
                progress(len(patches), len(paths))
    if undecodable and failures is None:
        raise_failures(undecodable)
    if failures is not None:
        failures.extend(undecodable)
    return patches


def compared_side(model: LocatorModel) -> FrozenSide:
    """The tower whose patches are compared, with its preprocessing: as it was before training, where it was tuned; of
    several towers the first that has patches, so that the others need not see the photographs once more."""
    tuned = model.frozen_side
    encoders = model.tower_encoders if tuned is None else (tuned,)
    return next((encoder for encoder in encoders if encoder.image_tower.has_patches), encoders[0])


class _PatchBytes:
    """A tower as the feature cache sees it: its features are the bytes of patch features."""

    def __init__(self, side: FrozenSide, encoder: PatchEncoder) -> None:
        self._side, self._encoder = side, encoder
        self.preprocess, self.logit_scale = side.preprocess, side.logit_scale
        self.feature_fingerprint = f"{self._side.feature_fingerprint}/patches/{self._encoder.fingerprint}"

    def image_features(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n"]:
        _, maps = self._side.image_tower.with_patches(pixels)
        tokens = maps.float().permute(0, 2, 3, 1).cpu().numpy()
        stored = [np.frombuffer(patches_to_bytes(self._encoder(map_)), dtype=np.int8) for map_ in tokens]
        return torch.from_numpy(np.stack(stored).astype(np.float32))
