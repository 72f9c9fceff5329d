"""The page in a real browser: answers on the map and as text, and no requests to other hosts."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from fixtures.service import Served, send
from swclip.calibration.conformal import Calibration
from swclip.data.manifest import read_manifest
from swclip.retrieval.locator import Locator
from swclip.web.admission import Keys
from swclip.web.settings import Limits, Tiles
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


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open pages of a service; at the end check for requests to other hosts and for errors."""
    contexts, errors, requests = [], [], []

    def opened(served: Served, width: int = 1280, path: str = "/", *, ready: bool = True, **more: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 860}, **more)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda message: errors.append(message.text) if message.type != "log" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: requests.append((served.address, request.url)))
        page.goto(served.address + path)
        if ready:
            page.wait_for_selector("html[data-ready=yes]")
        page.errors = errors
        return page

    yield opened
    for context in contexts:
        context.close()
    assert errors == []
    external = [url for address, url in requests if not url.startswith((address + "/", "blob:", "data:"))]
    assert external == []


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


def choose(page: Any, *photographs: bytes) -> None:
    files = [{"name": f"{i}.jpg", "mimeType": "image/jpeg", "buffer": data} for i, data in enumerate(photographs)]
    page.set_input_files("#choose", files)


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


@pytest.mark.parametrize("width", WIDTHS)
def test_link_shows_the_answer(shown: Served, visit: Any, photographs: list[bytes], width: int) -> None:
    page = visit(shown, width, permissions=["clipboard-read", "clipboard-write"])
    choose(page, photographs[20])
    answered(page)
    page.locator("#level").fill("90")
    page.click("#share")
    link = page.evaluate("navigator.clipboard.readText()")
    assert link == page.url
    assert len(link) < 8000
    other = visit(shown, width, link.removeprefix(shown.address))
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
          const text = encode(result, model, 77);
          const cut = [1, 2, 3, 5, 8].map((parts) => text.slice(0, Math.floor(text.length * parts / 9)));
          const refused = cut.filter((part) => { try { decode(part); return false; } catch { return true; } }).length;
          return { found: decode(text), refused };
        }""",
        [result, "0123456789abcdef"],
    )
    decoded = result_of_page["found"]
    assert result_of_page["refused"] == 5
    assert (decoded["model"], decoded["level"]) == ("01234567", 77)
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
    for fragment in ("#a=AQ", "#a=____", "#a=Agg"):
        page = visit(shown, path="/" + fragment)
        assert "cannot be read" in page.inner_text("#problem")
        assert page.is_hidden("#answer")


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
    answered(page, 3)
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


def test_invalid_files_are_reported(serve: Any, locator: Locator, visit: Any, photographs: list[bytes]) -> None:
    with serve(locator, Limits(max_files=2, max_upload_mb=0.5)) as served:
        page = visit(served)
        choose(page, b"this is no photograph")
        page.wait_for_selector("#problem:not([hidden])")
        assert "not in a format that the service reads" in page.inner_text("#problem")
        choose(page, *photographs[:3])
        assert "At most 2 photographs" in page.inner_text("#problem")
        choose(page, b"\xff\xd8\xff" + b"\0" * 600_000)
        assert "may have at most 0.5 MB" in page.inner_text("#problem")
        choose(page, photographs[0], b"no photograph either")
        answered(page, 2)
        assert page.is_hidden("#problem")
        page.locator("#photographs button").nth(1).click()
        assert "not in a format" in page.inner_text("#problem")
        assert page.is_hidden("#answer")
        page.errors[:] = [text for text in page.errors if "415" not in text]


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


def test_accessible_names(shown: Served, visit: Any, photographs: list[bytes]) -> None:
    page = visit(shown)
    choose(page, photographs[0], photographs[40])
    answered(page, 2)
    page.wait_for_selector("#places img")
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll("button, input, canvas, img, ol, section")].filter((one) => {
          if (one.tagName === "IMG") return !one.hasAttribute("alt");
          const labelled = one.labels?.length || one.getAttribute("aria-label") || one.getAttribute("aria-labelledby");
          return !labelled && !one.textContent.trim();
        }).map((one) => one.outerHTML.slice(0, 120))"""
    )
    assert unnamed == []
    assert page.get_attribute("html", "lang") == "en"
    assert page.evaluate("document.querySelectorAll('[id]').length === new Set([...document.querySelectorAll('[id]')]"
                         ".map((one) => one.id)).size")  # fmt: skip
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement !== document.body")


def test_tiles_are_drawn_with_attribution(serve: Any, locator: Locator, browser: Any) -> None:
    from fixtures.service import encoded

    tiles = Tiles("https://tiles.invalid/{z}/{x}/{y}.png", "© the makers <b>of tiles</b>")
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
        assert page.inner_text("#attribution") == "© the makers <b>of tiles</b>"
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
