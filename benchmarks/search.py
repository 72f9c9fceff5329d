"""Exact search: 1,000 queries against 100,000 candidates of 256 dimensions, all of them scored.

    python benchmarks/search.py [--candidates N --queries N --dim D]

Compares a loop that scores and sorts one query at a time, the whole matrix of scores at once, and the search of `swclip
locate` (similarities, posterior, and optionally its spatial density, in chunks of bounded memory). All find the same
best candidate. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable

import numpy as np

from swclip.calibration.posterior_config import PosteriorConfig
from swclip.gallery.gallery import Gallery
from swclip.retrieval.point_estimates import spatial_density, top_k
from swclip.retrieval.posterior import gallery_kernel
from swclip.retrieval.scores import Photographed, chunks, location_similarity, log_probability

TOP_K = 10


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--dim", type=int, default=256)
    options = parser.parse_args()

    generator = np.random.default_rng(0)
    location = _unit(generator, options.candidates, options.dim)
    side = int(np.ceil(np.sqrt(options.candidates)))
    cells = np.stack(np.divmod(np.arange(options.candidates), side), axis=1)
    gallery = Gallery(
        [str(i) for i in range(options.candidates)],
        np.array([51.5, -0.1]) + cells * [1e-4, 1.6e-4],  # a grid of about 11 m
        [None] * options.candidates,
        location,
        location[:0],
        np.zeros(0, dtype=np.int64),
        [],
    )
    query = _unit(generator, options.queries, options.dim)
    config = PosteriorConfig(smoothing_m=20.0)

    ways: dict[str, Callable[[], np.ndarray]] = {
        "chunked search": lambda: _searched(query, gallery),
        "chunked posterior": lambda: _posterior(query, gallery, config, smooth=False),
        "loop over queries": lambda: np.stack([np.argsort(-(location @ q), kind="stable")[:TOP_K] for q in query]),
    }
    results: dict[str, float] = {}
    best: dict[str, np.ndarray] = {}
    peak_mb: dict[str, int] = {}
    for name, way in ways.items():
        results[name], best[name] = _timed(way)
        if name.startswith("chunked"):  # the peak only grows: after the loop it would be that of the loop
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            peak_mb[name] = peak // (2**20 if sys.platform == "darwin" else 2**10)
    kernel_s, _ = _timed(lambda: gallery_kernel(gallery, config.smoothing_m, config.kernel).data)
    results["chunked posterior, smoothed"], _ = _timed(lambda: _posterior(query, gallery, config, smooth=True))
    results["whole matrix at once"], best["whole matrix at once"] = _timed(
        lambda: np.argsort(-(query @ location.T), axis=1)[:, :TOP_K]
    )
    if any((rows[:, 0] != best["loop over queries"][:, 0]).any() for rows in best.values()):
        raise SystemExit("the searches do not find the same candidates")
    loop = results["loop over queries"]
    report = {
        "queries": options.queries,
        "candidates": options.candidates,
        "dim": options.dim,
        "seconds": {name: round(value, 3) for name, value in results.items()},
        "times_faster_than_the_loop": {name: round(loop / value, 1) for name, value in results.items()},
        "peak_memory_mb_so_far": peak_mb,
        "ground_kernel_once_s": round(kernel_s, 2),
    }
    print(json.dumps(report, indent=2))


def _unit(generator: np.random.Generator, rows: int, dim: int) -> np.ndarray:
    vectors = generator.standard_normal((rows, dim), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _searched(query: np.ndarray, gallery: Gallery) -> np.ndarray:
    return np.concatenate(
        [top_k(location_similarity(query[part], gallery), TOP_K) for part in chunks(len(query), gallery)]
    )


def _posterior(query: np.ndarray, gallery: Gallery, config: PosteriorConfig, *, smooth: bool) -> np.ndarray:
    photographed, best = Photographed.of(gallery), []
    kernel = gallery_kernel(gallery, config.smoothing_m, config.kernel) if smooth else None
    for part in chunks(len(query), gallery):
        log_p = log_probability(query[part], gallery, config, photographed)
        best.append(top_k(log_p if kernel is None else spatial_density(log_p, kernel), TOP_K))
    return np.concatenate(best)


def _timed(way: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    start = time.perf_counter()
    result = way()
    return time.perf_counter() - start, result


if __name__ == "__main__":
    main()
