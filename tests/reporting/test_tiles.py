"""Map tiles by name and by URL."""

from __future__ import annotations

import pytest

from swclip.errors import ConfigError
from swclip.reporting.tiles import Tiles


@pytest.mark.parametrize("name", ["osm", "OSM", "OpenStreetMap.Mapnik", "openstreetmap mapnik"])
def test_tiles_by_name_have_address_and_attribution(name: str) -> None:
    tiles = Tiles.of(name)
    assert tiles.url == "https://tile.openstreetmap.org/{z}/{x}/{y}.png"
    assert tiles.attribution == "© OpenStreetMap contributors"
    assert tiles.max_zoom == 19
    assert Tiles.of(name, "© us").attribution == "© us"


def test_every_provider_of_xyzservices_without_a_key_can_be_named() -> None:
    import xyzservices

    for provider in xyzservices.providers.flatten().values():
        if provider.requires_token():
            with pytest.raises(ConfigError, match="requires a key"):
                Tiles.of(provider.name)
            continue
        tiles = Tiles.of(provider.name)
        assert "{s}" not in tiles.url
        assert tiles.origin.startswith("http")
        assert tiles.attribution


def test_unknown_name_is_refused_with_a_way_out() -> None:
    with pytest.raises(ConfigError, match=r"--tiles 'open': must be osm, another name of xyzservices"):
        Tiles.of("open")
    with pytest.raises(ConfigError, match="--attribution"):
        Tiles.of("https://example.org/{z}/{x}/{y}.png")


@pytest.mark.parametrize(
    ("url", "attribution"),
    [
        ("https://tiles.example.org/{z}/{x}.png", "x"),
        ("ftp://tiles.example.org/{z}/{x}/{y}.png", "x"),
        ("https://{s}.example.org/{z}/{x}/{y}.png", "x"),
        ("https://example.org/{z}/{x}/{y}.png; script-src *", "x"),
        ("https:///{z}/{x}/{y}.png", "x"),
        ("https://example.org/{z}/{x}/{y}.png", " "),
    ],
)
def test_invalid_tiles_are_refused(url: str, attribution: str) -> None:
    with pytest.raises(ConfigError, match="--tiles"):
        _ = Tiles(url, attribution).origin
