"""A gallery that grows: every change of its table is one commit, and a reader sees whole commits only.

    GALLERY/gallery.json       that it is a gallery, and of which version
    GALLERY/entries.lance/     the table; see `swclip.gallery.schema`
    GALLERY/model/             the model that made the embeddings, with its regions and bank of queries

GALLERY is a folder or an object store's URL. A new gallery on a disk is written beside and renamed; at a URL, where
nothing can be renamed, the table is written last, and without it there is no gallery.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from swclip.errors import ArtefactError, InputError, MismatchError
from swclip.files import atomic_folder
from swclip.gallery import remote
from swclip.gallery.assign_candidates import (
    NULL_STAYS,
    SHARED,
    check_finite,
    check_unique,
    holding,
    naming,
    position_keys,
    positions_of,
    renamed,
    settle,
)
from swclip.gallery.filters import EntryFilter, box_sql, is_in
from swclip.gallery.folder import (
    AGAIN,
    MARKER,
    TABLE,
    WriteFiles,
    check_marker,
    check_output,
    connect,
    lance_errors,
    write_beside,
    write_table,
)
from swclip.gallery.schema import Description, check_columns, entry_schema

if TYPE_CHECKING:
    from lancedb.table import Table

BATCH_ROWS = 4096
_IDS_IN_SQL = 20_000  # beyond that, reading the whole column is faster

Existing = Literal["refuse", "skip"]


@dataclass(frozen=True)
class Change:
    """What a change did.

    Attributes:
        inserted: Entries that are new.
        updated: Entries that were replaced.
        deleted: Entries that were taken out.
        skipped: Entries given that were there already and stay as they were.
        version: The table's version since.
    """

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    skipped: int = 0
    version: int = 0


@dataclass(frozen=True, eq=False)
class GalleryStore:
    """A gallery's table, open. Make one with `create` or `open`.

    Attributes:
        path: The folder, or the URL.
        description: What holds for the whole gallery.
        table: Lance's table, for what this class does not do (an index, a query by vector).

    Example:
        ```python
        store = GalleryStore.open("gallery")
        store.count(EntryFilter(cities=["Leeds"]))
        store.delete(EntryFilter(until=datetime(2015, 1, 1)))
        store.copy("gallery-york", EntryFilter(cities=["York"]))
        ```
    """

    path: str
    description: Description
    table: Table

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        description: Description,
        entries: Iterable[pa.RecordBatch],
        write_files: WriteFiles,
    ) -> GalleryStore:
        """Write a new gallery.

        Args:
            path: A folder, where a gallery that is there is replaced whole; or a URL, where none may be.
            description: What holds for the whole gallery.
            entries: Its rows in the columns of `entry_schema`; read batch by batch, so that they need not fit into
                memory.
            write_files: Writes `model/` into the folder it is given.

        Raises:
            InputError: Something else is there, or it cannot be written.
            DiskFullError: The disk filled; what was there before is as it was.
        """
        check_output(path)
        name, schema = os.fspath(path), entry_schema(description)
        if remote.is_url(name):
            with tempfile.TemporaryDirectory(prefix="swclip-gallery-") as folder:
                write_beside(Path(folder), write_files)
                remote.upload(Path(folder), name)
            write_table(name, name, schema, entries)
        else:
            with atomic_folder(name, MARKER) as beside:
                write_beside(beside, write_files)
                write_table(str(beside), name, schema, entries)
        return cls.open(name)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> GalleryStore:
        """Open a gallery at its last committed version.

        Raises:
            ArtefactError: No gallery is there, it is of another version, or its table is damaged.
        """
        name = os.fspath(path)
        check_marker(name)
        with lance_errors(name, f"the gallery's table cannot be opened; {AGAIN}"):
            database = connect(name)
            if TABLE not in database.list_tables().tables:
                raise ArtefactError(f"{name}: the gallery's table ({TABLE}.lance) is missing; {AGAIN}")
            table = database.open_table(TABLE)
            schema = table.schema
        description = Description.from_schema(schema, name)
        check_columns(schema, description, name)
        return cls(name, description, table)

    @property
    def schema(self) -> pa.Schema:
        """The columns that entries to be written must have."""
        return entry_schema(self.description)

    @property
    def version(self) -> int:
        """The table's version: one more with every change."""
        with lance_errors(self.path):
            return int(self.table.version)

    def count(self, where: EntryFilter | None = None) -> int:
        """How many entries there are, or of them meet conditions."""
        if where is not None and not where.exact:
            return len(self.read(["entry_id"], where))
        with lance_errors(self.path):
            return int(self.table.count_rows(None if where is None else where.sql()))

    def batches(
        self, columns: Sequence[str] | None = None, where: EntryFilter | None = None, rows: int = BATCH_ROWS
    ) -> Iterator[pa.RecordBatch]:
        """Read entries a part at a time, in no particular order.

        Args:
            columns: Which columns; None for all.
            where: Which entries; None for all.
            rows: At most so many at once.
        """
        wanted = list(self.schema.names if columns is None else columns)
        asked = wanted
        if where is not None and not where.exact:
            asked = [*wanted, *(name for name in ("lat_deg", "lon_deg") if name not in wanted)]
        with lance_errors(self.path):
            query = self.table.search().select(asked)
            if where is not None and (sql := where.sql()) is not None:
                query = query.where(sql)
            for batch in query.to_batches(rows):
                if where is not None and not where.exact:
                    batch = batch.filter(pa.array(where.keeps(positions_of(batch))))
                if batch.num_rows:
                    yield batch.select(wanted)

    def read(self, columns: Sequence[str] | None = None, where: EntryFilter | None = None) -> pa.Table:
        """Read entries, in no particular order; see `batches`."""
        wanted = list(self.schema.names if columns is None else columns)
        if where is None or where.exact:
            return self._scan(wanted, None if where is None else where.sql())
        schema = pa.schema([self.schema.field(name) for name in wanted])
        return pa.Table.from_batches([batch.cast(schema) for batch in self.batches(wanted, where)], schema)

    def there(self, image_ids: Sequence[str]) -> set[str]:
        """Which of these photographs the gallery holds."""
        few = len(image_ids) <= _IDS_IN_SQL
        where = EntryFilter(image_ids=image_ids) if few else EntryFilter(photographs=True)
        return set(self.read(["image_id"], where)["image_id"].to_pylist()) & set(image_ids)

    def append(self, entries: pa.Table, existing: Existing = "refuse") -> Change:
        """Put in new entries, in one commit.

        Args:
            entries: Rows of `schema`. `entry_id` is set here, and so is `candidate_id` where it is null; an entry at a
                position that the gallery has takes that candidate, its city and its location embedding.
            existing: What to do with a photograph that is there already: refuse all, or skip it.

        Raises:
            InputError: A photograph is there already and is not to be skipped, or is given twice; or another process
                put one in meanwhile.
        """
        if not len(entries):
            return Change(version=self.version)
        check_unique(entries, self.path)
        check_finite(entries, self.path)
        known = self.there([name for name in entries["image_id"].to_pylist() if name is not None])
        if known and existing == "refuse":
            raise InputError(
                f"{self.path}: {naming(sorted(known))} there already; replace with upsert, or skip what is there."
            )
        ready = self._settled(entries)
        if known:
            ready = ready.filter(pc.invert(holding(ready, known)))
        skipped = len(entries) - len(ready)
        if not len(ready):
            return Change(skipped=skipped, version=self.version)
        with lance_errors(self.path):
            done = self.table.merge_insert("entry_id").when_not_matched_insert_all().execute(ready, NULL_STAYS)
        if existing == "refuse" and done.num_inserted_rows < len(ready):
            raise InputError(
                f"{self.path}: {len(ready) - done.num_inserted_rows} of {len(ready)} entries were put in by another "
                "process meanwhile and stay as it wrote them; the others are in."
            )
        skipped += len(ready) - done.num_inserted_rows
        return Change(inserted=done.num_inserted_rows, skipped=skipped, version=done.version)

    def upsert(self, entries: pa.Table) -> Change:
        """Put in entries, replacing those of the same photographs, in one commit; see `append`."""
        if not len(entries):
            return Change(version=self.version)
        check_unique(entries, self.path)
        check_finite(entries, self.path)
        ready = self._settled(entries, replacing=True)
        skipped = len(entries) - len(ready)
        if not len(ready):
            return Change(skipped=skipped, version=self.version)
        with lance_errors(self.path):
            merge = self.table.merge_insert("entry_id").when_matched_update_all().when_not_matched_insert_all()
            done = merge.execute(ready, NULL_STAYS)
        return Change(done.num_inserted_rows, done.num_updated_rows, skipped=skipped, version=done.version)

    def delete(self, where: EntryFilter) -> Change:
        """Take out the entries that meet conditions, in one commit. A candidate goes with its last entry.

        Raises:
            InputError: There are no conditions, a photograph named is not there, or nothing would be left.
        """
        if where.empty:
            raise InputError(f"{self.path}: say which entries to delete; to delete all, remove the gallery itself.")
        missing = sorted(set(where.image_ids or ()) - self.there(list(where.image_ids or ())))
        if missing:
            raise InputError(f"{self.path}: {naming(missing)} not there; nothing was deleted.")
        if where.exact:
            sql = where.sql() or "true"
        else:
            sql = is_in("entry_id", self.read(["entry_id"], where)["entry_id"].to_pylist())
        with lance_errors(self.path):
            meant, all_rows = self.table.count_rows(sql), self.table.count_rows()
            if meant == all_rows:
                raise InputError(
                    f"{self.path}: all {all_rows} entries meet the conditions, and a gallery holds at least one; to "
                    "delete all, remove the gallery itself."
                )
            if not meant:
                return Change(version=self.version)
            done = self.table.delete(sql)
        return Change(deleted=meant, version=done.version)

    def merge(self, other: GalleryStore, existing: Literal["refuse", "ours", "theirs"] = "refuse") -> Change:
        """Put in all entries of another gallery of the same model, in one commit.

        Args:
            other: The other gallery; it stays as it is.
            existing: What to do with photographs that both hold: refuse, keep ours, or take theirs.

        Raises:
            MismatchError: Another model made it, or only one of them has measured its hubness.
            InputError: Both hold a photograph, and `existing` is refuse.
        """
        self.check_mergeable(other)
        entries = other.read()
        return (
            self.upsert(entries)
            if existing == "theirs"
            else self.append(entries, "refuse" if existing == "refuse" else "skip")
        )

    def check_mergeable(self, other: GalleryStore) -> None:
        """Raise MismatchError unless the entries of another gallery may be put into this one."""
        ours, theirs = self.description, other.description
        if ours.fingerprint != theirs.fingerprint:
            raise MismatchError(
                f"{self.path} was made by model {ours.fingerprint}, and {other.path} by model {theirs.fingerprint}: "
                "their embeddings cannot be compared. Embed the photographs of one with the model of the other: "
                f"swclip gallery append {self.path} MANIFEST"
            )
        if ours.hubness != theirs.hubness:
            with_it, without = (self.path, other.path) if ours.hubness else (other.path, self.path)
            raise MismatchError(
                f"{with_it} has its hubness measured and {without} has not; index {without} again with the run that "
                f"{with_it} was made by."
            )

    def copy(self, path: str | os.PathLike[str], where: EntryFilter | None = None) -> GalleryStore:
        """Write a new gallery of the entries that meet conditions, with the same model.

        Raises:
            InputError: No entry meets them; or as `create`.
        """
        if not self.count(where):
            raise InputError(f"{self.path}: no entry meets the conditions; nothing was written.")

        def write_files(folder: Path) -> None:
            with tempfile.TemporaryDirectory(prefix="swclip-model-") as cache:
                shutil.copytree(self.model_folder(Path(cache)) / "model", folder / "model")

        rows = (batch.cast(self.schema) for batch in self.batches(where=where))
        return type(self).create(path, self.description, rows, write_files)

    def model_folder(self, cache: Path) -> Path:
        """A local folder that holds `model/`: the gallery's own, or of a URL a copy in `cache`."""
        return remote.local_model(self.path, cache) if remote.is_url(self.path) else Path(self.path)

    def compact(self, older_than: timedelta = timedelta(days=7)) -> None:
        """Gather small and holed files into large ones, and drop versions of some age.

        Args:
            older_than: Versions older than this can no longer be read. Readers that opened one of them fail.
        """
        # Lance warns of 0; a millisecond is as much, and whoever asks for it has read what it means.
        with lance_errors(self.path):
            self.table.optimize(cleanup_older_than=max(older_than, timedelta(milliseconds=1)))

    def versions(self) -> list[dict[str, Any]]:
        """The versions that can still be read: version, timestamp (UTC), rows."""
        with lance_errors(self.path):
            found = self.table.list_versions()
        return [
            {
                "version": int(one["version"]),
                "timestamp": one["timestamp"],
                "rows": int(one["metadata"].get("total_rows", 0)),
            }
            for one in found
        ]

    def with_thumbnail(self) -> list[str]:
        """Ids of the photographs that have a thumbnail, in order."""
        return sorted(self._scan(["image_id"], "thumbnail IS NOT NULL")["image_id"].to_pylist())

    def thumbnail(self, image_id: str) -> bytes | None:
        """The thumbnail of a photograph (JPEG); None where there is none."""
        found = self.read(["thumbnail"], EntryFilter(image_ids=[image_id]))["thumbnail"].to_pylist()
        return found[0] if found else None

    def _settled(self, entries: pa.Table, *, replacing: bool = False) -> pa.Table:
        """Entries with the candidates of this gallery; see `settle`.

        Where they replace what is there, entries that are to go have no say: a candidate all of whose photographs are
        given anew takes their city and embedding, and keeps its name.
        """
        positions = positions_of(entries)
        box = box_sql(*positions.min(axis=0).tolist(), *positions.max(axis=0).tolist())
        light = self._scan(["candidate_id", "lat_deg", "lon_deg", "image_id"], box)
        light = light.filter(pa.array(np.isin(position_keys(positions_of(light)), position_keys(positions))))
        here = set(light["candidate_id"].to_pylist())
        if replacing:
            given = set(entries["image_id"].drop_null().to_pylist())
            going = holding(light, given)
            entries = renamed(entries, light.filter(going))
            light = light.filter(pc.invert(going))
        ids = sorted(set(light["candidate_id"].to_pylist()))
        known = self._scan([*SHARED, "image_id"], is_in("candidate_id", ids) if len(ids) <= _IDS_IN_SQL else box)
        if replacing:
            known = known.filter(
                pa.array([image_id not in given for image_id in known["image_id"].to_pylist()], pa.bool_())
            )
        named = sorted({name for name in entries["candidate_id"].to_pylist() if name is not None} - here)
        taken = self._scan(["candidate_id"], is_in("candidate_id", named) if len(named) <= _IDS_IN_SQL else None)
        return settle(entries, known, set(taken["candidate_id"].to_pylist()) - here).cast(self.schema)

    def _scan(self, columns: Sequence[str], sql: str | None) -> pa.Table:
        schema = pa.schema([self.schema.field(name) for name in columns])
        with lance_errors(self.path):
            query = self.table.search().select(list(columns))
            return (query if sql is None else query.where(sql)).to_arrow().cast(schema)
