"""From photographs to splits: `swclip.synth`, `swclip.prepare`, `swclip.split`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from swclip.api.objects import PathLike, as_manifest
from swclip.progress import count_progress

if TYPE_CHECKING:
    from swclip.data.manifest import Manifest
    from swclip.data.protocols import HoldOut, Protocol
    from swclip.data.splits import Splits
    from swclip.ingest.columns import ColumnNames
    from swclip.ingest.prepare import Layout, PrepareResult

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
    """Render street photographs of synthetic cities, with their manifest. The same arguments give the same bytes.

    Args:
        out: The folder for manifest.parquet and images/. Photographs that are there already are kept.
        cities: How many cities, 1 to 8.
        photos_per_city: Photographs of each city, four of each place; several numbers, one a city, make cities of
            different density.
        size_px: Width and height of a photograph.
        seed: Another seed builds other cities.
        gps_noise_m: Mean accuracy (one standard deviation) of the recorded positions; 0 records the true ones.
        captions: Write a caption for most photographs.
        maps: Draw a map tile for each photograph.
        workers: Processes. More than one (None for all cores) are started anew and import the calling script: it then
            needs `if __name__ == "__main__":`.
        progress: True for a bar, or a callback that is called with (done, total) photographs.

    Returns:
        The manifest, with the further columns true_lat_deg, true_lon_deg and district.

    Raises:
        ConfigError: An argument has a value that cannot work, or `out` holds something else.
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
    layout: Layout | None = None,
    crs: str | None = None,
    workers: int | None = None,
    progress: Progress = None,
) -> PrepareResult:
    """Make a manifest of a folder of photographs (positions from EXIF) or of a table of them.

    Every photograph is decoded once. What cannot be used goes to rejected.csv with a reason. Interrupted, the same call
    resumes. `swclip.ingest.prepare.prepare` lists the reasons.

    Args:
        source: A folder, or a CSV, TSV, Parquet, GeoParquet or GeoJSON file.
        out: Folder for manifest.parquet and rejected.csv.
        columns: Columns of the table whose names do not say what they hold.
        images: What relative paths of a table start from; the table's folder if not given.
        copy: Copy the photographs to OUT/images instead of pointing to where they are.
        strict: Raise at the first bad row or value.
        max_megapixels: Reject larger pictures from their header.
        city: City of all photographs.
        layout: "vpr": the folders of the place-recognition field, which say the splits too: they are written to
            OUT/splits.parquet and are the result's `splits`.
        crs: Projection of file names that have no UTM zone, such as "EPSG:32650".
        workers: Threads that decode; the number of processors if not given.
        progress: True for a bar, or a callback that is called with (done, total) photographs.

    Returns:
        The manifest as `manifest`, the rejected rows, notes, and `splits` where the layout has them.

    Raises:
        InputError: The source cannot be read, or nothing in it can be used.
        DiskFullError: The disk filled; the same call resumes.
    """
    from swclip.ingest.prepare import prepare as make
    from swclip.ingest.vpr_folders import write_vpr_splits

    with count_progress(progress, "Verifying photographs") as report:
        result = make(
            source, out, columns=columns, images=images, copy=copy, strict=strict, max_megapixels=max_megapixels,
            city=city, layout=layout, crs=crs, workers=workers, progress=report,
        )  # fmt: skip
    return result if layout is None else replace(result, splits=write_vpr_splits(result.manifest))


def split(
    manifest: Manifest | PathLike,
    protocol: Protocol = "known-places",
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
    """Split a manifest into training, validation and queries, with the candidates of an answer and a leakage report.

    Args:
        manifest: The photographs, or the folder of their manifest.
        protocol: "known-places": training has seen the area of each query. "new-streets": whole blocks are left out,
            with a buffer round them. "new-city": a whole city is left out.
        out: The Parquet file to write, or a folder for splits.parquet; candidates and leakage report go beside it. If
            not given, the splits stay in memory, and `train` keeps them with the run.
        block_m: Side of the square blocks, metres.
        buffer_m: Photographs this near to a query are kept out of training (new-streets, new-city), metres.
        query_share: Share of the places, captures or blocks whose photographs become queries.
        val_share: Share of the remaining ones whose photographs become validation queries; 0 for none.
        seed: Seed of the draw.
        hold_out: What known-places holds out: "place", "capture", or "auto".
        gallery: The candidates of an answer: "photographs", "positions", "grid:SPACING_M" or "auto".
        city: The city that new-city leaves out; drawn by the seed if not given.
        picture_hash: Compare the pictures for the leakage report.
        near_duplicate_bits: Pictures whose perceptual hashes differ in at most this many of 64 bits are
            near-duplicates.
        progress: True for a bar, or a callback that is called with (done, total) pictures.

    Returns:
        The splits; `leakage` is the report, `meta["notes"]` says what was chosen and why.

    Raises:
        ConfigError: An option has a value that cannot work.
        InputError: There are too few cities, blocks or places, or the city is not there.
    """
    from swclip.data.split_files import split_manifest

    options: dict[str, Any] = {
        "block_m": block_m, "buffer_m": buffer_m, "query_share": query_share, "val_share": val_share, "seed": seed,
        "hold_out": hold_out, "gallery": gallery, "city": city, "picture_hash": picture_hash,
        "near_duplicate_bits": near_duplicate_bits,
    }  # fmt: skip
    with count_progress(progress if picture_hash else None, "Comparing pictures") as report:
        return split_manifest(as_manifest(manifest), protocol, out, progress=report, **options)


def split_each_city(
    manifest: Manifest | PathLike, out: PathLike, *, progress: Progress = None, **options: Any
) -> list[Splits]:
    """Leave out each city in turn: the splits of new-city, a file a city, which `benchmark` takes as they are.

    Args:
        manifest: The photographs, or the folder of their manifest.
        out: The folder for the files.
        progress: True for a bar, or a callback that is called with (done, total) pictures.
        **options: As for `split`, without protocol and city.

    Raises:
        ConfigError: An option has a value that cannot work, or `out` is the name of a file.
        InputError: There are fewer than two cities.
    """
    from swclip.data.split_files import split_each_city as split_cities

    with count_progress(progress if options.get("picture_hash", True) else None, "Comparing pictures") as report:
        return split_cities(as_manifest(manifest), out, progress=report, **options)
