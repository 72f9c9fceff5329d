"""Several photographs of one place, answered together: their errors, and the coverage of their regions.

    python benchmarks/combined.py RUN MANIFEST --splits SPLITS [--split val] [--exponents 0 0.5 1]

The photographs of each place are pooled, in all subsets of each size, with each exponent of `retrieval.pooling` (0 is
the product, 1 the geometric mean). The score is that of `retrieval.posterior_fit`, lower is better; regions are
highest-density regions without calibration.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
from common import new_parser, write_table

from swclip.calibration.posterior_config import read_posterior
from swclip.calibration.region import tail_mass
from swclip.data.manifest import read_manifest
from swclip.data.splits import candidates_for, indices, read_splits
from swclip.gallery.build import build_gallery
from swclip.gallery.hubness import read_bank
from swclip.geo.distance import geodesic_m, haversine_m
from swclip.geo.kernels import kernel_weight
from swclip.models.embed import photograph_vectors
from swclip.models.feature_cache import FeatureCache
from swclip.models.locator_model import load_model
from swclip.retrieval.locator import Locator
from swclip.retrieval.pooling import EXPONENT, pooled
from swclip.retrieval.posterior_fit import SCORE_SCALE_M

LEVELS = (0.5, 0.8, 0.95)
BACKGROUND = 0.01
MAX_SETS = 2000


def main() -> None:
    """Run the comparison."""
    parser = new_parser(__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--splits", type=Path, required=True)
    parser.add_argument("--split", choices=("val", "query"), default="query")
    parser.add_argument("--exponents", type=float, nargs="+", default=[0.0, EXPONENT, 1.0])
    options = parser.parse_args()

    manifest, splits = read_manifest(options.manifest), read_splits(options.splits)
    model, cache = load_model(options.run), FeatureCache()
    candidates = candidates_for(splits, options.split)
    gallery = build_gallery(
        model, candidates, manifest, posterior=read_posterior(options.run), bank=read_bank(options.run), cache=cache
    )
    locator, rows = Locator(gallery, model), indices(splits, manifest, options.split)
    query = photograph_vectors(model, [manifest.image_paths[row] for row in rows], cache=cache)
    log_p, truth = locator.evidence(query).log_p, manifest.positions_deg[rows]
    by_place = manifest.frame.iloc[rows].reset_index(drop=True).groupby("place_id").indices
    heads = ["photographs", "exponent", "sets", "score", "median", "mean", "within 25 m", "within 100 m"]
    heads += [f"in the {level:.0%} region" for level in LEVELS]
    lines = []
    for count in range(1, max(map(len, by_place.values())) + 1):
        sets = _sets(list(by_place.values()), count)
        for exponent in options.exponents if count > 1 else [0.0]:
            figures = _measured(locator, log_p, truth, sets, exponent)
            lines.append([str(count), f"{exponent:g}" if count > 1 else "", str(len(sets)), *figures])
    write_table(options.out, "combined", heads, lines)


def _sets(places: list[np.ndarray], count: int) -> np.ndarray:
    """(S, count) photographs of one place each: all subsets, or a uniform sample of them."""
    subsets = np.array([chosen for place in places for chosen in combinations(place.tolist(), count)])
    if len(subsets) <= MAX_SETS:
        return subsets
    return subsets[np.sort(np.random.default_rng(0).choice(len(subsets), MAX_SETS, replace=False))]


def _measured(locator: Locator, log_p: np.ndarray, truth: np.ndarray, sets: np.ndarray, exponent: float) -> list[str]:
    together = np.concatenate([pooled(log_p[subset], True, exponent=exponent) for subset in sets])
    places, candidates = truth[sets].mean(axis=1), locator.gallery.positions_deg
    points = np.array([[answer.lat_deg, answer.lon_deg] for answer in locator.answer_posteriors(together, top_k=1)])
    probability, error = locator.smoothed_posterior(together), geodesic_m(points, places)
    away_m = haversine_m(places[:, None, 0], places[:, None, 1], candidates[None, :, 0], candidates[None, :, 1])
    near = kernel_weight(away_m, SCORE_SCALE_M, "exponential")
    score = -np.log((1 - BACKGROUND) * (probability * near).sum(axis=1) + BACKGROUND * near.mean(axis=1))
    cells = locator.region_cells
    tails = tail_mass(cells.mass(probability), cells.area_km2, cells.index_of(places))
    return [
        f"{score.mean():.3f}",
        f"{np.median(error):.1f} m",
        f"{error.mean():.0f} m",
        *(f"{(error <= limit).mean():.1%}" for limit in (25, 100)),
        *(f"{(tails >= 1.0 - level).mean():.1%}" for level in LEVELS),
    ]


if __name__ == "__main__":
    main()
