"""Evaluation tasks from another tool's vectors: photographs, splits with candidates, and the gallery's vectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float32, Float64, Int64

from swclip.data.candidates import candidates_at
from swclip.data.manifest import COLUMNS, Manifest
from swclip.data.splits import QuerySplit, Splits, candidates_for, indices
from swclip.errors import ConfigError, InputError
from swclip.evaluation.evaluate import query_rows
from swclip.external.embeddings import VectorSet, check_dimensions
from swclip.external.ground_truth import names_of
from swclip.geo.neighbours import SphereIndex
from swclip.metrics.districts import resampling_blocks

_TRAINING_SIDE: dict[str, tuple[str, ...]] = {"val": ("train",), "query": ("train", "val")}


@dataclass(frozen=True)
class VectorTask:
    """Queries and gallery with their vectors.

    Attributes:
        manifest: The photographs; only in memory for vectors with positions of their file.
        splits: Their splits.
        vector_of: Row in the vectors of each photograph of the manifest, -1 where it has none.
        vectors: (N, D) vectors, not normalised.
        leakage: Queries that are in the gallery, by id and by identical vector.
    """

    manifest: Manifest
    splits: Splits
    vector_of: Int64[np.ndarray, " r"]
    vectors: Float32[np.ndarray, "n d"]
    leakage: dict[str, Any]

    def rows(self, on: QuerySplit) -> Int64[np.ndarray, " q"]:
        """Rows of the queries' vectors, in the manifest's order; InputError where one is missing."""
        return self._vector_rows(query_rows(self.splits, self.manifest, on), "queries")

    def gallery_rows(self, on: QuerySplit) -> tuple[pd.DataFrame, Int64[np.ndarray, " p"], Int64[np.ndarray, " p"]]:
        """The candidates, the rows of their photographs' vectors, and the candidate of each photograph."""
        candidates, ids = photographs_by_candidate(self.manifest, self.splits, on)
        at_id = {image_id: row for row, image_id in enumerate(self.manifest.frame["image_id"])}
        photographs = np.array([at_id[name] for names in ids for name in names], dtype=np.int64)
        rows = self._vector_rows(photographs, "gallery")
        candidate_of = np.repeat(np.arange(len(ids)), [len(names) for names in ids])
        return candidates.assign(image_ids=pd.Series(ids, index=candidates.index, dtype=object)), rows, candidate_of

    def _vector_rows(self, photographs: Int64[np.ndarray, " q"], role: str) -> Int64[np.ndarray, " q"]:
        rows: Int64[np.ndarray, " q"] = self.vector_of[photographs]
        if (rows < 0).any():
            at = int(photographs[np.flatnonzero(rows < 0)[0]])
            raise InputError(
                f"{int((rows < 0).sum())} of {len(photographs)} photographs of the {role} have no vector, the first is "
                f"{self.manifest.frame['image_id'][at]!r}; embed them too, or split without them."
            )
        return rows


def photographs_by_candidate(
    manifest: Manifest, splits: Splits, on: QuerySplit
) -> tuple[pd.DataFrame, list[list[str]]]:
    """The photographs of each candidate, for image search.

    These are the photographs of the candidates in the splits. Where candidates have none (a grid, or positions alone),
    each photograph of the training side is assigned to its nearest candidate.

    Args:
        manifest: The photographs.
        splits: Their splits.
        on: The queries, "query" or "val".

    Returns:
        The candidates, and the image ids of each.

    Raises:
        InputError: There are no photographs on the training side.
    """
    candidates = candidates_for(splits, on)
    ids = [[str(name) for name in names] for names in candidates["image_ids"]]
    if any(ids):
        return candidates, ids
    side = [indices(splits, manifest, name) for name in ("train", "val") if name in _TRAINING_SIDE[on]]
    rows = np.sort(np.concatenate(side))
    if len(rows) == 0:
        raise InputError(f"{splits.path}: there are no photographs to search among; split with a larger training side.")
    index = SphereIndex(candidates[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64))
    _, nearest = index.nearest(manifest.positions_deg[rows], k=1)
    names = manifest.frame["image_id"].to_numpy(dtype=object)[rows]
    for name, at in zip(names, nearest[:, 0], strict=True):
        ids[int(at)].append(str(name))
    return candidates, ids


def manifest_task(vectors: VectorSet, manifest: Manifest, splits: Splits) -> VectorTask:
    """Task of a manifest's photographs and splits.

    Args:
        vectors: Vectors with image_ids, paths or file names of the manifest as ids; other ids are left out.
        manifest: The photographs.
        splits: Their splits.

    Raises:
        InputError: No id is of the manifest, or two ids are of the same photograph.
    """
    image_id_of = names_of(manifest)
    at_id = {image_id: row for row, image_id in enumerate(manifest.frame["image_id"])}
    vector_of = np.full(len(manifest), -1, dtype=np.int64)
    unmatched = 0
    for at, name in enumerate(vectors.ids):
        image_id = image_id_of.get(name)
        if image_id is None:
            unmatched += 1
            continue
        if vector_of[at_id[image_id]] >= 0:
            other = vectors.ids[int(vector_of[at_id[image_id]])]
            raise InputError(f"{vectors.name}, row {vectors.rows[at]}: {name!r} and {other!r} are the same photograph.")
        vector_of[at_id[image_id]] = at
    if unmatched == len(vectors.ids):
        raise InputError(
            f"{vectors.name}: none of its ids ({vectors.ids[0]!r}, ...) is an image_id, path or file name of "
            f"{manifest.path}."
        )
    task = VectorTask(manifest, splits, vector_of, vectors.vectors, {})
    queries, (_, gallery, _) = task.rows("query"), task.gallery_rows("query")
    leakage = vector_leakage(vectors.ids, vectors.vectors, queries, gallery)
    return replace(task, leakage={**leakage, "vectors_not_of_the_manifest": unmatched})


def standalone_task(
    queries: VectorSet, gallery: VectorSet | None, *, val_share: float = 0.0, seed: int = 0
) -> VectorTask:
    """Task of vectors with positions and roles.

    Args:
        queries: Vectors of queries, and of further roles where it has them.
        gallery: Vectors of the gallery, where they are separate.
        val_share: Share of the queries that become validation queries, in whole blocks; they are not measured.
        seed: Seed of the draw of validation queries.

    Raises:
        InputError: There are no queries or no gallery, dimensions differ, or ids repeat.
        ConfigError: The share is not between 0 and 1, or there are validation queries already.
    """
    sets = [queries] if gallery is None else [queries, gallery]
    if gallery is not None:
        check_dimensions(queries, gallery)
    roles = [role for vector_set in sets for role in vector_set.roles]
    ids = [name for vector_set in sets for name in vector_set.ids]
    counts = Counter(roles)
    for role, description in (("query", "query"), ("gallery", "row of the gallery")):
        if not counts[role]:
            available = ", ".join(f"{count} {name}" for name, count in counts.items())
            names = " and ".join(vector_set.name for vector_set in sets)
            raise InputError(f"{names}: there is no {description} ({available}).")
    if repeated := [key for key, count in Counter(zip(roles, ids, strict=True)).items() if count > 1]:
        raise InputError(
            f"{sets[-1].name}: {repeated[0][1]!r} occurs twice in the role {repeated[0][0]}; ids must be unique."
        )
    vectors = np.concatenate([vector_set.vectors for vector_set in sets])
    label = np.array(roles, dtype=object)
    frame = _frame(sets, ids, label)
    if val_share:
        label = _with_validation(frame, label, val_share, seed)
    # A manifest and splits in memory, so that the vectors are measured by the same code as a run.
    split_of = {"gallery": "train", "query": "query", "val": "val"}
    manifest = Manifest(Path(queries.name), frame.drop(columns=["block_id"]))
    candidates = candidates_at(manifest.frame, label == "gallery", label == "gallery")
    rows = pd.DataFrame(
        {
            "image_id": frame["image_id"],
            "split": pd.Series([split_of[role] for role in label], dtype=object),
            "block_id": frame["block_id"],
        }
    )
    meta = {
        "protocol": "given vectors",
        "seed": seed,
        "parameters": {"val_share": val_share},
        "manifest_digest": manifest.digest,
        "counts": {name: int((rows["split"] == name).sum()) for name in ("train", "val", "query")},
    }
    query_numbers, gallery_numbers = (np.flatnonzero(label == role) for role in ("query", "gallery"))
    splits = Splits(Path(queries.name), rows, candidates, meta)
    leakage = vector_leakage(ids, vectors, query_numbers, gallery_numbers)
    return VectorTask(manifest, splits, np.arange(len(ids)), vectors, leakage)


def vector_leakage(
    ids: Sequence[str],
    vectors: Float32[np.ndarray, "n d"],
    queries: Int64[np.ndarray, " q"],
    gallery: Int64[np.ndarray, " p"],
) -> dict[str, Any]:
    """Queries that are in the gallery, by id and by identical vector.

    Args:
        ids: N ids.
        vectors: (N, D) vectors.
        queries: (Q,) rows of the queries.
        gallery: (P,) rows of the gallery.

    Returns:
        n_queries, same_id and same_vector (each a count and at most 20 ids), and `warnings`.
    """
    names = {ids[row] for row in gallery}
    seen = {vectors[row].tobytes() for row in gallery}
    same_id = [ids[row] for row in queries if ids[row] in names]
    same_vector = [ids[row] for row in queries if vectors[row].tobytes() in seen]
    warnings = []
    for leaked, how in ((same_id, "by id"), (same_vector, "with an identical vector")):
        if leaked:
            warnings.append(
                f"{len(leaked)} of {len(queries)} queries are in the gallery {how} (the first is {leaked[0]!r}): the "
                "figures are optimistically biased."
            )
    return {
        "n_queries": len(queries),
        "same_id": {"count": len(same_id), "image_ids": same_id[:20]},
        "same_vector": {"count": len(same_vector), "image_ids": same_vector[:20]},
        "warnings": warnings,
    }


def _frame(sets: Sequence[VectorSet], ids: list[str], label: np.ndarray[Any, Any]) -> pd.DataFrame:
    """The rows of a manifest; a gallery row with the id of a query is renamed."""
    query_ids = {name for name, role in zip(ids, label, strict=True) if role == "query"}
    unique_ids = [
        name if role == "query" or name not in query_ids else f"{name} ({role})"
        for name, role in zip(ids, label, strict=True)
    ]
    positions: Float64[np.ndarray, "n 2"] = np.concatenate([_positions(vector_set) for vector_set in sets])

    def joined(values: Iterable[list[str | None]]) -> pd.Series[Any]:
        return pd.Series([value for column in values for value in column], dtype=object)

    columns: dict[str, Any] = {
        "image_id": pd.Series(unique_ids, dtype=object),
        "image_path": pd.Series(ids, dtype=object),
        "lat_deg": positions[:, 0],
        "lon_deg": positions[:, 1],
        "city": joined(vector_set.cities for vector_set in sets),
        "place_id": joined(vector_set.places for vector_set in sets),
    }
    blank: dict[str, Any] = {
        "accuracy_m": np.full(len(ids), np.nan),
        "heading_deg": np.full(len(ids), np.nan),
        "captured_at": np.full(len(ids), np.datetime64("NaT"), dtype="datetime64[ms]"),
    }
    empty = pd.Series([None] * len(ids), dtype=object)
    frame = pd.DataFrame({name: columns.get(name, blank.get(name, empty)) for name in COLUMNS})
    return frame.assign(block_id=joined(vector_set.blocks for vector_set in sets))


def _positions(vector_set: VectorSet) -> Float64[np.ndarray, "n 2"]:
    if vector_set.positions_deg is None:
        raise InputError(f"{vector_set.name}: has no positions; read it with positions.")
    return vector_set.positions_deg


def _with_validation(
    frame: pd.DataFrame, label: np.ndarray[Any, Any], share: float, seed: int
) -> np.ndarray[Any, np.dtype[np.object_]]:
    """Labels where whole blocks with about a share of the queries are validation queries."""
    if not 0.0 < share < 1.0:
        raise ConfigError(f"the share of validation is {share}; it must be at least 0 and below 1.")
    if (label == "val").any():
        raise ConfigError("there are validation queries already; leave --val-share out.")
    rows = np.flatnonzero(label == "query")
    queries = frame.iloc[rows].reset_index(drop=True)
    blocks, _ = resampling_blocks(queries, queries[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64))
    order = np.random.default_rng(seed).permutation(sorted(set(blocks)))
    drawn: set[str] = set()
    sizes, taken = Counter(blocks), 0
    for block in order.tolist():
        if taken >= share * len(rows) or taken + sizes[block] >= len(rows):
            break
        drawn.add(block)
        taken += sizes[block]
    if not drawn:
        raise InputError(
            f"the {len(rows)} queries are in {len(sizes)} blocks, too few to use some for validation; leave "
            "--val-share out."
        )
    changed = label.copy()
    changed[rows[[block in drawn for block in blocks]]] = "val"
    return changed
