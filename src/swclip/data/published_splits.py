"""The splits that a published data set has of its own: protocol `published`.

A manifest keeps them in the column `PUBLISHED_COLUMN`: train, val or test, followed by /database or /queries where the
data set says which photographs are the gallery of the others. `swclip prepare --layout` fills it.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from jaxtyping import Bool

from swclip.data.candidates import GalleryRule, candidates_at
from swclip.data.grouping import (
    block_ids,
    draw_by_city,
    first_of_group,
    id_order,
    place_numbers,
    text_or_none,
)
from swclip.data.manifest import Manifest
from swclip.data.protocols import SplitDraft, split_rows
from swclip.errors import InputError

PUBLISHED_COLUMN = "published_split"
"""Column of a manifest with the published split of each photograph, such as train or test/queries."""

PARTS = ("train", "val", "test")
KINDS = ("database", "queries")

_Roles = np.ndarray[Any, np.dtype[np.object_]]


def published_splits(
    manifest: Manifest, *, val_share: float = 0.1, block_m: float = 100.0, seed: int = 0
) -> SplitDraft:
    """Derive splits from the published ones.

    The queries are those of the part test; where the data set publishes no positions of it, those of val. All
    photographs of train are for training. Validation queries are those of val; where there are none, a share of the
    places of train is drawn. The candidates of a query are the positions of its part's database; where the parts have
    none, those of the photographs for training. A database that is not in the part train is not trained on (split
    `gallery`), but answers may use its photographs. Without a part train, the database of the queries is for training.

    Args:
        manifest: The photographs, with the column `PUBLISHED_COLUMN`.
        val_share: Share of the places of train that become validation queries where the data set has none; 0 for none.
        block_m: Side of the blocks that intervals resample, metres.
        seed: Seed of that draw and of the blocks' offset.

    Returns:
        The splits, not written yet.

    Raises:
        InputError: The manifest has no such column, an unknown value in it, or no queries or no photographs for them.
    """
    roles = _roles(manifest)
    parts, kinds = _halves(roles)
    unpublished = int((parts == "").sum())
    parts[parts == ""] = "train"
    queries_of = {part: (parts == part) & (kinds != "database") for part in PARTS}
    databases_of = {part: (parts == part) & (kinds == "database") for part in PARTS}
    asked = "test" if queries_of["test"].any() else "val"
    with_kinds = bool((kinds != "").any())
    gallery = _gallery(parts, kinds, asked)
    _check(manifest, roles, queries_of[asked], gallery, with_kinds)
    notes = ["Splits as published."]
    labels = np.full(len(roles), "train", dtype=object)
    with_train = bool((parts == "train").any())
    if with_train and with_kinds:
        labels[np.isin(parts, ["val", "test"])] = "gallery"
        notes.append("The databases of val and test are not trained on, and their photographs may be used in answers.")
    elif with_kinds:
        notes.append("There is no part train, so the database is for training.")
    if asked == "val":
        notes.append("No photograph of the part test can be used, so the queries of val are the queries.")
    if unpublished:
        notes.append(f"{unpublished:,} photographs without a published split are for training.")
    labels[queries_of[asked]] = "query"
    rng = np.random.default_rng(seed)
    order = id_order(manifest.frame["image_id"].to_numpy(dtype=object))
    cities = text_or_none(manifest.frame["city"].iloc[order])
    blocks = block_ids(manifest.positions_deg[order], cities, block_m, rng)
    usable: list[str] = ["gallery"] if with_train and with_kinds else []
    val_gallery = gallery
    if asked == "test" and queries_of["val"].any():
        labels[queries_of["val"]] = "val"
        val_usable = usable
        if databases_of["val"].any():
            val_gallery = _gallery(parts, kinds, "val")
    else:
        drawn = _drawn_places(manifest, parts == "train", val_share, order, rng) if with_train else None
        val_usable = []
        if drawn is not None and drawn.any():
            labels[drawn] = "val"
            val_gallery = (parts == "train") & ~drawn
            notes.append(f"There are no validation queries: {drawn.sum():,} photographs of train were drawn, by place.")
    candidates = candidates_at(manifest.frame, gallery, val_gallery)
    frame = split_rows(manifest, labels[order], blocks, order)
    meta = {
        "protocol": "published",
        "seed": seed,
        "parameters": {"gallery": str(GalleryRule("photographs")), "block_m": block_m, "buffer_m": 0.0},
        "manifest_digest": manifest.digest,
        "answers_may_use": {"query": usable, "val": val_usable} if usable else {},
    }
    return SplitDraft(frame, candidates, meta, notes)


def has_published_splits(manifest: Manifest) -> bool:
    """Whether the manifest keeps published splits with queries and photographs to answer them from."""
    if PUBLISHED_COLUMN not in manifest.frame:
        return False
    parts, kinds = _halves(_roles(manifest))
    queries = kinds != "database"
    asked = "test" if ((parts == "test") & queries).any() else "val"
    return bool(_gallery(parts, kinds, asked).any() and ((parts == asked) & queries).any())


def _gallery(parts: _Roles, kinds: _Roles, asked: str) -> Bool[np.ndarray, " n"]:
    """(N,) the photographs from which the queries of a part are answered: its database, and train where it has none."""
    return np.asarray(((parts == asked) & (kinds == "database")) | ((parts == "train") & (kinds == "")), dtype=np.bool_)


def _roles(manifest: Manifest) -> _Roles:
    if PUBLISHED_COLUMN not in manifest.frame:
        raise InputError(
            f"{manifest.path}: has no column {PUBLISHED_COLUMN}; data sets that publish splits have it, after "
            "`swclip prepare`. Choose another --protocol."
        )
    roles = np.array([role or "" for role in text_or_none(manifest.frame[PUBLISHED_COLUMN])], dtype=object)
    allowed = {"", *PARTS, *(f"{part}/{kind}" for part in PARTS for kind in KINDS)}
    for row in np.flatnonzero([role not in allowed for role in roles]).tolist()[:1]:
        raise InputError(
            f"{manifest.path}, row {row}: {PUBLISHED_COLUMN} is {roles[row]!r}; it must be train, val or test, with "
            "/database or /queries behind it where the data set has them."
        )
    return roles


def _halves(roles: _Roles) -> tuple[_Roles, _Roles]:
    halves = [role.partition("/") for role in roles]
    return (
        np.array([part for part, _, _ in halves], dtype=object),
        np.array([kind for _, _, kind in halves], dtype=object),
    )


def _check(
    manifest: Manifest, roles: _Roles, queries: Bool[np.ndarray, " n"], gallery: Bool[np.ndarray, " n"], kinds: bool
) -> None:
    counts = ", ".join(f"{count} in {name or 'no part'}" for name, count in sorted(Counter(roles.tolist()).items()))
    if not queries.any():
        missing = "the queries of the part test or val"
    elif not gallery.any():
        missing = "the database of the part that is queried" if kinds else "the part train"
    else:
        return
    raise InputError(f"{manifest.path}: no photograph of {missing} can be used ({counts}); choose another --protocol.")


def _drawn_places(
    manifest: Manifest,
    train: Bool[np.ndarray, " n"],
    share: float,
    order: np.ndarray[Any, Any],
    rng: np.random.Generator,
) -> Bool[np.ndarray, " n"]:
    """(N,) the photographs of the places of train that are drawn as validation queries."""
    drawn = np.zeros(len(train), dtype=np.bool_)
    rows = order[train[order]]
    frame = manifest.frame.iloc[rows]
    cities = text_or_none(frame["city"])
    place = place_numbers(manifest.positions_deg[rows], cities, text_or_none(frame["place_id"]))
    n_places = int(place.max()) + 1
    if n_places > 1:
        taken = draw_by_city(np.arange(n_places), first_of_group(cities, place), share, rng, "places")
        drawn[rows[np.isin(place, taken)]] = True
    return drawn
