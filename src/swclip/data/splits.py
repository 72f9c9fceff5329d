"""Splits as a file: training photographs, validation photographs, queries, and the candidates of an answer."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64

from swclip.data.grouping import text_or_none
from swclip.data.manifest import Manifest
from swclip.data.manifest_table import text_objects
from swclip.errors import ArtefactError, ConfigError, MismatchError
from swclip.files import atomic_file, read_json

SCHEMA_VERSION = "1"
_META_KEY = b"swclip.splits"

IN_MEMORY = Path("splits in memory")
"""The path of splits that were not written."""

SplitName = Literal["train", "val", "gallery", "query"]
SPLIT_NAMES: tuple[str, ...] = get_args(SplitName)

QuerySplit = Literal["val", "query"]
_ALLOWED_PHOTOGRAPHS: dict[str, frozenset[str]] = {
    # Splits whose photographs an answer may use. Validation belongs to the training side of the queries.
    "val": frozenset({"train"}),
    "query": frozenset({"train", "val"}),
}

_ROW_COLUMNS = ("image_id", "split", "block_id")
_CANDIDATE_COLUMNS = ("candidate_id", "lat_deg", "lon_deg", "city", "image_ids", "for_val", "for_query")


@dataclass(frozen=True)
class Splits:
    """The splits of one manifest.

    Attributes:
        path: The Parquet file of the rows; `IN_MEMORY` for splits that were not written.
        frame: One row per photograph: image_id; split (train, val, gallery, query); block_id (null where the protocol
            has no blocks). `val` are the validation queries, drawn from the training side as the queries were;
            `gallery` are photographs that are neither trained on nor queries, the buffer of new-streets.
        candidates: One row per distinct position that an answer may name: candidate_id, lat_deg, lon_deg, city (null
            where unknown), image_ids (list of the usable training-side photographs there, often empty), for_val and
            for_query (whether it is a candidate of validation queries, of queries). Read it through `candidates_for`,
            which omits what the queries must not see.
        meta: version, protocol, seed, parameters, manifest_digest, counts; answers_may_use where answers may use
            photographs of further splits than those of the training side: {"query": [...], "val": [...]}.
        leakage: What queries and training share, of `leakage_report`; None where no report was made.
    """

    path: Path
    frame: pd.DataFrame
    candidates: pd.DataFrame
    meta: dict[str, Any]
    leakage: dict[str, Any] | None = None

    def __repr__(self) -> str:
        counts = self.frame["split"].value_counts()
        parts = ", ".join(f"{int(counts.get(name, 0)):,} {name}" for name in SPLIT_NAMES)
        return f"Splits({self.meta.get('protocol')}: {parts}, {len(self.candidates):,} candidates, {self.path})"

    @property
    def in_memory(self) -> bool:
        """Whether the splits were never written: `path` is then only a name for messages."""
        return self.path == IN_MEMORY


def splits_file(path: str | os.PathLike[str]) -> Path:
    """The file of the rows: `path`, or splits.parquet in it if it is a folder."""
    target = Path(path)
    return target / "splits.parquet" if target.is_dir() else target


def beside(path: str | os.PathLike[str], ending: str) -> Path:
    """The companion of a splits file: splits.parquet and "candidates.parquet" give splits.candidates.parquet."""
    target = splits_file(path)
    stem = target.stem if target.suffix == ".parquet" else target.name
    return target.with_name(f"{stem}.{ending}")


def candidates_path(path: str | os.PathLike[str]) -> Path:
    """Where the candidates of a splits file are."""
    return beside(path, "candidates.parquet")


def leakage_path(path: str | os.PathLike[str]) -> Path:
    """Where the leakage report of a splits file is."""
    return beside(path, "leakage.json")


def find_splits(paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """The splits files that paths refer to.

    A folder with splits.parquet refers to that file, any other to all splits files in it, in the order of their names.
    Files of candidates are skipped: a shell's `FOLDER/*.parquet` includes them.

    Args:
        paths: Files and folders.

    Raises:
        ArtefactError: All paths are files of candidates.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir() and not (path / "splits.parquet").exists():
            inside = sorted(file for file in path.glob("*.parquet") if not _is_candidates(file))
            files += [file for file in inside if candidates_path(file).exists()] or [splits_file(path)]
        elif not _is_candidates(path):
            files.append(splits_file(path))
    if not files:
        raise ArtefactError(f"{', '.join(map(str, paths))}: these are candidates; give the splits file beside them.")
    return files


def _is_candidates(path: Path) -> bool:
    return path.name.endswith(".candidates.parquet")


def write_splits(
    path: str | os.PathLike[str], frame: pd.DataFrame, candidates: pd.DataFrame, meta: Mapping[str, Any]
) -> Splits:
    """Write splits and their candidates, each completely or not at all.

    Args:
        path: The Parquet file of the rows (or a folder, which gets splits.parquet); the candidates are written
            beside it.
        frame: image_id, split, block_id; one row per photograph.
        candidates: candidate_id, lat_deg, lon_deg, city, image_ids, for_val, for_query; one row per position.
        meta: protocol, seed, parameters, manifest_digest; version and counts are added.

    Returns:
        The splits as written.

    Raises:
        DiskFullError: The disk filled; earlier files are unchanged.
        InputError: The folder cannot be written.
    """
    target = splits_file(path)
    rows, places = frame.reset_index(drop=True), candidates.reset_index(drop=True)
    full = whole_meta(rows, places, meta)
    metadata = {_META_KEY: json.dumps(full, ensure_ascii=False, allow_nan=False).encode()}
    # Both files carry the same metadata, so that a pair from two different runs is noticed when read.
    tables = {
        candidates_path(target): pa.table(
            {
                "candidate_id": _text(places["candidate_id"]),
                "lat_deg": pa.array(places["lat_deg"].to_numpy(np.float64)),
                "lon_deg": pa.array(places["lon_deg"].to_numpy(np.float64)),
                "city": _text(places["city"]),
                "image_ids": pa.array(places["image_ids"].tolist(), pa.list_(pa.string())),
                "for_val": pa.array(places["for_val"].to_numpy(bool)),
                "for_query": pa.array(places["for_query"].to_numpy(bool)),
            },
            metadata=metadata,
        ),
        target: pa.table({name: _text(rows[name]) for name in _ROW_COLUMNS}, metadata=metadata),
    }
    for file, table in tables.items():
        with atomic_file(file) as temporary:
            pq.write_table(table, temporary, compression="zstd")
    return Splits(target, rows, places, full)


def read_splits(path: str | os.PathLike[str]) -> Splits:
    """Read splits and their candidates.

    Args:
        path: The Parquet file that `swclip split` wrote, or the folder that contains it as splits.parquet.

    Raises:
        ArtefactError: A file is missing, truncated or of another version, or the two files do not belong together.
    """
    source = splits_file(path)
    rows, meta = _read_table(source, _ROW_COLUMNS)
    places, places_meta = _read_table(candidates_path(source), _CANDIDATE_COLUMNS)
    if places_meta != meta:
        raise ArtefactError(
            f"{candidates_path(source)}: these candidates do not belong to {source.name}; run `swclip split` again."
        )
    frame = pd.DataFrame({name: _objects(rows[name]) for name in _ROW_COLUMNS})
    for name in ("image_id", "split"):
        if not all(isinstance(value, str) for value in frame[name]):
            raise ArtefactError(f"{source}: column {name!r} has values that are not text; run `swclip split` again.")
    if frame["image_id"].duplicated().any():
        raise ArtefactError(f"{source}: an image_id occurs twice; run `swclip split` again.")
    columns: dict[str, Any] = {
        "candidate_id": _objects(places["candidate_id"]),
        "lat_deg": places["lat_deg"].to_numpy(),
        "lon_deg": places["lon_deg"].to_numpy(),
        "city": _objects(places["city"]),
        "image_ids": pd.Series(places["image_ids"].to_pylist(), dtype=object),
        "for_val": places["for_val"].to_numpy(),
        "for_query": places["for_query"].to_numpy(),
    }
    leakage = leakage_path(source)
    report = read_json(leakage, "the leakage report") if leakage.is_file() else None
    if report is not None and not isinstance(report, dict):
        raise ArtefactError(f"{leakage}: is not a leakage report; run `swclip split` again.")
    return Splits(source, frame, pd.DataFrame(columns), meta, report)


def indices(splits: Splits, manifest: Manifest, name: SplitName) -> Int64[np.ndarray, " n"]:
    """Rows of the manifest that are in one split, in the manifest's order.

    Args:
        splits: The splits.
        manifest: The manifest they were made from.
        name: train, val, gallery or query.

    Raises:
        ConfigError: `name` is no split.
        MismatchError: The splits were made from another manifest.
    """
    if name not in SPLIT_NAMES:
        raise ConfigError(f"split {name!r} is not known; choose one of {', '.join(SPLIT_NAMES)}.")
    return np.flatnonzero(split_labels(splits, manifest) == name).astype(np.int64)


def split_labels(splits: Splits, manifest: Manifest) -> np.ndarray[Any, Any]:
    """(N,) the split of each photograph, in the manifest's order.

    Raises:
        MismatchError: The splits were made from another manifest.
    """
    check_same_manifest(splits, manifest)
    labels = splits.frame["split"].to_numpy(dtype=object)
    listed, ids = (frame["image_id"].to_numpy(dtype=object) for frame in (splits.frame, manifest.frame))
    if len(listed) == len(ids) and bool((listed == ids).all()):
        return labels  # as `swclip split` writes them; an index of ten million texts takes a gigabyte
    return pd.Series(labels, index=listed).reindex(ids).to_numpy(dtype=object)


def check_same_manifest(splits: Splits, manifest: Manifest) -> None:
    """Raise MismatchError unless the splits were made from this manifest."""
    recorded = splits.meta.get("manifest_digest")
    if recorded != manifest.digest:
        listed, present = set(splits.frame["image_id"]), set(manifest.frame["image_id"])
        raise MismatchError(
            f"{splits.path}: these splits were made from another manifest than {manifest.path} "
            f"(digest {str(recorded)[:12]}, not {manifest.digest[:12]}; {len(listed - present)} of {len(listed)} "
            f"photographs of the splits are not in it, {len(present - listed)} of its {len(present)} are not in the "
            "splits, or positions or paths changed); run `swclip split` on this manifest."
        )


def candidates_for(splits: Splits, on: QuerySplit) -> pd.DataFrame:
    """The candidates of the validation queries, or of the queries.

    Args:
        splits: The splits.
        on: Which photographs are the queries, "val" or "query".

    Returns:
        Their rows of `splits.candidates`, with a new index and without for_val and for_query; image_ids has only
        photographs that an answer may use: those of `train` for "val", of `train` and `val` for "query", and of the
        further splits in `splits.meta["answers_may_use"]`.

    Raises:
        ConfigError: `on` is neither.
    """
    if on not in _ALLOWED_PHOTOGRAPHS:
        raise ConfigError(f"candidates are for 'val' or 'query', not {on!r}.")
    usable = _ALLOWED_PHOTOGRAPHS[on] | set(splits.meta.get("answers_may_use", {}).get(on, ()))
    allowed = set(splits.frame.loc[splits.frame["split"].isin(usable), "image_id"])
    rows = splits.candidates.loc[splits.candidates[f"for_{on}"].to_numpy(bool), list(_CANDIDATE_COLUMNS[:-2])]
    rows = rows.reset_index(drop=True)
    image_ids = [[image_id for image_id in ids if image_id in allowed] for ids in rows["image_ids"]]
    return rows.assign(image_ids=pd.Series(image_ids, index=rows.index, dtype=object))


def whole_meta(rows: pd.DataFrame, places: pd.DataFrame, meta: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata of splits, completed by the schema version and the number of photographs in each split."""
    return {"version": SCHEMA_VERSION, **meta, "counts": _counts(rows, places)}


def _counts(rows: pd.DataFrame, places: pd.DataFrame) -> dict[str, int]:
    of = rows["split"].value_counts()
    return {
        **{name: int(of.get(name, 0)) for name in SPLIT_NAMES},
        "candidates": len(places),
        "candidates_for_val": int(places["for_val"].sum()),
        "candidates_for_query": int(places["for_query"].sum()),
    }


def _text(column: pd.Series[Any]) -> pa.Array:
    return pa.array(text_or_none(column), pa.string())


def _objects(column: pa.ChunkedArray) -> pd.Series[Any]:
    # As Python objects, so that a null is None and not NaN; a column that is no text is refused by its values.
    values = text_objects(column) if pa.types.is_string(column.type) else column.to_pylist()
    return pd.Series(values, dtype=object)


def _read_table(path: Path, columns: tuple[str, ...]) -> tuple[pa.Table, dict[str, Any]]:
    again = "run `swclip split` again"
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise ArtefactError(f"{path}: the splits do not exist; check the path, or {again}.") from None
    except (OSError, pa.ArrowException) as error:
        raise ArtefactError(f"{path}: the splits cannot be read ({error}); {again}.") from error
    try:
        meta = json.loads((table.schema.metadata or {})[_META_KEY])
    except (KeyError, ValueError):
        raise ArtefactError(f"{path}: this is not a file that `swclip split` wrote; {again}.") from None
    version = meta.get("version") if isinstance(meta, dict) else None
    if version != SCHEMA_VERSION:
        raise ArtefactError(
            f"{path}: splits of version {version}, but this swclip reads version {SCHEMA_VERSION}; {again}."
        )
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise ArtefactError(f"{path}: column {missing[0]!r} is missing; {again}.")
    return table, meta
