"""Searches of embeddings compared: a matrix product, HNSW of faiss, usearch and Lance, and the index of a gallery.

    pip install faiss-cpu usearch
    python benchmarks/gallery_search.py --sizes 100000 1000000 --out results/gallery-search
    python benchmarks/gallery_search.py --sizes 100000 --features features.npy --out results/gallery-search-real

Without `--features` the vectors are synthetic (`made_up.towns`), and queries are some with as much noise as signal.
With it (a .npy of image features, a row each) these are reduced to D dimensions (PCA), a fifth of the photographs are
queries, and the others are multiplied (`made_up.multiplied`).

Each way runs in a separate process, with the same vectors and queries, one after another, and is searched with several
efforts. Reported are the time of its preparation, milliseconds per query one by one and in batches of 64 (wall clock,
median, and CPU, mean: on a loaded machine only the latter are comparable), recall against the matrix product, private
memory of the process afterwards, bytes on disk, and the load of the machine. Finished ways are kept in OUT and not run
again. `large_index.py` measures the index of a gallery with millions of rows. Writes gallery-search.json and
gallery-search.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import markdown, new_parser, private_mb, recall, say, timed, write_results
from made_up import multiplied, noisy_queries, split_features, towns

from swclip.files import write_json
from swclip.gallery import ann
from swclip.gallery.index_build import build_index
from swclip.gallery.vector_index import Effort, VectorIndex

TOP, BATCH, ROWS = 100, 64, 50_000
EF_SEARCH, HNSW_LINKS, EF_CONSTRUCTION = (128, 512, 1024), 32, 64

Search = Callable[[np.ndarray], np.ndarray]
"""(Q, D) queries to (Q, up to TOP) rows, best first; -1 for none."""

Searches = dict[str, Search]
"""By effort."""


def product(vectors: np.ndarray, folder: Path) -> Searches:
    """The product of queries and vectors, and the best of each row."""
    in_memory = np.array(vectors)

    def search(queries: np.ndarray) -> np.ndarray:
        scores = queries @ in_memory.T
        best = np.argpartition(-scores, TOP, axis=1)[:, :TOP]
        return np.take_along_axis(best, np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1), axis=1)

    return {"": search}


def faiss_hnsw(vectors: np.ndarray, folder: Path) -> Searches:
    """faiss.IndexHNSWSQ of float16."""
    import faiss

    dim = vectors.shape[1]
    index = faiss.IndexHNSWSQ(dim, faiss.ScalarQuantizer.QT_fp16, HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = EF_CONSTRUCTION
    index.train(np.array(vectors[:1000]))
    for start in range(0, len(vectors), ROWS):
        index.add(np.array(vectors[start : start + ROWS]))

    def search(queries: np.ndarray, effort: int) -> np.ndarray:
        return np.asarray(index.search(queries, TOP, params=faiss.SearchParametersHNSW(efSearch=effort))[1])

    return {f"efSearch {effort}": partial(search, effort=effort) for effort in EF_SEARCH}


def usearch_hnsw(vectors: np.ndarray, folder: Path) -> Searches:
    """usearch.Index of float16."""
    from usearch.index import Index

    index = Index(
        ndim=vectors.shape[1], metric="ip", dtype="f16", connectivity=HNSW_LINKS, expansion_add=EF_CONSTRUCTION
    )
    for start in range(0, len(vectors), ROWS):
        rows = np.array(vectors[start : start + ROWS])
        index.add(np.arange(start, start + len(rows)), rows, threads=1)

    def search(queries: np.ndarray, effort: int) -> np.ndarray:
        index.expansion_search = effort
        return index.search(queries, TOP, threads=1).keys.astype(np.int64).reshape(len(queries), -1)

    return {f"expansion {effort}": partial(search, effort=effort) for effort in EF_SEARCH}


def lance_hnsw(vectors: np.ndarray, folder: Path) -> Searches:
    """A Lance table on disk, with an index of partitions of HNSW graphs of 8 bits a number."""
    from lancedb.index import HnswSq

    table, number = written(vectors, folder)
    config = HnswSq(distance_type="dot", num_partitions=max(1, len(vectors) // 100_000), m=20, ef_construction=150)
    table.create_index("embedding", config=config)

    def search(queries: np.ndarray, effort: int) -> np.ndarray:
        found = []
        for query in queries:
            builder: Any = table.search(query, vector_column_name="embedding").distance_type("dot").limit(TOP)
            builder = builder.ef(effort).refine_factor(2)
            found.append(builder.select(["_distance"]).with_row_id(True).to_arrow()[ann.ROW_ID].to_numpy())
        return number(np.stack(found).astype(np.int64))

    return {f"ef {effort}": partial(search, effort=effort) for effort in EF_SEARCH[1:]}


def lance_scan(vectors: np.ndarray, folder: Path) -> Searches:
    """A Lance table on disk, read completely."""
    table, number = written(vectors, folder)
    return {"": lambda queries: number(ann.exact_search(table, "embedding", queries, TOP).row_ids)}


def gallery_index(vectors: np.ndarray, folder: Path) -> Searches:
    """A Lance table on disk with `swclip.gallery.vector_index`."""
    table, number = written(vectors, folder)
    build_index(folder / "index", table, "embedding")
    index = VectorIndex.open(folder / "index", table, "embedding", ann.row_ids_of(table, "embedding"))
    assert index is not None

    def search(queries: np.ndarray, effort: Effort) -> np.ndarray:
        return number(index.search(queries, TOP, effort).row_ids)

    return {f"{probes} probes": partial(search, effort=Effort(probes)) for probes in (16, 32, 64, 128)}


def codes(vectors: np.ndarray, folder: Path, bits: int, rotated: bool) -> Searches:
    """Partitions and RaBitQ codes of faiss, and the best of them compared in float16, all in memory."""
    import faiss

    dim, partitions = vectors.shape[1], max(1, 2 * int(len(vectors) ** 0.5))
    centroids = faiss.IndexFlatIP(dim)
    index = faiss.IndexIVFRaBitQFastScan(centroids, dim, partitions, faiss.METRIC_INNER_PRODUCT, 32, True, bits)
    index.qb, index.cp.niter, index.cp.max_points_per_centroid = 8, 8, 40
    compared = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((dim, dim)))[0] if rotated else np.eye(dim)
    turn = turn.astype(np.float32)
    sample = np.sort(np.random.default_rng(0).choice(len(vectors), min(len(vectors), 40 * partitions), replace=False))
    for part in (index, compared):
        part.train(vectors[sample] @ turn)
        for start in range(0, len(vectors), ROWS):
            part.add(np.array(vectors[start : start + ROWS]) @ turn)
    both = faiss.IndexRefine(index, compared)

    def search(queries: np.ndarray, times: int) -> np.ndarray:
        params = faiss.IndexRefineSearchParameters(
            k_factor=float(times), base_index_params=faiss.SearchParametersIVF(nprobe=64)
        )
        return np.asarray(both.search(queries @ turn, TOP, params=params)[1])

    return {f"{times * TOP} compared": partial(search, times=times) for times in (4, 10)}


def written(vectors: np.ndarray, folder: Path) -> tuple[Any, Callable[[np.ndarray], np.ndarray]]:
    """Write vectors as a Lance table; the table, and a function from its row ids to rows of the vectors."""
    os.environ.setdefault("LANCE_LOG", "error")
    import lancedb
    import pyarrow as pa

    schema = pa.schema([("number", pa.int64()), ("embedding", pa.list_(pa.float32(), vectors.shape[1]))])

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, len(vectors), 8192):
            rows = np.asarray(vectors[start : start + 8192])
            values = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), vectors.shape[1])
            yield pa.RecordBatch.from_arrays([pa.array(np.arange(start, start + len(rows))), values], schema=schema)

    reader = pa.RecordBatchReader.from_batches(schema, batches())
    table = lancedb.connect(folder).create_table("entries", reader)
    scan = ann.rows(table, ["number"])
    ids, number = scan[ann.ROW_ID].to_numpy().astype(np.int64), scan["number"].to_numpy()
    order = np.argsort(ids)
    return table, lambda row_ids: np.asarray(number[order[np.searchsorted(ids, row_ids, sorter=order)]])


WAYS: dict[str, Callable[[np.ndarray, Path], Searches]] = {
    "matrix product": product,
    "faiss HNSW": faiss_hnsw,
    "usearch HNSW": usearch_hnsw,
    "Lance HNSW": lance_hnsw,
    "Lance, no index": lance_scan,
    "index of a gallery": gallery_index,
    "codes of 1 bit": partial(codes, bits=1, rotated=False),
    "codes of 2 bits": partial(codes, bits=2, rotated=False),
    "codes of 1 bit, rotated": partial(codes, bits=1, rotated=True),
}
PACKAGES = {"faiss HNSW": "faiss", "usearch HNSW": "usearch"}


def main() -> None:
    """Run the comparison, or one search of it."""
    parser = new_parser(__doc__, out_required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000])
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, default=128)
    parser.add_argument("--singly", type=int, default=32, help="number of queries that are searched one by one")
    parser.add_argument("--features", type=Path)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(measured(Path(options.worker[0]), options.worker[1], options.singly)))
        return
    options.out.mkdir(parents=True, exist_ok=True)
    for size in options.sizes:
        made = options.out / f"vectors-{size}"
        if not (made / "truth.npy").is_file():
            prepare(made, size, options)
        for way in options.ways:
            if (package := PACKAGES.get(way)) and importlib.util.find_spec(package) is None:
                say(f"{way} is left out: {package} is not installed")
                continue
            kept = options.out / f"{size}-{way}.json".replace(" ", "-").replace(",", "")
            if not kept.is_file():
                say(f"{size}: {way}")
                command = [sys.executable, __file__, "--out", str(options.out), "--singly", str(options.singly)]
                done = subprocess.run(
                    [*command, "--worker", str(made), way], stdout=subprocess.PIPE, check=True, text=True
                )
                write_json(kept, [{"size": size, "way": way, **result} for result in json.loads(done.stdout)])
    write_report(options.out)


def prepare(folder: Path, size: int, options: argparse.Namespace) -> None:
    """Write vectors, queries and the true best rows."""
    folder.mkdir(exist_ok=True)
    if options.features:
        features, queries = split_features(options.features, options.dim, options.queries)
        vectors = multiplied(features, size)
    else:
        vectors, _, _ = towns(size, options.dim)
        queries = noisy_queries(vectors, options.queries, 1.0)
    exact = product(vectors, folder)[""]
    truth = np.concatenate([exact(part) for part in np.array_split(queries, 4)])
    np.save(folder / "vectors.npy", vectors)
    np.save(folder / "queries.npy", queries)
    np.save(folder / "truth.npy", truth)


def measured(folder: Path, way: str, singly: int) -> list[dict[str, object]]:
    """Prepare one way and time it with each effort."""
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    queries, truth = (np.load(folder / f"{name}.npy") for name in ("queries", "truth"))
    load = os.getloadavg()[0]
    results: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        before_mb = private_mb()
        searches, ready = timed(lambda: WAYS[way](vectors, Path(scratch)))
        disk = sum(path.stat().st_size for path in Path(scratch).rglob("*") if path.is_file())
        for effort, search in searches.items():
            search(queries)
            single = [timed(lambda at=at, search=search: search(queries[at : at + 1])) for at in range(singly)]
            parts, many = [], []
            for start in range(0, len(queries), BATCH):
                rows, took = timed(lambda start=start, search=search: search(queries[start : start + BATCH]))
                parts.append(rows)
                many.append((took[0] / len(rows), took[1] / len(rows)))
            answers = np.concatenate(parts)
            walls = [1e3 * wall for _, (wall, _) in single]
            results.append(
                {
                    "effort": effort,
                    "ready_s": round(ready[0], 1),
                    "ready_cpu_s": round(ready[1], 1),
                    "one_ms": round(float(np.median(walls)), 2),
                    "one_p99_ms": round(float(np.percentile(walls, 99)), 2),
                    "one_cpu_ms": round(1e3 * float(np.mean([cpu for _, (_, cpu) in single])), 2),
                    "batch_ms": round(1e3 * float(np.median([wall for wall, _ in many])), 2),
                    "batch_cpu_ms": round(1e3 * float(np.mean([cpu for _, cpu in many])), 2),
                    **{f"recall_at_{k}": round(recall(answers, truth, k), 4) for k in (1, 10, TOP)},
                    "memory_mb": round(private_mb() - before_mb),
                    "disk_mb": round(disk / 2**20),
                    "load": [round(load, 1), round(os.getloadavg()[0], 1)],
                    "threads": os.environ.get("OMP_NUM_THREADS", "all"),
                }
            )
    return results


def write_report(out: Path) -> None:
    """Collect the finished searches."""
    paths = [path for path in sorted(out.glob("*-*.json")) if path.name[0].isdigit()]
    results = [result for path in paths for result in json.loads(path.read_text())]
    results.sort(key=lambda result: (result["size"], list(WAYS).index(result["way"])))
    timed_columns = ("ready s (CPU s)", "ms one by one, p50 / p99 (CPU)", "ms in batches (CPU)")
    columns = ("vectors", "way", *timed_columns, "recall@1 / 10 / 100")
    rows = [
        (
            f"{result['size']:,}",
            f"{result['way']}, {result['effort']}".rstrip(", "),
            f"{result['ready_s']:.0f} ({result['ready_cpu_s']:.0f})",
            f"{result['one_ms']:.2f} / {result['one_p99_ms']:.1f} ({result['one_cpu_ms']:.2f})",
            f"{result['batch_ms']:.2f} ({result['batch_cpu_ms']:.2f})",
            " / ".join(f"{result[f'recall_at_{k}']:.3f}" for k in (1, 10, TOP)),
            f"{result['memory_mb']:,}",
            f"{result['disk_mb']:,}",
        )
        for result in results
    ]
    write_results(out, "gallery-search", {"ways": results}, markdown([*columns, "memory MB", "disk MB"], rows))


if __name__ == "__main__":
    main()
