"""Answers from shortlists compared with those from the whole gallery.

    python benchmarks/nearest.py --run RUN MANIFEST SPLITS --out results/nearest-real
    python benchmarks/nearest.py --made-up 1000000 --dim 128 --out results/nearest-made-up

The same queries are answered from the whole gallery in memory and from shortlists of several k (`ShortlistConfig.k`)
of a Lance table with an index on both columns. Reported for each k, by estimator: share of the answers at another point
(more than 1 m away), and the median error of both; share of the gallery that is scored; the probability of the other
candidates, true and estimated from the sample; and the CPU time per query. `--sample` is the size of the sample for the
estimate, `--around 0` omits the spatial neighbours.

With `--made-up` the gallery is that of `made_up.towns`, each candidate with a photograph: the embedding of its location
with as much noise again. Queries are photographs, with 1.5 times as much noise, of places that are not in the gallery.
Writes nearest.json and nearest.md.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from common import markdown, new_parser, say, write_results
from made_up import towns, unit

from swclip.calibration.posterior_config import PosteriorConfig
from swclip.gallery import ann
from swclip.gallery.gallery import Gallery
from swclip.gallery.index_build import build_index, tune_probes
from swclip.gallery.vector_index import VectorIndex
from swclip.geo.distance import haversine_m
from swclip.retrieval.point_estimates import estimators
from swclip.retrieval.scores import Photographed, chunks, log_probability
from swclip.retrieval.shortlist import IMAGE, LOCATION, ShortlistConfig, Shortlister

MOVED_M = 1.0
MADE_UP = PosteriorConfig(0.05, 0.03, 0.5, smoothing_m=20.0)
_BATCH_ROWS = 8192


def main() -> None:
    """Run the comparison."""
    parser = new_parser(__doc__, out_required=True)
    parser.add_argument("--run", nargs=3, metavar=("RUN", "MANIFEST", "SPLITS"))
    parser.add_argument("--made-up", type=int)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--k", type=int, nargs="+", default=[32, 128, 512, 2048])
    parser.add_argument("--sample", type=int, default=ShortlistConfig.sample)
    parser.add_argument("--around", type=int, default=ShortlistConfig.around)
    options = parser.parse_args()
    gallery, config, queries, truth_deg = real(*options.run) if options.run else made_up(options)
    queries, truth_deg = queries[: options.queries], truth_deg[: options.queries]
    start = time.process_time()
    whole, exact = posteriors(gallery, config, queries)
    exact_ms = 1e3 * (time.process_time() - start) / len(queries)
    say(f"whole gallery: {exact_ms:.1f} ms a query")
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.out) as folder:
        table, indices = written(gallery, Path(folder)), Path(folder) / "index"
        recall = {}
        for column in (LOCATION, IMAGE):
            index = VectorIndex.open(indices, table, column, ann.row_ids_of(table, column))
            if index is not None:
                probes, values = tune_probes(indices, index, table, column, queries[:50], (1, 10, 100))
                recall[column] = {"probes": probes, "partitions": index.partitions, **values}
        say(str(recall))
        results = []
        for k in options.k:
            results.append(
                compared(
                    Shortlister(table, {}, ShortlistConfig(k, options.around, options.sample), indices),
                    config,
                    queries,
                    truth_deg,
                    (whole, exact),
                    {name: row for row, name in enumerate(gallery.candidate_ids)},
                )
            )
            say(str(results[-1]))
    report = {
        "candidates": len(gallery),
        "photographs": len(gallery.image_ids),
        "dim": gallery.dim,
        "queries": len(queries),
        "posterior": config.to_dict(),
        "recall": recall,
        "whole_cpu_ms": round(exact_ms, 2),
        "shortlists": results,
    }
    names = ("mode", "argmax", "geometric-median")
    rows = [
        (
            str(result["k"]),
            f"{100 * result['scored_share']:.2f} %",
            *(f"{100 * result['moved'][name]:.1f} %" for name in names),
            f"{result['outside']:.3f} / {result['estimated']:.3f} / {result['outside_off']:.4f}",
            f"{result['cpu_ms']:.1f} / {exact_ms:.1f}",
        )
        for result in results
    ]
    columns = ("k", "scored", *(f"moved, {name}" for name in names))
    more = ("outside: true / estimated / mean difference", "CPU ms a query: shortlist / whole")
    write_results(options.out, "nearest", report, markdown([*columns, *more], rows))


def posteriors(
    gallery: Gallery, config: PosteriorConfig, queries: np.ndarray
) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """The whole posterior of each query (float32), and the points by each estimator."""
    photographed, named = Photographed.of(gallery), estimators(config)
    whole: list[np.ndarray] = []
    points: dict[str, list[np.ndarray]] = {name: [] for name in named}
    for chunk in chunks(len(queries), gallery):
        log_p = log_probability(queries[chunk], gallery, config, photographed)
        whole += [row.astype(np.float32) for row in log_p]
        for name, estimator in named.items():
            points[name].append(estimator(log_p, gallery.positions_deg))
    return whole, {name: np.concatenate(parts) for name, parts in points.items()}


def compared(
    shortlister: Shortlister,
    config: PosteriorConfig,
    queries: np.ndarray,
    truth_deg: np.ndarray,
    exact: tuple[list[np.ndarray], dict[str, np.ndarray]],
    number: dict[str, int],
) -> dict[str, object]:
    """Compare answers from shortlists with those from the whole gallery."""
    whole, points = exact
    outside, estimated, share, cpu, wall = [], [], [], [], []
    of_shortlist: dict[str, list[np.ndarray]] = {name: [] for name in points}
    for query, log_p in zip(queries, whole, strict=True):
        start = time.process_time(), time.perf_counter()
        shortlist = shortlister.shortlist(query, config)
        cpu.append(time.process_time() - start[0])
        wall.append(time.perf_counter() - start[1])
        rows = [number[name] for name in shortlist.gallery.candidate_ids]
        outside.append(1.0 - float(np.exp(log_p[rows].astype(np.float64)).sum()))
        estimated.append(shortlist.outside)
        share.append(len(shortlist.rows) / len(shortlister.gallery))
        for name, estimator in estimators(config).items():
            of_shortlist[name].append(
                shortlist.geometric_median(shortlister.gallery.positions_deg)
                if name == "geometric-median"
                else estimator(shortlist.log_posterior[None], shortlist.gallery.positions_deg)[0]
            )
    moved, median_m = {}, {}
    for name, points_deg in points.items():
        shortlist_deg = np.stack(of_shortlist[name])
        moved[name] = float((_away_m(shortlist_deg, points_deg) > MOVED_M).mean())
        median_m[name] = [float(np.median(_away_m(answers, truth_deg))) for answers in (shortlist_deg, points_deg)]
    return {
        "k": shortlister.config.k,
        "scored_share": float(np.mean(share)),
        "moved": moved,
        "median_m": median_m,
        "outside": float(np.mean(outside)),
        "estimated": float(np.mean(estimated)),
        "outside_off": float(np.mean(np.abs(np.array(outside) - estimated))),
        "cpu_ms": round(1e3 * float(np.mean(cpu)), 2),
        "wall_ms": round(1e3 * float(np.median(wall)), 2),
        "load": round(os.getloadavg()[0], 1),
    }


def real(run: str, manifest_path: str, splits_path: str) -> tuple[Gallery, PosteriorConfig, np.ndarray, np.ndarray]:
    """The gallery, posterior, queries and their positions of a run's splits."""
    from swclip.calibration.posterior_config import read_posterior
    from swclip.data.manifest import read_manifest
    from swclip.data.splits import candidates_for, indices, read_splits
    from swclip.gallery.build import build_gallery
    from swclip.gallery.hubness import read_bank
    from swclip.models.embed import embed_photographs
    from swclip.models.feature_cache import FeatureCache
    from swclip.models.locator_model import load_model

    manifest, splits, model = read_manifest(manifest_path), read_splits(splits_path), load_model(run)
    candidates, cache = candidates_for(splits, "query"), FeatureCache()
    gallery = build_gallery(model, candidates, manifest, bank=read_bank(run), cache=cache)
    rows = indices(splits, manifest, "query")
    queries = embed_photographs(model, [manifest.image_paths[row] for row in rows], cache=cache)
    posterior = read_posterior(run)
    if posterior is None:
        raise SystemExit(f"{run}: has no fitted posterior.")
    order = np.random.default_rng(0).permutation(len(queries))
    return gallery, posterior, queries[order], manifest.positions_deg[rows][order]


def made_up(options: argparse.Namespace) -> tuple[Gallery, PosteriorConfig, np.ndarray, np.ndarray]:
    """A gallery of towns, and queries at some of its places."""
    count = int(options.made_up)
    everywhere, positions, city = towns(count + options.queries, options.dim)
    generator = np.random.default_rng(3)

    def seen(rows: np.ndarray, noise: float) -> np.ndarray:
        return unit(rows + noise / np.sqrt(options.dim) * generator.standard_normal(rows.shape, dtype=np.float32))

    vectors, queries, truth_deg = everywhere[:count], seen(everywhere[count:], 1.5), positions[count:]
    images = np.concatenate([seen(vectors[start : start + 50_000], 1.0) for start in range(0, count, 50_000)])
    positions, city = positions[:count], city[:count]
    names = [f"c{row:07d}" for row in range(count)]
    cities: list[str | None] = [f"city {number}" for number in city.tolist()]
    gallery = Gallery(
        names, positions, cities, vectors, images, np.arange(count), [f"p{row:07d}" for row in range(count)]
    )
    return gallery, MADE_UP, queries, truth_deg


def written(gallery: Gallery, folder: Path) -> Any:
    """A gallery as a Lance table with an index on each column of vectors."""
    os.environ.setdefault("LANCE_LOG", "error")
    import lancedb

    vector = pa.list_(pa.float32(), gallery.dim)
    names = {"candidate_id": pa.string(), "image_id": pa.string(), "lat_deg": pa.float64(), "lon_deg": pa.float64()}
    hubness = {} if gallery.image_hubness is None else {"image_hubness": pa.float32()}
    schema = pa.schema({**names, "city": pa.string(), LOCATION: vector, IMAGE: vector, **hubness})
    bare = np.setdiff1d(np.arange(len(gallery)), gallery.image_rows)
    candidate = np.concatenate([gallery.image_rows, bare])
    photograph = np.concatenate([np.arange(len(gallery.image_ids)), np.full(len(bare), -1)])

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, len(candidate), _BATCH_ROWS):
            at, image_at = candidate[start : start + _BATCH_ROWS], photograph[start : start + _BATCH_ROWS]
            none, images = image_at < 0, np.zeros((len(image_at), gallery.dim), dtype=np.float32)
            images[~none] = gallery.image_embeddings[image_at[~none]]
            columns = [
                pa.array([gallery.candidate_ids[row] for row in at]),
                pa.array([None if row < 0 else gallery.image_ids[row] for row in image_at], pa.string()),
                pa.array(gallery.positions_deg[at, 0]),
                pa.array(gallery.positions_deg[at, 1]),
                pa.array([gallery.cities[row] for row in at], pa.string()),
                _vectors(gallery.location_embeddings[at]),
                _vectors(images, none),
            ]
            if gallery.image_hubness is not None:
                values = np.where(none, 0.0, np.append(gallery.image_hubness, 0.0)[image_at]).astype(np.float32)
                columns.append(pa.array(values, mask=none))
            yield pa.RecordBatch.from_arrays(columns, schema=schema)

    reader = pa.RecordBatchReader.from_batches(schema, batches())
    table = lancedb.connect(folder).create_table("entries", reader, on_bad_vectors="null")
    for column in (LOCATION, IMAGE):
        start = time.perf_counter(), time.process_time()
        build_index(folder / "index", table, column)
        say(f"index of {column}: {time.perf_counter() - start[0]:.1f} s, CPU {time.process_time() - start[1]:.1f} s")
    return table


def _vectors(rows: np.ndarray, none: np.ndarray | None = None) -> pa.Array:
    values = pa.array(np.ascontiguousarray(rows, dtype=np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(values, rows.shape[1], mask=None if none is None else pa.array(none))


def _away_m(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return haversine_m(a[:, 0], a[:, 1], b[:, 0], b[:, 1])


if __name__ == "__main__":
    main()
