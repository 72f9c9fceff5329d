"""An index of one column of embeddings of a gallery on a disk: the most similar of millions, in about a millisecond.

    GALLERY/index/index.json             the files of each column; written last, so that a change is whole or absent
    GALLERY/index/COLUMN-NUMBER.faiss    partitions and codes, in memory while it is searched
    GALLERY/index/COLUMN-NUMBER.vectors  (N, D) float16, mapped from the disk
    GALLERY/index/COLUMN-NUMBER.rows     (N,) int64, Lance's row ids

Vectors are split into partitions by k-means. A query is compared by codes (RaBitQ, after a random rotation; 512 bits,
and one bit a dimension where there are more) with those of the nearest `probes` partitions, and the best `refine` of
them by their vectors. Codes and partitions are faiss's (`pip install 'swclip[faiss]'`). docs/results/search.md compares
it with other indices.

Lance writes a changed row as a new one and never uses a row id again, so that an index remains valid while its table
grows: rows that are gone are passed over, and later ones are compared one by one until `build_index` adds them.
Compacting moves rows; `GalleryStore.compact` then puts their new ids in place.

References:
    J. Gao, C. Long, "RaBitQ: quantizing high-dimensional vectors with a theoretical error bound for approximate
    nearest neighbor search", SIGMOD 2024.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float16, Float32, Int64

from swclip.errors import ArtefactError, ConfigError, MismatchError, PackageError
from swclip.files import read_json
from swclip.gallery import ann
from swclip.gallery.ann import NOTHING, Neighbours

if TYPE_CHECKING:
    from lancedb.table import Table

INDICES = "index"
"""The folder in a gallery."""
VERSION = "1"
FILE = "index.json"
_EXACT_ROWS = 20_000  # so few are compared exactly (0.5 us each), rather than all partitions searched for them
_CHUNK_ROWS = 1024
_LATER_BYTES = 2**30


@dataclass(frozen=True)
class Effort:
    """Thoroughness of a search.

    Attributes:
        probes: Partitions that a query searches.
        refine: Number of vectors that are compared by their inner products; at least twice those requested.

    Raises:
        ConfigError: One of them is below 1.
    """

    probes: int = 64
    refine: int = 512

    def __post_init__(self) -> None:
        if self.probes < 1 or self.refine < 1:
            raise ConfigError(f"probes is {self.probes} and refine {self.refine}; both must be 1 or more.")


@dataclass(frozen=True, eq=False)
class VectorIndex:
    """An opened index.

    Attributes:
        row_ids: (N,) Lance's row ids.
        vectors: (N, D) the embeddings, mapped from the disk.
        codes: faiss's index; its numbers are rows of `vectors`.
        later_ids: (L,) row ids of vectors that are not in the index.
        later: (L, D) these vectors.
        searched: (N,) the rows that a search can return; None for all.
        effort: Thoroughness of a search, as `tune_probes` measured it.
    """

    row_ids: Int64[np.ndarray, " n"]
    vectors: Float16[np.ndarray, "n d"]
    codes: Any
    later_ids: Int64[np.ndarray, " l"]
    later: Float32[np.ndarray, "l d"]
    searched: Bool[np.ndarray, " n"] | None = None
    effort: Effort = field(default_factory=Effort)

    @classmethod
    def open(cls, folder: Path, table: Table, column: str, present: Int64[np.ndarray, " r"]) -> VectorIndex | None:
        """Open the index of a column; None where the column has none.

        Args:
            folder: The folder of the indices.
            table: The gallery's table, at one version.
            column: The column.
            present: (R,) row ids of all rows with a vector at that version, increasing.

        Raises:
            ArtefactError: A file is missing or damaged, or of another version.
            PackageError: faiss is not installed.
        """
        files = columns_of(folder).get(column)
        if files is None:
            return None
        dim, count = int(files["dim"]), int(files["vectors"])
        try:
            codes = read_codes(folder, files)
            # Not read-only, which torch would warn of; changes would not reach the file.
            vectors = np.memmap(vectors_file(folder, files), np.float16, "c", shape=(count, dim))
            row_ids = read_rows(folder, files)
        except (OSError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ArtefactError(f"{folder}: the index of {column} is damaged ({reason}); {again(folder)}") from error
        if codes.ntotal != count or len(row_ids) != count:
            raise ArtefactError(f"{folder}: the files of the index of {column} do not match; {again(folder)}")
        at, here = ann.positions_in(present, row_ids)
        later_ids = np.delete(present, at[here])
        if 4 * dim * len(later_ids) > _LATER_BYTES:
            raise ArtefactError(
                f"{folder}: the index of {column} lacks {len(later_ids):,} of {len(present):,} embeddings; add them "
                f"with: swclip gallery build-index {folder.parent}"
            )
        later = np.concatenate(
            [vectors for _, vectors in ann.vectors_of(table, column, later_ids)] or [np.zeros((0, dim), np.float32)]
        )
        effort = Effort(int(files.get("probes", Effort.probes)))
        return cls(row_ids, vectors, codes, later_ids, later, None if here.all() else here, effort)

    def __len__(self) -> int:
        return len(self.row_ids)

    def among(self, allowed: Int64[np.ndarray, " a"]) -> VectorIndex:
        """The same index, searched among some rows only.

        Args:
            allowed: (A,) their row ids.
        """
        allowed = np.sort(allowed)
        _, here = ann.positions_in(allowed, self.row_ids)
        _, kept = ann.positions_in(allowed, self.later_ids)
        return replace(
            self,
            later_ids=self.later_ids[kept],
            later=self.later[kept],
            searched=here if self.searched is None else here & self.searched,
        )

    def search(self, queries: Float32[np.ndarray, "q d"], k: int, effort: Effort | None = None) -> Neighbours:
        """Find the rows most similar to each query.

        Args:
            queries: (Q, D).
            k: Number of rows.
            effort: Thoroughness; None for that of the index. More partitions are searched where rows are few (`among`).

        Raises:
            ConfigError: k is below 1.
            MismatchError: The queries have another dimension.
        """
        if k < 1:
            raise ConfigError(f"k is {k}; request at least one row.")
        if queries.ndim != 2 or queries.shape[1] != self.vectors.shape[1]:
            raise MismatchError(
                f"queries have shape {queries.shape}, and the index has dimension {self.vectors.shape[1]}: they come "
                "from different models."
            )
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        ids = np.full((len(queries), k), NOTHING, dtype=np.int64)
        similarities = np.full((len(queries), k), -np.inf, dtype=np.float32)
        effort = effort or self.effort
        compared = self._nearest_by_codes(queries, max(2 * k, effort.refine), effort)
        for row, (query, rows) in enumerate(zip(queries, compared, strict=True)):
            scores = np.concatenate([self._similarities(rows, query), self.later @ query])
            best = np.argpartition(-scores, k - 1)[:k] if k < len(scores) else np.arange(len(scores))
            best = best[np.argsort(-scores[best], kind="stable")]
            similarities[row, : len(best)] = scores[best]
            ids[row, : len(best)] = np.concatenate([self.row_ids[rows], self.later_ids])[best]
        return Neighbours(ids, similarities)

    def _nearest_by_codes(
        self, queries: Float32[np.ndarray, "q d"], count: int, effort: Effort
    ) -> Iterator[Int64[np.ndarray, " c"]]:
        """The rows to compare with each query, increasing."""
        total = len(self) if self.searched is None else int(np.count_nonzero(self.searched))
        if total <= max(count, _EXACT_ROWS if self.searched is not None else 0):
            rows = np.arange(len(self)) if self.searched is None else np.flatnonzero(self.searched)
            yield from (rows for _ in queries)
            return
        faiss = load_faiss()
        selected = None
        if self.searched is not None:
            selected = faiss.IDSelectorBitmap(np.packbits(self.searched, bitorder="little"))
        probes = min(self.partitions, math.ceil(effort.probes * len(self) / total))
        params = faiss.SearchParametersPreTransform(index_params=faiss.SearchParametersIVF(nprobe=probes, sel=selected))
        # faiss gives each of its threads one query.
        for rows in self.codes.search(queries, min(count, total), params=params)[1]:
            yield np.sort(rows[rows >= 0])

    @property
    def partitions(self) -> int:
        """Number of partitions."""
        return int(load_faiss().downcast_index(self.codes.index).nlist)

    def _similarities(
        self, rows: Int64[np.ndarray, " c"], query: Float32[np.ndarray, " d"]
    ) -> Float32[np.ndarray, " c"]:
        import torch  # converts float16 five times as fast as NumPy

        scores = np.empty(len(rows), dtype=np.float32)
        vectors, by = torch.from_numpy(self.vectors), torch.from_numpy(query)
        for start in range(0, len(rows), _CHUNK_ROWS):
            part = torch.from_numpy(rows[start : start + _CHUNK_ROWS])
            scores[start : start + len(part)] = (vectors.index_select(0, part).float() @ by).numpy()
        return scores


def columns_of(folder: Path) -> dict[str, dict[str, Any]]:
    """What index.json states of each column that has an index.

    Raises:
        ArtefactError: It is damaged, or of another version.
    """
    if not (folder / FILE).is_file():
        return {}
    content = read_json(folder / FILE, "the indices of a gallery")
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise ArtefactError(f"{folder / FILE}: is not of version {VERSION}; {again(folder)}")
    return dict(content["columns"])


def codes_file(folder: Path, files: Mapping[str, Any]) -> Path:
    """The file of partitions and codes."""
    return folder / f"{files['name']}-{files['vectors']}.faiss"


def vectors_file(folder: Path, files: Mapping[str, Any]) -> Path:
    """The file of vectors."""
    return folder / f"{files['name']}.vectors"


def rows_file(folder: Path, files: Mapping[str, Any]) -> Path:
    """The file of row ids."""
    return folder / f"{files['name']}.rows"


def read_codes(folder: Path, files: Mapping[str, Any]) -> Any:
    """faiss's index."""
    return load_faiss().read_index(str(codes_file(folder, files)))


def read_rows(folder: Path, files: Mapping[str, Any]) -> Int64[np.ndarray, " n"]:
    """Lance's row ids of the indexed vectors; rows that are gone are among them."""
    return np.fromfile(rows_file(folder, files), dtype=np.int64, count=int(files["vectors"]))


def again(folder: Path) -> str:
    """What to do about a damaged index."""
    return f"build it again with: swclip gallery build-index {folder.parent} --rebuild"


def load_faiss() -> Any:
    """The module.

    Raises:
        PackageError: It is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise PackageError(
            "an index of a gallery needs faiss, which is not installed: pip install 'swclip[faiss]'; without it, small "
            "galleries are searched in memory (--search memory)."
        ) from error
    return faiss
