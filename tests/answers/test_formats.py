"""The text formats of answers: contents, consistency and incremental writing."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.answers import sample_answers
from swclip.answers.formats import GEOJSON, JSON_LINES, Format, as_text, format_of, text_form, text_writer
from swclip.answers.record import ANSWER_VERSION, Answer, CellAnswer, RankedCandidate, RegionAnswer, answer_from_json
from swclip.errors import ConfigError
from swclip.files import unguarded_cell

Answers = st.SearchStrategy[list[Answer]]
CELL = "8b195da49b71fff"
LEEDS = Answer(
    photograph="a, b.jpg",
    lat_deg=53.8,
    lon_deg=-1.55,
    probability_within_50m=0.5,
    argmax_lat_deg=53.81,
    argmax_lon_deg=-1.54,
    estimator="mode",
    candidates=(
        RankedCandidate(
            candidate_id="c1", lat_deg=53.8, lon_deg=-1.55, probability=0.4, distance_m=0.0, city="Leeds",
            image_ids=("p1", "p2"),
        ),
        RankedCandidate(
            candidate_id="c2", lat_deg=53.9, lon_deg=-1.5, probability=0.1, distance_m=9.5, city=None, image_ids=()
        ),
    ),
    city="Leeds",
    city_probability=0.9,
    point_city="Leeds",
    point_city_probability=0.9,
    cells=(
        CellAnswer(
            resolution=8, cell_id="88195da49bfffff", lat_deg=53.8, lon_deg=-1.55, probability=0.7,
            point_cell_id="88195da49bfffff", point_cell_probability=0.7,
        ),
    ),
    scored_share=1.0,
    left_out_at_most=0.0,
    region=RegionAnswer(probability=0.8, area_km2=0.0021, cannot_tell=False, resolution=11, cells=(CELL,)),
)  # fmt: skip
LOST = Answer(photograph="lost.jpg", error="is an empty file; copy or download it again.")
WRITTEN = Path(__file__).parent / "as_version_1"


CREDITS = ("image_licences", "image_authors", "image_source_urls")
"""Fields of candidates that a later release added: within a version they may be added."""


def as_earlier(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer, or the properties of its feature, without the fields that were added to version 1."""
    del answer["in_area_probability"]
    for name in ("area", "calibrated_on") if answer.get("region") else ():
        del answer["region"][name]
    for candidate in answer["candidates"]:
        for name in CREDITS:
            del candidate[name]
    return answer


def test_unknown_licences_are_empty_in_csv() -> None:
    answer = sample_answers()[0]
    credits = {"image_licences": ("CC0-1.0", None), "image_authors": (None, "Ada"), "image_source_urls": (None, None)}
    first = answer.candidates[0].model_copy(update=credits)
    row = next(csv.DictReader(io.StringIO(as_text([answer.model_copy(update={"candidates": (first,)})], "csv"))))
    assert [row[name] for name in CREDITS] == ["CC0-1.0;", ";Ada", ";"]


def test_kml_of_version_1_has_only_more_fields() -> None:
    # Another change here breaks programs that read these files; it needs a new ANSWER_VERSION and new files here.
    text = as_text(sample_answers(), "kml").replace('<SimpleField type="double" name="in_area_probability"/>', "", 1)
    assert text.encode() == (WRITTEN / "answers.kml").read_bytes()


def test_csv_of_version_1_has_only_more_columns() -> None:
    added = ("answer_in_area_probability", *CREDITS)
    rows = list(csv.reader(io.StringIO(as_text(sample_answers(), "csv"), newline="")))
    kept = [place for place, name in enumerate(rows[0]) if name not in added]
    assert len(kept) == len(rows[0]) - len(added)
    earlier = io.StringIO((WRITTEN / "answers.csv").read_bytes().decode(), newline="")
    assert [[row[place] for place in kept] for row in rows] == list(csv.reader(earlier))


@pytest.mark.parametrize("format", ["json", "jsonl", "geojson"])
def test_json_of_version_1_has_only_more_fields(format: Format) -> None:
    def answers(text: str) -> list[dict[str, Any]]:
        if format == "geojson":
            features: list[dict[str, Any]] = json.loads(text)["features"]
            return features
        return json.loads(text) if format == "json" else [json.loads(line) for line in text.splitlines()]

    written = answers(as_text(sample_answers(), format))
    for answer in written:
        as_earlier(answer["properties"] if format == "geojson" else answer)
    earlier = answers((WRITTEN / f"answers.{format}").read_text(encoding="utf-8"))
    assert json.dumps(written) == json.dumps(earlier), "the same fields in the same order"


@given(data=st.data())
@settings(max_examples=60)
def test_json_lines_round_trip(made_up_answers: Answers, data: st.DataObject) -> None:
    answers = data.draw(made_up_answers)
    lines = as_text(answers, "jsonl").encode().split(b"\n")
    assert lines.pop() == b""
    assert [answer_from_json(line, "here") for line in lines] == answers


@given(data=st.data())
@settings(max_examples=60)
def test_all_formats_are_consistent(made_up_answers: Answers, data: st.DataObject) -> None:
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
    cells = [tuple(unguarded_cell(row[name]) for name in ("photograph", "candidate_id")) for row in rows]
    assert cells == expected


@pytest.mark.parametrize("format", ["json", "jsonl", "csv", "geojson", "kml"])
def test_writing_in_batches_gives_the_same_document(format: str) -> None:
    answers, pieces = [LEEDS, LOST, LEEDS], []
    with text_writer(text_form(format, [8]), pieces.append) as writer:
        assert not pieces
        writer.write(answers[:1])
        assert "a, b.jpg" in "".join(pieces), "answers are written immediately"
        writer.write([])
        writer.write(answers[1:])
    assert "".join(pieces) == as_text(answers, format)


def test_document_is_not_completed_after_an_error() -> None:
    pieces: list[str] = []

    def fail() -> None:
        with text_writer(GEOJSON, pieces.append) as writer:
            writer.write([LOST])
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        fail()
    assert not "".join(pieces).endswith("]}\n")


def test_documents_without_answers_are_well_formed() -> None:
    assert json.loads(as_text([], "json")) == []
    assert as_text([], "jsonl") == ""
    assert json.loads(as_text([], "geojson"))["features"] == []
    assert as_text([], "csv").startswith("photograph,photographs,rank,candidate_id,lat_deg,")


def test_documents_state_the_version() -> None:
    assert json.loads(JSON_LINES.item(LEEDS))["schema_version"] == ANSWER_VERSION
    assert json.loads(as_text([LEEDS], "geojson"))["schema_version"] == ANSWER_VERSION


def test_csv_columns_do_not_depend_on_the_answers() -> None:
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


def test_cell_without_a_column_is_an_error() -> None:
    with pytest.raises(ValueError, match="answer_cell_8"):
        text_form("csv", [6]).item(LEEDS)


def test_format_is_named_or_that_of_the_extension() -> None:
    for name, format in (
        ("a.JSONL", "jsonl"),
        ("a.ndjson", "jsonl"),
        ("b.c.geoparquet", "parquet"),
        ("x.json", "json"),
    ):
        assert format_of(Path(name), None) == format
    assert format_of(Path("a.txt"), "kml") == "kml"
    with pytest.raises(ConfigError, match=r"a\.txt: unknown extension .*--format"):
        format_of(Path("a.txt"), None)
    with pytest.raises(ConfigError, match="--out FILE"):
        text_form("parquet")


def test_sentences_name_place_certainty_region_and_map() -> None:
    region = RegionAnswer(probability=0.8, area_km2=0.0313, cannot_tell=False, resolution=10)
    place = {"lat_deg": 53.8, "lon_deg": -1.55, "probability_within_50m": 0.5}
    answers = [
        Answer(photograph="a.jpg", city="Leeds", region=region, **place),
        Answer(
            photograph="b.jpg",
            region=region.model_copy(update={"cannot_tell": True, "reason": "is too large."}),
            **place,
        ),
        Answer(photograph="c\x1b[2J.jpg", error="is an empty file"),
    ]
    link = "https://www.openstreetmap.org/?mlat=53.80000&mlon=-1.55000&zoom=17"
    assert as_text(answers, "text").splitlines() == [
        f"a.jpg: Leeds, 53.80000, -1.55000; 50% within 50 m; 80% region 0.031 km²; {link}",
        f"b.jpg: 53.80000, -1.55000; 50% within 50 m; abstains from a region: is too large; {link}",
        "c\N{REPLACEMENT CHARACTER}[2J.jpg: no answer: is an empty file",
    ]
