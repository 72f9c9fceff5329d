"""Identification of columns by synonyms, in any case and punctuation, and errors for ambiguous columns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swclip.errors import InputError
from swclip.ingest.column_names import plain_name
from swclip.ingest.columns import ROLES, SYNONYMS, ColumnNames, find_columns, flag_of

ALL_SYNONYMS = [(role, name) for role, tiers in SYNONYMS.items() for names in tiers for name in names]


def test_finds_the_columns_of_the_wuhan_table() -> None:
    columns = ["image", "lat", "lon", "heading", "gps_accuracy_m", "city", "sequence", "captured_at"]
    matches = find_columns(columns, ColumnNames(), "t")
    assert matches == {
        "image": "image",
        "lat": "lat",
        "lon": "lon",
        "heading": "heading",
        "accuracy": "gps_accuracy_m",
        "time": "captured_at",
        "city": "city",
        "sequence": "sequence",
    }


def test_finds_every_role_in_a_manifest() -> None:
    from swclip.data.manifest import COLUMNS, OPTIONAL_COLUMNS

    roles = set(find_columns([*COLUMNS, *OPTIONAL_COLUMNS], ColumnNames(), "t"))
    assert roles == set(ROLES) - {"lat_ref", "lon_ref", "position"}


def test_synonyms_are_unique_and_normalised() -> None:
    names = [name for _, name in ALL_SYNONYMS]
    assert len(names) == len(set(names))
    assert all(name == plain_name(name) for name in names)


@given(
    st.sampled_from(ALL_SYNONYMS),
    st.lists(st.sampled_from(["_", "-", " ", ".", ":", "/"]), min_size=40, max_size=40),
    st.lists(st.booleans(), min_size=40, max_size=40),
    st.sampled_from(["", " (deg)", " [m]"]),
)
def test_ignores_case_punctuation_and_units(
    pair: tuple[str, str], marks: list[str], upper: list[bool], unit: str
) -> None:
    role, name = pair
    written = "".join(
        (c.upper() if up else c) + (m if up else "") for c, m, up in zip(name, marks, upper, strict=False)
    )
    assert find_columns([written + unit, "unrelated"], ColumnNames(), "t") == {role: written + unit}


@given(st.sampled_from([role for role in ROLES if SYNONYMS[role]]), st.data())
def test_ambiguous_columns_are_named_with_the_flag(role: str, data: st.DataObject) -> None:
    names = SYNONYMS[role][0]
    first, second = (
        data.draw(st.lists(st.sampled_from(names), min_size=2, max_size=2, unique=True))
        if len(names) > 1
        else (names[0], names[0].upper())
    )
    with pytest.raises(InputError) as raised:
        find_columns([first, second], ColumnNames(), "table.csv")
    message = str(raised.value)
    assert repr(first) in message
    assert repr(second) in message
    assert flag_of(role) in message
    assert message.startswith("table.csv")
    assert find_columns([first, second], ColumnNames(**{role: second}), "t")[role] == second


@given(st.lists(st.text(max_size=12), max_size=6, unique=True))
def test_any_header_is_matched_or_rejected(columns: list[str]) -> None:
    try:
        matches = find_columns(columns, ColumnNames(), "t")
    except InputError:
        return
    assert set(matches.values()) <= set(columns)
    assert len(set(matches.values())) == len(matches)


def test_x_and_y_are_a_position_only_if_named() -> None:
    assert find_columns(["X", "Y"], ColumnNames(), "t") == {}
    assert find_columns(["X", "Y"], ColumnNames(lat="Y", lon="X"), "t") == {"lat": "Y", "lon": "X"}
    assert find_columns(["x", "y", "lat", "lon"], ColumnNames(), "t") == {"lat": "lat", "lon": "lon"}


def test_the_halves_of_a_column_of_pairs_can_be_named() -> None:
    named = ColumnNames(lat="coordinates[1]", lon="coordinates[0]")
    assert find_columns(["coordinates"], named, "t") == {"lat": "coordinates[1]", "lon": "coordinates[0]"}
    with pytest.raises(InputError, match="no such column"):
        find_columns(["coordinates"], ColumnNames(lat="coordinates[2]"), "t")


def test_description_is_preferred_to_title_as_caption() -> None:
    assert find_columns(["title", "description", "map_tile"], ColumnNames(), "t") == {
        "caption": "description",
        "map": "map_tile",
    }
    assert find_columns(["Title"], ColumnNames(), "t") == {"caption": "Title"}
    assert find_columns(["text", "Caption"], ColumnNames(), "t") == {"caption": "Caption"}


def test_hdop_is_not_an_accuracy() -> None:
    assert find_columns(["hdop", "image"], ColumnNames(), "t") == {"image": "image"}


def test_named_columns_take_precedence() -> None:
    matches = find_columns(["lat", "lon"], ColumnNames(lat="lon", lon="lat"), "t")
    assert matches == {"lat": "lon", "lon": "lat"}


def test_missing_named_column_suggests_a_similar_one() -> None:
    with pytest.raises(InputError, match=r"--lat-column Latitud: .*did you mean 'latitude'"):
        find_columns(["latitude", "lon"], ColumnNames(lat="Latitud"), "t.csv")


def test_rejects_repeated_headers() -> None:
    with pytest.raises(InputError, match="could each be the latitude"):
        find_columns(["lat", "lat"], ColumnNames(), "t")
    with pytest.raises(InputError, match="2 columns have that name"):
        find_columns(["lat", "lat"], ColumnNames(lat="lat"), "t")
