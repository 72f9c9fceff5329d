"""Error against GPS noise, with and without the noise-aware kernel; and against a share of positions that are wrong.

    swclip split cambridge --protocol known-places --out known.parquet
    python benchmarks/gps_noise.py cambridge --splits known.parquet --image-tower towers/dinov2-small --freeze image \\
        --text-tower none --seeds 0 1 2 --noise 0 5 10 25 50 100 --wrong-share 0 0.05 0.1 0.2 --out results/gps-noise

The recorded positions of the photographs must be accurate, since they are the truth.

**Noise.** The training positions are displaced by isotropic normal noise; `--noise` is its standard deviation in metres
*along each axis*, so that the mean displacement is 1.25 times as long. The headings of a panorama have one fix and are
displaced together; a seed displaces a photograph in the same direction at every level. `accuracy_m` is the noise
combined with the manifest's accuracy (root of the sum of squares). With `--spread 0.45` the fixes have different
accuracies (lognormal, with the configured mean), so that there are good and bad fixes to distinguish; by default all
are equal. Systems: sw-clip with a bandwidth fixed at 15 m, without `objective.targets.gps_noise` and with it; sw-clip
as shipped, whose bandwidth is estimated from the noisy positions; and `clip` (one-hot).

**Wrong positions.** `--wrong-share` of the training fixes get the position of another, at least `--far-m` away, without
a label. Systems: sw-clip with `objective.robust.form` none, trimmed, reweighted. The share that `trimmed` omits is the
recipe's (`--set objective.robust.share=...`), the same at every level, since users do not know the share of wrong
positions.

**Clean data.** Queries and candidates: errors are measured against the true positions, and the candidates have no
noise. Validation, which chooses the best weights and fits the posterior, is as noisy as training, since users with
noisy photographs have no clean ones for validation (`--validation clean` measures the effect). Answers use the location
embeddings only: a gallery of photographs at their true positions would hide the effect of the noise.

Finished runs in OUT/runs are not trained again. Writes gps_noise.json, gps_noise.md, and figures.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from common import STYLES, markdown, new_figure, save_figure, write_results
from injected_errors import displaced, misplaced, with_positions, without_photographs
from trained_runs import difference_text, run, training_parser

from swclip.comparison.compare import compare
from swclip.data.manifest import Manifest, read_manifest
from swclip.data.splits import Splits, indices, read_splits
from swclip.evaluation.result import Evaluation
from swclip.reporting.units import metres, percent

AWARE = "objective__targets__gps_noise"
BANDWIDTH_M = 15.0
FIXED = {"bandwidth__form": "fixed", "objective__targets__bandwidths_m": [BANDWIDTH_M]}
NOISE: dict[str, tuple[str, dict[str, Any]]] = {
    "fixed bandwidth": ("sw-clip", {**FIXED, AWARE: False}),
    "fixed, noise-aware": ("sw-clip", {**FIXED, AWARE: True}),
    "sw-clip as shipped": ("sw-clip", {}),
    "clip": ("clip", {}),
}
WRONG: dict[str, tuple[str, dict[str, Any]]] = {
    "none": ("sw-clip", {}),
    "trimmed": ("sw-clip", {"objective__robust__form": "trimmed"}),
    "reweighted": ("sw-clip", {"objective__robust__form": "reweighted"}),
}
PARTS = {
    "noise": (NOISE, "gps_noise", "standard deviation of the training positions' noise along each axis, m"),
    "wrong": (WRONG, "wrong_positions", "training positions that are wrong, %"),
}


def disturbed(
    part: str, level: float, seed: int, manifest: Manifest, splits: Splits, args: argparse.Namespace
) -> tuple[Manifest, Splits]:
    """The training data at one level."""
    names = ("train", "val") if args.validation == "noisy" else ("train",)
    rows = np.concatenate([indices(splits, manifest, name) for name in names])
    positions, accuracy_m = manifest.positions_deg.copy(), manifest.accuracy_m.copy()
    if part == "wrong":
        generator = np.random.default_rng([seed, 2])
        positions[rows], _ = misplaced(positions[rows], level, args.far_m, generator)
    else:
        generator = np.random.default_rng([seed, 1])
        positions[rows], sigma_m = displaced(positions[rows], level, generator, args.spread)
        accuracy_m[rows] = np.hypot(np.nan_to_num(accuracy_m[rows]), sigma_m)
    return with_positions(manifest, without_photographs(splits), positions, accuracy_m)


def measured(part: str, level: float, manifest: Manifest, splits: Splits, args: argparse.Namespace) -> dict[str, Any]:
    """Train and evaluate all systems at one level."""
    systems = PARTS[part][0]
    evaluations: dict[str, dict[int | str, Evaluation]] = {name: {} for name in systems}
    for seed in args.seeds:
        data = disturbed(part, level, seed, manifest, splits, args)
        for name, (recipe, more) in systems.items():
            out = args.out / "runs" / f"{part}-{level:g}" / f"{name.replace(', ', '-')}-{seed}"
            clean = (manifest, without_photographs(splits))
            evaluations[name][seed] = run(args, recipe, {**more, "seed": seed}, data, clean, out, name)
    document = compare(evaluations, {}, baseline=next(iter(systems))).document.as_dict()
    kept = ("error_m", "accuracy_within_m", "intervals", "seed_sd")
    return {
        "level": level,
        "systems": {
            name: {
                **{key: system["mean"][key] for key in kept},
                "difference": system.get("difference"),
                "seeds": {seed: report["error_m"] for seed, report in system["seeds"].items()},
            }
            for name, system in document["systems"].items()
        },
    }


def table(part: str, levels: list[dict[str, Any]]) -> str:
    """The Markdown table of a part."""
    base = next(iter(PARTS[part][0]))
    columns = ["noise" if part == "noise" else "wrong", "system", "median", "mean", "within 25 m", "within 100 m"]
    rows = []
    for entry in levels:
        for name, system in entry["systems"].items():
            error, interval, within = system["error_m"], system["intervals"]["error_m"], system["accuracy_within_m"]
            spans = {key: f"{metres(error[key])} [{', '.join(map(metres, interval[key]))}]" for key in interval}
            difference = system["difference"]
            rows.append(
                [
                    metres(entry["level"]) if part == "noise" else percent(entry["level"]),
                    name,
                    spans["median"],
                    spans["mean"],
                    percent(within["25"]),
                    percent(within["100"]),
                    *("" if difference is None else difference_text(difference[key]) for key in ("median", "mean")),
                ]
            )
    return markdown([*columns, f"median vs {base}", f"mean vs {base}"], rows)


def figure(part: str, levels: list[dict[str, Any]], path: Path) -> None:
    """Median and mean error by level, one line per system, with 95 % intervals."""
    systems, _, label = PARTS[part]
    drawing, panels = new_figure(10.0, 4.2, 2)
    x = np.array([entry["level"] for entry in levels]) * (1.0 if part == "noise" else 100.0)
    for panel, key in zip(panels, ("median", "mean"), strict=True):
        for (colour, marker), name in zip(STYLES, systems, strict=False):
            y = [entry["systems"][name]["error_m"][key] for entry in levels]
            low, high = np.array([entry["systems"][name]["intervals"]["error_m"][key] for entry in levels]).T
            panel.plot(x, y, color=colour, marker=marker, markersize=5, linewidth=1.8, label=name)
            panel.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
        panel.set_title(f"{key.capitalize()} error on clean positions, m", loc="left", fontsize=11)
        panel.set_xlabel(label, fontsize=9)
        panel.set_xticks(x, [f"{value:g}" for value in x], fontsize=8)
        panel.set_ylim(bottom=0.0)
    panels[0].legend(frameon=False, fontsize=9)
    save_figure(drawing, path)


def main() -> None:
    """Run the selected parts."""
    parser = training_parser(__doc__)
    parser.add_argument(
        "--noise", type=float, nargs="*", default=[0, 5, 10, 25, 50, 100], help="metres along each axis"
    )
    parser.add_argument("--wrong-share", type=float, nargs="*", default=[], help="shares from 0 to below 1")
    parser.add_argument("--far-m", type=float, default=250.0, help="least distance of a wrong position")
    parser.add_argument("--spread", type=float, default=0.0, help="of the logarithm of the fixes' accuracies")
    parser.add_argument("--validation", choices=["noisy", "clean"], default="noisy")
    args = parser.parse_args()
    manifest, splits = read_manifest(args.manifest), read_splits(args.splits)
    results: dict[str, Any] = {
        "manifest": {"path": str(manifest.path), "digest": manifest.digest},
        "splits": str(splits.path),
        "seeds": args.seeds,
        "noise_is": "standard deviation along each axis, metres",
        "validation": args.validation,
        "spread": args.spread,
        "far_m": args.far_m,
    }
    text = ""
    for part, selected in (("noise", args.noise), ("wrong", args.wrong_share)):
        levels: list[dict[str, Any]] = []
        for level in sorted(set(selected)):
            levels.append(measured(part, level, manifest, splits, args))
        if levels:
            results[part] = levels
            text += f"\n{table(part, levels)}"
            figure(part, levels, args.out / PARTS[part][1])
    write_results(args.out, "gps_noise", results, text.lstrip())


if __name__ == "__main__":
    main()
