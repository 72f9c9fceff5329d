"""True positions of another tool's queries: from its table, or from a manifest with or without splits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from swclip.data.manifest import Manifest
from swclip.data.splits import QuerySplit, Splits
from swclip.errors import InputError
from swclip.evaluation.evaluate import TRUE_COLUMNS, query_rows
from swclip.evaluation.report import Truth
from swclip.external.prediction_columns import TRUE, ExternalTable

_MAX_PARTS = 6


@dataclass(frozen=True)
class QuerySet:
    """The queries that a tool was given.

    Attributes:
        queries: Q rows: image_id, lat_deg, lon_deg (the truth), city, place_id, block_id, split.
        truth: Kind of the true positions, for the report.
        complete: Whether `queries` are exactly the queries, so that one without a row is unanswered. If False, only the
            photographs with a row are queries.
        image_id_of: image_id by each name of a photograph of the manifest; see `names_of`.
    """

    queries: pd.DataFrame
    truth: Truth
    complete: bool
    image_id_of: dict[str, str]

    def rows_of(self, names: Sequence[str], where: Callable[[int], str]) -> tuple[dict[str, int], int]:
        """Rows of the queries by the names in a table, and the number of names of other photographs.

        Args:
            names: Distinct names in the table.
            where: Describes the row of a name in messages.

        Raises:
            InputError: A name is of no photograph, or two names are of the same photograph.
        """
        at_id = {image_id: at for at, image_id in enumerate(self.queries["image_id"])}
        row_of: dict[str, int] = {}
        name_of: dict[int, str] = {}
        left_out = 0
        for number, name in enumerate(names):
            image_id = self.image_id_of.get(name)
            if image_id is None:
                raise InputError(
                    f"{where(number)}: {name!r} is not an image_id, path or file name of the manifest; check the "
                    "manifest and the column."
                )
            at = at_id.get(image_id)
            if at is None:
                left_out += 1
            elif at in name_of:
                raise InputError(f"{where(number)}: {name!r} and {name_of[at]!r} are the same photograph; keep one.")
            else:
                row_of[name], name_of[at] = at, name
        return row_of, left_out

    def measured(self, row_of: dict[str, int]) -> tuple[pd.DataFrame, dict[str, int]]:
        """The queries to measure, and the row of each name: all queries if complete, else the named ones."""
        if self.complete:
            return self.queries, row_of
        kept = np.array(sorted(row_of.values()), dtype=np.int64)
        return self.queries.iloc[kept].reset_index(drop=True), {
            name: int(np.searchsorted(kept, at)) for name, at in row_of.items()
        }


def query_set(manifest: Manifest, splits: Splits | None = None, on: QuerySplit = "query") -> QuerySet:
    """The queries of a manifest.

    Args:
        manifest: The photographs. Errors are measured against true_lat_deg and true_lon_deg where it has them.
        splits: Splits that define the queries; None for the photographs in the table.
        on: "query" or "val".

    Raises:
        InputError: No photograph is in the split, or a true position is missing.
        MismatchError: The splits were made from another manifest.
    """
    rows = np.arange(len(manifest)) if splits is None else query_rows(splits, manifest, on)
    frame = manifest.frame.iloc[rows].reset_index(drop=True)
    truth = Truth(position="recorded", columns="lat_deg, lon_deg")
    positions: Float64[np.ndarray, "q 2"] = frame[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64)
    if all(name in frame for name in TRUE_COLUMNS):
        positions = frame[list(TRUE_COLUMNS)].to_numpy(dtype=np.float64)
        truth = Truth(position="true", columns=", ".join(TRUE_COLUMNS))
        if not np.isfinite(positions).all():
            at = int(np.flatnonzero(~np.isfinite(positions).all(axis=1))[0])
            raise InputError(
                f"{manifest.path}: photograph {frame['image_id'][at]!r} has no {' and '.join(TRUE_COLUMNS)}; fill "
                "these columns for all queries, or drop them."
            )
    blocks: list[str | None] = [None] * len(frame)
    if splits is not None:
        block_of = dict(zip(splits.frame["image_id"], splits.frame["block_id"], strict=True))
        blocks = [block_of[image_id] for image_id in frame["image_id"]]
    queries = pd.DataFrame(
        {
            "image_id": frame["image_id"],
            "lat_deg": positions[:, 0],
            "lon_deg": positions[:, 1],
            "city": frame["city"],
            "place_id": frame["place_id"],
            "block_id": pd.Series(blocks, dtype=object),
            "split": on if splits is not None else "query",
        }
    )
    return QuerySet(queries, truth, splits is not None, names_of(manifest))


def names_of(manifest: Manifest) -> dict[str, str]:
    """image_id by each name that another tool's table may use for a photograph of a manifest.

    Names are: its image_id; its path in the manifest; its absolute path; the last 1 to `_MAX_PARTS` parts of that, with
    and without the suffix. A name shared by two photographs is left out, except where it is an image_id.
    """
    image_id_of: dict[str, str | None] = {}
    ids = [str(image_id) for image_id in manifest.frame["image_id"]]
    for image_id, path, file in zip(ids, manifest.frame["image_path"], manifest.image_paths, strict=True):
        parts = file.parts[-_MAX_PARTS:]
        tails = {"/".join(parts[at:]) for at in range(len(parts))}
        for name in {str(path), str(file), *tails, *(tail.removesuffix(file.suffix) for tail in tails)}:
            image_id_of[name] = image_id if image_id_of.get(name, image_id) == image_id else None
    return {
        **{name: image_id for name, image_id in image_id_of.items() if image_id is not None},
        **dict(zip(ids, ids, strict=True)),
    }


def truth_of_rows(table: ExternalTable, lines: Int64[np.ndarray, " q"]) -> Float64[np.ndarray, "q 2"]:
    """True positions in a table, for the rows `lines`.

    Raises:
        InputError: A position is missing.
    """
    truth: Float64[np.ndarray, "q 2"] = table.positions(TRUE, "true position")[lines]
    if np.isnan(truth).any():
        at = int(lines[np.flatnonzero(np.isnan(truth[:, 0]))[0]])
        raise InputError(f"{table.where_position(at, TRUE)}: the true position is empty; every query needs one.")
    return truth
