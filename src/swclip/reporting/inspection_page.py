"""inspection.html: the page of one inspection, and the files beside it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int64
from numpy.typing import ArrayLike

from swclip.data.grouping import rows_by_name, text_or_none
from swclip.files import atomic_file, guarded_cell, write_json
from swclip.geo.coordinates import LocalFrame
from swclip.imaging.decode import PhotographError
from swclip.inspection.advice import (
    accuracy_text,
    advice_text,
    captures_text,
    dates_text,
    headings_text,
    pixels_text,
    sequences_text,
    split_name,
)
from swclip.inspection.inspection import Counts, Inspection
from swclip.inspection.suspicious import BLUR, DARK, REASONS
from swclip.inspection.trial_splits import Quantiles, TrialSplit
from swclip.reporting.examples import Picture, thumbnail
from swclip.reporting.inline_svg import page_charts
from swclip.reporting.map_data import allocate, axes, frame_of, with_margin
from swclip.reporting.page import COLOURS, Cell, Row, Table, write_page
from swclip.reporting.plots import Axis, Chart, Series, linear_axis, log_axis, metre_axis, percent_axis
from swclip.reporting.setting import without_folders
from swclip.reporting.tiles import Tiles
from swclip.reporting.units import area, metres, percent

PAGE_NAME, REPORT_NAME = "inspection.html", "inspection.json"
SUSPICIOUS_NAME, PHOTOGRAPHS_NAME = "suspicious.csv", "photographs.parquet"
SCRIPTS = ("inspection_map.js",)

_DRAWN, _LISTED, _VIEWS = 24_000, 3_000, 60
_CURVE_POINTS = 200
_EXAMPLES = 4
_PICTURE_BYTES = 4_000_000
_SHOWN_REASONS = ("dark", "blurred", "uniform", "identical", "duplicate")
# Share of the photographs beyond each side of a map: an outlier must not make all others a single dot.
_BEYOND = 0.5
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def save_inspection(
    inspection: Inspection, folder: str | os.PathLike[str], *, pictures: bool = True, tiles: Tiles | None = None
) -> Path:
    """Write the files of `swclip inspect`: inspection.html, suspicious.csv, photographs.parquet and inspection.json.

    Args:
        inspection: The inspection.
        folder: Output folder, created if needed.
        pictures: Embed suspicious photographs in the page.
        tiles: Map tiles below the map, which the reader's browser loads; None for a page that loads nothing.

    Returns:
        The page.

    Raises:
        DiskFullError: The disk is full.
        InputError: The folder cannot be written.
    """
    out = Path(folder)
    with atomic_file(out / SUSPICIOUS_NAME) as beside:
        inspection.suspicious.map(guarded_cell).to_csv(beside, index=False)
    with atomic_file(out / PHOTOGRAPHS_NAME) as beside:
        inspection.photographs.to_parquet(beside, index=False)
    write_inspection_page(out / PAGE_NAME, inspection, pictures=pictures, tiles=tiles)
    write_json(out / REPORT_NAME, inspection.report.model_dump(mode="json"))
    return out / PAGE_NAME


def write_inspection_page(
    path: str | os.PathLike[str], inspection: Inspection, *, pictures: bool = True, tiles: Tiles | None = None
) -> None:
    """Write the page alone; see `save_inspection`."""
    report = inspection.report
    album = _Album(inspection, _PICTURE_BYTES if pictures else 0)
    examples = _examples(inspection, album)
    drawn = _map(inspection, album)
    contents = {
        "splits": "What they can bear",
        "map-section": "Map",
        "suspicious": "Suspicious photographs",
        "density": "Density",
        "sequences": "Sequences",
        "accuracy": "Accuracy",
        "dates": "Dates",
        "headings": "Headings",
        **({"pixels": "Pixels", "cameras": "Cameras"} if report.pixels else {}),
        "licences": "Licences",
        "definitions": "Definitions",
    }
    best = inspection.recommended
    command = "" if best is None else " ".join(best.command)
    page = {
        "title": f"Inspection of {report.made_with['manifest']}",
        "setting": _setting(inspection),
        "summary": advice_text(inspection),
        "contents": list(contents.items()),
        "cards": _cards(inspection),
        "command": command,
        "splits": splits_table(report.splits, best),
        "reservations": [
            (split_name(trial), reason) for trial in report.splits for reason in (*trial.reasons, *trial.notes)
        ],
        "map_note": drawn.pop("note"),
        "suspicious": suspicious_table(report.suspicious),
        "examples": examples,
        "cities": _cities(inspection),
        "charts": page_charts(inspection_charts(inspection), full_width=("spacing", "speed", "accuracy")),
        "captures": captures_text(report),
        "sequences": sequences_text(report),
        "sequence_table": _quantile_table(
            {
                "photographs of a sequence": (report.sequences.photographs_per_sequence, "{:,.0f}".format),
                "step to the next photograph": (report.sequences.step_m, metres),
                "speed": (report.sequences.speed_km_h, "{:,.0f} km/h".format),
            }
        ),
        "accuracy": accuracy_text(report),
        "dates": dates_text(report),
        "date_tables": _date_tables(inspection),
        "headings": headings_text(report),
        "heading_table": _shares("direction of view", report.headings.by_sector) if report.headings.known else None,
        "pixels": "" if report.pixels is None else pixels_text(report),
        "cameras": None if report.pixels is None else counts_table("camera", report.pixels.cameras),
        "sizes": None if report.pixels is None else counts_table("size", report.pixels.sizes_px),
        "licences": counts_table("licence", report.licences),
        "sources": counts_table("source", report.sources),
        "leakage": None,
        "with_leakage": False,
        "provenance": _provenance(report.made_with),
        "record": REPORT_NAME,
    }
    write_page(path, "inspection.html.j2", page, {"map": drawn}, scripts=SCRIPTS, tiles=tiles)


def splits_table(trials: Sequence[TrialSplit], best: TrialSplit | None) -> Table:
    """What each protocol makes of the photographs; the recommended one is bold."""
    columns = ["protocol", "verdict", "training", "queries", "blocks with queries", "excluded", "nearest training"]
    columns += ["oracle error, median", "oracle error, 95 %"]
    rows = []
    for trial in trials:
        oracle = trial.oracle_error_m
        texts = [split_name(trial), trial.verdict]
        if trial.verdict == "impossible":
            texts += [""] * 7
        else:
            texts += [f"{value:,}" for value in (trial.training, trial.queries, trial.query_blocks, trial.excluded)]
            texts.append("" if trial.nearest_training_m is None else metres(trial.nearest_training_m))
            texts += ["", ""] if oracle is None else [oracle_text(oracle.median), oracle_text(oracle.p95)]
        rows.append(Row([Cell(text, best=trial is best and at < 2) for at, text in enumerate(texts)]))
    return Table(columns, rows)


def oracle_text(value_m: float) -> str:
    """An oracle error as text; positions are rounded to a centimetre, which is no error.

    Example:
        >>> oracle_text(0.0056), oracle_text(5.14)
        ('0 m', '5.1 m')
    """
    return "0 m" if value_m < 0.05 else metres(value_m)


def suspicious_table(counts: Mapping[str, int]) -> Table:
    """The reasons, how many photographs each lists, and where its threshold comes from."""
    rows = [
        Row([Cell(reason.name, small=reason.rule), Cell(f"{counts[reason.name]:,}"), Cell(reason.source), Cell(reason.advice)])
        for reason in REASONS
    ]
    return Table(["reason", "photographs", "where the threshold comes from", "what to do"], rows)


def counts_table(name: str, counts: Counts) -> Table:
    """Values with their numbers of photographs, the most frequent first."""
    rows = dict(counts.values)
    rows |= {"others": counts.others} if counts.others else {}
    rows |= {"not stated": counts.unknown} if counts.unknown else {}
    return _shares(name, rows)


def inspection_charts(inspection: Inspection) -> list[Chart]:
    """The distributions of an inspection, as far as they are known."""
    frame, pixels = inspection.photographs, inspection.report.pixels is not None
    accuracy = inspection.manifest.accuracy_m
    charts = [
        _distribution("spacing", "distance to the nearest other place", frame["nearest_place_m"], metres, _metre_axis),
        _distribution("speed", "speed", frame["speed_km_h"], "{:,.0f} km/h".format, _speed_axis, [180.0]),
        _distribution("accuracy", "accuracy (one standard deviation)", accuracy, metres, _metre_axis, [25.0]),
    ]
    if pixels:
        number = "{:.2f}".format
        charts += [
            _distribution("blur", "blur effect", frame["blur"], number, _unit_axis, [BLUR]),
            _distribution("brightness", "mean luma", frame["brightness"], number, _unit_axis, [DARK]),
        ]
    return [chart for chart in charts if chart is not None]


def _distribution(
    name: str,
    title: str,
    values: ArrayLike,
    words: Callable[[float], str],
    axis: Callable[[str, Sequence[float]], Axis],
    uprights: Sequence[float] = (),
) -> Chart | None:
    """The cumulative distribution of values; None where fewer than two differ."""
    sorted_ = np.sort(np.asarray(values, dtype=np.float64))
    sorted_ = sorted_[np.isfinite(sorted_)]
    if len(sorted_) == 0 or sorted_[0] == sorted_[-1]:
        return None
    rank = np.unique(np.linspace(1, len(sorted_), min(len(sorted_), _CURVE_POINTS)).round().astype(int))
    x, share = sorted_[rank - 1], 100.0 * rank / len(sorted_)
    across = axis(title, [float(x[0]), float(x[-1]), *uprights])
    x = np.maximum(x, across.low)
    labels = [f"{y:.0f} % at most {words(value)}" for value, y in zip(x.tolist(), share.tolist(), strict=True)]
    series = Series("", x.tolist(), share.tolist(), COLOURS[0], labels, "steps")
    marks = [value for value in uprights if across.low <= value <= across.high]
    return Chart(
        name, "", f"Cumulative distribution: {title}", across, percent_axis("photographs with at most this"), [series], marks
    )


def _speed_axis(title: str, values: Sequence[float]) -> Axis:
    return log_axis(title, [max(value, 1.0) for value in values], "{:,.0f} km/h".format)


def _unit_axis(title: str, _values: Sequence[float]) -> Axis:
    return linear_axis(title, 0.0, 1.0, "{:.1f}".format)


def _metre_axis(title: str, values: Sequence[float]) -> Axis:
    return metre_axis(title, [max(value, 0.1) for value in values])


def _shares(name: str, counts: Mapping[str, int]) -> Table:
    total = max(sum(counts.values()), 1)
    rows = [
        Row([Cell(value), Cell(f"{count:,}"), Cell(percent(count / total), share=count / total)])
        for value, count in counts.items()
    ]
    return Table([name, "photographs", "share"], rows)


def _quantile_table(rows: Mapping[str, tuple[Quantiles | None, Callable[[float], str]]]) -> Table | None:
    listed = [
        Row([Cell(name), *(Cell(words(value)) for value in (known.p5, known.median, known.p95, known.max))])
        for name, (known, words) in rows.items()
        if known is not None
    ]
    return Table(["", "5 %", "median", "95 %", "largest"], listed) if listed else None


def _cities(inspection: Inspection) -> Table:
    rows = []
    for city in inspection.report.cities[:_VIEWS]:
        spacing = city.spacing_m
        texts = [f"{city.photographs:,}", f"{city.places:,}", area(city.area_km2), f"{city.photographs_per_km2:,.0f}"]
        texts += ["", ""] if spacing is None else [metres(spacing.median), metres(spacing.p95)]
        rows.append(Row([Cell(city.name), *map(Cell, texts)]))
    columns = ["city", "photographs", "places", "area", "photographs per km²", "spacing, median", "spacing, 95 %"]
    return Table(columns, rows)


def _date_tables(inspection: Inspection) -> list[tuple[str, Table]]:
    dates = inspection.report.dates
    if not dates.known:
        return []
    months = {_MONTHS[int(month) - 1]: count for month, count in dates.by_month.items()}
    hours = {f"{hour}:00": count for hour, count in dates.by_hour.items()}
    parts = (("Year", dates.by_year), ("Month", months), ("Hour", hours))
    return [(name, _shares(name.lower(), counts)) for name, counts in parts if len(counts) > 1]


def _setting(inspection: Inspection) -> str:
    report = inspection.report
    named = [city.name for city in report.cities if city.name != "unknown city"]
    of = f"{len(named)} cities" if len(named) > 1 else named[0] if named else "no city named"
    read = "pixels not read" if report.pixels is None else f"{report.pixels.read:,} photographs read"
    return f"{report.photographs:,} photographs, {of}, {read}"


def _cards(inspection: Inspection) -> list[dict[str, str]]:
    report = inspection.report
    spacing, accuracy, dates = report.spacing_m, report.accuracy_m, report.dates
    several = report.places.with_several
    listed = inspection.suspicious["image_id"].nunique()
    period = "" if dates.earliest is None else f"{dates.earliest[:10]} to {str(dates.latest)[:10]}"
    values = (
        ("photographs", f"{report.photographs:,}", period),
        ("places", f"{report.places.places:,}", f"{several:,} with several captures"),
        ("nearest other place", "unknown" if spacing is None else metres(spacing.median), "median"),
        ("accuracy", "not stated" if accuracy is None else metres(accuracy.median), "" if accuracy is None else "median"),
        ("with heading", percent(report.headings.known / report.photographs), ""),
        ("suspicious", f"{listed:,}", percent(listed / report.photographs)),
    )
    return [{"label": label, "value": value, "range": below} for label, value, below in values]


def _provenance(made_with: Mapping[str, Any]) -> list[tuple[str, str]]:
    command = made_with.get("command")
    rows = {
        "command": None if command is None else without_folders(str(command)),
        "swclip": made_with["swclip"],
        "manifest": f"{made_with['manifest']} ({str(made_with['manifest_digest'])[:12]})",
        "pixels": made_with["pixels"],
    }
    return [(name, str(value)) for name, value in rows.items() if value is not None]


@dataclass(frozen=True)
class _Pair:
    """A suspicious photograph, with the one that it repeats where it does."""

    pictures: list[Picture]
    text: str


class _Album:
    """Thumbnails of suspicious photographs, each embedded once, until the budget is used."""

    def __init__(self, inspection: Inspection, budget_bytes: int) -> None:
        ids = inspection.manifest.frame["image_id"]
        wanted = set(inspection.suspicious["image_id"])
        self._row_of = {str(name): row for row, name in enumerate(ids) if name in wanted}
        self._paths = inspection.manifest.image_paths
        self._left = budget_bytes
        self._numbers: dict[str, int] = {}
        self.images: list[str] = []

    def number(self, image_id: str) -> int:
        """Number of a thumbnail; -1 where the photograph cannot be read or the budget is used."""
        if image_id not in self._numbers:
            self._numbers[image_id] = -1
            if self._left > 0:
                try:
                    picture = thumbnail(self._paths[self._row_of[image_id]], size_px=280, quality=66)
                except (PhotographError, KeyError):
                    return -1
                self._left -= len(picture)
                self._numbers[image_id] = len(self.images)
                self.images.append(picture)
        return self._numbers[image_id]

    def picture(self, image_id: str, caption: str) -> Picture:
        number = self.number(image_id)
        return Picture("" if number < 0 else self.images[number], caption, image_id)

    def add(self, image_id: str, row: int) -> None:
        self._row_of.setdefault(image_id, row)


def _examples(inspection: Inspection, album: _Album) -> list[tuple[str, list[_Pair]]]:
    """The worst photographs of each reason that pixels show."""
    listed = inspection.suspicious
    frame = inspection.manifest.frame
    parts = []
    for name in _SHOWN_REASONS:
        rows = listed[listed["reason"] == name]
        off = (rows["value"] - rows["threshold"].fillna(0.0)).abs()
        pairs = []
        for at in off.sort_values(ascending=False, kind="stable").index[:_EXAMPLES]:
            row = rows.loc[at]
            pictures = [album.picture(str(row["image_id"]), f"{row['image_id']}")]
            if name in ("identical", "duplicate") and at in inspection.repeats:
                earlier = inspection.repeats[at]
                album.add(str(frame["image_id"].iloc[earlier]), earlier)
                pictures.append(album.picture(str(frame["image_id"].iloc[earlier]), f"{frame['image_id'].iloc[earlier]}"))
            pairs.append(_Pair(pictures, str(row["detail"])))
        if any(picture.data_uri for pair in pairs for picture in pair.pictures):
            parts.append((name.capitalize(), pairs))
    return parts


def _map(inspection: Inspection, album: _Album) -> dict[str, Any]:
    """The views of the map, one per city, the largest first."""
    manifest, listed = inspection.manifest, inspection.suspicious
    reasons = [reason for reason in REASONS if (listed["reason"] == reason.name).any()]
    number = {reason.name: at for at, reason in enumerate(reasons)}
    of_row: dict[int, list[tuple[int, str]]] = {}
    for row, reason, detail in zip(listed.index, listed["reason"], listed["detail"], strict=True):
        of_row.setdefault(int(row), []).append((number[reason], str(detail)))
    rows_of = rows_by_name(text_or_none(manifest.frame["city"]))
    cities = list(islice(sorted(rows_of.items(), key=lambda item: -len(item[1])), _VIEWS))
    generator = np.random.default_rng(0)
    views = []
    for (name, rows), most, listed_most in zip(
        cities,
        allocate([len(rows) for _, rows in cities], _DRAWN),
        allocate([sum(row in of_row for row in rows.tolist()) for _, rows in cities], _LISTED),
        strict=True,
    ):
        suspicious = np.array([row for row in rows.tolist() if row in of_row], dtype=np.int64)[:listed_most]
        drawn = rows if len(rows) <= most else np.sort(generator.choice(rows, most, replace=False))
        views.append(_view(name or ("All photographs" if len(rows_of) == 1 else "Unknown city"), inspection, rows, drawn, suspicious, of_row, album))
    left_out = len(manifest) - sum(len(view["photographs"]["x"]) for view in views)
    note = f"To limit the size of this file, {left_out:,} photographs, chosen at random, are not drawn." if left_out else ""
    return {
        "views": views,
        "reasons": [reason.name for reason in reasons],
        "rules": [reason.rule for reason in reasons],
        "images": album.images,
        "note": note,
    }


def _view(
    name: str,
    inspection: Inspection,
    rows: Int64[np.ndarray, " n"],
    drawn: Int64[np.ndarray, " d"],
    suspicious: Int64[np.ndarray, " s"],
    of_row: Mapping[int, list[tuple[int, str]]],
    album: _Album,
) -> dict[str, Any]:
    deg, frame = inspection.manifest.positions_deg, inspection.manifest.frame
    # Around the median: the mean of a city with one photograph elsewhere is nowhere.
    local = LocalFrame(*np.median(deg[rows], axis=0).tolist())
    xy = local.to_xy_m(deg[rows])
    low, high = (np.percentile(xy, share, axis=0) for share in (_BEYOND, 100.0 - _BEYOND))
    low, high = with_margin(low, high)
    ids = frame["image_id"].iloc[suspicious].astype(str).tolist()
    return {
        "name": name,
        "n": len(rows),
        "frame": frame_of(local),
        "extent_m": [*np.round(low, 1).tolist(), *np.round(high, 1).tolist()],
        "photographs": {axis: np.round(values).astype(int).tolist() for axis, values in axes(local.to_xy_m(deg[drawn])).items()},
        "suspicious": {
            **axes(local.to_xy_m(deg[suspicious])),
            "id": ids,
            "path": [Path(str(path)).name for path in frame["image_path"].iloc[suspicious]],
            "reasons": [[reason for reason, _ in of_row[row]] for row in suspicious.tolist()],
            "detail": [[list(item) for item in of_row[row]] for row in suspicious.tolist()],
            "photo": [album.number(image_id) for image_id in ids],
        },
    }
