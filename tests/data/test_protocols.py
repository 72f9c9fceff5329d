"""What the three protocols guarantee, on drawn photographs, against plain loops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swclip.data.grouping import SAME_PLACE_M, pair_numbers, place_numbers, position_steps
from swclip.data.manifest import Manifest
from swclip.data.protocols import SplitDraft, split
from swclip.errors import ConfigError, InputError
from swclip.geo.coordinates import LocalFrame
from swclip.geo.distance import haversine_m

CITIES = {"Bath": (51.38, -2.36), "Leeds": (53.80, -1.55), "Ely": (52.40, 0.26), "Null Island": (0.0, 180.0)}


def street_photographs(
    seed: int,
    *,
    cities: int = 2,
    places: int = 40,
    passes: int = 1,
    headings: int = 1,
    extent_m: float = 600.0,
    with_places: bool = True,
) -> Manifest:
    """Places thrown over a square of each city, each photographed `passes` times in `headings` directions."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for city, (lat, lon) in list(CITIES.items())[:cities]:
        spots = LocalFrame(lat, lon).to_deg(rng.uniform(-extent_m / 2, extent_m / 2, size=(places, 2)))
        for place, (spot_lat, spot_lon) in enumerate(spots):
            for drive in range(passes):
                for heading in range(headings):
                    rows.append(
                        {
                            "image_id": f"{city}-{place}-{drive}-{heading}",
                            "lat_deg": spot_lat,
                            "lon_deg": spot_lon,
                            "city": city,
                            "place_id": f"p{place}" if with_places else None,
                            "sequence_id": f"{city}-drive{drive}" if passes > 1 else None,
                        }
                    )
    frame = pd.DataFrame(rows).astype({"place_id": object, "sequence_id": object})
    frame["image_path"] = frame["image_id"] + ".jpg"
    return Manifest(Path("manifest.parquet"), frame)


def of(draft: SplitDraft, manifest: Manifest, name: str) -> pd.DataFrame:
    """The manifest's rows in one split."""
    assert draft.frame["image_id"].tolist() == manifest.frame["image_id"].tolist()
    return manifest.frame[(draft.frame["split"] == name).to_numpy()]


def least_distance_m(a: pd.DataFrame, b: pd.DataFrame) -> float:
    """The least distance between two sets of photographs, over all pairs."""
    lat, lon = (a[name].to_numpy()[:, None] for name in ("lat_deg", "lon_deg"))
    every = haversine_m(lat, lon, b["lat_deg"].to_numpy()[None, :], b["lon_deg"].to_numpy()[None, :])
    return float(every.min(initial=np.inf))


PROTOCOLS = st.sampled_from(["known-places", "new-streets", "new-city"])


@given(
    seed=st.integers(0, 10_000),
    protocol=PROTOCOLS,
    cities=st.integers(2, 4),
    passes=st.integers(1, 3),
    gallery=st.sampled_from(["auto", "photographs", "positions", "grid:50"]),
)
@settings(max_examples=40, deadline=None)
def test_every_photograph_is_in_one_split_for_any_order_of_rows(
    seed: int, protocol: Any, cities: int, passes: int, gallery: str
) -> None:
    manifest = street_photographs(seed, cities=cities, places=25, passes=passes)
    draft = split(manifest, protocol, seed=seed, gallery=gallery, val_share=0.2)
    assert draft.frame["image_id"].tolist() == manifest.frame["image_id"].tolist()
    assert set(draft.frame["split"]) <= {"train", "val", "gallery", "query"}

    order = np.random.default_rng(seed + 1).permutation(len(manifest.frame))
    turned = Manifest(manifest.path, manifest.frame.iloc[order].reset_index(drop=True))
    again = split(turned, protocol, seed=seed, gallery=gallery, val_share=0.2)
    pd.testing.assert_frame_equal(again.frame, draft.frame.iloc[order].reset_index(drop=True))
    pd.testing.assert_frame_equal(again.candidates, draft.candidates, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("protocol", ["known-places", "new-streets", "new-city"])
def test_another_seed_gives_another_split(protocol: Any) -> None:
    manifest = street_photographs(3, cities=3)
    drafts = [split(manifest, protocol, seed=seed).frame["split"].tolist() for seed in (0, 1, 0)]
    assert drafts[0] == drafts[2]
    assert drafts[0] != drafts[1]


@given(
    seed=st.integers(0, 10_000),
    query_share=st.floats(0.1, 0.5),
    val_share=st.floats(0.0, 0.4),
    with_places=st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_places_are_held_out_whole_and_in_the_configured_share(
    seed: int, query_share: float, val_share: float, with_places: bool
) -> None:
    manifest = street_photographs(seed, places=50, headings=3, with_places=with_places)
    draft = split(manifest, "known-places", seed=seed, query_share=query_share, val_share=val_share, hold_out="place")
    place = manifest.frame["image_id"].str.rsplit("-", n=2).str[0]
    splits_of_place = draft.frame["split"].groupby(place.to_numpy()).agg(set)
    if with_places:  # without ids, places less than a metre apart count as one
        assert all(len(names) == 1 for names in splits_of_place)
        held = sum(names == {"query"} for names in splits_of_place)
        assert held == round(query_share * 100)
        assert sum(names == {"val"} for names in splits_of_place) == (
            max(1, round(val_share * (100 - held))) if val_share else 0
        )
        for city in ("Bath", "Leeds"):
            in_city = splits_of_place[splits_of_place.index.str.startswith(city)]
            assert abs(sum(names == {"query"} for names in in_city) - query_share * 50) <= 1
    assert not (draft.frame["split"] == "gallery").any(), "neighbouring places stay in training"


def test_a_place_id_belongs_to_its_city() -> None:
    number = place_numbers(np.zeros((4, 2)), ["Bath", "Leeds", "Bath", None], ["p1", "p1", "p1", "p1"])
    assert len(set(number.tolist())) == 3
    assert number[0] == number[2]


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=1, max_size=30))
@settings(max_examples=50, deadline=None)
def test_places_without_ids_are_within_a_metre_of_one_photograph(xy_m: list[tuple[float, float]]) -> None:
    positions = LocalFrame(52.0, 0.1).to_deg(np.array(xy_m))
    number = place_numbers(positions, [None] * len(xy_m), [None] * len(xy_m))
    for one in set(number.tolist()):
        members = positions[number == one]
        reach = [max(float(haversine_m(*centre, *other)) for other in members) for centre in members]
        assert min(reach) <= SAME_PLACE_M + 0.05, "rounding of positions moves them by a centimetre"
    for i, a in enumerate(positions):
        for j, b in enumerate(positions):
            if np.array_equal(a, b):
                assert number[i] == number[j]


@given(seed=st.integers(0, 10_000), n=st.integers(1, 40), spread_m=st.sampled_from([0.01, 2.0, 20.0]))
@settings(max_examples=60, deadline=None)
def test_places_are_numbered_by_id_and_then_by_position_as_in_a_plain_loop(seed: int, n: int, spread_m: float) -> None:
    rng = np.random.default_rng(seed)
    positions = LocalFrame(52.0, 0.1).to_deg(rng.uniform(-spread_m, spread_m, size=(n, 2)))
    city = [str(name) if name else None for name in rng.choice(["", "Ely", "Bath"], size=n)]
    place = [None if k > 5 else "" if k == 5 else f"p{k}" for k in rng.integers(12, size=n)]
    steps = position_steps(positions)
    leaders: list[tuple[int, ...]] = []
    keys: list[tuple[str, Any, str]] = []
    for at in sorted({tuple(steps[row].tolist()) for row in range(n) if place[row] is None}):
        if all(float(haversine_m(*(np.array([*at, *other]) / 1e7))) > SAME_PLACE_M for other in leaders):
            leaders.append(at)
    for row in range(n):
        near = [
            number
            for number, other in enumerate(leaders)
            if float(haversine_m(*(np.array([*steps[row].tolist(), *other]) / 1e7))) <= SAME_PLACE_M
        ]
        known = place[row] is not None
        keys.append(("id", city[row] or "", place[row] or "") if known else ("position", f"{near[0]:06d}", ""))
    expected = [sorted(set(keys)).index(key) for key in keys]
    assert place_numbers(positions, city, place).tolist() == expected


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=30))
def test_pairs_are_numbered_in_their_order(pairs: list[tuple[int, int]]) -> None:
    first, second = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    assert pair_numbers(first, second).tolist() == [sorted(set(pairs)).index(pair) for pair in pairs]


@given(seed=st.integers(0, 10_000), passes=st.integers(2, 4), query_share=st.floats(0.1, 0.9))
@settings(max_examples=30, deadline=None)
def test_a_place_of_a_held_out_capture_keeps_one_in_training(seed: int, passes: int, query_share: float) -> None:
    manifest = street_photographs(seed, places=12, passes=passes, headings=2)
    draft = split(manifest, "known-places", seed=seed, hold_out="capture", query_share=query_share, val_share=0.0)
    frame = manifest.frame.assign(split=draft.frame["split"].to_numpy())
    for _, place in frame.groupby(["city", "place_id"]):
        assert (place["split"] == "train").any()
        for _, capture in place.groupby("sequence_id"):
            assert capture["split"].nunique() == 1
    captures = frame.groupby(["city", "place_id", "sequence_id"])["split"].first()
    attainable = min(round(query_share * 24 * passes), 24 * (passes - 1))
    assert abs((captures == "query").sum() - attainable) <= 1
    if attainable < round(query_share * 24 * passes) - 1:
        assert any("each place keeps one in training" in note for note in draft.notes)


def test_auto_holds_out_captures_where_half_of_the_places_have_several() -> None:
    twice = split(street_photographs(0, passes=2), "known-places")
    assert twice.meta["parameters"]["hold_out"] == "capture"
    assert "80 of 80 places have captures from several sequences, at least half" in twice.notes[0]
    once = split(street_photographs(0, passes=1), "known-places")
    assert once.meta["parameters"]["hold_out"] == "place"
    assert "0 of 80" in once.notes[0]


def test_captures_cannot_be_held_out_of_places_with_one_capture() -> None:
    with pytest.raises(InputError, match=r"no place of 80 has captures from two sequences.*--hold-out place"):
        split(street_photographs(0, passes=1), "known-places", hold_out="capture")


@given(seed=st.integers(0, 10_000), buffer_m=st.floats(0.0, 60.0), block_m=st.floats(60.0, 200.0))
@settings(max_examples=30, deadline=None)
def test_no_training_photograph_is_within_the_buffer_of_a_query(seed: int, buffer_m: float, block_m: float) -> None:
    manifest = street_photographs(seed, places=30, headings=2)
    draft = split(manifest, "new-streets", seed=seed, buffer_m=buffer_m, block_m=block_m)
    query, val, train = (of(draft, manifest, name) for name in ("query", "val", "train"))
    assert least_distance_m(query, train) > buffer_m
    assert least_distance_m(query, val) > buffer_m
    assert least_distance_m(val, train) > buffer_m
    held_out = pd.concat([query, val])
    for row in of(draft, manifest, "gallery").index:
        near = least_distance_m(manifest.frame.loc[[row]], held_out)
        assert near <= buffer_m + 1e-6, "the buffer takes no more than it must"
    by_block = draft.frame.groupby("block_id")["split"].agg(set)
    assert all("train" not in names for names in by_block if "query" in names)
    assert abs(sum("query" in names for names in by_block) - 0.2 * len(by_block)) <= 1


def test_blocks_are_squares_of_the_configured_size() -> None:
    manifest = street_photographs(1, cities=1, places=400)
    draft = split(manifest, "new-streets", block_m=100.0)
    xy = LocalFrame.around(manifest.positions_deg).to_xy_m(manifest.positions_deg)
    blocks = draft.frame["block_id"].to_numpy()
    assert 36 <= len(set(blocks)) <= 49, "600 m are 6 blocks and at most a part of a seventh"
    for block in set(blocks):
        width, height = np.ptp(xy[blocks == block], axis=0)
        assert max(width, height) <= 100.0 + 1e-6
    cells = np.array([[int(part) for part in block.split("/")[1:]] for block in blocks])
    corner = xy - cells * 100.0  # the same grid for all, up to the random offset
    assert np.all(np.ptp(corner, axis=0) <= 100.0 + 1e-6)


@pytest.mark.parametrize("cities", [2, 3, 4])
def test_a_city_is_held_out_whole(cities: int) -> None:
    manifest = street_photographs(5, cities=cities, places=60)
    draft = split(manifest, "new-city", city="Leeds", seed=2)
    assert set(of(draft, manifest, "query")["city"]) == {"Leeds"}
    assert (draft.frame["split"] == "query").sum() == 60
    val = of(draft, manifest, "val")
    assert len(val)
    if cities >= 3:
        assert val["city"].nunique() == 1
        assert set(val["city"]).isdisjoint(of(draft, manifest, "train")["city"])
    else:
        assert set(val["city"]) == {"Bath"}
        assert least_distance_m(val, of(draft, manifest, "train")) > 20.0
    assert draft.meta["parameters"]["city"] == "Leeds"


def test_the_city_is_drawn_by_the_seed() -> None:
    manifest = street_photographs(5, cities=4, places=20)
    drawn = {split(manifest, "new-city", seed=seed).meta["parameters"]["city"] for seed in range(30)}
    assert drawn == set(CITIES)


def test_photographs_without_a_city_are_excluded_from_training() -> None:
    manifest = street_photographs(5, cities=3, places=20)
    manifest.frame.loc[::7, "city"] = None
    draft = split(manifest, "new-city", city="Ely")
    assert of(draft, manifest, "gallery")["city"].isna().all()
    assert any(f"{manifest.frame['city'].isna().sum()} photographs without a city" in note for note in draft.notes)


def test_the_buffer_applies_to_a_neighbouring_city() -> None:
    manifest = street_photographs(5, cities=1, places=80)
    manifest.frame["city"] = np.where(manifest.frame["lat_deg"] > 51.38, "North", "South")
    draft = split(manifest, "new-city", city="North", buffer_m=50.0)
    assert least_distance_m(of(draft, manifest, "query"), of(draft, manifest, "train")) > 50.0


def test_a_validation_share_of_0_gives_no_validation() -> None:
    manifest = street_photographs(5, cities=3, places=40, passes=2)
    for protocol in ("known-places", "new-streets", "new-city"):
        draft = split(manifest, protocol, val_share=0.0)  # type: ignore[arg-type]
        assert not (draft.frame["split"] == "val").any()


def test_the_antimeridian_does_not_split_a_city() -> None:
    manifest = street_photographs(5, cities=4, places=80)
    island = Manifest(manifest.path, manifest.frame[manifest.frame["city"] == "Null Island"].reset_index(drop=True))
    assert island.frame["lon_deg"].min() < -179
    assert island.frame["lon_deg"].max() > 179
    draft = split(island, "new-streets", gallery="grid:20")
    assert least_distance_m(of(draft, island, "query"), of(draft, island, "train")) > 20.0
    assert len(draft.candidates) < 40 * 40


@pytest.mark.parametrize(
    ("protocol", "options", "message"),
    [
        ("known-streets", {}, "protocol 'known-streets'.*known-places, new-streets, new-city"),
        ("known-places", {"query_share": 0.0}, "share of queries is 0.0"),
        ("known-places", {"query_share": 1.0}, "share of queries is 1.0"),
        ("known-places", {"query_share": float("nan")}, "share of queries is nan"),
        ("known-places", {"val_share": -0.1}, "share of validation is -0.1"),
        ("known-places", {"hold_out": "street"}, "hold-out 'street'.*auto, capture, place"),
        ("new-streets", {"hold_out": "place"}, "hold-out 'place' is for known-places"),
        ("new-streets", {"city": "Bath"}, "city to leave out.*is for new-city"),
        ("new-streets", {"block_m": 0.0}, "blocks of 0.0 m"),
        ("new-streets", {"buffer_m": -1.0}, "buffer of -1.0 m"),
        ("new-streets", {"seed": -1}, "seed is -1"),
        ("new-streets", {"gallery": "grid:0"}, "spacing must be a positive number"),
    ],
)
def test_an_invalid_value_is_named(protocol: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        split(street_photographs(0), protocol, **options)


@pytest.mark.parametrize(
    ("protocol", "cities", "places", "options", "message"),
    [
        ("known-places", 1, 1, {}, "places to draw from: only one is there, too few"),
        ("new-streets", 1, 30, {"block_m": 5000.0}, "blocks of 5000 m.*smaller than 5000"),
        ("new-streets", 1, 30, {"buffer_m": 5000.0}, "there are 0|no photographs"),
        ("new-city", 1, 30, {}, "at least two.*only 'Bath'"),
        ("new-city", 2, 30, {"city": "Atlantis"}, "'Atlantis' is not in the manifest; it has Bath, Leeds"),
    ],
)
def test_too_few_units_are_refused_with_a_remedy(
    protocol: Any, cities: int, places: int, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        split(street_photographs(0, cities=cities, places=places), protocol, **options)


def test_a_manifest_without_photographs_is_refused() -> None:
    manifest = street_photographs(0)
    with pytest.raises(InputError, match="has no photographs"):
        split(Manifest(manifest.path, manifest.frame.iloc[:0]), "known-places")


def test_a_written_draft_has_all_resolved_parameters(tmp_path: Path) -> None:
    manifest = street_photographs(0)
    splits = split(manifest, "known-places", seed=4).write(tmp_path / "splits.parquet")
    assert splits.meta["protocol"] == "known-places"
    assert splits.meta["seed"] == 4
    assert splits.meta["manifest_digest"] == manifest.digest
    assert splits.meta["parameters"] == {
        "block_m": 100.0,
        "buffer_m": 20.0,
        "query_share": 0.2,
        "val_share": 0.1,
        "hold_out": "place",
        "gallery": "photographs",
        "city": None,
    }
    assert splits.meta["notes"]
