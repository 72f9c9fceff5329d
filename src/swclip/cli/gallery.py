"""`swclip gallery`: inspect and change a gallery."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import cyclopts
from cyclopts import Parameter

from swclip.cli.gallery_index import build_index
from swclip.cli.help import ADVANCED, OPTIONS, off
from swclip.cli.options import FilterOptions
from swclip.errors import ArtefactError, ConfigError, UnreadableError

if TYPE_CHECKING:
    from swclip.gallery.inspect import GalleryInfo
    from swclip.gallery.store import Change

gallery = cyclopts.App(
    name="gallery",
    help="Inspect and change a gallery. Each change is one commit.",
    help_epilogue="swclip gallery COMMAND --help explains a command and shows examples of its use.",
    usage="Usage: swclip gallery COMMAND [OPTIONS]",
    group_parameters=OPTIONS,
)
gallery.command(build_index, name="build-index")
_NO_FILTER = FilterOptions()


@Parameter(name="*")
@dataclass(frozen=True)
class GrowOptions:
    """How photographs are added to a gallery."""

    thumbnails: int | None = None
    "Maximum height of stored thumbnails in pixels; by default that of the gallery."
    device: str = "auto"
    "auto (a GPU if there is one), cpu, cuda, cuda:1 or mps."
    model: Annotated[Path | None, ADVANCED] = None
    "Fail unless the gallery was made with this run."
    commit_rows: Annotated[int, ADVANCED] = 512
    "Photographs per commit."
    cache: Annotated[bool, ADVANCED, off("--no-cache")] = True
    "Do not cache image features in $SWCLIP_CACHE (or ~/.cache/swclip)."
    batch_size: Annotated[int, ADVANCED] = 64
    "Photographs per batch of the model."
    workers: Annotated[int | None, ADVANCED] = None
    "Threads that decode photographs; by default one per processor."


_DEFAULTS = GrowOptions()


@gallery.command
def info(gallery: str, /, *, format: Literal["table", "json"] = "table") -> None:
    """Show the contents of a gallery.

    Args:
        gallery: The gallery's folder or URL.
        format: table, or json on standard output.

    Examples:
        swclip gallery info gallery
        swclip gallery info gallery --format json
    """
    from swclip.cli.console import next_step, print_table
    from swclip.gallery.inspect import gallery_info
    from swclip.gallery.store import GalleryStore

    contents = gallery_info(GalleryStore.open(gallery))
    if format == "json":
        sys.stdout.write(json.dumps(contents.to_dict(), indent=2, ensure_ascii=False) + "\n")
    else:
        print_table(gallery, ["", ""], _info_rows(contents))
    next_step("gallery info", "swclip", "locate", gallery, "PHOTOGRAPH")


@gallery.command
def verify(gallery: str, /) -> None:
    """Check every row, and the model of the gallery.

    The exit code is 3 if something is wrong.

    Args:
        gallery: The gallery's folder or URL.

    Examples:
        swclip gallery verify gallery
        swclip gallery verify s3://bucket/gallery
    """
    from swclip.cli.console import console, next_step
    from swclip.files import default_cache_folder
    from swclip.gallery.inspect import verify as verify_gallery
    from swclip.gallery.store import GalleryStore
    from swclip.models.locator_model import load_model
    from swclip.progress import progress_bar

    store = GalleryStore.open(gallery)
    model = load_model(store.model_folder(default_cache_folder()))
    with progress_bar("Verifying") as progress:
        faults = verify_gallery(store, model.fingerprint, progress)
    if faults:
        listed = "\n".join(f"  {fault}" for fault in faults)
        raise ArtefactError(
            f"{gallery}: has {len(faults)} faults:\n{listed}\nRemove the entries with `swclip gallery delete`, or "
            "replace them with `swclip gallery upsert`."
        )
    console.print(f"{gallery}: {store.count()} entries, no faults", markup=False, soft_wrap=True)
    next_step("gallery verify", "swclip", "locate", gallery, "PHOTOGRAPH")


@gallery.command
def append(
    gallery: str,
    manifest: Path,
    /,
    *,
    options: GrowOptions = _DEFAULTS,
) -> None:
    """Add the photographs of a manifest.

    Photographs that it already has are skipped. The others are committed in batches. If interrupted, run the same
    command again to resume after the last commit.

    Args:
        gallery: The gallery's folder or URL.
        manifest: The manifest that `swclip prepare` or `swclip synth` wrote.
        options: How they are embedded and stored.

    Examples:
        swclip gallery append gallery more-data
        swclip gallery append s3://bucket/gallery more-data --thumbnails 160
    """
    _grow(gallery, manifest, options, replacing=False)


@gallery.command
def upsert(
    gallery: str,
    manifest: Path,
    /,
    *,
    options: GrowOptions = _DEFAULTS,
) -> None:
    """Add photographs to a gallery, or replace them.

    Photographs of the manifest that the gallery already has are replaced.

    Args:
        gallery: The gallery's folder or URL.
        manifest: The manifest that `swclip prepare` or `swclip synth` wrote.
        options: How they are embedded and stored.

    Examples:
        swclip gallery upsert gallery corrected-data
        swclip gallery upsert gallery corrected-data --device cpu --no-cache
    """
    _grow(gallery, manifest, options, replacing=True)


@gallery.command
def delete(gallery: str, /, *, where: FilterOptions = _NO_FILTER) -> None:
    """Delete the entries of a gallery that meet all conditions.

    At least one condition is required.

    Args:
        gallery: The gallery's folder or URL.
        where: The conditions.

    Examples:
        swclip gallery delete gallery --image-id p1 --image-id p2
        swclip gallery delete gallery --within closed.geojson --until 2020-01-01
    """
    from swclip.cli.console import console, next_step
    from swclip.gallery.store import GalleryStore

    condition = where.read()
    if condition.empty:
        raise ConfigError("no condition; name the entries to delete, such as --image-id ID or --city NAME.")
    console.print(_summary(gallery, GalleryStore.open(gallery).delete(condition)), markup=False, soft_wrap=True)
    next_step("gallery delete", "swclip", "gallery", "compact", gallery)


@gallery.command
def merge(gallery: str, source: str, /, *, both: Literal["refuse", "ours", "theirs"] = "refuse") -> None:
    """Add all entries of another gallery.

    Both galleries are of the same model. All entries are added in one commit.

    Args:
        gallery: The gallery that is changed.
        source: The gallery whose entries are added; it is not changed.
        both: What to do with photographs that are in both: refuse to merge, keep ours (of the changed gallery), or take
            theirs.

    Examples:
        swclip gallery merge gallery other-gallery
        swclip gallery merge gallery other-gallery --both ours
    """
    from swclip.cli.console import console, next_step
    from swclip.gallery.store import GalleryStore

    console.print(
        _summary(gallery, GalleryStore.open(gallery).merge(GalleryStore.open(source), both)),
        markup=False,
        soft_wrap=True,
    )
    next_step("gallery merge", "swclip", "locate", gallery, "PHOTOGRAPH")


@gallery.command(name="filter")
def filter_gallery(gallery: str, /, *, out: str, where: FilterOptions = _NO_FILTER) -> None:
    """Write entries that meet all conditions to a new gallery.

    Args:
        gallery: The gallery's folder or URL.
        out: The new gallery.
        where: The conditions.

    Examples:
        swclip gallery filter gallery --city Leeds --out leeds
        swclip gallery filter gallery --within area.geojson --out area
    """
    from swclip.cli.console import console, next_step
    from swclip.gallery.store import GalleryStore

    copy = GalleryStore.open(gallery).copy(out, where.read())
    console.print(f"{out}: {copy.count()} entries", markup=False, soft_wrap=True)
    next_step("gallery filter", "swclip", "locate", out, "PHOTOGRAPH")


@gallery.command
def export(gallery: str, /, *, out: Path, where: FilterOptions = _NO_FILTER) -> None:
    """Export entries as points (GeoParquet).

    QGIS, geopandas and DuckDB read the file. Embeddings are not exported.

    Args:
        gallery: The gallery's folder or URL.
        out: The .parquet file.
        where: The conditions; all entries by default.

    Examples:
        swclip gallery export gallery --out points.parquet
        swclip gallery export gallery --city Leeds --out leeds.parquet
    """
    from swclip.cli.console import console, next_step
    from swclip.gallery.export import export_points
    from swclip.gallery.store import GalleryStore

    console.print(
        f"{out}: {export_points(GalleryStore.open(gallery), out, where.read())} points", markup=False, soft_wrap=True
    )
    next_step("gallery export", f"open {out} in QGIS, or read it with geopandas.read_parquet")


@gallery.command
def compact(gallery: str, /, *, keep_days: Annotated[float, Parameter(name="--keep-days")] = 7.0) -> None:
    """Merge small files, and remove old versions.

    Args:
        gallery: The gallery's folder or URL.
        keep_days: Keep the versions of this many days. A process that is reading a removed version fails.

    Examples:
        swclip gallery compact gallery
        swclip gallery compact gallery --keep-days 0
    """
    from swclip.cli.console import console, next_step
    from swclip.gallery.folder import size_bytes
    from swclip.gallery.store import GalleryStore

    if not keep_days >= 0.0:
        raise ConfigError(f"--keep-days {keep_days:g}: must be 0 or more.")
    store, before = GalleryStore.open(gallery), size_bytes(gallery)
    store.compact(timedelta(days=keep_days))
    console.print(
        f"{gallery}: {before / 1e6:.1f} MB before, {size_bytes(gallery) / 1e6:.1f} MB now", markup=False, soft_wrap=True
    )
    next_step("gallery compact", "swclip", "gallery", "info", gallery)


def _grow(
    name: str,
    manifest: Path,
    options: GrowOptions,
    *,
    replacing: bool,
) -> None:
    from swclip.cli.console import console, next_step
    from swclip.data.manifest import read_manifest
    from swclip.files import default_cache_folder
    from swclip.gallery.build import insert_photographs
    from swclip.gallery.hubness import read_bank
    from swclip.gallery.store import GalleryStore
    from swclip.models.blocks import available_device
    from swclip.models.embed import Failure
    from swclip.models.feature_cache import FeatureCache
    from swclip.models.locator_model import load_model
    from swclip.progress import progress_bar

    if options.commit_rows < 1:
        raise ConfigError(f"--commit-rows {options.commit_rows}: must be at least 1.")
    if options.thumbnails is not None and options.thumbnails < 16:
        raise ConfigError(f"--thumbnails {options.thumbnails}: must be at least 16 pixels.")
    store, table = GalleryStore.open(name), read_manifest(manifest)
    model_folder = store.model_folder(default_cache_folder())
    source = model_folder if options.model is None else options.model
    model = load_model(source).to(available_device(options.device))
    store.description.check_model(model.fingerprint, str(source), name)
    thumbnails = store.description.meta.get("thumbnails_px") if options.thumbnails is None else options.thumbnails
    failures: list[Failure] = []
    with progress_bar("Embedding") as progress:
        change = insert_photographs(
            store,
            model,
            table,
            replacing=replacing,
            bank=read_bank(model_folder),
            thumbnails_px=thumbnails,
            commit_rows=options.commit_rows,
            batch_size=options.batch_size,
            workers=options.workers,
            cache=FeatureCache() if options.cache else None,
            failures=failures,
            progress=progress,
        )
    console.print(_summary(name, change), markup=False, soft_wrap=True)
    next_step("gallery upsert" if replacing else "gallery append", "swclip", "locate", name, "PHOTOGRAPH")
    if failures:
        listed = "\n".join(f"  {path}: {reason}" for path, reason in failures)
        raise UnreadableError(f"{len(failures)} photographs could not be read and were left out:\n{listed}")


def _summary(name: str, change: Change) -> str:
    parts = [
        f"{count} {action}"
        for count, action in (
            (change.inserted, "added"),
            (change.updated, "replaced"),
            (change.deleted, "deleted"),
            (change.skipped, "already present and skipped"),
        )
        if count
    ]
    return f"{name}: {', '.join(parts) or 'no change'} (version {change.version})"


def _patches(count: int, size: int) -> str:
    return f"{count:,} photographs, {size / count / 1000:.1f} kB each" if count else "none"


def _info_rows(contents: GalleryInfo) -> list[tuple[str, str]]:
    south, west, north, east = contents.bbox_deg
    return [
        ("candidates", f"{contents.candidates:,}"),
        ("photographs", f"{contents.photographs:,}"),
        ("thumbnails", f"{contents.thumbnails:,}"),
        *((f"candidates in {city or 'unknown city'}", f"{count:,}") for city, count in contents.cities.items()),
        *((f"entries from {source or 'unknown source'}", f"{count:,}") for source, count in contents.sources.items()),
        *(
            (f"photographs under {licence or 'no stated licence'}", f"{count:,}")
            for licence, count in contents.licences.items()
        ),
        ("authors", f"{contents.authors:,}" if contents.authors else "not stated"),
        ("latitude, longitude", f"{south:.5f}, {west:.5f} to {north:.5f}, {east:.5f}"),
        ("captured", "unknown" if contents.captured is None else " to ".join(contents.captured)),
        (
            "accuracy",
            "unknown"
            if contents.accuracy_m is None
            else f"median {contents.accuracy_m[0]:.1f} m, 95 % within {contents.accuracy_m[1]:.1f} m",
        ),
        ("model", contents.fingerprint),
        ("dimension", str(contents.dim)),
        ("hubness", "measured" if contents.hubness else "not measured"),
        ("patch features", _patches(contents.patch_features, contents.patch_bytes)),
        *((f"index of {name}", index) for name, index in contents.indices.items()),
        ("size", f"{contents.bytes / 1e6:,.1f} MB"),
        ("version", f"{contents.version}, {contents.versions} readable"),
        *(("left out", f"{entry['path']}: {entry['reason']}") for entry in contents.meta.get("left_out") or []),
    ]
