"""Where the true positions of another tool's queries come from: its own table, or a manifest with or without splits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from swclip.data.manifest import Manifest
from swclip.data.splits import QuerySplit as On
from swclip.data.splits import Splits
from swclip.errors import InputError
from swclip.evaluation.evaluate import TRUE_COLUMNS, query_rows
from swclip.evaluation.report import Truth
from swclip.external.prediction_columns import ExternalTable

_DEEPEST = 6


@dataclass(frozen=True)
class Asked:
    """The photographs that were asked.

    Attributes:
        queries: Q rows: image_id, lat_deg, lon_deg (the truth), city, place_id, block_id, split.
        truth: Which position that is, for the record.
        complete: Whether these are all that were asked, so that one without a row was not answered. Where false, a
            photograph without a row was not asked.
        known: Every id and file name by which a photograph of the manifest may be called, and its image_id.
    """

    queries: pd.DataFrame
    truth: Truth
    complete: bool
    known: dict[str, str]

    def rows_of(self, names: Sequence[str], where: Callable[[int], str]) -> tuple[dict[str, int], int]:
        """Rows of the queries by the names that a table uses, and how many names are of photographs not asked.

        Args:
            names: Names in the table, each once.
            where: The row of a name in words.

        Raises:
            InputError: A name is no photograph's, or two names are one photograph's.
        """
        at_id = {image_id: at for at, image_id in enumerate(self.queries["image_id"])}
        found: dict[str, int] = {}
        taken: dict[int, str] = {}
        left_out = 0
        for number, name in enumerate(names):
            image_id = self.known.get(name)
            if image_id is None:
                raise InputError(
                    f"{where(number)}: {name!r} is no image_id, path or file name of the manifest; is it another "
                    "manifest, or another column?"
                )
            at = at_id.get(image_id)
            if at is None:
                left_out += 1
            elif at in taken:
                raise InputError(f"{where(number)}: {name!r} and {taken[at]!r} are the same photograph; keep one.")
            else:
                found[name], taken[at] = at, name
        return found, left_out

    def measured(self, row_of: dict[str, int]) -> tuple[pd.DataFrame, dict[str, int]]:
        """The queries to measure, and the row of each name in them: all, or the named ones where not all were asked."""
        if self.complete:
            return self.queries, row_of
        kept = np.array(sorted(row_of.values()), dtype=np.int64)
        return self.queries.iloc[kept].reset_index(drop=True), {
            name: int(np.searchsorted(kept, at)) for name, at in row_of.items()
        }


def asked_of(manifest: Manifest, splits: Splits | None = None, on: On = "query") -> Asked:
    """The photographs that were asked, of a manifest.

    Args:
        manifest: The photographs. Errors are measured against true_lat_deg and true_lon_deg where it has them.
        splits: Which of them were asked; without it, those that the table names.
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
    return Asked(queries, truth, splits is not None, names_of(manifest))


def names_of(manifest: Manifest) -> dict[str, str]:
    """Every name that a photograph of a manifest may go by in another tool's table, and its image_id.

    Its image_id; its path as the manifest has it; its absolute path; the end of that, from the file name up to
    `_DEEPEST` parts, with and without the ending. A name that two photographs share is nobody's; an image_id never is.
    """
    found: dict[str, str | None] = {}
    ids = [str(image_id) for image_id in manifest.frame["image_id"]]
    for image_id, path, file in zip(ids, manifest.frame["image_path"], manifest.image_paths, strict=True):
        parts = file.parts[-_DEEPEST:]
        tails = {"/".join(parts[at:]) for at in range(len(parts))}
        for name in {str(path), str(file), *tails, *(tail.removesuffix(file.suffix) for tail in tails)}:
            found[name] = image_id if found.get(name, image_id) == image_id else None
    return {
        **{name: image_id for name, image_id in found.items() if image_id is not None},
        **dict(zip(ids, ids, strict=True)),
    }


def truth_of_rows(table: ExternalTable, lines: Int64[np.ndarray, " q"]) -> Float64[np.ndarray, "q 2"]:
    """True positions that a table itself has, of some of its rows.

    Raises:
        InputError: One is missing.
    """
    truth: Float64[np.ndarray, "q 2"] = table.positions("lat", "lon", "true position")[lines]
    if np.isnan(truth).any():
        at = int(lines[np.flatnonzero(np.isnan(truth[:, 0]))[0]])
        raise InputError(f"{table.where(at, 'lat')}: the true position is empty; every query needs one.")
    return truth
