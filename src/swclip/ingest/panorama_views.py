"""Equirectangular panoramas among photographs: recognised by their metadata or edges, and replaced by their views."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int64
from PIL import Image

from swclip.data.grouping import SAME_PLACE_M, distinct_positions, text_or_none
from swclip.geo.places import place_leaders
from swclip.imaging.decode import MAX_PIXELS, image_orientation
from swclip.imaging.panoramas import MIN_COVERED, Panorama, ViewOptions, covered_share, view_suffix, write_views
from swclip.ingest.rejections import Note
from swclip.ingest.xmp import XmpError, gpano_of_xmp
from swclip.progress import Count

VIEWS_FOLDER = "views"
_NAMESPACE = b"ns.google.com/photos/1.0/panorama"
# Of pictures reduced to about 100 rows: the mean difference between the columns at the seam, and between neighbours in
# the rows at the poles, over that between neighbours anywhere.
_SEAM_RATIO, _POLE_RATIO = 2.5, 0.5


def recognise_panorama(
    image: Image.Image, size_px: tuple[int, int], sidecar: tuple[str, bytes] | None = None
) -> Panorama | None:
    """Recognise an equirectangular panorama.

    Args:
        image: The decoded picture, possibly reduced.
        size_px: Width and height in its file.
        sidecar: Name and content of the photograph's XMP sidecar file.

    Returns:
        The panorama, by XMP GPano of the picture or its sidecar, else by its shape; None for another picture.
    """
    width, height = size_px if image_orientation(image) < 5 else size_px[::-1]
    for packet in (image.info.get("xmp"), sidecar[1] if sidecar is not None else None):
        content = packet.encode() if isinstance(packet, str) else packet
        if not isinstance(content, bytes) or _NAMESPACE not in content.replace(b"\0", b""):
            continue
        try:
            panorama = panorama_from_gpano(gpano_of_xmp(content), width, height)
        except XmpError:  # noted by `read_exif`
            continue
        if panorama is not None:
            return panorama
    return panorama_from_pixels(image, width, height)


def panorama_from_gpano(properties: Mapping[str, str], width_px: int, height_px: int) -> Panorama | None:
    """Interpret the XMP properties of the namespace GPano.

    Args:
        properties: The properties by name without prefix, such as {"ProjectionType": "equirectangular"}.
        width_px: Width of the picture. It may have been resized since the properties were written.
        height_px: Height of the picture.

    Returns:
        The panorama, with its `problem` if the properties contradict themselves; None if they declare none.
    """
    projection = properties.get("ProjectionType", "")
    names = ("FullPanoWidthPixels", "FullPanoHeightPixels", "CroppedAreaImageWidthPixels", "CroppedAreaLeftPixels")
    if not projection and not any(name in properties for name in names):
        return None
    if projection and projection.lower() != "equirectangular":
        return Panorama("gpano", problem=f"its projection is {projection!r}, not equirectangular")
    try:
        angles = {name: _number(properties, f"Pose{name}Degrees") for name in ("Heading", "Pitch", "Roll")}
        area = {name: _number(properties, f"{name}Pixels") for name in (
            "CroppedAreaLeft", "CroppedAreaTop", "CroppedAreaImageWidth", "CroppedAreaImageHeight",
            "FullPanoWidth", "FullPanoHeight")}  # fmt: skip
    except ValueError as error:
        return Panorama("gpano", problem=str(error))
    # Without an area the picture is taken for the whole width; a whole panorama is twice as wide as high.
    cropped_width = area["CroppedAreaImageWidth"] or float(width_px)
    cropped_height = area["CroppedAreaImageHeight"] or cropped_width * height_px / width_px
    full_width = area["FullPanoWidth"] or 2.0 * (area["FullPanoHeight"] or cropped_width / 2.0)
    full_height = area["FullPanoHeight"] or full_width / 2.0
    left = (full_width - cropped_width) / 2.0 if area["CroppedAreaLeft"] is None else area["CroppedAreaLeft"]
    top = (full_height - cropped_height) / 2.0 if area["CroppedAreaTop"] is None else area["CroppedAreaTop"]
    shape = (
        f"an area of {cropped_width:g} x {cropped_height:g} at {left:g}, {top:g} of {full_width:g} x {full_height:g}"
    )
    pose = angles["Pitch"] or 0.0, angles["Roll"] or 0.0
    if min(cropped_width, cropped_height, full_width, full_height) <= 0 or min(left, top) < 0:
        return Panorama("gpano", problem=f"GPano states {shape}")
    if cropped_width > full_width + 1 or top + cropped_height > full_height + 1 or left > full_width:
        return Panorama("gpano", problem=f"GPano states {shape}, which is not inside of it")
    if abs(cropped_width * height_px - cropped_height * width_px) > 0.02 * cropped_width * height_px:
        return Panorama("gpano", problem=f"GPano states {shape}, but the picture has {width_px} x {height_px}")
    if not (abs(pose[0]) <= 90.0 and abs(pose[1]) <= 180.0):
        return Panorama("gpano", problem=f"GPano states a pitch of {pose[0]:g} and a roll of {pose[1]:g} degrees")
    heading = angles["Heading"]
    return Panorama(
        "gpano", None if heading is None else heading % 360.0, *pose, left / full_width, top / full_height,
        min(1.0, cropped_width / full_width), min(1.0 - top / full_height, cropped_height / full_height),
    )  # fmt: skip


def panorama_from_pixels(picture: Image.Image, width_px: int, height_px: int) -> Panorama | None:
    """Recognise a panorama without metadata: twice as wide as high, with edges that join.

    The left and right columns of a panorama are neighbours on the sphere, and its top and bottom rows are one direction
    each; the columns and rows of perspective photographs are not.

    Args:
        picture: The decoded picture, possibly reduced.
        width_px: Width of the picture in its file.
        height_px: Height of the picture in its file.

    Returns:
        The panorama with its evidence, edges or ratio; None for another shape.
    """
    if abs(width_px - 2 * height_px) > 2:
        return None
    small = picture.convert("L").reduce(max(1, picture.height // 96))
    rows = np.asarray(small, dtype=np.float64)
    if rows.shape[0] < 8 or rows.shape[1] < 16:
        return Panorama("ratio")
    along = np.abs(np.diff(rows, axis=1)).mean()
    seam = np.abs(rows[:, 0] - rows[:, -1]).mean()
    poles = max(np.abs(np.diff(rows[row])).mean() for row in (0, -1))
    return Panorama("edges" if seam <= _SEAM_RATIO * along and poles <= _POLE_RATIO * along else "ratio")


def _number(properties: Mapping[str, str], name: str) -> float | None:
    text = properties.get(name)
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"GPano:{name} is {text[:60]!r}, not a number")
    return number


def panorama_notes(panoramas: Sequence[Panorama | None], options: ViewOptions | None) -> list[Note]:
    """Say which pictures are panoramas or may be, and what was done about them.

    Args:
        panoramas: The panorama of each accepted photograph.
        options: The views that are made; None if none are.
    """
    recognised = [panorama for panorama in panoramas if panorama is not None]
    problems = [panorama.problem for panorama in recognised if panorama.problem is not None]
    of = {
        kind: sum(p.evidence == kind and p.problem is None for p in recognised) for kind in ("gpano", "edges", "ratio")
    }
    notes = []
    if options is None:
        if of["gpano"] or of["edges"]:
            detail = "equirectangular panoramas are kept whole; --views 4 makes four perspective views of each."
            notes.append(Note("panorama", of["gpano"] + of["edges"], detail))
        return notes
    if problems:
        notes.append(Note("panorama-unusable", len(problems), f"panoramas are kept whole: {problems[0]}."))
    shape = "pictures twice as wide as high, without XMP GPano,"
    if of["edges"]:
        taken = "whose edges join, were taken for panoramas; --panoramas gpano keeps them whole."
        kept = "whose edges join, are kept whole; --panoramas auto makes views of them."
        detail = kept if options.panoramas == "gpano" else taken
        notes.append(Note("panorama-by-edges", of["edges"], f"{shape} {detail}"))
    if of["ratio"]:
        taken = "whose edges do not join, were taken for panoramas; --panoramas auto keeps them whole."
        kept = "whose edges do not join, are kept whole; --panoramas all makes views of them."
        detail = taken if options.panoramas == "all" else kept
        notes.append(Note("panorama-by-shape", of["ratio"], f"{shape} {detail}"))
    return notes


@dataclass(frozen=True)
class _Job:
    """The views of one panorama: its row, its description with the heading of that row, and a file per direction."""

    row: int
    panorama: Panorama
    targets: dict[float, Path]


def replace_panoramas(
    frame: pd.DataFrame,
    panoramas: Sequence[Panorama | None],
    sha256: Sequence[str],
    options: ViewOptions,
    folder: str | os.PathLike[str],
    *,
    base: str | os.PathLike[str] | None = None,
    max_pixels: int = MAX_PIXELS,
    workers: int | None = None,
    progress: Count | None = None,
) -> tuple[pd.DataFrame, list[Note]]:
    """Replace each panorama of a manifest's table by its views, one row each, and write their pictures.

    The views have the panorama's position, time, sequence and further columns; their own heading_deg (empty if the
    panorama's is unknown), fov_deg and pitch_deg; and the panorama's id as panorama_id. They share a place_id: that of
    the panorama, else one for all rows within 1 m without a place. So no split separates them.

    Pictures that an earlier call made of the same panoramas with the same options are kept.

    Args:
        frame: The table of a manifest, with absolute paths.
        panoramas: The panorama of each row; None for other photographs.
        sha256: SHA-256 of the file of each row.
        options: The views.
        folder: Folder of the manifest; the pictures are in `views` in it.
        base: Folder of the panoramas, below which their names are those of their views; None for the common one.
        max_pixels: Limit of the pixels of a panorama.
        workers: Number of threads; by default one per processor, at most 4, because each holds a decoded panorama.
        progress: Called with the number of panoramas that are done, and their number.

    Returns:
        The table with a row for each view, and remarks on views that were left out.

    Raises:
        PhotographError: A panorama cannot be decoded.
        DiskFullError: The disk is full. Finished pictures are kept.
    """
    notes: list[Note] = []
    rows = [row for row, panorama in enumerate(panoramas) if options.includes(panorama)]
    jobs, unseen, partly, uncovered = [], 0, 0, 0
    for row, name in zip(rows, _names([Path(frame["image_path"].iloc[row]) for row in rows], base), strict=True):
        panorama = panoramas[row]
        assert panorama is not None
        stated = float(frame["heading_deg"].iloc[row])
        panorama = replace(panorama, heading_deg=panorama.heading_deg if math.isnan(stated) else stated)
        shares = {heading: covered_share(panorama, options, heading) for heading in options.directions_deg}
        shown = [heading for heading, share in shares.items() if share >= MIN_COVERED]
        unseen += len(shares) - len(shown)
        partly += sum(shares[heading] < 1.0 for heading in shown)
        uncovered += not shown
        of_north = panorama.heading_deg is not None
        targets = {h: Path(folder) / VIEWS_FOLDER / f"{name}{view_suffix(h, of_north)}.jpg" for h in shown}
        if targets:
            jobs.append(_Job(row, panorama, targets))
    _write_all(jobs, frame, sha256, options, max_pixels, workers, progress)
    unknown = sum(job.panorama.heading_deg is None for job in jobs)
    count = sum(len(job.targets) for job in jobs)
    for code, n, detail in (
        ("panorama-views", count, f"views of {len(jobs)} panoramas are in {VIEWS_FOLDER}/."),
        ("panorama-heading-unknown", unknown, "panoramas have no heading: their views begin at the picture's centre."),
        ("view-not-shown", unseen, "views are left out, because a cropped panorama shows less than half of them."),
        ("view-partly-shown", partly, "views are black where a cropped panorama shows nothing."),
        ("panorama-kept-whole", uncovered, "cropped panoramas show less than half of every view; they are kept whole."),
    ):
        if n:
            notes.append(Note(code, n, detail))
    return _with_views(frame, jobs, options), notes


def _names(paths: list[Path], base: str | os.PathLike[str] | None) -> list[str]:
    """Names of files without suffix below a folder, their common one if None; with suffix if two would be the same."""
    if not paths:
        return []
    try:
        base = os.path.commonpath([path.parent for path in paths]) if base is None else base
        names = [Path(os.path.relpath(path, base)).as_posix() for path in paths]
    except ValueError:  # on several drives of a Windows machine
        names = [path.as_posix().replace(":", "").lstrip("/") for path in paths]
    stems = [os.path.splitext(name)[0] for name in names]
    # Names that differ in case are one file on some disks.
    return stems if len({stem.lower() for stem in stems}) == len(stems) else names


def _write_all(
    jobs: list[_Job],
    frame: pd.DataFrame,
    sha256: Sequence[str],
    options: ViewOptions,
    max_pixels: int,
    workers: int | None,
    progress: Count | None,
) -> None:
    count = workers or min(4, os.cpu_count() or 1)
    pool = ThreadPoolExecutor(max_workers=count, thread_name_prefix="swclip-views")
    waiting: deque[Future[int]] = deque()
    try:
        for done, job in enumerate(jobs):
            source = frame["image_path"].iloc[job.row]
            waiting.append(
                pool.submit(
                    write_views, source, job.panorama, options, job.targets, sha256[job.row], max_pixels=max_pixels
                )
            )
            if len(waiting) > 2 * count:
                waiting.popleft().result()
            if progress is not None:
                progress(done + 1 - len(waiting), len(jobs))
        while waiting:
            waiting.popleft().result()
            if progress is not None:
                progress(len(jobs) - len(waiting), len(jobs))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _with_views(frame: pd.DataFrame, jobs: list[_Job], options: ViewOptions) -> pd.DataFrame:
    of_row = {job.row: job for job in jobs}
    order: list[int] = []
    views: list[tuple[float, Path] | None] = []
    for row in range(len(frame)):
        targets = list(of_row[row].targets.items()) if row in of_row else [None]
        order.extend([row] * len(targets))
        views.extend(targets)
    table = frame.iloc[order].reset_index(drop=True)
    if not jobs:
        return table
    is_view = np.array([view is not None for view in views])
    known = np.array([row in of_row and of_row[row].panorama.heading_deg is not None for row in order])
    directions = np.array([math.nan if view is None else view[0] for view in views])
    suffixes = [
        "" if view is None else view_suffix(view[0], bool(of_north))
        for view, of_north in zip(views, known, strict=True)
    ]
    columns: dict[str, Any] = {
        "image_id": [f"{name}{suffix}" for name, suffix in zip(table["image_id"], suffixes, strict=True)],
        "image_path": [
            str(path if view is None else view[1]) for path, view in zip(table["image_path"], views, strict=True)
        ],
        "place_id": _places(table, is_view),
        "panorama_id": [str(name) if view else None for name, view in zip(table["image_id"], is_view, strict=True)],
    }
    values = {
        "heading_deg": np.where(known, directions, math.nan),
        "fov_deg": 0.0 * directions + options.fov_deg,
        "pitch_deg": 0.0 * directions + options.pitch_deg,
    }
    for name, of_view in values.items():
        column = (
            table[name].to_numpy(dtype=np.float64, na_value=math.nan).copy() if name in table else directions * math.nan
        )
        column[is_view] = of_view[is_view]
        columns[name] = column
    return table.assign(**columns)


def _places(table: pd.DataFrame, is_view: np.ndarray[Any, Any]) -> list[str | None]:
    """The place of each row; around views without one, that of the first panorama or photograph within 1 m."""
    places = text_or_none(table["place_id"])
    unnamed = np.array([place is None for place in places])
    if not (unnamed & is_view).any():
        return places
    rows = np.flatnonzero(unnamed)
    positions_deg = table[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64)[rows]
    first = first_at_place(positions_deg, is_view[rows])
    for row, at in zip(rows[first >= 0].tolist(), rows[first[first >= 0]].tolist(), strict=True):
        places[row] = str(table["image_id"].iloc[at])
    return places


def first_at_place(
    positions_deg: Float64[np.ndarray, "n 2"], has_views: Bool[np.ndarray, " n"]
) -> Int64[np.ndarray, " n"]:
    """The first row at the place of each row, whose id is the name of the place; -1 at places without views.

    Places are those that splits make of photographs without one, so that naming them changes no split.

    Args:
        positions_deg: (N, 2) latitude, longitude in degrees.
        has_views: (N,) whether the row is a panorama of which views are made, or a view.
    """
    positions, which = distinct_positions(positions_deg)
    group = place_leaders(positions, SAME_PLACE_M)[which]
    numbers, first = np.unique(group, return_index=True)
    with_views = np.isin(group, group[has_views])
    return np.where(with_views, first[np.searchsorted(numbers, group)], -1).astype(np.int64)
