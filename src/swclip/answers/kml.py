"""Answers as KML 2.2 (OGC 07-147r2) for Google Earth and QGIS: the points of the answers and outlines of their regions.

No library is used, because simplekml and GDAL keep the whole document in memory (GDAL used 294 MB for 20,000 points),
and GDAL writes control characters of file names, which XML parsers refuse. Points and regions have separate folders,
because GIS make a layer of each folder, and a layer should have one geometry type. The elements of a Placemark are in
the order of the KML schema.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from swclip.answers.record import Answer, RegionAnswer
from swclip.answers.region_shapes import region_geometry

_FIELDS: dict[str, str] = {
    "photograph": "string",
    "lat_deg": "double",
    "lon_deg": "double",
    "probability_within_50m": "double",
    "estimator": "string",
    "city": "string",
    "city_probability": "double",
    "region_probability": "double",
    "region_area_km2": "double",
    "region_cannot_tell": "bool",
    "region_calibrated": "bool",
    "error": "string",
    "in_area_probability": "double",
}
"""The fields of a point, with their KML types; those of a region are the same."""

# Characters that are not allowed in XML 1.0, such as control characters in file names.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# Colours are alpha, blue, green, red. The default icons of Google Earth and QGIS need no network.
_STYLES = """\
<Style id="answer"><IconStyle><color>ffb4641e</color></IconStyle></Style>
<Style id="unsure"><IconStyle><color>ff808080</color></IconStyle></Style>
<Style id="region"><LineStyle><color>ffb4641e</color><width>2</width></LineStyle>\
<PolyStyle><color>40b4641e</color></PolyStyle></Style>
"""


def _head() -> str:
    fields = "".join(f'<SimpleField type="{kind}" name="{name}"/>' for name, kind in _FIELDS.items())
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<kml xmlns="http://www.opengis.net/kml/2.2">\n<Document>\n'
        f"<name>Answers of swclip</name>\n{_STYLES}"
        f'<Schema name="answer" id="answer-fields">{fields}</Schema>\n<Folder>\n<name>answers</name>\n'
    )


def point(answer: Answer) -> str:
    """The Placemark of an answer, for the first folder; without a geometry where there is no answer."""
    geometry = ""
    if answer.lat_deg is not None:
        geometry = f"<Point><coordinates>{answer.lon_deg},{answer.lat_deg}</coordinates></Point>"
    abstains = answer.region is not None and answer.region.cannot_tell
    return _placemark(answer, "unsure" if abstains else "answer", geometry)


def region(answer: Answer) -> str:
    """The Placemark of an answer's region, for the second folder; "" where there is no outline."""
    prediction = answer.region
    shape = None if prediction is None else region_geometry(prediction.cells, prediction.resolution)
    return "" if shape is None else _placemark(answer, "region", kml_geometry(shape))


def kml_geometry(shape: Mapping[str, Any]) -> str:
    """A GeoJSON Polygon or MultiPolygon as KML, longitude first in both.

    Example:
        >>> ring = [[0, 50], [1, 50], [1, 51], [0, 50]]
        >>> text = kml_geometry({"type": "Polygon", "coordinates": [ring]})
        >>> text.replace("<", " <").split()[3]
        '<coordinates>0,50'
    """
    if shape["type"] == "Polygon":
        outer, *holes = (_ring(ring) for ring in shape["coordinates"])
        inner = "".join(f"<innerBoundaryIs>{hole}</innerBoundaryIs>" for hole in holes)
        return f"<Polygon><outerBoundaryIs>{outer}</outerBoundaryIs>{inner}</Polygon>"
    parts = ({"type": "Polygon", "coordinates": rings} for rings in shape["coordinates"])
    return f"<MultiGeometry>{''.join(map(kml_geometry, parts))}</MultiGeometry>"


def _ring(ring: Sequence[Sequence[float]]) -> str:
    return f"<LinearRing><coordinates>{' '.join(f'{lon},{lat}' for lon, lat in ring)}</coordinates></LinearRing>"


def _placemark(answer: Answer, style: str, geometry: str) -> str:
    values = {**answer.as_dict(), **answer.flat_region()}
    data = "".join(
        f"<SimpleData name={quoteattr(name)}>{_text(_value(values[name]))}</SimpleData>"
        for name in _FIELDS
        if values[name] is not None
    )
    return (
        f"<Placemark><name>{_text(PurePath(answer.photograph).name)}</name>"
        f"<description>{_text(_description(answer))}</description><styleUrl>#{style}</styleUrl>"
        f'<ExtendedData><SchemaData schemaUrl="#answer-fields">{data}</SchemaData></ExtendedData>'
        f"{geometry}</Placemark>\n"
    )


def _description(answer: Answer) -> str:
    if answer.error is not None:
        return f"Not answered: {answer.error}"
    near = f"{answer.probability_within_50m or 0.0:.0%} within 50 m of {answer.lat_deg}, {answer.lon_deg}."
    if answer.in_area_probability is not None:
        near = f"{answer.in_area_probability:.0%} in the gallery's area; if so, {near}"
    return near if answer.region is None else f"{near} {_region_description(answer.region)}"


def _region_description(region: RegionAnswer) -> str:
    # These texts are part of the file format of version 1.
    if region.cannot_tell:
        return f"Cannot tell where: {region.reason}."
    if not region.calibrated:
        share = f"{region.probability:.0%} of the posterior (not calibrated)"
        return f"The outline, {region.area_km2:.3g} km2, holds {share}."
    return f"Within the outline, {region.area_km2:.3g} km2, with {region.probability:.0%}."


def _value(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _text(text: str) -> str:
    return escape(_NOT_XML.sub("\ufffd", text))


HEAD = _head()
BETWEEN_FOLDERS = "</Folder>\n<Folder>\n<name>regions</name>\n"
TAIL = "</Folder>\n</Document>\n</kml>\n"
