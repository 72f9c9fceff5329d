"""POST /v2/locate: answers to one and to several photographs, options and priors."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import h3
import httpx
import numpy as np
import pytest
from PIL import Image

from fixtures.service import encoded, send
from swclip.calibration.posterior_config import EstimatorName
from swclip.data.manifest import read_manifest
from swclip.geo.distance import geodesic_m
from swclip.models.embed import embed_photographs
from swclip.retrieval.locator import Locator
from swclip.retrieval.pooling import EXPONENT
from swclip.retrieval.posterior import log_posterior


def results(client: httpx.Client, photographs: list[bytes], **fields: Any) -> list[dict[str, Any]]:
    response = client.post("/v2/locate", **send(photographs, **fields))
    assert response.status_code == 200, response.text
    answers: list[dict[str, Any]] = response.json()["results"]
    return answers


def ask(client: httpx.Client, photographs: list[bytes], **fields: Any) -> list[dict[str, Any]]:
    return [result["answer"] for result in results(client, photographs, **fields)]


def point(answer: dict[str, Any]) -> tuple[float, float]:
    return answer["lat_deg"], answer["lon_deg"]


def with_gps(data: bytes, lat: float, lon: float, **tags: Any) -> bytes:
    exif = Image.Exif()
    gps = exif.get_ifd(0x8825)
    gps[1], gps[2] = "N" if lat >= 0 else "S", (abs(lat), 0.0, 0.0)
    gps[3], gps[4] = "E" if lon >= 0 else "W", (abs(lon), 0.0, 0.0)
    exif[0x8825] = gps
    stream = io.BytesIO()
    Image.open(io.BytesIO(data)).save(stream, "JPEG", exif=exif, quality=95)
    return stream.getvalue()


def differences(first: Any, second: Any, where: str = "") -> list[str]:
    """The paths where two records differ by more than the last digits of floats."""
    if isinstance(first, dict) and isinstance(second, dict) and first.keys() == second.keys():
        return [line for key in first for line in differences(first[key], second[key], f"{where}.{key}")]
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        return [
            line
            for at, pair in enumerate(zip(first, second, strict=True))
            for line in differences(*pair, f"{where}.{at}")
        ]
    if isinstance(first, float) and isinstance(second, float):
        return [] if first == pytest.approx(second, abs=2e-6, rel=1e-4) else [f"{where}: {first} {second}"]
    return [] if first == second and type(first) is type(second) else [f"{where}: {first!r} {second!r}"]


@pytest.mark.parametrize("estimator", ["mode", "argmax", "geometric-median"])
def test_answer_equals_that_of_the_locator(
    client: httpx.Client, photographs: list[bytes], town: Path, locator: Locator, estimator: EstimatorName
) -> None:
    paths = read_manifest(town).image_paths[:8]
    answered = results(client, photographs[:8], estimator=estimator, top_k=3, region=0.7)
    for number, (result, expected) in enumerate(
        zip(answered, locator.locate(paths, top_k=3, estimator=estimator, region=0.7), strict=True)
    ):
        # All but the name, which the service does not know; `argmax` is of the posterior in the one, of locations alone
        # in the other.
        renamed = expected.model_copy(update={"photograph": str(number)}).as_dict()
        for record in (result["answer"], renamed):
            del record["argmax_lat_deg"], record["argmax_lon_deg"]
        assert differences(result["answer"], renamed) == []
        assert result["answer"]["region"]["calibrated"]
        assert (result["photographs"], result["posterior"], result["exif"], result["problem"]) == (
            [number],
            None,
            None,
            None,
        )


def test_photographs_are_answered_separately_and_in_order(client: httpx.Client, photographs: list[bytes]) -> None:
    chosen = photographs[0::11][:5]
    together = client.post("/v2/locate", **send(chosen)).json()
    assert [result["photographs"] for result in together["results"]] == [[0], [1], [2], [3], [4]]
    assert together["combined"] is False
    for data, result in zip(chosen, together["results"], strict=True):
        (alone,) = ask(client, [data])
        assert point(result["answer"]) == point(alone)
        assert result["answer"]["probability_within_50m"] == pytest.approx(alone["probability_within_50m"], abs=2e-6)
    assert len({point(result["answer"]) for result in together["results"]}) == 5


def test_posterior_and_regions(client: httpx.Client, photographs: list[bytes], locator: Locator) -> None:
    (result,) = results(client, photographs[:1], include_posterior="true", region="0.895")
    posterior, answer = result["posterior"], result["answer"]
    mass = sum(cell["probability"] for cell in posterior["cells"])
    assert mass + posterior["left_out"] == pytest.approx(1.0, abs=1e-4)
    assert mass > 0.998
    assert not posterior["cut"]
    by_level = {region["level"]: region for region in posterior["regions"]}
    assert sorted(by_level) == [round(0.5 + step / 100, 2) for step in range(46)]
    assert answer["region"]["probability"] == 0.9
    assert answer["region"]["area_km2"] == pytest.approx(by_level[0.9]["area_km2"], rel=1e-4)
    cells = h3.uncompact_cells(answer["region"]["cells"], answer["region"]["resolution"])
    inside = {cell["cell_id"] for cell in posterior["cells"] if (cell["from_level"] or 2.0) <= 0.9}
    assert set(cells) == inside
    ground = dict(zip(locator.region_cells.cell_ids, locator.region_cells.area_km2.tolist(), strict=True))
    for level, region in by_level.items():
        inside = [cell for cell in posterior["cells"] if (cell["from_level"] or 2.0) <= level]
        assert region["cells"] == len(inside)
        assert region["area_km2"] == pytest.approx(sum(ground[cell["cell_id"]] for cell in inside), rel=1e-5)
    areas = [region["area_km2"] for region in posterior["regions"]]
    assert areas == sorted(areas)
    first = posterior["cells"][0]
    corners = np.array(first["boundary_deg"])
    assert len(corners) == 6
    place = np.array([point(answer)])
    assert geodesic_m(place, corners.mean(axis=0, keepdims=True))[0] < 60


def test_combined_photographs_get_one_answer(
    client: httpx.Client, photographs: list[bytes], town: Path, locator: Locator
) -> None:
    same = [4 * 3, 4 * 3 + 1, 4 * 3 + 2]
    reply = client.post("/v2/locate", **send([photographs[i] for i in same], combined="true", top_k=20)).json()
    assert [result["photographs"] for result in reply["results"]] == [[0, 1, 2]]
    answer = reply["results"][0]["answer"]
    assert answer["region"]["calibrated"] is False  # regions are calibrated on single validation queries
    assert (answer["photograph"], answer["photographs"]) == ("0", ["0", "1", "2"])
    assert [candidate["photograph"] for candidate in answer["candidates"][0]["evidence"]] == ["0", "1", "2"]
    query = embed_photographs(locator.model, [read_manifest(town).image_paths[i] for i in same])
    single = log_posterior(query, locator.gallery, locator.posterior).astype(np.float64)
    product = np.exp(single).prod(axis=0) ** (1 / 3**EXPONENT)
    expected = locator.smoothed_posterior(np.log(product / product.sum())[None])[0]
    for item in answer["candidates"]:
        at = locator.gallery.candidate_ids.index(item["candidate_id"])
        assert item["probability"] == pytest.approx(expected[at], abs=1e-5)
    alone = ask(client, [photographs[same[0]]])[0]
    assert answer["probability_within_50m"] > alone["probability_within_50m"]
    (item,) = ask(client, [photographs[0]], combined="true")
    assert item == ask(client, [photographs[0]])[0]


def test_area_excludes_candidates(client: httpx.Client, photographs: list[bytes], locator: Locator) -> None:
    (free,) = ask(client, photographs[:1])
    lat, lon = point(free)
    # Everything except the neighbourhood of the answer without a prior.
    hole = [[lon - 1e-3, lat - 5e-4], [lon + 1e-3, lat - 5e-4], [lon + 1e-3, lat + 5e-4], [lon - 1e-3, lat + 5e-4]]
    outer = [[lon - 1, lat - 1], [lon + 1, lat - 1], [lon + 1, lat + 1], [lon - 1, lat + 1]]
    prior = {"type": "Polygon", "coordinates": [[*outer, outer[0]], [*hole, hole[0]]]}
    (result,) = ask(client, photographs[:1], prior=json.dumps(prior), top_k=50, include_posterior="true")
    inside = [abs(p[0] - lat) > 5e-4 or abs(p[1] - lon) > 1e-3 for p in locator.gallery.positions_deg]
    allowed = {name for name, there in zip(locator.gallery.candidate_ids, inside, strict=True) if there}
    assert {item["candidate_id"] for item in result["candidates"]} == allowed
    assert 0 < len(allowed) < len(locator.gallery)
    assert sum(item["probability"] for item in result["candidates"]) == pytest.approx(1.0, abs=1e-4)
    assert abs(result["lat_deg"] - lat) > 5e-4 or abs(result["lon_deg"] - lon) > 1e-3
    assert result["region"]["calibrated"] is False
    everything = {"type": "Polygon", "coordinates": [[*outer, outer[0]]]}
    (same,) = ask(client, photographs[:1], prior=json.dumps(everything))
    assert point(same) == point(free)
    assert same["probability_within_50m"] == pytest.approx(free["probability_within_50m"], abs=2e-6)


def test_rough_position_changes_the_answer(client: httpx.Client, photographs: list[bytes], locator: Locator) -> None:
    target = locator.gallery.positions_deg[17]
    near = {"near_lat_deg": target[0], "near_lon_deg": target[1]}
    (close,) = ask(client, photographs[:1], **near, near_radius_m=5)
    assert point(close) == pytest.approx(tuple(target), abs=1e-6)
    (free,), (vague,) = ask(client, photographs[:1]), ask(client, photographs[:1], **near, near_radius_m=1e6)
    assert point(vague) == point(free)
    assert vague["probability_within_50m"] == pytest.approx(free["probability_within_50m"], abs=1e-4)


def test_exif_position_is_compared_on_request_and_never_used(client: httpx.Client, photographs: list[bytes]) -> None:
    plain = photographs[0]
    stream = io.BytesIO()
    Image.open(io.BytesIO(plain)).save(stream, "JPEG", quality=95)
    bare, marked = stream.getvalue(), with_gps(plain, 53.8, -1.5)
    (without,), (with_exif,) = results(client, [bare]), results(client, [marked])
    assert with_exif == without  # the EXIF position has no effect
    (compared,) = results(client, [marked], compare_exif="true")
    place = [point(compared["answer"])]
    assert compared["exif"][0]["position"] == {"lat_deg": 53.8, "lon_deg": -1.5}
    assert compared["exif"][0]["distance_m"] == pytest.approx(geodesic_m(place, [[53.8, -1.5]])[0], abs=0.01)
    assert {**compared, "exif": None} == without
    nothing = {"position": None, "distance_m": None}
    for useless in (bare, with_gps(plain, 0.0, 0.0), with_gps(plain, 95.0, 10.0)):
        assert results(client, [useless], compare_exif="true")[0]["exif"] == [nothing]
    both = client.post("/v2/locate", **send([bare, marked], compare_exif="true", combined="true")).json()
    assert [item["position"] is None for item in both["results"][0]["exif"]] == [True, False]


def test_supported_formats(client: httpx.Client) -> None:
    kinds = ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"]
    assert len(ask(client, [encoded(kind, seed=1) for kind in kinds])) == 6


def test_invalid_file_does_not_stop_the_others(client: httpx.Client, photographs: list[bytes]) -> None:
    reply = client.post("/v2/locate", **send([photographs[0], b"no picture", photographs[1][:300]]))
    assert reply.status_code == 200
    first, second, third = reply.json()["results"]
    assert first["answer"] is not None
    assert first["problem"] is None
    assert (second["answer"], second["problem"]["status"], second["problem"]["photograph"]) == (None, 415, 1)
    assert (third["problem"]["type"], third["problem"]["status"]) == ("urn:swclip:problem:photograph-damaged", 422)
    # Combined: the answer is to the other photographs, which the result lists.
    several = [b"no", photographs[0], photographs[1]]
    refused, whole = client.post("/v2/locate", **send(several, combined="true")).json()["results"]
    assert (refused["photographs"], whole["photographs"]) == ([0], [1, 2])
    assert (refused["problem"]["status"], refused["problem"]["photograph"]) == (415, 0)
    (alone,) = ask(client, photographs[:2], combined="true")
    assert whole["answer"].pop("photographs") == ["1", "2"], "photographs are named by their number in the request"
    combined = {**whole["answer"], "photograph": "0", "photographs": ["0", "1"]}
    assert {**combined, "candidates": None} == {**alone, "candidates": None}
    assert [item["probability"] for item in whole["answer"]["candidates"]] == [
        item["probability"] for item in alone["candidates"]
    ]
    assert client.post("/v2/locate", **send([b"no", b"nor this"], combined="true")).status_code == 415


def test_city_restricts_the_candidates(client: httpx.Client, photographs: list[bytes], locator: Locator) -> None:
    (result,) = ask(client, photographs[:1], city="york", top_k=50)
    inside = {
        i for i, city in zip(locator.gallery.candidate_ids, locator.gallery.cities, strict=True) if city == "York"
    }
    assert {item["candidate_id"] for item in result["candidates"]} == inside
    assert result["city_probability"] == 1.0
    assert result["region"]["calibrated"] is False
    refused = client.post("/v2/locate", **send(photographs[:1], city="Lees"))
    assert refused.status_code == 422
    assert refused.json()["type"] == "urn:swclip:problem:invalid-options"
    assert refused.json()["errors"] == [
        {"field": "city", "detail": "'Lees' is not a city of the gallery; it has Leeds, York."}
    ]


def test_invalid_areas_and_positions_are_refused(client: httpx.Client, photographs: list[bytes]) -> None:
    refused = client.post("/v2/locate", **send(photographs[:1], prior="{"))
    assert (refused.status_code, refused.json()["detail"]) == (422, "prior: is not JSON.")
    assert refused.json()["errors"] == [{"field": "prior", "detail": "is not JSON."}]
    elsewhere = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}
    for known in (
        {"prior": json.dumps(elsewhere)},
        {"near_lat_deg": -1.55, "near_lon_deg": 53.8, "near_radius_m": 100},
    ):
        refused = client.post("/v2/locate", **send(photographs[:1], **known))
        assert refused.status_code == 422
        assert refused.json()["type"] == "urn:swclip:problem:prior-excludes-all"


def test_evidence_for_a_candidate(client: httpx.Client, photographs: list[bytes], town: Path, locator: Locator) -> None:
    paths = read_manifest(town).image_paths[:2]
    (result, _), (theirs, _) = ask(client, photographs[:2]), locator.locate(paths)
    for combined, item in zip(result["candidates"], theirs.candidates, strict=True):
        assert combined["image_ids"] == list(item.image_ids)
        assert combined["image_similarities"] == pytest.approx(list(item.image_similarities), abs=2e-6)
        assert combined["location_similarity"] == pytest.approx(item.location_similarity, abs=2e-6)
        assert combined["image_share"] == pytest.approx(item.image_share, abs=2e-6)
        assert combined["evidence"] == []
    # The query is one of the gallery's photographs.
    assert result["candidates"][0]["image_similarities"][0] == pytest.approx(1.0, abs=1e-5)
    (together,), (expected,) = ask(client, photographs[:2], combined="true"), locator.locate(paths, together=True)
    for candidate, expected_candidate in zip(together["candidates"], expected.candidates, strict=True):
        assert (candidate["location_similarity"], candidate["image_share"]) == (None, None)
        for evidence, expected_evidence in zip(candidate["evidence"], expected_candidate.evidence, strict=True):
            assert evidence["probability"] == pytest.approx(expected_evidence.probability, abs=2e-6)
            assert evidence["image_ids"] == list(expected_evidence.image_ids)


def test_region_equals_that_of_the_locator(
    client: httpx.Client, photographs: list[bytes], town: Path, locator: Locator
) -> None:
    paths = read_manifest(town).image_paths[:2]
    for combined in (False, True):
        answers = ask(client, photographs[:2], combined=str(combined).lower())
        for answer, expected in zip(answers, locator.locate(paths, together=combined), strict=True):
            assert expected.region is not None
            assert answer["region"]["calibrated"] == (not combined)
            assert differences(answer["region"], expected.region.model_dump(mode="json")) == []
