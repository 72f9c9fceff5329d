"""Charts embedded in a page: SVG elements with its font and colours, with tooltips and a list of values."""

from __future__ import annotations

import io
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from markupsafe import Markup

from swclip.reporting.page import VARIABLES
from swclip.reporting.plots import INK, PAPER, RULE, SOFT, Chart, Series, chart_figure, fix_layout, printable

_PX_PER_INCH = 72.0  # of matplotlib's SVG: one point is one CSS pixel
_FONT_PX = 12.5
# Chart widths: on a phone, at half the width of a page, at its full width.
_PHONE_PX, _HALF_PX, _PAGE_PX = 358.0, 500.0, 1032.0
_HEIGHT_PX = {_PHONE_PX: 290.0, _HALF_PX: 310.0, _PAGE_PX: 400.0}
# Maximum number of tooltips and of listed values per series.
_TOOLTIPS, _LISTED = 49, 25
_REACH_PX = 9.0
# Colours of a chart are replaced by variables of the page.
_PAGE_COLOURS = {INK: "var(--ink)", SOFT: "var(--soft)", RULE: "var(--rule)", PAPER: "var(--paper)", **VARIABLES}
_DECIMAL = re.compile(r"-?\d+\.\d+")
_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"


@dataclass(frozen=True)
class PageChart:
    """A chart for a template.

    Attributes:
        name: Id on the page.
        title: Title, which the drawing does not contain.
        drawings: CSS class and SVG element: wide for screens and print, narrow for phones.
        values: Name of each series, empty for a single one, and its values as text.
    """

    name: str
    title: str
    drawings: list[tuple[str, Markup]]
    values: list[tuple[str, list[str]]]


def page_charts(charts: Iterable[Chart], *, full_width: Sequence[str] = ()) -> dict[str, PageChart]:
    """Draw charts for a page.

    Args:
        charts: Charts with unique names.
        full_width: Names of the charts that are as wide as the page; others are half as wide.

    Returns:
        The drawn charts by name.
    """
    return {chart.name: _page_chart(chart, _PAGE_PX if chart.name in full_width else _HALF_PX) for chart in charts}


def _page_chart(chart: Chart, width: float) -> PageChart:
    named = [series for series in chart.series if any(series.labels)]
    return PageChart(
        chart.name,
        chart.title,
        [
            ("wide", inline_svg(chart, (width, _HEIGHT_PX[width]), id_prefix=f"{chart.name}-wide-")),
            # Touch screens have no hover; they use the list of values.
            ("narrow", inline_svg(chart, (_PHONE_PX, _HEIGHT_PX[_PHONE_PX]), id_prefix=f"{chart.name}-", hover=False)),
        ],
        [(series.name if len(named) > 1 else "", _thinned(series.labels, _LISTED)) for series in named],
    )


def inline_svg(chart: Chart, size_px: tuple[float, float], *, id_prefix: str, hover: bool = True) -> Markup:
    """Draw a chart as an SVG element for an HTML page; equal charts give identical text.

    Args:
        chart: The chart.
        size_px: Width and height, CSS pixels.
        id_prefix: Prefix of the ids inside, which must be unique in a page.
        hover: Whether points have their values as tooltips.
    """
    import matplotlib

    shown = replace(chart, title="")
    inches = (size_px[0] / _PX_PER_INCH, size_px[1] / _PX_PER_INCH)
    stream = io.BytesIO()
    settings = matplotlib.rc_context(
        {"svg.hashsalt": "swclip", "svg.fonttype": "none", "path.simplify_threshold": 0.25}
    )
    with settings, warnings.catch_warnings():
        # The browser has fonts for names that matplotlib's font cannot show.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = chart_figure(shown, size=inches, font_pt=_FONT_PX)
        figure.set_dpi(_PX_PER_INCH)
        fix_layout(figure)
        figure.savefig(stream, format="svg", transparent=True, dpi=_PX_PER_INCH)
    root = ET.fromstring(stream.getvalue())
    _clean(root, id_prefix)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": chart.alt}
    root.set("style", f"max-width:{1.25 * size_px[0]:.0f}px")
    if hover:
        root.append(_tooltips(figure, chart.series))
    return Markup(ET.tostring(root, encoding="unicode"))


def _clean(root: ET.Element, id_prefix: str) -> None:
    """Turn an SVG document into an element: no namespaces, no global styles, unique ids."""
    text = ET.tostring(root, encoding="unicode")
    _prune(root)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        element.text = element.text.strip() if element.text else None
        element.tail = None
        attributes: dict[str, str] = {}
        for key, value in element.attrib.items():
            if key == "id":
                if f"#{value})" in text or f'#{value}"' in text:
                    attributes["id"] = id_prefix + value
            elif key == f"{_XLINK}href":
                attributes["xlink:href"] = value.replace("#", f"#{id_prefix}")
            elif key == "clip-path":
                attributes[key] = value.replace("#", f"#{id_prefix}")
            elif key == "style":
                attributes[key] = _page_style(value)
            elif not value.startswith("rotate(-0 "):
                # A tenth of a pixel is invisible, and a curve has hundreds of points.
                attributes[key] = " ".join(_DECIMAL.sub(_rounded, value).split()) if key != "viewBox" else value
        element.attrib = attributes


def _prune(element: ET.Element) -> None:
    """Remove metadata, global styles and invisible backgrounds."""
    for child in list(element):
        _prune(child)
        name, style = child.tag.removeprefix(_SVG), child.get("style", "").replace(" ", "")
        if name in ("metadata", "style") or (name in ("g", "defs") and len(child) == 0) or style == "fill:none":
            element.remove(child)


def _rounded(number: re.Match[str]) -> str:
    return f"{float(number[0]):.1f}".removesuffix(".0")


def _page_style(style: str) -> str:
    for colour, variable in _PAGE_COLOURS.items():
        style = style.replace(colour, variable)
    declarations = dict(part.strip().split(": ", 1) for part in style.split(";") if part.strip())
    if "font" in declarations:  # older versions of matplotlib write size and family together
        declarations["font-size"] = declarations.pop("font").split(" ")[0]
    declarations.pop("font-family", None)  # inherited from the page
    return ";".join(f"{name}:{value}" for name, value in declarations.items())


def _tooltips(figure: Any, series: Sequence[Series]) -> ET.Element:
    """Invisible hover targets at the points, with their values as tooltips."""
    axes = figure.axes[0]
    height = figure.get_figheight() * _PX_PER_INCH
    group = ET.Element("g", {"fill": "none", "pointer-events": "all"})
    for line in series:
        named = f"{line.name}: " if line.name and len(series) > 1 else ""
        points = [(x, y, label) for x, y, label in zip(line.x, line.y, line.labels, strict=True) if label]
        for x, y, label in _thinned(points, _TOOLTIPS):
            px, py = axes.transData.transform((x, y))
            place = {"cx": f"{px:.1f}", "cy": f"{height - py:.1f}", "r": f"{_REACH_PX:g}"}
            ET.SubElement(ET.SubElement(group, "circle", place), "title").text = printable(named + label)
    return group


def _thinned(values: Sequence[Any], most: int) -> list[Any]:
    """At most `most` of the values, evenly spaced, including the first and the last."""
    if len(values) <= most:
        return list(values)
    return [values[round(at * (len(values) - 1) / (most - 1))] for at in range(most)]
