"""The record in Python: validation, representations, plot and GeoDataFrame."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from xml.etree import ElementTree

import geopandas
import h3
import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

import swclip
from fixtures.answers import sample_answers
from swclip.answers.record import Answer, to_geodataframe
from swclip.answers.table import answer_file
from swclip.errors import InputError

WHOLE, LOST, SEVERAL, NO_REGION = sample_answers()


def test_answer_is_public_and_immutable() -> None:
    assert swclip.Answer is Answer
    with pytest.raises(ValidationError, match="frozen"):
        WHOLE.city = "York"  # type: ignore[misc]
    assert len({WHOLE, WHOLE.model_copy(), LOST}) == 2


@pytest.mark.parametrize(
    "values", [{"lat_deg": 90.5}, {"lon_deg": float("nan")}, {"probability_within_50m": 1.1}, {"schema_version": "2"}]
)
def test_values_out_of_range_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Answer(photograph="a.jpg", **values)


def test_name_that_is_not_utf_8_is_kept() -> None:
    answer = Answer(photograph="caf\udce9.jpg", photographs=("caf\udce9.jpg",))
    assert answer.as_dict()["photograph"] == "caf\udce9.jpg"


def test_repr_is_one_line() -> None:
    assert repr(WHOLE) == '<Answer in/a, "b" é.jpg: Leeds, 53.80000, -1.55000; 30% within 50 m>'
    assert repr([LOST]) == "[<Answer lost <1> & more.jpg: no answer, is an empty file; copy or download it again.>]"


def test_notebook_html_is_self_contained() -> None:
    html = WHOLE._repr_html_()
    source = re.search(r'src="data:image/png;base64,([^"]+)"', html)
    assert source is not None
    assert Image.open(io.BytesIO(base64.b64decode(source[1]))).format == "PNG"
    assert "http" not in html.replace(source[1], "")
    rows = ElementTree.fromstring(html.replace("<br>", " ").replace('">', '"/>').replace("<div/>", "<div>"))
    assert [row.findtext("td[2]") for row in rows.iter("tr")][1:] == ["100.0%", "0.0%"]
    lost = LOST._repr_html_()
    assert "lost &lt;1&gt; &amp; more.jpg" in lost
    assert "is an empty file" in lost


def test_figure_shows_point_candidates_and_outline(tmp_path: Path) -> None:
    region = WHOLE.region.model_copy(update={"cells": (h3.latlng_to_cell(53.8, -1.55, 11),)})
    answer = WHOLE.model_copy(update={"region": region})
    (axes, _) = answer.plot(truth_deg=(53.8003, -1.55)).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["region", "answer", "true position"]
    outline, to_truth = axes.lines
    assert 20 < np.hypot(*outline.get_xydata().T).max() < 60, "the corners of a cell of resolution 11, in metres"
    assert to_truth.get_xydata()[1].tolist() == pytest.approx([0.0, 33.36], abs=0.01)
    low, high = axes.get_xlim()
    assert np.abs(outline.get_xdata()).max() < high == -low < 150
    shown = axes.collections[0].get_offsets()
    assert shown.tolist() == [[0.0, 0.0]], "a distant candidate does not set the scale of the map"
    assert "Region of 0.00211 km2, 80% nominal coverage" in axes.get_title(loc="left")
    assert "Abstains: too few" in SEVERAL.plot().axes[0].get_title(loc="left")
    assert "\n" not in NO_REGION.plot().axes[0].get_title(loc="left")
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.png")
    assert len(WHOLE.plot(tmp_path / "a.png").axes) == 3
    with pytest.raises(InputError, match="has no answer to plot"):
        LOST.plot()


def test_geodataframe_equals_the_file(tmp_path: Path) -> None:
    answers = sample_answers()
    frame = to_geodataframe(answers)
    with answer_file(tmp_path / "a.parquet", "parquet", (6, 8)) as file:
        file.write(answers)
    written = geopandas.read_parquet(tmp_path / "a.parquet")
    assert set(frame.columns) == set(written.columns)
    assert frame.crs == written.crs
    assert frame.geometry.isna().tolist() == [False, True, False, False]
    for name in ("lat_deg", "cell_8", "region_area_km2", "city"):
        assert frame[name].dropna().tolist() == written[name].dropna().tolist(), name
    (one,) = WHOLE.to_geodataframe().itertuples()
    assert (one.geometry.x, one.geometry.y, one.photograph) == (-1.55, 53.8, WHOLE.photograph)
    assert to_geodataframe([]).crs.to_epsg() == 4326
