"""Lance tables in folders and object stores: connections, their options, and their errors as swclip's.

Credentials and endpoint of a store come from the environment as the store's own tools read them (AWS_ACCESS_KEY_ID,
AWS_REGION, AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS, ...).
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from swclip.errors import ArtefactError, DiskFullError, InputError, SwclipError

if TYPE_CHECKING:
    from lancedb.db import DBConnection

_FULL = (f"os error {errno.ENOSPC}", f"os error {errno.EDQUOT}", "No space left", "Disk quota exceeded")
_CONFLICT = ("onflict", "concurrent", "Too many concurrent")
_REFUSED = ("Permission denied", "AccessDenied", "Unauthorized", "403 Forbidden", "InvalidAccessKeyId")


def is_url(path: str | os.PathLike[str]) -> bool:
    """Whether a table is named by a URL, not by a folder.

    Example:
        >>> is_url("s3://bucket/gallery"), is_url("galleries/leeds"), is_url("C:/galleries")
        (True, False, False)
    """
    return re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", os.fspath(path)) is not None


def storage_options(url: str) -> dict[str, str] | None:
    """Lance's options for a store beside the environment: it must be told to use plain HTTP where the endpoint does.

    Example:
        >>> storage_options("galleries/leeds") is None
        True
    """
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    if not url.startswith("s3://") or not endpoint:
        return None
    return {"aws_endpoint": endpoint, "allow_http": str(endpoint.startswith("http://")).lower()}


def connect(path: str) -> DBConnection:
    """A connection to the folder or URL of tables; reads see the commits of other processes."""
    # Lance logs to standard error by default, for example that a table to be created does not exist yet.
    os.environ.setdefault("LANCE_LOG", "error")
    import lancedb

    return lancedb.connect(path, read_consistency_interval=timedelta(0), storage_options=storage_options(path))


def has_table(path: str, name: str) -> bool:
    """Whether a folder or URL has a table of this name."""
    if is_url(path):
        return name in connect(path).list_tables().tables
    return (Path(path) / f"{name}.lance").is_dir()


@contextmanager
def lance_errors(name: str, otherwise: str = "the gallery's table cannot be read or written") -> Iterator[None]:
    """Turn Lance's errors into swclip's.

    Args:
        name: The table's name in messages.
        otherwise: The message of an unrecognised error.

    Raises:
        DiskFullError: The disk is full.
        InputError: Another process changed the same rows at the same time, or access is refused.
        ArtefactError: Anything else.
    """
    try:
        yield
    except SwclipError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        text = " ".join(str(error).split())
        if any(words in text for words in _FULL):
            raise DiskFullError(f"{name}: the disk is full; free some space and run the command again.") from error
        if any(words in text for words in _CONFLICT):
            raise InputError(
                f"{name}: another process changed the table at the same time, and this change was not made; run the "
                f"command again ({text[:200]})"
            ) from error
        if is_url(name) or any(words in text for words in _REFUSED):
            raise InputError(f"{name}: the store refuses ({text[:300]}); check address and permissions.") from error
        raise ArtefactError(f"{name}: {otherwise} ({text[:300]})") from error
