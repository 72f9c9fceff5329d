"""Packed data sets: a manifest and the bytes of its photographs in one Lance table, in a folder or an object store.

    PACK/photographs.lance/    the columns of the manifest, packed_row, sha256, photograph and map (bytes of the files)

Rows are appended in the order of the manifest, in commits of some megabytes: the rows of a pack are always the first
rows of the manifest, and an interrupted run resumes after the last of them. The table states how many rows it is to
have, so that readers refuse an unfinished one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from swclip.data.manifest import METADATA_KEY, Manifest, read_manifest
from swclip.errors import InputError, MismatchError
from swclip.imaging.packed import PACK_KEY, PACK_VERSION, ROW, TABLE, pack_location
from swclip.imaging.photograph_file import photograph_bytes
from swclip.lance_tables import connect, has_table, is_url, lance_errors
from swclip.locks import sole_holder
from swclip.progress import Count

if TYPE_CHECKING:
    from lancedb.table import Table

_COMMIT_BYTES = 64 * 2**20
_COMMIT_ROWS = 2048
_ROWS_AT_ONCE = 32
_CANNOT_WRITE = "the packed data set cannot be written"


def pack(
    manifest: Manifest, out: str | os.PathLike[str], *, workers: int | None = None, progress: Count | None = None
) -> Manifest:
    """Write a manifest and its photographs as one table.

    Args:
        manifest: The photographs, as files.
        out: A folder, or an object store's URL (s3://, gs://, ...). If it has an unfinished pack of the same manifest,
            the rest is written.
        workers: Threads that read files; the number of processors, at most 16, where None.
        progress: Called with the number of packed photographs and the total.

    Returns:
        The packed manifest, with the same rows, order and digest.

    Raises:
        PhotographError: A photograph or map tile is missing or unreadable. The rows before it are kept.
        MismatchError: The pack there is of another manifest.
        InputError: The manifest is a pack already, or the folder or the store cannot be written.
        DiskFullError: The disk is full. Committed rows are kept.
    """
    name = pack_location(os.fspath(out))
    if ROW in manifest.frame:
        raise InputError(f"{manifest.path}: is packed already; copy the folder, or pack the manifest it was made from.")
    with ExitStack() as stack:
        if not is_url(name):
            _make_folder(Path(name))
            busy = InputError(f"{name}: another process is packing there.")
            stack.enter_context(sole_holder(Path(name), busy))
        table = _open_or_create(name, manifest)
        with lance_errors(name, _CANNOT_WRITE):
            done = int(table.count_rows())
        if progress is not None:
            progress(done, len(manifest))
        for batch in _batches(manifest, done, workers):
            with lance_errors(name, _CANNOT_WRITE):
                table.add(pa.Table.from_batches(batch))
            done += sum(part.num_rows for part in batch)
            if progress is not None:
                progress(done, len(manifest))
    return read_manifest(name)


def _make_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; --out names a folder or a URL.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot make the folder ({error.strerror}); choose another with --out.") from error


def _open_or_create(name: str, manifest: Manifest) -> Table:
    file = pq.ParquetFile(manifest.path).schema_arrow
    description = {"version": PACK_VERSION, "rows": len(manifest), "manifest_digest": manifest.digest}
    metadata = {METADATA_KEY: file.metadata[METADATA_KEY], PACK_KEY: json.dumps(description).encode()}
    with lance_errors(name, _CANNOT_WRITE):
        database = connect(name)
        if not has_table(name, TABLE):
            return database.create_table(TABLE, schema=_schema(file).with_metadata(metadata))
        table = database.open_table(TABLE)
        present = json.loads((table.schema.metadata or {}).get(PACK_KEY, b"{}"))
    if present != description:
        raise MismatchError(
            f"{name}: contains a pack of another manifest (of {present.get('rows', 'unknown')} photographs, digest "
            f"{str(present.get('manifest_digest'))[:12]}, not {manifest.digest[:12]}); choose another --out."
        )
    return table


def _schema(manifest: pa.Schema) -> pa.Schema:
    columns = [field.remove_metadata() for field in manifest if field.name != "geometry"]
    return pa.schema(
        [
            *columns,
            pa.field(ROW, pa.int64()),
            pa.field("sha256", pa.binary(32)),
            pa.field("photograph", pa.large_binary()),
            pa.field("map", pa.large_binary()),
        ]
    )


def _batches(manifest: Manifest, start: int, workers: int | None) -> Iterator[list[pa.RecordBatch]]:
    """The rows from `start` on with their photographs, in lists of batches for a commit each."""
    file = pq.ParquetFile(manifest.path)
    schema = _schema(file.schema_arrow)
    count = workers or min(16, os.cpu_count() or 1)
    commit: list[pa.RecordBatch] = []
    size, row = 0, 0
    with ThreadPoolExecutor(max_workers=count, thread_name_prefix="swclip-pack") as pool:
        for batch in file.iter_batches(_ROWS_AT_ONCE):
            skipped = min(batch.num_rows, max(0, start - row))
            rows = range(row + skipped, row + batch.num_rows)
            row += batch.num_rows
            if not rows:
                continue
            photographs = list(pool.map(photograph_bytes, [manifest.image_paths[at] for at in rows]))
            maps = list(pool.map(_bytes_or_none, [manifest.map_paths[at] for at in rows]))
            columns: dict[str, Any] = {
                ROW: pa.array(rows, pa.int64()),
                "sha256": pa.array([hashlib.sha256(data).digest() for data in photographs], pa.binary(32)),
                "photograph": pa.array(photographs, pa.large_binary()),
                "map": pa.array(maps, pa.large_binary()),
            }
            part = batch.slice(skipped)
            arrays = [columns[field.name] if field.name in columns else part[field.name] for field in schema]
            commit.append(pa.RecordBatch.from_arrays(arrays, schema=schema))
            size += sum(len(data) for data in (*photographs, *maps) if data is not None)
            if size >= _COMMIT_BYTES or sum(part.num_rows for part in commit) >= _COMMIT_ROWS:
                yield commit
                commit, size = [], 0
    if commit:
        yield commit


def _bytes_or_none(path: Path | None) -> bytes | None:
    return None if path is None else photograph_bytes(path)
