"""Split a manifest, report leakage, and write both."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from swclip.data.grouping import text_or_none
from swclip.data.leakage import leakage_report
from swclip.data.manifest import Manifest
from swclip.data.protocols import Protocol, SplitDraft, split
from swclip.data.published_splits import published_splits
from swclip.data.splits import Splits, leakage_path
from swclip.errors import ConfigError
from swclip.files import file_stem, write_json
from swclip.imaging.phash import PictureHashes, check_bits, hash_photographs
from swclip.progress import Count, Steps

_PUBLISHED_OPTIONS = ("val_share", "block_m", "seed")
READING = "Reading images"
"""The step of `progress` that counts photographs; the others count the work of comparing their hashes."""


def split_manifest(
    manifest: Manifest,
    protocol: Protocol | Literal["published"],
    out: str | os.PathLike[str] | None = None,
    *,
    picture_hash: bool = True,
    near_duplicate_bits: int = 6,
    progress: Steps | None = None,
    **options: Any,
) -> Splits:
    """Split a manifest, and report what queries and training share.

    Args:
        manifest: The photographs.
        protocol: As in `protocols.split`; published: the splits that the data set has, see `published_splits`.
        out: The Parquet file, or the folder for splits.parquet; None leaves the splits in memory.
        picture_hash: Compare the pictures for the leakage report.
        near_duplicate_bits: Pictures whose perceptual hashes differ in at most this many bits are near-duplicates.
        progress: Called with (step, done, total); `READING` counts pictures.
        **options: The other fields of `SplitConfig`.

    Returns:
        The splits with their `leakage`. Nothing is written if this raises.

    Raises:
        ConfigError: An option has a value that cannot work.
        InputError: There are too few cities, blocks or places, or the manifest does not have the city.
    """
    check_bits(near_duplicate_bits)
    draft = _published(manifest, **options) if protocol == "published" else split(manifest, protocol, **options)
    hashes = _hashes(manifest, progress) if picture_hash else None
    return report_leakage(draft, manifest, out, hashes, near_duplicate_bits=near_duplicate_bits, progress=progress)


def split_each_city(
    manifest: Manifest,
    out: str | os.PathLike[str],
    *,
    picture_hash: bool = True,
    near_duplicate_bits: int = 6,
    progress: Steps | None = None,
    **options: Any,
) -> list[Splits]:
    """Hold out each city in turn (protocol new-city); each has a file named after it.

    Args:
        manifest: The photographs.
        out: The folder for the files.
        picture_hash: As in `split_manifest`.
        near_duplicate_bits: As in `split_manifest`.
        progress: Called with (step, done, total); `READING` counts pictures.
        **options: The other fields of `SplitConfig`, without `city`.

    Returns:
        The splits of each city, in the order of the names.

    Raises:
        ConfigError: `out` is a file name, or an option has a value that cannot work.
        InputError: There are fewer than two cities.
    """
    check_bits(near_duplicate_bits)
    folder = Path(out)
    if folder.suffix == ".parquet":
        raise ConfigError(f"{folder}: holding out each city writes one file per city; give a folder as --out.")
    drafts = {
        target: split(manifest, "new-city", city=city, **options)
        for city, target in _file_of_city(manifest, folder).items()
    }
    hashes = _hashes(manifest, progress) if picture_hash else None
    return [
        report_leakage(draft, manifest, target, hashes, near_duplicate_bits=near_duplicate_bits, progress=progress)
        for target, draft in drafts.items()
    ]


def write_published_splits(manifest: Manifest) -> Splits:
    """Write the published splits beside their manifest, as splits.parquet with the leakage report.

    Raises:
        InputError: The manifest has none, or one of their parts has no photograph.
    """
    target = manifest.path.with_name("splits.parquet")
    leakage_path(target).unlink(missing_ok=True)  # a report of earlier splits must not stand beside what follows
    return report_leakage(published_splits(manifest), manifest, target)


def report_leakage(
    draft: SplitDraft,
    manifest: Manifest,
    out: str | os.PathLike[str] | None,
    hashes: PictureHashes | None = None,
    *,
    near_duplicate_bits: int = 6,
    progress: Steps | None = None,
) -> Splits:
    """Add the leakage report to a draft, and write both if a file is given.

    Args:
        draft: The splits.
        manifest: The manifest that they were made from.
        out: The Parquet file, or the folder for splits.parquet; None writes nothing.
        hashes: Perceptual hashes of the manifest's pictures; None where they were not compared.
        near_duplicate_bits: As in `split_manifest`.
        progress: As in `split_manifest`.

    Returns:
        The splits with their `leakage`.
    """
    options: dict[str, Any] = {"near_duplicate_bits": near_duplicate_bits, "progress": progress}
    if out is None:
        splits = draft.in_memory()
        return replace(splits, leakage=leakage_report(manifest, splits, hashes, **options))
    leakage_path(out).unlink(missing_ok=True)  # a report of earlier splits must not remain beside these
    splits = draft.write(out)
    report = leakage_report(manifest, splits, hashes, **options)
    write_json(leakage_path(splits.path), report)
    return replace(splits, leakage=report)


def _published(
    manifest: Manifest, *, city: str | None = None, hold_out: str = "auto", gallery: str = "auto", **options: Any
) -> SplitDraft:
    for name, value in (("--city", city), ("--hold-out", hold_out), ("--gallery", gallery)):
        if value not in (None, "auto"):
            raise ConfigError(f"{name} {value}: the protocol published takes what the data set publishes; omit it.")
    return published_splits(manifest, **{name: options[name] for name in _PUBLISHED_OPTIONS if name in options})


def _hashes(manifest: Manifest, progress: Steps | None) -> PictureHashes:
    count: Count | None = None if progress is None else partial(progress, READING)
    return hash_photographs(manifest.image_paths, progress=count)


def _file_of_city(manifest: Manifest, folder: Path) -> dict[str | None, Path]:
    """The cities of a manifest, each with the file of the splits that hold it out."""
    files: dict[str | None, Path] = {}
    for name in sorted({name for name in text_or_none(manifest.frame["city"]) if name is not None}):
        stem = file_stem(name)
        while folder / f"{stem}.parquet" in files.values():
            stem += "-2"  # two names that differ only in characters that a file name cannot have
        files[name] = folder / f"{stem}.parquet"
    return files or {None: folder}  # no city at all: `split` raises the error
