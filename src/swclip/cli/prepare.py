"""`swclip prepare`: make a manifest from a folder or a table of photographs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from swclip.data.manifest import Manifest


def prepare(
    source: Path,
    /,
    *,
    out: Path,
    copy: Annotated[bool, Parameter(negative="")] = False,
    strict: Annotated[bool, Parameter(negative="")] = False,
    city: str | None = None,
    images: Path | None = None,
    max_megapixels: float = 100.0,
    layout: Literal["vpr"] | None = None,
    crs: str | None = None,
    workers: int | None = None,
    image_column: str | None = None,
    lat_column: str | None = None,
    lon_column: str | None = None,
    lat_ref_column: str | None = None,
    lon_ref_column: str | None = None,
    position_column: str | None = None,
    heading_column: str | None = None,
    accuracy_column: str | None = None,
    time_column: str | None = None,
    city_column: str | None = None,
    place_column: str | None = None,
    sequence_column: str | None = None,
    licence_column: str | None = None,
    source_column: str | None = None,
    image_id_column: str | None = None,
    caption_column: str | None = None,
    map_column: str | None = None,
) -> None:
    """Make a manifest from a folder or a table of geotagged photographs.

    Every photograph is decoded once. Rejected rows are written to rejected.csv with a reason. If interrupted, run the
    same command again to resume.

    Args:
        source: A folder (positions from EXIF), or a CSV, TSV, Parquet, GeoParquet or GeoJSON file.
        out: Output folder for manifest.parquet and rejected.csv.
        copy: Copy the photographs to OUT/images (and map tiles to OUT/maps) instead of referring to their paths.
        strict: Stop at the first invalid row or value.
        city: City of all photographs.
        images: Folder that relative paths of images and map tiles start from; by default the folder of the table.
        max_megapixels: Reject larger images by their header, before decoding.
        layout: vpr: the usual folders of place-recognition datasets, [train|val|test/]database and queries, with
            positions in file names @easting@northing@...; OUT/splits.parquet is written too, so that `swclip split` is
            not needed.
        crs: Projection of positions in file names without a UTM zone, such as EPSG:32650.
        workers: Threads that decode photographs; by default one per processor.
        image_column: Column of image paths. Columns with common names are detected; name the others.
        lat_column: Column of latitudes in degrees. NAME[0] is the first number of a column of pairs.
        lon_column: Column of longitudes in degrees. NAME[1] is the second number of a column of pairs.
        lat_ref_column: Column of the letters N and S of latitudes without a sign.
        lon_ref_column: Column of the letters E and W of longitudes without a sign.
        position_column: Column of points (WKT, WKB, GeoJSON) or coordinate pairs.
        heading_column: Column of headings, degrees clockwise from north.
        accuracy_column: Column of GPS accuracies in metres.
        time_column: Column of capture times.
        city_column: Column of cities.
        place_column: Column of place ids, shared by all photographs of one place.
        sequence_column: Column of sequence ids, shared by all photographs of one drive.
        licence_column: Column of licences.
        source_column: Column of sources.
        image_id_column: Column of unique ids.
        caption_column: Column of captions.
        map_column: Column of paths of map tiles.
    """
    from swclip.cli.console import console, print_table
    from swclip.ingest.columns import ColumnNames
    from swclip.ingest.prepare import REJECTED_NAME
    from swclip.ingest.prepare import prepare as make
    from swclip.progress import progress_bar

    columns = ColumnNames(
        image=image_column,
        lat=lat_column,
        lon=lon_column,
        lat_ref=lat_ref_column,
        lon_ref=lon_ref_column,
        position=position_column,
        heading=heading_column,
        accuracy=accuracy_column,
        time=time_column,
        city=city_column,
        place=place_column,
        sequence=sequence_column,
        licence=licence_column,
        source=source_column,
        image_id=image_id_column,
        caption=caption_column,
        map=map_column,
    )
    with progress_bar("Verifying photographs") as progress:
        result = make(
            source,
            out,
            columns=columns,
            images=images,
            copy=copy,
            strict=strict,
            max_megapixels=max_megapixels,
            city=city,
            layout=layout,
            crs=crs,
            workers=workers,
            progress=progress,
        )
    rows = [["kept", str(len(result.manifest)), ""]]
    for reason, group in result.rejected.groupby("reason", sort=False):
        first = group.iloc[0]
        # Not as markup: a file may be called "[bold].jpg".
        where = f"row {first['row']}: {first['image'] or 'no image'}"
        rows.append([f"rejected: {reason}", str(len(group)), where])
    print_table(f"{source.name or source}: {result.n_rows} rows", ["", "photographs", "first"], rows)
    console.print(f"Columns: {result.columns_line()}", soft_wrap=True, markup=False)
    for note in result.notes:
        console.print(f"Note: {note.code} ({note.count}): {note.detail}", soft_wrap=True, markup=False)
    if len(result.rejected):
        console.print(f"All rejected rows: {out / REJECTED_NAME}", soft_wrap=True, markup=False)
    print(result.manifest.path)
    if layout == "vpr":
        _split_by_folder(result.manifest)


def _split_by_folder(manifest: Manifest) -> None:
    """Write the splits that the folders define, with their leakage report."""
    from swclip.cli.console import console, print_table
    from swclip.ingest.vpr_folders import write_vpr_splits

    splits = write_vpr_splits(manifest)
    report = splits.leakage or {}
    counts = {**report["counts"], "query candidates": report["query"]["candidates"]["n"]}
    print_table("Splits (vpr)", ["", "photographs"], [[name, f"{number:,}"] for name, number in counts.items()])
    for note in [*splits.meta["notes"], *report["warnings"]]:
        console.print(note, soft_wrap=True, markup=False)
    print(splits.path)
