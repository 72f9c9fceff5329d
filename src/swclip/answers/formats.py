"""Answers as JSON, JSON lines, CSV, GeoJSON and KML for programs, and as sentences, each written answer by answer."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any, Literal, get_args

from swclip.answers import kml
from swclip.answers.record import ANSWER_VERSION, Answer, RankedCandidate
from swclip.answers.region_shapes import region_geometry
from swclip.errors import ConfigError
from swclip.files import guarded_cell

Format = Literal["text", "json", "jsonl", "csv", "geojson", "kml", "parquet"]
"""All formats of answers; `table` writes Parquet, which is not text."""

_EXTENSIONS: dict[str, Format] = {
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".geojson": "geojson",
    ".kml": "kml",
    ".parquet": "parquet",
    ".geoparquet": "parquet",
}

_SPOOL_BYTES = 16 * 2**20


@dataclass(frozen=True)
class TextForm:
    """A text document of answers: the text before, between and after them.

    Attributes:
        head: Text before the first answer.
        item: Formats an answer.
        between: Text between two answers.
        tail: Text at the end.
        late_head: Text before the second part of the document.
        late: Formats an answer for the second part, "" for nothing; None where the document has one part.
    """

    head: str
    item: Callable[[Answer], str]
    between: str
    tail: str
    late_head: str = ""
    late: Callable[[Answer], str] | None = None


class TextWriter:
    """Writes answers to a document; `text_writer` creates one."""

    def __init__(self, form: TextForm, put: Callable[[str], object], late: IO[str]) -> None:
        self._form, self._put, self._late, self._any = form, put, late, False

    def write(self, answers: Sequence[Answer]) -> None:
        """Write further answers."""
        for answer in answers:
            self._put((self._form.between if self._any else self._form.head) + self._form.item(answer))
            self._any = True
            if self._form.late is not None:
                self._late.write(self._form.late(answer))

    def end(self) -> None:
        """Write the rest of the document."""
        self._put(self._form.late_head if self._any else self._form.head + self._form.late_head)
        self._late.seek(0)
        while piece := self._late.read(_SPOOL_BYTES):
            self._put(piece)
        self._put(self._form.tail)


@contextmanager
def text_writer(form: TextForm, put: Callable[[str], object]) -> Iterator[TextWriter]:
    """Write a document answer by answer; its second part is spooled to disk, so that memory stays bounded.

    Nothing is written before the first answers, so that an immediate failure leaves nothing behind.

    Args:
        form: The document.
        put: Called with each piece of text.

    Yields:
        The writer; the document is completed when the block ends without an error.

    Example:
        >>> pieces = []
        >>> with text_writer(TextForm("[", lambda answer: answer.photograph, ",", "]"), pieces.append) as writer:
        ...     writer.write([Answer(photograph="a.jpg", error="is empty"), Answer(photograph="b.jpg")])
        >>> "".join(pieces)
        '[a.jpg,b.jpg]'
    """
    with SpooledTemporaryFile(_SPOOL_BYTES, "w+", encoding="utf-8", newline="") as late:
        writer = TextWriter(form, put, late)
        yield writer
        writer.end()


def text_form(format: Format, resolutions: Sequence[int] = ()) -> TextForm:
    """The document of a format.

    Args:
        format: Any format except parquet.
        resolutions: H3 resolutions of the answers' cells; the CSV has columns for them even where no photograph was
            answered.

    Raises:
        ConfigError: The format is not text.
    """
    if format == "parquet":
        raise ConfigError("parquet is not a text format: write it to a file, with --out FILE.parquet.")
    if format == "csv":
        return _csv(resolutions)
    return {"text": TEXT, "json": JSON, "jsonl": JSON_LINES, "geojson": GEOJSON, "kml": KML}[format]


def as_text(answers: Sequence[Answer], format: Format) -> str:
    """Answers as a complete document.

    Args:
        answers: The answers, in the order of the photographs.
        format: Any format except parquet.
    """
    pieces: list[str] = []
    resolutions = sorted({cell.resolution for answer in answers for cell in answer.cells})
    with text_writer(text_form(format, resolutions), pieces.append) as writer:
        writer.write(answers)
    return "".join(pieces)


def format_of(path: Path | None, format: Format | None) -> Format:
    """The format of a file: the named one, else that of its extension; JSON for standard output.

    Raises:
        ConfigError: No format is named, and the extension is unknown.

    Example:
        >>> format_of(Path("found/answers.KML"), None), format_of(Path("answers.txt"), "csv"), format_of(None, None)
        ('kml', 'csv', 'json')
    """
    if format is not None:
        return format
    if path is None:
        return "json"
    if path.suffix.lower() not in _EXTENSIONS:
        raise ConfigError(
            f"{path}: unknown extension (known: {', '.join(_EXTENSIONS)}); name a format with --format "
            f"({', '.join(get_args(Format))})."
        )
    return _EXTENSIONS[path.suffix.lower()]


def _plain_json(value: Any) -> str:
    """A value as JSON on one line; NaN, which is not JSON, is an error."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _json_item(answer: Answer) -> str:
    # Line ends within strings are escaped, so every line end in the text is part of the layout.
    text = json.dumps(answer.as_dict(), indent=2, ensure_ascii=False, allow_nan=False)
    return "\n  " + text.replace("\n", "\n  ")


def _feature(answer: Answer) -> str:
    point = None if answer.lat_deg is None else {"type": "Point", "coordinates": [answer.lon_deg, answer.lat_deg]}
    return _plain_json({"type": "Feature", "geometry": point, "properties": answer.flat_properties()})


def _sentence(answer: Answer) -> str:
    # A name may contain line ends and control characters, which a terminal would obey.
    name = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in answer.photograph)
    if answer.lat_deg is None or answer.lon_deg is None:
        return f"{name}: no answer: {answer.error}\n"
    near = f"{answer.probability_within_50m or 0.0:.0%} within 50 m"
    if answer.in_area_probability is not None:
        near = f"{answer.in_area_probability:.0%} in the gallery's area, and if so {near}"
    parts = [f"{answer.city}, {answer.lat_deg:.5f}, {answer.lon_deg:.5f}".removeprefix("None, "), near]
    if (region := answer.region) is not None and region.cannot_tell:
        parts.append(f"abstains from a region: {(region.reason or '').rstrip('.')}")
    elif region is not None and region.area_km2 is not None:
        parts.append(f"{region.probability:.0%} region {region.area_km2:.2g} km²")
    link = f"https://www.openstreetmap.org/?mlat={answer.lat_deg:.5f}&mlon={answer.lon_deg:.5f}&zoom=17"
    return f"{name}: {'; '.join(parts)}; {link}\n"


TEXT = TextForm("", _sentence, "", "")
"""A sentence per answer, for people: place, certainty, size of the region, and the address of a map."""

JSON = TextForm("[", _json_item, ",", "\n]\n")
"""A list of answers, in the order of the photographs."""

JSON_LINES = TextForm("", lambda answer: _plain_json(answer.as_dict()) + "\n", "", "")
"""One answer per line, the same as in `JSON`, for streams and for files too long to be read at once."""

GEOJSON = TextForm(
    f'{{"type": "FeatureCollection", "schema_version": {_plain_json(ANSWER_VERSION)}, "features": [\n',
    _feature,
    ",\n",
    "\n]}\n",
)
"""A FeatureCollection with one point per answer, longitude first as in GeoJSON, one feature per line.

The other values are properties; cells and region are flattened, so that GIS can colour by them. A photograph without an
answer has no geometry. The outlines of the regions are in a separate file: `REGIONS`.
"""


def _region_feature(answer: Answer) -> str:
    region = answer.region
    properties: dict[str, Any] = {"photograph": answer.photograph, "error": answer.error, **answer.flat_region()}
    geometry = None if region is None else region_geometry(region.cells, region.resolution)
    return _plain_json({"type": "Feature", "geometry": geometry, "properties": properties})


REGIONS = TextForm('{"type": "FeatureCollection", "features": [\n', _region_feature, ",\n", "\n]}\n")
"""A FeatureCollection with the region of each answer; an answer that abstains has no geometry."""

KML = TextForm(kml.HEAD, kml.point, "", kml.TAIL, kml.BETWEEN_FOLDERS, kml.region)
"""Two folders: `answers` with a point per photograph (none without an answer), and `regions` with their outlines."""


def _csv(resolutions: Sequence[int]) -> TextForm:
    """One row per photograph and rank; a photograph without an answer has one row with its error and no rank.

    `city` is that of the candidate; columns of the answer begin with `answer_`.
    """
    candidate_fields = tuple(name for name in RankedCandidate.model_fields if name != "evidence")
    cells = tuple(
        f"answer_cell_{resolution}{suffix}"
        for resolution in resolutions
        for suffix in ("", "_lat_deg", "_lon_deg", "_probability", "_point", "_point_probability")
    )
    columns = (
        "photograph", "photographs", "rank", *candidate_fields,
        "answer_lat_deg", "answer_lon_deg", "answer_probability_within_50m", "estimator", "error",
        "answer_city", "answer_city_probability", "answer_point_city", "answer_point_city_probability",
        *cells, "scored_share", "left_out_at_most",
        "answer_region_probability", "answer_region_area_km2", "answer_region_cannot_tell",
        "answer_region_calibrated", "answer_in_area_probability",
    )  # fmt: skip

    def item(answer: Answer) -> str:
        common = {
            "photograph": answer.photograph,
            "answer_lat_deg": answer.lat_deg,
            "answer_lon_deg": answer.lon_deg,
            "answer_probability_within_50m": answer.probability_within_50m,
            "estimator": answer.estimator,
            "error": answer.error,
            "answer_city": answer.city,
            "answer_city_probability": answer.city_probability,
            "answer_point_city": answer.point_city,
            "answer_point_city_probability": answer.point_city_probability,
            **{f"answer_{name}": value for name, value in answer.flat_cells().items()},
            "scored_share": answer.scored_share,
            "left_out_at_most": answer.left_out_at_most,
            **{f"answer_{name}": value for name, value in answer.flat_region().items()},
            "photographs": _cell_text(answer.photographs),
            "answer_in_area_probability": answer.in_area_probability,
        }
        if not answer.candidates:
            return _csv_line(columns, common)
        return "".join(
            _csv_line(
                columns, {**common, "rank": rank, **{k: _cell_text(getattr(candidate, k)) for k in candidate_fields}}
            )
            for rank, candidate in enumerate(answer.candidates, start=1)
        )

    return TextForm(",".join(columns) + "\n", item, "", "")


def _csv_line(columns: Sequence[str], values: Mapping[str, Any]) -> str:
    stream = io.StringIO(newline="")
    # The csv module quotes a carriage return within a value only where it is part of the line terminator too.
    csv.DictWriter(stream, columns, lineterminator="\r\n").writerow(
        {name: guarded_cell(value) for name, value in values.items()}
    )
    return stream.getvalue().removesuffix("\r\n") + "\n"


def _cell_text(value: Any) -> Any:
    return ";".join("" if v is None else str(v) for v in value) if isinstance(value, (tuple, list)) else value
