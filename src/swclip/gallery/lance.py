"""LanceDB, imported when it is first needed (it takes over a second), and its errors in swclip's words."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from swclip.errors import ArtefactError, DiskFullError, InputError, SwclipError
from swclip.gallery.remote import is_url, storage_options

if TYPE_CHECKING:
    from lancedb.db import DBConnection

_FULL = (f"os error {errno.ENOSPC}", f"os error {errno.EDQUOT}", "No space left", "Disk quota exceeded")
_CONFLICT = ("onflict", "concurrent", "Too many concurrent")
_REFUSED = ("Permission denied", "AccessDenied", "Unauthorized", "403 Forbidden", "InvalidAccessKeyId")


def connect(path: str) -> DBConnection:
    """A connection to the folder or URL that holds a gallery's table; reads see what other processes commit."""
    # Lance logs to standard error by itself, that a table it is to create is not there yet, for one.
    os.environ.setdefault("LANCE_LOG", "error")
    import lancedb

    return lancedb.connect(path, read_consistency_interval=timedelta(0), storage_options=storage_options(path))


@contextmanager
def lance_errors(name: str, otherwise: str = "the gallery's table cannot be read or written") -> Iterator[None]:
    """Turn Lance's errors into swclip's.

    Args:
        name: The gallery.
        otherwise: What to say of an error that is none of those known.

    Raises:
        DiskFullError: The disk is full.
        InputError: Another process changed the same entries at the same time, or access is refused.
        ArtefactError: Anything else.
    """
    try:
        yield
    except SwclipError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        said = " ".join(str(error).split())
        if any(words in said for words in _FULL):
            raise DiskFullError(f"{name}: the disk is full; free some space and run the command again.") from error
        if any(words in said for words in _CONFLICT):
            raise InputError(
                f"{name}: another process changed the gallery at the same time, and this change was not made; run the "
                f"command again ({said[:200]})"
            ) from error
        if is_url(name) or any(words in said for words in _REFUSED):
            raise InputError(f"{name}: the store refuses ({said[:300]}); check address and permissions.") from error
        raise ArtefactError(f"{name}: {otherwise} ({said[:300]})") from error
