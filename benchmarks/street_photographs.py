"""Whether photographs help on new streets: as evidence, and verified, where the gallery has those of training.

    python benchmarks/proof.py cambridge --manifest cambridge --image-tower dinov2-small-9 --out proof
    python benchmarks/street_photographs.py proof/cambridge/new --out results/street-photographs

By its protocol the gallery of `new-streets` has positions alone. Here the positions of training photographs have these
photographs, as those of a user have: a query on a new street can look like them, and is 20 m away from all. The
posterior is fitted on the validation queries as in training, first with photographs and then with verification, which
the fit may leave out where it does not help. Reads the finished runs of one recipe, one per draw, and trains nothing;
after an interruption the same command resumes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import markdown, write_results
from trained_runs import draws_parser, measured_draws

from swclip.calibration.posterior_config import read_posterior
from swclip.data.manifest import Manifest
from swclip.data.splits import QuerySplit, Splits, candidates_for, indices
from swclip.evaluation.evaluate import query_rows
from swclip.gallery.build import build_gallery
from swclip.gallery.gallery import Gallery
from swclip.gallery.patches import ComputedPatches
from swclip.geo.distance import geodesic_m
from swclip.geo.neighbours import SphereIndex
from swclip.models.embed import photograph_vectors
from swclip.models.embed_patches import patch_features
from swclip.models.feature_cache import FeatureCache
from swclip.models.locator_model import LocatorModel, load_model
from swclip.models.photograph_vectors import PhotographVectors
from swclip.reporting.units import metres, percent
from swclip.retrieval.point_estimates import mode
from swclip.retrieval.posterior import log_posterior
from swclip.retrieval.posterior_fit import fit_posterior
from swclip.retrieval.region_fit import FOLDS, split_blocks
from swclip.retrieval.verification_fit import fit_verification
from swclip.training.run import data_of_run, read_finished_run

RADII_M = (25.0, 50.0, 100.0)
CANDIDATES = 20
EVIDENCE = ("locations alone (the protocol)", "also photographs of training", "also 20 candidates verified")
CACHE = FeatureCache()


def gallery_with_photographs(model: LocatorModel, manifest: Manifest, splits: Splits) -> Gallery:
    """The candidates of the queries, with the training photographs at their positions, and their patch features."""
    candidates = candidates_for(splits, "query").copy()
    rows = indices(splits, manifest, "train")
    places = SphereIndex(candidates[["lat_deg", "lon_deg"]].to_numpy())
    away_m, nearest = (values[:, 0] for values in places.nearest(manifest.positions_deg[rows], k=1))
    if away_m.max() > 1.0:
        raise SystemExit(f"{splits.path}: training photographs are at positions that are no candidates.")
    ids = manifest.frame["image_id"].to_numpy()[rows]
    candidates["image_ids"] = [ids[nearest == row].tolist() for row in range(len(candidates))]
    gallery = build_gallery(model, candidates, manifest, cache=CACHE, patches=True)
    assert isinstance(gallery.verifier, ComputedPatches)
    return replace(gallery, verifier=gallery.verifier.computed())


def queries_of(
    model: LocatorModel, manifest: Manifest, splits: Splits, on: QuerySplit
) -> tuple[PhotographVectors, Any, list[str]]:
    """Vectors and true positions of the queries, and the block of each."""
    rows = query_rows(splits, manifest, on)
    paths = [manifest.image_paths[row] for row in rows]
    vectors = photograph_vectors(model, paths, cache=CACHE)
    block_of = splits.frame.set_index("image_id")["block_id"]
    blocks = block_of.reindex(manifest.frame["image_id"].to_numpy()[rows]).astype(str).tolist()
    details = tuple(patch_features(model, paths, cache=CACHE))
    return replace(vectors, details=details), manifest.positions_deg[rows], blocks


def measured(run: Path) -> dict[str, Any]:
    """The figures of one draw by each kind of evidence, and what was fitted."""
    model, published = load_model(run), read_posterior(run)
    if published is None or model.whitening is None or model.patches is None:
        raise SystemExit(f"{run}: needs whitened and patch features; give runs of sw-clip-plus.")
    manifest, splits = data_of_run(run, read_finished_run(run))
    gallery = gallery_with_photographs(model, manifest, splits)
    val, val_deg, blocks = queries_of(model, manifest, splits, "val")
    folds = split_blocks(blocks, FOLDS, np.random.default_rng(0))
    plain = fit_posterior(val, val_deg, gallery, fold_of=folds)
    verified = fit_verification(val, val_deg, gallery, plain, CANDIDATES, fold_of=folds)
    helps = verified.config.verified_candidates > 0
    if not helps:  # by queries that were left out; the temperature of all queries shows what it would do nevertheless
        verified = fit_verification(val, val_deg, gallery, replace(plain, left_out=()), CANDIDATES)
    query, truth, _ = queries_of(model, manifest, splits, "query")
    figures = {}
    for name, config in zip(EVIDENCE, (published, plain.config, verified.config), strict=True):
        log_p = log_posterior(query, gallery, config)
        error_m = geodesic_m(truth, mode(log_p, gallery.positions_deg, config.smoothing_m, config.kernel))
        within = [float((error_m <= radius).mean()) for radius in RADII_M]
        figures[name] = {"median": float(np.median(error_m)), "mean": float(error_m.mean()), "within": within}
    temperature = verified.config.verified_temperature
    return {"figures": figures, "weight": plain.config.image_weight, "helps": helps, "temperature": temperature}


def main() -> None:
    """Measure all draws, and write the table."""
    args = draws_parser(__doc__).parse_args()
    draws = measured_draws(args, measured)
    rows = []
    for name in EVIDENCE:
        each = [draw["figures"][name] for draw in draws]
        median, mean = (metres(float(np.mean([draw[key] for draw in each]))) for key in ("median", "mean"))
        within = [percent(float(np.mean([draw["within"][at] for draw in each]))) for at in range(len(RADII_M))]
        rows.append([name, median, mean, *within])
    table = markdown(["evidence", "median", "mean", "within 25 m", "within 50 m", "within 100 m"], rows)
    fitted = ", ".join(
        f"weight of photographs {draw['weight']:g}, verification {'helps' if draw['helps'] else 'does not help'}"
        for draw in draws
    )
    text = f"{table}\nOn the validation queries of each draw: {fitted}.\n"
    write_results(args.out, "street-photographs", {"draws": draws}, text)


if __name__ == "__main__":
    main()
