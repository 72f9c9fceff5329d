"""Coarse-to-fine search against the exhaustive one: time, recall and what is left out, by beam.

    python benchmarks/hierarchy.py [--candidates N --queries N --dim D --neighbourhood-m M --noise S]

Candidates stand on a grid of 11 m. Their embeddings change smoothly over the ground (random Fourier features of
neighbourhood and city scales) with noise of their own; a query is the embedding of a candidate with noise. How well
bounds prune depends on that smoothness: raise --noise, or lower --neighbourhood-m, to see them fail. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
from swclip.retrieval.coarse import CoarseIndex

from swclip.gallery.gallery import Gallery
from swclip.retrieval.posterior import PosteriorConfig

TOP_K = 10
BEAMS = (4, 16, 64, 256, 1024, None)


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--neighbourhood-m", type=float, default=300.0)
    parser.add_argument("--noise", type=float, default=0.2)
    parser.add_argument("--resolution", type=int, default=None)
    options = parser.parse_args()

    generator = np.random.default_rng(0)
    gallery = _gallery(generator, options.candidates, options.dim, options.neighbourhood_m, options.noise)
    rows = generator.choice(len(gallery), options.queries, replace=False)
    queries = _unit(gallery.location_embeddings[rows] + _noise(generator, options.queries, options.dim, 0.5))
    start = time.perf_counter()
    index = CoarseIndex.of(gallery, options.resolution)
    built_s = time.perf_counter() - start

    start = time.perf_counter()
    scores = np.stack([gallery.location_embeddings @ query for query in queries])
    exhaustive_s = (time.perf_counter() - start) / len(queries)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :TOP_K]
    config = PosteriorConfig(location_temperature=0.02)
    weights = np.exp((scores - scores.max(axis=1, keepdims=True)).astype(np.float64) / config.location_temperature)
    posterior = weights / weights.sum(axis=1, keepdims=True)

    table = []
    for beam in BEAMS:
        start = time.perf_counter()
        found = [index.search(query, config, beam=beam, top_k=TOP_K) for query in queries]
        search_s = (time.perf_counter() - start) / len(queries)
        inside = [np.isin(own, opened.rows) for own, opened in zip(best, found, strict=True)]
        held = [posterior[row, opened.rows].sum() for row, opened in enumerate(found)]
        table.append(
            {
                "beam": "until proven" if beam is None else beam,
                "ms": round(1e3 * search_s, 2),
                "times_faster": round(exhaustive_s / search_s, 1),
                "scored_share": round(float(np.mean([opened.scored_share for opened in found])), 4),
                "recall@1": round(float(np.mean([own[0] for own in inside])), 3),
                f"recall@{TOP_K}": round(float(np.mean(inside)), 3),
                "proven": round(float(np.mean([opened.proven for opened in found])), 3),
                "posterior_inside": round(float(np.mean(held)), 4),
                "left_out_at_most": round(float(np.mean([opened.left_out_at_most for opened in found])), 4),
            }
        )
    report = {
        **vars(options),
        "cells": len(index),
        "resolution": index.resolution,
        "median_cap_deg": round(float(np.median(np.degrees(np.arccos(index.locations.cosine)))), 1),
        "index_once_s": round(built_s, 2),
        "exhaustive_ms": round(1e3 * exhaustive_s, 2),
        "searches": table,
    }
    print(json.dumps(report, indent=2))


def _gallery(generator: np.random.Generator, count: int, dim: int, neighbourhood_m: float, noise: float) -> Gallery:
    side = int(np.ceil(np.sqrt(count)))
    ground_m = 11.0 * np.stack(np.divmod(np.arange(count), side), axis=1).astype(np.float32)
    scales_m = np.repeat([neighbourhood_m, 10.0 * neighbourhood_m], [dim - dim // 2, dim // 2])
    waves = (generator.normal(size=(2, dim)) / scales_m).astype(np.float32)
    phase = generator.uniform(0.0, 2.0 * np.pi, dim).astype(np.float32)
    embeddings = np.empty((count, dim), dtype=np.float32)
    for first in range(0, count, 50_000):
        own = ground_m[first : first + 50_000]
        embeddings[first : first + len(own)] = _unit(
            _unit(np.cos(own @ waves + phase)) + _noise(generator, len(own), dim, noise)
        )
    positions = np.array([51.0, -0.6]) + ground_m.astype(np.float64) / [111_200.0, 70_000.0]
    none = np.zeros(0, dtype=np.int64)
    return Gallery([str(i) for i in range(count)], positions, [None] * count, embeddings, embeddings[:0], none, [])


def _noise(generator: np.random.Generator, rows: int, dim: int, length: float) -> np.ndarray:
    """Vectors of about a length, in random directions."""
    return np.float32(length / np.sqrt(dim)) * generator.standard_normal((rows, dim), dtype=np.float32)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


if __name__ == "__main__":
    main()
