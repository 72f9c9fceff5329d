"""Strict conversion between dataclasses and plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swclip.errors import ConfigError
from swclip.structure import as_plain, structure, without_none


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    names: tuple[str, ...] = ("a",)
    side: int | None = None


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    form: Literal["grid", "cells"] = "grid"
    count: int = 1
    more: tuple[Inner, ...] = ()


@given(
    st.builds(
        Outer,
        inner=st.builds(
            Inner,
            rate=st.floats(allow_nan=False, allow_infinity=False),
            names=st.lists(st.text()).map(tuple),
            side=st.none() | st.integers(),
        ),
        form=st.sampled_from(["grid", "cells"]),
        count=st.integers(),
        more=st.lists(st.builds(Inner, side=st.none() | st.integers()), max_size=2).map(tuple),
    )
)
def test_plain_values_round_trip(config: Outer) -> None:
    assert structure(Outer, as_plain(config)) == config
    if config.inner.side is None:
        assert "side" not in without_none(as_plain(config))["inner"]
    for one, table in zip(config.more, without_none(as_plain(config))["more"], strict=True):
        assert ("side" in table) == (one.side is not None)
    assert structure(Outer, without_none(as_plain(config))) == config


def test_missing_keys_take_their_defaults() -> None:
    assert structure(Outer, {"inner": {"rate": 2}}) == Outer(Inner(rate=2.0))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cuont": 2}, "file: cuont is not an option; options: count, form, inner, more"),
        ({"inner": {"rat": 2}}, r"file: inner\.rat is not an option; options: names, rate, side"),
        ({"count": "many"}, "file: count = 'many': .*integer"),
        ({"inner": {"names": [1]}}, r"file: inner\.names\.0 = 1: .*string"),
        ({"more": [{}, {"rat": 2}]}, r"file: more\.1\.rat is not an option; options: names, rate, side"),
        ({"inner": 3}, "file: inner = 3"),
        ({"form": "map"}, "file: form = 'map': .*'grid' or 'cells'"),
        ({"count": None}, "file: count = None"),
    ],
)
def test_rejects_unknown_keys_and_invalid_values(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        structure(Outer, values, "file")
