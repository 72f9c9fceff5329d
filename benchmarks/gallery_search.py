"""Searches of a gallery's embeddings compared: faiss flat and HNSW, a matrix product, and Lance's index.

    pip install faiss-cpu
    python benchmarks/gallery_search.py --sizes 100000 1000000 --out results/gallery-search
    python benchmarks/gallery_search.py --sizes 100000 1000000 --real RUN MANIFEST --out results/gallery-search-real

Without `--real` the vectors are synthetic (`made_up.towns`), and queries are some of them with as much noise as
signal. With it, the pooled features of a manifest's photographs by the image tower of a run are reduced to D
dimensions (PCA), a fifth of the photographs are queries, and the others are multiplied (`made_up.multiplied`).

Each search runs in a separate process, with the same vectors and queries, one after another. Reported are the time of
its preparation, milliseconds per query one by one and in batches of 64 (wall clock, median, and CPU, mean: on a loaded
machine only the latter are comparable), recall against the matrix product, private memory of the process afterwards,
bytes on disk, and the load of the machine. Finished searches are kept in OUT and not run again. Writes
gallery-search.json and gallery-search.md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import markdown, new_parser, say, write_results
from made_up import multiplied, noisy_queries, towns, unit

from swclip.files import write_json
from swclip.gallery import ann

TOP, BATCH = 100, 64
EF_SEARCH, HNSW_LINKS, EF_CONSTRUCTION = 64, 32, 40

Search = Callable[[np.ndarray], np.ndarray]
"""(Q, D) queries to (Q, up to TOP) rows, best first; -1 for none."""


def product(vectors: np.ndarray, folder: Path) -> Search:
    """The product of queries and vectors, and the best of each row."""
    in_memory = np.array(vectors)

    def search(queries: np.ndarray) -> np.ndarray:
        scores = queries @ in_memory.T
        best = np.argpartition(-scores, TOP, axis=1)[:, :TOP]
        return np.take_along_axis(best, np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1), axis=1)

    return search


def faiss_flat(vectors: np.ndarray, folder: Path) -> Search:
    """faiss.IndexFlatIP."""
    import faiss

    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.asarray(vectors))
    return lambda queries: np.asarray(index.search(queries, TOP)[1])


def faiss_hnsw(vectors: np.ndarray, folder: Path) -> Search:
    """faiss.IndexHNSWFlat with 32 links, efConstruction 40 (the default of faiss), efSearch 64."""
    import faiss

    index = faiss.IndexHNSWFlat(vectors.shape[1], HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction, index.hnsw.efSearch = EF_CONSTRUCTION, EF_SEARCH
    index.add(np.asarray(vectors))
    return lambda queries: np.asarray(index.search(queries, TOP)[1])


def lance(vectors: np.ndarray, folder: Path, kind: ann.IndexKind | None = None) -> Search:
    """A Lance table on disk, with `ann.build_index` or without an index; another process writes it."""
    writer = multiprocessing.get_context("spawn").Process(target=write_lance, args=(vectors.filename, folder, kind))
    writer.start()
    writer.join()
    os.environ.setdefault("LANCE_LOG", "error")
    import lancedb

    table = lancedb.connect(folder).open_table("entries")
    scan = table.search().select(["number"]).with_row_id(True).to_arrow()
    ids, number = scan[ann.ROW_ID].to_numpy().astype(np.int64), scan["number"].to_numpy()
    order = np.argsort(ids)

    def search(queries: np.ndarray) -> np.ndarray:
        row_ids = ann.search(table, "embedding", queries, TOP).row_ids
        return np.asarray(number[order[np.searchsorted(ids, row_ids, sorter=order)]])

    return search


def write_lance(path: str, folder: Path, kind: ann.IndexKind | None) -> None:
    """Write the vectors of a file as a Lance table, with its index."""
    os.environ.setdefault("LANCE_LOG", "error")
    import lancedb
    import pyarrow as pa

    vectors = np.load(path, mmap_mode="r")
    schema = pa.schema([("number", pa.int64()), ("embedding", pa.list_(pa.float32(), vectors.shape[1]))])

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, len(vectors), 8192):
            rows = np.asarray(vectors[start : start + 8192])
            values = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), vectors.shape[1])
            yield pa.RecordBatch.from_arrays([pa.array(np.arange(start, start + len(rows))), values], schema=schema)

    reader = pa.RecordBatchReader.from_batches(schema, batches())
    table = lancedb.connect(folder).create_table("entries", reader)
    if kind is not None:
        ann.build_index(table, "embedding", kind)


WAYS: dict[str, Callable[[np.ndarray, Path], Search]] = {
    "matrix product": product,
    "faiss flat": faiss_flat,
    "faiss HNSW": faiss_hnsw,
    "Lance, no index": lance,
    "Lance, index of bits": lambda *arguments: lance(*arguments, kind="bits"),
    "Lance, index of vectors": lambda *arguments: lance(*arguments, kind="vectors"),
}


def main() -> None:
    """Run the comparison, or one search of it."""
    parser = new_parser(__doc__, out_required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000])
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, default=128)
    parser.add_argument("--singly", type=int, default=32, help="number of queries that are searched one by one")
    parser.add_argument("--real", nargs=2, metavar=("RUN", "MANIFEST"))
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
            kept = options.out / f"{size}-{way}.json".replace(" ", "-").replace(",", "")
            if not kept.is_file():
                say(f"{size}: {way}")
                command = [sys.executable, __file__, "--out", str(options.out), "--singly", str(options.singly)]
                done = subprocess.run(
                    [*command, "--worker", str(made), way], stdout=subprocess.PIPE, check=True, text=True
                )
                write_json(kept, {"size": size, "way": way, **json.loads(done.stdout)})
    write_report(options.out)


def prepare(folder: Path, size: int, options: argparse.Namespace) -> None:
    """Write vectors, queries and the true best rows."""
    folder.mkdir(exist_ok=True)
    vectors, _, _ = towns(size, options.dim)
    if options.real:
        features = real_features(*options.real, options.dim)
        aside = np.arange(len(features)) % 5 == 0
        vectors = multiplied(features[~aside], size)
        queries = features[aside][: options.queries]
    else:
        queries = noisy_queries(vectors, options.queries, 1.0)
    truth = np.concatenate([product(vectors, folder)(part) for part in np.array_split(queries, 4)])
    np.save(folder / "vectors.npy", vectors)
    np.save(folder / "queries.npy", queries)
    np.save(folder / "truth.npy", truth)


def real_features(run: str, manifest_path: str, dim: int) -> np.ndarray:
    """Pooled features of a manifest's photographs, reduced to D dimensions by their principal components."""
    from swclip.data.manifest import read_manifest
    from swclip.models.feature_cache import FeatureCache
    from swclip.models.locator_model import load_model

    manifest = read_manifest(manifest_path)
    features = unit(FeatureCache().features(load_model(run), manifest.image_paths))
    centred = features - features.mean(axis=0)
    return unit(centred @ np.linalg.svd(centred, full_matrices=False)[2][:dim].T)


def measured(folder: Path, way: str, singly: int) -> dict[str, object]:
    """Prepare one search and time it."""
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    queries, truth = (np.load(folder / f"{name}.npy") for name in ("queries", "truth"))
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        before_mb = private_mb()
        search, ready = timed(lambda: WAYS[way](vectors, Path(scratch)))
        search(queries[:2])
        single = [timed(lambda at=at: search(queries[at : at + 1]))[1] for at in range(singly)]
        parts, many = [], []
        for start in range(0, len(queries), BATCH):
            rows, took = timed(lambda start=start: search(queries[start : start + BATCH]))
            parts.append(rows)
            many.append((took[0] / len(rows), took[1] / len(rows)))
        memory_mb = private_mb() - before_mb
        disk = sum(path.stat().st_size for path in Path(scratch).rglob("*") if path.is_file())
    answers = np.concatenate(parts)
    return {
        "ready_s": round(ready[0], 1),
        "ready_cpu_s": round(ready[1], 1),
        "one_ms": round(1e3 * float(np.median([wall for wall, _ in single])), 2),
        "one_cpu_ms": round(1e3 * float(np.mean([cpu for _, cpu in single])), 2),
        "batch_ms": round(1e3 * float(np.median([wall for wall, _ in many])), 2),
        "batch_cpu_ms": round(1e3 * float(np.mean([cpu for _, cpu in many])), 2),
        **{f"recall_at_{k}": round(recall(answers, truth, k), 4) for k in (1, 10, TOP)},
        "memory_mb": round(memory_mb),
        "disk_mb": round(disk / 2**20),
        "load": [round(load, 1), round(os.getloadavg()[0], 1)],
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
    }


def recall(rows: np.ndarray, truth: np.ndarray, k: int) -> float:
    """Mean share of the true best k among the k of a search."""
    return float(np.mean([len({*a[:k]} & {*b[:k]}) / k for a, b in zip(rows.tolist(), truth.tolist(), strict=True)]))


def timed(call: Callable[[], Any]) -> tuple[Any, tuple[float, float]]:
    """A result, and its wall-clock and CPU seconds, including those of child processes."""
    wall, cpu = time.perf_counter(), sum(os.times()[:4])
    result = call()
    return result, (time.perf_counter() - wall, sum(os.times()[:4]) - cpu)


def private_mb() -> float:
    """Private memory of this process in MB, without mapped files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 2**10


def write_report(out: Path) -> None:
    """Collect the finished searches."""
    results = [json.loads(path.read_text()) for path in sorted(out.glob("*-*.json")) if path.name[0].isdigit()]
    results.sort(key=lambda result: (result["size"], list(WAYS).index(result["way"])))
    columns = ("vectors", "way", "ready s (CPU s)", "ms one by one (CPU)", "ms in batches (CPU)", "recall@1 / 10 / 100")
    rows = [
        (
            f"{result['size']:,}",
            result["way"],
            f"{result['ready_s']:.0f} ({result['ready_cpu_s']:.0f})",
            f"{result['one_ms']:.1f} ({result['one_cpu_ms']:.1f})",
            f"{result['batch_ms']:.1f} ({result['batch_cpu_ms']:.1f})",
            " / ".join(f"{result[f'recall_at_{k}']:.3f}" for k in (1, 10, TOP)),
            f"{result['memory_mb']:,}",
            f"{result['disk_mb']:,}",
        )
        for result in results
    ]
    write_results(out, "gallery-search", {"ways": results}, markdown([*columns, "memory MB", "disk MB"], rows))


if __name__ == "__main__":
    main()
