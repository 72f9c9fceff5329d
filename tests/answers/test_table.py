"""GeoParquet: fixed typed columns, readable by geopandas, written in row groups."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.answers import RESOLUTIONS as SAMPLE_RESOLUTIONS
from fixtures.answers import sample_answers
from swclip.answers import table as answer_table
from swclip.answers.record import Answer
from swclip.answers.table import TableWriter, answer_file, answers_table_schema

RESOLUTIONS = (6, 8)


@given(data=st.data())
@settings(max_examples=20)
def test_table_contains_the_answers(
    made_up_answers: st.SearchStrategy[list[Answer]], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    answers = data.draw(made_up_answers)
    path = tmp_path_factory.mktemp("table") / "answers.parquet"
    with answer_file(path, "parquet", RESOLUTIONS) as file:
        for answer in answers:
            file.write([answer])
    rows = pq.read_table(path).to_pylist()
    assert len(rows) == len(answers)
    for row, answer in zip(rows, answers, strict=True):
        plain = answer.as_dict()
        for name in (
            "photograph",
            "lat_deg",
            "lon_deg",
            "city",
            "city_probability",
            "error",
            "candidates",
            "scored_share",
        ):
            assert row[name] == plain[name], name
        assert {name: row[name] for name in answer.flat_cells()} == answer.flat_cells()
        assert {name: row[name] for name in answer.flat_region()} == answer.flat_region()
        assert row["region_cells"] == (None if answer.region is None else list(answer.region.cells))
        assert (row["geometry"] is None) == (answer.lat_deg is None)


def test_table_of_version_1_has_only_more_columns(tmp_path: Path) -> None:
    with answer_file(tmp_path / "answers.parquet", "parquet", SAMPLE_RESOLUTIONS) as file:
        file.write(sample_answers())
    expected = pq.read_table(Path(__file__).parent / "as_version_1" / "answers.parquet")
    # Not the bytes, in which the version of pyarrow is.
    table = pq.read_table(tmp_path / "answers.parquet").drop_columns(["in_area_probability"])
    assert table.schema.metadata == expected.schema.metadata
    assert table.drop_columns(["candidates"]).equals(expected.drop_columns(["candidates"]))
    candidates = table["candidates"].to_pylist()
    for candidate in (candidate for of_answer in candidates for candidate in of_answer):
        for name in ("image_licences", "image_authors", "image_source_urls"):
            assert candidate.pop(name) == []
    assert candidates == expected["candidates"].to_pylist()


def test_geopandas_reads_the_table(tmp_path: Path) -> None:
    path = tmp_path / "answers.parquet"
    with TableWriter(path, [8]) as file:
        file.write(
            [
                Answer(photograph="a.jpg", lat_deg=53.8, lon_deg=-1.55),
                Answer(photograph="b.jpg", error="is an empty file"),
            ]
        )
    frame = geopandas.read_parquet(path)
    assert frame.crs.to_epsg() == 4326
    assert (frame.geometry.x[0], frame.geometry.y[0]) == (-1.55, 53.8)
    assert frame.geometry[1] is None
    assert frame["error"].isna().tolist() == [True, False]
    assert frame["error"][1] == "is an empty file"
    assert frame["cell_8"].isna().all()


def test_columns_do_not_depend_on_the_answers(tmp_path: Path) -> None:
    schemas = []
    for name, answers in (
        ("none", []),
        ("lost", [Answer(photograph="b.jpg", error="x")]),
        ("one", [Answer(photograph="a", lat_deg=1.0, lon_deg=2.0)]),
    ):
        with TableWriter(tmp_path / name, [8]) as file:
            file.write(answers)
        schemas.append(pq.read_schema(tmp_path / name))
    assert schemas[0].equals(schemas[1], check_metadata=True)
    assert schemas[0].equals(schemas[2], check_metadata=True)
    assert json.loads(schemas[0].metadata[b"swclip.answers"]) == {"schema_version": "1"}
    assert schemas[0].field("cell_8_probability").type == pa.float64()
    assert not [name for name in answers_table_schema().names if name.startswith("cell_")]


def test_rows_are_written_in_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_table, "ROWS", 4)
    path = tmp_path / "answers.parquet"
    with TableWriter(path) as file:
        file.write([Answer(photograph=f"{n}.jpg", error="x") for n in range(7)])
        file.write([Answer(photograph=f"{n}.jpg", error="x") for n in range(7, 10)])
    whole = pq.ParquetFile(path)
    assert [whole.metadata.row_group(i).num_rows for i in range(whole.num_row_groups)] == [4, 4, 2]
    assert whole.read()["photograph"].to_pylist() == [f"{n}.jpg" for n in range(10)]
