"""`swclip gallery`: what a gallery holds, and every change of it."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import cyclopts
from cyclopts import Parameter

from swclip.cli.options import FilterOptions
from swclip.errors import ArtefactError, ConfigError, InputError

if TYPE_CHECKING:
    from swclip.gallery.inspect import GalleryInfo
    from swclip.gallery.store import Change

gallery = cyclopts.App(name="gallery", help="Look into a gallery, and change it: each change is one commit.")
gallery.command("swclip.cli.gallery_index:build_index", name="build-index")
_NO_FILTER = FilterOptions()


@Parameter(name="*")
@dataclass(frozen=True)
class GrowOptions:
    """How photographs are put into a gallery."""

    model: Path | None = None
    "Insist that the gallery was made by this run."
    thumbnails: int | None = None
    "Keep thumbnails of at most so many pixels in height; as the gallery was made with if not given."
    commit_rows: int = 512
    "Photographs in one commit."
    cache: bool = True
    "Keep image features in $SWCLIP_CACHE (or ~/.cache/swclip)."
    batch_size: int = 64
    "Photographs that the model sees at once."
    workers: int | None = None
    "Threads that decode photographs; one a processor if not given."


_AS_IT_IS = GrowOptions()


@gallery.command
def info(gallery: str, /, *, format: Literal["table", "json"] = "table") -> None:
    """Say what a gallery holds.

    Args:
        gallery: The gallery's folder or URL.
        format: table, or json on the standard output.
    """
    from swclip.cli.console import print_table
    from swclip.gallery.inspect import gallery_info
    from swclip.gallery.store import GalleryStore

    found = gallery_info(GalleryStore.open(gallery))
    if format == "json":
        sys.stdout.write(json.dumps(found.to_dict(), indent=2, ensure_ascii=False) + "\n")
        return
    print_table(gallery, ["", ""], _lines(found))


@gallery.command
def verify(gallery: str, /) -> None:
    """Look at every row of a gallery and at the model beside it; the exit code is not 0 where something is wrong.

    Args:
        gallery: The gallery's folder or URL.
    """
    from swclip.cli.console import console
    from swclip.files import default_cache_folder
    from swclip.gallery.inspect import verify as verified
    from swclip.gallery.store import GalleryStore
    from swclip.models.locator_model import load_model
    from swclip.progress import progress_bar

    store = GalleryStore.open(gallery)
    model = load_model(store.model_folder(default_cache_folder()))
    with progress_bar("Verifying") as progress:
        faults = verified(store, model.fingerprint, progress)
    if faults:
        listed = "\n".join(f"  {fault}" for fault in faults)
        raise ArtefactError(
            f"{gallery}: is not sound:\n{listed}\nTake the entries out with `swclip gallery delete`, or put them in "
            "anew with `swclip gallery upsert`."
        )
    console.print(f"{gallery}: {store.count()} entries, all sound", markup=False)


@gallery.command
def append(
    gallery: str,
    manifest: Path,
    /,
    *,
    how: GrowOptions = _AS_IT_IS,
) -> None:
    """Put the photographs of a manifest into a gallery; those that it has are left as they are.

    Photographs are committed in parts: whatever ends the work, what was committed stays, and the same command goes on.

    Args:
        gallery: The gallery's folder or URL.
        manifest: The photographs, as `swclip prepare` or `swclip synth` wrote them.
        how: How they are embedded and kept.
    """
    _grow(gallery, manifest, how, replacing=False)


@gallery.command
def upsert(
    gallery: str,
    manifest: Path,
    /,
    *,
    how: GrowOptions = _AS_IT_IS,
) -> None:
    """Put the photographs of a manifest into a gallery; those that it has are replaced.

    Args:
        gallery: The gallery's folder or URL.
        manifest: The photographs, as `swclip prepare` or `swclip synth` wrote them.
        how: How they are embedded and kept.
    """
    _grow(gallery, manifest, how, replacing=True)


@gallery.command
def delete(gallery: str, /, *, where: FilterOptions = _NO_FILTER) -> None:
    """Take entries out of a gallery: those that meet all the conditions given, of which there must be one.

    Args:
        gallery: The gallery's folder or URL.
        where: Which entries.
    """
    from swclip.cli.console import console
    from swclip.gallery.store import GalleryStore

    condition = where.read()
    if condition.empty:
        raise ConfigError("say which entries to delete, such as --image-id ID or --city NAME.")
    console.print(_told(gallery, GalleryStore.open(gallery).delete(condition)), markup=False)


@gallery.command
def merge(gallery: str, other: str, /, *, both: Literal["refuse", "ours", "theirs"] = "refuse") -> None:
    """Put all entries of another gallery of the same model into a gallery, in one commit.

    Args:
        gallery: The gallery that is changed.
        other: The other one, which stays as it is.
        both: What to do with photographs that both hold: refuse, keep ours (the first gallery's), or take theirs.
    """
    from swclip.cli.console import console
    from swclip.gallery.store import GalleryStore

    console.print(_told(gallery, GalleryStore.open(gallery).merge(GalleryStore.open(other), both)), markup=False)


@gallery.command(name="filter")
def filter_gallery(gallery: str, /, *, out: str, where: FilterOptions = _NO_FILTER) -> None:
    """Write a new gallery of the entries that meet all the conditions given.

    Args:
        gallery: The gallery's folder or URL.
        out: The new gallery.
        where: Which entries.
    """
    from swclip.cli.console import console
    from swclip.gallery.store import GalleryStore

    made = GalleryStore.open(gallery).copy(out, where.read())
    console.print(f"{out}: {made.count()} entries", markup=False)


@gallery.command
def export(gallery: str, /, *, out: Path, where: FilterOptions = _NO_FILTER) -> None:
    """Write a gallery's entries as points (GeoParquet) for QGIS, geopandas and DuckDB, without embeddings.

    Args:
        gallery: The gallery's folder or URL.
        out: The .parquet file.
        where: Which entries; all if not given.
    """
    from swclip.cli.console import console
    from swclip.gallery.export import export_points
    from swclip.gallery.store import GalleryStore

    console.print(f"{out}: {export_points(GalleryStore.open(gallery), out, where.read())} points", markup=False)


@gallery.command
def compact(gallery: str, /, *, keep_days: Annotated[float, Parameter(name="--keep-days")] = 7.0) -> None:
    """Gather a gallery's small files into large ones, and drop old versions.

    Args:
        gallery: The gallery's folder or URL.
        keep_days: Keep versions of so many days: a process that reads an older one fails.
    """
    from swclip.cli.console import console
    from swclip.gallery.inspect import size_bytes
    from swclip.gallery.store import GalleryStore

    if not keep_days >= 0.0:
        raise ConfigError(f"--keep-days {keep_days:g}: must be 0 or more.")
    store, before = GalleryStore.open(gallery), size_bytes(gallery)
    store.compact(timedelta(days=keep_days))
    console.print(f"{gallery}: {before / 1e6:.1f} MB before, {size_bytes(gallery) / 1e6:.1f} MB now", markup=False)


def _grow(
    name: str,
    manifest: Path,
    how: GrowOptions,
    *,
    replacing: bool,
) -> None:
    from swclip.cli.console import console
    from swclip.data.manifest import read_manifest
    from swclip.files import default_cache_folder
    from swclip.gallery.build import put_in
    from swclip.gallery.hubness import read_bank
    from swclip.gallery.store import GalleryStore
    from swclip.models.embed import Failure
    from swclip.models.feature_cache import FeatureCache
    from swclip.models.locator_model import load_model
    from swclip.progress import progress_bar

    if how.commit_rows < 1:
        raise ConfigError(f"--commit-rows {how.commit_rows}: must be at least 1.")
    if how.thumbnails is not None and how.thumbnails < 16:
        raise ConfigError(f"--thumbnails {how.thumbnails}: must be at least 16 pixels.")
    store, table = GalleryStore.open(name), read_manifest(manifest)
    own = store.model_folder(default_cache_folder())
    model = load_model(own if how.model is None else how.model)
    store.description.check_model(model.fingerprint, str(own if how.model is None else how.model), name)
    failures: list[Failure] = []
    with progress_bar("Embedding") as progress:
        change = put_in(
            store,
            model,
            table,
            replacing=replacing,
            bank=read_bank(own),
            thumbnails_px=store.description.meta.get("thumbnails_px") if how.thumbnails is None else how.thumbnails,
            commit_rows=how.commit_rows,
            batch_size=how.batch_size,
            workers=how.workers,
            cache=FeatureCache() if how.cache else None,
            failures=failures,
            progress=progress,
        )
    console.print(_told(name, change), markup=False)
    if failures:
        listed = "\n".join(f"  {path}: {reason}" for path, reason in failures)
        raise InputError(f"{len(failures)} photographs could not be read and were left out:\n{listed}")


def _told(name: str, change: Change) -> str:
    parts = [
        f"{count} {what}"
        for count, what in (
            (change.inserted, "put in"),
            (change.updated, "replaced"),
            (change.deleted, "deleted"),
            (change.skipped, "there already, left as they are"),
        )
        if count
    ]
    return f"{name}: {', '.join(parts) or 'nothing to change'} (version {change.version})"


def _lines(found: GalleryInfo) -> list[tuple[str, str]]:
    south, west, north, east = found.bbox_deg
    return [
        ("candidates", f"{found.candidates:,}"),
        ("photographs", f"{found.photographs:,}"),
        ("thumbnails", f"{found.thumbnails:,}"),
        *((f"candidates in {city or 'no city'}", f"{count:,}") for city, count in found.cities.items()),
        *((f"entries from {source or 'no source'}", f"{count:,}") for source, count in found.sources.items()),
        ("latitude, longitude", f"{south:.5f}, {west:.5f} to {north:.5f}, {east:.5f}"),
        ("captured", "unknown" if found.captured is None else " to ".join(found.captured)),
        (
            "accuracy",
            "unknown"
            if found.accuracy_m is None
            else f"median {found.accuracy_m[0]:.1f} m, 95 % within {found.accuracy_m[1]:.1f} m",
        ),
        ("model", found.fingerprint),
        ("dimension", str(found.dim)),
        ("hubness", "measured" if found.hubness else "not measured"),
        *((f"index of {name}", said) for name, said in found.indices.items()),
        ("size", f"{found.bytes / 1e6:,.1f} MB"),
        ("version", f"{found.version}, of {found.versions} that can be read"),
        *(("left out", f"{one['path']}: {one['reason']}") for one in found.meta.get("left_out") or []),
    ]
