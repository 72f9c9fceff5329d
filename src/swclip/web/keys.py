"""Keys that let clients in, where there are any."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping, Sequence

from swclip.errors import ConfigError

VARIABLE = "SWCLIP_API_KEYS"
"""Environment variable with the keys, separated by commas. A flag would show them to everybody who lists processes."""

_LEAST = 16


class Keys:
    """The keys that are accepted; none accepts everybody.

    Args:
        keys: The keys.

    Example:
        >>> keys = Keys(["correct-horse-battery"])
        >>> keys.accepts("correct-horse-battery"), keys.accepts("wrong"), Keys([]).accepts(None)
        (True, False, True)
    """

    def __init__(self, keys: Sequence[str]) -> None:
        for number, key in enumerate(keys, start=1):
            if len(key) < _LEAST or not key.isascii() or not key.isprintable():
                raise ConfigError(
                    f"{VARIABLE}: key {number} of {len(keys)} is shorter than {_LEAST} characters or not plain ASCII; "
                    "make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
                )
        self._digests = [_digest(key) for key in keys]

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Keys:
        """The keys in `SWCLIP_API_KEYS`.

        Raises:
            ConfigError: The variable is set and holds no usable key: a slip that would leave the service open.
        """
        text = environment.get(VARIABLE)
        if text is None:
            return cls([])
        keys = [key.strip() for key in text.split(",") if key.strip()]
        if not keys:
            raise ConfigError(f"{VARIABLE} is set and holds no key; unset it to serve without keys.")
        return cls(keys)

    def __len__(self) -> int:
        return len(self._digests)

    def accepts(self, key: str | None) -> bool:
        """Whether a key is one of them; in the same time whichever it is, or none."""
        if not self._digests:
            return True
        given, found = _digest(key or ""), False
        for digest in self._digests:  # all of them, and digests of one length: the time tells nothing
            found |= hmac.compare_digest(given, digest)
        return found


def client_name(key: str | None, address: str | None) -> str:
    """What a client is counted under: a digest of its key, or its address."""
    return f"address {address}" if key is None else f"key {_digest(key).hex()}"


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
