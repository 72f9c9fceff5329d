"""Image towers without training: errors of the nearest photograph, plain and whitened, and the time of a photograph.

    python benchmarks/towers.py data --splits 0.parquet 1.parquet --image-tower dinov2-small-9 [scenes.onnx]
        [--normalisation imagenet] [--size-px 308] [--crop whole] [--set model.image.pooling_grid=[2,3]]

Prints a row of a Markdown table for plain and for whitened features, over the queries of all splits: their number,
median and mean error, the shares within 25 m and 100 m, and milliseconds of the processor for a photograph (decoding,
preprocessing and towers in one thread; the median of 32). The answer is the candidate of the most similar photograph.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import numpy as np
import torch
from common import new_parser, write_table
from jaxtyping import Float32, Float64

from swclip.cli.options import RecipeOptions
from swclip.data.manifest import Manifest, read_manifest
from swclip.data.splits import Splits, indices, read_splits
from swclip.evaluation.evaluate import query_rows
from swclip.external.measure_embeddings import photographs_by_candidate
from swclip.geo.distance import geodesic_m
from swclip.models.embed import pixel_features
from swclip.models.feature_cache import FeatureCache
from swclip.models.locator_model import LocatorModel
from swclip.models.whitening import Whitening, joined_units
from swclip.training.config import load_recipe

_TIMED = 32
COLUMNS = ("tower", "features", "queries", "median", "mean", "within 25 m", "within 100 m", "a photograph")


def main() -> None:
    """Measure one combination of towers."""
    parser = new_parser(__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--splits", type=Path, nargs="+", required=True)
    parser.add_argument("--image-tower", nargs="+", required=True)
    parser.add_argument("--size-px", type=int)
    parser.add_argument("--crop", choices=["auto", "centre", "squash", "whole"])
    parser.add_argument("--normalisation", choices=["imagenet", "clip", "none"])
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--dimensions", type=int, nargs="+", default=[256])
    options = parser.parse_args()

    recipe = RecipeOptions(
        image_tower=options.image_tower,
        size_px=options.size_px,
        crop=options.crop,
        normalisation=options.normalisation,
        assignments=[*options.set, "freeze_image=true", "model.location.text_tower=none"],
    )
    manifest = read_manifest(options.manifest)
    model = LocatorModel.create(load_recipe("sw-clip", recipe.overrides()).model, manifest.positions_deg).eval()
    milliseconds = photograph_ms(model, manifest)
    cache, paths = FeatureCache(), manifest.image_paths
    features = cache.features(model, paths)
    errors_m: dict[str, list[Float64[np.ndarray, " q"]]] = {}
    for path in options.splits:
        splits = read_splits(path)
        training = indices(splits, manifest, "train")
        ways = {"plain": joined_units(features - features[training].mean(axis=0), model.feature_widths)}
        for dimensions in options.dimensions:
            whitening = Whitening.fit(features[training], dimensions, widths=model.feature_widths)
            ways[f"whitened, {whitening.dimensions}"] = whitening(features)
        for name, vectors in ways.items():
            errors_m.setdefault(name, []).append(nearest_errors_m(vectors, manifest, splits))
    rows = []
    for name, parts in errors_m.items():
        error_m = np.concatenate(parts)
        near = [f"{100 * np.mean(error_m <= limit):.1f} %" for limit in (25.0, 100.0)]
        middle = [f"{np.median(error_m):.1f} m", f"{error_m.mean():.0f} m"]
        rows.append([model.config.image.name, name, str(len(error_m)), *middle, *near, f"{milliseconds:.0f} ms"])
    write_table(options.out, "towers", COLUMNS, rows)


def nearest_errors_m(
    vectors: Float32[np.ndarray, "n w"], manifest: Manifest, splits: Splits
) -> Float64[np.ndarray, " q"]:
    """Error of each query's most similar photograph: the distance to the candidate to which it belongs, metres."""
    candidates, at = photographs_by_candidate(manifest, splits, "query")
    row_of = {str(image_id): row for row, image_id in enumerate(manifest.frame["image_id"])}
    gallery = np.array([row_of[image_id] for image_ids in at for image_id in image_ids])
    candidate = np.repeat(np.arange(len(at)), [len(image_ids) for image_ids in at])
    places = candidates[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64)[candidate]
    queries = query_rows(splits, manifest, "query")
    nearest = (vectors[queries] @ vectors[gallery].T).argmax(axis=1)
    return geodesic_m(manifest.positions_deg[queries], places[nearest])


def photograph_ms(model: LocatorModel, manifest: Manifest) -> float:
    """Median time of the processor for the features of one photograph, in one thread, milliseconds."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times = []
    try:
        with torch.no_grad():
            for path in manifest.image_paths[: _TIMED + 2]:
                start = time.process_time()
                pixel_features(model, [model.preprocess.read(path)])
                times.append(1e3 * (time.process_time() - start))
    finally:
        torch.set_num_threads(threads)
    return statistics.median(times[2:])


if __name__ == "__main__":
    main()
