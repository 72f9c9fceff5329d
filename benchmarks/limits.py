"""Limits of a model's accuracy: the gallery, the amount of data, the features, and the distance to training data.

    swclip split cambridge --protocol new-streets --out new.parquet
    python benchmarks/limits.py cambridge --splits new.parquet --image-tower towers/dinov2-small --freeze image \\
        --text-tower none --recipe sw-clip-plus --seeds 0 --out results/limits

**Data.** The recipe is trained on 25, 50 and 100 % of the training places (`--shares`), drawn by place, and evaluated
on the same queries. A curve that still falls at 100 % indicates that more photographs would help. **Features.** The
last 1, 2, ... blocks of the image tower (`--blocks`). **Distance.** The errors with the whole training set by the
distance from each query to the nearest training photograph. **Oracle error.** The best achievable with this gallery.

Finished runs in OUT/runs are not trained again. Writes limits.json, limits.md, and a figure.
"""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from typing import Any

import numpy as np
from common import STYLES, markdown, new_figure, save_figure, say, write_results
from trained_runs import run, training_parser

from swclip.data.manifest import Manifest, read_manifest
from swclip.data.splits import Splits, indices, read_splits
from swclip.geo.distance import geodesic_m
from swclip.geo.neighbours import SphereIndex
from swclip.metrics.localization_error import accuracy_within, error_statistics
from swclip.reporting.units import metres, percent

DISTANCES_M = (0.0, 15.0, 30.0, 45.0, 60.0, 100.0, float("inf"))


def thinned(manifest: Manifest, splits: Splits, share: float, seed: int) -> Splits:
    """The splits with a share of the training places; the other training photographs are not used.

    The order of the places depends only on the seed, so that a smaller share is part of a larger one.
    """
    rows = indices(splits, manifest, "train")
    places, which = np.unique(manifest.positions_deg[rows], axis=0, return_inverse=True)
    kept = np.random.default_rng([seed, 7]).permutation(len(places))[: max(1, round(share * len(places)))]
    dropped = set(manifest.frame["image_id"].to_numpy()[rows[~np.isin(which.ravel(), kept)]])
    frame = splits.frame.copy()
    frame.loc[frame["image_id"].isin(dropped), "split"] = "gallery"
    return dataclasses.replace(splits, frame=frame)


def figures(error_m: Any) -> dict[str, Any]:
    """Number, statistics and accuracies of a set of errors."""
    return {"n": len(error_m), "error_m": error_statistics(error_m), "accuracy_within_m": accuracy_within(error_m)}


def by_distance(error_m: Any, nearest_m: Any) -> list[dict[str, Any]]:
    """The errors of queries by their distance from the nearest training photograph."""
    bands = []
    for low, high in pairwise(DISTANCES_M):
        inside = (nearest_m >= low) & (nearest_m < high)
        if inside.any():
            bands.append({"from_m": low, "to_m": high if np.isfinite(high) else None, **figures(error_m[inside])})
    return bands


def row(label: str, entry: dict[str, Any]) -> list[str]:
    """A row of a table."""
    error, within = entry["error_m"], entry["accuracy_within_m"]
    shares = [percent(within[key]) for key in ("25", "50", "100")]
    return [label, str(entry["n"]), metres(error["median"]), metres(error["mean"]), *shares]


def text_of(document: dict[str, Any]) -> str:
    """The tables as Markdown."""
    columns = ["", "queries", "median", "mean", "within 25 m", "within 50 m", "within 100 m"]
    distances = [
        row(f"{e['from_m']:.0f} m and more" if e["to_m"] is None else f"{e['from_m']:.0f} to {e['to_m']:.0f} m", e)
        for e in document["by_distance"]
    ]
    parts = [
        ("Share of the training places", [row(percent(e["share"]), e) for e in document["data"]]),
        ("Blocks of the image tower", [row(str(e["blocks"]), e) for e in document["features"]]),
        ("Distance to the nearest training photograph", distances),
    ]
    tables = [f"**{title}**\n\n{markdown([title.lower(), *columns[1:]], rows)}" for title, rows in parts]
    oracle_m = document["floor_m"]
    oracle = f"Oracle error: median {metres(oracle_m['median'])}, mean {metres(oracle_m['mean'])}.\n"
    return "\n".join([oracle, *tables])


def draw(document: dict[str, Any], path: Any) -> None:
    """Three panels: data, features, distance."""
    figure, panels = new_figure(11.0, 3.6, 3)
    (blue, dot), (red, square) = STYLES[:2]
    panels[0].plot(
        [100 * e["share"] for e in document["data"]], [e["error_m"]["median"] for e in document["data"]], dot + "-",
        color=blue, label="median",
    )  # fmt: skip
    panels[0].plot(
        [100 * e["share"] for e in document["data"]], [e["error_m"]["mean"] for e in document["data"]], square + "-",
        color=red, label="mean",
    )  # fmt: skip
    panels[0].set_xlabel("training places, %")
    panels[0].set_ylabel("error, m")
    panels[0].legend(frameon=False)
    blocks = [e["blocks"] for e in document["features"]]
    panels[1].plot(blocks, [e["error_m"]["median"] for e in document["features"]], dot + "-", color=blue)
    panels[1].plot(blocks, [e["error_m"]["mean"] for e in document["features"]], square + "-", color=red)
    panels[1].set_xlabel("blocks of the image tower")
    panels[1].set_xticks(blocks)
    near = document["by_distance"]
    labels = [f"{e['from_m']:.0f}+" if e["to_m"] is None else f"{e['from_m']:.0f}-{e['to_m']:.0f}" for e in near]
    panels[2].plot(labels, [e["error_m"]["median"] for e in near], dot + "-", color=blue)
    panels[2].plot(labels, [e["error_m"]["mean"] for e in near], square + "-", color=red)
    panels[2].set_xlabel("m to the nearest training photograph")
    for panel in panels:
        panel.set_ylim(bottom=0.0)
    save_figure(figure, path)


def main() -> None:
    """Run all trainings and write the results."""
    parser = training_parser(__doc__)
    parser.add_argument("--recipe", default="sw-clip-plus")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.25, 0.5, 1.0])
    parser.add_argument("--blocks", type=int, nargs="*", default=[1, 2, 3])
    args = parser.parse_args()
    manifest, splits = read_manifest(args.manifest), read_splits(args.splits)

    def errors(name: str, data: Splits, **more: Any) -> tuple[Any, Any]:
        """Errors and oracle errors of all seeds together."""
        frames = []
        for seed in args.seeds:
            out = args.out / "runs" / f"{name}-{seed}"
            values = {**more, "seed": seed}
            frames.append(run(args, args.recipe, values, (manifest, data), (manifest, splits), out, name).predictions)
        return (np.concatenate([frame[key].to_numpy() for frame in frames]) for key in ("error_m", "floor_m"))

    document: dict[str, Any] = {"recipe": args.recipe, "data": [], "features": []}
    for share in args.shares:
        say(f"{share:.0%} of the training places")
        error_m, oracle_m = errors(f"share-{share:g}", thinned(manifest, splits, share, 0) if share < 1 else splits)
        document["data"].append({"share": share, **figures(error_m)})
        if share == 1.0:
            queries = manifest.positions_deg[indices(splits, manifest, "query")]
            training = manifest.positions_deg[indices(splits, manifest, "train")]
            _, nearest = SphereIndex(training).nearest(queries, k=1)
            away_m = np.tile(geodesic_m(queries, training[nearest[:, 0]]), len(args.seeds))
            document["by_distance"] = by_distance(error_m, away_m)
            document["floor_m"] = error_statistics(oracle_m)
    for blocks in args.blocks:
        say(f"{blocks} blocks")
        error_m, _ = errors(f"blocks-{blocks}", splits, model__image__blocks=blocks)
        document["features"].append({"blocks": blocks, **figures(error_m)})
    draw(document, args.out / "limits")
    write_results(args.out, "limits", document, text_of(document))


if __name__ == "__main__":
    main()
