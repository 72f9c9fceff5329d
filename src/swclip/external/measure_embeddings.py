"""From another tool's vectors to what an evaluation asks for: photographs, splits with candidates, and a gallery."""

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
class Problem:
    """What is asked of which gallery, with vectors for all.

    Attributes:
        manifest: The photographs. Of vectors that came with their own positions it exists in memory alone.
        splits: Their splits, likewise.
        vector_of: Row in the vectors of each photograph of the manifest, -1 where it has none.
        vectors: (N, D) float32, as they were written.
        leakage: Queries that are in the gallery: by id, and by the very same vector.
    """

    manifest: Manifest
    splits: Splits
    vector_of: Int64[np.ndarray, " r"]
    vectors: Float32[np.ndarray, "n d"]
    leakage: dict[str, Any]

    def rows(self, on: QuerySplit) -> Int64[np.ndarray, " q"]:
        """Rows of the vectors of the photographs asked, in the manifest's order; InputError where one has none."""
        asked = query_rows(self.splits, self.manifest, on)
        return self._having(asked, "queries")

    def gallery_rows(self, on: QuerySplit) -> tuple[pd.DataFrame, Int64[np.ndarray, " p"], Int64[np.ndarray, " p"]]:
        """The candidates with their photographs, the rows of these in the vectors, and the candidate of each."""
        places, ids = placed_photographs(self.manifest, self.splits, on)
        at_id = {image_id: row for row, image_id in enumerate(self.manifest.frame["image_id"])}
        rows = self._having(np.array([at_id[name] for own in ids for name in own], dtype=np.int64), "gallery")
        candidate = np.repeat(np.arange(len(ids)), [len(own) for own in ids])
        return places.assign(image_ids=pd.Series(ids, index=places.index, dtype=object)), rows, candidate

    def _having(self, asked: Int64[np.ndarray, " q"], what: str) -> Int64[np.ndarray, " q"]:
        rows: Int64[np.ndarray, " q"] = self.vector_of[asked]
        if (rows < 0).any():
            at = int(asked[np.flatnonzero(rows < 0)[0]])
            raise InputError(
                f"{int((rows < 0).sum())} of {len(asked)} photographs of the {what} have no vector, the first is "
                f"{self.manifest.frame['image_id'][at]!r}; embed them too, or split without them."
            )
        return rows


def placed_photographs(manifest: Manifest, splits: Splits, on: QuerySplit) -> tuple[pd.DataFrame, list[list[str]]]:
    """Which photographs stand at which candidate, for a search by image.

    Those that the splits give to the candidates. Where they give none (candidates that are a grid, or bare positions),
    the photographs of the training side, each at the candidate nearest to it: their positions are known to anyone who
    trains, and the answer is a candidate all the same.

    Args:
        manifest: The photographs.
        splits: Their splits.
        on: Which photographs are asked.

    Returns:
        The candidates, and the image ids at each.

    Raises:
        InputError: There are no photographs on the training side.
    """
    places = candidates_for(splits, on)
    ids = [[str(name) for name in own] for own in places["image_ids"]]
    if any(ids):
        return places, ids
    side = [indices(splits, manifest, name) for name in ("train", "val") if name in _TRAINING_SIDE[on]]
    rows = np.sort(np.concatenate(side))
    if len(rows) == 0:
        raise InputError(f"{splits.path}: there are no photographs to search among; split with a larger training side.")
    index = SphereIndex(places[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64))
    _, nearest = index.nearest(manifest.positions_deg[rows], k=1)
    names = manifest.frame["image_id"].to_numpy(dtype=object)[rows]
    for name, at in zip(names, nearest[:, 0], strict=True):
        ids[int(at)].append(str(name))
    return places, ids


def given_problem(vectors: VectorSet, manifest: Manifest, splits: Splits) -> Problem:
    """Vectors of the photographs of a manifest, asked as its splits say.

    Args:
        vectors: Ids are image_ids, paths or file names of the manifest; further ones are left out.
        manifest: The photographs.
        splits: Their splits.

    Raises:
        InputError: No id is the manifest's, or two are one photograph's.
    """
    known = names_of(manifest)
    at_id = {image_id: row for row, image_id in enumerate(manifest.frame["image_id"])}
    vector_of = np.full(len(manifest), -1, dtype=np.int64)
    strangers = 0
    for at, name in enumerate(vectors.ids):
        image_id = known.get(name)
        if image_id is None:
            strangers += 1
            continue
        if vector_of[at_id[image_id]] >= 0:
            other = vectors.ids[int(vector_of[at_id[image_id]])]
            raise InputError(f"{vectors.name}, row {vectors.rows[at]}: {name!r} and {other!r} are the same photograph.")
        vector_of[at_id[image_id]] = at
    if strangers == len(vectors.ids):
        raise InputError(
            f"{vectors.name}: none of its ids ({vectors.ids[0]!r}, ...) is an image_id, path or file name of "
            f"{manifest.path}."
        )
    problem = Problem(manifest, splits, vector_of, vectors.vectors, {})
    asked, (_, gallery, _) = problem.rows("query"), problem.gallery_rows("query")
    found = leaked(vectors.ids, vectors.vectors, asked, gallery)
    return replace(problem, leakage={**found, "vectors_not_of_the_manifest": strangers})


def own_problem(queries: VectorSet, gallery: VectorSet | None, *, val_share: float = 0.0, seed: int = 0) -> Problem:
    """Vectors that bring their own positions and roles.

    Args:
        queries: Queries, and whatever else its roles say.
        gallery: A file of the gallery alone; its rows are added.
        val_share: Share of the queries that become validation queries, by blocks; they are then not measured.
        seed: Of that draw.

    Raises:
        InputError: There are no queries or no gallery, or the files do not fit together.
        ConfigError: The share is no share, or validation queries are there already.
    """
    sets = [queries] if gallery is None else [queries, gallery]
    if gallery is not None:
        check_dimensions(queries, gallery)
    roles = [role for one in sets for role in one.roles]
    ids = [name for one in sets for name in one.ids]
    counts = Counter(roles)
    for role, what in (("query", "query"), ("gallery", "row of the gallery")):
        if not counts[role]:
            found = ", ".join(f"{count} {name}" for name, count in counts.items())
            raise InputError(f"{' and '.join(one.name for one in sets)}: there is no {what} ({found}).")
    if repeated := [key for key, count in Counter(zip(roles, ids, strict=True)).items() if count > 1]:
        raise InputError(f"{sets[-1].name}: {repeated[0][1]!r} is twice in the role {repeated[0][0]}; ids are unique.")
    vectors = np.concatenate([one.vectors for one in sets])
    label = np.array(roles, dtype=object)
    frame = _frame(sets, ids, label)
    if val_share:
        label = _with_validation(frame, label, val_share, seed)
    # A fresh read-only manifest and splits, so that such vectors are measured by the very code that measures a run.
    names = {"gallery": "train", "query": "query", "val": "val"}
    manifest = Manifest(Path(queries.name), frame.drop(columns=["block_id"]))
    candidates = candidates_at(manifest.frame, label == "gallery", label == "gallery")
    rows = pd.DataFrame(
        {
            "image_id": frame["image_id"],
            "split": pd.Series([names[role] for role in label], dtype=object),
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
    asked, there = (np.flatnonzero(label == role) for role in ("query", "gallery"))
    splits = Splits(Path(queries.name), rows, candidates, meta)
    return Problem(manifest, splits, np.arange(len(ids)), vectors, leaked(ids, vectors, asked, there))


def leaked(
    ids: Sequence[str],
    vectors: Float32[np.ndarray, "n d"],
    asked: Int64[np.ndarray, " q"],
    gallery: Int64[np.ndarray, " p"],
) -> dict[str, Any]:
    """Queries that the gallery holds: by their id, and by the very same vector.

    Args:
        ids: N ids.
        vectors: (N, D) vectors.
        asked: (Q,) rows of the queries.
        gallery: (P,) rows of the gallery.

    Returns:
        n_queries, same_id and same_vector (each a count and at most 20 ids), and `warnings`, sentences.
    """
    names = {ids[row] for row in gallery}
    seen = {vectors[row].tobytes() for row in gallery}
    same_id = [ids[row] for row in asked if ids[row] in names]
    same_vector = [ids[row] for row in asked if vectors[row].tobytes() in seen]
    warnings = []
    for found, how in ((same_id, "by their id"), (same_vector, "with the very same vector")):
        if found:
            warnings.append(
                f"{len(found)} of {len(asked)} queries are in the gallery {how} (the first is {found[0]!r}): they find "
                "themselves, and the figures are too good."
            )
    return {
        "n_queries": len(asked),
        "same_id": {"count": len(same_id), "image_ids": same_id[:20]},
        "same_vector": {"count": len(same_vector), "image_ids": same_vector[:20]},
        "warnings": warnings,
    }


def _frame(sets: Sequence[VectorSet], ids: list[str], label: np.ndarray[Any, Any]) -> pd.DataFrame:
    """The rows of a manifest; where a query goes by the name of a gallery row, the latter's is marked."""
    asked = {name for name, role in zip(ids, label, strict=True) if role == "query"}
    named = [
        name if role == "query" or name not in asked else f"{name} ({role})"
        for name, role in zip(ids, label, strict=True)
    ]
    positions: Float64[np.ndarray, "n 2"] = np.concatenate([_positions(one) for one in sets])

    def joined(values: Iterable[list[str | None]]) -> pd.Series[Any]:
        return pd.Series([value for own in values for value in own], dtype=object)

    known: dict[str, Any] = {
        "image_id": pd.Series(named, dtype=object),
        "image_path": pd.Series(ids, dtype=object),
        "lat_deg": positions[:, 0],
        "lon_deg": positions[:, 1],
        "city": joined(one.cities for one in sets),
        "place_id": joined(one.places for one in sets),
    }
    blank: dict[str, Any] = {
        "accuracy_m": np.full(len(ids), np.nan),
        "heading_deg": np.full(len(ids), np.nan),
        "captured_at": np.full(len(ids), np.datetime64("NaT"), dtype="datetime64[ms]"),
    }
    none = pd.Series([None] * len(ids), dtype=object)
    frame = pd.DataFrame({name: known.get(name, blank.get(name, none)) for name in COLUMNS})
    return frame.assign(block_id=joined(one.blocks for one in sets))


def _positions(one: VectorSet) -> Float64[np.ndarray, "n 2"]:
    if one.positions_deg is None:
        raise InputError(f"{one.name}: has no positions; read it with them.")
    return one.positions_deg


def _with_validation(
    frame: pd.DataFrame, label: np.ndarray[Any, Any], share: float, seed: int
) -> np.ndarray[Any, np.dtype[np.object_]]:
    """Labels in which whole blocks of queries, a share of them, are validation queries."""
    if not 0.0 < share < 1.0:
        raise ConfigError(f"the share of validation is {share}; it must be at least 0 and below 1.")
    if (label == "val").any():
        raise ConfigError("there are validation queries already; leave --val-share out.")
    asked = np.flatnonzero(label == "query")
    queries = frame.iloc[asked].reset_index(drop=True)
    blocks, _ = resampling_blocks(queries, queries[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64))
    order = np.random.default_rng(seed).permutation(sorted(set(blocks)))
    drawn: set[str] = set()
    sizes, taken = Counter(blocks), 0
    for block in order.tolist():
        if taken >= share * len(asked) or taken + sizes[block] >= len(asked):
            break
        drawn.add(block)
        taken += sizes[block]
    if not drawn:
        raise InputError(
            f"the {len(asked)} queries lie in {len(sizes)} blocks, too few to set some apart for validation; leave "
            "--val-share out."
        )
    changed = label.copy()
    changed[asked[[block in drawn for block in blocks]]] = "val"
    return changed
