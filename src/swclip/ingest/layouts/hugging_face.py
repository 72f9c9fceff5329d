"""Parquet of the library `datasets` of Hugging Face: photographs as bytes inside the table.

The photographs are extracted once, beside the manifest, so that every step reads ordinary files.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from swclip.data.published_splits import PUBLISHED_COLUMN
from swclip.errors import InputError, first_line
from swclip.files import atomic_file, sha256_of_file
from swclip.ingest.folders import PHOTOGRAPH_SUFFIXES, LeftOut, files_below
from swclip.ingest.layouts.layout import Layout, LayoutSource
from swclip.ingest.source_table import RawTable, SourceTable
from swclip.ingest.tables import source_table

_ROWS_AT_ONCE = 64
_SUFFIXES = (".parquet", ".pq")
_SHARD = re.compile(r"(?P<split>[A-Za-z_]+)-\d{5}-of-\d{5}")
_SPLITS = {"train": "train", "validation": "val", "valid": "val", "val": "val", "dev": "val", "test": "test"}


def _image_columns(schema: pa.Schema) -> list[str]:
    """The columns of images: a struct of bytes and path."""
    return [
        field.name
        for field in schema
        if pa.types.is_struct(field.type)
        and {"bytes", "path"} <= {inside.name for inside in field.type}
        and _is_binary(field.type.field("bytes").type)
    ]


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_hugging_face(path: Path, names: Sequence[str]) -> bool:
    tables = [path / name for name in names if name.endswith(_SUFFIXES)] if path.is_dir() else [path]
    for table in tables[:3]:
        try:
            if table.name.endswith(_SUFFIXES) and _image_columns(pq.read_schema(table)):
                return True
        except (pa.ArrowException, OSError):
            continue
    return False


def _read_hugging_face(source: LayoutSource) -> SourceTable:
    """Read one Parquet file, or all of a folder: `SPLIT-00000-of-00001.parquet`, or `SPLIT/0000.parquet`."""
    shards = [source.path.name]
    if source.path.is_dir():
        files = files_below(source.path, LeftOut(), source.excluded)
        shards = [name for name in map(Path.as_posix, map(Path, files)) if name.endswith(_SUFFIXES)]
    if not shards:
        raise InputError(f"{source.path}: holds no Parquet files, which the layout hugging-face has.")
    column = source.columns.image
    frames: list[pd.DataFrame] = []
    parts: list[tuple[int, str]] = []
    count, total = 0, sum(_n_rows(source.folder / name) for name in shards)
    for name in shards:

        def done(rows: int, before: int = count) -> None:
            if source.progress is not None:
                source.progress(before + rows, total)

        column, frame = _extracted(source.folder / name, name, source, column, done)
        part = _part_of(name)
        if part is not None:
            frame[PUBLISHED_COLUMN] = part
        parts.append((count, name))
        count += len(frame)
        frames.append(frame)
    whole = pd.concat(frames, ignore_index=True).astype(object)
    whole = whole.where(whole.notna(), None)
    raw = RawTable(str(source.path), "parquet", whole, list(range(1, count + 1)))
    return replace(source_table(raw, source.extracted, replace(source.columns, image=column)), parts=parts)


def _n_rows(path: Path) -> int:
    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError):
        return 0  # reading it will say what is wrong


def _extracted(
    path: Path, name: str, source: LayoutSource, column: str | None, done: Callable[[int], None]
) -> tuple[str, pd.DataFrame]:
    """Read a file in small batches, writing its photographs; return the column that has their paths afterwards."""
    folder = source.extracted / name.removesuffix(".parquet").replace("/", "-")
    try:
        file = pq.ParquetFile(path)
        schema = file.schema_arrow
        columns = _image_columns(schema)
        if not columns:
            raise InputError(
                f"{path}: has no column of images, a struct of bytes and path, as the layout hugging-face has it; its "
                f"columns are {', '.join(schema.names)}."
            )
        image = column or columns[0]
        if image not in columns:
            raise InputError(
                f"{path}: --image-column {image}: is no column of images; these are: {', '.join(columns)}."
            )
        others = [other for other in schema.names if other not in columns]
        frames = []
        row = 0
        for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=[*others, image]):
            names: list[str | None] = []
            for cell in batch.column(image).to_pylist():
                row += 1
                names.append(_photograph(cell, row, folder, path))
            # As Python objects: pandas would make floats of integers beside missing ones.
            cells = {other: pd.Series(batch.column(other).to_pylist(), dtype=object) for other in others}
            frames.append(pd.DataFrame({image: pd.Series(names, dtype=object), **cells}))
            done(row)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read as Parquet, it may be cut short ({first_line(error)}).") from error
    if not frames:
        raise InputError(f"{path}: the table has no rows.")
    whole = pd.concat(frames, ignore_index=True)
    for label, names_of in _class_labels(schema).items():
        if label in whole:
            whole[label] = [
                names_of[int(value)] if value is not None and 0 <= int(value) < len(names_of) else None
                for value in whole[label]
            ]
    return image, whole


def _photograph(cell: dict[str, Any] | None, row: int, folder: Path, table: Path) -> str | None:
    """Write the bytes of a cell to a file, unless it is there; a cell without bytes names a file beside the table."""
    if cell is None:
        return None
    data, name = cell.get("bytes"), cell.get("path")
    if data is None:
        return None if not name else str((table.parent / name).absolute())
    suffix = Path(name or "").suffix.lower()
    if suffix not in PHOTOGRAPH_SUFFIXES:
        suffix = _suffix(data)
    target = folder / f"{row:07d}{suffix}"
    digest = hashlib.sha256(data).hexdigest()
    if not (target.is_file() and target.stat().st_size == len(data) and sha256_of_file(target) == digest):
        with atomic_file(target) as beside:
            beside.write_bytes(data)
    return (Path(folder.name) / target.name).as_posix()


def _suffix(data: bytes) -> str:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return f".{(image.format or 'bin').lower()}".replace("jpeg", "jpg")
    except Exception:  # Pillow raises many kinds of errors; verification will say what the bytes are
        return ".bin"


def _class_labels(schema: pa.Schema) -> dict[str, Sequence[str]]:
    """The names of class labels, {column: names}, from the metadata that `datasets` writes."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {
            column: feature["names"]
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names")
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


def _part_of(name: str) -> str | None:
    """The split that a shard's name or folder says."""
    match = _SHARD.search(name)
    words = [match["split"]] if match is not None else []
    for word in [*words, *reversed(name.split("/")[:-1])]:
        if word.lower() in _SPLITS:
            return _SPLITS[word.lower()]
    return None


HUGGING_FACE = Layout(
    "hugging-face",
    "Parquet files with a column of images (a struct of bytes and path)",
    _is_hugging_face,
    _read_hugging_face,
    frozenset({"columns"}),
)
