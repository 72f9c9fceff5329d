"""The JSON schema of answers: valid and invalid answers, and the published schema."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swclip.answers.record import Answer, answer_from_json, answer_schema
from swclip.calibration.conformal import Calibration
from swclip.calibration.posterior_config import PosteriorConfig
from swclip.errors import ArtefactError
from swclip.gallery.gallery import Gallery
from swclip.retrieval.locator import Locator

PUBLISHED = Path(__file__).parents[2] / "docs" / "answer.schema.json"
Check = Callable[[Any], None]


@pytest.fixture(scope="module")
def check() -> Check:
    schema = answer_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema).validate


def keys(schema: dict[str, Any]) -> dict[str, set[str]]:
    return {"Answer": set(schema["properties"])} | {n: set(part["properties"]) for n, part in schema["$defs"].items()}


def test_published_schema_is_up_to_date() -> None:
    # After a change, write json.dumps(answer_schema(), indent=1) to the file.
    assert json.loads(PUBLISHED.read_text(encoding="utf-8")) == answer_schema()


@pytest.fixture
def real(
    make_gallery: Callable[..., Gallery], model: object, photographs: Callable[[int], list[Path]]
) -> dict[str, Any]:
    """Answers of a locator: with a region, abstaining, without a region, and an error."""
    calibration = Calibration(np.linspace(0.01, 0.99, 99), (None,) * 99, 11, 25.0)
    locator = Locator(make_gallery(1), model, PosteriorConfig(0.1, 0.1, 0.4, 150.0), calibration=calibration)
    path = photographs(1)[0]
    return {
        "whole": locator.locate(path)[0].as_dict(),
        "abstains": locator.locate(path, region_limit_km2=1e-6)[0].as_dict(),
        "no region": locator.locate(path, region=None)[0].as_dict(),
        "error": locator.locate(Path("nowhere.jpg"))[0].as_dict(),
    }


def test_answers_of_a_locator_match_the_schema(real: dict[str, Any], check: Check) -> None:
    fields = keys(answer_schema())
    for name, answer in real.items():
        check(json.loads(json.dumps(answer, allow_nan=False)))
        assert set(answer) == fields["Answer"], name
    whole = real["whole"]
    assert set(whole["region"]) == fields["RegionAnswer"]
    assert set(whole["cells"][0]) == fields["CellAnswer"]
    assert set(whole["candidates"][0]) == fields["RankedCandidate"]
    assert real["abstains"]["region"]["cannot_tell"]
    assert real["error"]["error"]


@given(data=st.data())
@settings(max_examples=40)
def test_any_answer_matches_the_schema(
    made_up_answers: st.SearchStrategy[list[Answer]], data: st.DataObject, check: Check
) -> None:
    for answer in data.draw(made_up_answers):
        check(json.loads(json.dumps(answer.as_dict())))


def without(key: str) -> Check:
    return lambda answer: answer.pop(key)


def with_value(value: Any, *path: Any) -> Check:
    def spoil(answer: Any) -> None:
        for key in path[:-1]:
            answer = answer[key]
        answer[path[-1]] = value

    return spoil


@pytest.mark.parametrize(
    "spoil",
    [
        without("photograph"),
        without("schema_version"),
        with_value("2", "schema_version"),
        with_value(91.0, "lat_deg"),
        with_value("53.8", "lat_deg"),
        with_value(None, "lat_deg"),
        with_value("is empty", "error"),
        with_value(-0.1, "candidates", 0, "probability"),
        with_value(None, "candidates", 0, "candidate_id"),
        with_value([1], "candidates", 0, "image_ids"),
        with_value(11.5, "region", "resolution"),
        with_value(None, "region", "cannot_tell"),
        with_value(16, "cells", 0, "resolution"),
    ],
)
def test_invalid_answers_are_refused(real: dict[str, Any], check: Check, spoil: Check) -> None:
    bad = deepcopy(real["whole"])
    check(bad)
    spoil(bad)
    with pytest.raises(jsonschema.ValidationError):
        check(bad)


def test_unknown_keys_are_allowed(real: dict[str, Any], check: Check) -> None:
    later = {**real["whole"], "weather": "rain"}
    check(later)
    assert answer_from_json(json.dumps(later).encode(), "x").photograph == later["photograph"]


@pytest.mark.parametrize("line", [b"{}", b"[]", b'{"photograph": 3}', b'{"photograph": "a"', b"\0\0\0"])
def test_invalid_line_is_reported(line: bytes) -> None:
    with pytest.raises(ArtefactError, match=r"answers\.jsonl: a line is not an answer"):
        answer_from_json(line, "answers.jsonl")


def test_every_field_is_described() -> None:
    schema = answer_schema()
    for part in (schema, *schema["$defs"].values()):
        for name, field in part["properties"].items():
            assert field.get("description", "").endswith("."), name
