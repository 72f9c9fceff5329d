"""`swclip prepare`: make a manifest from a folder or a table of photographs."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from swclip.cli.help import ADVANCED, group
from swclip.cli.options import PANORAMAS, ViewsOptions
from swclip.ingest.layouts import LayoutName

if TYPE_CHECKING:
    from swclip.data.manifest import Manifest
    from swclip.ingest.columns import ColumnNames


@Parameter(name="*", group=group("Columns of the table").group)
@dataclass(frozen=True)
class ColumnOptions:
    """Columns that have other names than those that are detected."""

    image_column: str | None = None
    "Column of image paths. Columns with common names are detected; name the others."
    lat_column: str | None = None
    "Column of latitudes in degrees. NAME[0] is the first number of a column of pairs."
    lon_column: str | None = None
    "Column of longitudes in degrees. NAME[1] is the second number of a column of pairs."
    lat_ref_column: str | None = None
    "Column of the letters N and S of latitudes without a sign."
    lon_ref_column: str | None = None
    "Column of the letters E and W of longitudes without a sign."
    position_column: str | None = None
    "Column of points (WKT, WKB, GeoJSON) or coordinate pairs."
    heading_column: str | None = None
    "Column of headings, degrees clockwise from north."
    accuracy_column: str | None = None
    "Column of GPS accuracies in metres."
    time_column: str | None = None
    "Column of capture times."
    city_column: str | None = None
    "Column of cities."
    place_column: str | None = None
    "Column of place ids, shared by all photographs of one place."
    sequence_column: str | None = None
    "Column of sequence ids, shared by all photographs of one drive."
    licence_column: str | None = None
    "Column of licences."
    source_column: str | None = None
    "Column of sources."
    image_id_column: str | None = None
    "Column of unique ids."
    caption_column: str | None = None
    "Column of captions."
    map_column: str | None = None
    "Column of paths of map tiles."
    author_column: str | None = None
    "Column of the people or organisations to be named with the photographs."
    source_url_column: str | None = None
    "Column of addresses of the photographs' pages."

    def names(self) -> ColumnNames:
        """The columns by role."""
        from swclip.ingest.columns import ColumnNames

        return ColumnNames(**{field.name.removesuffix("_column"): getattr(self, field.name) for field in fields(self)})


@Parameter(name="*", group=PANORAMAS.group)
@dataclass(frozen=True)
class RecognitionOptions:
    """Which pictures are panoramas."""

    panoramas: Literal["auto", "gpano", "all"] = "auto"
    "Pictures that are panoramas: by XMP GPano or edges that join (auto), by GPano alone, or all of twice their height."


def prepare(
    source: Path,
    /,
    *,
    out: Path,
    city: str | None = None,
    images: Path | None = None,
    copy: bool = False,
    layout: LayoutName | None = None,
    crs: str | None = None,
    strict: Annotated[bool, ADVANCED] = False,
    max_megapixels: Annotated[float, ADVANCED] = 100.0,
    workers: Annotated[int | None, ADVANCED] = None,
    columns: ColumnOptions | None = None,
    views: ViewsOptions | None = None,
    recognition: RecognitionOptions | None = None,
) -> None:
    """Make a manifest from geotagged photographs.

    The photographs are in a folder or named in a table. Every photograph is decoded once. Rejected rows are written to
    rejected.csv with a reason. If interrupted, run the same command again to resume.

    Args:
        source: A folder (positions from EXIF), a published data set as it lies, or a CSV, TSV, Parquet, GeoParquet or
            GeoJSON file, GeoPackage or Shapefile.
        out: Output folder for manifest.parquet and rejected.csv.
        copy: Copy the photographs to OUT/images (and map tiles to OUT/maps) instead of referring to their paths.
        strict: Stop at the first invalid row or value.
        city: City of all photographs.
        images: Folder that relative paths of images and map tiles start from; by default the folder of the table.
        max_megapixels: Reject larger images by their header, before decoding.
        layout: How a published data set or a program arranged the files, such as gsv-cities, msls or takeout; guessed
            where it is evident. vpr: folders [train|val|test/]database and queries, with positions in file names
            @easting@northing@... . none: a plain folder or table. Splits that the data set publishes are written to
            OUT/splits.parquet, so that `swclip split` is not needed.
        crs: Projection of positions in file names without a UTM zone, such as EPSG:32650.
        workers: Threads that decode photographs; by default one per processor.
        columns: Columns of the table.
        views: Perspective views of panoramas.
        recognition: Which pictures are panoramas.

    Examples:
        swclip prepare photographs --out data
        # a table; the columns of its positions have unusual names
        swclip prepare trip.csv --lat-column breite --lon-column laenge --out data
        # four views of each 360-degree panorama
        swclip prepare panoramas --views 4 --out data
        # folders of a place-recognition dataset, with their splits
        swclip prepare pitts30k --layout vpr --crs EPSG:32617 --out data
        # a data set as it was downloaded: its layout is recognised
        swclip prepare msls --out data
    """
    from swclip.cli.console import console, next_step, print_table
    from swclip.data.published_splits import has_published_splits
    from swclip.ingest.prepare import REJECTED_NAME
    from swclip.ingest.prepare import prepare as make
    from swclip.progress import progress_bar

    options = (views or ViewsOptions()).options((recognition or RecognitionOptions()).panoramas)
    with progress_bar("Preparing photographs" + (", making views" if options is not None else "")) as progress:
        result = make(
            source,
            out,
            columns=(columns or ColumnOptions()).names(),
            images=images,
            copy=copy,
            strict=strict,
            max_megapixels=max_megapixels,
            city=city,
            layout=layout,
            crs=crs,
            views=options,
            workers=workers,
            progress=progress,
        )
    rows = [["kept", str(len(result.manifest)), ""]]
    for reason, rejected in result.rejected.groupby("reason", sort=False):
        first = rejected.iloc[0]
        # Not as markup: a file may be called "[bold].jpg".
        where = f"row {first['row']}: {first['image'] or 'no image'}"
        rows.append([f"rejected: {reason}", str(len(rejected)), where])
    print_table(f"{source.name or source}: {result.n_rows} rows", ["", "photographs", "first"], rows)
    console.print(f"Columns: {result.columns_line()}", soft_wrap=True, markup=False)
    for note in result.notes:
        console.print(f"Note: {note.code} ({note.count}): {note.detail}", soft_wrap=True, markup=False)
    if len(result.rejected):
        console.print(f"All rejected rows: {out / REJECTED_NAME}", soft_wrap=True, markup=False)
    print(result.manifest.path)
    if result.layout == "vpr" or has_published_splits(result.manifest):
        splits = _published(result.manifest)
        next_step("prepare", "swclip", "train", out, "--splits", splits, "--out", "runs/first")
    else:
        splits = out / "splits.parquet"
        next_step("prepare", "swclip", "split", out, "--protocol", "known-places", "--out", splits)


def _published(manifest: Manifest) -> Path:
    """Write the splits that the data set publishes, with their leakage report; return their file."""
    from swclip.cli.console import console
    from swclip.cli.split import print_leakage
    from swclip.data.split_files import write_published_splits

    splits = write_published_splits(manifest)
    for note in splits.meta["notes"]:
        console.print(note, soft_wrap=True, markup=False)
    print_leakage(splits.leakage or {})
    print(splits.path)
    return splits.path
