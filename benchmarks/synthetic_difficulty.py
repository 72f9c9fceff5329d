"""Difficulty of the synthetic cities: nearest neighbours without training, the semivariogram beside real streets', and
what photographs of held-out streets tell of their position.

    python benchmarks/synthetic_difficulty.py [--out OUT] neighbours DIR           (from `swclip synth --out DIR`)
    python benchmarks/synthetic_difficulty.py semivariogram DIR [REAL ...] --image-tower TOWER --size-px 112
    python benchmarks/synthetic_difficulty.py held-out DIR --splits SPLITS [...] --image-tower TOWER [--size-px 112]

`neighbours`: queries are the last drives past each place, the gallery the earlier drives, of all cities together.
`semivariogram`: how the dissimilarity of photographs that look the same way (headings within 30 degrees) grows with
distance, in features of a pretrained tower, of each manifest. All are seen by the tower at the same size, because the
nugget depends on it. Of a large manifest the photographs in a square around its middle are used.
`held-out`: the city of each query is taken as known. The error of a random training position of it, of the most similar
training photograph of it, and of a ridge regression of the position on the features, with the regularisation that is
best on the queries themselves: an upper limit, not a method.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from common import new_parser, say, write_table
from PIL import Image
from torch import nn

from swclip.data.manifest import Manifest, read_manifest
from swclip.data.splits import indices, read_splits
from swclip.geo.coordinates import LocalFrame
from swclip.geo.distance import geodesic_m
from swclip.geo.semivariogram import empirical_semivariogram, feature_directions, fit_semivariogram
from swclip.models.config import ImageConfig, LocationConfig, ModelConfig
from swclip.models.feature_cache import FeatureCache
from swclip.models.locator_model import LocatorModel

_PLACE_M = 5.0  # as `swclip bandwidth` weights the lags
_RIDGES = (0.1, 1.0, 10.0, 100.0, 1000.0)  # on the kernel of standardised features, whose diagonal is about 1
_DRAWS = 20


def pixel_features(pictures: np.ndarray) -> np.ndarray:
    """(N, F): 32 x 32 pixels of three colours, zero mean and unit length for each photograph."""
    small = np.stack([np.asarray(Image.fromarray(p).resize((32, 32), Image.Resampling.BOX)) for p in pictures])
    flat = small.reshape(len(small), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


def untrained_features(pictures: np.ndarray, seed: int) -> np.ndarray:
    """(N, F): a convolutional network with random weights, pooled to 3 x 3, standardised over the photographs."""
    torch.manual_seed(seed)
    widths = (3, 48, 96, 192, 256)
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Conv2d(a, b, 3, stride=2, padding=1), nn.GroupNorm(8, b), nn.ReLU()]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(3), nn.Flatten()).eval()
    out = []
    with torch.inference_mode():
        for start in range(0, len(pictures), 64):
            pixels = torch.from_numpy(pictures[start : start + 64]).permute(0, 3, 1, 2).float() / 127.5 - 1.0
            out.append(network(pixels).numpy())
    return feature_directions(np.concatenate(out))


def tower_features(manifest: Manifest, tower: str, size_px: int | None, rows: np.ndarray) -> np.ndarray:
    """(N, F): features of a tower, standardised over the photographs `rows`."""
    config = ModelConfig(ImageConfig(tower=tower, size_px=size_px), LocationConfig(text_tower="none"))
    model = LocatorModel.create(config, manifest.positions_deg)
    return feature_directions(FeatureCache().features(model, [manifest.image_paths[row] for row in rows]))


def split_by_last_drive(manifest: Manifest) -> tuple[np.ndarray, np.ndarray]:
    """Rows of queries and of the gallery."""
    drive = manifest.frame["sequence_id"].str.rsplit("-", n=1).str[-1].astype(int)
    last = drive.groupby(manifest.frame["place_id"]).transform("max")
    query = ((drive == last) & (drive > 0)).to_numpy()
    return np.flatnonzero(query), np.flatnonzero(~query)


def report(name: str, features: np.ndarray, manifest: Manifest) -> list[str]:
    """One line with the errors of the nearest neighbour."""
    query, gallery = split_by_last_drive(manifest)
    nearest = gallery[(features[query] @ features[gallery].T).argmax(axis=1)]
    error = geodesic_m(manifest.positions_deg[query], manifest.positions_deg[nearest])
    city = manifest.frame["city"].to_numpy()
    right_city = (city[query] == city[nearest]).mean()
    within = [f"{(error <= metres).mean():.1%}" for metres in (25, 100)]
    return [name, f"{np.median(error):,.0f} m", *within, f"{right_city:.1%}"]


def neighbours(args: argparse.Namespace) -> None:
    """Write the table of nearest neighbours."""
    manifest = read_manifest(args.manifest)
    pictures = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in manifest.image_paths])
    query, gallery = split_by_last_drive(manifest)
    say(f"{len(query)} queries, gallery of {len(gallery)}, {pictures.shape[1]} px")
    ways = {"pixels, 32 x 32, normalised": pixel_features(pictures)}
    ways |= {f"an untrained network, seed {seed}": untrained_features(pictures, seed) for seed in range(3)}
    ways["`builtin:street`"] = tower_features(manifest, "builtin:street", None, np.arange(len(manifest)))
    ways["chance"] = np.random.default_rng(0).standard_normal((len(manifest), 64)).astype(np.float32)
    columns = ["nearest neighbour on", "median error", "within 25 m", "within 100 m", "right city"]
    rows = [report(name, features, manifest) for name, features in ways.items()]
    write_table(args.out, "neighbours", columns, rows)


def semivariogram(args: argparse.Namespace) -> None:
    """Write nugget, sill and range of each manifest, and its bins."""
    rows_of_table = []
    for path in (args.manifest, *args.beside):
        manifest = read_manifest(path)
        positions = manifest.positions_deg
        middle = np.median(positions, axis=0)
        from_middle = np.abs((positions - middle) * [1.0, np.cos(np.radians(middle[0]))]).max(axis=1)
        rows = np.sort(np.argsort(from_middle, kind="stable")[: args.photographs])
        bins = empirical_semivariogram(
            positions[rows],
            tower_features(manifest, args.image_tower, args.size_px, rows),
            generator=np.random.default_rng(0),
            heading_deg=manifest.frame["heading_deg"].to_numpy(float)[rows],
        )
        fitted = fit_semivariogram(bins, "exponential", _PLACE_M)
        curve = ", ".join(f"{lag:.0f} m {gamma:.2f}" for lag, gamma in zip(bins.lag_m, bins.gamma, strict=True))
        figures = [f"{fitted.nugget:.2f}", f"{fitted.sill:.2f}", f"{fitted.range_m:.1f} m"]
        rows_of_table.append([path.name, f"{len(rows):,}", *figures, curve])
        say(" | ".join(rows_of_table[-1]))
    columns = ["photographs", "used", "nugget", "sill", "range", "gamma by distance"]
    write_table(args.out, "semivariogram", columns, rows_of_table)


def held_out(args: argparse.Namespace) -> None:
    """Print for each file of splits what features tell of the position of a query within its city."""
    manifest = read_manifest(args.manifest)
    city = manifest.frame["city"].fillna("").to_numpy(str)
    features = tower_features(manifest, args.image_tower, args.size_px, np.arange(len(manifest)))
    print("| splits | queries | random place | most similar photograph | ridge regression | variance explained |")
    print("|---|---|---|---|---|---|")
    for path in args.splits:
        splits = read_splits(path)
        training = np.concatenate([indices(splits, manifest, part) for part in ("train", "val")])
        queries = indices(splits, manifest, "query")
        errors = [
            _errors_in_city(manifest.positions_deg, features, training[city[training] == name], in_city)
            for name in np.unique(city[queries])
            if len(in_city := queries[city[queries] == name])
        ]
        random_m, similar_m, by_ridge, spread_m2 = (np.concatenate(part, axis=-1) for part in zip(*errors, strict=True))
        # The ridge that is best for the median, and the one that is best for the explained variance.
        ridge_m = min(np.median(row) for row in by_ridge)
        explained = max(1.0 - (row**2).sum() / spread_m2.sum() for row in by_ridge)
        medians = " | ".join(f"{metres:.0f} m" for metres in (np.median(random_m), np.median(similar_m), ridge_m))
        print(f"| {path.name} | {len(queries)} | {medians} | {explained:.0%} |", flush=True)


def _errors_in_city(
    positions_deg: np.ndarray, features: np.ndarray, training: np.ndarray, queries: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Errors of the queries of a city in metres: (draws * Q,) of random training positions, (Q,) of the most similar
    training photograph, (ridges, Q) of regressions; and (Q,) squared distances from the mean of the training."""
    frame = LocalFrame.around(positions_deg[training])
    known_m, true_m = frame.to_xy_m(positions_deg[training]), frame.to_xy_m(positions_deg[queries])
    drawn = np.random.default_rng(0).integers(len(training), size=(_DRAWS, len(queries)))
    similarity = features[queries] @ features[training].T
    scale = float(np.square(features[training]).sum(axis=1).mean())
    kernel, to_queries = features[training] @ features[training].T / scale, similarity / scale
    middle_m = known_m.mean(axis=0)
    weights = (
        np.linalg.solve(kernel + ridge * np.eye(len(kernel)), known_m - middle_m).astype(np.float32)
        for ridge in _RIDGES
    )
    by_ridge = np.stack([_length(to_queries @ weight + middle_m - true_m) for weight in weights])
    random_m = _length(known_m[drawn] - true_m).ravel()
    return random_m, _length(known_m[similarity.argmax(axis=1)] - true_m), by_ridge, _length(true_m - middle_m) ** 2


def _length(offsets_m: np.ndarray) -> np.ndarray:
    return np.linalg.norm(offsets_m, axis=-1)


def main() -> None:
    """Measure the data sets named on the command line."""
    parser = new_parser(__doc__)
    parts = parser.add_subparsers(required=True)
    part = parts.add_parser("neighbours")
    part.add_argument("manifest", type=Path)
    part.set_defaults(run=neighbours)
    part = parts.add_parser("semivariogram")
    part.add_argument("manifest", type=Path)
    part.add_argument("beside", type=Path, nargs="*")
    part.add_argument("--image-tower", required=True)
    part.add_argument("--size-px", type=int)
    part.add_argument("--photographs", type=int, default=2000)
    part.set_defaults(run=semivariogram)
    part = parts.add_parser("held-out")
    part.add_argument("manifest", type=Path)
    part.add_argument("--splits", type=Path, nargs="+", required=True)
    part.add_argument("--image-tower", required=True)
    part.add_argument("--size-px", type=int)
    part.set_defaults(run=held_out)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
