"""The page in a real browser: answers on the map and as text, and no requests to other hosts."""

from __future__ import annotations

import base64
import json
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h3
import httpx
import numpy as np
import pandas as pd
import pytest
import shapely

from fixtures.accessibility import findings
from fixtures.service import Served, send
from swclip.calibration.conformal import Calibration
from swclip.calibration.in_area import InArea
from swclip.data.attribution import attribution_table
from swclip.data.manifest import read_manifest
from swclip.reporting.tiles import Tiles
from swclip.retrieval.locator import Locator
from swclip.retrieval.scores import Photographed, similarity_kind
from swclip.web.admission import Keys
from swclip.web.settings import Limits
from swclip.web.thumbnails import Thumbnails

from .test_locate import with_gps

WIDTHS = (1280, 390)
KEY = "correct-horse-battery"


@pytest.fixture(scope="module")
def shown(serve: Any, locator: Locator, town: Path) -> Iterator[Served]:
    """A service that shows the gallery's photographs."""
    thumbnails = Thumbnails.of_manifest(read_manifest(town), locator.gallery.image_ids)
    with serve(locator, Limits(timeout_s=120), thumbnails=thumbnails) as served:
        yield served


def drop(page: Any, *photographs: bytes) -> None:
    """Drop files on the page."""
    page.evaluate(
        """(files) => {
          const transfer = new DataTransfer();
          files.forEach((text, i) => {
            const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
            transfer.items.add(new File([bytes], `street ${i}.jpg`, { type: "image/jpeg" }));
          });
          for (const kind of ["dragenter", "dragover", "drop"]) {
            const event = new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true });
            document.getElementById("drop").dispatchEvent(event);
          }
        }""",
        [base64.b64encode(data).decode() for data in photographs],
    )


def choose(page: Any, *photographs: bytes, names: tuple[str, ...] = ()) -> None:
    page.set_input_files(
        "#choose",
        [
            {"name": names[i] if names else f"{i}.jpg", "mimeType": "image/jpeg", "buffer": data}
            for i, data in enumerate(photographs)
        ],
    )


def answered(page: Any, count: int = 1) -> None:
    # Not `wait_for_function`: it evaluates text, which the page's policy forbids.
    page.locator("#status", has_text=f"{count} photograph").wait_for()


def shown_point(page: Any) -> tuple[float, float]:
    lat, lon = page.inner_text("#point").split(", ")
    return float(lat), float(lon)


def ask(served: Served, *photographs: bytes, **fields: Any) -> Any:
    with served.client() as client:
        return client.post("/v2/locate", **send(list(photographs), **fields)).json()["results"][0]


def point(result: Any) -> tuple[float, float]:
    return result["answer"]["lat_deg"], result["answer"]["lon_deg"]


def map_picture(page: Any) -> bytes:
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    taken: bytes = page.locator("#map").screenshot()
    return taken


@pytest.mark.parametrize("width", WIDTHS)
def test_dropped_photograph_is_located(
    shown: Served, visit: Any, photographs: list[bytes], width: int, tmp_path: Path
) -> None:
    page = visit(shown, width)
    assert "20 places in Leeds, York" in page.inner_text("#gallery")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    empty = map_picture(page)
    drop(page, photographs[0])
    answered(page)
    page.wait_for_selector("#places img")
    expected = ask(shown, photographs[0], include_posterior="true")
    assert shown_point(page) == pytest.approx(point(expected), abs=1e-5)
    assert "Leeds" in page.inner_text("#city")
    assert f"{expected['answer']['probability_within_50m']:.0%}".replace("%", " %") in page.inner_text("#near")
    assert page.locator("#places li").count() == 5
    assert page.locator("#photographs img").count() == 1
    assert map_picture(page) != empty
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.locator("#map").bounding_box()["width"] > 300
    page.screenshot(path=tmp_path / f"{width}.png", full_page=True)
    assert (tmp_path / f"{width}.png").stat().st_size > 20_000


@pytest.mark.parametrize("width", WIDTHS)
def test_photographs_of_the_gallery_are_credited(
    serve: Any, locator: Locator, town: Path, visit: Any, photographs: list[bytes], width: int, tmp_path: Path
) -> None:
    ids = locator.gallery.image_ids
    credits = {
        "p00": ("CC-BY-SA-4.0", "Ada <b>Byron</b>", "https://example.org/0?a=1&b=2"),
        "p01": ("own terms", None, "javascript:alert(1)"),
    }
    rows = [credits.get(image_id[:3], (None, None, None)) for image_id in ids]
    table = attribution_table(pd.DataFrame(rows, columns=["licence", "author", "source_url"], dtype=object))
    credited = Locator(
        replace(locator.gallery, image_attribution=table),
        locator.model,
        locator.posterior,
        calibration=locator.calibration,
    )
    thumbnails = Thumbnails.of_manifest(read_manifest(town), ids)
    with serve(credited, thumbnails=thumbnails) as served:
        page = visit(served, width)
        choose(page, photographs[0])
        answered(page)
        page.wait_for_selector("#places img")
        result = ask(served, photographs[0])
        places = page.locator("#places li")
        shown = {}
        for i, candidate in enumerate(result["answer"]["candidates"]):
            credit = places.nth(i).locator(".credit")
            place = candidate["image_ids"][0][:3]
            assert credit.count() == (place in credits)
            if place in credits:
                links = credit.locator("a").evaluate_all("(links) => links.map((link) => link.href)")
                shown[place] = credit.inner_text(), links
        assert shown["p00"] == (
            "Photograph: Ada <b>Byron</b>, CC-BY-SA-4.0",
            ["https://example.org/0?a=1&b=2", "https://creativecommons.org/licenses/by-sa/4.0/"],
        )
        assert shown.get("p01", ("Photograph: source, own terms", [])) == ("Photograph: source, own terms", [])
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert findings(page) == []
        page.screenshot(path=tmp_path / f"{width}.png", full_page=True)


def test_slider_sets_the_coverage_level(shown: Served, visit: Any, photographs: list[bytes]) -> None:
    page = visit(shown)
    choose(page, photographs[0])
    answered(page)
    regions = {
        round(region["level"] * 100): region
        for region in ask(shown, photographs[0], include_posterior="true")["posterior"]["regions"]
    }
    seen = {}
    for level in (50, 80, 95):
        page.locator("#level").fill(str(level))
        assert page.inner_text("#level-value") == f"{level} %"
        seen[level] = page.inner_text("#region-area"), map_picture(page)
        km2 = regions[level]["area_km2"]
        words = f"{km2 * 1e6:,.0f} m²" if km2 < 0.01 else f"{km2:.3f} km²" if km2 < 0.1 else f"{km2:.2f} km²"
        assert seen[level][0].startswith(words)
        assert page.is_visible("#abstains") == regions[level]["cannot_tell"]
    assert len(set(seen.values())) == 3
    page.locator("#level").focus()
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#level-value") == "94 %"
    assert page.get_attribute("#level", "aria-valuetext") == "94 percent"


def test_drawn_area_restricts_the_answer(shown: Served, visit: Any, photographs: list[bytes]) -> None:
    page = visit(shown)
    choose(page, photographs[0])
    answered(page)
    free = shown_point(page)
    page.click("#fit")
    box = page.locator("#map").bounding_box()
    # The gallery's north-eastern quarter; the answer is in the south-west.
    corners = [(0.55, 0.12), (0.93, 0.12), (0.93, 0.45), (0.55, 0.45)]
    page.click("#draw")
    assert page.get_attribute("#draw", "aria-pressed") == "true"
    assert page.is_hidden("#draw-done")
    for x, y in corners:
        page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
    page.click("#draw-done")
    answered(page)
    inside = shown_point(page)
    assert inside[0] > free[0] + 5e-4
    assert inside[1] > free[1] + 5e-4
    assert "Not calibrated" in page.inner_text("#calibration")
    page.click("#draw-remove")
    page.locator("#point", has_text=f"{free[0]:.5f}").wait_for()
    # The same with keys: a square around the centre of the map, which is the centre of the gallery.
    page.click("#fit")
    page.click("#draw")
    for keys in (["ArrowUp"] * 4 + ["ArrowLeft"] * 4, ["ArrowRight"] * 8, ["ArrowDown"] * 8, ["ArrowLeft"] * 8):
        for key in keys:
            page.keyboard.press(key)
        page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    page.keyboard.press("Backspace")
    page.focus("#draw-done")
    page.keyboard.press("Enter")
    page.locator("#point", has_not_text=f"{free[0]:.5f}").wait_for()
    page.click("#draw")
    page.keyboard.press("Escape")
    assert page.get_attribute("#draw", "aria-pressed") == "false"


def test_area_without_candidates(shown: Served, visit: Any, photographs: list[bytes]) -> None:
    page = visit(shown)
    choose(page, photographs[0])
    answered(page)
    page.click("#fit")
    box = page.locator("#map").bounding_box()
    page.click("#draw")
    for x, y in ((20, 40), (50, 40), (50, 70)):
        page.mouse.click(box["x"] + x, box["y"] + y)
    page.click("#draw-done")
    page.wait_for_selector("#problem:not([hidden])")
    assert "none of the gallery's candidates" in page.inner_text("#problem")
    assert page.is_hidden("#answer")
    page.errors[:] = [text for text in page.errors if "422" not in text]  # logged by the browser


def test_link_shows_the_answer(shown: Served, visit: Any, photographs: list[bytes]) -> None:
    page = visit(shown, 390, permissions=["clipboard-read", "clipboard-write"])
    choose(page, photographs[20])
    answered(page)
    page.locator("#level").fill("90")
    page.click("#share")
    link = page.evaluate("navigator.clipboard.readText()")
    assert link == page.url
    assert len(link) < 8000
    other = visit(shown, 390, link.removeprefix(shown.address))
    assert other.inner_text("#answer-title") == "A shared answer"
    for part in ("#point", "#near", "#city", "#region-area", "#calibration"):
        assert other.inner_text(part) == page.inner_text(part)
    assert other.inner_text("#level-value") == "90 %"
    assert other.locator("#photographs img").count() == 0
    assert other.locator("#places li").count() == 5


def test_link_preserves_cells_and_levels(shown: Served, visit: Any, photographs: list[bytes]) -> None:
    page = visit(shown)
    result = ask(shown, photographs[5], include_posterior="true")
    result_of_page = page.evaluate(
        """async ([result, model]) => {
          const { decode, encode } = await import("/static/share.js");
          const text = encode(result, model, 77, "new-streets");
          const cut = [1, 2, 3, 5, 8].map((parts) => text.slice(0, Math.floor(text.length * parts / 9)));
          const refused = cut.filter((part) => { try { decode(part); return false; } catch { return true; } }).length;
          return { found: decode(text), refused };
        }""",
        [result, "0123456789abcdef"],
    )
    decoded = result_of_page["found"]
    assert result_of_page["refused"] == 5
    assert (decoded["model"], decoded["level"], decoded["protocol"]) == ("01234567", 77, "new-streets")
    region = decoded["result"]["answer"]["region"]
    assert region == {key: result["answer"]["region"][key] for key in ("calibrated", "area", "calibrated_on")}
    cells, expected_cells = decoded["result"]["posterior"]["cells"], result["posterior"]["cells"]
    assert len(cells) == min(350, len(expected_cells))
    for cell, expected in zip(cells, expected_cells, strict=False):
        np.testing.assert_allclose(cell["boundary_deg"], expected["boundary_deg"], atol=1e-5)
        assert cell["from_level"] == expected["from_level"]
        assert cell["probability"] == pytest.approx(max(expected["probability"], 1e-9), rel=0.05)
    for region, expected in zip(decoded["result"]["posterior"]["regions"], result["posterior"]["regions"], strict=True):
        assert region["cannot_tell"] == expected["cannot_tell"]
        assert region["area_km2"] == pytest.approx(expected["area_km2"], abs=1e-6)


def test_truncated_link_is_reported(shown: Served, visit: Any) -> None:
    page = visit(shown, path="/#a=AQ")
    for fragment in ("#a=AQ", "#a=____", "#a=Agg"):
        page.evaluate(
            "(fragment) => { document.getElementById('problem').hidden = true; location.hash = fragment; }", fragment
        )
        page.evaluate("() => window.dispatchEvent(new HashChangeEvent('hashchange'))")
        assert "cannot be read" in page.inner_text("#problem:not([hidden])")
        assert page.is_hidden("#answer")


def test_earlier_links_remain_readable(shown: Served, visit: Any, photographs: list[bytes]) -> None:
    page = visit(shown)
    result = ask(shown, photographs[5], include_posterior="true")
    decoded = page.evaluate(
        """async (result) => {
          const { decode, encode } = await import("/static/share.js");
          const bytes = (text) => atob(text.replaceAll("-", "+").replaceAll("_", "/"));
          // The area, its scope and the protocol; no probability of the area, and no threshold of it.
          const more = 1 + new TextEncoder().encode(result.answer.region.area).length + 1 + 1 + 2;
          const earlier = btoa(bytes(encode(result, "0123456789abcdef", 80, "")).slice(0, -more));
          return decode(earlier.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", ""));
        }""",
        result,
    )
    assert decoded["protocol"] is None
    assert decoded["result"]["answer"]["region"] == {"calibrated": True, "area": None, "calibrated_on": None}


def test_region_outline_is_closed(shown: Served, visit: Any, photographs: list[bytes]) -> None:
    page = visit(shown)
    posterior = ask(shown, photographs[7], include_posterior="true")["posterior"]
    for level in (0.5, 0.8, 0.95):
        edges = page.evaluate(
            """async ([posterior, level]) => {
              const { outline, prepareCells } = await import("/static/layers.js");
              return outline(prepareCells(posterior), level);
            }""",
            [posterior, level],
        )
        inside = [cell for cell in posterior["cells"] if cell["from_level"] is not None and cell["from_level"] <= level]
        corners = {(round(lat, 5), round(lon, 5)) for cell in inside for lat, lon in cell["boundary_deg"]}
        assert 6 <= len(edges) <= 6 * len(inside)
        assert len(edges) % 2 == 0
        ends: dict[tuple[int, int], int] = {}
        for edge in edges:
            for x, y in edge:
                key = (round(x * 4e7), round(y * 4e7))
                ends[key] = ends.get(key, 0) + 1
        assert all(count % 2 == 0 for count in ends.values())
        assert len(ends) <= len(corners)


def test_several_photographs_separately_and_combined(shown: Served, visit: Any, photographs: list[bytes]) -> None:
    page = visit(shown)
    assert page.is_hidden("#options")
    chosen = [photographs[0], photographs[31], photographs[58]]
    choose(page, *chosen)
    answered(page, 3)
    buttons = page.locator("#photographs button")
    seen = []
    for number in range(3):
        buttons.nth(number).click()
        assert buttons.nth(number).get_attribute("aria-pressed") == "true"
        expected = ask(shown, chosen[number])
        assert shown_point(page) == pytest.approx(point(expected), abs=1e-5)
        seen.append(shown_point(page))
    assert len(set(seen)) == 3
    page.check("#combined")
    page.locator("#answer-title", has_text="together").wait_for()
    expected = ask(shown, *chosen, combined="true")
    assert shown_point(page) == pytest.approx(point(expected), abs=1e-5)


def test_unreadable_photograph_among_combined_ones(shown: Served, visit: Any, photographs: list[bytes]) -> None:
    page = visit(shown)
    choose(page, photographs[12], b"no picture", photographs[13])
    page.locator("#status", has_text="2 answered, 1 failed: 1.jpg").wait_for()
    page.check("#combined")
    page.locator("#answer-title", has_text="Answer to 2 photographs together").wait_for()
    assert page.is_hidden("#problem")
    page.click("#photographs li:nth-child(2) button")
    page.locator("#problem", has_text="not in a format").wait_for()
    assert page.is_hidden("#answer")
    page.click("#photographs li:nth-child(3) button")
    page.locator("#answer-title", has_text="Answer to 2 photographs together").wait_for()


def test_city_restricts_the_answer(shown: Served, visit: Any, photographs: list[bytes]) -> None:
    page = visit(shown)
    options = page.locator("#within-city option").all_inner_texts()
    assert options == ["any city", "Leeds", "York"]
    choose(page, photographs[0])
    answered(page)
    free = shown_point(page)
    page.select_option("#within-city", "York")
    page.locator("#city", has_text="York").wait_for()
    expected = ask(shown, photographs[0], city="York")
    assert shown_point(page) == pytest.approx(point(expected), abs=1e-5)
    assert shown_point(page) != free
    page.select_option("#within-city", "any city")
    page.locator("#city", has_text="Leeds").wait_for()
    assert shown_point(page) == free


def test_most_similar_photograph_of_a_place_is_shown(shown: Served, visit: Any, photographs: list[bytes]) -> None:
    page = visit(shown)
    urls: list[str] = []
    page.on("request", lambda request: urls.append(request.url))
    choose(page, photographs[1])
    answered(page)
    candidates = ask(shown, photographs[1])["answer"]["candidates"]
    page.locator("#places img").nth(4).wait_for()
    assert {url.rsplit("/", 1)[1] for url in urls if "/gallery/photographs/" in url} == {
        candidate["image_ids"][0] for candidate in candidates
    }
    for at, candidate in enumerate(candidates):
        words = page.locator("#places .where").nth(at).inner_text()
        similarity = f"{candidate['image_similarities'][0]:.2f}".replace("-", "\N{MINUS SIGN}")
        assert f"3 photographs, the most similar {similarity}" in words


def test_exif_position_is_compared_on_request(shown: Served, visit: Any, photographs: list[bytes]) -> None:
    page = visit(shown)
    choose(page, with_gps(photographs[0], 53.8, -1.55))
    answered(page)
    assert page.is_hidden("#exif-distance")
    before = shown_point(page)
    page.check("#exif")
    page.wait_for_selector("#exif-distance:not([hidden])")
    expected = ask(shown, with_gps(photographs[0], 53.8, -1.55), compare_exif="true")["exif"][0]["distance_m"]
    assert f"{expected:.0f} m from this point" in page.inner_text("#exif-distance")
    assert page.is_visible("#legend-exif")
    assert shown_point(page) == before


def test_abstention_is_shown(serve: Any, locator: Locator, visit: Any, photographs: list[bytes]) -> None:
    blind = Locator(
        locator.gallery, locator.model, locator.posterior, calibration=Calibration(np.zeros(49), (None,) * 49, 11, 25.0)
    )
    with serve(blind) as served:
        page = visit(served)
        choose(page, photographs[0])
        answered(page)
        assert page.inner_text("#abstains").startswith("The model abstains")
        assert "The whole area of the gallery" in page.inner_text("#region-area")


def test_answer_never_stays_beside_a_failed_upload(shown: Served, visit: Any, photographs: list[bytes]) -> None:
    page = visit(shown)
    choose(page, photographs[0])
    answered(page)
    assert page.is_visible("#answer")
    choose(page, b"this is no photograph", names=("README.md",))
    page.wait_for_selector("#problem:not([hidden])")
    assert "not in a format that the service reads" in page.inner_text("#problem")
    assert page.is_hidden("#answer")
    assert page.inner_text("#status") == ""
    assert page.get_attribute("#photographs button", "aria-label") == "Photograph 1 of 1: README.md, no answer"
    choose(page, photographs[0])
    answered(page)
    assert page.is_hidden("#problem")
    # Nor while other photographs are located, or after a failure that is not theirs.
    page.route("**/v2/locate", lambda route: route.abort())
    choose(page, photographs[1])
    page.locator("#problem", has_text="cannot be reached").wait_for()
    assert page.is_hidden("#answer")
    page.errors[:] = [text for text in page.errors if "415" not in text and "ERR_FAILED" not in text]


def test_failed_photographs_are_named(shown: Served, visit: Any, photographs: list[bytes]) -> None:
    page = visit(shown)
    choose(page, photographs[0], b"text", photographs[1], names=("a.jpg", "README.md", "b.jpg"))
    page.locator("#status", has_text="failed").wait_for()
    assert page.inner_text("#status") == "2 answered, 1 failed: README.md"
    assert page.is_hidden("#problem")
    assert page.locator("#photographs .failed").all_inner_texts() == ["no preview\nREADME.md"]
    page.locator("#photographs button").nth(1).click()
    assert page.inner_text("#problem").startswith("README.md: The file is not in a format")
    assert page.is_hidden("#answer")
    cut = photographs[2][: len(photographs[2]) // 2]
    choose(page, b"text", cut, names=("README.md", "cut.jpg"))
    page.locator("#status", has_text="0 answered, 2 failed: README.md, cut.jpg").wait_for()
    page.locator("#photographs button").nth(1).click()
    assert page.inner_text("#problem").startswith("cut.jpg: The file is truncated")  # each has its own problem
    page.errors[:] = [text for text in page.errors if "415" not in text]


def test_many_photographs_go_in_batches(serve: Any, locator: Locator, visit: Any, photographs: list[bytes]) -> None:
    sizes = sorted(len(data) for data in photographs)
    with serve(locator, Limits(max_files=3, max_upload_mb=0.05, timeout_s=120)) as served:
        page = visit(served)
        requests: list[int] = []
        page.on("request", lambda request: requests.append(1) if request.url.endswith("/v2/locate") else None)
        large = b"\xff\xd8\xff" + b"\0" * 60_000
        assert sizes[-1] < 50_000
        chosen = [*photographs[:4], large, *photographs[40:43]]
        choose(page, *chosen)
        page.locator("#status", has_text="7 answered, 1 failed: 4.jpg").wait_for()
        assert len(requests) == 3  # 3, 3 and 1; the large one is not sent
        assert page.is_disabled("#combined")
        assert "at most 3 photographs" in page.inner_text("#combined-label")
        for at in (0, 3, 7):
            page.locator("#photographs button").nth(at).click()
            assert shown_point(page) == pytest.approx(point(ask(served, chosen[at])), abs=1e-5)
        page.locator("#photographs button").nth(4).click()
        assert "at most 0.05 MB; this one has 0.1 MB" in page.inner_text("#problem")


def test_busy_service_is_tried_again(shown: Served, visit: Any, photographs: list[bytes]) -> None:
    page, tries = visit(shown), []

    def busy_at_first(route: Any) -> None:
        tries.append(route.request.url)
        if len(tries) > 1:
            route.continue_()
            return
        body = '{"title": "The service is busy", "status": 503, "detail": "try again in 1 s."}'
        route.fulfill(status=503, headers={"Retry-After": "1"}, content_type="application/problem+json", body=body)

    page.route("**/v2/locate", busy_at_first)
    choose(page, photographs[0])
    page.locator("#status", has_text="trying again in 1 s").wait_for()
    answered(page)
    assert len(tries) == 2
    page.errors[:] = [text for text in page.errors if "503" not in text]


def test_answers_are_saved_for_other_maps(shown: Served, visit: Any, photographs: list[bytes]) -> None:
    page = visit(shown, accept_downloads=True)
    choose(page, photographs[0], b"text", photographs[31], names=("a & b.jpg", "README.md", "c.jpg"))
    page.locator("#status", has_text="2 answered, 1 failed").wait_for()
    lat, lon = point(ask(shown, photographs[0]))
    assert (
        page.get_attribute("#osm", "href") == f"https://www.openstreetmap.org/?mlat={lat}&mlon={lon}#map=18/{lat}/{lon}"
    )
    page.locator("#level").fill("95")

    def saved(button: str) -> Path:
        with page.expect_download() as saving:
            page.click(button)
        path: Path = saving.value.path()
        return path

    features = json.loads(saved("#save-geojson").read_text(encoding="utf-8"))["features"]
    kml = ET.fromstring(saved("#save-kml").read_text(encoding="utf-8"))
    space = {"k": "http://www.opengis.net/kml/2.2"}
    assert [name.text for name in kml.findall(".//k:Placemark/k:name", space)] == [
        f"{name}{words}" for name in ("a & b.jpg", "c.jpg") for words in ("", ": region with 95 % nominal coverage")
    ]
    outlines = kml.findall(".//k:MultiGeometry", space)
    for name, data, outline in zip(("a & b.jpg", "c.jpg"), (photographs[0], photographs[31]), outlines, strict=True):
        expected = ask(shown, data, include_posterior="true")
        mine = [feature for feature in features if feature["properties"]["photograph"] == name]
        answer, *candidates, region = mine
        assert answer["geometry"]["coordinates"] == list(point(expected))[::-1]
        assert "valid only if" in answer["properties"]["condition"]
        assert [place["properties"]["rank"] for place in candidates] == [1, 2, 3, 4, 5]
        shape = shapely.from_geojson(json.dumps(region["geometry"]))
        assert shape.is_valid
        level = next(item for item in expected["posterior"]["regions"] if item["level"] == 0.95)
        m2_per_deg2 = (math.pi / 180 * 6_371_008.8) ** 2 * math.cos(math.radians(lat))
        assert shape.area * m2_per_deg2 / 1e6 == pytest.approx(level["area_km2"], rel=0.01)
        rings = [ring.text for ring in outline.findall(".//k:coordinates", space)]
        assert len(rings) == sum(1 + len(polygon.interiors) for polygon in shape.geoms)


def test_region_with_a_hole_keeps_it(shown: Served, visit: Any) -> None:
    page = visit(shown)
    centre = h3.latlng_to_cell(53.8, -1.55, 11)
    ring = [cell for cell in h3.grid_disk(centre, 2) if cell != centre]
    away = h3.latlng_to_cell(53.81, -1.55, 11)
    cells = [
        {"probability": 0.05, "from_level": 0.5, "boundary_deg": list(map(list, h3.cell_to_boundary(cell)))}
        for cell in [*ring, away, centre]
    ]
    cells[-1]["from_level"] = 0.9
    polygons = page.evaluate(
        """async (cells) => {
          const { regionPolygons } = await import("/static/download.js");
          return regionPolygons({ cells }, 0.8);
        }""",
        cells,
    )
    shapes = [shapely.Polygon(around, holes) for around, *holes in polygons]
    assert sorted(len(shape.interiors) for shape in shapes) == [0, 1]
    assert all(shape.is_valid and shape.exterior.is_ccw for shape in shapes)
    lat, lon = h3.cell_to_latlng(centre)
    assert not any(shape.contains(shapely.Point(lon, lat)) for shape in shapes)


def test_page_states_what_certainty_holds_for(
    serve: Any, locator: Locator, shown: Served, visit: Any, photographs: list[bytes]
) -> None:
    assert locator.calibration is not None
    calibration = replace(locator.calibration, protocol="known-places")
    known = Locator(locator.gallery, locator.model, locator.posterior, calibration=calibration)
    with serve(known) as served:
        for service, words in ((served, "known places of Leeds"), (shown, "validation photographs of Leeds")):
            page = visit(service)
            choose(page, photographs[0])
            answered(page)
            assert page.inner_text("#near").endswith(
                "valid only if the photograph was taken in the gallery\N{RIGHT SINGLE QUOTATION MARK}s area."
            )
            assert page.inner_text("#calibration").startswith(f"Calibrated on {words}:")


def test_page_begins_with_the_probability_of_the_gallerys_area(
    serve: Any, locator: Locator, visit: Any, photographs: list[bytes]
) -> None:
    assert locator.calibration is not None
    for offset, element, words in (
        (2.0, "#in-area", "probability 88"),
        (-3.0, "#elsewhere", "Probably not taken"),
    ):
        kind = similarity_kind(locator.posterior, Photographed.of(locator.gallery))
        in_area = InArea(kind, 0.0, offset, None, None, 0.5, 40)
        calibration = replace(locator.calibration, in_area=in_area)
        with serve(Locator(locator.gallery, locator.model, locator.posterior, calibration=calibration)) as served:
            page = visit(served, permissions=["clipboard-read", "clipboard-write"])
            choose(page, photographs[0])
            answered(page)
            assert words in page.inner_text(element)
            assert "valid only if" not in page.inner_text("#near")
            page.click("#share")
            other = visit(served, path=page.url.removeprefix(served.address))
            assert words in other.inner_text(element), "a link keeps it"


def test_key_is_required_and_stored_for_the_tab(
    serve: Any, locator: Locator, visit: Any, photographs: list[bytes], town: Path
) -> None:
    thumbnails = Thumbnails.of_manifest(read_manifest(town), locator.gallery.image_ids)
    with serve(locator, keys=Keys([KEY]), thumbnails=thumbnails) as served:
        page = visit(served)
        assert page.is_visible("#key-form")
        page.fill("#key", "a-key-that-is-wrong")
        page.click("#key-form button")
        page.wait_for_selector("#problem:not([hidden])")
        page.fill("#key", KEY)
        page.keyboard.press("Enter")
        page.wait_for_selector("#key-form", state="hidden")
        choose(page, photographs[0])
        answered(page)
        page.wait_for_selector("#places img")  # thumbnails need the key too
        page.reload()
        page.wait_for_selector("html[data-ready=yes]")
        assert page.is_hidden("#key-form")
        page.errors[:] = [text for text in page.errors if "401" not in text]


def test_pasted_photograph_is_located(shown: Served, visit: Any, photographs: list[bytes]) -> None:
    page = visit(shown)
    page.evaluate(
        """(text) => {
          const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0)), transfer = new DataTransfer();
          transfer.items.add(new File([bytes], "a.jpg", { type: "image/jpeg" }));
          document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true }));
        }""",
        base64.b64encode(photographs[3]).decode(),
    )
    answered(page)


def test_map_responds_to_mouse_wheel_keys_and_touch(shown: Served, visit: Any) -> None:
    page = visit(shown, 390, has_touch=True)
    box = page.locator("#map").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.focus("#map")
    page.keyboard.press("Home")
    pictures = [map_picture(page)]

    def changed() -> None:
        pictures.append(map_picture(page))
        assert pictures[-1] != pictures[-2]

    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y + 40, steps=4)
    page.mouse.up()
    changed()
    page.mouse.wheel(0, -240)
    changed()
    for key in ("ArrowLeft", "ArrowUp", "+", "-", "-"):
        page.keyboard.press(key)
        changed()
    touch = page.context.new_cdp_session(page)
    for kind, apart in (("touchStart", 40), ("touchMove", 70), ("touchMove", 110)):
        points = [{"x": x - apart, "y": y, "id": 1}, {"x": x + apart, "y": y, "id": 2}]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    changed()
    page.keyboard.press("Home")
    assert map_picture(page) == pictures[0]
    for button in ("#zoom-in", "#zoom-out"):
        page.click(button)
        changed()


def test_map_shows_the_part_of_the_region_around_the_answer(shown: Served, visit: Any) -> None:
    page = visit(shown)
    south, west, north, east = page.evaluate(
        """async () => {
          const { project } = await import("/static/map_layers.js"), { boxOf } = await import("/static/layers.js");
          const square = (lat, lon) => [[lat, lon], [lat + 1e-3, lon + 1e-3]].map((corner) => project(...corner));
          const cell = (lat, lon) => ({ from: 0.1, world: square(lat, lon) });
          const leeds = { lat_deg: 53.8, lon_deg: -1.55 };
          return boxOf([cell(53.8, -1.55), cell(53.81, -1.56), cell(51.5, -0.12)], 0.8, leeds);
        }"""
    )
    assert (south, west, north, east) == pytest.approx((53.8, -1.56, 53.811, -1.549), abs=1e-9)


def test_mercator_round_trip(shown: Served, visit: Any) -> None:
    page = visit(shown)
    for lat, lon in ((0, 0), (53.8, -1.55), (-33.9, 151.2), (85, 179.9), (-85, -179.9)):
        x, y, back_lat, back_lon, across = page.evaluate(
            """async ([lat, lon]) => {
              const { metresAcross, project, unproject } = await import("/static/map_layers.js");
              const [x, y] = project(lat, lon);
              return [x, y, ...unproject(x, y), metresAcross(lat)];
            }""",
            [lat, lon],
        )
        assert (back_lat, back_lon) == pytest.approx((lat, lon), abs=1e-9)
        assert x == pytest.approx((lon + 180) / 360)
        assert y == pytest.approx(0.5 - math.asinh(math.tan(math.radians(lat))) / (2 * math.pi))
        assert across == pytest.approx(2 * math.pi * 6_378_137 * math.cos(math.radians(lat)), rel=1e-6)


def test_page_is_accessible(shown: Served, visit: Any, photographs: list[bytes]) -> None:
    page = visit(shown)
    assert findings(page) == []
    choose(page, photographs[0], b"text", names=("a.jpg", "README.md"))
    page.locator("#status", has_text="1 failed").wait_for()
    page.wait_for_selector("#places img")
    assert findings(page) == []
    page.locator("#photographs button").nth(1).click()
    assert page.is_visible("#problem")
    assert findings(page) == []
    assert page.evaluate("document.querySelectorAll('[id]').length === new Set([...document.querySelectorAll('[id]')]"
                         ".map((one) => one.id)).size")  # fmt: skip
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement !== document.body")


def test_dark_mode_follows_the_system(shown: Served, visit: Any) -> None:
    page = visit(shown, color_scheme="dark")
    paper = "() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
    assert sum(page.evaluate(paper)) < 120
    dark = map_picture(page)
    page.emulate_media(color_scheme="light")
    assert page.evaluate(paper) == [255, 255, 255]
    assert map_picture(page) != dark


def test_tiles_are_drawn_with_attribution(serve: Any, locator: Locator, browser: Any) -> None:
    from fixtures.service import encoded

    tiles = Tiles("https://tiles.invalid/{z}/{x}/{y}.png", "© OpenStreetMap <b>contributors</b>", 17)
    with serve(locator, tiles=tiles) as served:
        context = browser.new_context(viewport={"width": 900, "height": 700})
        page = context.new_page()
        urls = []

        def fulfil(route: Any) -> None:
            urls.append(route.request.url)
            route.fulfill(body=encoded("PNG", (256, 256)), content_type="image/png")

        page.route("https://tiles.invalid/**", fulfil)
        page.goto(served.address)
        page.wait_for_selector("html[data-ready=yes]")
        map_picture(page)
        page.wait_for_timeout(200)
        assert urls
        assert all(re.fullmatch(r"https://tiles\.invalid/\d+/\d+/\d+\.png", url) for url in urls)
        assert max(int(url.split("/")[3]) for url in urls) <= 17
        assert page.inner_text("#attribution") == "© OpenStreetMap <b>contributors</b>"
        assert page.get_attribute("#attribution a", "href") == "https://www.openstreetmap.org/copyright"
        context.close()


def test_content_security_policy_blocks_other_hosts(shown: Served, visit: Any) -> None:
    page = visit(shown)
    page.errors.clear()
    blocked = page.evaluate("""() => fetch("https://example.invalid/").then(() => false, () => true)""")
    assert blocked
    assert any("Content Security Policy" in text for text in page.errors)
    page.errors.clear()


def test_page_is_cached(shown: Served) -> None:
    with shown.client() as client:
        first = client.get("/")
        again = client.get("/", headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert isinstance(first, httpx.Response)
        assert first.headers["content-type"] == "text/html; charset=utf-8"
        assert client.get("/static/app.js").headers["content-type"] == "text/javascript; charset=utf-8"
