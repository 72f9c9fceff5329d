"""The OpenAPI description matches the service: generated requests get the documented responses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import CHECKS

from fixtures.service import Served, send
from swclip.retrieval.locator import Locator
from swclip.web.problems import KINDS, MEDIA_TYPE, ProblemDetail
from swclip.web.responses import LocateResponse
from swclip.web.settings import Limits

# A string of bytes made from a schema is no photograph: that it is refused says nothing against the service.
LEFT_OUT = ("positive_data_acceptance",)
REFUSED = [400, 404, 405, 413, 415, 422]


@pytest.fixture(scope="module")
def described(serve: Any, locator: Locator) -> Iterator[tuple[Served, Any]]:
    with serve(locator, Limits(timeout_s=120)) as served:
        config = schemathesis.Config.from_dict({"checks": {"negative_data_rejection": {"expected-statuses": REFUSED}}})
        yield served, schemathesis.openapi.from_url(f"{served.address}/v2/openapi.json", config=config)


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_generated_requests_get_documented_responses(described: tuple[Served, Any], mode: str) -> None:
    served, schema = described
    left_out = [CHECKS.get_one(name) for name in LEFT_OUT]
    generation = schemathesis.GenerationMode.POSITIVE if mode == "positive" else schemathesis.GenerationMode.NEGATIVE
    n_requests = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        if mode == "negative" and operation.path in ("/healthz", "/readyz", "/metrics", "/v2/gallery"):
            continue  # they take nothing that could be wrong

        @settings(
            max_examples=12, deadline=None, database=None, derandomize=True, phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=operation.as_strategy(generation_mode=generation))
        def answered(case: Any) -> None:
            nonlocal n_requests
            response = case.call(base_url=served.address)
            n_requests += 1
            assert response.status_code < 500
            case.validate_response(response, excluded_checks=left_out)

        answered()
    assert n_requests > 20


def test_response_matches_the_schema(served: Served, photographs: list[bytes]) -> None:
    import jsonschema

    with served.client() as client:
        openapi = client.get("/v2/openapi.json").json()
        request = send(photographs[:3], include_posterior="true", compare_exif="true")
        reply = client.post("/v2/locate", **request).json()
    LocateResponse.model_validate(reply)
    published = json.loads((Path(__file__).parents[2] / "docs" / "answer.schema.json").read_text(encoding="utf-8"))
    for result in reply["results"]:
        jsonschema.Draft202012Validator(published).validate(result["answer"])
    schema = {"$ref": "#/components/schemas/LocateResponse", "components": openapi["components"]}
    jsonschema.Draft202012Validator(schema).validate(reply)


def test_all_kinds_of_problems_are_documented(served: Served) -> None:
    with served.client() as client:
        openapi = client.get("/v2/openapi.json").json()
    locate = openapi["paths"]["/v2/locate"]["post"]
    named = " ".join(response["description"] for response in locate["responses"].values())
    everywhere = {"not-found", "method-not-allowed", "refused", "key-needed", "version-gone"}
    for kind in set(KINDS) - everywhere:
        assert f"`{kind}`" in named
        assert str(KINDS[kind].status) in locate["responses"]
    for path, methods in openapi["paths"].items():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    assert list(response["content"]) == [MEDIA_TYPE], (path, status)
    assert {"photographs", "top_k", "prior", "region", "combined", "estimator", "compare_exif"} <= set(
        locate["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    )


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.text(st.characters(blacklist_characters="?#", blacklist_categories=["Cs"]), max_size=30))
def test_any_path_gets_a_response(served: Served, path: str) -> None:
    with served.client() as client:
        try:
            response = client.get("/" + path)
        except httpx.InvalidURL:
            return
    if response.status_code >= 400:
        assert response.status_code < 500
        ProblemDetail.model_validate_json(response.text)
