"""Several photographs of one place, answered together: how much nearer, and whether regions still hold what they state.

    python benchmarks/combined.py GALLERY MANIFEST --splits SPLITS

The queries of the splits are answered one by one, and those of each place together (the product of their posteriors, as
`swclip serve` has it with combined=true). Regions are highest-density ones, without a calibration. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from swclip.data.manifest import read_manifest
from swclip.data.splits import read_splits
from swclip.geo.distance import geodesic_m
from swclip.retrieval.embed import embed_photographs
from swclip.retrieval.feature_cache import FeatureCache
from swclip.retrieval.locate import Locator
from swclip.web.engine import pooled
from swclip.web.regions import levels_of, thresholds_of

LEVELS = (0.5, 0.8, 0.95)


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gallery", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--splits", type=Path, required=True)
    options = parser.parse_args()

    manifest, splits = read_manifest(options.manifest), read_splits(options.splits)
    split_of = dict(zip(splits.frame["image_id"], splits.frame["split"], strict=True))
    frame = manifest.frame.reset_index(drop=True)
    rows = np.flatnonzero([split_of.get(image_id) == "query" for image_id in frame["image_id"]])
    locator = Locator.from_gallery(options.gallery)
    query = embed_photographs(locator.model, [manifest.image_paths[row] for row in rows], cache=FeatureCache())
    log_p, truth = locator.log_posterior(query), manifest.positions_deg[rows]
    own = frame.iloc[rows].reset_index(drop=True).groupby("place_id").indices
    together = [which for which in own.values() if len(which) > 1]
    report = {
        "one by one": _measured(locator, log_p, truth),
        "together": {
            **_measured(
                locator,
                np.concatenate([pooled(log_p[which], True, None) for which in together]),
                np.stack([truth[which].mean(axis=0) for which in together]),
            ),
            "photographs_a_place": round(float(np.mean([len(which) for which in together])), 2),
        },
    }
    print(json.dumps(report, indent=2))


def _measured(locator: Locator, log_p: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    points = np.array([[answer.lat_deg, answer.lon_deg] for answer in locator.answer_posteriors(log_p)])
    error = geodesic_m(points, truth)
    first = []
    for mass, cell in zip(locator.ground.mass(locator.stated(log_p)), locator.ground.index_of(truth), strict=True):
        levels = levels_of(mass, locator.ground, thresholds_of(None))
        at = np.flatnonzero(levels.order == cell)
        first.append(levels.from_level[at[0]] if len(at) else np.nan)
    return {
        "n": len(error),
        "median_m": round(float(np.median(error)), 1),
        "mean_m": round(float(error.mean()), 1),
        "within_25_m": round(float((error <= 25).mean()), 3),
        "within_100_m": round(float((error <= 100).mean()), 3),
        "in_the_region": {str(level): round(float((np.array(first) <= level).mean()), 3) for level in LEVELS},
    }


if __name__ == "__main__":
    main()
