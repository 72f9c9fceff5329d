"""Pages: self-contained, safe with untrusted names, and interactive in a browser without a network."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.accessibility import findings
from swclip.comparison.align import restricted
from swclip.comparison.compare import compare
from swclip.comparison.compare_reports import compare_reports
from swclip.comparison.page import write_comparison, write_comparison_page
from swclip.evaluation.result import Evaluation
from swclip.reporting.page import MetreScale, error_curve
from swclip.reporting.report import write_report_page
from swclip.reporting.tables import level_table

NASTY = '</script><script>alert("x")</script><b>&amp;'

COLOURS_OF_THE_MAP = """async () => {
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  const canvas = document.getElementById("map"), seen = new Set();
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  for (let i = 0; i < data.length; i += 4) seen.add(data[i] << 16 | data[i + 1] << 8 | data[i + 2]);
  return Array.from(seen);
}"""

LEAKAGE = {
    "version": "1",
    "warnings": ["12% of the queries have a near-duplicate picture in training."],
    "notes": [],
    "query": {
        "n": 45,
        "n_training": 135,
        "nearest_training_m": {"min": 0.4, "p5": 1.0, "median": 6.2, "p95": 19.0},
        "within_m": {limit: {"count": 9, "share": 0.2} for limit in ("5", "10", "25", "50")},
        "shared_places": {"count": 3, "queries": 4, "share": 0.09, "unknown": 0},
        "shared_sequences": {"count": 0, "queries": 0, "share": 0.0, "unknown": 45},
        "near_duplicates": None,
        "exact_duplicates": {"queries": {"count": 0, "share": 0.0}, "examples": []},
        "candidates": {"n": 135, "nearest_m": None, "within_25m": {"count": 30, "share": 0.667}},
    },
    "val": {"n": 0, "n_training": 135, "nearest_training_m": None, "within_m": None},
}


# Namespaces of a chart that is saved, and a link that maps with tiles show.
ADDRESSES_OF_THE_SCRIPT = (
    "http://www.w3.org/2000/svg",
    "http://www.w3.org/1999/xlink",
    "https://www.openstreetmap.org/copyright",
)


class Addresses(HTMLParser):
    """Collects what a page loads and links to."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        for name, value in attrs:
            if name == "id" and value:
                self.ids.append(value)
            if value and name in ("src", "srcset", "poster", "data", "href", "action"):
                (self.links if tag == "a" else self.loads).append(value)


def without_candidates(evaluation: Evaluation) -> Evaluation:
    """The evaluation of a report on disk, which has no candidates."""
    return Evaluation(evaluation.report, evaluation.predictions, evaluation.candidates.iloc[:0])


@pytest.fixture(scope="module")
def pages(made_up: Any, draw_photographs: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    cities = {"Leeds": (53.8008, -1.5491), NASTY: (53.96, -1.0873)}
    runs = {
        "clip": {seed: made_up(1, system=seed, spread_m=80.0, lost_share=0.3, cities=cities) for seed in (1, 2)},
        NASTY: {seed: made_up(1, system=10 + seed, cities=cities) for seed in (1, 2)},
    }
    evaluation = runs[NASTY][1]
    evaluation.predictions["image_path"] = [str(folder / f"{name}.jpg") for name in evaluation.predictions["image_id"]]
    manifest = draw_photographs(evaluation, folder / "photographs")
    made = {
        "command": f"swclip {NASTY} --out={folder}/result",
        "splits": {"protocol": "new-streets", "path": str(folder)},
    }
    write_report_page(folder / "report.html", evaluation, title=NASTY, manifest=manifest, leakage=LEAKAGE)
    alone = made_up(2, per_city=120, cities={"nowhere": (52.2, 0.12)})  # one area without a city
    alone.predictions["city"] = None
    write_report_page(folder / "bare.html", alone, title="bare", leakage={"anything": {"else": 1}})
    write_comparison_page(
        folder / "benchmark.html", compare(runs, made, resamples=50), manifest=manifest, leakage=LEAKAGE
    )
    write_comparison_page(folder / "one.html", compare({"clip": runs["clip"]}, made, resamples=50))
    # As from reports on disk: no candidates, and figures of a subset of the queries.
    few = without_candidates(restricted(runs["clip"][1], np.arange(5, 28)))
    compared = compare_reports({"clip": few, NASTY: without_candidates(evaluation)}, common=True, resamples=50)
    write_comparison(folder, compared, "compare", manifest=manifest)
    return {path.stem: path for path in folder.glob("*.html")}


PAGES = ("report", "bare", "benchmark", "one", "compare")


@pytest.mark.parametrize("name", PAGES)
def test_page_is_self_contained(pages: dict[str, Path], name: str) -> None:
    text = pages[name].read_text(encoding="utf-8")
    for address in ADDRESSES_OF_THE_SCRIPT:
        text = text.replace(address, "")
    found = Addresses()
    found.feed(text)
    assert all(address.startswith("data:") for address in found.loads)
    assert all(link.startswith("#") for link in found.links)
    assert {link[1:] for link in found.links} <= set(found.ids)
    assert len(found.ids) == len(set(found.ids))
    assert "http://" not in text
    assert "https://" not in text
    assert not re.search(r"url\((?!#)", text)
    assert "default-src 'none'" in text
    assert re.search(r"^class MapView", text, re.MULTILINE)  # the service's map, without its exports
    assert not re.search(r"^(export|import) ", text, re.MULTILINE)


@pytest.mark.parametrize("name", PAGES)
def test_page_size_is_limited(pages: dict[str, Path], name: str) -> None:
    assert pages[name].stat().st_size < 2_000_000


@pytest.mark.parametrize("name", PAGES)
def test_page_contains_no_path_of_this_machine(pages: dict[str, Path], name: str) -> None:
    text = pages[name].read_text(encoding="utf-8")
    assert str(pages[name].parent) not in text
    assert str(Path.home()) + "/" not in text
    if name == "benchmark":
        assert "--out=result" in text  # of the command


def test_comparison_states_what_is_compared(pages: dict[str, Path]) -> None:
    found = re.search(r"<h1>(.*?)</h1>", pages["one"].read_text(encoding="utf-8"))
    assert found is not None
    assert unescape(found[1]) == f"Seeds of clip on new streets of {NASTY} and Leeds"
    found = re.search(r"<h1>(.*?)</h1>", pages["benchmark"].read_text(encoding="utf-8"))
    assert found is not None
    assert unescape(found[1]) == f"Comparison of {NASTY} and clip on new streets of {NASTY} and Leeds"


def test_comparison_is_accessible(pages: dict[str, Path], browser: Any) -> None:
    page = browser.new_page()
    page.goto(pages["benchmark"].as_uri())
    page.wait_for_selector("html[data-ready=yes]")
    page.click("#fold-all")
    page.locator("#query-list").select_option(index=0)
    assert findings(page) == []
    page.close()


@pytest.mark.parametrize("name", ["report", "benchmark", "compare"])
def test_names_are_escaped(pages: dict[str, Path], name: str) -> None:
    text = pages[name].read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "&lt;/script&gt;&lt;script&gt;alert(" in text  # escaped
    found = Addresses()
    found.feed(text)
    assert found.scripts == 2


def test_report_page_has_its_sections(pages: dict[str, Path]) -> None:
    text = pages["report"].read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
    for words in (
        "Half of the queries",
        "oracle error",
        "random baseline",
        "constant baseline",
        "Largest errors",
        "Errors by district",
    ):
        assert words in text
    assert "12% of the queries have a near-duplicate" in text
    assert "data:image/jpeg;base64," in text
    assert "data:image/jpeg" not in pages["bare"].read_text(encoding="utf-8")


def test_comparison_page_has_its_sections(pages: dict[str, Path]) -> None:
    text = pages["compare"].read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
    for words in (
        "Compared on the 23 queries that all reports have; left out: 7 of",
        "Best system by district",
        "Largest query changes",
        "The same queries for all",
        "Largest gains of",
        "taken at the answer",
    ):
        assert words in text
    for words in ("The random baseline", "not in the gallery", "Grey dots", "draws</dd>"):
        assert words not in text


@pytest.mark.parametrize("name", ["report", "benchmark", "compare", "bare"])
def test_page_is_interactive_without_a_network(pages: dict[str, Path], browser: Any, name: str) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    context.set_default_timeout(120_000)  # a machine that is busy with something else is slow, not wrong
    page = context.new_page()
    complaints: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type != "log" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(pages[name].as_uri())
    page.wait_for_selector("html[data-ready=yes]", timeout=120_000)
    page.click("#fold-all")
    assert page.locator("#chart-error-curve .series").count() >= 2
    for width, drawing in ((390, "narrow"), (1280, "wide")):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.locator(f"#chart-error-curve .{drawing} svg").is_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    drawn = set(page.evaluate(COLOURS_OF_THE_MAP))
    assert {0x2166AC, 0x5AA7D6} <= drawn  # two classes of error
    assert (0xBCC6CF in drawn) == (name != "compare")  # the candidates, which reports on disk do not have
    page.select_option("#lines", "all")
    if name in ("report", "benchmark", "compare"):
        before = page.text_content("#map-title")
        page.locator("#views .view").nth(1).click()
        assert page.text_content("#map-title") != before
    if name in ("benchmark", "compare"):
        before = page.text_content("#views .view >> nth=0")
        page.select_option("#system", "clip")
        assert page.text_content("#views .view >> nth=0") != before
    if name == "bare":
        assert not page.is_visible("#views")
    page.locator("#query-list").select_option(index=0)
    panel = page.text_content("#panel")
    assert "within 25\u00a0m of the answer" in panel
    assert ("error of clip" in panel) == (name in ("benchmark", "compare"))
    assert complaints == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    context.close()


def test_report_page_has_hierarchy_levels_where_measured(made_up: Any, pages: dict[str, Path], tmp_path: Path) -> None:
    evaluation = made_up()
    table = level_table(evaluation.report)
    assert [row.cells[0].text for row in table.rows] == [
        "city", "cell, 6,500 m across", "cell, 920 m across", "cell, 130 m across",
    ]  # fmt: skip
    assert table.rows[0].cells[2].text == f"{100 * evaluation.report.levels['city'].accuracy:.1f} %"
    text = pages["report"].read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
    for words in ("Hierarchy levels", "Top-1 accuracy", "Brier score", "cell, 130 m across", 'href="#levels"'):
        assert words in text
    old = replace(evaluation, report=evaluation.report.model_copy(update={"levels": {}}))
    write_report_page(tmp_path / "old.html", old, title="sw-clip")
    assert "Hierarchy levels" not in (tmp_path / "old.html").read_text(encoding="utf-8")


@given(st.lists(st.floats(0, 1e7), min_size=1, max_size=900))
def test_error_curve_is_the_empirical_cdf(values: list[float]) -> None:
    curve = error_curve(values)
    assert len(curve.x) <= 300
    assert curve.y == sorted(curve.y)
    assert curve.y[-1] == 100.0
    for x, y in zip(curve.x, curve.y, strict=True):
        # x is rounded to four figures: compare with the shares just below and just above it.
        below = 100.0 * sum(max(value, 1.0) < x * 0.999 for value in values) / len(values)
        above = 100.0 * sum(max(value, 1.0) <= x * 1.001 for value in values) / len(values)
        assert below - 0.01 <= y <= above + 0.01


@given(st.lists(st.floats(0, 2e7), min_size=1, max_size=8))
def test_scale_spans_its_values_in_order(values: list[float]) -> None:
    scale = MetreScale.spanning(values)
    places = [scale.at(value) for value in sorted(values)]
    assert places == sorted(places)
    assert all(0.0 <= place <= 100.0 for place in places)
    assert all(scale.low_m <= tick <= scale.high_m * (1 + 1e-9) for tick in scale.ticks_m)
    assert len(scale.ticks_m) >= 2
