"""`inspect_manifest`: what is in a manifest, which of its photographs are suspicious, and which splits it can bear."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import h3
import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from swclip.data.grouping import place_numbers, rows_by_name, text_or_none
from swclip.data.manifest import Manifest, write_manifest
from swclip.data.nearby_captures import nearby_captures
from swclip.errors import ConfigError, InputError
from swclip.files import stated_path
from swclip.geo.cells import cell_ids
from swclip.geo.neighbours import SphereIndex
from swclip.inspection.pixels import PixelMeasures, measure_pixels
from swclip.inspection.sequences import SequenceSteps, sequence_steps
from swclip.inspection.suspicious import REASONS, Duplicates, duplicates_of, suspicious_photographs
from swclip.inspection.trial_splits import (
    Captures,
    Quantiles,
    TrialSplit,
    captures_of,
    quantiles,
    recommended,
    trial_splits,
)
from swclip.metrics.parts import Part
from swclip.progress import Steps
from swclip.versions import own_version

SAMPLE = 20_000
"""Photographs that are read of a larger manifest, unless all are asked for."""

SECTORS = ("N", "NE", "E", "SE", "S", "SW", "W", "NW")
_DENSITY_CELL = 9
_TOP = 12

Pixels = Literal["auto", "all", "none"] | int


class CityFigures(Part):
    """Photographs of one city; area is that of the H3 cells of resolution 9 (about 200 m) that have any."""

    name: str
    photographs: int
    places: int
    area_km2: float
    photographs_per_km2: float
    spacing_m: Quantiles | None


class Counts(Part):
    """How often each value occurs, the most frequent first; `others` is what is not listed, `unknown` has none."""

    values: dict[str, int]
    others: int
    unknown: int


class DateFigures(Part):
    """Times of capture."""

    known: int
    earliest: str | None
    latest: str | None
    by_year: dict[str, int]
    by_month: dict[str, int]
    by_hour: dict[str, int]


class HeadingFigures(Part):
    """Headings by sector of 45 degrees around N, NE, ..."""

    known: int
    by_sector: dict[str, int]
    exactly_0: int


class SequenceFigures(Part):
    """Sequences."""

    sequences: int
    photographs_without: int
    photographs_per_sequence: Quantiles | None
    step_m: Quantiles | None
    speed_km_h: Quantiles | None
    standing: int


class PixelFigures(Part):
    """Photographs that were read."""

    read: int
    chosen: int
    unreadable: int
    sizes_px: Counts
    cameras: Counts
    blur: Quantiles | None
    brightness: Quantiles | None
    contrast: Quantiles | None
    identical: int
    near_duplicates: int
    near_duplicates_elsewhere: int


class InspectionReport(Part):
    """inspection.json: the figures of an inspection."""

    version: Literal["1"]
    made_with: dict[str, Any]
    photographs: int
    cities: list[CityFigures]
    places: Captures
    spacing_m: Quantiles | None
    accuracy_m: Quantiles | None
    dates: DateFigures
    headings: HeadingFigures
    sequences: SequenceFigures
    licences: Counts
    sources: Counts
    pixels: PixelFigures | None
    suspicious: dict[str, int]
    splits: list[TrialSplit]
    recommended: int | None
    next: list[str]


@dataclass(frozen=True, eq=False)
class Inspection:
    """The result of `inspect_manifest`.

    Attributes:
        report: The figures.
        suspicious: Photographs that exceed a threshold, a row per photograph and reason: image_id, image_path,
            lat_deg, lon_deg, reason, value, threshold, detail. Its index is the row of the manifest.
        photographs: Values of each photograph, in the order of the manifest: image_id, nearest_place_m, step_m and
            speed_km_h from the photograph before it; where pixels were read also width_px, height_px, camera, blur,
            brightness, contrast, sha256.
        repeats: {row: row of the first photograph with the same picture}, identical or nearly.
        manifest: The manifest.
    """

    report: InspectionReport
    suspicious: pd.DataFrame
    photographs: pd.DataFrame
    repeats: dict[int, int]
    manifest: Manifest

    def __repr__(self) -> str:
        listed = ", ".join(f"{count:,} {reason}" for reason, count in self.report.suspicious.items() if count)
        return f"Inspection({self.report.photographs:,} photographs; suspicious: {listed or 'none'})"

    @property
    def recommended(self) -> TrialSplit | None:
        """The split to start with; None where no protocol is possible."""
        return None if self.report.recommended is None else self.report.splits[self.report.recommended]

    def without(self, reasons: Sequence[str], path: str | os.PathLike[str]) -> Manifest:
        """Write a manifest without the photographs that are suspicious for one of these reasons.

        Splits, runs and galleries of the present manifest are not for it: make them again.

        Args:
            reasons: Values of the column `reason`.
            path: The folder or `.parquet` file; photographs stay where they are.

        Raises:
            ConfigError: There is no such reason.
            InputError: The folder cannot be written.
        """
        if unknown := [reason for reason in reasons if reason not in self.report.suspicious]:
            raise ConfigError(
                f"{unknown[0]!r} is not a reason; choose one or several of {', '.join(self.report.suspicious)}."
            )
        left_out = self.suspicious.index[self.suspicious["reason"].isin(list(reasons))]
        frame = self.manifest.frame.assign(image_path=[str(file) for file in self.manifest.image_paths])
        if "map_path" in frame:
            frame["map_path"] = [None if file is None else str(file) for file in self.manifest.map_paths]
        made_with = {"left_out": list(reasons), "of_manifest": self.manifest.digest}
        return write_manifest(path, frame.drop(index=left_out.unique()).reset_index(drop=True), made_with=made_with)


def inspect_manifest(
    manifest: Manifest,
    *,
    pixels: Pixels = "auto",
    seed: int = 0,
    command: str | None = None,
    cache: Path | None = None,
    workers: int | None = None,
    now: pd.Timestamp | None = None,
    progress: Steps | None = None,
) -> Inspection:
    """Inspect a manifest.

    Args:
        manifest: The photographs.
        pixels: How many photographs are read for blur, darkness, duplicates and cameras: all, none, a number drawn at
            random, or auto: all of up to `SAMPLE`, else so many.
        seed: Seed of the sample.
        command: The command line, for the record.
        cache: Folder of the measures that are kept; `default_cache_folder()` if None.
        workers: Decoding threads; the number of processors if None.
        now: Photographs dated later are suspicious; the present time if None.
        progress: Called with (step, done, total).

    Raises:
        InputError: The manifest has no photographs, or the cache cannot be written.
        ConfigError: The number of photographs is negative.
    """
    if len(manifest) == 0:
        raise InputError(f"{manifest.path}: it has no photographs; run `swclip prepare` on a folder that has some.")
    rows = _chosen(len(manifest), pixels, seed)

    def step(title: str) -> Callable[[int, int], None] | None:
        return None if progress is None else partial(progress, title)

    read = None
    duplicates = None
    if len(rows):
        read = measure_pixels(manifest, rows, cache=cache, workers=workers, progress=step("Reading photographs"))
        duplicates = duplicates_of(manifest, read, step("Comparing photographs"))
    steps = sequence_steps(manifest)
    spacing_m, usual_m, cities = _spacing(manifest)
    everyone = np.arange(len(manifest))
    captures = captures_of(manifest, nearby_captures(manifest, everyone, everyone))
    trials = trial_splits(manifest, stated_path(manifest.path.parent), step("Trying splits"))
    best = recommended(trials)
    suspicious = suspicious_photographs(
        manifest, steps, spacing_m, usual_m, read, duplicates, now or pd.Timestamp.now(tz="UTC")
    )
    counts = suspicious["reason"].value_counts()
    report = InspectionReport(
        version="1",
        made_with={
            "swclip": own_version(),
            "command": command,
            "manifest": stated_path(manifest.path),
            "manifest_digest": manifest.digest,
            "pixels": pixels,
            "seed": seed,
        },
        photographs=len(manifest),
        cities=cities,
        places=captures,
        spacing_m=quantiles(spacing_m),
        accuracy_m=quantiles(manifest.accuracy_m),
        dates=_dates(manifest),
        headings=_headings(manifest),
        sequences=_sequences(manifest, steps),
        licences=_counts(text_or_none(manifest.frame["licence"])),
        sources=_counts(text_or_none(manifest.frame["source"])),
        pixels=None if read is None or duplicates is None else _pixels(read, duplicates),
        suspicious={reason.name: int(counts.get(reason.name, 0)) for reason in REASONS},
        splits=trials,
        recommended=None if best is None else trials.index(best),
        next=[] if best is None else best.command,
    )
    repeats = {} if duplicates is None else {**duplicates.identical, **duplicates.near}
    return Inspection(report, suspicious, _photographs(manifest, spacing_m, steps, read), repeats, manifest)


def _chosen(count: int, pixels: Pixels, seed: int) -> list[int]:
    """The rows to read."""
    if isinstance(pixels, int) and pixels < 0:
        raise ConfigError(f"--pixels {pixels}: must be 0 or more photographs, all, none or auto.")
    most = {"auto": SAMPLE, "all": count, "none": 0}[pixels] if isinstance(pixels, str) else pixels
    if most >= count:
        return list(range(count))
    drawn = np.random.default_rng(seed).choice(count, size=most, replace=False)
    rows: list[int] = np.sort(drawn).tolist()
    return rows


def _spacing(
    manifest: Manifest,
) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"], list[CityFigures]]:
    """Distance of each photograph to the nearest other place, the median of that in its city, and the cities."""
    names = text_or_none(manifest.frame["city"])
    place = place_numbers(manifest.positions_deg, names, text_or_none(manifest.frame["place_id"]))
    _, first = np.unique(place, return_index=True)
    deg = manifest.positions_deg
    nearest = np.full(len(first), np.nan)
    if len(first) > 1:
        # Of two places at one position, either may be found first.
        distance_m, index = SphereIndex(deg[first]).nearest(deg[first], 2)
        own = index[:, 0] == np.arange(len(first))
        nearest = np.where(own, distance_m[:, 1], distance_m[:, 0])
    spacing = nearest[place]
    usual = np.full(len(deg), np.nan)
    cities = []
    for name, rows in rows_by_name(names).items():
        places = np.unique(place[rows])
        if np.isfinite(nearest[places]).any():
            usual[rows] = float(np.nanmedian(nearest[places]))
        area_km2 = sum(h3.cell_area(cell, unit="km^2") for cell in set(cell_ids(deg[rows], _DENSITY_CELL)))
        cities.append(
            CityFigures(
                name=name or "unknown city",
                photographs=len(rows),
                places=len(places),
                area_km2=round(area_km2, 4),
                photographs_per_km2=round(len(rows) / area_km2, 1),
                spacing_m=quantiles(nearest[places]),
            )
        )
    return spacing, usual, sorted(cities, key=lambda city: -city.photographs)


def _counts(values: list[str | None] | list[str]) -> Counts:
    known = pd.Series([value for value in values if value], dtype=object).value_counts()
    listed = {str(name): int(count) for name, count in known.iloc[:_TOP].items()}
    return Counts(values=listed, others=int(known.iloc[_TOP:].sum()), unknown=len(values) - int(known.sum()))


def _dates(manifest: Manifest) -> DateFigures:
    times = pd.to_datetime(manifest.frame["captured_at"], utc=True).dropna()

    def counted(values: Any) -> dict[str, int]:
        return {f"{int(value):02d}": int(count) for value, count in values.value_counts().sort_index().items()}

    return DateFigures(
        known=len(times),
        earliest=None if times.empty else str(times.min())[:19],
        latest=None if times.empty else str(times.max())[:19],
        by_year=counted(times.dt.year),
        by_month=counted(times.dt.month),
        by_hour=counted(times.dt.hour),
    )


def _headings(manifest: Manifest) -> HeadingFigures:
    heading = manifest.frame["heading_deg"].to_numpy(dtype=np.float64)
    heading = heading[np.isfinite(heading)]
    sector = np.floor((heading + 22.5) % 360.0 / 45.0).astype(np.int64)
    counts = np.bincount(sector, minlength=len(SECTORS)).tolist()
    return HeadingFigures(
        known=len(heading), by_sector=dict(zip(SECTORS, counts, strict=True)), exactly_0=int((heading == 0.0).sum())
    )


def _sequences(manifest: Manifest, steps: SequenceSteps) -> SequenceFigures:
    sizes = manifest.frame["sequence_id"].value_counts()
    return SequenceFigures(
        sequences=steps.n_sequences,
        photographs_without=steps.n_without,
        photographs_per_sequence=quantiles(sizes.to_numpy(dtype=np.float64)),
        step_m=quantiles(steps.step_m),
        speed_km_h=quantiles(3.6 * steps.speed_m_s),
        standing=steps.standing,
    )


def _pixels(read: PixelMeasures, duplicates: Duplicates) -> PixelFigures:
    frame = read.frame
    return PixelFigures(
        read=len(frame),
        chosen=read.chosen,
        unreadable=len(read.failures),
        sizes_px=_counts([f"{w} x {h}" for w, h in zip(frame["width_px"], frame["height_px"], strict=True)]),
        cameras=_counts(frame["camera"].tolist()),
        blur=quantiles(frame["blur"]),
        brightness=quantiles(frame["brightness"]),
        contrast=quantiles(frame["contrast"]),
        identical=len(duplicates.identical),
        near_duplicates=len(duplicates.near),
        near_duplicates_elsewhere=len(duplicates.elsewhere),
    )


def _photographs(
    manifest: Manifest, spacing_m: Float64[np.ndarray, " n"], steps: SequenceSteps, read: PixelMeasures | None
) -> pd.DataFrame:
    columns: Mapping[str, Any] = {"step_m": steps.step_m, "speed_km_h": 3.6 * steps.speed_m_s}
    frame = pd.DataFrame({"image_id": manifest.frame["image_id"], "nearest_place_m": spacing_m})
    for name, values in columns.items():
        frame[name] = _at(steps.stop, values, len(manifest))
    return frame if read is None else frame.join(read.frame.set_index("row"))


def _at(rows: Int64[np.ndarray, " s"], values: Float64[np.ndarray, " s"], count: int) -> Float64[np.ndarray, " n"]:
    column = np.full(count, np.nan)
    column[rows] = values
    return column
