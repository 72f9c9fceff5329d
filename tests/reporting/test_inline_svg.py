"""Charts as SVG elements: isolated from the page and from each other."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from swclip.reporting.inline_svg import inline_svg, page_charts
from swclip.reporting.page import ErrorCurve
from swclip.reporting.plots import Chart, Series, error_chart, percent_axis

CURVE = ErrorCurve(x=[2.0, 30.0, 400.0], y=[50.0, 75.0, 100.0])
NASTY = '</script><script>alert("x")</script>&amp;'


def reliability(name: str = "reliability") -> Chart:
    x, y = [10.0, 50.0, 90.0], [15.0, 45.0, 80.0]
    labels = [f"stated {a:.0f} %, observed {b:.0f} %" for a, b in zip(x, y, strict=True)]
    points = Series("", x, y, "#0b5cad", labels, "both", low=[5.0, 40.0, 70.0], high=[20.0, 50.0, 90.0])
    return Chart(name, "Title", 'He said "so" & <so>', percent_axis("a"), percent_axis("b"), [points], diagonal="equal")


def element(chart: Chart, name: str = "a-") -> ET.Element:
    return ET.fromstring(inline_svg(chart, (500.0, 300.0), id_prefix=name).replace("xlink:href", "href"))


def test_output_is_reproducible() -> None:
    first, second = (inline_svg(reliability(), (500.0, 300.0), id_prefix="a-") for _ in range(2))
    assert first == second


def test_ids_are_unique_and_references_are_local() -> None:
    charts = page_charts([reliability("one"), reliability("two")], full_width=("two",))
    ids: list[str] = []
    for chart in charts.values():
        for _, drawing in chart.drawings:
            names = re.findall(r' id="([^"]*)"', drawing)
            assert set(re.findall(r"(?:url\(|href=\")#([\w-]+)", drawing)) == set(names)
            ids += names
    assert len(ids) == len(set(ids)) == 8


def test_element_has_no_global_styles_or_metadata() -> None:
    text = inline_svg(reliability(), (500.0, 300.0), id_prefix="a-")
    for words in ("http", "<style", "<metadata", "<?xml", "DOCTYPE", "font-family"):
        assert words not in text


def test_text_and_grid_use_the_colours_of_the_page() -> None:
    root = element(reliability())
    styles = [node.get("style", "") for node in root.iter("text")]
    assert styles
    assert all("fill:var(--" in style for style in styles)
    assert not re.search(r"#(18212b|566372|dfe4ea|ffffff)", ET.tostring(root, encoding="unicode"))


def test_chart_has_a_description_and_tooltips() -> None:
    root = element(reliability())
    assert (root.get("role"), root.get("aria-label")) == ("img", 'He said "so" & <so>')
    circles = list(root.iter("circle"))
    assert [circle.findtext("title") for circle in circles] == reliability().series[0].labels
    marks = [(float(use.get("x", "")), float(use.get("y", ""))) for use in root.iter("use")]
    for circle, (x, y) in zip(circles, marks, strict=True):
        assert (float(circle.get("cx", "")), float(circle.get("cy", ""))) == pytest.approx((x, y), abs=0.2)


def test_long_series_is_thinned_and_keeps_its_ends() -> None:
    x = [float(value) for value in range(1, 301)]
    curve = ErrorCurve(x=x, y=[value / 3.0 for value in x])
    chart = page_charts([error_chart("c", [("a", curve, "#0b5cad", "solid", 2.0)])])["c"]
    [(name, values)] = chart.values
    assert (name, len(values)) == ("", 25)
    assert (values[0], values[-1]) == ("0.3 % within 1.0 m", "100.0 % within 300 m")
    assert chart.drawings[0][1].count("<title>") == 49
    assert "<title>" not in chart.drawings[1][1]


@pytest.mark.parametrize("name", [NASTY, "\N{CJK UNIFIED IDEOGRAPH-6771}\N{CJK UNIFIED IDEOGRAPH-4EAC}", "a\x07b", ""])
def test_names_are_escaped(name: str) -> None:
    chart = error_chart("c", [(name, CURVE, "#0b5cad", "solid", 2.0), ("b", CURVE, "#111111", "dash", 1.0)])
    root = element(chart)
    assert not list(root.iter("script"))
    words = "".join(node.text or "" for node in root.iter("text"))
    assert name.replace("\x07", "\N{REPLACEMENT CHARACTER}").replace(" ", "") in words.replace(" ", "")
