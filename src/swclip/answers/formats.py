"""Answers as text for programs: JSON, JSON lines, CSV, GeoJSON and KML, each written answer by answer."""

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

Format = Literal["json", "jsonl", "csv", "geojson", "kml", "parquet"]
"""All forms of answers; `table` writes Parquet, which is no text."""

_ENDINGS: dict[str, Format] = {
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
    """A document of answers: what is before, between and after them.

    Attributes:
        head: Before the first answer.
        item: One answer.
        between: Between two answers.
        tail: After all.
        late_head: Before what `late` gives, which follows all that `item` gave.
        late: What of an answer belongs into a second part of the document, "" for nothing; None for one part alone.
    """

    head: str
    item: Callable[[Answer], str]
    between: str
    tail: str
    late_head: str = ""
    late: Callable[[Answer], str] | None = None


class TextWriter:
    """Takes answers for a document; `text_writer` makes one."""

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
        """Write what follows the last answer."""
        self._put(self._form.late_head if self._any else self._form.head + self._form.late_head)
        self._late.seek(0)
        while piece := self._late.read(_SPOOL_BYTES):
            self._put(piece)
        self._put(self._form.tail)


@contextmanager
def text_writer(form: TextForm, put: Callable[[str], object]) -> Iterator[TextWriter]:
    """Write a document as its answers come; a second part of it waits on disk, so that memory stays bounded.

    Nothing is written before the first answers, so that what fails at once leaves nothing behind.

    Args:
        form: The document.
        put: Called with each piece of text.

    Yields:
        What takes the answers; the document is ended if the block ends well.

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
        format: Any but parquet.
        resolutions: H3 resolutions of the answers' cells: the CSV has columns for them, whether or not any photograph
            was answered.

    Raises:
        ConfigError: It is no text.
    """
    if format == "parquet":
        raise ConfigError("parquet is no text: write it to a file, with --out FILE.parquet.")
    if format == "csv":
        return _csv(resolutions)
    return {"json": JSON, "jsonl": JSON_LINES, "geojson": GEOJSON, "kml": KML}[format]


def as_text(answers: Sequence[Answer], format: Format) -> str:
    """A whole document.

    Args:
        answers: In the order asked.
        format: Any but parquet.
    """
    pieces: list[str] = []
    resolutions = sorted({cell.resolution for answer in answers for cell in answer.cells})
    with text_writer(text_form(format, resolutions), pieces.append) as writer:
        writer.write(answers)
    return "".join(pieces)


def format_of(path: Path | None, given: Format | None) -> Format:
    """The format that was named, or else the one that a file's ending says; JSON for the standard output.

    Raises:
        ConfigError: Neither says it.

    Example:
        >>> format_of(Path("found/answers.KML"), None), format_of(Path("answers.txt"), "csv"), format_of(None, None)
        ('kml', 'csv', 'json')
    """
    if given is not None:
        return given
    if path is None:
        return "json"
    found = _ENDINGS.get(path.suffix.lower())
    if found is None:
        raise ConfigError(
            f"{path}: the ending does not say a format ({', '.join(_ENDINGS)} would); name one with --format "
            f"({', '.join(get_args(Format))})."
        )
    return found


def _plain_json(value: Any) -> str:
    """A value as JSON in one line; NaN is refused, since it is not JSON."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _json_item(answer: Answer) -> str:
    # Line ends within strings are escaped, so every one in the text is one of the layout.
    text = json.dumps(answer.as_dict(), indent=2, ensure_ascii=False, allow_nan=False)
    return "\n  " + text.replace("\n", "\n  ")


def _feature(answer: Answer) -> str:
    point = None if answer.lat_deg is None else {"type": "Point", "coordinates": [answer.lon_deg, answer.lat_deg]}
    return _plain_json({"type": "Feature", "geometry": point, "properties": answer.flat_properties()})


JSON = TextForm("[", _json_item, ",", "\n]\n")
"""A list of answers, in the order asked."""

JSON_LINES = TextForm("", lambda answer: _plain_json(answer.as_dict()) + "\n", "", "")
"""One answer a line, the same as in `JSON`: for streams, and for files too long to be read whole."""

GEOJSON = TextForm(
    f'{{"type": "FeatureCollection", "schema_version": {_plain_json(ANSWER_VERSION)}, "features": [\n',
    _feature,
    ",\n",
    "\n]}\n",
)
"""A FeatureCollection with a point an answer, longitude first as GeoJSON has it, one feature a line.

The other values are the properties, the cells and the region as flat ones, which programs for maps can colour by; a
photograph without an answer has no geometry. The outlines of the regions are a file of their own:
`REGIONS`.
"""


def _region_feature(answer: Answer) -> str:
    region = answer.region
    properties: dict[str, Any] = {"photograph": answer.photograph, "error": answer.error, **answer.flat_region()}
    geometry = None if region is None else region_geometry(region.cells, region.resolution)
    return _plain_json({"type": "Feature", "geometry": geometry, "properties": properties})


REGIONS = TextForm('{"type": "FeatureCollection", "features": [\n', _region_feature, ",\n", "\n]}\n")
"""A FeatureCollection with the region of each answer; one that cannot tell has no geometry."""

KML = TextForm(kml.HEAD, kml.point, "", kml.TAIL, kml.BETWEEN_FOLDERS, kml.region)
"""Two folders: `answers` with a point a photograph (none where there is no answer), `regions` with their outlines."""


def _csv(resolutions: Sequence[int]) -> TextForm:
    """One row a photograph and rank; a photograph without an answer has one row with its error and no rank.

    `city` is the candidate's; what the answer says of the city and the cells begins with `answer_`.
    """
    of_candidates = tuple(name for name in RankedCandidate.model_fields if name != "evidence")
    cells = tuple(
        f"answer_cell_{resolution}{suffix}"
        for resolution in resolutions
        for suffix in ("", "_lat_deg", "_lon_deg", "_probability", "_point", "_point_probability")
    )
    columns = (
        "photograph", "photographs", "rank", *of_candidates,
        "answer_lat_deg", "answer_lon_deg", "answer_probability_within_50m", "estimator", "error",
        "answer_city", "answer_city_probability", "answer_point_city", "answer_point_city_probability",
        *cells, "scored_share", "left_out_at_most",
        "answer_region_probability", "answer_region_area_km2", "answer_region_cannot_tell",
        "answer_region_calibrated",
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
        }
        if not answer.candidates:
            return _csv_line(columns, common)
        return "".join(
            _csv_line(
                columns, {**common, "rank": rank, **{k: _cell_text(getattr(candidate, k)) for k in of_candidates}}
            )
            for rank, candidate in enumerate(answer.candidates, start=1)
        )

    return TextForm(",".join(columns) + "\n", item, "", "")


def _csv_line(columns: Sequence[str], values: Mapping[str, Any]) -> str:
    stream = io.StringIO(newline="")
    # The module puts quotes round a carriage return within a value only where it is part of the line's end too.
    csv.DictWriter(stream, columns, lineterminator="\r\n").writerow(values)
    return stream.getvalue().removesuffix("\r\n") + "\n"


def _cell_text(value: Any) -> Any:
    return ";".join(map(str, value)) if isinstance(value, (tuple, list)) else value
