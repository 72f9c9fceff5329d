"""A gallery's folder or URL: check that it is a gallery, and write a new one."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
from pyarrow import fs

from swclip.errors import ArtefactError, InputError, SwclipError
from swclip.files import atomic_folder, check_replaceable, read_json, write_json
from swclip.gallery.assign_candidates import NULL_STAYS, check_finite
from swclip.gallery.schema import GALLERY_VERSION, readable, wrong_version
from swclip.lance_tables import connect, has_table, is_url, lance_errors


def read_file(url: str, name: str) -> bytes | None:
    """The bytes of a file beside the table; None where it is missing.

    Raises:
        InputError: The store does not answer, or refuses.
    """
    system, base = _system(url)
    try:
        with system.open_input_stream(f"{base}/{name}") as stream:
            return bytes(stream.read())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _refused(url, error) from error


def upload(folder: Path, url: str) -> None:
    """Copy the files of a folder below a URL.

    Raises:
        InputError: The store does not answer, or refuses.
    """
    system, base = _system(url)
    try:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            # An object store's streams close with the last byte written or raise: no half file is left.
            with system.open_output_stream(f"{base}/{path.relative_to(folder).as_posix()}") as stream:
                stream.write(path.read_bytes())
    except OSError as error:
        raise _refused(url, error) from error


def size_bytes(path: str) -> int:
    """Bytes of everything in a gallery's folder or below its URL."""
    if is_url(path):
        return sum(file.size for file in _listing(path, ""))
    return sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file())


def local_model(url: str, cache: Path) -> Path:
    """A local copy of a gallery's model, downloaded where it is missing here or has changed there.

    Args:
        url: The gallery.
        cache: Folder of the copies; a copy is identified by the URL and the size and time of each file.

    Returns:
        A folder that contains `model/`.

    Raises:
        ArtefactError: There is no model.
        InputError: The store does not answer, or refuses.
    """
    files = _listing(url, "model")
    if not files:
        raise ArtefactError(f"{url}: the gallery has no model; make it again with: swclip index")
    key = hashlib.sha256(url.encode())
    for file in files:
        key.update(f"{file.path} {file.size} {file.mtime_ns}\n".encode())
    folder = cache / "galleries" / key.hexdigest()[:24]
    if folder.is_dir():
        return folder
    system, base = _system(url)
    with atomic_folder(folder, "model/config.json") as beside:
        for file in files:
            name = PurePosixPath(file.path).relative_to(PurePosixPath(base))
            (beside / name).parent.mkdir(parents=True, exist_ok=True)
            with system.open_input_stream(file.path) as source, open(beside / name, "wb") as target:
                shutil.copyfileobj(source, target)
    return folder


def _listing(url: str, below: str) -> list[Any]:
    system, base = _system(url)
    selector = fs.FileSelector(f"{base}/{below}".rstrip("/"), recursive=True, allow_not_found=True)
    try:
        entries = system.get_file_info(selector)
    except OSError as error:
        raise _refused(url, error) from error
    return sorted((entry for entry in entries if entry.type == fs.FileType.File), key=lambda entry: str(entry.path))


def _system(url: str) -> tuple[Any, str]:
    try:
        system, base = fs.FileSystem.from_uri(url)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise InputError(f"{url}: is not a readable URL ({error}); give a folder, or s3://...") from error
    return system, base.rstrip("/")


def _refused(url: str, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:300]
    return InputError(f"{url}: the store refuses ({reason}); check the address and the credentials.")


MARKER = "gallery.json"
TABLE = "entries"
AGAIN = "make it again with: swclip index RUN MANIFEST --out GALLERY"

WriteFiles = Callable[[Path], None]


def check_output(path: str | os.PathLike[str]) -> None:
    """Raise InputError where a gallery could not be written: to be called before hours of embedding, not after."""
    name = os.fspath(path)
    if not is_url(name):
        check_replaceable(name, MARKER)
    elif read_file(name, MARKER) is not None and _has_table(name):
        raise InputError(
            f"{name}: a gallery exists, and at a URL it cannot be replaced in one step; choose another address, or "
            "remove it first."
        )


def _has_table(name: str) -> bool:
    with lance_errors(name):
        return has_table(name, TABLE)


def check_marker(name: str) -> None:
    """Raise ArtefactError unless a folder or URL contains a gallery of this version."""
    if is_url(name):
        content = read_file(name, MARKER)
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


@contextmanager
def new_gallery(name: str, write_files: WriteFiles) -> Iterator[str]:
    """Make a new gallery: the block writes its table.

    Args:
        name: A folder, which is written beside and renamed at the end; or a URL, where the table comes last.
        write_files: Writes `model/` into a folder.

    Yields:
        The folder or URL that the table is written into.
    """
    check_output(name)
    if is_url(name):
        with tempfile.TemporaryDirectory(prefix="swclip-gallery-") as folder:
            write_beside(Path(folder), write_files)
            upload(Path(folder), name)
        yield name
    else:
        with atomic_folder(name, MARKER) as beside:
            write_beside(beside, write_files)
            yield os.path.abspath(beside)


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
