"""Embed photographs and positions as unit vectors, in batches; photographs are decoded in threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float32
from numpy.typing import ArrayLike
from torch import Tensor, nn

from swclip.errors import InputError
from swclip.imaging.decode import PhotographError
from swclip.imaging.preprocess import Pixels
from swclip.models.blocks import encode_readable, picture_rows, stacked, vector_rows
from swclip.models.patches import PatchEncoder, encoder_of, features_and_tokens
from swclip.models.photograph_vectors import PhotographVectors
from swclip.models.whitening import Whitening

Progress = Callable[[int, int], None]
PathLike = str | os.PathLike[str]
Failure = tuple[Path, str]
"""A photograph that could not be decoded, and why."""

_NAMED_IN_MESSAGE = 3


class FeatureEncoder(Protocol):
    """An encoder of photographs to features: a model, or its `FrozenSide`."""

    @property
    def preprocess(self) -> Any: ...

    @property
    def logit_scale(self) -> Any: ...

    @property
    def feature_fingerprint(self) -> str: ...

    @property
    def image_features(self) -> Callable[..., Tensor]: ...


class Encoder(FeatureEncoder, Protocol):
    """The part of `LocatorModel` that embedding needs."""

    @property
    def whitening(self) -> Whitening | None: ...

    @property
    def patches(self) -> PatchEncoder | None: ...

    @property
    def folder(self) -> Path | None: ...

    @property
    def novelty(self) -> Whitening | None: ...

    @property
    def frozen_side(self) -> FeatureEncoder | None: ...

    def encode_image_features(self, features: Tensor) -> Tensor: ...

    @property
    def encode_pixels(self) -> Callable[..., Tensor]: ...

    def position_embeddings(self, positions_deg: Tensor, words: Any = None) -> Tensor: ...


def tower_encoders(model: FeatureEncoder) -> Sequence[FeatureEncoder]:
    """The towers of a model, whose features are concatenated; the model itself where it has one tower."""
    encoders: Sequence[FeatureEncoder] = getattr(model, "tower_encoders", ())
    return encoders if len(encoders) > 1 else (model,)


class FeatureSource(Protocol):
    """Image features computed earlier or on demand; `swclip.models.feature_cache.FeatureCache` stores them on disk."""

    def features(
        self,
        model: FeatureEncoder,
        paths: Sequence[PathLike],
        *,
        batch_size: int = 64,
        workers: int | None = None,
        failures: list[Failure] | None = None,
        progress: Progress | None = None,
    ) -> Float32[np.ndarray, "n f"]: ...


def photograph_vectors(
    model: Encoder,
    paths: Sequence[PathLike],
    *,
    whitened: bool = True,
    patches: bool = False,
    batch_size: int = 64,
    workers: int | None = None,
    cache: FeatureSource | None = None,
    failures: list[Failure] | None = None,
    progress: Progress | None = None,
) -> PhotographVectors:
    """Embed photographs, and whiten their features where the model has a whitening.

    Args:
        model: The model; it is in evaluation mode meanwhile.
        paths: N photographs.
        whitened: Whiten features; beside a tuned tower that takes a second pass, through the frozen one.
        patches: Give patch features as details, by the same pass; not with a cache, which has
            `swclip.models.embed_patches`.
        batch_size: Photographs per batch.
        workers: Decoding threads; the number of processors where None.
        cache: Image features on disk, for a frozen tower: only missing features are computed.
        failures: A list that collects what cannot be decoded. Without one, a photograph that cannot be decoded raises.
        progress: Called with (done, total).

    Returns:
        N rows in the order of `paths`; NaN in the rows of failures.

    Raises:
        InputError: Photographs cannot be decoded and `failures` is None; the message has their number and names the
            first three.
    """
    if cache is not None:
        options: dict[str, Any] = {"batch_size": batch_size, "workers": workers}
        features = cache.features(model, paths, failures=failures, progress=progress, **options)
        vectors = feature_vectors(model, features)
        if model.whitening is None or not whitened:
            return vectors
        if model.frozen_side is not None:
            features = cache.features(model.frozen_side, paths, failures=[], **options)
        return replace(vectors, whitened=_whitened(model.whitening, features))
    undecodable: list[Failure] = []
    batches: list[PhotographVectors] = []
    with evaluating(model):
        for pixels in _with_progress(
            pixel_batches(model.preprocess.read, paths, batch_size, workers, undecodable), len(paths), progress
        ):
            batches.append(pixel_vectors(model, pixels, whitened=whitened, patches=patches))
    _report(undecodable, failures)
    return PhotographVectors.stacked(batches)


def pixel_vectors(model: Encoder, pixels: Any, *, whitened: bool = True, patches: bool = False) -> PhotographVectors:
    """Vectors of preprocessed photographs (3, H, W), None where one cannot be decoded: a row of NaN, without columns
    where none can."""
    frozen = details = None
    if patches:
        encoder = encoder_of(model)
        frozen, tokens = features_and_tokens(patch_side(model).image_tower, pixels)
        details = tuple(None if map_ is None else encoder(map_) for map_ in tokens)
    features = pixel_features(model, pixels) if frozen is None or model.frozen_side is not None else frozen
    embeddings = stacked([features if isinstance(features, int) else _embed_rows(model, features)])
    vectors = PhotographVectors(embeddings, novelty=_novelty(model, stacked([features])))
    if model.whitening is None or not whitened:
        return replace(vectors, details=details)
    if frozen is None:
        frozen = features if model.frozen_side is None else pixel_features(model.frozen_side, pixels)
    return replace(vectors, whitened=_whitened(model.whitening, stacked([frozen])), details=details)


def patch_side(model: Any) -> Any:
    """The side of a model whose tower gives patch features: as it was before training, where it was tuned."""
    return model.frozen_side or model


def feature_vectors(model: Encoder, features: Float32[np.ndarray, "n f"]) -> PhotographVectors:
    """Embeddings and novelty of photographs from their features (N, F), without whitened features."""
    return PhotographVectors(embed_features(model, features), novelty=_novelty(model, features))


def _novelty(model: Encoder, features: Float32[np.ndarray, "n f"]) -> Float32[np.ndarray, " n"] | None:
    if model.novelty is None:
        return None
    # Without columns where no photograph can be decoded.
    return model.novelty.log_distance(features) if features.shape[1] else np.full(len(features), np.nan, np.float32)


def _whitened(whitening: Whitening, frozen: Float32[np.ndarray, "n f"]) -> Float32[np.ndarray, "n w"]:
    """Whitened features; without columns where no photograph can be decoded, whose features have none."""
    return whitening(frozen) if frozen.shape[1] else frozen


def embed_photographs(model: Encoder, paths: Sequence[PathLike], **options: Any) -> Float32[np.ndarray, "n d"]:
    """Embed photographs; see `photograph_vectors` for the arguments.

    Returns:
        (N, D) unit vectors in the order of `paths`; NaN in the rows of failures.
    """
    return photograph_vectors(model, paths, whitened=False, **options).embeddings


def tower_features(
    model: FeatureEncoder, paths: Sequence[PathLike], *, batch_size: int = 64, workers: int | None = None
) -> Float32[np.ndarray, "n f"]:
    """Pooled features of photographs by the image tower in its current state, without a cache.

    Args:
        model: The model; it is in evaluation mode meanwhile.
        paths: N photographs.
        batch_size: Photographs per batch.
        workers: Decoding threads; the number of processors where None.

    Returns:
        (N, F) features in the order of `paths`.

    Raises:
        InputError: Photographs cannot be decoded; the message has their number and names the first three.
    """
    undecodable: list[Failure] = []
    with evaluating(model):
        rows = [
            pixel_features(model, pixels)
            for pixels in pixel_batches(model.preprocess.read, paths, batch_size, workers, undecodable)
        ]
    _report(undecodable, None)
    return stacked(rows)


def embed_features(
    model: Encoder, features: Float32[np.ndarray, "n f"], *, batch_size: int = 4096
) -> Float32[np.ndarray, "n d"]:
    """Embed image features (N, F) as unit vectors (N, D); rows of NaN remain NaN."""
    with evaluating(model):
        rows = [
            _embed_rows(model, features[start : start + batch_size]) for start in range(0, len(features), batch_size)
        ]
    return stacked(rows)


def pixel_features(model: FeatureEncoder, batch: Any) -> Any:
    """Features of preprocessed photographs (3, H, W), None where one cannot be decoded; see `encode_readable`."""
    device = device_of(model)
    return encode_readable(model.image_features, batch, device, picture_rows(device))


def _embed_rows(model: Encoder, features: Any) -> Any:
    device = device_of(model)
    return encode_readable(model.encode_image_features, features, device, vector_rows(device))


def embed_positions(
    model: Encoder,
    positions_deg: ArrayLike,
    words: Sequence[Mapping[str, str | None]] | None = None,
    *,
    batch_size: int = 4096,
    progress: Progress | None = None,
) -> Float32[np.ndarray, "m d"]:
    """Embed positions.

    Args:
        model: The model; it is in evaluation mode meanwhile.
        positions_deg: (M, 2) latitude, longitude in degrees.
        words: M mappings with values of the prompt's other fields, or None.
        batch_size: Positions per batch.
        progress: Called with (done, total).

    Returns:
        (M, D) unit vectors.
    """
    positions = np.asarray(positions_deg, dtype=np.float64).reshape(-1, 2)
    rows: list[Float32[np.ndarray, "b d"]] = []
    with evaluating(model):
        for start in range(0, len(positions), batch_size):
            end = min(start + batch_size, len(positions))
            batch = torch.from_numpy(positions[start:end].copy()).to(device_of(model))
            batch_words = None if words is None else list(words[start:end])
            rows.append(model.position_embeddings(batch, batch_words).float().cpu().numpy())
            if progress is not None:
                progress(end, len(positions))
    return stacked(rows)


def pixel_batches(
    read: Callable[[PathLike], Pixels],
    paths: Sequence[PathLike],
    batch_size: int,
    workers: int | None,
    failures: list[Failure],
) -> Iterator[list[Pixels | None]]:
    """Decode photographs in threads, a few batches ahead of the consumer.

    Args:
        read: Decodes and preprocesses one photograph.
        paths: The photographs.
        batch_size: Photographs per batch.
        workers: Number of threads; the number of processors where None.
        failures: Receives the photographs that cannot be decoded.

    Yields:
        Lists of `batch_size` photographs in the order of `paths`, None where one cannot be decoded; those are appended
        to `failures`.
    """
    count = workers or os.cpu_count() or 1
    with ThreadPoolExecutor(max_workers=count, thread_name_prefix="swclip-decode") as pool:
        waiting: deque[Future[Pixels]] = deque()
        batch: list[Pixels | None] = []
        # Bounded: decoding is mostly faster than the model, and all photographs at once would not fit into memory.
        ahead = batch_size * 2 + count
        try:
            for at, path in enumerate(paths):
                while len(waiting) < ahead and at + len(waiting) < len(paths):
                    waiting.append(pool.submit(read, paths[at + len(waiting)]))
                try:
                    batch.append(waiting.popleft().result())
                except PhotographError as error:
                    failures.append((Path(path), error.detail))
                    batch.append(None)
                if len(batch) == batch_size:
                    yield batch
                    batch = []
            if batch:
                yield batch
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Put a model into evaluation mode without gradients, and restore its mode afterwards."""
    training = isinstance(model, nn.Module) and model.training
    if training:
        model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        if training:
            model.train()


def device_of(model: FeatureEncoder) -> torch.device:
    """The device of a model's weights."""
    return torch.as_tensor(model.logit_scale).device


def raise_failures(failures: Sequence[Failure]) -> None:
    """Raise InputError that counts the failures and names the first few."""
    named = "; ".join(f"{path}: {reason}" for path, reason in failures[:_NAMED_IN_MESSAGE])
    more = f"; and {len(failures) - _NAMED_IN_MESSAGE} more" if len(failures) > _NAMED_IN_MESSAGE else ""
    raise InputError(f"{len(failures)} photograph(s) cannot be used: {named}{more}")


def _report(undecodable: list[Failure], failures: list[Failure] | None) -> None:
    if undecodable and failures is None:
        raise_failures(undecodable)
    if failures is not None:
        failures.extend(undecodable)


def _with_progress(batches: Iterator[list[Any]], total: int, progress: Progress | None) -> Iterator[list[Any]]:
    done = 0
    for batch in batches:
        yield batch
        done += len(batch)
        if progress is not None:
            progress(done, total)
