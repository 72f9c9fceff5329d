"""What blur and darkness of a photograph cost: the thresholds of `swclip inspect`.

    python benchmarks/degraded_photographs.py MANIFEST SPLITS MODEL [--queries N --only WORD]

Degrades the queries of a split: Gaussian blur, motion along a row, exposure with the noise of a small sensor. Each is
located by its nearest neighbour among the training photographs, on whitened features of the model's frozen tower (those
of undegraded photographs are cached, as in training). Prints, for each degradation, the share within 25 and 100 m, and
the 5, 50 and 95 % quantiles of the measures that `swclip inspect` compares with thresholds.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from common import new_parser, say, write_table
from PIL import Image, ImageFilter
from scipy.ndimage import uniform_filter1d

from swclip.data.manifest import Manifest, read_manifest
from swclip.data.splits import read_splits
from swclip.geo.distance import geodesic_m
from swclip.imaging.decode import decode_photograph
from swclip.imaging.quality import SIDE_PX, blur_effect, luma
from swclip.models.embed import FeatureEncoder, pixel_features
from swclip.models.feature_cache import FeatureCache
from swclip.models.locator_model import load_model

DIMENSIONS = 256
GAMMA, SHOT, READ = 2.2, 1e-4, 1e-6  # of the noise: variance per linear value, and at black

Degradation = Callable[[Image.Image, np.random.Generator], Image.Image]


def blurred(sigma: float) -> Degradation:
    return lambda image, _: image.filter(ImageFilter.GaussianBlur(sigma))


def moved(pixels: int) -> Degradation:
    return lambda image, _: _picture(uniform_filter1d(np.asarray(image, dtype=np.float64), pixels, axis=1))


def exposed(stops: float) -> Degradation:
    def degrade(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        linear = (np.asarray(image, dtype=np.float64) / 255.0) ** GAMMA * 2.0**stops
        if stops < 0.0:
            linear += rng.normal(0.0, 1.0, linear.shape) * np.sqrt(SHOT * linear + READ)
        return _picture(255.0 * np.clip(linear, 0.0, 1.0) ** (1.0 / GAMMA))

    return degrade


DEGRADATIONS: dict[str, Degradation] = {
    "none": lambda image, _: image,
    **{f"blur, sigma {sigma:g} px": blurred(sigma) for sigma in (1.0, 1.5, 2.0, 3.0, 4.0)},
    **{f"motion, {pixels} px": moved(pixels) for pixels in (9, 15)},
    **{f"exposure {stops:+g}": exposed(stops) for stops in (-2.0, -4.0)},
}


def main() -> None:
    """Run the measurement."""
    parser = new_parser(__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("splits", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--queries", type=int, default=80)
    parser.add_argument("--only", default="", help="degradations whose name contains this")
    options = parser.parse_args()

    manifest, model = read_manifest(options.manifest), load_model(options.model)
    labels = read_splits(options.splits).frame.set_index("image_id")["split"].reindex(manifest.frame["image_id"])
    rng = np.random.default_rng(0)
    queries = np.sort(rng.choice(np.flatnonzero(labels == "query"), options.queries, replace=False))
    gallery = np.flatnonzero(labels.isin(["train", "val"]))
    features = FeatureCache().features(model, [manifest.image_paths[row] for row in gallery])
    mean = features.mean(axis=0)
    _, scale, axes = np.linalg.svd(features - mean, full_matrices=False)
    whitening = axes[:DIMENSIONS].T / scale[:DIMENSIONS]
    known = _unit((features - mean) @ whitening)
    pictures = [_read(manifest, row) for row in queries]
    columns = ["degradation", "within 25 m", "within 100 m", "blur effect", "mean luma", "contrast"]
    rows = []
    for name, degrade in DEGRADATIONS.items():
        if options.only not in name:
            continue
        degraded = [degrade(picture, rng) for picture in pictures]
        nearest = (_unit((_features(model, degraded) - mean) @ whitening) @ known.T).argmax(axis=1)
        error_m = geodesic_m(manifest.positions_deg[queries], manifest.positions_deg[gallery[nearest]])
        values = [luma(picture) for picture in degraded]
        measures = ([blur_effect(v) for v in values], [v.mean() for v in values], [v.std() for v in values])
        shares = [f"{100 * np.mean(error_m <= radius):.1f} %" for radius in (25, 100)]
        spread = [" / ".join(f"{value:.2f}" for value in np.percentile(measure, [5, 50, 95])) for measure in measures]
        rows.append([name, *shares, *spread])
        say(" | ".join(rows[-1]))
    write_table(options.out, "degraded_photographs", columns, rows)


def _read(manifest: Manifest, row: int) -> Image.Image:
    """A query at the size at which `swclip inspect` measures it, so that degradations are in its pixels."""
    picture = decode_photograph(manifest.image_paths[row], size_px=SIDE_PX)
    factor = SIDE_PX / min(picture.size)
    return picture.resize((round(factor * picture.width), round(factor * picture.height)), Image.Resampling.BICUBIC)


def _features(model: FeatureEncoder, pictures: list[Image.Image], batch: int = 24) -> np.ndarray:
    with torch.inference_mode():
        parts = [
            np.asarray(pixel_features(model, [model.preprocess(picture) for picture in pictures[at : at + batch]]))
            for at in range(0, len(pictures), batch)
        ]
    return np.concatenate(parts)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _picture(values: np.ndarray) -> Image.Image:
    return Image.fromarray(values.round().astype(np.uint8))


if __name__ == "__main__":
    main()
