"""Answers as text for programs: JSON, JSON lines, CSV, GeoJSON and KML, each written answer by answer."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args

from swclip.answers.kml import KML
from swclip.answers.record import ANSWER_VERSION, Answer, RankedCandidate
from swclip.answers.text_form import TextForm, plain_json, text_writer
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


def flat_properties(answer: Answer) -> dict[str, Any]:
    """An answer's values without its point, the cells and the region as flat ones (`cell_8`, `region_area_km2`)."""
    properties = answer.as_dict()
    for name in ("schema_version", "lat_deg", "lon_deg", "cells", "region"):
        del properties[name]
    return {**properties, **answer.flat_cells(), **answer.flat_region()}


def _json_item(answer: Answer) -> str:
    # Line ends within strings are escaped, so every one in the text is one of the layout.
    text = json.dumps(answer.as_dict(), indent=2, ensure_ascii=False, allow_nan=False)
    return "\n  " + text.replace("\n", "\n  ")


def _feature(answer: Answer) -> str:
    point = None if answer.lat_deg is None else {"type": "Point", "coordinates": [answer.lon_deg, answer.lat_deg]}
    return plain_json({"type": "Feature", "geometry": point, "properties": flat_properties(answer)})


JSON = TextForm("[", _json_item, ",", "\n]\n")
"""A list of answers, in the order asked."""

JSON_LINES = TextForm("", lambda answer: plain_json(answer.as_dict()) + "\n", "", "")
"""One answer a line, the same as in `JSON`: for streams, and for files too long to be read whole."""

GEOJSON = TextForm(
    f'{{"type": "FeatureCollection", "schema_version": {plain_json(ANSWER_VERSION)}, "features": [\n',
    _feature,
    ",\n",
    "\n]}\n",
)
"""A FeatureCollection with a point an answer, longitude first as GeoJSON has it, one feature a line.

The other values are the properties, the cells and the region as flat ones, which programs for maps can colour by; a
photograph without an answer has no geometry. The outlines of the regions are a file of their own:
`region_shapes.REGIONS`.
"""


def _csv(resolutions: Sequence[int]) -> TextForm:
    """One row a photograph and rank; a photograph without an answer has one row with its error and no rank.

    `city` is the candidate's; what the answer says of the city and the cells begins with `answer_`.
    """
    of_candidates = tuple(field.name for field in fields(RankedCandidate) if field.name != "evidence")
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
