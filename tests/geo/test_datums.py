"""Datums: their names, and positions converted to WGS84."""

from __future__ import annotations

import numpy as np
import pytest
from pyproj import Transformer

from swclip.geo.datums import WGS84, datum_code, to_wgs84


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("", 4326),
        ("WGS-84", 4326),
        ("wgs 84", 4326),
        ("EPSG:4301", 4301),
        ("Tokyo", 4301),
        ("TOKYO MEAN", 4301),
        ("JGD2011", 6668),
        ("NAD-27", 4267),
        ("European 1950", 4230),
        ("OSGB36", 4277),
        ("Pulkovo 1942", 4284),
        ("GDA94", 4283),
        ("GCJ-02", None),
        ("EPSG:27700", None),  # a projection, not a datum of latitudes and longitudes
        ("unknown", None),
    ],
)
def test_names(name: str, code: int | None) -> None:
    assert datum_code(name) == code


@pytest.mark.parametrize("code", [4301, 4267, 4230, 4277])
def test_conversion_can_be_undone(code: int) -> None:
    lat, lon = {4301: (35.6, 139.7), 4267: (40.0, -100.0), 4230: (48.0, 2.0), 4277: (53.8, -1.5)}[code]
    converted = to_wgs84(lat, lon, code)
    assert converted is not None
    moved_m = np.hypot((converted[0] - lat) * 111e3, (converted[1] - lon) * 111e3 * np.cos(np.radians(lat)))
    assert 10.0 < moved_m < 1000.0
    back = Transformer.from_crs(WGS84, code, allow_ballpark=False).transform(*converted)
    np.testing.assert_allclose(back, [lat, lon], atol=1e-7)


def test_wgs84_is_unchanged() -> None:
    assert to_wgs84(53.8008, -1.5491, WGS84) == (53.8008, -1.5491)
