"""The three protocols: which photographs are queries, and what training may see of their places.

Each protocol is a pure function of the photographs (in the order of their ids) and a generator, so that the order of
the manifest's rows does not matter.
"""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from swclip.data.candidates import GalleryRule, build_candidates, parse_gallery
from swclip.data.grouping import (
    block_ids,
    draw_by_city,
    draw_captures,
    first_of_group,
    group_numbers,
    id_order,
    keep_buffer,
    pair_numbers,
    place_numbers,
    rows_by_name,
    text_or_none,
)
from swclip.data.manifest import Manifest
from swclip.data.splits import IN_MEMORY, SplitName, Splits, whole_meta, write_splits
from swclip.errors import ConfigError, InputError

Protocol = Literal["known-places", "new-streets", "new-city"]
HoldOut = Literal["auto", "capture", "place"]
Labels = np.ndarray[Any, np.dtype[np.object_]]


@dataclass(frozen=True)
class SplitConfig:
    """How to split.

    Attributes:
        protocol: known-places, new-streets or new-city.
        block_m: Side of the square blocks, metres.
        buffer_m: Photographs within this distance of a query are excluded from training (new-streets, new-city),
            metres.
        query_share: Share of the places, captures or blocks whose photographs become queries.
        val_share: Share of the remaining ones whose photographs become validation queries; 0 for none.
        seed: Seed of the draw.
        hold_out: What known-places holds out: a place, a capture (one pass over a place), or `auto`.
        gallery: What the candidates are: auto, photographs, positions or grid:SPACING_M.
        city: The city that new-city holds out; drawn by the seed where None.
    """

    protocol: Protocol
    block_m: float = 100.0
    buffer_m: float = 20.0
    query_share: float = 0.2
    val_share: float = 0.1
    seed: int = 0
    hold_out: HoldOut = "auto"
    gallery: str = "auto"
    city: str | None = None

    def __post_init__(self) -> None:
        _one_of("protocol", self.protocol, get_args(Protocol))
        _one_of("hold-out", self.hold_out, get_args(HoldOut))
        if not 0.0 < self.query_share < 1.0:
            raise ConfigError(f"the share of queries is {self.query_share}; it must be above 0 and below 1.")
        if not 0.0 <= self.val_share < 1.0:
            raise ConfigError(f"the share of validation is {self.val_share}; it must be at least 0 and below 1.")
        if not (math.isfinite(self.block_m) and self.block_m > 0):
            raise ConfigError(f"blocks of {self.block_m} m are impossible; give a positive number of metres.")
        if not (math.isfinite(self.buffer_m) and self.buffer_m >= 0):
            raise ConfigError(f"a buffer of {self.buffer_m} m is impossible; give 0 or more metres.")
        if self.seed < 0:
            raise ConfigError(f"the seed is {self.seed}; it must be 0 or more.")
        if self.hold_out != "auto" and self.protocol != "known-places":
            raise ConfigError(f"hold-out {self.hold_out!r} is for known-places, not for {self.protocol}; leave it out.")
        if self.city is not None and self.protocol != "new-city":
            raise ConfigError(f"a city to leave out ({self.city!r}) is for new-city, not for {self.protocol}.")
        parse_gallery(self.gallery, self.protocol)


@dataclass(frozen=True)
class SplitDraft:
    """Splits before they are written.

    Attributes:
        frame: image_id, split, block_id, in the manifest's order. block_id is the square block of side `block_m` that
            contains the photograph, for every protocol: reports resample blocks.
        candidates: The candidates, as in `Splits`.
        meta: protocol, seed, parameters (`auto` resolved), manifest_digest.
        notes: Sentences: the choices that were made and why, and what readers of the figures must know.
    """

    frame: pd.DataFrame
    candidates: pd.DataFrame
    meta: dict[str, Any]
    notes: list[str]

    def write(self, path: str | os.PathLike[str]) -> Splits:
        """Write the splits and their candidates; see `write_splits`."""
        return write_splits(path, self.frame, self.candidates, {**self.meta, "notes": self.notes})

    def in_memory(self) -> Splits:
        """The splits without a file."""
        meta = whole_meta(self.frame, self.candidates, {**self.meta, "notes": self.notes})
        return Splits(IN_MEMORY, self.frame, self.candidates, meta)


@dataclass
class Photographs:
    """The manifest's rows in the order of their ids, as plain arrays.

    Attributes:
        positions_deg: (N, 2) latitude, longitude in degrees.
        city: City of each photograph, None where unknown.
        place: place_id of each, None where unknown.
        sequence: sequence_id of each, None where unknown.
        notes: The notes of the split; the protocols append to them.
    """

    positions_deg: Float64[np.ndarray, "n 2"]
    city: list[str | None]
    place: list[str | None]
    sequence: list[str | None]
    notes: list[str] = field(default_factory=list)


def split(manifest: Manifest, protocol: Protocol = "known-places", **options: Any) -> SplitDraft:
    """Split a manifest.

    Args:
        manifest: The photographs.
        protocol: known-places (other photographs of the area are in training), new-streets (whole blocks are held
            out, with a buffer) or new-city (a whole city is held out).
        **options: The other fields of `SplitConfig`.

    Returns:
        The splits, not written yet.

    Raises:
        ConfigError: An option has a value that cannot work.
        InputError: There are too few cities, blocks or places, or the manifest does not have the city.

    Example:
        >>> draft = split(manifest, "new-streets", block_m=100, buffer_m=20)  # doctest: +SKIP
        >>> splits = draft.write("splits.parquet")  # doctest: +SKIP
    """
    config = SplitConfig(protocol=protocol, **options)
    if len(manifest.frame) == 0:
        raise InputError(f"{manifest.path}: it has no photographs; run `swclip prepare` on a folder that has some.")
    image_ids = manifest.frame["image_id"].to_numpy(dtype=object)
    order = id_order(image_ids)
    texts = {name: text_or_none(manifest.frame[name].iloc[order]) for name in ("city", "place_id", "sequence_id")}
    photographs = Photographs(
        manifest.positions_deg[order], city=texts["city"], place=texts["place_id"], sequence=texts["sequence_id"]
    )
    rng = np.random.default_rng(config.seed)
    # Drawn first and for every protocol, so that a seed gives the same blocks whatever the protocol is.
    blocks = block_ids(photographs.positions_deg, photographs.city, config.block_m, rng)
    chosen: dict[str, Any] = {}
    if config.protocol == "known-places":
        labels, chosen["hold_out"] = known_places(photographs, config, rng)
    elif config.protocol == "new-streets":
        labels = new_streets(photographs, blocks, config, rng)
    else:
        labels, chosen["city"] = new_city(photographs, blocks, config, rng)
    _check_not_empty(labels, config)
    frame = split_rows(manifest, labels, blocks, order)
    rule: GalleryRule = parse_gallery(config.gallery, config.protocol)
    parameters = {**asdict(config), **chosen, "gallery": str(rule)}
    del parameters["protocol"], parameters["seed"]
    meta = {
        "protocol": config.protocol,
        "seed": config.seed,
        "parameters": parameters,
        "manifest_digest": manifest.digest,
    }
    candidates = build_candidates(manifest.frame, frame["split"].to_numpy(dtype=object), rule)
    return SplitDraft(frame, candidates, meta, photographs.notes)


def split_rows(manifest: Manifest, labels: Labels, blocks: list[str], order: Int64[np.ndarray, " n"]) -> pd.DataFrame:
    """The rows of splits in the manifest's order.

    Args:
        manifest: The photographs.
        labels: (N,) the split of each photograph, in the order of their ids.
        blocks: The block of each, likewise.
        order: (N,) the rows of the manifest in that order.
    """
    columns = {"image_id": manifest.frame["image_id"].to_numpy(dtype=object)}
    for name, values in (("split", labels), ("block_id", blocks)):
        columns[name] = np.empty(len(order), dtype=object)
        columns[name][order] = values
    return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})


def known_places(photographs: Photographs, config: SplitConfig, rng: np.random.Generator) -> tuple[Labels, str]:
    """Hold out places, or captures of places that stay in training.

    Args:
        photographs: The photographs in the order of their ids.
        config: Shares and the unit to hold out.
        rng: The generator of the draw.

    Returns:
        (N,) train, val or query, and the unit that was held out.

    Raises:
        InputError: There are too few places, or no place has two captures.
    """
    place = place_numbers(photographs.positions_deg, photographs.city, photographs.place)
    capture = pair_numbers(place, group_numbers([name or "" for name in photographs.sequence]))
    place_of_capture = np.zeros(capture.max() + 1, dtype=np.int64)
    place_of_capture[capture] = place
    n_places = int(place.max()) + 1
    captures_of_place = np.bincount(place_of_capture, minlength=n_places)
    several = int((captures_of_place > 1).sum())
    unit = config.hold_out
    if unit == "auto":
        unit = "capture" if 2 * several >= n_places else "place"
        photographs.notes.append(
            f"Held out by {unit}: {several} of {n_places} places have captures from several sequences"
            + (", at least half." if unit == "capture" else ", fewer than half.")
        )
    labels = np.full(len(place), "train", dtype=object)
    if unit == "place":
        city_of_place = first_of_group(photographs.city, place)
        left = np.arange(n_places)
        for name, share in (("query", config.query_share), ("val", config.val_share)):
            taken = draw_by_city(left, city_of_place, share, rng, "places")
            labels[np.isin(place, taken)] = name
            left = np.setdiff1d(left, taken)
        return labels, unit
    if several == 0:
        raise InputError(
            f"no place of {n_places} has captures from two sequences, so no capture can be held out while another "
            "stays in training; use --hold-out place, or fill place_id and sequence_id in the manifest."
        )
    city_of_capture = first_of_group(photographs.city, capture)
    remaining = captures_of_place.copy()
    left = np.arange(len(place_of_capture))
    for name, share in (("query", config.query_share), ("val", config.val_share)):
        taken = draw_captures(left, place_of_capture, remaining, city_of_capture, share, rng)
        target = round(share * len(left))
        if len(taken) < target:
            photographs.notes.append(
                f"{len(taken)} captures became {name}, not {target} as configured: each place keeps one in training."
            )
        labels[np.isin(capture, taken)] = name
        left = np.setdiff1d(left, taken)
    return labels, unit


def new_streets(photographs: Photographs, blocks: list[str], config: SplitConfig, rng: np.random.Generator) -> Labels:
    """Hold out square blocks, and exclude photographs near them from training.

    Args:
        photographs: The photographs in the order of their ids.
        blocks: The block of each photograph.
        config: Shares and the buffer.
        rng: The generator of the draw.

    Returns:
        (N,) train, val, gallery or query.

    Raises:
        InputError: There are too few blocks.
    """
    labels = np.full(len(blocks), "train", dtype=object)
    draw_blocks(labels, "query", config.query_share, photographs, blocks, config, rng)
    draw_blocks(labels, "val", config.val_share, photographs, blocks, config, rng)
    return labels


def draw_blocks(
    labels: Labels,
    name: SplitName,
    share: float,
    photographs: Photographs,
    blocks: list[str],
    config: SplitConfig,
    rng: np.random.Generator,
) -> None:
    """Move a share of the training blocks to the split `name`, and training photographs near them to `gallery`.

    Args:
        labels: (N,) the split of each photograph; changed in place.
        name: The split that receives the blocks.
        share: Share of the blocks with training photographs.
        photographs: The photographs in the order of their ids.
        blocks: The block of each photograph.
        config: Side of the blocks and the buffer.
        rng: The generator of the draw.

    Raises:
        InputError: There are too few blocks.
    """
    number, training = group_numbers(blocks), labels == "train"
    city_of_block = first_of_group(photographs.city, number)
    unit, hint = f"blocks of {config.block_m:g} m", f"give a --block-m smaller than {config.block_m:g}"
    taken = draw_by_city(np.unique(number[training]), city_of_block, share, rng, unit, hint)
    labels[training & np.isin(number, taken)] = name
    keep_buffer(labels, photographs.positions_deg, name, config.buffer_m)


def new_city(
    photographs: Photographs, blocks: list[str], config: SplitConfig, rng: np.random.Generator
) -> tuple[Labels, str]:
    """Hold out a whole city; validation is a second city where there are three, else blocks of the other one.

    Args:
        photographs: The photographs in the order of their ids.
        blocks: The block of each photograph.
        config: The city to hold out, and the blocks and shares of the validation.
        rng: The generator of the draw.

    Returns:
        (N,) train, val, gallery or query, and the city that was held out.

    Raises:
        InputError: There are fewer than two cities, or the manifest does not have the configured one.
    """
    rows_of = rows_by_name(photographs.city)
    names = [name for name in rows_of if name is not None]
    if len(names) < 2:
        named = f"only {names[0]!r}" if names else "none"
        raise InputError(
            f"new-city leaves one city out and needs at least two in the manifest's city column, which names {named}; "
            "use new-streets, or fill the column."
        )
    if config.city is not None and config.city not in names:
        raise InputError(f"city {config.city!r} is not in the manifest; it has {', '.join(names)}.")
    city = config.city if config.city is not None else names[int(rng.integers(len(names)))]
    labels = np.full(len(blocks), "train", dtype=object)
    labels[rows_of[city]] = "query"
    if None in rows_of:
        # A photograph of an unknown city might show the one that is held out.
        labels[rows_of[None]] = "gallery"
        photographs.notes.append(
            f"{len(rows_of[None])} photographs without a city were excluded from training (split gallery)."
        )
    keep_buffer(labels, photographs.positions_deg, "query", config.buffer_m)
    others = [name for name in names if np.any(labels[rows_of[name]] == "train")]
    if config.val_share == 0:
        photographs.notes.append(f"Left out: {city}. No validation, as configured.")
    elif len(others) >= 2:
        val_city = others[int(rng.integers(len(others)))]
        rows = rows_of[val_city]
        labels[rows[labels[rows] == "train"]] = "val"
        keep_buffer(labels, photographs.positions_deg, "val", config.buffer_m)
        photographs.notes.append(f"Left out: {city}. Validation: {val_city}, another city, whole.")
    else:
        draw_blocks(labels, "val", config.val_share, photographs, blocks, config, rng)
        photographs.notes.append(
            f"Left out: {city}. Validation: blocks of {config.block_m:g} m, since there is no further city."
        )
    return labels, city


def _check_not_empty(labels: Labels, config: SplitConfig) -> None:
    for name in ("query", "train") if config.val_share == 0 else ("query", "train", "val"):
        if not np.any(labels == name):
            raise InputError(
                f"{config.protocol} left no photographs for {name!r} out of {len(labels)}; give other shares "
                "(--val-share 0 for no validation), a smaller --block-m or --buffer-m, or more photographs."
            )


def _one_of(option: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{option} {value!r} is not known; choose one of {', '.join(allowed)}.")
