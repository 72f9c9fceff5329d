"""A gallery on disk: every change of its table is one commit, and readers see whole commits only.

    GALLERY/gallery.json       marks the folder as a gallery and states the version
    GALLERY/entries.lance/     the table; see `swclip.gallery.schema`
    GALLERY/model/             the model that made the embeddings, with its calibration and bank of queries

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

import pyarrow as pa
import pyarrow.compute as pc

from swclip.errors import ArtefactError, InputError
from swclip.gallery import ann
from swclip.gallery.assign_candidates import (
    MAX_IDS_IN_SQL,
    NULL_STAYS,
    assign_to_table,
    check_finite,
    check_unique,
    holding,
    naming,
    positions_of,
)
from swclip.gallery.filters import EntryFilter, is_in
from swclip.gallery.folder import (
    AGAIN,
    TABLE,
    WriteFiles,
    check_marker,
    local_model,
    new_gallery,
    write_table,
)
from swclip.gallery.index_build import follow_rows
from swclip.gallery.schema import Description, check_columns, entry_schema
from swclip.gallery.vector_index import INDICES, columns_of
from swclip.lance_tables import connect, has_table, is_url, lance_errors

if TYPE_CHECKING:
    from lancedb.table import Table

BATCH_ROWS = 4096

Existing = Literal["refuse", "skip"]


@dataclass(frozen=True)
class Change:
    """Counts of a change.

    Attributes:
        inserted: New entries.
        updated: Replaced entries.
        deleted: Deleted entries.
        skipped: Entries that existed already and are unchanged.
        version: The table's version after the change.
    """

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    skipped: int = 0
    version: int = 0


@dataclass(frozen=True, eq=False)
class GalleryStore:
    """An open gallery. Make one with `create` or `open`.

    Attributes:
        path: The folder, or the URL.
        description: Fingerprint, dimension and metadata of the whole gallery.
        table: Lance's table, for indices and queries by vector.

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
            path: A folder, where an existing gallery is replaced whole; or a URL, where none may exist.
            description: Fingerprint, dimension and metadata of the whole gallery.
            entries: Its rows in the columns of `entry_schema`; read batch by batch, so that they need not fit into
                memory.
            write_files: Writes `model/` into a folder.

        Raises:
            InputError: Something else exists at the path, or it cannot be written.
            DiskFullError: The disk is full; an existing gallery is unchanged.
        """
        name = os.fspath(path)
        with new_gallery(name, write_files) as location:
            write_table(location, name, entry_schema(description), entries)
        return cls.open(name)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> GalleryStore:
        """Open a gallery at its last committed version.

        Raises:
            ArtefactError: There is no gallery, it is of another version, or its table is damaged.
        """
        name = os.fspath(path)
        check_marker(name)
        with lance_errors(name, f"the gallery's table cannot be opened; {AGAIN}"):
            if not has_table(name, TABLE):
                raise ArtefactError(f"{name}: the gallery's table ({TABLE}.lance) is missing; {AGAIN}")
            table = connect(name).open_table(TABLE)
            schema = table.schema
        description = Description.from_schema(schema, name)
        check_columns(schema, description, name)
        return cls(name, description, table)

    @property
    def schema(self) -> pa.Schema:
        """The columns that new entries must have."""
        return entry_schema(self.description)

    @property
    def indices(self) -> Path | None:
        """The folder of the indices (`swclip.gallery.vector_index`); None at a URL, where there are none."""
        return None if is_url(self.path) else Path(self.path) / INDICES

    @property
    def version(self) -> int:
        """The table's version: one more with every change."""
        with lance_errors(self.path):
            return int(self.table.version)

    def count(self, where: EntryFilter | None = None) -> int:
        """The number of entries, or of those that meet conditions."""
        if where is not None and not where.exact:
            return len(self.read(["entry_id"], where))
        with lance_errors(self.path):
            return int(self.table.count_rows(None if where is None else where.sql()))

    def batches(
        self, columns: Sequence[str] | None = None, where: EntryFilter | None = None, rows: int = BATCH_ROWS
    ) -> Iterator[pa.RecordBatch]:
        """Read entries in batches, in no particular order.

        Args:
            columns: The columns; None for all.
            where: The entries; None for all.
            rows: Largest number of rows in a batch.
        """
        names = list(self.schema.names if columns is None else columns)
        read = names
        if where is not None and not where.exact:
            read = [*names, *(name for name in ("lat_deg", "lon_deg") if name not in names)]
        with lance_errors(self.path):
            query = self.table.search().select(read)
            if where is not None and (sql := where.sql()) is not None:
                query = query.where(sql)
            for batch in query.to_batches(rows):
                if where is not None and not where.exact:
                    batch = batch.filter(pa.array(where.keeps(positions_of(batch))))
                if batch.num_rows:
                    yield batch.select(names)

    def read(self, columns: Sequence[str] | None = None, where: EntryFilter | None = None) -> pa.Table:
        """Read entries, in no particular order; see `batches`."""
        names = list(self.schema.names if columns is None else columns)
        if where is None or where.exact:
            return self._scan(names, None if where is None else where.sql())
        schema = pa.schema([self.schema.field(name) for name in names])
        return pa.Table.from_batches([batch.cast(schema) for batch in self.batches(names, where)], schema)

    def existing(self, image_ids: Sequence[str]) -> set[str]:
        """The photographs among these that are in the gallery."""
        few = len(image_ids) <= MAX_IDS_IN_SQL
        where = EntryFilter(image_ids=image_ids) if few else EntryFilter(photographs=True)
        return set(self.read(["image_id"], where)["image_id"].to_pylist()) & set(image_ids)

    def append(self, entries: pa.Table, existing: Existing = "refuse") -> Change:
        """Insert new entries, in one commit.

        Args:
            entries: Rows of `schema`. `entry_id` is set here, and so is `candidate_id` where it is null; an entry at
                the position of an existing candidate takes that candidate, its city and its location embedding.
            existing: Treatment of a photograph that exists already: refuse all entries, or skip it.

        Raises:
            InputError: A photograph exists already and is not to be skipped, or occurs twice; or another process
                inserted one meanwhile.
        """
        if not len(entries):
            return Change(version=self.version)
        check_unique(entries, self.path)
        check_finite(entries, self.path)
        duplicates = self.existing([name for name in entries["image_id"].to_pylist() if name is not None])
        if duplicates and existing == "refuse":
            raise InputError(
                f"{self.path}: {naming(sorted(duplicates))} in the gallery already; use upsert, or skip existing ones."
            )
        ready = self._assigned(entries)
        if duplicates:
            ready = ready.filter(pc.invert(holding(ready, duplicates)))
        skipped = len(entries) - len(ready)
        if not len(ready):
            return Change(skipped=skipped, version=self.version)
        with lance_errors(self.path):
            done = self.table.merge_insert("entry_id").when_not_matched_insert_all().execute(ready, NULL_STAYS)
        if existing == "refuse" and done.num_inserted_rows < len(ready):
            raise InputError(
                f"{self.path}: {len(ready) - done.num_inserted_rows} of {len(ready)} entries were inserted by another "
                "process meanwhile and are unchanged; the others were inserted."
            )
        skipped += len(ready) - done.num_inserted_rows
        return Change(inserted=done.num_inserted_rows, skipped=skipped, version=done.version)

    def upsert(self, entries: pa.Table) -> Change:
        """Insert entries, replacing those of the same photographs, in one commit; see `append`."""
        if not len(entries):
            return Change(version=self.version)
        check_unique(entries, self.path)
        check_finite(entries, self.path)
        ready = self._assigned(entries, replacing=True)
        skipped = len(entries) - len(ready)
        if not len(ready):
            return Change(skipped=skipped, version=self.version)
        with lance_errors(self.path):
            merge = self.table.merge_insert("entry_id").when_matched_update_all().when_not_matched_insert_all()
            done = merge.execute(ready, NULL_STAYS)
        return Change(done.num_inserted_rows, done.num_updated_rows, skipped=skipped, version=done.version)

    def delete(self, where: EntryFilter) -> Change:
        """Delete the entries that meet conditions, in one commit. A candidate is deleted with its last entry.

        Raises:
            InputError: There are no conditions, a named photograph does not exist, or no entry would remain.
        """
        if where.empty:
            raise InputError(
                f"{self.path}: give conditions for the entries to delete; to delete all, remove the gallery itself."
            )
        missing = sorted(set(where.image_ids or ()) - self.existing(list(where.image_ids or ())))
        if missing:
            raise InputError(f"{self.path}: {naming(missing)} not in the gallery; nothing was deleted.")
        if where.exact:
            sql = where.sql() or "true"
        else:
            sql = is_in("entry_id", self.read(["entry_id"], where)["entry_id"].to_pylist())
        with lance_errors(self.path):
            meant, all_rows = self.table.count_rows(sql), self.table.count_rows()
            if meant == all_rows:
                raise InputError(
                    f"{self.path}: all {all_rows} entries meet the conditions, and a gallery needs at least one; to "
                    "delete all, remove the gallery itself."
                )
            if not meant:
                return Change(version=self.version)
            done = self.table.delete(sql)
        return Change(deleted=meant, version=done.version)

    def merge(self, other: GalleryStore, existing: Literal["refuse", "ours", "theirs"] = "refuse") -> Change:
        """Insert all entries of another gallery of the same model, in one commit.

        Args:
            other: The other gallery; it is unchanged.
            existing: Treatment of photographs that both hold: refuse, keep ours, or take theirs.

        Raises:
            MismatchError: Another model made it, or hubness was measured, or patch features are stored, for only one of
                them.
            InputError: Both hold a photograph, and `existing` is refuse.
        """
        self.description.check_mergeable(other.description, self.path, other.path)
        entries = other.read()
        return (
            self.upsert(entries)
            if existing == "theirs"
            else self.append(entries, "refuse" if existing == "refuse" else "skip")
        )

    def copy(self, path: str | os.PathLike[str], where: EntryFilter | None = None) -> GalleryStore:
        """Write a new gallery of the entries that meet conditions, with the same model.

        Raises:
            InputError: No entry meets them, or the path cannot be written.
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
        return local_model(self.path, cache) if is_url(self.path) else Path(self.path)

    def compact(self, older_than: timedelta = timedelta(days=7)) -> None:
        """Rewrite small files and files with deleted rows, and drop old versions.

        Args:
            older_than: Versions older than this can no longer be read. Readers that opened one of them fail.
        """
        indices = self.indices if self.indices is not None and columns_of(self.indices) else None
        with lance_errors(self.path):
            before = None if indices is None else ann.rows(self.table, ["entry_id"])
            # Lance warns of 0, and a millisecond has the same effect.
            self.table.optimize(cleanup_older_than=max(older_than, timedelta(milliseconds=1)))
            if indices is not None:
                follow_rows(indices, before, ann.rows(self.table, ["entry_id"]))

    def versions(self) -> list[dict[str, Any]]:
        """The versions that can still be read: version, timestamp (UTC), rows."""
        with lance_errors(self.path):
            versions = self.table.list_versions()
        return [
            {
                "version": int(version["version"]),
                "timestamp": version["timestamp"],
                "rows": int(version["metadata"].get("total_rows", 0)),
            }
            for version in versions
        ]

    def with_thumbnail(self) -> list[str]:
        """Ids of the photographs that have a thumbnail, in order."""
        return sorted(self._scan(["image_id"], "thumbnail IS NOT NULL")["image_id"].to_pylist())

    def thumbnail(self, image_id: str) -> bytes | None:
        """The thumbnail of a photograph (JPEG); None where it has none."""
        thumbnails = self.read(["thumbnail"], EntryFilter(image_ids=[image_id]))["thumbnail"].to_pylist()
        return thumbnails[0] if thumbnails else None

    def _assigned(self, entries: pa.Table, *, replacing: bool = False) -> pa.Table:
        """Entries with the candidates of this gallery; see `assign_to_table`."""
        return assign_to_table(entries, self._scan, replacing=replacing).cast(self.schema)

    def _scan(self, columns: Sequence[str], sql: str | None) -> pa.Table:
        schema = pa.schema([self.schema.field(name) for name in columns])
        with lance_errors(self.path):
            query = self.table.search().select(list(columns))
            return (query if sql is None else query.where(sql)).to_arrow().cast(schema)
