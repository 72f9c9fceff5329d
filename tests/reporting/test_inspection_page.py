"""The page of an inspection in a browser, and the files beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fixtures.accessibility import findings
from fixtures.inspections import SUSPICIOUS
from swclip.data.manifest import Manifest
from swclip.inspection.inspection import Inspection, inspect_manifest
from swclip.reporting import inspection_map
from swclip.reporting.inspection_page import inspection_charts, save_inspection, suspicious_table, write_inspection_page
from swclip.reporting.tiles import Tiles

CLIPPED = """() => Array.from(document.querySelectorAll("td, .card div, .chart svg text"))
  .map((node) => [node, node.getBoundingClientRect()])
  .filter(([, box]) => box.width && box.right > document.body.clientWidth + 2)
  .map(([node]) => node.textContent.trim().slice(0, 60))"""


@pytest.fixture(scope="module")
def saved(inspected: Inspection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_inspection(inspected, tmp_path_factory.mktemp("inspection"))


@pytest.fixture
def page(saved: Path, browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    messages: list[str] = []
    opened.on("console", lambda message: messages.append(message.text))
    opened.on("pageerror", lambda error: messages.append(str(error)))
    opened.goto(saved.as_uri())
    opened.wait_for_selector("html[data-ready=yes]")
    yield opened
    assert messages == []
    context.close()


def test_files(saved: Path, inspected: Inspection) -> None:
    listed = pd.read_csv(saved.parent / "suspicious.csv")
    assert dict(zip(listed["image_id"], listed["reason"], strict=True)) == SUSPICIOUS
    assert len(pd.read_parquet(saved.parent / "photographs.parquet")) == 72
    assert json.loads((saved.parent / "inspection.json").read_text()) == inspected.report.model_dump(mode="json")
    assert 'src="http' not in saved.read_text(encoding="utf-8")


def test_the_map_lists_what_is_suspicious_in_each_city(page: Any) -> None:
    leeds = [option.strip() for option in page.locator("#suspicious-list option").all_text_contents()]
    page.select_option("#city", "1")
    york = [option.strip() for option in page.locator("#suspicious-list option").all_text_contents()]
    assert {option.split()[1]: option.split()[0] for option in leeds + york} == SUSPICIOUS
    assert page.locator("#map-title").text_content() == "York: 24 photographs"


def test_a_reason_is_switched_off_and_a_photograph_is_chosen(page: Any) -> None:
    assert page.locator("#shown").text_content() == "8 suspicious photographs"
    page.locator("#classes button", has_text="unreadable").click()
    assert page.locator("#shown").text_content() == "6 suspicious photographs"
    page.select_option("#suspicious-list", label="dark  night")
    panel = page.locator("#panel")
    assert "mean luma" in panel.text_content()
    assert panel.locator("img").get_attribute("src").startswith("data:image/jpeg")
    page.locator("#classes button", has_text="dark").click()
    assert "Choose a photograph" in panel.text_content()


def test_a_dot_on_the_map_can_be_clicked(page: Any) -> None:
    where = page.evaluate(
        """() => { const i = viewNow().suspicious.id.indexOf("vague");
          const [x, y] = mainMap.toScreen(...mainMap.suspicious[i]);
          const box = byId("map").getBoundingClientRect(); return [x, y, box.width, box.height]; }"""
    )
    assert 0 < where[0] < where[2]
    assert 0 < where[1] < where[3]
    page.locator("#map").click(position={"x": where[0], "y": where[1]})
    assert page.locator("#panel h4").text_content() == "vague"


def test_the_next_command_and_the_examples_are_shown(page: Any, inspected: Inspection) -> None:
    assert page.locator("#splits code").text_content() == " ".join(inspected.report.next)
    titles = page.locator("#suspicious h3").all_text_contents()
    assert titles == ["Dark", "Blurred", "Uniform", "Identical", "Duplicate"]
    assert page.locator("#suspicious figure img").count() == 7


def test_accessible_and_not_crowded_on_a_laptop_and_a_phone(page: Any) -> None:
    page.locator("#fold-all").click()
    assert findings(page) == []
    assert page.evaluate(CLIPPED.replace("td, ", "")) == []  # tables scroll on a phone
    page.set_viewport_size({"width": 1280, "height": 900})
    assert page.evaluate(CLIPPED) == []


def test_print_opens_every_section(page: Any) -> None:
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("section.folded > details:not([open])").count() == 0
    assert page.locator(".side").is_hidden()


def test_without_photographs_pixels_or_names(inspected: Inspection, tmp_path: Path, browser: Any) -> None:
    frame = inspected.manifest.frame.iloc[:2].assign(
        city=None, sequence_id=None, captured_at=pd.NaT, accuracy_m=float("nan"), heading_deg=float("nan")
    )
    plain = inspect_manifest(Manifest(inspected.manifest.path, frame), pixels="none")
    tiles = Tiles("https://tiles.invalid/{z}/{x}/{y}.png", "© OpenStreetMap contributors", 17)
    write_inspection_page(tmp_path / "plain.html", plain, pictures=False, tiles=tiles)
    context = browser.new_context()
    page = context.new_page()
    requested: list[str] = []
    page.route("https://tiles.invalid/**", lambda route: (requested.append(route.request.url), route.abort()))
    page.goto((tmp_path / "plain.html").as_uri())
    page.wait_for_selector("html[data-ready=yes]")
    page.locator("#map").scroll_into_view_if_needed()
    assert page.locator("#map-title").text_content() == "All photographs: 2 photographs"
    assert page.locator(".attribution").text_content() == "© OpenStreetMap contributors"
    assert page.locator("#pixels, #cameras").count() == 0
    assert "No photograph has a time of capture." in page.content()
    assert [chart.name for chart in inspection_charts(plain)] == []
    assert requested != []
    context.close()


def test_a_large_map_is_limited_in_size(inspected: Inspection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection_map, "_DRAWN", 20)
    drawn = inspection_map.inspection_map(inspected, inspection_map.Album(inspected.manifest, 0))
    assert sum(len(view["photographs"]["x"]) for view in drawn["views"]) == 20
    assert drawn["note"].startswith("To limit the size of this file, 52 photographs")
    assert drawn["images"] == []


def test_every_reason_states_its_threshold_and_source() -> None:
    table = suspicious_table(dict.fromkeys({*SUSPICIOUS.values()}, 1))
    assert [row.cells[0].text for row in table.rows] == list(dict.fromkeys(SUSPICIOUS.values()))
    assert all(cell.text for row in table.rows for cell in row.cells)
    assert all(row.cells[0].small for row in table.rows)
