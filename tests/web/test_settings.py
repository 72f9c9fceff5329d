"""Invalid limits are refused with the name of the flag."""

from __future__ import annotations

import math
from dataclasses import fields

import pytest

from swclip.errors import ConfigError
from swclip.reporting.tiles import Tiles
from swclip.web.app import page_policy, static_files
from swclip.web.settings import Limits


@pytest.mark.parametrize("name", [field.name for field in fields(Limits)])
def test_limits_must_be_finite_and_positive(name: str) -> None:
    flag = "--" + name.replace("_", "-")
    for value in (-1, math.nan, math.inf):
        with pytest.raises(ConfigError, match=flag):
            Limits(**{name: value})
    if name in ("queue", "rate_per_minute", "max_wait_ms"):
        assert getattr(Limits(**{name: 0}), name) == 0
    else:
        with pytest.raises(ConfigError, match=flag):
            Limits(**{name: 0})


def test_contradicting_limits_are_refused() -> None:
    with pytest.raises(ConfigError, match="--max-request-mb 10"):
        Limits(max_request_mb=10)


def test_page_may_load_tiles_from_their_origin_only() -> None:
    tiles = Tiles("https://tiles.example.org:8443/{z}/{x}/{y}.png", "© somebody")
    assert tiles.origin == "https://tiles.example.org:8443"
    assert "img-src 'self' blob: https://tiles.example.org:8443;" in page_policy(tiles)
    assert "http" not in page_policy(None)


def test_page_references_no_other_hosts() -> None:
    files = static_files()
    assert {"index.html", "style.css", "app.js"} <= set(files)
    for name, file in files.items():
        text = file.content.decode().replace("http://www.w3.org/2000/svg", "")
        # To follow, a namespace, and what an address of a licence begins with.
        for link in ("https://www.openstreetmap.org/", "http://www.opengis.net/kml/2.2", r"/^https?:\/\//"):
            text = text.replace(link, "")
        assert "http" not in text.replace("http-equiv", ""), name
        assert "//" not in text.replace("// ", "") or not name.endswith((".html", ".css")), name
    assert b"export class MapView" in files["map_layers.js"].content  # the map of the reports
    html = files["index.html"].content.decode()
    assert "style=" not in html
    assert "onclick" not in html
    assert html.count("<script") == 1
