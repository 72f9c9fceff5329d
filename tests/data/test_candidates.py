"""The candidates of an answer, which reveal nothing of the queries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swclip.data.candidates import GalleryRule, build_candidates, parse_gallery
from swclip.data.grouping import distinct_positions
from swclip.data.splits import Splits, candidates_for
from swclip.errors import ConfigError, InputError
from swclip.geo.coordinates import LocalFrame
from swclip.geo.distance import haversine_m
from swclip.geo.neighbours import SphereIndex

SPLITS = ("train", "val", "gallery", "query")


def photographs(seed: int, n: int = 60, positions: int = 25) -> tuple[pd.DataFrame, np.ndarray[Any, Any]]:
    """Photographs at few positions, so that one position has several, and a split for each."""
    rng = np.random.default_rng(seed)
    spots = LocalFrame(52.2, 0.12).to_deg(rng.uniform(-200, 200, size=(positions, 2)))
    at = rng.integers(positions, size=n)
    frame = pd.DataFrame(
        {
            "image_id": pd.Series([f"i{k}" for k in range(n)], dtype=object),
            "lat_deg": spots[at, 0],
            "lon_deg": spots[at, 1],
            "city": pd.Series(["Ely" if k % 2 else "Cambridge" for k in at], dtype=object),
        }
    )
    return frame, rng.choice(SPLITS, size=n).astype(object)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_photographs_are_those_of_the_training_side_and_of_no_query(seed: int) -> None:
    frame, split_of = photographs(seed)
    candidates = build_candidates(frame, split_of, GalleryRule("photographs"))
    by_position: dict[tuple[float, float], list[int]] = {}
    for row in range(len(frame)):
        key = (round(frame["lat_deg"][row], 7), round(frame["lon_deg"][row], 7))
        by_position.setdefault(key, []).append(row)
    expected = {}
    for key, rows in by_position.items():
        ids = sorted(frame["image_id"][row] for row in rows if split_of[row] in ("train", "val"))
        if ids:
            expected[key] = (ids, any(split_of[row] == "train" for row in rows))
    found = {
        (round(row.lat_deg, 7), round(row.lon_deg, 7)): (row.image_ids, row.for_val) for row in candidates.itertuples()
    }
    assert found == expected
    assert candidates["for_query"].all()
    assert candidates["candidate_id"].is_unique

    rows = pd.DataFrame({"image_id": frame["image_id"], "split": split_of, "block_id": None})
    splits = Splits(Path("splits.parquet"), rows, candidates, {})
    split_by_id = dict(zip(rows["image_id"], rows["split"], strict=True))
    for_val = candidates_for(splits, "val")
    assert {split_by_id[one] for ids in for_val["image_ids"] for one in ids} <= {"train"}
    assert all(ids for ids in for_val["image_ids"]), "a position with validation photographs alone is no candidate"
    trained = {(round(r.lat_deg, 7), round(r.lon_deg, 7)) for r in frame[split_of == "train"].itertuples()}
    assert {(round(r.lat_deg, 7), round(r.lon_deg, 7)) for r in for_val.itertuples()} == trained
    for_query = candidates_for(splits, "query")
    used = [one for ids in for_query["image_ids"] for one in ids]
    assert sorted(used) == sorted(one for one, name in split_by_id.items() if name in ("train", "val"))


def test_positions_include_all_and_have_no_photographs() -> None:
    frame, split_of = photographs(1)
    candidates = build_candidates(frame, split_of, GalleryRule("positions"))
    expected = {(round(row.lat_deg, 7), round(row.lon_deg, 7), row.city) for row in frame.itertuples()}
    assert {(row.lat_deg, row.lon_deg, row.city) for row in candidates.itertuples()} == expected
    assert len(candidates) == len(expected)
    assert candidates["image_ids"].map(len).sum() == 0
    assert candidates["for_val"].all()
    assert candidates["for_query"].all()


def test_positions_are_distinguished_to_a_centimetre_and_across_the_antimeridian() -> None:
    positions, which = distinct_positions(
        np.array([[1.0, 180.0], [1.0, -180.0], [1.00000002, -180.0], [1.0000001, 180.0]])
    )
    assert which.tolist() == [0, 0, 0, 1]
    assert positions.tolist() == [[1.0, -180.0], [1.0000001, -180.0]]


def test_a_candidate_has_the_first_city_of_its_photographs() -> None:
    frame = pd.DataFrame(
        {"image_id": ["a", "b", "c"], "lat_deg": [1.0, 1.0, 2.0], "lon_deg": 3.0, "city": [None, "Ely", None]}
    )
    candidates = build_candidates(frame, np.array(["train"] * 3, dtype=object), GalleryRule("positions"))
    assert candidates["city"].tolist() == ["Ely", None]


@given(seed=st.integers(0, 10_000), spacing_m=st.floats(15.0, 80.0))
@settings(max_examples=30, deadline=None)
def test_a_grid_covers_its_cities_independently_of_the_photographs(seed: int, spacing_m: float) -> None:
    frame, split_of = photographs(seed)
    candidates = build_candidates(frame, split_of, GalleryRule("grid", spacing_m))
    for city, rows in frame.groupby("city"):
        points = candidates[candidates["city"] == city][["lat_deg", "lon_deg"]].to_numpy()
        reach_m = SphereIndex(points).nearest(rows[["lat_deg", "lon_deg"]].to_numpy(), k=1)[0]
        assert reach_m.max() <= spacing_m * 0.7072, "half the diagonal of a cell"
        between_m = SphereIndex(points).nearest(points, k=2)[0][:, 1]
        np.testing.assert_allclose(between_m, spacing_m, rtol=1e-4)
        lines = points[:, 0].round(9)
        assert len(points) == len(set(lines)) * int((lines == lines[0]).sum()), "a full rectangle, no holes"
    assert candidates["candidate_id"].is_unique
    assert candidates["image_ids"].map(len).sum() == 0

    # Only the box shows: with other photographs inside the same box the grid is the same.
    box = frame.loc[[0, 1]].assign(city="Ely")
    box[["lat_deg", "lon_deg"]] = [[52.2, 0.1], [52.203, 0.11]]
    two = build_candidates(box, np.array(["train", "query"], dtype=object), GalleryRule("grid", spacing_m))
    inside = box.iloc[[0]].assign(image_id="inside", lat_deg=52.201, lon_deg=0.104)
    three = build_candidates(
        pd.concat([box, inside]), np.array(["train", "query", "query"], dtype=object), GalleryRule("grid", spacing_m)
    )
    pd.testing.assert_frame_equal(two, three, rtol=0.0, atol=1e-10)


def test_grid_candidates_are_named_by_city_row_and_column() -> None:
    frame, split_of = photographs(0)
    frame.loc[frame["city"] == "Ely", "city"] = None
    candidates = build_candidates(frame, split_of, GalleryRule("grid", 50.0))
    assert candidates["candidate_id"][0] == "grid-Cambridge-0-0"
    assert "grid-0-0" in set(candidates.loc[candidates["city"].isna(), "candidate_id"])
    first, right, up = (
        candidates.set_index("candidate_id").loc[f"grid-Cambridge-{at}", ["lat_deg", "lon_deg"]].astype(float)
        for at in ("0-0", "0-1", "1-0")
    )
    assert right.iloc[1] > first.iloc[1]
    assert right.iloc[0] == pytest.approx(first.iloc[0])
    assert up.iloc[0] > first.iloc[0]
    assert float(haversine_m(*first.to_numpy(), *up.to_numpy())) == pytest.approx(50.0, rel=1e-6)


def test_a_grid_across_the_antimeridian_is_small() -> None:
    frame = pd.DataFrame({"image_id": ["a", "b"], "lat_deg": 0.0, "lon_deg": [179.999, -179.999], "city": "Isle"})
    candidates = build_candidates(frame, np.array(["train", "query"], dtype=object), GalleryRule("grid", 10.0))
    assert len(candidates) < 200
    assert candidates["lon_deg"].abs().max() <= 180.0


def test_a_grid_that_is_too_large_is_refused_with_its_size() -> None:
    frame = pd.DataFrame({"image_id": ["a", "b"], "lat_deg": [50.0, 51.0], "lon_deg": [0.0, 1.0], "city": "Wide"})
    with pytest.raises(InputError, match=r"grid of 1 m would have [78],\d{3},\d{3},\d{3} points.*5,000,000.*'Wide'"):
        build_candidates(frame, np.array(["train", "query"], dtype=object), GalleryRule("grid", 1.0))


def test_a_grid_around_the_whole_earth_is_refused() -> None:
    frame = pd.DataFrame(
        {"image_id": list("abc"), "lat_deg": [50.0, -30.0, 10.0], "lon_deg": [-170.0, 0.0, 170.0], "city": None}
    )
    with pytest.raises(InputError, match=r"the photographs without a city"):
        build_candidates(frame, np.array(["train"] * 3, dtype=object), GalleryRule("grid", 100.0))


@pytest.mark.parametrize(
    ("text", "protocol", "rule"),
    [
        ("auto", "known-places", GalleryRule("photographs")),
        ("auto", "new-streets", GalleryRule("positions")),
        ("auto", "new-city", GalleryRule("positions")),
        ("positions", "known-places", GalleryRule("positions")),
        ("grid:2.5", "new-city", GalleryRule("grid", 2.5)),
        ("grid:10m", "new-city", GalleryRule("grid", 10.0)),
    ],
)
def test_gallery_rules_are_parsed(text: str, protocol: str, rule: GalleryRule) -> None:
    assert parse_gallery(text, protocol) == rule
    assert parse_gallery(str(rule), protocol) == rule


@pytest.mark.parametrize("text", ["grid", "grid:", "grid:ten", "grid:-1", "grid:inf", "all", ""])
def test_an_invalid_gallery_rule_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=f"gallery '{text}'"):
        parse_gallery(text, "new-city")
