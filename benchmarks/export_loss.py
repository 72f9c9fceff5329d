"""The loss of accuracy by 8-bit embeddings of a gallery, on the queries of a split.

    python benchmarks/export_loss.py RUN MANIFEST --splits SPLITS --out results/export-loss

The queries are answered from the run's gallery and from the same gallery with its embeddings as integers (one scale per
vector, as in `swclip export GALLERY --embeddings int8`; for comparison one scale per dimension, and the signs alone).
Reported: errors in metres (of the mode), shares, recall within 25 m, and for each gallery its difference
from float32 with a paired 95 % interval over blocks of queries, the share of queries with the same most probable
candidate, the shares whose answer moved, and the largest change of any posterior probability.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import new_parser, table_of, write_results

from swclip.calibration.posterior_config import ESTIMATOR, read_posterior
from swclip.data.manifest import read_manifest
from swclip.data.splits import candidates_for, read_splits
from swclip.evaluation.evaluate import query_rows
from swclip.evaluation.retrieval_task import hits_within
from swclip.export.embeddings import dequantize, quantize
from swclip.gallery.build import build_gallery
from swclip.gallery.gallery import Gallery
from swclip.gallery.hubness import read_bank
from swclip.geo.distance import geodesic_m
from swclip.metrics.bootstrap import resample_blocks, resample_statistics
from swclip.metrics.localization_error import RECALL_RADIUS_M, first_hit_rank, recall_at_k
from swclip.models.embed import photograph_vectors
from swclip.models.feature_cache import FeatureCache
from swclip.models.locator_model import load_model
from swclip.models.photograph_vectors import PhotographVectors
from swclip.retrieval.locator import Locator
from swclip.retrieval.point_estimates import estimators

Change = Callable[[np.ndarray], np.ndarray]
STATISTICS = ("median", "mean", "within_25", "within_100")


def main() -> None:
    """Run the comparison."""
    parser = new_parser(__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--splits", type=Path, required=True)
    options = parser.parse_args()

    manifest, splits = read_manifest(options.manifest), read_splits(options.splits)
    model, cache = load_model(options.run), FeatureCache()
    gallery = build_gallery(
        model,
        candidates_for(splits, "query"),
        manifest,
        posterior=read_posterior(options.run),
        bank=read_bank(options.run),
        cache=cache,
    )
    rows = query_rows(splits, manifest, "query")
    paths, truth = [manifest.image_paths[row] for row in rows], manifest.positions_deg[rows]
    block_of = dict(zip(splits.frame["image_id"], splits.frame["block_id"], strict=True))
    blocks = [block_of[image_id] for image_id in manifest.frame["image_id"].iloc[rows]]
    resampled = resample_blocks(blocks, 1000, np.random.default_rng(0))
    hits = hits_within(truth, gallery.positions_deg, RECALL_RADIUS_M)

    query = photograph_vectors(model, paths, cache=cache)
    report: dict[str, Any] = {
        "queries": len(query),
        "blocks": len(set(blocks)),
        "candidates": len(gallery),
        "photographs": len(gallery.image_ids),
    }
    galleries: dict[str, Change] = {
        "float32": lambda x: x,
        "int8, a scale a vector": lambda x: dequantize(*quantize(x)),
        "int8, a scale a dimension": lambda x: np.ascontiguousarray(dequantize(*quantize(x.T)).T),
        "signs alone": lambda x: np.sign(x) / np.float32(np.sqrt(x.shape[1])),
    }
    ways: dict[str, Any] = {}
    base: dict[str, Any] = {}
    for name, change in galleries.items():
        answers = _answered(_changed(gallery, change), model, query, truth, hits)
        drawn = resample_statistics(answers["error_m"], resampled)
        base = base or {**answers, "drawn": drawn}
        ways[f"gallery {name}"] = _row(answers, drawn, base)
    report["ways"] = ways
    rows: dict[str, dict[str, Any]] = {}
    for name, way in ways.items():
        plain = {key: value for key, value in way.items() if key != "difference"}
        rows[name] = plain | {f"{key}, difference": value for key, value in way["difference"].items()}
    write_results(options.out, "export_loss", report, table_of(rows))


def _changed(gallery: Gallery, change: Change) -> Gallery:
    return replace(
        gallery,
        location_embeddings=change(gallery.location_embeddings),
        image_embeddings=change(gallery.image_embeddings),
    )


def _answered(
    gallery: Gallery, model: Any, query: PhotographVectors, truth: np.ndarray, hits: list[np.ndarray]
) -> dict[str, Any]:
    locator = Locator(gallery, model)
    log_p = locator.evidence(query).log_p
    point = estimators(locator.posterior)[ESTIMATOR](log_p, gallery.positions_deg)
    ranks = [first_hit_rank(row, near) for row, near in zip(log_p, hits, strict=True)]
    answers = {"log_p": log_p, "first": log_p.argmax(axis=1), "point": point, "ranks": ranks}
    return {**answers, "error_m": geodesic_m(point, truth)}


def _row(answers: dict[str, Any], drawn: Any, base: dict[str, Any]) -> dict[str, Any]:
    moved = geodesic_m(answers["point"], base["point"])
    difference = drawn.minus(base["drawn"])
    return {
        **{name: round(drawn.values[name], 4) for name in STATISTICS},
        **{f"recall_at_{k}": round(share, 4) for k, share in recall_at_k(answers["ranks"], (1, 10)).items()},
        "same_most_probable_candidate": round(float((answers["first"] == base["first"]).mean()), 4),
        **{f"moved_by_more_than_{far}_m": round(float((moved > far).mean()), 4) for far in (1, 25)},
        "largest_change_of_a_probability": float(np.abs(np.exp(answers["log_p"]) - np.exp(base["log_p"])).max()),
        "difference": {name: [round(value, 4) for value in vars(difference[name]).values()] for name in STATISTICS},
    }


if __name__ == "__main__":
    main()
