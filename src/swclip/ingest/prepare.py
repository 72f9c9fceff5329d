"""Manifest from a folder or table of photographs: verification, rejections with reasons, resuming after a stop."""

from __future__ import annotations

import errno
import math
import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from swclip.data.manifest import MANIFEST_NAME, Manifest, write_manifest
from swclip.data.splits import Splits
from swclip.errors import ConfigError, DiskFullError, InputError
from swclip.files import atomic_file, guarded_cell, sha256_of_file
from swclip.geo.distance import haversine_m
from swclip.imaging.panoramas import ViewOptions, as_view_options
from swclip.ingest.columns import POSITION_ROLES, ColumnNames
from swclip.ingest.file_names import stated_name, utf8_problem
from swclip.ingest.layouts import LayoutName
from swclip.ingest.layouts.layout import LayoutSource
from swclip.ingest.layouts.registry import guessed_layout, read_layout
from swclip.ingest.manifest_columns import manifest_frame
from swclip.ingest.panorama_views import panorama_notes, replace_panoramas
from swclip.ingest.rejections import Ledger, Note, Rejection, Row
from swclip.ingest.source_table import SourceTable
from swclip.ingest.sources import read_source, tables_in
from swclip.ingest.swapped_coordinates import exif_swap_message
from swclip.ingest.typed_rows import drop_duplicate_images, drop_duplicate_rows, position_rejection, typed_rows
from swclip.ingest.values import parse_timestamp
from swclip.ingest.verification import WORK_NAME, Verdict, WorkFile, verify_all

REJECTED_NAME = "rejected.csv"
_DISAGREE_M = 1_000.0


@dataclass(frozen=True)
class PrepareResult:
    """Result of `prepare`.

    Attributes:
        manifest: The manifest, as written.
        rejected: Columns row, image, reason, detail; as written to `rejected.csv`.
        notes: What was done to rows that were kept, and what a reader should know.
        n_rows: Rows or files of the source.
        columns: {role: column} of the source, as used; also in the metadata of the manifest (made_with). Positions
            of a folder are of EXIF.
        layout: The layout in which the source was read; None for a plain folder or table.
        splits: The splits that the source publishes, where `swclip.prepare` wrote them; None for other sources.
    """

    manifest: Manifest
    rejected: pd.DataFrame
    notes: list[Note]
    n_rows: int
    columns: dict[str, str] = field(default_factory=dict)
    layout: str | None = None
    splits: Splits | None = None

    def __repr__(self) -> str:
        return (
            f"PrepareResult({len(self.manifest):,} of {self.n_rows:,} kept, {len(self.rejected):,} rejected, "
            f"{self.manifest.path})"
        )

    def columns_line(self) -> str:
        """Which column became which role, in one line."""
        return ", ".join(f"{role} = {column!r}" for role, column in self.columns.items())


def prepare(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    columns: ColumnNames | None = None,
    images: str | os.PathLike[str] | None = None,
    copy: bool = False,
    strict: bool = False,
    max_megapixels: float = 100.0,
    city: str | None = None,
    layout: LayoutName | None = None,
    crs: str | None = None,
    views: int | ViewOptions | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PrepareResult:
    """Make a manifest from a folder of photographs (positions from EXIF) or from a table of photographs.

    Every photograph is decoded completely. Rows that cannot be used are written to `rejected.csv` with a reason:
    missing, empty, truncated, not-an-image, too-large, coordinate-missing, coordinate-nan, coordinate-out-of-range,
    coordinate-zero, exif-position-unusable (neither the table nor EXIF states a position that can be read in one way
    alone), malformed-row, duplicate-row (the same image and position), duplicate-image (the same bytes at the
    same place; the first is kept) and duplicate-image-other-place (the same bytes more than 25 m apart; none is kept,
    because the correct position is unknown). Values of the table take precedence over EXIF, which fills empty values.

    A table may name a caption and a map tile for each photograph (columns `caption` and `map_path` of the manifest).
    Tiles are decoded completely too. A tile that cannot be used is noted (map-missing, map-truncated and so on) and
    omitted; the photograph is kept.

    Args:
        source: A folder, CSV, TSV, Parquet, GeoParquet or GeoJSON file, GeoPackage or Shapefile.
        out: Folder for `manifest.parquet` and `rejected.csv`.
        columns: Columns named by the user; the others are found by synonyms.
        images: Base folder of relative image and map tile paths in a table; the folder of the table if None.
        copy: Copy the photographs to `out/images` and map tiles to `out/maps` instead of referring to the originals.
        strict: Raise at the first invalid row or value instead of rejecting it.
        max_megapixels: Larger pictures are rejected from their header.
        city: City of all photographs.
        layout: How a published data set or a program arranged the source; see `layouts.registry`. None guesses it
            where it is evident, with a note; none reads a plain folder or table. Photographs that are inside a table
            are extracted to `out/images`.
        crs: Projection of file names without a UTM zone, such as EPSG:32650.
        views: Number of perspective views by which each equirectangular panorama is replaced, or all options of them;
            see `replace_panoramas`. None keeps panoramas whole.
        workers: Number of decoding threads.
        progress: Called with the number of photographs extracted from tables and the total number, if there are any;
            then with that of verified photographs and map tiles; then with that of panoramas whose views are made
            added to both.

    Returns:
        The manifest, the rejected rows and the notes.

    Raises:
        InputError: The source cannot be read, its columns are ambiguous or swapped, no row can be used, or (if
            strict) a row is invalid.
        DiskFullError: The disk is full. A run with the same arguments resumes.
    """
    folder = Path(out)
    if not max_megapixels > 0.0:
        raise InputError(f"--max-megapixels {max_megapixels}: must be above 0.")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; --out names a folder.")
    if (problem := utf8_problem(folder.absolute())) is not None:
        raise InputError(f"--out: {problem}")
    inside_itself = Path(source).is_dir() and folder.resolve() == Path(source).resolve()
    if copy and inside_itself:
        raise InputError(f"{folder}: --copy would copy the folder into itself; choose another --out, or omit --copy.")
    if views is not None and inside_itself:
        raise InputError(f"{folder}: views would be written into the folder of the panoramas; choose another --out.")
    options = as_view_options(views)
    name, table = _read(
        LayoutSource(
            path=Path(source),
            extracted=folder / "images",
            columns=columns or ColumnNames(),
            images=None if images is None else Path(images),
            excluded=None if inside_itself else folder,
            crs=crs,
            progress=progress,
        ),
        layout,
    )
    if copy and name == "hugging-face":
        raise ConfigError(f"--copy: the photographs of {source} are extracted to {folder / 'images'}; omit it.")
    ledger = Ledger(table.name, strict, table.place_of_row)
    for code, count, detail in table.notes:
        ledger.note(code, detail, count)
    rows = drop_duplicate_rows(typed_rows(table, ledger), ledger)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(f"{folder}: the disk is full; free some space and run again.") from error
        raise InputError(f"{folder}: cannot make the folder ({error.strerror}); choose another with --out.") from error
    max_pixels = int(max_megapixels * 1e6)
    with WorkFile(folder / WORK_NAME, max_pixels) as work:
        tiles = [row.map for row in rows if row.map is not None]
        paths = list(dict.fromkeys([*(row.path for row in rows), *tiles]))
        verdicts: dict[Path, Verdict] = {}
        by_path: dict[Path, list[Row]] = {}
        for row in rows:
            by_path.setdefault(row.path, []).append(row)
        complete: list[Row] = []
        pairs: list[tuple[float, float, float, float]] = []
        for path, verdict, resumed in verify_all(
            paths, work, max_pixels=max_pixels, workers=workers, progress=progress
        ):
            verdicts[path] = verdict
            if resumed and path in by_path:
                ledger.note("resumed", "photographs already verified by the interrupted run.")
            for row in by_path.get(path, ()):
                pairs.extend(_both_positions(row, verdict))
                if _complete(table, row, verdict, ledger):
                    complete.append(row)
        _compare_with_exif(table, pairs, ledger)
        accepted = drop_duplicate_images(sorted(complete, key=lambda row: row.index), verdicts, ledger)
        for row in accepted:
            _check_map_tile(table, row, verdicts, ledger)
        rejected = _write_rejected(folder / REJECTED_NAME, ledger.rejections, table)
        n_rows = len(table.rows) + len(table.malformed) + len(table.rejected)
        if not accepted:
            work.remove()
            raise InputError(_no_rows_message(table, folder, rejected, n_rows))
        frame = manifest_frame(table, accepted, city, ledger)
        panoramas = [verdicts[row.path].panorama for row in accepted]
        ledger.extend(panorama_notes(panoramas, options))
        if options is not None:

            def views_done(done: int, total: int) -> None:
                if progress is not None:
                    progress(len(paths) + done, len(paths) + total)

            frame, remarks = replace_panoramas(
                frame, panoramas, [row.sha256 for row in accepted], options, folder.absolute(),
                max_pixels=max_pixels, workers=workers, progress=views_done,
            )  # fmt: skip
            ledger.extend(remarks)
        if copy:
            whole = [path for path in dict.fromkeys(map(Path, frame["image_path"])) if path in verdicts]
            copied = dict(zip(whole, _copied(whole, verdicts, folder, "images"), strict=True))
            frame["image_path"] = [copied.get(Path(name), name) for name in frame["image_path"]]
            with_map = [row.map for row in accepted if row.map is not None]
            copies = dict(zip(with_map, _copied(with_map, verdicts, folder, "maps"), strict=True))
            if "map_path" in frame:
                frame["map_path"] = [None if pd.isna(name) else copies[Path(name)] for name in frame["map_path"]]
        roles = _roles_used(table)
        made_with: dict[str, Any] = {"columns": roles, **({} if name is None else {"layout": name})}
        if options is not None:
            made_with["views"] = asdict(options)
        manifest = write_manifest(folder / MANIFEST_NAME, frame, made_with=made_with)
        work.remove()
    return PrepareResult(manifest, rejected, ledger.notes, n_rows, roles, name)


def _roles_used(table: SourceTable) -> dict[str, str]:
    """The column of each role, with the positions as they were read."""
    others = {role: column for role, column in table.columns.items() if role not in POSITION_ROLES}
    positions = {"position": "EXIF"} if table.positions is None else table.positions.columns
    return {**others, **positions} if table.kind != "folder" or table.positions is not None else positions


def _read(source: LayoutSource, layout: LayoutName | None) -> tuple[str | None, SourceTable]:
    """Read the source; return the layout in which it is, with a note where it was guessed."""
    if layout is None:
        guess = guessed_layout(source)
        if guess is not None:
            table = read_layout(guess.name, source)
            detail = f"read in the layout {guess.name} ({guess.shape}); --layout none reads a plain folder or table."
            return guess.name, replace(table, notes=[("layout", 1, detail), *table.notes])
    elif layout != "none":
        return layout, read_layout(layout, source)
    if source.crs is not None:
        raise ConfigError(f"--crs {source.crs} is for file names of the layout vpr; add --layout vpr, or omit --crs.")
    return None, read_source(source.path, source.columns, images=source.images, excluded=source.excluded)


def _both_positions(row: Row, verdict: Verdict) -> list[tuple[float, float, float, float]]:
    exif = verdict.exif
    values = (row.lat_deg, row.lon_deg, exif.lat_deg, exif.lon_deg)
    finite = [value for value in values if value is not None and math.isfinite(value)]
    return [(finite[0], finite[1], finite[2], finite[3])] if len(finite) == 4 else []


def _compare_with_exif(table: SourceTable, pairs: list[tuple[float, float, float, float]], ledger: Ledger) -> None:
    swapped = exif_swap_message(table, pairs)
    if swapped is not None:
        raise InputError(swapped)
    if pairs:
        lat, lon, exif_lat, exif_lon = np.asarray(pairs, dtype=np.float64).T
        apart = int((haversine_m(lat, lon, exif_lat, exif_lon) > _DISAGREE_M).sum())
        if apart:
            detail = "the position in the table is more than 1 km from that in EXIF; the table's was used."
            ledger.note("exif-elsewhere", detail, apart)


def _complete(table: SourceTable, row: Row, verdict: Verdict, ledger: Ledger) -> bool:
    """Fill empty values of a row from its photograph; return False if the row is rejected."""
    column = table.columns["image"] if table.kind != "folder" else None
    if verdict.reason is not None:
        ledger.reject(Rejection(row.row, row.image, verdict.reason, verdict.detail, column, row.image))
        return False
    exif = verdict.exif
    row.sha256 = verdict.sha256
    unlocated = row.lat_deg is None or row.lon_deg is None or math.isnan(row.lat_deg) or math.isnan(row.lon_deg)
    used = {"packet"}
    if unlocated and exif.problem is None and exif.lat_deg is not None and exif.lon_deg is not None:
        used.add("position")
        row.lat_deg, row.lon_deg = exif.lat_deg, exif.lon_deg
        if table.positions is not None:
            ledger.note("position-from-exif", "positions that are empty in the table were read from EXIF.")
        elif table.kind != "folder":
            detail = f"no column of the table is read as positions; EXIF was used.{table.unread}"
            ledger.note("position-from-exif", detail)
    rejection = position_rejection(row, table.positions)
    if rejection is not None:
        if unlocated and exif.problem:
            rejection = replace(rejection, reason="exif-position-unusable", detail=f"{exif.problem}.")
        ledger.reject(rejection)
        return False
    if row.heading_deg is None:
        used.add("heading")
        row.heading_deg = exif.heading_deg
    row.accuracy_m = exif.accuracy_m if row.accuracy_m is None else row.accuracy_m
    if row.captured_at is None:
        used.add("time")
    taken = parse_timestamp(exif.captured_at) if row.captured_at is None else row.captured_at
    if row.captured_month is None or (taken is not None and f"{taken:%Y-%m}" == row.captured_month):
        row.captured_at, row.captured_month = taken, None
    for about, code, detail in exif.notes:
        if about in used:
            ledger.note(code, f"row {row.row} ({row.image}): {detail}")
    return True


def _check_map_tile(table: SourceTable, row: Row, verdicts: dict[Path, Verdict], ledger: Ledger) -> None:
    """Drop a map tile that cannot be used, and keep the photograph."""
    verdict = verdicts[row.map] if row.map is not None else None
    if verdict is not None and verdict.reason is not None:
        name = str((table.values("map") or [])[row.index])
        ledger.discard_value(row, f"map-{verdict.reason}", table.columns["map"], name, f"{name!r}: {verdict.detail}")
        row.map = None


def _write_rejected(path: Path, rejections: list[Rejection], table: SourceTable) -> pd.DataFrame:
    ordered = sorted(rejections, key=lambda rejection: rejection.row)
    if table.parts:
        ordered = [replace(r, detail=f"{r.detail} ({table.place_of_row(r.row)})") for r in ordered]
    frame = pd.DataFrame(
        # A name may hold bytes that are not UTF-8, which the text columns of pandas refuse.
        [(r.row, stated_name(r.image), r.reason, stated_name(r.detail)) for r in ordered],
        columns=["row", "image", "reason", "detail"],
    )
    with atomic_file(path) as beside:
        frame.map(guarded_cell).to_csv(beside, index=False)
    return frame


def _no_rows_message(table: SourceTable, folder: Path, rejected: pd.DataFrame, n_rows: int) -> str:
    counts = Counter(rejected["reason"])
    reasons = ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
    hint = ""
    absent = int(rejected["detail"].str.startswith("there is no such file").sum())
    if absent * 2 > n_rows and table.kind != "folder":
        hint = f" Image paths start from {table.folder}; name another folder with --images."
    elif counts.get("coordinate-missing", 0) * 2 > n_rows:
        tables = tables_in(table.folder) if table.kind == "folder" else []
        hint = f" Without positions in EXIF, give a table with image, lat and lon.{table.unread}"
        if tables:
            hint = f" Its photographs have no position in EXIF; give its table instead: {table.folder / tables[0]}"
    else:
        hint = f" Row {rejected['row'].iloc[0]}: {rejected['detail'].iloc[0]}"
    old = f" {folder / MANIFEST_NAME} is from an earlier run." if (folder / MANIFEST_NAME).exists() else ""
    return f"{table.name}: nothing in it can be used: {reasons}. See {folder / REJECTED_NAME} for details.{hint}{old}"


def _copied(paths: list[Path], verdicts: dict[Path, Verdict], folder: Path, into: str) -> list[str]:
    """Copy files to `folder/into`, keeping the subfolders below their common parent; return relative paths."""
    if not paths:
        return []
    try:
        base = os.path.commonpath([path.parent for path in paths])
        names = [Path(os.path.relpath(path, base)) for path in paths]
    except ValueError:  # on several drives of a Windows machine
        names = [Path(verdicts[path].sha256[:20] + path.suffix.lower()) for path in paths]
    for path, name in zip(paths, names, strict=True):
        target = folder / into / name
        if target.is_file() and sha256_of_file(target) == verdicts[path].sha256:
            continue
        try:
            with atomic_file(target) as beside:
                shutil.copyfile(path, beside)
        except OSError as error:
            raise InputError(f"{path}: cannot be copied to {target} ({error.strerror}).") from error
    return [(Path(into) / name).as_posix() for name in names]
