"""API keys from the environment."""

from __future__ import annotations

import pytest

from swclip.errors import ConfigError
from swclip.web.admission import VARIABLE, Keys, client_name

ONE, OTHER = "correct-horse-battery", "staple-correct-horse"


def test_keys_are_read_from_the_environment() -> None:
    keys = Keys.from_environment({VARIABLE: f" {ONE} ,{OTHER},"})
    assert len(keys) == 2
    assert keys.accepts(ONE)
    assert keys.accepts(OTHER)
    for wrong in (None, "", ONE[:-1], ONE + "x", ONE.upper(), f"{ONE},{OTHER}", "é" * 20):
        assert not keys.accepts(wrong)


def test_without_keys_all_requests_are_accepted() -> None:
    keys = Keys.from_environment({})
    assert len(keys) == 0
    assert keys.accepts(None)
    assert keys.accepts("anything")


@pytest.mark.parametrize(
    "text", ["", " , ", "short", f"{ONE},short", "with-ünicode-characters", "tab\tin-the-middle-of-it"]
)
def test_invalid_keys_are_refused(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Keys.from_environment({VARIABLE: text})
    assert "short" not in str(refused.value).replace("shorter", "")  # no key in the message


def test_clients_are_identified_by_a_digest_of_their_key() -> None:
    assert ONE not in client_name(ONE, "10.0.0.1")
    assert client_name(ONE, "10.0.0.1") == client_name(ONE, "10.0.0.2") != client_name(OTHER, "10.0.0.1")
    assert client_name(None, "10.0.0.1") == "address 10.0.0.1"
