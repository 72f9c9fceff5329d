"""The text forms of answers: what each holds, that all say the same, and that they are written as they come."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swclip.answers.formats import GEOJSON, JSON_LINES, as_text, format_of, text_form
from swclip.answers.record import ANSWER_VERSION, Answer, CellAnswer, RankedCandidate, RegionAnswer
from swclip.answers.schema import answer_from_json
from swclip.answers.text_form import text_writer
from swclip.errors import ConfigError

Answers = st.SearchStrategy[list[Answer]]
CELL = "8b195da49b71fff"
LEEDS = Answer(
    "a, b.jpg", 53.8, -1.55, 0.5, 53.81, -1.54, "mode",
    (
        RankedCandidate("c1", 53.8, -1.55, 0.4, 0.0, "Leeds", ("p1", "p2")),
        RankedCandidate("c2", 53.9, -1.5, 0.1, 9.5, None, ()),
    ),
    "Leeds", 0.9, "Leeds", 0.9, (CellAnswer(8, "88195da49bfffff", 53.8, -1.55, 0.7, "88195da49bfffff", 0.7),), 1.0, 0.0,
    RegionAnswer(0.8, 0.0021, False, 11, (CELL,)),
)  # fmt: skip
LOST = Answer("lost.jpg", error="is an empty file; copy or download it again.")


@given(data=st.data())
@settings(max_examples=60)
def test_every_answer_comes_back_from_its_line(made_up_answers: Answers, data: st.DataObject) -> None:
    answers = data.draw(made_up_answers)
    lines = as_text(answers, "jsonl").encode().split(b"\n")
    assert lines.pop() == b""
    assert [answer_from_json(line, "here") for line in lines] == answers


@given(data=st.data())
@settings(max_examples=60)
def test_all_forms_say_the_same(made_up_answers: Answers, data: st.DataObject) -> None:
    answers = data.draw(made_up_answers)
    lines = [json.loads(line) for line in as_text(answers, "jsonl").split("\n") if line]
    assert json.loads(as_text(answers, "json")) == lines
    features = json.loads(as_text(answers, "geojson"))["features"]
    assert [(f["properties"]["photograph"], f["properties"]["error"]) for f in features] == [
        (line["photograph"], line["error"]) for line in lines
    ]
    points = [None if f["geometry"] is None else f["geometry"]["coordinates"][::-1] for f in features]
    assert points == [None if line["lat_deg"] is None else [line["lat_deg"], line["lon_deg"]] for line in lines]
    rows = list(csv.DictReader(io.StringIO(as_text(answers, "csv"), newline="")))
    expected = [(a.photograph, c) for a in answers for c in ([c.candidate_id for c in a.candidates] or [""])]
    assert [(row["photograph"], row["candidate_id"]) for row in rows] == expected


@pytest.mark.parametrize("format", ["json", "jsonl", "csv", "geojson", "kml"])
def test_answers_in_batches_make_the_document_of_all_at_once(format: str) -> None:
    answers, pieces = [LEEDS, LOST, LEEDS], []
    with text_writer(text_form(format, [8]), pieces.append) as writer:
        assert not pieces
        writer.write(answers[:1])
        assert "a, b.jpg" in "".join(pieces), "it is there as soon as it is known"
        writer.write([])
        writer.write(answers[1:])
    assert "".join(pieces) == as_text(answers, format)


def test_a_document_that_fails_is_not_ended() -> None:
    pieces: list[str] = []

    def fail() -> None:
        with text_writer(GEOJSON, pieces.append) as writer:
            writer.write([LOST])
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        fail()
    assert not "".join(pieces).endswith("]}\n")


def test_documents_of_no_answers_are_well_formed() -> None:
    assert json.loads(as_text([], "json")) == []
    assert as_text([], "jsonl") == ""
    assert json.loads(as_text([], "geojson"))["features"] == []
    assert as_text([], "csv").startswith("photograph,photographs,rank,candidate_id,lat_deg,")


def test_the_version_is_said() -> None:
    assert json.loads(JSON_LINES.item(LEEDS))["schema_version"] == ANSWER_VERSION
    assert json.loads(as_text([LEEDS], "geojson"))["schema_version"] == ANSWER_VERSION


def test_the_csv_has_the_same_columns_whatever_was_answered() -> None:
    texts = []
    for answers in ([LOST], [LEEDS], [LEEDS, LOST]):
        pieces: list[str] = []
        with text_writer(text_form("csv", [8]), pieces.append) as writer:
            writer.write(answers)
        texts.append("".join(pieces))
    assert len({text.split("\n")[0] for text in texts}) == 1
    lost, first, second = list(csv.DictReader(io.StringIO(texts[0]))) + list(csv.DictReader(io.StringIO(texts[1])))
    assert (lost["error"], lost["rank"], lost["answer_cell_8"]) == (LOST.error, "", "")
    assert (first["image_ids"], first["answer_cell_8"], first["answer_region_area_km2"]) == (
        "p1;p2", "88195da49bfffff", "0.0021",
    )  # fmt: skip
    assert (second["rank"], second["distance_m"], second["city"], second["answer_city"]) == ("2", "9.5", "", "Leeds")


def test_a_cell_that_no_column_is_for_is_an_error() -> None:
    with pytest.raises(ValueError, match="answer_cell_8"):
        text_form("csv", [6]).item(LEEDS)


def test_the_format_is_named_or_in_the_ending() -> None:
    for name, format in (
        ("a.JSONL", "jsonl"),
        ("a.ndjson", "jsonl"),
        ("b.c.geoparquet", "parquet"),
        ("x.json", "json"),
    ):
        assert format_of(Path(name), None) == format
    assert format_of(Path("a.txt"), "kml") == "kml"
    with pytest.raises(ConfigError, match=r"a\.txt: the ending does not say a format .*--format"):
        format_of(Path("a.txt"), None)
    with pytest.raises(ConfigError, match="--out FILE"):
        text_form("parquet")
