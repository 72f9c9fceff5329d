"""Photographs in a packed data set: one Lance table with the bytes of each photograph beside its row.

A packed photograph has a path like any other, PACK/photographs.lance/ROW/photograph/NAME, and is opened by
`swclip.imaging.photograph_file` as any other. `swclip.data.pack` writes the table.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from swclip.errors import ArtefactError
from swclip.lance_tables import connect, has_table, is_url, lance_errors

if TYPE_CHECKING:
    from lancedb.table import Table

TABLE = "photographs"
PACK_KEY = b"swclip.pack"
PACK_VERSION = "1"
ROW = "packed_row"
"""Column of the table with the number of each row; of the manifest's table too."""

_UNREADABLE = "the packed data set cannot be read; make it again with: swclip pack MANIFEST --out PACK"
_PATH = re.compile(rf"(?P<pack>.*)/{TABLE}\.lance/(?P<row>\d+)/(?P<column>photograph|map)/[^/]*")
_HASHES_AT_ONCE = 8192


class PackedPhotograph(NamedTuple):
    """A photograph or map tile in a pack.

    Attributes:
        pack: Folder or URL of the pack.
        row: Number of its row.
        column: photograph or map.
    """

    pack: str
    row: int
    column: str


def pack_location(path: str | os.PathLike[str]) -> str:
    """Folder or URL of a pack from its path: of the pack or of its table, also as `Path` writes a URL.

    Example:
        >>> pack_location(Path("s3://bucket/leeds")), pack_location("packs/leeds/photographs.lance")
        ('s3://bucket/leeds', 'packs/leeds')
    """
    name = Path(path).as_posix() if not isinstance(path, str) else path
    name = re.sub(rf"/{TABLE}\.lance/?$", "", name)
    return re.sub(r"^/?([a-zA-Z][a-zA-Z0-9+.-]+):/+(?=[^/])", r"\1://", name)


def table_path(pack: str) -> str:
    """Absolute path of a pack's table, below which its photographs are; of a URL with one slash before it."""
    folder = "/" + re.sub(r"://+", ":/", pack) if is_url(pack) else os.path.realpath(pack)
    return f"{folder.rstrip('/')}/{TABLE}.lance"


def is_pack(path: str | os.PathLike[str]) -> bool:
    """Whether a path names a pack: a URL, the table, or a folder that contains one and no other manifest."""
    name = pack_location(path)
    return is_url(name) or os.path.isdir(os.path.join(name, f"{TABLE}.lance"))


def packed_rows(pack: str) -> pa.Table:
    """The rows of a pack without its photographs, in their order; the schema has its metadata.

    Raises:
        ArtefactError: There is no pack, it is unfinished, or of another version.
        InputError: The store does not answer, or refuses.
    """
    _table.cache_clear()  # it may have grown since it was opened
    _hashes.cache_clear()
    with lance_errors(pack, _UNREADABLE):
        table = _table(pack)
        schema = table.schema
        description = json.loads((schema.metadata or {}).get(PACK_KEY, b"{}"))
        if description.get("version") != PACK_VERSION:
            raise ArtefactError(
                f"{pack}: packed data set of version {description.get('version')}, this swclip reads version "
                f"{PACK_VERSION}; make it again with: swclip pack MANIFEST --out PACK"
            )
        if (count := int(table.count_rows())) != description["rows"]:
            raise ArtefactError(
                f"{pack}: has {count:,} of {description['rows']:,} photographs; finish it with: "
                f"swclip pack MANIFEST --out {pack}"
            )
        columns = [name for name in schema.names if name not in ("sha256", "photograph", "map")]
        rows = table.search().select(columns).to_arrow().select(columns).sort_by(ROW)
    return rows.replace_schema_metadata(schema.metadata)


def packed_photograph(path: str | os.PathLike[str]) -> PackedPhotograph | None:
    """What a path in a pack stands for; None for the path of a file."""
    name = os.fspath(path)
    if f"{TABLE}.lance" not in name:
        return None
    match = _PATH.fullmatch(name.replace(os.sep, "/"))
    return None if match is None else PackedPhotograph(pack_location(match["pack"]), int(match["row"]), match["column"])


def packed_bytes(photograph: PackedPhotograph) -> bytes | None:
    """The bytes of a photograph's file; None where the pack has none (a row without a map tile).

    Raises:
        ArtefactError: The pack does not exist, or cannot be read.
        InputError: The store does not answer, or refuses.
    """
    with lance_errors(photograph.pack, _UNREADABLE):
        query = _table(photograph.pack).take_offsets([photograph.row])
        values = query.select([photograph.column]).to_arrow()[photograph.column].to_pylist()
    return None if not values else values[0]


def packed_batch(photographs: Sequence[PackedPhotograph]) -> list[bytes | None]:
    """The bytes of several photographs, by one read of each pack and column; see `packed_bytes`.

    A row of a table in an object store takes a request: a photograph at a time would wait for each.
    """
    rows_of: dict[tuple[str, str], set[int]] = {}
    for photograph in photographs:
        rows_of.setdefault((photograph.pack, photograph.column), set()).add(photograph.row)
    data: dict[PackedPhotograph, bytes] = {}
    for (pack, column), rows in rows_of.items():
        with lance_errors(pack, _UNREADABLE):
            table = _table(pack).take_offsets(sorted(rows)).select([ROW, column]).to_arrow()
        values = zip(table[ROW].to_pylist(), table[column].to_pylist(), strict=True)
        data.update({PackedPhotograph(pack, row, column): value for row, value in values if value is not None})
    return [data.get(photograph) for photograph in photographs]


def packed_sha256(photograph: PackedPhotograph) -> bytes | None:
    """SHA-256 of a photograph's file, as it was when it was packed; None for map tiles, whose hash is not stored."""
    if photograph.column != "photograph":
        return None
    block, number = divmod(photograph.row, _HASHES_AT_ONCE)
    hashes = _hashes(photograph.pack, block)
    return hashes[number] if number < len(hashes) else None


@lru_cache(maxsize=8)
def _table(pack: str) -> Table:
    with lance_errors(pack, _UNREADABLE):
        if not has_table(pack, TABLE):
            raise ArtefactError(f"{pack}: there is no packed data set; make one with: swclip pack MANIFEST --out PACK")
        return connect(pack).open_table(TABLE)


@lru_cache(maxsize=64)
def _hashes(pack: str, block: int) -> list[bytes]:
    with lance_errors(pack, _UNREADABLE):
        table = _table(pack)
        start, rows = block * _HASHES_AT_ONCE, int(table.count_rows())
        offsets = list(range(start, min(start + _HASHES_AT_ONCE, rows)))
        if not offsets:
            return []
        found = table.take_offsets(offsets).select([ROW, "sha256"]).to_arrow().sort_by(ROW)
        return [bytes(value) for value in found["sha256"].to_pylist()]
