"""Filters against a loop that asks each entry in plain Python."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from swclip.errors import ConfigError
from swclip.gallery.filters import EntryFilter
from swclip.gallery.store import GalleryStore
from swclip.geo.areas import Area
from swclip.geo.distance import haversine_m

from .conftest import make_entries, make_store

COUNT = 60
CITIES = ["York", "King's Lynn", 'a "quoted" one', "back\\slash", "São Paulo", "percent%_", None]
SOURCES = ["panoramax", "", None]


@pytest.fixture(scope="module")
def scattered(tmp_path_factory: pytest.TempPathFactory) -> GalleryStore:
    """Entries on both sides of the antimeridian, near a pole and at (0, 0), some without a photograph or a time."""
    generator = np.random.default_rng(2)
    centres = np.array([[-17.0, 179.9], [-17.0, -179.9], [89.9, 10.0], [0.0, 0.0], [51.5, -0.1]])
    positions = centres[np.arange(COUNT) % 5] + generator.normal(0, 0.05, (COUNT, 2))
    positions[:, 0] = np.clip(positions[:, 0], -90, 90)
    positions[:, 1] = (positions[:, 1] + 180) % 360 - 180
    times = [
        None if i % 7 == 0 else datetime(2015 + i % 8, 1 + i % 12, 3, i % 24, 30, 15, 123000) for i in range(COUNT)
    ]
    entries = make_entries(
        COUNT,
        lat_deg=positions[:, 0],
        lon_deg=positions[:, 1],
        city=[CITIES[i % len(CITIES)] for i in range(COUNT)],
        source=[SOURCES[i % 3] for i in range(COUNT)],
        captured_at=times,
        image_id=[None if i % 6 == 0 else f"it's {i}" for i in range(COUNT)],
    )
    return make_store(tmp_path_factory.mktemp("filters") / "gallery", entries)


def _meant(row: dict[str, Any], where: EntryFilter) -> bool:
    if where.image_ids is not None and row["image_id"] not in where.image_ids:
        return False
    if where.cities is not None and row["city"] not in where.cities:
        return False
    if where.sources is not None and row["source"] not in where.sources:
        return False
    time = row["captured_at"]
    if where.since is not None and (time is None or time < where.since):
        return False
    if where.until is not None and (time is None or time >= where.until):
        return False
    if where.photographs is not None and (row["image_id"] is not None) != where.photographs:
        return False
    if where.near is not None and where.radius_m is not None:
        arguments = (row["lat_deg"], row["lon_deg"], *where.near)
        if haversine_m(*(np.float64(value) for value in arguments)) > where.radius_m:
            return False
    if where.within is not None:
        turned = [shapely.Point(row["lon_deg"] + turn, row["lat_deg"]) for turn in (-360, 0, 360)]
        return any(where.within.geometry.intersects(point) for point in turned)
    return True


_TEXTS = st.lists(st.sampled_from([city for city in CITIES if city]) | st.text(max_size=4), max_size=3)
_TIMES = st.datetimes(datetime(2014, 1, 1), datetime(2024, 1, 1)).map(
    lambda t: t.replace(microsecond=t.microsecond // 1000 * 1000)
)
_BOXES = st.tuples(st.floats(-180, 180), st.floats(-89, 89), st.floats(0.1, 200), st.floats(0.1, 60)).map(
    lambda b: Area(shapely.box(b[0], b[1], b[0] + b[2], min(b[1] + b[3], 90)))
)
_CIRCLES = st.tuples(
    st.sampled_from([(-17.0, 180.0), (-17.0, -179.95), (90.0, 0.0), (0.0, 0.0), (51.5, -0.1), (-90.0, 5.0)]),
    st.floats(1.0, 3e6),
)


@settings(max_examples=150)
@given(
    cities=st.none() | _TEXTS,
    sources=st.none() | st.lists(st.sampled_from(["panoramax", "", "x'"]), max_size=2),
    image_ids=st.none() | st.lists(st.integers(0, COUNT).map(lambda i: f"it's {i}"), min_size=20, max_size=60),
    since=st.none() | _TIMES,
    until=st.none() | _TIMES,
    within=st.none() | _BOXES,
    circle=st.none() | _CIRCLES,
    photographs=st.sampled_from([None, True, False]),
)
def test_a_filter_equals_a_loop(scattered: GalleryStore, circle: Any, **conditions: Any) -> None:
    if circle is not None:
        conditions.update(near=circle[0], radius_m=circle[1])
    where = EntryFilter(**conditions)
    rows = scattered.read(["entry_id", "image_id", "city", "source", "captured_at", "lat_deg", "lon_deg"]).to_pylist()
    expected = sorted(row["entry_id"] for row in rows if _meant(row, where))
    assert sorted(scattered.read(["entry_id"], where)["entry_id"].to_pylist()) == expected
    assert scattered.count(where) == len(expected)
    assert where.empty == all(value is None for value in (*conditions.values(), circle))


def test_a_point_on_the_border_is_within(tmp_path: Path) -> None:
    lat = 51.5 + np.arange(3) * 1e-3
    store = make_store(tmp_path / "gallery", make_entries(3, lat_deg=lat))
    square = Area(shapely.box(-0.1, 51.5, 0.0, 51.501))
    assert store.count(EntryFilter(within=square)) == 2
    reach = float(haversine_m(lat[0], np.float64(-0.1), lat[2], np.float64(-0.1)))
    assert store.count(EntryFilter(near=(lat[0], -0.1), radius_m=reach)) == 3
    assert store.count(EntryFilter(near=(lat[0], -0.1), radius_m=reach * (1 - 1e-12))) == 2


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"near": (51.5, 0.0)}, "go together"),
        ({"radius_m": 5.0}, "go together"),
        ({"near": (91.0, 0.0), "radius_m": 5.0}, "latitude and longitude"),
        ({"near": (51.0, 0.0), "radius_m": 0.0}, "positive number"),
        ({"near": (51.0, 0.0), "radius_m": float("nan")}, "positive number"),
        ({"since": datetime.fromisoformat("2020-01-01T00:00:00+01:00")}, "without a zone"),
    ],
)
def test_invalid_conditions_are_refused(conditions: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EntryFilter(**conditions)
