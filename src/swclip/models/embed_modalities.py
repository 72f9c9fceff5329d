"""Queries of several views: photographs with captions and map tiles, each query one vector of what it has."""

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
from swclip.models.embed import (
    Failure,
    PathLike,
    embed_photographs,
    encode_readable,
    evaluating,
    pixel_batches,
    raise_failures,
    stacked,
)
from swclip.models.modalities import ViewName, Views, is_there

if TYPE_CHECKING:
    from swclip.models.locator_model import LocatorModel

_LOG = logging.getLogger(__name__)
VIEW_NAMES: tuple[ViewName, ...] = ("image", "caption", "map")
_CAPTIONS_AT_ONCE = 256


def chosen_views(
    model: LocatorModel,
    captions: Sequence[str | None] | None,
    maps: Sequence[PathLike | None] | None,
    use: Sequence[ViewName] | None = None,
) -> tuple[ViewName, ...]:
    """The views that queries are asked with.

    Args:
        model: The model.
        captions: A text a query, None where there is none; None where no query has one.
        maps: A map tile a query, likewise.
        use: What was asked for; None takes the photograph, and each view that the model has and some query offers.

    Returns:
        In the order image, caption, map.

    Raises:
        ConfigError: A view is not known, or the model has it not.
        InputError: A view was asked for that no query has.
    """
    has: tuple[ViewName, ...] = ("image", *_names(model))
    offered = given_views(captions, maps)
    if use is None:
        return tuple(name for name in has if name in offered)
    if not use:
        raise ConfigError(f"no view is asked for; choose at least one of {', '.join(has)}.")
    for name in use:
        if name not in VIEW_NAMES:
            raise ConfigError(f"view {name!r} is not known; choose from {', '.join(VIEW_NAMES)}.")
        if name not in has:
            raise ConfigError(
                f"the model has no {name} view (it has {', '.join(has)}); train one that has, such as with "
                "--recipe sw-clip-views."
            )
        if name not in offered:
            raise InputError(f"view {name!r} is asked for, and no query has it; leave it out, or add it to the data.")
    return tuple(name for name in VIEW_NAMES if name in use)


def given_views(captions: Sequence[str | None] | None, maps: Sequence[PathLike | None] | None) -> tuple[ViewName, ...]:
    """The photograph, and what was given with it: a model that has not that view is then refused."""
    caption: tuple[ViewName, ...] = ("caption",) if any(map(is_there, captions or ())) else ()
    tile: tuple[ViewName, ...] = ("map",) if any(path is not None for path in maps or ()) else ()
    return ("image", *caption, *tile)


def count_views(
    names: Sequence[ViewName], captions: Sequence[str | None], maps: Sequence[PathLike | None]
) -> dict[str, int]:
    """How many queries have each of the views that are used."""
    counts = {
        "image": len(captions),
        "caption": sum(map(is_there, captions)),
        "map": sum(path is not None for path in maps),
    }
    return {name: counts[name] for name in names}


def embed_queries(
    model: LocatorModel,
    photographs: Sequence[PathLike],
    captions: Sequence[str | None] | None = None,
    maps: Sequence[PathLike | None] | None = None,
    *,
    use: Sequence[ViewName] | None = None,
    failures: list[Failure] | None = None,
    batch_size: int = 64,
    workers: int | None = None,
    progress: Any = None,
    **options: Any,
) -> Float32[np.ndarray, "q d"]:
    """Embed queries by the views they have.

    A query that lacks a view is embedded by its others; with the photograph alone that is the photograph's embedding,
    to the last bit.

    Args:
        model: The model.
        photographs: Q photographs; they name the queries, and are not opened where `use` has no image.
        captions: Q texts, None where there is none.
        maps: Q map tiles, None where there is none.
        use: The views to use; see `chosen_views`.
        failures: A list that collects what cannot be decoded, in the order of the queries. Without one, that raises.
        batch_size: Pictures that the model sees at once.
        workers: Decoding threads.
        progress: Called with (done, total) photographs.
        options: As of `embed_photographs`.

    Returns:
        (Q, D) unit vectors; NaN in the rows of failures.

    Raises:
        ConfigError: The model has not the view, or there are not as many captions or maps as photographs.
        InputError: A query has none of the views, or a picture cannot be decoded and `failures` is None.
    """
    for what, given in (("captions", captions), ("maps", maps)):
        if given is not None and len(given) != len(photographs):
            raise ConfigError(f"{len(given)} {what} for {len(photographs)} photographs; give one each, or None.")
    names = chosen_views(model, captions, maps, use)
    options |= {"batch_size": batch_size, "workers": workers}
    if names == ("image",):
        return embed_photographs(model, photographs, failures=failures, progress=progress, **options)
    captions = captions if "caption" in names else None
    maps = maps if "map" in names else None
    own: list[Failure] = []
    image = None
    if "image" in names:
        image = embed_photographs(model, photographs, failures=own, progress=progress, **options)
        if failures is None and own:
            raise_failures(own)
    else:
        _refuse_empty(photographs, captions, maps, names)
    found = with_views(model, image, captions, maps, failures=own, batch_size=batch_size, workers=workers)
    if failures is None and own:
        raise_failures(own)
    if failures is not None:
        failures.extend(own)
    if image is None and progress is not None:
        progress(len(photographs), len(photographs))
    return found


def with_views(
    model: LocatorModel,
    image: Float32[np.ndarray, "q d"] | None,
    captions: Sequence[str | None] | None,
    maps: Sequence[PathLike | None] | None,
    *,
    failures: list[Failure] | None = None,
    batch_size: int = 64,
    workers: int | None = None,
) -> Float32[np.ndarray, "q d"]:
    """Embeddings of photographs, fused with their further views.

    Args:
        model: A model with views.
        image: (Q, D) the photographs' embeddings, NaN where one could not be decoded; None to go without.
        captions: Q texts, None where there is none; None to go without.
        maps: Q map tiles, likewise.
        failures: What could not be decoded so far, one a row of NaN; tiles that cannot be are put among them, so that
            it stays in the order of the rows. Without it they raise.
        batch_size: Tiles that the model sees at once.
        workers: Decoding threads.

    Returns:
        (Q, D); rows without any view, or with one that cannot be decoded, are NaN.
    """
    views = model.views
    assert views is not None
    count = next(len(rows) for rows in (image, captions, maps) if rows is not None)
    by_name: dict[ViewName, tuple[Float32[np.ndarray, "k d"], Bool[np.ndarray, " q"]]] = {}
    broken = np.zeros(count, dtype=np.bool_)
    if image is not None and image.shape[1]:
        broken = ~np.isfinite(image).all(axis=1)
        by_name["image"] = image[~broken], ~broken
    elif image is not None:  # not one of the photographs could be decoded
        return np.full((count, model.embedding_dim), np.nan, dtype=np.float32)
    reasons = dict(zip(np.flatnonzero(broken).tolist(), failures or [], strict=False))
    with evaluating(model):
        if captions is not None and views.caption is not None:
            there = np.array([is_there(text) for text in captions], dtype=np.bool_)
            by_name["caption"] = _read_captions(views, [text for text in captions if text and is_there(text)]), there
        if maps is not None and views.map is not None:
            there = np.array([tile is not None for tile in maps], dtype=np.bool_)
            seen, failed = _see_maps(model, views, [tile for tile in maps if tile is not None], batch_size, workers)
            readable = np.isfinite(seen).all(axis=1) if seen.size else np.zeros(len(seen), dtype=np.bool_)
            rows = np.flatnonzero(there)
            for row, failure in zip(rows[~readable].tolist(), failed, strict=False):
                reasons.setdefault(row, failure)
                broken[row] = True
            there[rows[~readable]] = False
            by_name["map"] = seen[readable], there
        fused = _fused(model, views, by_name, count)
    if failures is None and reasons:
        raise_failures(list(reasons.values()))
    if failures is not None and len(reasons) >= len(failures):
        failures[:] = [reasons[row] for row in sorted(reasons)]
    fused[broken] = np.nan
    return fused


def _fused(
    model: LocatorModel,
    views: Views,
    by_name: dict[ViewName, tuple[Float32[np.ndarray, "k d"], Bool[np.ndarray, " q"]]],
    count: int,
) -> Float32[np.ndarray, "q d"]:
    order: tuple[ViewName, ...] = ("image", *views.names)
    embeddings = np.zeros((count, len(order), model.embedding_dim), dtype=np.float32)
    present = np.zeros((count, len(order)), dtype=np.bool_)
    for at, name in enumerate(order):
        if name in by_name:
            rows, present[:, at] = by_name[name]
            embeddings[present[:, at], at] = rows.reshape(-1, model.embedding_dim)
    fused = views.fuse(torch.from_numpy(embeddings).to(model.device), torch.from_numpy(present))
    found: Float32[np.ndarray, "q d"] = fused.float().cpu().numpy()
    found[~present.any(axis=1)] = np.nan
    return found


def _read_captions(views: Views, captions: Sequence[str]) -> Float32[np.ndarray, "k d"]:
    encoder = views.caption
    assert encoder is not None
    cut = sum(encoder.fitted(text) != " ".join(text.split()) for text in captions)
    if cut:
        _LOG.warning("%d captions are longer than the text tower reads; their ends are left out", cut)
    starts = range(0, len(captions), _CAPTIONS_AT_ONCE)
    return stacked([encoder(captions[at : at + _CAPTIONS_AT_ONCE]).float().cpu().numpy() for at in starts])


def _see_maps(
    model: LocatorModel, views: Views, tiles: Sequence[PathLike], batch_size: int, workers: int | None
) -> tuple[Float32[np.ndarray, "k d"], list[Failure]]:
    encoder = views.map
    assert encoder is not None
    failed: list[Failure] = []
    batches = pixel_batches(encoder.preprocess.read, tiles, batch_size, workers, failed)
    seen = stacked([encode_readable(encoder, batch, model.device) for batch in batches])
    # An answer repeats the reason alone, under the photograph's name.
    return seen, [(path, f"map tile {path.name}: {reason}") for path, reason in failed]


def _refuse_empty(
    photographs: Sequence[PathLike],
    captions: Sequence[str | None] | None,
    maps: Sequence[PathLike | None] | None,
    names: Sequence[ViewName],
) -> None:
    some = [
        (captions is not None and is_there(captions[row])) or (maps is not None and maps[row] is not None)
        for row in range(len(photographs))
    ]
    empty = [Path(os.fspath(path)) for path, there in zip(photographs, some, strict=True) if not there]
    if empty:
        more = f" ({len(empty)} queries in all)" if len(empty) > 1 else ""
        raise InputError(
            f"{empty[0]}: has none of the views that are asked for ({', '.join(names)}){more}; give it one, or use the "
            "image too."
        )


def _names(model: Any) -> tuple[ViewName, ...]:
    views = getattr(model, "views", None)
    return () if views is None else tuple(views.names)
