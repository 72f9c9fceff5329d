"""An index of millions of embeddings, in stages that resume: write, index, search, append, filter.

    pip install 'swclip[faiss]'
    python benchmarks/large_index.py --rows 1000000 --dim 512 --features features.npy --out results/real-1m
    python benchmarks/large_index.py --rows 10000000 --dim 64 --out results/waves-10m
    python benchmarks/large_index.py --rows 20000 --dim 64 --out results/toy

With `--features` (a .npy of image features, a row each) four fifths of the photographs are multiplied
(`made_up.multiplied`, after a reduction to D numbers by their principal components) and the others are the queries.
Without it embeddings are synthetic (`made_up.towns`), and queries are some of them with as much noise as signal.

A Lance table of 95 % of the rows is written, and indexed by `swclip.gallery.index_build`. Then queries are searched one
by one and in batches of 64; the other 5 % are appended, and searched before and after they are in the index; and a
fiftieth and a thousandth of the rows are searched alone. Recall is against an exact search. Each stage
is kept in OUT and not run again, an interrupted one resumes where it can. Writes large-index.json and large-index.md.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from common import markdown, new_parser, private_mb, recall, say, timed, write_results
from made_up import multiplied, noisy_queries, split_features, towns

from swclip.files import write_json
from swclip.gallery import ann
from swclip.gallery.index_build import build_index
from swclip.gallery.vector_index import Effort, VectorIndex

QUERIES, TOP, BATCH, CHUNK = 256, 512, 64, 50_000
KS = (1, 10, 100, 512)
LATER = 20  # a twentieth is appended later
SHARES = {"a fiftieth": 50, "a thousandth": 1000}
COLUMN = "embedding"


def main() -> None:
    """Run the stages that are missing."""
    parser = new_parser(__doc__, out_required=True)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--features", type=Path)
    parser.add_argument("--probes", type=int, nargs="+", default=[Effort.probes])
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("LANCE_LOG", "error")
    for name, stage in STAGES.items():
        kept = options.out / f"{name}.json"
        if not kept.is_file():
            say(name)
            before = time.perf_counter(), sum(os.times()[:4])
            result = stage(options)
            took = {"s": round(time.perf_counter() - before[0], 1), "cpu_s": round(sum(os.times()[:4]) - before[1], 1)}
            write_json(kept, {**took, "load": round(os.getloadavg()[0], 1), **result})
            say(kept.read_text())
    write_report(options.out)


def chunks(options: argparse.Namespace) -> Iterator[np.ndarray]:
    """The embeddings, a chunk at a time; the same ones each time."""
    features = None if options.features is None else real(options.features, options.dim)[0]
    for number, start in enumerate(range(0, options.rows, CHUNK)):
        size = min(CHUNK, options.rows - start)
        if features is None:
            # The waves are those of the first seed; positions and noise are others.
            yield towns(size, options.dim, seed=0, draw=number)[0]
        else:
            yield multiplied(features, size, seed=number)


@cache
def real(path: Path, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Image features to multiply, and queries."""
    return split_features(path, dim, QUERIES)


def table_of(options: argparse.Namespace) -> Any:
    """The Lance table."""
    import lancedb

    return lancedb.connect(options.out / "table").open_table("entries")


def rows_of(number: np.ndarray, embeddings: np.ndarray) -> pa.Table:
    """Rows of the table."""
    values = pa.FixedSizeListArray.from_arrays(pa.array(embeddings.reshape(-1)), embeddings.shape[1])
    return pa.table({"number": number, COLUMN: values})


def write(options: argparse.Namespace) -> dict[str, Any]:
    """Write the table without the last rows, and the true best of all and of the filtered rows."""
    import lancedb

    chosen = None if options.features is None else real(options.features, options.dim)[1]
    first_rows = options.rows - options.rows // LATER
    best: dict[str, Any] = {}
    database = lancedb.connect(options.out / "table")
    start = 0
    for embeddings in chunks(options):
        if chosen is None:
            chosen = noisy_queries(embeddings, QUERIES, 1.0)
        number = np.arange(start, start + len(embeddings))
        scores = chosen @ embeddings.T
        keep(best, "all", number, scores)
        keep(best, "first", number[number < first_rows], scores[:, number < first_rows])
        for name, one_in in SHARES.items():
            keep(best, name, number[number % one_in == 0], scores[:, number % one_in == 0])
        now = number < first_rows
        if now.any():
            part = rows_of(number[now], embeddings[now])
            if start == 0:
                table = database.create_table("entries", part, mode="overwrite")
            else:
                table.add(part)
        if not now.all():
            np.save(options.out / f"later-{start}.npy", embeddings[~now])
        start += len(embeddings)
    np.savez(options.out / "truth.npz", queries=chosen, **{name: rows for name, (_, rows) in best.items()})
    return {"rows": first_rows, "table_mb": size_mb(options.out / "table")}


def keep(best: dict[str, Any], name: str, number: np.ndarray, scores: np.ndarray) -> None:
    """Merge scores into the best so far."""
    if name in best:
        scores = np.concatenate([best[name][0], scores], axis=1)
        rows = np.concatenate([best[name][1], np.broadcast_to(number, (len(scores), len(number)))], axis=1)
    else:
        rows = np.broadcast_to(number, (len(scores), len(number)))
    count = min(TOP, scores.shape[1])
    at = np.argpartition(-scores, count - 1, axis=1)[:, :count]
    at = np.take_along_axis(at, np.argsort(-np.take_along_axis(scores, at, axis=1), axis=1), axis=1)
    best[name] = np.take_along_axis(scores, at, axis=1), np.take_along_axis(rows, at, axis=1)


def index(options: argparse.Namespace) -> dict[str, Any]:
    """Build the index."""
    table = table_of(options)
    vectors, added = build_index(options.out / "index", table, COLUMN, report=lambda done, total: say(f"{done}"))
    return {"vectors": vectors, "added": added, "index_mb": size_mb(options.out / "index"), **codes_mb(options)}


def search(options: argparse.Namespace) -> dict[str, Any]:
    """Search the indexed rows."""
    return measured(options, "first", every_effort=True)


def append(options: argparse.Namespace) -> dict[str, Any]:
    """Append the other rows, and search them one by one."""
    table, count = table_of(options), 0
    before = table.count_rows()
    for path in sorted(options.out.glob("later-*.npy"), key=lambda path: int(path.stem.split("-")[1])):
        embeddings = np.load(path)
        end = int(path.stem.split("-")[1]) + min(CHUNK, options.rows - int(path.stem.split("-")[1]))
        if before < end:
            table.add(rows_of(np.arange(end - len(embeddings), end), embeddings))
        count += len(embeddings)
    return {"appended": count, **measured(options, "all")}


def extend(options: argparse.Namespace) -> dict[str, Any]:
    """Add the appended rows to the index."""
    vectors, added = build_index(options.out / "index", table_of(options), COLUMN)
    return {"vectors": vectors, "added": added}


def search_all(options: argparse.Namespace) -> dict[str, Any]:
    """Search all rows by the extended index."""
    return measured(options, "all")


def filtered(options: argparse.Namespace) -> dict[str, Any]:
    """Search parts of the rows."""
    return {name: measured(options, name, one_in=one_in) for name, one_in in SHARES.items()}


def measured(
    options: argparse.Namespace, name: str, one_in: int | None = None, every_effort: bool = False
) -> dict[str, Any]:
    """Open the index and search it one by one and in batches."""
    table = table_of(options)
    scan = ann.rows(table, ["number"])
    ids, number = scan[ann.ROW_ID].to_numpy().astype(np.int64), scan["number"].to_numpy()
    order = np.argsort(ids)
    ids, number = ids[order], number[order]
    before_mb = private_mb()
    opened, open_s = timed(lambda: VectorIndex.open(options.out / "index", table, COLUMN, ids))
    if one_in is not None:
        allowed = ids[number % one_in == 0]
        opened, among_s = timed(lambda: opened.among(allowed))
        open_s = among_s
    held_mb = round(private_mb() - before_mb)
    arrays = np.load(options.out / "truth.npz")
    queries, truth = arrays["queries"], arrays[name]
    efforts = [Effort(probes=probes) for probes in (options.probes if every_effort else options.probes[:1])]
    results = []
    for effort in efforts:
        for k in (100, TOP):

            def rows(part: np.ndarray, k: int = k, effort: Effort = effort) -> np.ndarray:
                row_ids = opened.search(part, k, effort).row_ids
                return np.where(row_ids < 0, -1, number[np.minimum(np.searchsorted(ids, row_ids), len(ids) - 1)])

            rows(queries)  # reads the pages of the vectors
            single = [timed(lambda at=at: rows(queries[at : at + 1])) for at in range(len(queries))]
            batches = [timed(lambda at=at: rows(queries[at : at + BATCH])) for at in range(0, len(queries), BATCH)]
            wall, cpu = (1e3 * np.array([took[which] for _, took in single]) for which in (0, 1))
            found = np.concatenate([result for result, _ in single])
            results.append(
                {
                    "probes": effort.probes,
                    "k": k,
                    "p50_ms": round(float(np.median(wall)), 2),
                    "p99_ms": round(float(np.percentile(wall, 99)), 2),
                    "cpu_ms": round(float(cpu.mean()), 2),
                    "batch_ms": round(1e3 * float(np.median([took[0] for _, took in batches])) / BATCH, 2),
                    "batch_cpu_ms": round(1e3 * float(np.mean([took[1] for _, took in batches])) / BATCH, 2),
                    **{f"recall_at_{n}": round(recall(found, truth, n), 4) for n in KS if n <= min(k, truth.shape[1])},
                }
            )
    return {"open_s": round(open_s[0], 1), "open_cpu_s": round(open_s[1], 1), "memory_mb": held_mb, "searches": results}


def codes_mb(options: argparse.Namespace) -> dict[str, int]:
    """Size of the part of the index that is held in memory."""
    return {"codes_mb": round(sum(path.stat().st_size for path in (options.out / "index").glob("*.faiss")) / 2**20)}


def size_mb(folder: Path) -> int:
    """Bytes of the files of a folder, MB."""
    return round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20)


def write_report(out: Path) -> None:
    """Collect the stages."""
    stages = {name: json.loads((out / f"{name}.json").read_text()) for name in STAGES}
    rows = []
    for name, stage in stages.items():
        parts = stage if name == "filter" else {name: stage}
        for part, values in parts.items():
            for result in values.get("searches", []) if isinstance(values, dict) else []:
                recalls = (f"{result[f'recall_at_{k}']:.3f}" for k in KS if f"recall_at_{k}" in result)
                times = (result["p50_ms"], result["p99_ms"], result["cpu_ms"], result["batch_cpu_ms"])
                rows.append((part, str(result["probes"]), str(result["k"]), *map(str, times), " / ".join(recalls)))
    columns = (
        "searched",
        "probes",
        "k",
        "p50 ms",
        "p99 ms",
        "CPU ms",
        "CPU ms in batches",
        "recall@1 / 10 / 100 / 512",
    )
    write_results(out, "large-index", stages, markdown(columns, rows))


STAGES: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "write": write,
    "index": index,
    "search": search,
    "append": append,
    "extend": extend,
    "search-all": search_all,
    "filter": filtered,
}


if __name__ == "__main__":
    main()
