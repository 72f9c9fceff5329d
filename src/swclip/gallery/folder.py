"""A gallery's folder or URL: check that it is a gallery, write a new one, and translate Lance's errors."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from swclip.errors import ArtefactError, DiskFullError, InputError, SwclipError
from swclip.files import check_replaceable, read_json, write_json
from swclip.gallery import remote
from swclip.gallery.assign_candidates import NULL_STAYS, check_finite
from swclip.gallery.remote import is_url, storage_options
from swclip.gallery.schema import GALLERY_VERSION, readable, wrong_version

if TYPE_CHECKING:
    from lancedb.db import DBConnection


MARKER = "gallery.json"
TABLE = "entries"
AGAIN = "make it again with: swclip index RUN MANIFEST --out GALLERY"

WriteFiles = Callable[[Path], None]


def check_output(path: str | os.PathLike[str]) -> None:
    """Raise InputError where a gallery could not be written: to be called before hours of embedding, not after."""
    name = os.fspath(path)
    if not remote.is_url(name):
        check_replaceable(name, MARKER)
    elif remote.read_file(name, MARKER) is not None and _has_table(name):
        raise InputError(
            f"{name}: a gallery exists, and at a URL it cannot be replaced in one step; choose another address, or "
            "remove it first."
        )


def _has_table(name: str) -> bool:
    with lance_errors(name):
        return TABLE in connect(name).list_tables().tables


def check_marker(name: str) -> None:
    """Raise ArtefactError unless a folder or URL contains a gallery of this version."""
    if remote.is_url(name):
        content = remote.read_file(name, MARKER)
        description = None if content is None else json.loads(content)
    else:
        file = Path(name) / MARKER
        description = read_json(file, "the gallery's description") if file.is_file() else None
    if description is None:
        raise ArtefactError(f"{name}: is not a gallery ({MARKER} is missing); check the path, or {AGAIN}")
    version = description.get("version") if isinstance(description, dict) else None
    if not readable(version):
        raise wrong_version(f"{name}/{MARKER}", version)


def write_beside(folder: Path, write_files: WriteFiles) -> None:
    """Write the files of a new gallery other than the table."""
    write_files(folder)
    write_json(folder / MARKER, {"format": "swclip gallery", "version": GALLERY_VERSION, "table": f"{TABLE}.lance"})


def write_table(location: str, name: str, schema: pa.Schema, entries: Iterable[pa.RecordBatch]) -> None:
    """Write the table of a new gallery in one commit, batch by batch.

    Args:
        location: The folder or URL that the table is written into.
        name: The gallery's name in messages.
        schema: Its columns.
        entries: Its rows.
    """
    failed: list[Exception] = []

    def rows() -> Iterator[pa.RecordBatch]:
        try:
            yield from _unique_batches(entries, name)
        except Exception as error:
            failed.append(error)  # Lance would wrap it as text in another error
            raise

    reader = pa.RecordBatchReader.from_batches(schema, rows())
    try:
        with lance_errors(name):
            connect(location).create_table(TABLE, reader, schema=schema, on_bad_vectors=NULL_STAYS)
    except SwclipError:
        if failed:
            raise failed[0] from None
        raise


def _unique_batches(entries: Iterable[pa.RecordBatch], name: str) -> Iterator[pa.RecordBatch]:
    seen: set[str] = set()
    for batch in entries:
        for key in batch["entry_id"].to_pylist():
            if key in seen:
                raise InputError(f"{name}: {key!r} occurs twice among the entries; ids must be unique.")
            seen.add(key)
        check_finite(batch, name)
        yield batch


_FULL = (f"os error {errno.ENOSPC}", f"os error {errno.EDQUOT}", "No space left", "Disk quota exceeded")
_CONFLICT = ("onflict", "concurrent", "Too many concurrent")
_REFUSED = ("Permission denied", "AccessDenied", "Unauthorized", "403 Forbidden", "InvalidAccessKeyId")


def connect(path: str) -> DBConnection:
    """A connection to the folder or URL of a gallery's table; reads see the commits of other processes."""
    # Lance logs to standard error by default, for example that a table to be created does not exist yet.
    os.environ.setdefault("LANCE_LOG", "error")
    import lancedb

    return lancedb.connect(path, read_consistency_interval=timedelta(0), storage_options=storage_options(path))


@contextmanager
def lance_errors(name: str, otherwise: str = "the gallery's table cannot be read or written") -> Iterator[None]:
    """Turn Lance's errors into swclip's.

    Args:
        name: The gallery's name in messages.
        otherwise: The message of an unrecognised error.

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
        text = " ".join(str(error).split())
        if any(words in text for words in _FULL):
            raise DiskFullError(f"{name}: the disk is full; free some space and run the command again.") from error
        if any(words in text for words in _CONFLICT):
            raise InputError(
                f"{name}: another process changed the gallery at the same time, and this change was not made; run the "
                f"command again ({text[:200]})"
            ) from error
        if is_url(name) or any(words in text for words in _REFUSED):
            raise InputError(f"{name}: the store refuses ({text[:300]}); check address and permissions.") from error
        raise ArtefactError(f"{name}: {otherwise} ({text[:300]})") from error
