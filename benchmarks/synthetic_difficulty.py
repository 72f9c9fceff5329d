"""Difficulty of the synthetic cities without training: nearest neighbours on pixels and on an untrained network.

    python benchmarks/synthetic_difficulty.py DIR        (from `swclip synth --out DIR`)

The queries are the last drive past each place; the gallery are the earlier drives, of all cities together.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from swclip.data.manifest import Manifest, read_manifest
from swclip.geo.distance import geodesic_m


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
    features = np.concatenate(out)
    features = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-6)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def split_by_last_drive(manifest: Manifest) -> tuple[np.ndarray, np.ndarray]:
    """Rows of queries and of the gallery."""
    drive = manifest.frame["sequence_id"].str.rsplit("-", n=1).str[-1].astype(int)
    last = drive.groupby(manifest.frame["place_id"]).transform("max")
    query = ((drive == last) & (drive > 0)).to_numpy()
    return np.flatnonzero(query), np.flatnonzero(~query)


def report(name: str, features: np.ndarray, manifest: Manifest) -> None:
    """Print one line with the errors of the nearest neighbour."""
    query, gallery = split_by_last_drive(manifest)
    nearest = gallery[(features[query] @ features[gallery].T).argmax(axis=1)]
    error = geodesic_m(manifest.positions_deg[query], manifest.positions_deg[nearest])
    city = manifest.frame["city"].to_numpy()
    right_city = (city[query] == city[nearest]).mean()
    within = " | ".join(f"{(error <= metres).mean():.1%}" for metres in (25, 100))
    print(f"| {name} | {np.median(error):,.0f} | {within} | {right_city:.1%} |")


def main() -> None:
    """Measure the data set named on the command line."""
    manifest = read_manifest(Path(sys.argv[1]))
    pictures = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in manifest.image_paths])
    query, gallery = split_by_last_drive(manifest)
    print(f"{len(query)} queries, gallery of {len(gallery)}, {pictures.shape[1]} px")
    print("| nearest neighbour on | median error, m | within 25 m | within 100 m | right city |\n|---|---|---|---|---|")
    report("pixels, 32 x 32", pixel_features(pictures), manifest)
    for seed in range(3):
        report(f"an untrained network, seed {seed}", untrained_features(pictures, seed), manifest)
    rng = np.random.default_rng(0)
    report("random baseline", rng.standard_normal((len(manifest), 64)).astype(np.float32), manifest)


if __name__ == "__main__":
    main()
