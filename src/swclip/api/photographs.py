"""`swclip.synth`, `swclip.prepare`, `swclip.merge`, `swclip.inspect`, `swclip.split` and `swclip.split_each_city`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from swclip.api.objects import PathLike, as_manifest
from swclip.progress import count_progress

if TYPE_CHECKING:
    from swclip.data.manifest import Manifest
    from swclip.data.merge import MergeResult
    from swclip.data.protocols import HoldOut, Protocol
    from swclip.data.splits import Splits
    from swclip.imaging.panoramas import ViewOptions
    from swclip.ingest.columns import ColumnNames
    from swclip.ingest.layouts import LayoutName
    from swclip.ingest.prepare import PrepareResult
    from swclip.inspection.inspection import Inspection, Pixels
    from swclip.progress import Steps
    from swclip.reporting.tiles import Tiles

Progress = bool | Callable[[int, int], None] | None


def synth(
    out: PathLike,
    *,
    cities: int = 8,
    photos_per_city: int | Sequence[int] = 400,
    size_px: int = 128,
    seed: int = 0,
    gps_noise_m: float = 0.0,
    captions: bool = False,
    maps: bool = False,
    workers: int | None = 1,
    progress: Progress = None,
) -> Manifest:
    """Generate street photographs of synthetic cities, with their manifest. The same arguments give the same bytes.

    Args:
        out: Output folder for manifest.parquet and images/. Existing photographs are kept.
        cities: Number of cities, 1 to 8.
        photos_per_city: Number of photographs per city, four of each place. One number per city gives cities of
            different density.
        size_px: Width and height of a photograph in pixels.
        seed: Seed of the cities.
        gps_noise_m: Mean accuracy (one standard deviation, metres) of the recorded positions; 0 records the true ones.
        captions: Write captions for most photographs.
        maps: Draw a map tile for each photograph.
        workers: Number of processes; None for one per processor. Processes import the calling script, which therefore
            needs `if __name__ == "__main__":` if there is more than one.
        progress: True for a progress bar, or a callback that is called with (done, total) photographs.

    Returns:
        The manifest, with the additional columns true_lat_deg, true_lon_deg and district.

    Raises:
        ConfigError: An argument has an invalid value, or `out` contains other files.
    """
    from swclip.synthetic.generate import generate

    with count_progress(progress, "Rendering") as report:
        return generate(
            out, cities=cities, photos_per_city=photos_per_city, size_px=size_px, seed=seed, gps_noise_m=gps_noise_m,
            captions=captions, maps=maps, workers=workers, progress=report,
        )  # fmt: skip


def prepare(
    source: PathLike,
    out: PathLike,
    *,
    columns: ColumnNames | None = None,
    images: PathLike | None = None,
    copy: bool = False,
    strict: bool = False,
    max_megapixels: float = 100.0,
    city: str | None = None,
    layout: LayoutName | None = None,
    crs: str | None = None,
    views: int | ViewOptions | None = None,
    workers: int | None = None,
    progress: Progress = None,
) -> PrepareResult:
    """Make a manifest from a folder (positions from EXIF) or a table of photographs.

    Every photograph is decoded once. Rejected rows are written to rejected.csv with a reason;
    `swclip.ingest.prepare.prepare` lists the reasons. After an interruption the same call resumes.

    Args:
        source: A folder, or a CSV, TSV, Parquet, GeoParquet or GeoJSON file, GeoPackage or Shapefile.
        out: Output folder for manifest.parquet and rejected.csv.
        columns: Names of the table's columns, where they are not detected.
        images: Folder that relative paths of a table start from; by default the folder of the table.
        copy: Copy the photographs to OUT/images instead of referring to their paths.
        strict: Raise at the first invalid row or value.
        max_megapixels: Reject larger images by their header.
        city: City of all photographs.
        layout: How a published data set or a program arranged the files, such as "gsv-cities" or "vpr"; guessed where
            it is evident, and "none" for a plain folder or table. Splits that the data set publishes are written to
            OUT/splits.parquet, and returned as `splits`.
        crs: Projection of positions in file names without a UTM zone, such as "EPSG:32650".
        views: Number of perspective views that replace each equirectangular panorama (4: one every 90 degrees), or
            `swclip.imaging.panoramas.ViewOptions`; None keeps panoramas whole.
        workers: Threads that decode photographs; by default one per processor.
        progress: True for a progress bar, or a callback that is called with (done, total) photographs.

    Returns:
        The result with `manifest`, the rejected rows, notes, and `splits` where the layout defines them.

    Raises:
        InputError: The source cannot be read, or contains no usable photograph.
        DiskFullError: The disk is full; the same call resumes.
    """
    from swclip.data.published_splits import has_published_splits
    from swclip.data.split_files import write_published_splits
    from swclip.ingest.prepare import prepare as make

    with count_progress(progress, "Preparing photographs") as report:
        result = make(
            source, out, columns=columns, images=images, copy=copy, strict=strict, max_megapixels=max_megapixels,
            city=city, layout=layout, crs=crs, views=views, workers=workers, progress=report,
        )  # fmt: skip
    if result.layout != "vpr" and not has_published_splits(result.manifest):
        return result
    return replace(result, splits=write_published_splits(result.manifest))


def merge(manifests: Sequence[Manifest | PathLike], out: PathLike, *, progress: Progress = None) -> MergeResult:
    """Merge manifests into one. The photographs stay where they are.

    A photograph that several manifests have is kept once; ids that several have for different things begin with the
    name of their manifest; `swclip.data.merge.merge_manifests` states the rules.

    Args:
        manifests: Two or more, or their folders.
        out: Output folder for manifest.parquet and duplicates.csv.
        progress: True for a progress bar, or a callback that is called with (done, total) photographs whose bytes are
            compared.

    Returns:
        The result with `manifest`, `sources`, `duplicates`, `renamed` and `notes`.

    Raises:
        ConfigError: There are fewer than two manifests, one is given twice, or `out` is one of their folders.
        InputError: No photograph would remain.
    """
    from swclip.data.merge import merge_manifests

    with count_progress(progress, "Comparing photographs") as report:
        return merge_manifests([as_manifest(manifest) for manifest in manifests], out, progress=report)


def inspect(
    manifest: Manifest | PathLike,
    out: PathLike | None = None,
    *,
    pixels: Pixels = "auto",
    seed: int = 0,
    pictures: bool = True,
    tiles: Tiles | None = None,
    workers: int | None = None,
    command: str | None = None,
    progress: bool | Steps | None = None,
) -> Inspection:
    """Inspect a manifest: density, captures, sequences, suspicious photographs, and the splits that it can bear.

    Measures of photographs are kept in the cache folder: each is read once, and an interrupted call resumes.

    Args:
        manifest: The manifest, or its folder.
        out: Folder for inspection.html, inspection.json, suspicious.csv and photographs.parquet; without it, nothing is
            written.
        pixels: How many photographs are read for blur, brightness, duplicates and cameras: "all", "none", a number
            drawn at random, or "auto": all of up to 20,000, else so many.
        seed: Seed of that sample.
        pictures: Embed suspicious photographs in the page.
        tiles: Map tiles below the map of the page, which the reader's browser loads.
        workers: Decoding threads; by default one per processor.
        command: The command line, for the record.
        progress: True for progress bars, or a callback that is called with (step, done, total).

    Returns:
        The inspection: `report` (typed figures), `suspicious` and `photographs` (tables), `recommended` (the split to
        begin with, with its command).

    Raises:
        InputError: The manifest has no photographs, or the folder cannot be written.
        ConfigError: `pixels` is negative.
    """
    from swclip.inspection.inspection import inspect_manifest
    from swclip.progress import step_progress
    from swclip.reporting.inspection_page import save_inspection

    with step_progress(progress) as report:
        inspection = inspect_manifest(
            as_manifest(manifest),
            pixels=pixels,
            seed=seed,
            command=command,
            workers=workers,
            progress=report,
        )
    if out is not None:
        save_inspection(inspection, out, pictures=pictures, tiles=tiles)
    return inspection


def pack(
    manifest: Manifest | PathLike, out: PathLike, *, workers: int | None = None, progress: Progress = None
) -> Manifest:
    """Write a manifest and its photographs as one Lance table, which every function reads as it reads the manifest.

    After an interruption the same call resumes.

    Args:
        manifest: The manifest, or its folder.
        out: A folder, or an object store's URL, such as "s3://bucket/leeds".
        workers: Threads that read photographs; by default one per processor.
        progress: True for a progress bar, or a callback that is called with (done, total) photographs.

    Returns:
        The packed manifest, with the same rows, order and digest: splits of the one are valid for the other.

    Raises:
        InputError: A photograph is missing, or `out` cannot be written.
        MismatchError: `out` has a pack of another manifest.
        DiskFullError: The disk is full; the same call resumes.
    """
    from swclip.data.pack import pack as write_pack

    with count_progress(progress, "Packing photographs") as report:
        return write_pack(as_manifest(manifest), out, workers=workers, progress=report)


def split(
    manifest: Manifest | PathLike,
    protocol: Protocol | Literal["published"] = "known-places",
    out: PathLike | None = None,
    *,
    block_m: float = 100.0,
    buffer_m: float = 20.0,
    query_share: float = 0.2,
    val_share: float = 0.1,
    seed: int = 0,
    hold_out: HoldOut = "auto",
    gallery: str = "auto",
    city: str | None = None,
    picture_hash: bool = True,
    near_duplicate_bits: int = 6,
    progress: Progress = None,
) -> Splits:
    """Split a manifest into training photographs and queries, with candidates and a leakage report.

    Args:
        manifest: The manifest, or its folder.
        protocol: "known-places": the area of each query was seen in training. "new-streets": whole blocks are held out,
            with a buffer around them. "new-city": a whole city is held out. "published": the splits that the data set
            has of its own, in the column published_split that `prepare` with a layout fills.
        out: The Parquet file to write, or a folder for splits.parquet; candidates and leakage report are written beside
            it. Without it, the splits stay in memory, and `train` saves them with the run.
        block_m: Side of the square blocks in metres.
        buffer_m: Photographs within this distance of a query are excluded from training (new-streets, new-city), in
            metres.
        query_share: Share of the places, captures or blocks whose photographs become queries.
        val_share: Share of the remaining ones whose photographs become validation queries; 0 for none.
        seed: Seed of the random split.
        hold_out: What known-places holds out: "place", "capture", or "auto".
        gallery: The candidates of the answers: "photographs", "positions", "grid:SPACING_M" or "auto".
        city: The city that new-city holds out; chosen by the seed by default.
        picture_hash: Compare images for the leakage report.
        near_duplicate_bits: Images whose 64-bit perceptual hashes differ in at most this many bits count as
            near-duplicates.
        progress: True for a progress bar, or a callback that is called with (done, total) pictures.

    Returns:
        The splits, with the leakage report as `leakage` and notes on automatic choices in `meta["notes"]`.

    Raises:
        ConfigError: An option has an invalid value.
        InputError: There are too few cities, blocks or places, or the city does not exist.
    """
    from swclip.data.split_files import split_manifest
    from swclip.progress import step_progress

    options: dict[str, Any] = {
        "block_m": block_m, "buffer_m": buffer_m, "query_share": query_share, "val_share": val_share, "seed": seed,
        "hold_out": hold_out, "gallery": gallery, "city": city, "picture_hash": picture_hash,
        "near_duplicate_bits": near_duplicate_bits,
    }  # fmt: skip
    with step_progress(_picture_steps(progress)) as report:
        return split_manifest(as_manifest(manifest), protocol, out, progress=report, **options)


def split_each_city(
    manifest: Manifest | PathLike, out: PathLike, *, progress: Progress = None, **options: Any
) -> list[Splits]:
    """Hold out each city in turn: the splits of new-city for each city, which `benchmark` accepts.

    Args:
        manifest: The manifest, or its folder.
        out: The folder for the files.
        progress: True for a progress bar, or a callback that is called with (done, total) pictures.
        **options: As for `split`, without protocol and city.

    Raises:
        ConfigError: An option has an invalid value, or `out` is a file.
        InputError: There are fewer than two cities.
    """
    from swclip.data.split_files import split_each_city as split_cities
    from swclip.progress import step_progress

    with step_progress(_picture_steps(progress)) as report:
        return split_cities(as_manifest(manifest), out, progress=report, **options)


def _picture_steps(progress: Progress) -> bool | Steps | None:
    """The steps of `split`: bars show all of them, a callback is called for the photographs that were read."""
    from swclip.data.split_files import READING

    if progress is None or isinstance(progress, bool):
        return progress
    return lambda step, done, total: progress(done, total) if step == READING else None
