"""inspection.html: the page of one inspection, and the files beside it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from swclip.files import atomic_file, guarded_cell, write_json
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
from swclip.reporting.examples import Picture
from swclip.reporting.inline_svg import page_charts
from swclip.reporting.inspection_map import Album, inspection_map
from swclip.reporting.page import COLOURS, Cell, Row, Table, write_page
from swclip.reporting.plots import Axis, Chart, Series, linear_axis, log_axis, metre_axis, percent_axis
from swclip.reporting.setting import without_folders
from swclip.reporting.tiles import Tiles
from swclip.reporting.units import area, metres, percent

PAGE_NAME, REPORT_NAME = "inspection.html", "inspection.json"
SUSPICIOUS_NAME, PHOTOGRAPHS_NAME = "suspicious.csv", "photographs.parquet"
SCRIPTS = ("inspection_map.js",)

_CITIES = 60
_CURVE_POINTS = 200
_EXAMPLES = 4
_PICTURE_BYTES = 4_000_000
_SHOWN_REASONS = ("dark", "blurred", "uniform", "identical", "duplicate")
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
    album = Album(inspection.manifest, _PICTURE_BYTES if pictures else 0)
    examples = _examples(inspection, album)
    drawn = inspection_map(inspection, album)
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
        Row(
            [
                Cell(reason.name, small=reason.rule),
                Cell(f"{counts[reason.name]:,}"),
                Cell(reason.source),
                Cell(reason.advice),
            ]
        )
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
        name,
        "",
        f"Cumulative distribution: {title}",
        across,
        percent_axis("photographs with at most this"),
        [series],
        marks,
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
    for city in inspection.report.cities[:_CITIES]:
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
        (
            "accuracy",
            "not stated" if accuracy is None else metres(accuracy.median),
            "" if accuracy is None else "median",
        ),
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


def _examples(inspection: Inspection, album: Album) -> list[tuple[str, list[_Pair]]]:
    """The photographs of each reason that exceed its threshold most, beside those that they repeat."""
    listed = inspection.suspicious
    parts = []
    for name in _SHOWN_REASONS:
        of_reason = listed[listed["reason"] == name]
        beyond = (of_reason["value"] - of_reason["threshold"].fillna(0.0)).abs()
        pairs = []
        for row in beyond.sort_values(ascending=False, kind="stable").index[:_EXAMPLES].tolist():
            repeated = [inspection.repeats[row]] if name in ("identical", "duplicate") else []
            pictures = [album.picture(shown) for shown in (row, *repeated)]
            pairs.append(_Pair(pictures, str(of_reason["detail"].loc[row])))
        if any(picture.data_uri for pair in pairs for picture in pair.pictures):
            parts.append((name.capitalize(), pairs))
    return parts
