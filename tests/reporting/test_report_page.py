"""The report page in a browser: map, filters, links, tables, keyboard, phone and print."""

from __future__ import annotations

import csv
import io
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fixtures.accessibility import findings
from swclip.evaluation.measure import MeasureConfig
from swclip.external.evaluate import evaluate_predictions
from swclip.reporting import map_data
from swclip.reporting.map_photographs import BUDGET_BYTES
from swclip.reporting.report import write_report_page
from swclip.reporting.tiles import Tiles

ANSWERS = ["image_id", "lat_deg", "lon_deg", "predicted_lat_deg", "predicted_lon_deg", "city"]
LEAKAGE = {"warnings": ["12 % of the queries have a near-duplicate in training."], "notes": ["Sequences are unknown."]}
READBACK = "willReadFrequently"  # Chromium's advice for tests that read pixels
SIZES = {"laptop": (1280, 900), "phone": (390, 844)}

# The query farthest from its nearest neighbour, which no other covers.
LONELY = """() => {
  const { x, y } = viewNow().queries;
  const off = (i, j) => (i === j ? Infinity : Math.hypot(x[i] - x[j], y[i] - y[j]));
  const near = x.map((_, i) => Math.min(...x.map((_, j) => off(i, j))));
  return near.indexOf(Math.max(...near));
}"""
# Pixels of the map in the colour of the posterior.
VIOLET = """async () => {
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  const canvas = document.getElementById("map");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let count = 0;
  for (let i = 0; i < data.length; i += 4) count += data[i + 2] > data[i + 1] + 25 && data[i] > data[i + 1] + 8;
  return count;
}"""
# Texts of charts that overlap, and (below) that exceed their chart.
CROWDED = """() => Array.from(document.querySelectorAll(".chart svg")).flatMap((svg) => {
  const texts = Array.from(svg.querySelectorAll("text")), boxes = texts.map((text) => text.getBoundingClientRect());
  const touch = (a, b) => a.width && b.width && a.left < b.right - 1 && b.left < a.right - 1
    && a.top < b.bottom - 3 && b.top < a.bottom - 3;
  return texts.filter((_, i) => boxes.some((box, j) => j > i && touch(boxes[i], box))).map((text) => text.textContent);
})"""
OUTSIDE = """() => Array.from(document.querySelectorAll(".chart svg text")).filter((text) => {
  const own = text.getBoundingClientRect(), all = text.ownerSVGElement.getBoundingClientRect();
  return own.left < all.left - 2 || own.right > all.right + 2;
}).map((text) => text.textContent)"""
# Controls and images without an accessible name.
NAMELESS = """() => Array.from(document.querySelectorAll("button, select, canvas[tabindex], [role=img]"))
  .filter((node) => !(node.getAttribute("aria-label") || (node.tagName === "BUTTON" && node.textContent.trim())
    || (node.labels && node.labels.length))).map((node) => node.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module")
def reports(full: Any, draw_photographs: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    one = full.full_evaluation(1, n_queries=120, n_candidates=160)
    eight = full.full_evaluation(2, n_queries=160, n_candidates=240, cities=full.EIGHT)
    manifest = draw_photographs(one, folder / "photographs")
    write_report_page(folder / "one.html", one, title="sw-clip", manifest=manifest, leakage=LEAKAGE)
    few = full.full_evaluation(1, n_queries=40, n_candidates=60, empty=True)
    few.predictions["image_path"] = [f"photographs/{name}.jpg" for name in few.predictions["image_id"]]
    few_photographs = draw_photographs(few, folder / "few")
    write_report_page(folder / "few.html", few, title="few", manifest=few_photographs, photograph_bytes=12_000)
    write_report_page(folder / "eight.html", eight, title="sw-clip")
    answers = evaluate_predictions(one.predictions[ANSWERS].iloc[:40], config=MeasureConfig(resamples=20))
    write_report_page(folder / "answers.html", answers, title="another tool")
    write_report_page(folder / "empty.html", full.full_evaluation(1, n_queries=40, empty=True), title="sw-clip")
    tiles = Tiles("https://tiles.invalid/{z}/{x}/{y}.png", "© OpenStreetMap <b>contributors</b>", 17)
    write_report_page(folder / "tiles.html", full.full_evaluation(1, n_queries=40, empty=True), title="a", tiles=tiles)
    return {path.stem: path for path in folder.glob("*.html")}


@pytest.fixture
def opened(reports: dict[str, Path], browser: Any) -> Iterator[Any]:
    """Opens a report with the network blocked; asserts that nothing was requested and no error was logged."""
    contexts, asked, complaints = [], [], []

    def block(route: Any) -> None:
        if route.request.url.startswith(("file:", "data:")):
            route.continue_()
        else:
            asked.append(route.request.url)
            route.abort()

    def opens(name: str, size: str = "laptop", *, unfolded: bool = False, path: str = "", **options: Any) -> Any:
        width, height = SIZES[size]
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        context.route("**/*", block)
        context.set_default_timeout(120_000)  # a machine that is busy with something else is slow, not wrong
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text) if READBACK not in message.text else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(reports[name].as_uri() + path)
        page.wait_for_selector("html[data-ready=yes]", timeout=120_000)
        if unfolded:
            page.click("#fold-all")
        return page

    yield opens
    for context in contexts:
        context.close()
    assert asked == []
    assert complaints == []


def extent(page: Any) -> list[float]:
    return [float(value) for value in page.get_attribute("#map", "data-extent").split(" ")]


def eventually(page: Any, condition: str) -> None:
    """Polls a condition; the content security policy of the page forbids Playwright's wait_for_function."""
    for _ in range(100):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(condition)


def pixel(page: Any, i: int) -> tuple[float, float]:
    """Position of query i on the screen."""
    box = page.locator("#map").bounding_box()
    x, y = page.evaluate(f"mainMap.toScreen(viewNow().queries.x[{i}], viewNow().queries.y[{i}])")
    return box["x"] + x, box["y"] + y


def test_map_pans_zooms_and_resets(opened: Any) -> None:
    page = opened("one")
    page.locator("#map").scroll_into_view_if_needed()
    box = page.locator("#map").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    before = extent(page)
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 60, middle[1] - 40, steps=4)
    page.mouse.up()
    metre = box["width"] / (before[2] - before[0])
    panned = extent(page)
    assert panned[0] == pytest.approx(before[0] - 60 / metre, abs=0.02 * (before[2] - before[0]))
    assert panned[1] == pytest.approx(before[1] - 40 / metre, abs=0.02 * (before[2] - before[0]))
    page.locator("#map").focus()
    page.mouse.wheel(0, -300)
    eventually(page, f"Number(document.getElementById('map').dataset.extent.split(' ')[0]) > {panned[0]}")
    page.keyboard.press("+")
    assert extent(page)[2] - extent(page)[0] < 0.7 * (panned[2] - panned[0])
    page.keyboard.press("ArrowRight")
    page.keyboard.press("0")
    assert extent(page) == before
    page.get_by_role("button", name="Zoom out").first.click()
    assert extent(page)[0] < before[0]
    page.get_by_role("button", name="Show all").first.click()
    assert extent(page) == before


def test_wheel_scrolls_the_page_until_the_map_has_focus(opened: Any) -> None:
    page = opened("one")
    page.evaluate("document.getElementById('map').scrollIntoView()")
    box, before, top = page.locator("#map").bounding_box(), extent(page), page.evaluate("scrollY")
    page.mouse.move(box["x"] + 300, box["y"] + 300)
    page.mouse.wheel(0, 200)
    eventually(page, f"scrollY > {top + 100}")
    assert extent(page) == before


def test_two_fingers_pan_and_zoom_the_map(opened: Any) -> None:
    page = opened("one", "phone", has_touch=True, is_mobile=True)
    page.evaluate("document.getElementById('map').scrollIntoView()")
    box, before, whole = page.locator("#map").bounding_box(), extent(page), page.get_attribute("#map", "data-extent")
    client = page.context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        at = [{"x": box["x"] + x, "y": box["y"] + y, "id": n} for n, (x, y) in enumerate(points)]
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})

    touch("touchStart", (150, 200), (190, 200))
    touch("touchMove", (120, 200), (220, 200))
    touch("touchMove", (110, 200), (230, 200))
    touch("touchEnd")
    eventually(page, f"document.getElementById('map').dataset.extent !== '{whole}'")
    after = extent(page)
    assert after[2] - after[0] == pytest.approx((before[2] - before[0]) / 3.0, rel=0.05)  # 40 pixels became 120


def test_filters(opened: Any) -> None:
    page = opened("one")
    total = int(page.text_content("#shown").split(" ")[0])
    assert total == 120 == page.locator("#query-list option").count()
    counts = [int(text) for text in page.locator("#classes b").all_text_contents()]
    assert sum(counts) == total
    page.locator("#classes button").nth(0).click()
    assert page.text_content("#shown") == f"{total - counts[0]} of {total} shown"
    assert page.locator("#classes button").nth(0).get_attribute("aria-pressed") == "false"
    page.locator("#classes button").nth(0).click()
    by_district = []
    for district in ("Cambridge north", "Cambridge south"):
        page.select_option("#district", district)
        by_district.append(int(page.text_content("#shown").split(" ")[0]))
    assert sum(by_district) == total
    page.select_option("#district", "")
    by_label = []
    for label in range(5):
        page.select_option("#lisa", str(label))
        by_label.append(page.locator("#query-list option").count())
    assert sum(by_label) == total
    assert min(by_label[:2]) > 0
    page.select_option("#lisa", "")
    assert not page.is_visible("#lisa-legend")
    page.select_option("#colour", "lisa")
    assert page.locator("#lisa-legend span").all_text_contents() == page.evaluate("map.lisa")
    assert page.is_visible("#lisa-legend")
    for lines, drawn in (("all", total), ("none", 0), ("worst", 10)):
        page.select_option("#lines", lines)
        assert page.evaluate("mainMap.lines.length") == drawn


def test_click_shows_the_details_of_a_query(opened: Any) -> None:
    page = opened("one")
    page.evaluate("document.getElementById('map-title').scrollIntoView()")
    lonely = page.evaluate(LONELY)
    page.mouse.click(*pixel(page, lonely))
    panel, name = page.locator("#panel"), page.evaluate(f"viewNow().queries.id[{lonely}]")
    assert panel.get_attribute("data-query") == name
    assert panel.locator("img.query-photograph").evaluate("image => image.complete && image.naturalWidth > 100")
    assert panel.locator("table.top tbody tr").count() == 10
    assert panel.locator("table.top img").count() >= 3
    details = panel.text_content()
    for words in (
        "within 25\u00a0m of the answer",
        "80\u00a0% region",
        "cluster (LISA)",
        "of the probability",
    ):
        assert words in details
    assert page.locator("#query-list").input_value() == str(lonely)
    violet = page.evaluate(VIOLET)
    assert violet > 500  # the posterior
    page.get_by_role("button", name="Close").click()
    assert panel.get_attribute("data-query") is None


def test_keyboard_reaches_every_query(opened: Any) -> None:
    page = opened("one")
    page.locator("#query-list").focus()
    page.keyboard.press("ArrowDown")
    first = page.get_attribute("#panel", "data-query")
    page.keyboard.press("ArrowDown")
    second = page.get_attribute("#panel", "data-query")
    listed = page.locator("#query-list option").all_text_contents()
    assert first is not None
    assert [first in listed[0] or first in listed[1], second is not None and second != first] == [True, True]
    page.keyboard.press("End")
    assert page.get_attribute("#panel", "data-query") in listed[-1]
    page.get_by_role("button", name="Previous query").focus()
    page.keyboard.press("Enter")
    assert page.get_attribute("#panel", "data-query") in listed[-2]
    before = extent(page)
    page.get_by_role("button", name="Show the true position").click()
    assert extent(page) != before


def test_missing_photograph_is_explained(opened: Any) -> None:
    page = opened("few")
    missing = page.evaluate("viewNow().queries.photo.findIndex((p, i) => p < 0 && !photographOf(viewNow(), i).src)")
    page.select_option("#query-list", str(missing))
    reason = page.text_content("#panel .no-photograph")
    assert "To limit the size of this page" in reason
    assert f"photographs/{page.get_attribute('#panel', 'data-query')}.jpg" in reason
    page = opened("eight")
    page.locator("#query-list").select_option(index=0)
    assert "created without photographs" in page.text_content("#panel .no-photograph")


def test_coordinates_are_on_the_map_without_probabilities(opened: Any) -> None:
    page = opened("answers", unfolded=True)
    assert "Values" in page.text_content("#chart-error-curve")
    assert page.locator("#chart-error-curve .series").count() == 0  # one curve: no oracle error
    assert page.text_content("#shown") == "40 of 40 shown"
    page.select_option("#lines", "all")
    page.locator("#query-list").select_option(index=0)
    facts = page.locator("#panel dt").all_text_contents()
    assert facts == ["error", "cluster (LISA)"]
    assert page.locator("#lisa-map").is_visible()


def test_each_city_has_a_view(opened: Any) -> None:
    page = opened("eight")
    assert page.locator("#views .view").count() == 8
    seen = set()
    for at in range(8):
        page.locator("#views .view").nth(at).click()
        seen.add(page.text_content("#map-title"))
        assert page.text_content("#shown") == "20 of 20 shown"
        assert page.locator("select.view-choice").input_value() == str(at)
    assert len(seen) == 8
    assert not page.is_visible("#district")  # each city is one district


def test_query_of_the_lisa_map_is_selected_on_both_maps(opened: Any) -> None:
    page = opened("one", unfolded=True)
    page.evaluate("document.getElementById('lisa-map').scrollIntoView()")
    box = page.locator("#lisa-map").bounding_box()
    x, y = page.evaluate("lisaMap.toScreen(viewNow().queries.x[7], viewNow().queries.y[7])")
    page.mouse.click(box["x"] + x, box["y"] + y)
    picked = page.get_attribute("#panel", "data-query")
    assert picked is not None
    assert picked in page.text_content("#lisa-picked")


def test_chart_values_are_in_tooltips_and_a_list(opened: Any) -> None:
    page = opened("one", unfolded=True)
    for name in ("error-curve", "reliability", "area", "selective", "selective-within-100-m"):
        chart = page.locator(f"#chart-{name}")
        tooltips = chart.locator(".wide circle title").all_text_contents()
        page.click(f"#chart-{name} summary")
        listed = chart.locator("li").all_inner_texts()
        assert len(listed) > 5
        plain = [text.replace("\u00a0", " ") for text in listed]
        assert set(plain) <= {text.removeprefix("sw-clip: ").removeprefix("oracle error: ") for text in tooltips}
    # The target of a tooltip is at the mark that it describes.
    over = page.evaluate("""() => {
      const svg = document.querySelector("#chart-reliability .wide svg"), box = (node) => node.getBoundingClientRect();
      const middle = (node) => [(box(node).left + box(node).right) / 2, (box(node).top + box(node).bottom) / 2];
      const marks = Array.from(svg.querySelectorAll("use")).map(middle);
      return Array.from(svg.querySelectorAll("circle")).map(middle)
        .map(([x, y]) => Math.min(...marks.map(([mx, my]) => Math.hypot(mx - x, my - y))));
    }""")
    assert len(over) == 10
    assert max(over) < 1.5


def test_charts_have_a_version_for_phones(opened: Any) -> None:
    for size, shown, hidden in (("laptop", "wide", "narrow"), ("phone", "narrow", "wide")):
        page = opened("one", size, unfolded=True)
        assert page.locator(f"#chart-reliability .{shown} svg").is_visible()
        assert not page.locator(f"#chart-reliability .{hidden} svg").is_visible()
        font_px = page.evaluate(f"""() => {{
          const text = document.querySelector("#chart-reliability .{shown} text");
          return parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a;
        }}""")
        assert 11.0 <= font_px <= 16.0


@pytest.mark.parametrize("name", ["one", "eight", "empty", "answers"])
def test_nothing_exceeds_the_screen(opened: Any, name: str) -> None:
    page = opened(name)
    page.locator("#query-list").select_option(index=0)
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    for width, height in SIZES.values():
        page.set_viewport_size({"width": width, "height": height})
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        outside, crowded = page.evaluate(OUTSIDE), page.evaluate(CROWDED)
        assert outside == []
        assert crowded == []


def test_print_has_no_controls_and_complete_plots(opened: Any) -> None:
    page = opened("one")
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    for hidden in ("#panel", "#query-list", "#lines", "nav", ".map-buttons", "select.view-choice"):
        assert not page.locator(hidden).first.is_visible()
    for shown in ("#map", "#lisa-map", "#chart-reliability", "#chart-error-curve", "table", "#classes"):
        assert page.locator(shown).first.is_visible()
    page.set_viewport_size({"width": 718, "height": 1000})  # A4 within its margins
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.wait_for_timeout(200)
    # The full extent is visible on a map of another shape.
    seen = extent(page)
    low_x, low_y, high_x, high_y = page.evaluate("viewNow().extent_m")
    assert seen[0] <= low_x + 1.0
    assert seen[1] <= low_y + 1.0
    assert seen[2] >= high_x - 1.0
    assert seen[3] >= high_y - 1.0
    filled = max((high_x - low_x) / (seen[2] - seen[0]), (high_y - low_y) / (seen[3] - seen[1]))
    assert filled > 0.98
    assert page.pdf(format="A4").startswith(b"%PDF")


@pytest.mark.parametrize("name", ["one", "answers"])
def test_page_is_accessible(opened: Any, name: str) -> None:
    page = opened(name, unfolded=True)
    page.locator("#query-list").select_option(index=0)
    assert findings(page) == []
    page.click(".chart-tools button >> visible=true >> nth=0")  # enlarges a chart
    assert page.locator("dialog").is_visible()
    nameless = page.evaluate(NAMELESS)
    assert nameless == []


def test_everything_after_the_map_is_folded(opened: Any) -> None:
    page = opened("one", path="#districts")
    folded = page.evaluate("""() => Array.from(document.querySelectorAll("#map-section ~ section"))
      .map((section) => [section.id, section.querySelector(":scope > details").open])""")
    assert len(folded) > 8
    assert [name for name, is_open in folded if is_open] == ["districts"]  # the target of the address
    page.click("nav a[href='#leakage']")
    page.locator("#leakage .notes").wait_for()
    assert page.text_content("#fold-all") == "Open all sections"
    page.click("#fold-all")
    assert page.locator("#provenance dl").is_visible()
    assert page.text_content("#fold-all") == "Close all sections"
    page.click("#fold-all")
    assert not page.locator("#leakage .notes").is_visible()


def test_leakage_warnings_are_first(opened: Any) -> None:
    page = opened("one")
    warning = page.locator("header .warnings li")
    assert [text.replace("\u00a0", " ") for text in warning.all_text_contents()] == LEAKAGE["warnings"]
    assert warning.bounding_box()["y"] < page.locator(".cards").bounding_box()["y"]


def test_link_selects_a_query(opened: Any) -> None:
    page = opened("eight")
    page.locator("#views .view").nth(3).click()
    page.locator("#query-list").select_option(index=2)
    chosen, title, address = page.get_attribute("#panel", "data-query"), page.text_content("#map-title"), page.url
    assert address.endswith("#query=" + chosen)
    page.click("#panel button[aria-label='Close']")
    assert "#" not in page.url
    page = opened("eight", path=address[address.index("#") :])
    assert page.get_attribute("#panel", "data-query") == chosen
    assert page.text_content("#map-title") == title
    page.fill("#search", "no query has this name")
    page.evaluate("location.hash = '#query=somewhere%20else'")
    page.locator("#panel", has_text="The query somewhere else is not on this map").wait_for()
    assert page.input_value("#search") == ""


def test_queries_are_found_by_id(opened: Any) -> None:
    page = opened("one")
    page.fill("#search", "QUERY-00001")
    listed = page.locator("#query-list option").all_text_contents()
    assert len(listed) == 10
    assert all("query-00001" in text for text in listed)
    page.press("#search", "Enter")
    assert page.get_attribute("#panel", "data-query") in listed[0]
    page.fill("#search", "")
    assert page.locator("#query-list option").count() == 120


def test_tables_sort_and_are_saved_as_csv(opened: Any, full: Any) -> None:
    page = opened("one", unfolded=True, accept_downloads=True)
    report = full.full_evaluation(1, n_queries=120, n_candidates=160).report
    table = page.locator("#confidence .scroll table").first
    coverage = {f"{100 * level.level:.0f} %": level.area_km2.mean for level in report.calibration.levels}

    def names() -> list[str]:
        cells = table.locator("tbody td:first-child").all_inner_texts()
        return [text.split("\n")[0].replace("\u00a0", " ") for text in cells]

    area = table.locator("th", has_text="mean area")
    for direction, sign in (("ascending", 1), ("descending", -1)):
        area.locator("button").click()
        assert area.get_attribute("aria-sort") == direction
        assert names() == sorted(coverage, key=lambda name: sign * coverage[name])  # m2 and km2 in one column
    area.locator("button").click()
    assert names() == list(coverage)
    errors = page.locator("#figures .scroll table").nth(1)
    errors.locator("th button").nth(1).click()
    assert errors.locator("tbody td:first-child").all_inner_texts()[-1] == "random baseline"  # stays below the systems
    with page.expect_download() as saving:
        page.locator("#figures .table-tools button").nth(1).click()
    assert saving.value.suggested_filename == "sw-clip-all-figures.csv"
    rows = list(csv.DictReader(io.StringIO(saving.value.path().read_text(encoding="utf-8"))))
    assert [row["estimator"] for row in rows][-1] == "random baseline"
    by_name = {row["estimator"]: row for row in rows}
    assert float(by_name["mode"]["median (m)"]) == pytest.approx(report.error_m.median, rel=0.05)
    assert float(by_name["mode"]["p95 (m)"]) == pytest.approx(report.error_m.p95, rel=0.05)


def test_columns_of_csv_keep_everything_of_a_cell(opened: Any) -> None:
    page = opened("empty")
    for texts, name, values in (
        (["9.1\u00a0m", "12.0\u00a0km", ""], "x (m)", ["9.1", "12000", ""]),
        (["7,590 m²", "0.05 km²"], "x (km²)", ["0.00759", "0.05"]),
        (["\u22129,577 m", "+2.5 m"], "x (m)", ["-9577", "2.5"]),
        (["30 (10.0 %)", "4 (1 %)"], "x", ["30 (10.0 %)", "4 (1 %)"]),
        (["3", "5 m"], "x", ["3", "5 m"]),
        (["5mm", "=1+1", "-x"], "x", ["5mm", "'=1+1", "'-x"]),
        (["1,200", "0.31"], "x", ["1200", "0.31"]),
    ):
        assert page.evaluate("(texts) => columnOf('x', texts)", texts) == [name, *values]


def test_charts_and_photographs_are_enlarged(opened: Any) -> None:
    page = opened("one", unfolded=True, accept_downloads=True)
    page.locator("#chart-reliability svg >> visible=true").click()
    dialog = page.locator("dialog")
    assert (
        dialog.locator("svg").bounding_box()["width"] > 1.5 * page.locator("#chart-reliability").bounding_box()["width"]
    )
    with page.expect_download() as saving:
        dialog.get_by_role("button", name="Download SVG").click()
    text = saving.value.path().read_text(encoding="utf-8")
    assert ET.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert "var(" not in text
    assert "#0b5cad" in text
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    page.locator("#examples button.enlarge").first.click()
    assert (
        dialog.locator("img").bounding_box()["width"] > 2 * page.locator("#examples img").first.bounding_box()["width"]
    )


def test_dark_mode_follows_the_system_and_prints_are_light(opened: Any) -> None:
    page = opened("one", color_scheme="dark")

    def lightness(script: str) -> float:
        return sum(page.evaluate(script)) / 3.0

    paper = "() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
    scale = """async () => {
      await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
      return Array.from(document.getElementById("map").getContext("2d").getImageData(16, 26, 1, 1).data).slice(0, 3);
    }"""
    assert lightness(paper) < 40
    assert lightness(scale) > 150  # the left end of the map's scale
    page.emulate_media(color_scheme="light")
    assert lightness(paper) == 255
    assert lightness(scale) < 100
    page.emulate_media(color_scheme="dark", media="print")
    assert lightness(paper) == 255
    assert lightness(scale) < 100


def test_base_map_is_below_the_queries(reports: dict[str, Path], browser: Any) -> None:
    from fixtures.service import encoded

    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page, urls, complaints = context.new_page(), [], []
    page.on("console", lambda message: complaints.append(message.text))

    def fulfil(route: Any) -> None:
        urls.append(route.request.url)
        route.fulfill(body=encoded("PNG", (256, 256)), content_type="image/png")

    page.route("https://tiles.invalid/**", fulfil)
    page.goto(reports["tiles"].as_uri())
    page.wait_for_selector("html[data-ready=yes]")
    eventually(page, "Array.from(performance.getEntriesByType('resource')).length >= 4")
    assert all(re.fullmatch(r"https://tiles\.invalid/\d+/\d+/\d+\.png", url) for url in urls)
    assert page.inner_text(".attribution") == "© OpenStreetMap <b>contributors</b>"
    assert page.get_attribute(".attribution a", "href") == "https://www.openstreetmap.org/copyright"
    # A place and its plane coordinates are at the same point of the Mercator square, both ways.
    off_m = page.evaluate("""() => {
      const { x, y } = viewNow().queries, frame = viewNow().frame;
      return x.map((east, i) => {
        const [mx, my] = project(frame.lat_deg + y[i] / frame.north_m, frame.lon_deg + east / frame.east_m);
        const [tx, ty] = mainMap.toMercator(east, y[i]), [bx, by] = mainMap.fromMercator(tx, ty);
        return Math.max(Math.hypot(tx - mx, ty - my) * metresAcross(frame.lat_deg), Math.hypot(bx - east, by - y[i]));
      });
    }""")
    assert max(off_m) < 0.01
    zoom = int(urls[0].split("/")[3])
    lat, lon = page.evaluate("[viewNow().frame.lat_deg, viewNow().frame.lon_deg]")
    column = int((lon / 360 + 0.5) * 2**zoom)
    row = int((0.5 - math.asinh(math.tan(math.radians(lat))) / (2 * math.pi)) * 2**zoom)
    assert f"https://tiles.invalid/{zoom}/{column}/{row}.png" in urls  # the tile at the centre of the queries
    assert complaints == []
    context.close()


def test_page_of_a_large_evaluation_is_limited_in_size(
    full: Any, reports: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Limits of the map and queries to a twentieth; what is on every page does not grow with them.
    monkeypatch.setattr(map_data, "_QUERIES", map_data._QUERIES // 20)
    monkeypatch.setattr(map_data, "_CANDIDATES", map_data._CANDIDATES // 20)
    large = full.full_evaluation(1, n_queries=2_500, n_candidates=5_000, cities=full.EIGHT)
    write_report_page(tmp_path / "report.html", large, title="sw-clip")
    size, small = (tmp_path / "report.html").stat().st_size, reports["eight"].stat().st_size
    assert small + 20 * (size - small) + BUDGET_BYTES < 15_000_000
    text = (tmp_path / "report.html").read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
    assert "the map leaves out 2,200 queries and" in text


def test_optional_sections_are_left_out(reports: dict[str, Path]) -> None:
    text = reports["empty"].read_text(encoding="utf-8")
    for words in ('id="spatial"', 'id="confidence"', 'id="lisa-map"', 'id="chart-correlogram"', 'id="colour"'):
        assert words not in text
    whole = reports["one"].read_text(encoding="utf-8")
    for words in ('id="spatial"', 'id="confidence"', 'id="lisa-map"', 'id="chart-correlogram"', 'id="colour"'):
        assert words in whole
