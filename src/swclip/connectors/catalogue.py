"""The catalogue of one download: the boxes of its area, the photographs in them, and what became of each.

It is a SQLite file beside the photographs. Every step is one transaction, so that a process that is killed at any
moment loses none of it, and memory does not grow with the number of photographs.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from swclip.connectors.service import Item, Unusable
from swclip.errors import ArtefactError, DiskFullError, first_line
from swclip.geo.boxes import Box

CATALOGUE_NAME = "fetch.sqlite"
_VERSION = 2
_ROWS_AT_ONCE = 500

State = Literal["listed", "filtered", "thinned", "chosen", "done", "gone", "refused", "rejected"]
"""Of a photograph: found; left out by a filter; left out by thinning; to be downloaded; downloaded; no longer on the
server; refused by the server; downloaded, but not a usable photograph."""

UNDECIDED = "('listed', 'thinned', 'chosen', 'refused')"
"""States of photographs that thinning decides on, for a condition of SQL."""

_ITEM_COLUMNS = tuple(field.name for field in fields(Item))
_RESULT_COLUMNS = ("file", "size", "sha256", "exif_accuracy_m", "exif_heading_deg", "exif_captured_at", "panorama")

_SCHEMA = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE boxes (
    id INTEGER PRIMARY KEY, south REAL, west REAL, north REAL, east REAL, state TEXT NOT NULL, kind TEXT, detail TEXT
);
CREATE INDEX boxes_by_state ON boxes (state);
CREATE TABLE items (
    {", ".join(f'"{name}"' for name in _ITEM_COLUMNS)}, {", ".join(_RESULT_COLUMNS)},
    state TEXT NOT NULL, kind TEXT, detail TEXT, search INTEGER NOT NULL, PRIMARY KEY (id)
) WITHOUT ROWID;
CREATE INDEX items_by_state ON items (state, id);
CREATE TABLE unusable (id TEXT PRIMARY KEY, detail TEXT);
"""


class Catalogue:
    """The catalogue in a file; for one thread of one process.

    Raises:
        ArtefactError: The file is not a catalogue, or of another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version == 0:
                self._db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")
        except sqlite3.DatabaseError as error:
            raise ArtefactError(f"{path}: is not a catalogue of swclip fetch ({first_line(error)}).") from error
        if version not in (0, _VERSION):
            self._db.close()
            raise ArtefactError(f"{path}: version {version}, this swclip reads {_VERSION}; choose another --out.")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()
        if isinstance(error, sqlite3.OperationalError) and "full" in str(error):
            raise DiskFullError(
                f"{self.path}: the disk is full; free some space and run the same command again, which resumes."
            ) from error

    def get(self, key: str) -> Any:
        """A value that `put` stored, or None."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def put(self, **values: Any) -> None:
        """Store values that JSON can hold."""
        self._many(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            [(key, json.dumps(value)) for key, value in values.items()],
        )

    # --- The search

    def begin_search(self, boxes: Sequence[Box]) -> None:
        """Forget the boxes of an earlier search, and list new ones."""
        with self._transaction():
            self._db.execute("DELETE FROM boxes")
            self._db.execute("DELETE FROM unusable")
            self._insert_boxes(boxes)
            self.put(search=(self.get("search") or 0) + 1, searched=False)

    def retry_refused_boxes(self) -> None:
        """Let boxes that were refused be asked for again."""
        self._db.execute("UPDATE boxes SET state = 'pending', kind = NULL, detail = NULL WHERE state = 'refused'")

    def pending_boxes(self, limit: int, excluding: Sequence[int]) -> list[tuple[int, Box]]:
        """Boxes that were not asked for, with their numbers."""
        marks = ",".join("?" * len(excluding))
        rows = self._db.execute(
            "SELECT id, south, west, north, east FROM boxes "
            f"WHERE state = 'pending' AND id NOT IN ({marks}) ORDER BY id LIMIT ?",
            (*excluding, limit),
        )
        return [(number, Box(*bounds)) for number, *bounds in rows]

    def box_found(self, number: int, rows: Sequence[tuple[Item, State, str | None]], bad: Sequence[Unusable]) -> None:
        """Store the answer of a box: its photographs with their state and reason, and what could not be used.

        A photograph that was downloaded keeps what was known of it then.
        """
        columns = (*_ITEM_COLUMNS, "state", "kind", "search")
        quoted = ", ".join(f'"{name}"' for name in columns)
        update = ", ".join(f'"{name}" = excluded."{name}"' for name in columns if name not in ("id", "search"))
        search = self.get("search")
        values = [(*_plain(item), state, kind, search) for item, state, kind in rows]
        with self._transaction():
            # The first answer of one search counts: pages may change while they are read.
            self._db.executemany(
                f"INSERT INTO items ({quoted}) VALUES ({','.join('?' * len(columns))}) ON CONFLICT (id) DO UPDATE SET "
                f"{update} WHERE search < excluded.search AND state NOT IN ('done', 'rejected')",
                values,
            )
            self._db.executemany("UPDATE items SET search = ? WHERE id = ?", [(search, row[0]) for row in values])
            self._db.executemany("INSERT OR IGNORE INTO unusable VALUES (?, ?)", [(u.id, u.detail) for u in bad])
            self._db.execute("UPDATE boxes SET state = 'done' WHERE id = ?", (number,))

    def box_split(self, number: int, quarters: Sequence[Box]) -> None:
        """Replace a box by its quarters."""
        with self._transaction():
            self._insert_boxes(quarters)
            self._db.execute("UPDATE boxes SET state = 'split' WHERE id = ?", (number,))

    def box_refused(self, number: int, kind: str, detail: str) -> None:
        """Store that a box has no answer."""
        self._db.execute(
            "UPDATE boxes SET state = 'refused', kind = ?, detail = ? WHERE id = ?", (kind, detail, number)
        )

    def box_counts(self) -> Counter[str]:
        """Boxes by state: pending, done, split, refused."""
        return Counter(dict(self._db.execute("SELECT state, count(*) FROM boxes GROUP BY state")))

    def refused_boxes(self) -> Iterator[tuple[Box, str, str]]:
        """Boxes that have no answer, with kind and detail of the refusal."""
        for south, west, north, east, kind, detail in self._db.execute(
            "SELECT south, west, north, east, kind, detail FROM boxes WHERE state = 'refused' ORDER BY south, west"
        ):
            yield Box(south, west, north, east), kind, detail

    def unusable(self) -> Iterator[tuple[str, str]]:
        """Ids of records that describe no photograph, with details."""
        yield from self._db.execute("SELECT id, detail FROM unusable ORDER BY id")

    # --- The photographs

    def rows(self, columns: Sequence[str], where: str, order: str = "id") -> Iterator[tuple[Any, ...]]:
        """Values of photographs that meet a condition."""
        yield from self.expressions([f'"{name}"' for name in columns], where, order)

    def expressions(self, columns: Sequence[str], where: str, order: str = "id") -> Iterator[tuple[Any, ...]]:
        """Values of expressions, such as "coalesce(licence, author)", of photographs that meet a condition."""
        yield from self._db.execute(f"SELECT {', '.join(columns)} FROM items WHERE {where} ORDER BY {order}")

    def counts(self, column: str, where: str = "1") -> dict[Any, int]:
        """Photographs that meet a condition, by the value of a column or expression."""
        rows = self._db.execute(f"SELECT {column}, count(*) FROM items WHERE {where} GROUP BY 1 ORDER BY 2 DESC, 1")
        return dict(rows.fetchall())

    def value(self, expression: str, where: str = "1") -> Any:
        """One figure of the photographs that meet a condition, such as "sum(size)"."""
        return self._db.execute(f"SELECT {expression} FROM items WHERE {where}").fetchone()[0]

    def sample(self, column: str, where: str, step: int, limit: int) -> list[Any]:
        """Values of every `step`-th photograph that meets a condition, by id."""
        rows = self._db.execute(
            f"SELECT {column} FROM (SELECT {column}, row_number() OVER (ORDER BY id) AS n FROM items WHERE {where}) "
            "WHERE (n - 1) % ? = 0 LIMIT ?",
            (step, limit),
        )
        return [row[0] for row in rows]

    def withdraw(self) -> None:
        """Mark photographs that the last search no longer lists as gone; for a search without refusals."""
        self._db.execute(
            "UPDATE items SET state = 'gone', kind = 'withdrawn', detail = 'the service no longer lists it.' "
            "WHERE state NOT IN ('done', 'rejected', 'gone') AND search < ?",
            (self.get("search"),),
        )

    def choose(self, ids: Iterator[str]) -> None:
        """Mark photographs for the download, and the other listed ones as thinned out; the search is complete.

        `ids` may read `rows` meanwhile.
        """
        with self._transaction():
            self._db.execute("CREATE TEMP TABLE picked (id TEXT PRIMARY KEY)")
            self._db.executemany("INSERT INTO picked VALUES (?)", ((key,) for key in ids))
            self._db.execute(
                "UPDATE items SET state = CASE WHEN id IN (SELECT id FROM picked) THEN 'chosen' ELSE 'thinned' END, "
                f"kind = NULL, detail = NULL WHERE state IN {UNDECIDED}"
            )
            self._db.execute("DROP TABLE picked")
            self.put(searched=True)

    def retry_refused_items(self) -> None:
        """Let photographs that were refused be downloaded again."""
        self._db.execute("UPDATE items SET state = 'chosen', kind = NULL, detail = NULL WHERE state = 'refused'")

    def to_download(self) -> Iterator[Item]:
        """Photographs to download, in the order of their ids; their states may change meanwhile."""
        names = ", ".join(f'"{name}"' for name in _ITEM_COLUMNS)
        last = ""
        while True:
            rows = self._db.execute(
                f"SELECT {names} FROM items WHERE state = 'chosen' AND id > ? ORDER BY id LIMIT ?",
                (last, _ROWS_AT_ONCE),
            ).fetchall()
            for row in rows:
                yield _item(row)
            if not rows:
                return
            last = rows[-1][0]

    def outcome(self, key: str, state: State, kind: str | None, detail: str | None, result: Mapping[str, Any]) -> None:
        """Store what became of a photograph.

        Args:
            key: Its id.
            state: done, gone, refused or rejected.
            kind: The reason.
            detail: The reason in words.
            result: Values of `file, size, sha256, exif_accuracy_m, exif_heading_deg, exif_captured_at, panorama` (a
                `Panorama` as JSON, by the picture itself).
        """
        assignments = ", ".join(f"{name} = ?" for name in _RESULT_COLUMNS)
        self._db.execute(
            f"UPDATE items SET state = ?, kind = ?, detail = ?, {assignments} WHERE id = ?",
            (state, kind, detail, *(result.get(name) for name in _RESULT_COLUMNS), key),
        )

    def reject(self, rows: Sequence[tuple[str, str, str]]) -> None:
        """Leave out downloaded photographs; each is (id, kind, detail)."""
        self._many(
            "UPDATE items SET state = 'rejected', kind = ?, detail = ? WHERE id = ?", [(k, d, i) for i, k, d in rows]
        )

    def _insert_boxes(self, boxes: Sequence[Box]) -> None:
        self._db.executemany(
            "INSERT INTO boxes (south, west, north, east, state) VALUES (?, ?, ?, ?, 'pending')", boxes
        )

    def _many(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        with self._transaction():
            self._db.executemany(statement, rows)

    def _transaction(self) -> _Transaction:
        return _Transaction(self._db)


class _Transaction:
    """All or nothing; within another transaction, a part of that."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._inner = db.in_transaction

    def __enter__(self) -> None:
        if not self._inner:
            self._db.execute("BEGIN IMMEDIATE")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._inner:
            self._db.execute("COMMIT" if error is None else "ROLLBACK")


def _plain(item: Item) -> tuple[Any, ...]:
    values = (getattr(item, name) for name in _ITEM_COLUMNS)
    return tuple(value.isoformat() if isinstance(value, datetime) else value for value in values)


def _item(row: Sequence[Any]) -> Item:
    values = dict(zip(_ITEM_COLUMNS, row, strict=True))
    stated = values["captured_at"]
    values["captured_at"] = None if stated is None else datetime.fromisoformat(stated).astimezone(UTC)
    return Item(**values)
