"""KML: well-formed, valid by the rules of OGC KML 2.2 that readers depend on, and readable by GDAL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import geopandas
import pyogrio
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from swclip.answers.formats import as_text
from swclip.answers.kml import kml_geometry
from swclip.answers.record import Answer, RegionAnswer
from swclip.answers.region_shapes import region_geometry

NS = "{http://www.opengis.net/kml/2.2}"
# The order in which the schema of KML 2.2 has the elements of a Placemark, as far as they are used here.
ORDER = ("name", "description", "styleUrl", "ExtendedData", "Point", "Polygon", "MultiGeometry")
RING = ("8b195da49b71fff",)
SURE = Answer(
    photograph="in/<a> & b.jpg",
    lat_deg=53.8,
    lon_deg=-1.55,
    probability_within_50m=0.5,
    region=RegionAnswer(probability=0.8, area_km2=0.002, cannot_tell=False, resolution=11, cells=RING),
)
UNSURE = Answer(
    photograph="b.jpg",
    lat_deg=53.9,
    lon_deg=-1.5,
    probability_within_50m=0.1,
    region=RegionAnswer(probability=0.8, area_km2=None, cannot_tell=True, resolution=11, reason="too few"),
)
LOST = Answer(photograph="ctrl\x01.jpg", error="is not an image")


def parts(text: str, name: str) -> Iterator[ElementTree.Element]:
    return ElementTree.fromstring(text.encode()).iter(NS + name)


def test_document_follows_the_kml_rules() -> None:
    text = as_text([SURE, UNSURE, LOST], "kml")
    root = ElementTree.fromstring(text.encode())
    assert root.tag == NS + "kml"
    (document,) = root
    assert [child.tag.removeprefix(NS) for child in document] == ["name", *["Style"] * 3, "Schema", "Folder", "Folder"]
    ids = {element.get("id") for element in root.iter() if element.get("id")}
    assert len(ids) == len([element for element in root.iter() if element.get("id")])
    for placemark in parts(text, "Placemark"):
        tags = [child.tag.removeprefix(NS) for child in placemark]
        assert tags == sorted(tags, key=ORDER.index)
        assert (placemark.findtext(NS + "styleUrl") or "")[1:] in ids
    for schema in parts(text, "SchemaData"):
        assert (schema.get("schemaUrl") or "")[1:] in ids
    fields = {field.get("name"): field.get("type") for field in parts(text, "SimpleField")}
    assert set(fields.values()) <= {"string", "int", "uint", "short", "ushort", "float", "double", "bool"}
    assert {data.get("name") for data in parts(text, "SimpleData")} <= set(fields)


def test_placemarks() -> None:
    text = as_text([SURE, UNSURE, LOST], "kml")
    sure, unsure, lost, outline = parts(text, "Placemark")
    assert sure.findtext(f"{NS}Point/{NS}coordinates") == "-1.55,53.8"
    assert sure.findtext(NS + "name") == "<a> & b.jpg"
    assert (
        sure.findtext(NS + "description") == "50% within 50 m of 53.8, -1.55. Within the outline, 0.002 km2, with 80%."
    )
    values = {data.get("name"): data.text for data in sure.iter(NS + "SimpleData")}
    assert values["photograph"] == "in/<a> & b.jpg"
    assert (values["lat_deg"], values["region_cannot_tell"]) == ("53.8", "false")
    assert "error" not in values
    assert unsure.findtext(NS + "styleUrl") == "#unsure"
    assert (unsure.findtext(NS + "description") or "").endswith("Cannot tell where: too few.")
    assert lost.find(NS + "Point") is None
    assert (lost.findtext(NS + "name"), lost.findtext(NS + "description")) == (
        "ctrl\N{REPLACEMENT CHARACTER}.jpg", "Not answered: is not an image",
    )  # fmt: skip
    assert outline.findtext(NS + "styleUrl") == "#region"


def test_gdal_reads_points_and_regions_as_layers(tmp_path: Path) -> None:
    path = tmp_path / "answers.kml"
    path.write_text(as_text([SURE, UNSURE, LOST, SURE], "kml"), encoding="utf-8")
    assert pyogrio.list_layers(path)[:, 0].tolist() == ["answers", "regions"]
    points = geopandas.read_file(path, layer="answers")
    assert points.crs.to_epsg() == 4326
    assert points["Name"].tolist()[:2] == ["<a> & b.jpg", "b.jpg"]
    assert (points.geometry.x[0], points.geometry.y[0]) == (-1.55, 53.8)
    regions = geopandas.read_file(path, layer="regions")
    assert len(regions) == 2
    expected = shapely.geometry.shape(region_geometry(RING, 11))
    assert regions.geometry[1].equals_exact(expected, 1e-9)


def test_holes_and_parts_are_preserved() -> None:
    square = [[0.0, 0.0], [3.0, 0.0], [3.0, 3.0], [0.0, 3.0], [0.0, 0.0]]
    hole = [[1.0, 1.0], [1.0, 2.0], [2.0, 2.0], [1.0, 1.0]]
    far = [[10.0, 0.0], [11.0, 0.0], [11.0, 1.0], [10.0, 0.0]]
    shape = ElementTree.fromstring(kml_geometry({"type": "MultiPolygon", "coordinates": [[square, hole], [far]]}))
    assert shape.tag == "MultiGeometry"
    first, second = shape.findall("Polygon")
    assert first.findtext("innerBoundaryIs/LinearRing/coordinates") == "1.0,1.0 1.0,2.0 2.0,2.0 1.0,1.0"
    assert second.findtext("outerBoundaryIs/LinearRing/coordinates") == "10.0,0.0 11.0,0.0 11.0,1.0 10.0,0.0"
    assert second.find("innerBoundaryIs") is None


@given(data=st.data())
@settings(max_examples=25)
def test_any_answers_are_well_formed(made_up_answers: st.SearchStrategy[list[Answer]], data: st.DataObject) -> None:
    answers = data.draw(made_up_answers)
    outlines = sum(answer.region is not None and bool(answer.region.cells) for answer in answers)
    assert len(list(parts(as_text(answers, "kml"), "Placemark"))) == len(answers) + outlines


@pytest.mark.parametrize("mark", ["\x00", "\x0b", "\ufffe", "]]>", "&#x41;", "\u2028"])
def test_names_with_unusual_characters_are_well_formed(mark: str) -> None:
    (placemark,) = parts(as_text([Answer(photograph=f"a{mark}b", error="x")], "kml"), "Placemark")
    name = placemark.findtext(NS + "name") or ""
    assert name in (f"a{mark}b", "a\N{REPLACEMENT CHARACTER}b")
