"""Parsing of timestamps in many notations, by example and by Hypothesis, and rejection of ambiguous dates."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swclip.ingest.values import AmbiguousTimestampError, TimestampError, parse_timestamp

WUHAN = datetime(2019, 12, 29, 13, 35, 13, 170_000)
PLAIN = datetime(2019, 12, 29, 13, 35, 13)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2019-12-29 13:35:13:170", WUHAN),
        ("2019-12-29 13:35:13.170", WUHAN),
        ("2019-12-29T13:35:13,170", WUHAN),
        ("2019-12-29T13:35:13.1709999", WUHAN),
        ("2019:12:29 13:35:13", PLAIN),
        ("2019/12/29 13:35:13", PLAIN),
        ("2019-12-29_13-35-13", PLAIN),
        ("2019-12-29-13-35-13", PLAIN),
        ("20191229_133513", PLAIN),
        ("20191229133513", PLAIN),
        ("20191229T133513", PLAIN),
        ("20191229_133513170", WUHAN),
        ("20191229133513170", WUHAN),
        ("20191229 13:35:13", PLAIN),
        ("2019-12-29 1:35:13 PM", PLAIN),
        ("2019-12-29 12:05 am", datetime(2019, 12, 29, 0, 5)),
        ("29 Dec 2019 13:35:13", PLAIN),
        ("Dec 29, 2019 1:35:13 p.m.", PLAIN),
        ("December 29th, 2019", datetime(2019, 12, 29)),
        ("Sun Dec 29 13:35:13 2019", PLAIN),
        ("29/12/2019 13:35:13", PLAIN),
        ("12/29/2019 13:35:13", PLAIN),
        ("29.12.2019 13:35:13", PLAIN),
        ("05/05/2019", datetime(2019, 5, 5)),
        ("2019-12-29", datetime(2019, 12, 29)),
        ("20191229", datetime(2019, 12, 29)),
        (" '2019-12-29 13:35' ", datetime(2019, 12, 29, 13, 35)),
    ],
)
def test_times_without_a_zone_are_local(text: str, expected: datetime) -> None:
    assert parse_timestamp(text) == expected


@pytest.mark.parametrize(
    "value",
    [
        "2019-12-29T05:35:13Z",
        "2019-12-29T05:35:13.000Z",
        "2019-12-29 13:35:13+08:00",
        "2019-12-29T13:35:13+0800",
        "2019-12-29T13:35:13 +08",
        "2019:12:29 13:35:13+08:00",
        "2019-12-28 21:35:13 UTC-08:00",
        "Sun, 29 Dec 2019 05:35:13 GMT",
        "20191229T053513Z",
        "1577597713",
        1577597713,
        1577597713.0,
        "1577597713000",
        1577597713000,
        1577597713000.0,
        "1577597713000000",
        1577597713000000000,
        np.int64(1577597713),
        "1.577597713e9",
        datetime(2019, 12, 29, 13, 35, 13, tzinfo=timezone(timedelta(hours=8))),
        pd.Timestamp("2019-12-29 13:35:13+08:00"),
    ],
)
def test_times_with_an_offset_are_utc(value: object) -> None:
    assert parse_timestamp(value) == datetime(2019, 12, 29, 5, 35, 13, tzinfo=UTC)


def test_datetime_objects_without_a_zone() -> None:
    assert parse_timestamp(pd.Timestamp("2019-12-29 13:35:13.170999")) == WUHAN
    assert parse_timestamp(np.datetime64("2019-12-29T13:35:13.170")) == WUHAN
    assert parse_timestamp(date(2019, 12, 29)) == datetime(2019, 12, 29)
    assert parse_timestamp(20191229133513.0) == PLAIN
    assert parse_timestamp(20191229) == datetime(2019, 12, 29)


@pytest.mark.parametrize(
    "value",
    [None, "", "  ", "NaN", "NaT", "null", float("nan"), pd.NaT, np.datetime64("NaT"), "0000:00:00 00:00:00", "N/A"],
)
def test_empty_values_are_none(value: object) -> None:
    assert parse_timestamp(value) is None


@pytest.mark.parametrize("text", ["03/04/2019", "3/4/2019 13:35", "03-04-2019", "03.04.2019", "29/12/19", "03/04/19"])
def test_rejects_ambiguous_dates(text: str) -> None:
    with pytest.raises(AmbiguousTimestampError, match=r"year-month-day") as raised:
        parse_timestamp(text)
    assert text in str(raised.value)


@pytest.mark.parametrize(
    "value",
    [
        "13:35:13",
        "yesterday",
        "2019-02-30",
        "2019-13-01",
        "2019-12-29 25:00:00",
        "2019-12-29 13:35:13 CST",
        "2019-12-29 13:00 pm",
        "31/31/2019",
        "1234",
        42,
        99999999,
        "1066-10-14",
        "2019-12-29T13:35:13+99:00",
        "2019-12-29 13:35:13 and then some",
        "12345678901234567890123",
        True,
    ],
)
def test_rejects_values_that_are_not_times(value: object) -> None:
    with pytest.raises(TimestampError):
        parse_timestamp(value)


MOMENTS = st.datetimes(datetime(1990, 1, 2), datetime(2099, 12, 30)).map(
    lambda t: t.replace(microsecond=t.microsecond // 1000 * 1000)
)
OFFSETS = st.integers(-14 * 4, 14 * 4).map(lambda quarters: timezone(timedelta(minutes=15 * quarters)))


@given(MOMENTS)
def test_notations_with_milliseconds_round_trip(moment: datetime) -> None:
    thousandths = f"{moment.microsecond // 1000:03d}"
    for form in ("%Y-%m-%d %H:%M:%S:", "%Y-%m-%dT%H:%M:%S.", "%Y:%m:%d %H:%M:%S.", "%Y%m%d_%H%M%S", "%Y%m%d%H%M%S"):
        assert parse_timestamp(moment.strftime(form) + thousandths) == moment


@given(MOMENTS)
def test_notations_with_seconds_round_trip(moment: datetime) -> None:
    whole = moment.replace(microsecond=0)
    for form in (
        "%Y/%m/%d %H:%M:%S",
        "%d %b %Y %H:%M:%S",
        "%b %d, %Y %I:%M:%S %p",
        "%Y%m%dT%H%M%S",
        "%a %b %d %H:%M:%S %Y",
    ):
        assert parse_timestamp(whole.strftime(form)) == whole


@given(MOMENTS, OFFSETS)
def test_offsets_are_converted_to_utc(moment: datetime, zone: timezone) -> None:
    local = moment.replace(tzinfo=zone)
    assert parse_timestamp(local.isoformat()) == local
    assert parse_timestamp(local) == local


@given(MOMENTS)
def test_epoch_counts_in_every_unit_agree(moment: datetime) -> None:
    milliseconds = (moment - datetime(1970, 1, 1)) // timedelta(milliseconds=1)
    expected = moment.replace(tzinfo=UTC)
    for value in (milliseconds, str(milliseconds), milliseconds * 1000, milliseconds * 1_000_000, milliseconds / 1000):
        assert parse_timestamp(value) == expected


@given(st.integers(1, 12), st.integers(1, 31), st.integers(1990, 2099))
def test_numeric_dates_need_a_unique_order(month: int, day: int, year: int) -> None:
    try:
        expected = datetime(year, month, day)
    except ValueError:
        return
    for text in (f"{day}/{month}/{year}", f"{month}/{day}/{year}"):
        if day <= 12 and day != month:
            with pytest.raises(AmbiguousTimestampError):
                parse_timestamp(text)
        else:
            assert parse_timestamp(text) == expected


@given(
    st.one_of(st.text(max_size=40), st.integers(), st.floats(), st.from_regex(r"[0-9:/\-. TZ+]{1,30}", fullmatch=True))
)
def test_any_value_is_parsed_or_rejected(value: object) -> None:
    try:
        moment = parse_timestamp(value)
    except TimestampError as error:
        assert len(str(error)) > 10  # noqa: PT017
    else:
        assert moment is None or 1826 <= moment.year <= 2201
