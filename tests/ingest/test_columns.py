"""Columns by synonyms: whatever the case and punctuation, and never a guess between two."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swclip.errors import InputError
from swclip.ingest.columns import ROLES, SYNONYMS, ColumnNames, find_columns, flag_of, plain_name

EVERY = [(role, name) for role, tiers in SYNONYMS.items() for names in tiers for name in names]


def test_the_wuhan_table() -> None:
    columns = ["image", "lat", "lon", "heading", "gps_accuracy_m", "city", "sequence", "captured_at"]
    got = find_columns(columns, ColumnNames(), "t")
    assert got == {
        "image": "image",
        "lat": "lat",
        "lon": "lon",
        "heading": "heading",
        "accuracy": "gps_accuracy_m",
        "time": "captured_at",
        "city": "city",
        "sequence": "sequence",
    }


def test_a_manifest_of_ours() -> None:
    from swclip.data.manifest import COLUMNS, OPTIONAL_COLUMNS

    assert set(find_columns([*COLUMNS, *OPTIONAL_COLUMNS], ColumnNames(), "t")) == set(ROLES)


def test_no_name_belongs_to_two_roles() -> None:
    names = [name for _, name in EVERY]
    assert len(names) == len(set(names))
    assert all(name == plain_name(name) for name in names)


@given(
    st.sampled_from(EVERY),
    st.lists(st.sampled_from(["_", "-", " ", ".", ":", "/"]), min_size=40, max_size=40),
    st.lists(st.booleans(), min_size=40, max_size=40),
    st.sampled_from(["", " (deg)", " [m]"]),
)
def test_case_punctuation_and_units_do_not_matter(
    pair: tuple[str, str], marks: list[str], upper: list[bool], unit: str
) -> None:
    role, name = pair
    written = "".join(
        (c.upper() if up else c) + (m if up else "") for c, m, up in zip(name, marks, upper, strict=False)
    )
    assert find_columns([written + unit, "unrelated"], ColumnNames(), "t") == {role: written + unit}


@given(st.sampled_from(ROLES), st.data())
def test_two_candidates_are_refused_with_both_names_and_the_flag(role: str, data: st.DataObject) -> None:
    names = SYNONYMS[role][0]
    one, two = (
        data.draw(st.lists(st.sampled_from(names), min_size=2, max_size=2, unique=True))
        if len(names) > 1
        else (names[0], names[0].upper())
    )
    with pytest.raises(InputError) as caught:
        find_columns([one, two], ColumnNames(), "table.csv")
    message = str(caught.value)
    assert repr(one) in message
    assert repr(two) in message
    assert flag_of(role) in message
    assert message.startswith("table.csv")
    assert find_columns([one, two], ColumnNames(**{role: two}), "t")[role] == two


@given(st.lists(st.text(max_size=12), max_size=6, unique=True))
def test_any_header_is_read_or_refused_clearly(columns: list[str]) -> None:
    try:
        got = find_columns(columns, ColumnNames(), "t")
    except InputError:
        return
    assert set(got.values()) <= set(columns)
    assert len(set(got.values())) == len(got)


def test_x_and_y_count_only_where_nothing_better_is_there() -> None:
    assert find_columns(["X", "Y"], ColumnNames(), "t") == {"lat": "Y", "lon": "X"}
    assert find_columns(["x", "y", "lat", "lon"], ColumnNames(), "t") == {"lat": "lat", "lon": "lon"}


def test_of_a_title_and_a_description_the_description_is_the_caption() -> None:
    assert find_columns(["title", "description", "map_tile"], ColumnNames(), "t") == {
        "caption": "description",
        "map": "map_tile",
    }
    assert find_columns(["Title"], ColumnNames(), "t") == {"caption": "Title"}
    assert find_columns(["text", "Caption"], ColumnNames(), "t") == {"caption": "Caption"}


def test_hdop_is_not_an_accuracy() -> None:
    assert find_columns(["hdop", "image"], ColumnNames(), "t") == {"image": "image"}


def test_a_named_column_is_taken_from_its_role() -> None:
    got = find_columns(["lat", "lon"], ColumnNames(lat="lon", lon="lat"), "t")
    assert got == {"lat": "lon", "lon": "lat"}


def test_a_named_column_that_is_not_there() -> None:
    with pytest.raises(InputError, match=r"--lat-column Latitud: .*did you mean 'latitude'"):
        find_columns(["latitude", "lon"], ColumnNames(lat="Latitud"), "t.csv")


def test_the_same_header_twice_cannot_be_chosen() -> None:
    with pytest.raises(InputError, match="could each be the latitude"):
        find_columns(["lat", "lat"], ColumnNames(), "t")
    with pytest.raises(InputError, match="2 columns have that name"):
        find_columns(["lat", "lat"], ColumnNames(lat="lat"), "t")
