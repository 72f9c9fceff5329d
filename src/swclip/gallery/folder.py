"""A gallery's folder or URL: what lies there, whether it is a gallery, and writing a new one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from swclip.errors import ArtefactError, InputError, SwclipError
from swclip.files import check_replaceable, read_json, write_json
from swclip.gallery import remote
from swclip.gallery.given import NULL_STAYS, check_finite
from swclip.gallery.lance import connect, lance_errors
from swclip.gallery.schema import GALLERY_VERSION, wrong_version

MARKER = "gallery.json"
TABLE = "entries"
AGAIN = "make it again with: swclip index RUN MANIFEST --out GALLERY"

WriteFiles = Callable[[Path], None]


def check_output(path: str | os.PathLike[str]) -> None:
    """Raise InputError where a gallery could not be written: to be asked before hours of embedding, not after."""
    name = os.fspath(path)
    if not remote.is_url(name):
        check_replaceable(name, MARKER)
    elif remote.read_file(name, MARKER) is not None and _has_table(name):
        raise InputError(
            f"{name}: a gallery is there, and at a URL none can be put in its place at once; choose another address, "
            "or remove it first."
        )


def _has_table(name: str) -> bool:
    with lance_errors(name):
        return TABLE in connect(name).list_tables().tables


def check_marker(name: str) -> None:
    """Raise ArtefactError unless a gallery of this version is at a folder or URL."""
    if remote.is_url(name):
        content = remote.read_file(name, MARKER)
        found = None if content is None else json.loads(content)
    else:
        file = Path(name) / MARKER
        found = read_json(file, "the gallery's description") if file.is_file() else None
    if found is None:
        raise ArtefactError(f"{name}: no gallery is there ({MARKER} is missing); check the path, or {AGAIN}")
    version = found.get("version") if isinstance(found, dict) else None
    if version != GALLERY_VERSION:
        raise wrong_version(f"{name}/{MARKER}", version)


def write_beside(folder: Path, write_files: WriteFiles) -> None:
    """Write what lies beside the table of a new gallery."""
    write_files(folder)
    write_json(folder / MARKER, {"format": "swclip gallery", "version": GALLERY_VERSION, "table": f"{TABLE}.lance"})


def write_table(where: str, name: str, schema: pa.Schema, entries: Iterable[pa.RecordBatch]) -> None:
    """Write the table of a new gallery in one commit, batch by batch.

    Args:
        where: The folder or URL that the table is written into.
        name: What to call the gallery in a message.
        schema: Its columns.
        entries: Its rows.
    """
    failed: list[Exception] = []

    def rows() -> Iterator[pa.RecordBatch]:
        try:
            yield from _unique_batches(entries, name)
        except Exception as error:
            failed.append(error)  # Lance would hand it on as a text within an error of its own
            raise

    reader = pa.RecordBatchReader.from_batches(schema, rows())
    try:
        with lance_errors(name):
            connect(where).create_table(TABLE, reader, schema=schema, on_bad_vectors=NULL_STAYS)
    except SwclipError:
        if failed:
            raise failed[0] from None
        raise


def _unique_batches(entries: Iterable[pa.RecordBatch], name: str) -> Iterator[pa.RecordBatch]:
    seen: set[str] = set()
    for batch in entries:
        for key in batch["entry_id"].to_pylist():
            if key in seen:
                raise InputError(f"{name}: {key!r} is there twice among the entries; ids must be unique.")
            seen.add(key)
        check_finite(batch, name)
        yield batch
