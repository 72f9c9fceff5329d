"""`swclip prepare`: a folder or table of photographs to a manifest."""

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
    """Make a manifest of a folder of photographs, or of a table of them.

    Every photograph is decoded once. What cannot be used goes to rejected.csv with a reason. Interrupted, the same
    command goes on where it stopped.

    Args:
        source: A folder (positions from EXIF), or a CSV, TSV, Parquet, GeoParquet or GeoJSON file.
        out: Folder for manifest.parquet and rejected.csv.
        copy: Copy the photographs to OUT/images (map tiles to OUT/maps) instead of pointing to where they are.
        strict: Stop at the first bad row or value, naming it.
        city: City of all photographs.
        images: What relative paths of a table, of images and map tiles, start from; its own folder if not given.
        max_megapixels: Reject larger pictures from their header, before decoding.
        layout: vpr: the folders of the place-recognition field, [train|val|test/]database and queries, with positions
            in file names @easting@northing@...; writes OUT/splits.parquet too, which needs no `swclip split`.
        crs: Projection of file names that have no UTM zone, such as EPSG:32650.
        workers: Threads that decode; the number of processors if not given.
        image_column: Column of image paths, if its name does not say so.
        lat_column: Column of latitudes in degrees.
        lon_column: Column of longitudes in degrees.
        heading_column: Column of headings, degrees clockwise from north.
        accuracy_column: Column of GPS accuracies in metres.
        time_column: Column of times of capture.
        city_column: Column of cities.
        place_column: Column of place ids: the same for all photographs of one place.
        sequence_column: Column of sequence ids: the same for all photographs of one drive.
        licence_column: Column of licences.
        source_column: Column that says where a photograph came from.
        image_id_column: Column of unique ids.
        caption_column: Column of words about each photograph.
        map_column: Column of paths of a map tile for each photograph.
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
        # A file may be called "[bold].jpg": what comes from the user is not markup.
        where = f"row {first['row']}: {first['image'] or 'no image'}"
        rows.append([f"rejected: {reason}", str(len(group)), where])
    print_table(f"{source.name or source}: {result.n_rows} rows", ["", "photographs", "first"], rows)
    for note in result.notes:
        console.print(f"note: {note.code} ({note.count}): {note.detail}", soft_wrap=True, markup=False)
    if len(result.rejected):
        console.print(f"Every rejected row: {out / REJECTED_NAME}", soft_wrap=True, markup=False)
    print(result.manifest.path)
    if layout == "vpr":
        _split_by_folder(result.manifest)


def _split_by_folder(manifest: Manifest) -> None:
    """Splits as the folders say, with their leakage report."""
    from swclip.cli.console import console, print_table
    from swclip.ingest.vpr_folders import write_vpr_splits

    splits = write_vpr_splits(manifest)
    report = splits.leakage or {}
    counts = {**report["counts"], "candidates of the queries": report["query"]["candidates"]["n"]}
    print_table("Splits (vpr)", ["", "photographs"], [[name, f"{number:,}"] for name, number in counts.items()])
    for sentence in [*splits.meta["notes"], *report["warnings"]]:
        console.print(sentence, soft_wrap=True, markup=False)
    print(splits.path)
