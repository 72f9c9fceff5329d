"""Write a gallery's table in fragments, by many tasks, and commit them together.

A fragment is a file of rows that no reader sees until a commit names it. The tasks import no torch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import pyarrow as pa
import pyarrow.compute as pc

from swclip.gallery.folder import TABLE
from swclip.lance_tables import lance_errors, storage_options
from swclip.scale.decode import FAILURE, NUMBER


@dataclass(frozen=True)
class Fragments:
    """Fragments of a new gallery's table, and their commit.

    Attributes:
        location: The folder or URL that the table is written into.
        name: The gallery's name in messages.
        schema: The columns.
    """

    location: str
    name: str
    schema: pa.Schema

    @property
    def table(self) -> str:
        """The path or URL of the table."""
        return f"{self.location}/{TABLE}.lance"

    def write(self, entries: pa.Table) -> list[str]:
        """Write entries without a commit, and return the fragments as JSON."""
        from lance.fragment import write_fragments

        if not len(entries):
            return []
        with lance_errors(self.name):
            entries = entries.select(self.schema.names).cast(self.schema)
            written = write_fragments(
                entries, self.table, schema=self.schema, storage_options=storage_options(self.table)
            )
        return [json.dumps(fragment.to_json()) for fragment in written]

    def commit(self, fragments: Sequence[str], schema: pa.Schema) -> None:
        """Make fragments the table.

        Args:
            fragments: What `write` returned, in the order of the rows.
            schema: The columns, with the gallery's description.
        """
        import lance

        with lance_errors(self.name):
            parts = [lance.FragmentMetadata.from_json(fragment) for fragment in fragments]
            operation = lance.LanceOperation.Overwrite(schema, parts)
            table = lance.LanceDataset.commit(self.table, operation, storage_options=storage_options(self.table))
            # Files of tasks that were lost after they had written; nobody else writes a new gallery.
            table.cleanup_old_versions(timedelta(0), delete_unverified=True)


def write_fragment(rows: pa.Table, fragments: Fragments) -> pa.Table:
    """Write embedded rows, in a task.

    Args:
        rows: `number`, `failure` (why a photograph cannot be decoded) and the columns of the table.
        fragments: Where to.

    Returns:
        One row: the numbers of all rows, those that failed with the reasons, and the fragments as JSON.
    """
    failed = rows.filter(pc.is_valid(rows[FAILURE]))
    written = fragments.write(rows.filter(pc.is_null(rows[FAILURE])))
    columns = {
        "numbers": ([rows[NUMBER].to_pylist()], pa.list_(pa.int64())),
        "failed": ([failed[NUMBER].to_pylist()], pa.list_(pa.int64())),
        "reasons": ([failed[FAILURE].to_pylist()], pa.list_(pa.string())),
        "fragments": ([written], pa.list_(pa.string())),
    }
    return pa.table({name: pa.array(values, kind) for name, (values, kind) in columns.items()})
