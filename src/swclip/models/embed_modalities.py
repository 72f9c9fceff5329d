"""Embed queries of several modalities: photographs with captions and map tiles, each query as one vector."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float32

from swclip.errors import ConfigError, InputError
from swclip.models.blocks import encode_readable, picture_rows, stacked
from swclip.models.embed import (
    Failure,
    PathLike,
    evaluating,
    photograph_vectors,
    pixel_batches,
    raise_failures,
)
from swclip.models.modalities import Modalities, ModalityName, has_words
from swclip.models.photograph_vectors import PhotographVectors

if TYPE_CHECKING:
    from swclip.models.locator_model import LocatorModel

_LOG = logging.getLogger(__name__)
MODALITY_NAMES: tuple[ModalityName, ...] = ("image", "caption", "map")
_CAPTIONS_AT_ONCE = 256


def chosen_modalities(
    model: LocatorModel,
    captions: Sequence[str | None] | None,
    maps: Sequence[PathLike | None] | None,
    use: Sequence[ModalityName] | None = None,
) -> tuple[ModalityName, ...]:
    """The modalities that queries are embedded by.

    Args:
        model: The model.
        captions: One text per query, None where it has none; None where no query has one.
        maps: One map tile per query, likewise.
        use: The requested modalities; None for the photograph and each modality of the model that any query has.

    Returns:
        In the order image, caption, map.

    Raises:
        ConfigError: A modality is unknown, or the model does not have it.
        InputError: No query has a requested modality.
    """
    of_model: tuple[ModalityName, ...] = ("image", *_names(model))
    offered = offered_modalities(captions, maps)
    if use is None:
        return tuple(name for name in of_model if name in offered)
    if not use:
        raise ConfigError(f"no modality is requested; choose at least one of {', '.join(of_model)}.")
    for name in use:
        if name not in MODALITY_NAMES:
            raise ConfigError(f"modality {name!r} is unknown; choose from {', '.join(MODALITY_NAMES)}.")
        if name not in of_model:
            raise ConfigError(
                f"the model has no {name} modality (it has {', '.join(of_model)}); train one with it, for "
                "example with --recipe sw-clip-views."
            )
        if name not in offered:
            raise InputError(f"modality {name!r} is requested, but no query has it; omit it, or add it to the data.")
    return tuple(name for name in MODALITY_NAMES if name in use)


def offered_modalities(
    captions: Sequence[str | None] | None, maps: Sequence[PathLike | None] | None
) -> tuple[ModalityName, ...]:
    """The modalities of the queries: the photograph, and captions or map tiles if any query has one."""
    caption: tuple[ModalityName, ...] = ("caption",) if any(map(has_words, captions or ())) else ()
    tile: tuple[ModalityName, ...] = ("map",) if any(path is not None for path in maps or ()) else ()
    return ("image", *caption, *tile)


def count_modalities(
    names: Sequence[ModalityName], captions: Sequence[str | None], maps: Sequence[PathLike | None]
) -> dict[str, int]:
    """The number of queries that have each of the named modalities."""
    counts = {
        "image": len(captions),
        "caption": sum(map(has_words, captions)),
        "map": sum(path is not None for path in maps),
    }
    return {name: counts[name] for name in names}


def embed_queries(
    model: LocatorModel,
    photographs: Sequence[PathLike],
    captions: Sequence[str | None] | None = None,
    maps: Sequence[PathLike | None] | None = None,
    *,
    use: Sequence[ModalityName] | None = None,
    failures: list[Failure] | None = None,
    batch_size: int = 64,
    workers: int | None = None,
    progress: Any = None,
    **options: Any,
) -> PhotographVectors:
    """Embed queries by the modalities they have.

    A query that lacks a modality is embedded by its others; a query with only a photograph has exactly the embedding of
    the photograph.

    Args:
        model: The model.
        photographs: Q photographs; they name the queries, and are not opened if `use` lacks `image`.
        captions: Q texts, None where a query has none.
        maps: Q map tiles, None where a query has none.
        use: The modalities to use; see `chosen_modalities`.
        failures: A list that collects what cannot be decoded, in the order of the queries. Without one, that raises.
        batch_size: Pictures per batch.
        workers: Decoding threads.
        progress: Called with (done, total) photographs.
        options: Further options of `photograph_vectors`.

    Returns:
        Q rows; NaN in the rows of failures. Whitened features are those of the photographs alone; zeros, which no
        similarity depends on, where they are not used.

    Raises:
        ConfigError: The model does not have a modality, or there are not as many captions or maps as photographs.
        InputError: A query has none of the modalities, or a picture cannot be decoded and `failures` is None.
    """
    for kind, values in (("captions", captions), ("maps", maps)):
        if values is not None and len(values) != len(photographs):
            raise ConfigError(f"{len(values)} {kind} for {len(photographs)} photographs; give one each, or None.")
    names = chosen_modalities(model, captions, maps, use)
    options |= {"batch_size": batch_size, "workers": workers}
    if names == ("image",):
        return photograph_vectors(model, photographs, failures=failures, progress=progress, **options)
    captions = captions if "caption" in names else None
    maps = maps if "map" in names else None
    undecodable: list[Failure] = []
    image: PhotographVectors | None = None
    if "image" in names:
        image = photograph_vectors(model, photographs, failures=undecodable, progress=progress, **options)
        if failures is None and undecodable:
            raise_failures(undecodable)
    else:
        _refuse_empty(photographs, captions, maps, names)
    vectors = with_modalities(
        model, image, captions, maps, failures=undecodable, batch_size=batch_size, workers=workers
    )
    if failures is None and undecodable:
        raise_failures(undecodable)
    if failures is not None:
        failures.extend(undecodable)
    if image is None and progress is not None:
        progress(len(photographs), len(photographs))
    return vectors


def with_modalities(
    model: LocatorModel,
    image: PhotographVectors | None,
    captions: Sequence[str | None] | None,
    maps: Sequence[PathLike | None] | None,
    *,
    failures: list[Failure] | None = None,
    batch_size: int = 64,
    workers: int | None = None,
) -> PhotographVectors:
    """Fuse photographs' embeddings with their further modalities; whitened features and details remain.

    Args:
        model: A model with modalities.
        image: The photographs' vectors, NaN where one could not be decoded; None to leave them out.
        captions: Q texts, None where a query has none; None to leave them out.
        maps: Q map tiles, likewise.
        failures: The photographs that could not be decoded, one per row of NaN; undecodable tiles are inserted, so that
            the list stays in the order of the rows. Without it, an undecodable tile raises.
        batch_size: Tiles per batch.
        workers: Decoding threads.

    Returns:
        Q rows; those without any modality, or with one that cannot be decoded, are NaN.

    Raises:
        InputError: A picture cannot be decoded and `failures` is None.
    """
    modalities = model.views
    assert modalities is not None
    count = next(len(rows) for rows in (image, captions, maps) if rows is not None)
    whitened, novelty = (None, None) if image is None else (image.whitened, image.novelty)
    details = (None,) * count if image is None else image.details
    if image is None and model.whitening is not None:
        whitened = np.zeros((count, model.whitening.dimensions), dtype=np.float32)
    by_name: dict[ModalityName, tuple[Float32[np.ndarray, "k d"], Bool[np.ndarray, " q"]]] = {}
    broken = np.zeros(count, dtype=np.bool_)
    if image is not None and image.finite.any():
        broken = ~image.finite
        by_name["image"] = image.embeddings[~broken], ~broken
    elif image is not None:  # none of the photographs could be decoded
        undecodable = np.full((count, model.embedding_dim), np.nan, dtype=np.float32)
        return PhotographVectors(undecodable, whitened, details, novelty)
    reasons = dict(zip(np.flatnonzero(broken).tolist(), failures or [], strict=False))
    with evaluating(model):
        if captions is not None and modalities.caption is not None:
            present = np.array([has_words(text) for text in captions], dtype=np.bool_)
            texts = [text for text in captions if text and has_words(text)]
            by_name["caption"] = _embed_captions(modalities, texts), present
        if maps is not None and modalities.map is not None:
            present = np.array([tile is not None for tile in maps], dtype=np.bool_)
            tiles = [tile for tile in maps if tile is not None]
            embedded, failed = _embed_maps(model, modalities, tiles, batch_size, workers)
            readable = np.isfinite(embedded).all(axis=1) if embedded.size else np.zeros(len(embedded), dtype=np.bool_)
            rows = np.flatnonzero(present)
            for row, failure in zip(rows[~readable].tolist(), failed, strict=False):
                reasons.setdefault(row, failure)
                broken[row] = True
            present[rows[~readable]] = False
            by_name["map"] = embedded[readable], present
        fused = _fused(model, modalities, by_name, count)
    if failures is None and reasons:
        raise_failures(list(reasons.values()))
    if failures is not None and len(reasons) >= len(failures):
        failures[:] = [reasons[row] for row in sorted(reasons)]
    fused[broken] = np.nan
    return PhotographVectors(fused, whitened, details, novelty)


def _fused(
    model: LocatorModel,
    modalities: Modalities,
    by_name: dict[ModalityName, tuple[Float32[np.ndarray, "k d"], Bool[np.ndarray, " q"]]],
    count: int,
) -> Float32[np.ndarray, "q d"]:
    order: tuple[ModalityName, ...] = ("image", *modalities.names)
    embeddings = np.zeros((count, len(order), model.embedding_dim), dtype=np.float32)
    present = np.zeros((count, len(order)), dtype=np.bool_)
    for at, name in enumerate(order):
        if name in by_name:
            rows, present[:, at] = by_name[name]
            embeddings[present[:, at], at] = rows.reshape(-1, model.embedding_dim)
    fused = modalities.fuse(torch.from_numpy(embeddings).to(model.device), torch.from_numpy(present))
    vectors: Float32[np.ndarray, "q d"] = fused.float().cpu().numpy()
    vectors[~present.any(axis=1)] = np.nan
    return vectors


def _embed_captions(modalities: Modalities, captions: Sequence[str]) -> Float32[np.ndarray, "k d"]:
    encoder = modalities.caption
    assert encoder is not None
    cut = sum(encoder.fitted(text) != " ".join(text.split()) for text in captions)
    if cut:
        _LOG.warning("%d captions are longer than the text tower reads; their ends are cut off", cut)
    starts = range(0, len(captions), _CAPTIONS_AT_ONCE)
    return stacked([encoder(captions[at : at + _CAPTIONS_AT_ONCE]).float().cpu().numpy() for at in starts])


def _embed_maps(
    model: LocatorModel, modalities: Modalities, tiles: Sequence[PathLike], batch_size: int, workers: int | None
) -> tuple[Float32[np.ndarray, "k d"], list[Failure]]:
    encoder = modalities.map
    assert encoder is not None
    failed: list[Failure] = []
    batches = pixel_batches(encoder.preprocess.read, tiles, batch_size, workers, failed)
    size = picture_rows(model.device)
    embedded = stacked([encode_readable(encoder, batch, model.device, size) for batch in batches])
    # An answer repeats only the reason, under the photograph's name.
    return embedded, [(path, f"map tile {path.name}: {reason}") for path, reason in failed]


def _refuse_empty(
    photographs: Sequence[PathLike],
    captions: Sequence[str | None] | None,
    maps: Sequence[PathLike | None] | None,
    names: Sequence[ModalityName],
) -> None:
    nonempty = [
        (captions is not None and has_words(captions[row])) or (maps is not None and maps[row] is not None)
        for row in range(len(photographs))
    ]
    empty = [Path(os.fspath(path)) for path, present in zip(photographs, nonempty, strict=True) if not present]
    if empty:
        more = f" ({len(empty)} queries in all)" if len(empty) > 1 else ""
        raise InputError(
            f"{empty[0]}: has none of the requested modalities ({', '.join(names)}){more}; give it one, or use the "
            "image too."
        )


def _names(model: Any) -> tuple[ModalityName, ...]:
    modalities = getattr(model, "views", None)
    return () if modalities is None else tuple(modalities.names)
