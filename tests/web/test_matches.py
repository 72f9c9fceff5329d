"""Matching patches of photographs and candidates: in the interface, and drawn by the page in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures.accessibility import findings
from fixtures.models import tiny_model
from fixtures.service import Served, send
from swclip.calibration.posterior_config import PosteriorConfig
from swclip.data.manifest import read_manifest
from swclip.gallery.build import build_gallery, manifest_candidates
from swclip.gallery.patches import PatchSource
from swclip.models.embed_patches import fit_patch_encoder, patch_features
from swclip.models.patch_matching import mutual_matches, patch_similarities
from swclip.retrieval.locator import Locator
from swclip.web.settings import Limits
from swclip.web.thumbnails import Thumbnails

from .test_page import answered, choose


@pytest.fixture(scope="module")
def matching(town: Path) -> Locator:
    """A gallery of the town with patch features, whose posterior does not verify."""
    manifest = read_manifest(town)
    model = tiny_model(manifest.positions_deg, seed=3)
    model.patches = fit_patch_encoder(model, manifest.image_paths, 6)
    posterior = PosteriorConfig(0.2, 0.02, 0.8, smoothing_m=15.0)
    return Locator(
        build_gallery(model, manifest_candidates(manifest), manifest, posterior=posterior, patches=True), model
    )


@pytest.fixture(scope="module")
def shown(serve: Any, matching: Locator, town: Path) -> Iterator[Served]:
    thumbnails = Thumbnails.of_manifest(read_manifest(town), matching.gallery.image_ids)
    with serve(matching, Limits(timeout_s=120), thumbnails=thumbnails) as served:
        yield served


def test_matches_are_those_of_the_patch_features(
    shown: Served, matching: Locator, photographs: list[bytes], town: Path
) -> None:
    with shown.client() as client:
        plain = client.post("/v2/locate", **send(photographs[:2])).json()
        reply = client.post("/v2/locate", **send([*photographs[:2], b"junk"], matches="true")).json()
        assert client.get("/v2/gallery").json()["matches"] == {"central_square": None}  # this model squashes
    source = matching.gallery.verifier
    assert isinstance(source, PatchSource)
    queries = patch_features(matching.model, read_manifest(town).image_paths[:2])
    for number, (result, query) in enumerate(zip(reply["results"], queries, strict=False)):
        # The answer is the same with and without; nothing else of the request is stated.
        assert result["answer"] == plain["results"][number]["answer"]
        assert plain["results"][number]["matches"] is None
        (of_photograph,) = result["matches"]
        assert of_photograph["photograph"] == number
        assert query is not None
        assert [item["candidate"] for item in of_photograph["candidates"]] == [0, 1, 2]
        for item in of_photograph["candidates"]:
            ids = result["answer"]["candidates"][item["candidate"]]["image_ids"]
            patches = [values for values in source.take(ids) if values is not None]
            best = int(np.argmax(patch_similarities(query, patches)))
            assert item["image_id"] == ids[best]
            expected = mutual_matches(query, patches[best])
            assert item["total"] == expected.total
            starts, stops = expected.centres()
            np.testing.assert_allclose([pair["query"] for pair in item["pairs"]], starts.reshape(-1, 2), atol=1e-4)
            np.testing.assert_allclose([pair["photograph"] for pair in item["pairs"]], stops.reshape(-1, 2), atol=1e-4)
            np.testing.assert_allclose([pair["cosine"] for pair in item["pairs"]], expected.cosine, atol=1e-5)
    assert reply["results"][2]["matches"] is None
    # A photograph of the gallery matches itself, patch by patch.
    itself = reply["results"][0]["matches"][0]["candidates"]
    identical = [item for item in itself if item["image_id"] == "p00-0"]
    assert identical
    assert all(pair["query"] == pair["photograph"] for pair in identical[0]["pairs"])


def test_photographs_of_one_place_have_their_own_matches(shown: Served, photographs: list[bytes]) -> None:
    with shown.client() as client:
        fields = {"matches": "true", "combined": "true"}
        (result, _) = client.post("/v2/locate", **send([photographs[0], b"junk", photographs[1]], **fields)).json()[
            "results"
        ]
    assert [item["photograph"] for item in result["matches"]] == result["photographs"] == [0, 2]


def test_a_gallery_without_patch_features_says_so(served: Served, photographs: list[bytes]) -> None:
    with served.client() as client:
        assert client.get("/v2/gallery").json()["matches"] is None
        reply = client.post("/v2/locate", **send(photographs[:1], matches="true"))
        assert reply.status_code == 422
        assert reply.json()["errors"][0]["field"] == "matches"
        assert "patch features" in reply.text


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_draws_the_matches_of_a_place(
    shown: Served, visit: Any, photographs: list[bytes], width: int, tmp_path: Path
) -> None:
    page = visit(shown, width)
    choose(page, *photographs[:2])
    answered(page, 2)
    buttons = page.locator("#places button.matches")
    first = buttons.first
    assert first.get_attribute("aria-expanded") == "false"
    figure = page.locator("#" + first.get_attribute("aria-controls"))
    assert figure.is_hidden()
    first.focus()
    page.keyboard.press("Enter")
    drawing = figure.locator("svg[role=img]")
    drawing.wait_for()
    assert first.get_attribute("aria-expanded") == "true"
    assert drawing.locator("image").count() == 2
    pairs = drawing.locator("line").count()
    assert 1 <= pairs <= 30
    assert drawing.locator("circle").count() == 2 * pairs
    assert f"{pairs} pair" in drawing.get_attribute("aria-label")
    assert "matching patch" in figure.inner_text()
    assert drawing.bounding_box()["width"] > 250
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert findings(page) == []
    page.set_viewport_size({"width": width, "height": 860})
    page.screenshot(path=tmp_path / f"{width}.png", full_page=True)
    first.click()
    assert figure.is_hidden()
    # The other photograph has figures of its own, which are not drawn yet.
    page.locator("#photographs button").nth(1).click()
    assert page.locator("#places figure svg").count() == 0


def test_a_page_without_patch_features_offers_none(served: Served, visit: Any, photographs: list[bytes]) -> None:
    page = visit(served)
    choose(page, photographs[0])
    answered(page)
    assert page.locator("#places li").count() == 5
    assert page.locator("#places button.matches").count() == 0
