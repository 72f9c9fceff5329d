"""Benefit and cost of regional fairness: SW-CLIP with each form, on cities of very different density.

    swclip synth --out cities --cities 4 --photos-per-city 1200 400 120 60 --seed 0
    swclip split cities --protocol known-places --seed 0 --out splits.parquet
    python benchmarks/fairness.py cities --splits splits.parquet --seeds 0 1 2 --size-px 64 --batch-size 128 \\
        --steps 450 --text-tower none --variance 0.05 0.5 --group-dro 1 --cvar 1 --out results/fairness

Works with any manifest; `--region` is the column of the districts, for training and for the table. Each form is trained
with each of its weights, beside `none`. The figure of a district is the median error of its queries; the gap is the
largest minus the smallest of these. Differences are from `none`, paired, with 95 % intervals from resampling blocks of
queries; all figures are means over the seeds.

The terms equalise the districts' *losses*, which are not their errors: in a batch a sparse district has fewer nearby
photographs to be confused with, and may have the smaller loss and the larger error. The table shows errors.

Finished runs in OUT/runs are not trained again. Writes fairness.json, .md, .png and .svg.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from common import STYLES, markdown, new_figure, save_figure, write_results
from trained_runs import difference_text, run, training_parser

from swclip.comparison.compare import compare
from swclip.comparison.comparison import Comparison
from swclip.data.manifest import Manifest, read_manifest
from swclip.data.splits import read_splits
from swclip.errors import ConfigError
from swclip.evaluation.result import Evaluation
from swclip.metrics.bootstrap import resample_blocks
from swclip.metrics.districts import district_differences, district_figures
from swclip.reporting.units import distance, metres

BASE = "none"
HEADINGS = {
    "median": "pooled median",
    "mean": "pooled mean",
    "worst_region_median": "worst district",
    "region_gap": "gap",
}


def systems_of(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Name and recipe values of each system."""
    chosen: dict[str, dict[str, Any]] = {BASE: {"objective__fairness__weight": 0.0}}
    forms = (("variance", args.variance), ("group-dro", args.group_dro), ("cvar", args.cvar))
    for form, weights in forms:
        for weight in weights:
            chosen[f"{form} {weight:g}"] = {
                "objective__fairness__form": form,
                "objective__fairness__weight": weight,
            }
    return chosen


def regions_of(evaluation: Evaluation, manifest: Manifest, column: str) -> list[str]:
    """District of each query, by the manifest's column."""
    region_of = dict(zip(manifest.frame["image_id"], manifest.frame[column], strict=True))
    regions = [region_of[image_id] for image_id in evaluation.predictions["image_id"]]
    return ["unknown" if region is None or region != region else str(region) for region in regions]


def summary(comparison: Comparison, regions: list[str]) -> dict[str, Any]:
    """Figures and paired differences of every system, pooled and by district."""
    first = next(iter(comparison.evaluations[BASE].values()))
    resampled = resample_blocks(first.predictions["block"].tolist(), 1000, np.random.default_rng(0))
    systems: dict[str, Any] = {}
    for name in comparison.evaluations:
        errors = comparison.errors_m(name)
        systems[name] = {"figures": district_figures(errors, regions), "seeds": list(comparison.evaluations[name])}
        if name != BASE:
            differences = district_differences(errors, comparison.errors_m(BASE), regions, resampled)
            # The pooled ones as in all comparisons of the package.
            pooled = comparison.document.from_baseline[name].figures
            systems[name]["difference"] = {
                **{key: asdict(value) for key, value in differences.items()},
                **{key: pooled[key].model_dump(exclude_unset=True) for key in ("median", "mean")},
            }
    return systems


def tables(systems: dict[str, Any], sizes: dict[str, tuple[int, int]]) -> str:
    """Markdown: a pooled table, and one by district."""
    pooled = [
        [
            name,
            *(metres(system["figures"][key]) for key in HEADINGS),
            *(difference_text(system["difference"][key]) if name != BASE else "" for key in HEADINGS),
        ]
        for name, system in systems.items()
    ]
    by_region = [
        [
            name,
            *(
                metres(system["figures"][f"region:{region}"])
                + (f" ({difference_text(system['difference'][f'region:{region}'])})" if name != BASE else "")
                for region in sizes
            ),
        ]
        for name, system in systems.items()
    ]
    headings = [*HEADINGS.values(), *(f"{heading} vs {BASE}" for heading in HEADINGS.values())]
    named = [f"{region} ({trained} trained, {queries} queries)" for region, (trained, queries) in sizes.items()]
    return f"{markdown(['system', *headings], pooled)}\nMedian error by district:\n\n" + markdown(
        ["system", *named], by_region
    )


def figure(systems: dict[str, Any], sizes: dict[str, tuple[int, int]], path: Path) -> None:
    """Left: median error of each district, one mark per system. Right: worst district against pooled mean."""
    drawing, (left, right) = new_figure(11.0, 0.45 * max(8, len(sizes)) + 1.2, 2)
    names = list(sizes)
    rows = np.arange(len(names))
    shown = [system["figures"][f"region:{name}"] for system in systems.values() for name in names]
    looks = [(colour, marker) for marker in "os^Dv" for colour, _ in STYLES] if len(systems) > len(STYLES) else STYLES
    for number, ((colour, marker), (name, system)) in enumerate(zip(looks, systems.items(), strict=False)):
        offset = 0.5 * (number / max(1, len(systems) - 1) - 0.5)
        figures = system["figures"]
        medians = [figures[f"region:{region}"] for region in names]
        left.scatter(medians, rows + offset, color=colour, marker=marker, s=34, label=name)
        right.scatter(figures["mean"], figures["worst_region_median"], color=colour, marker=marker, s=60)
        right.annotate(
            name,
            (figures["mean"], figures["worst_region_median"]),
            xytext=(7, 4),
            textcoords="offset points",
            fontsize=9,
            color=colour,
        )
    left.set_yticks(rows, [f"{region}\n{sizes[region][0]} trained" for region in names], fontsize=9)
    left.invert_yaxis()
    if max(shown) > 20.0 * max(min(shown), 1.0):  # an answer in another city has an error of hundreds of kilometres
        left.set_xscale("log")
    else:
        left.set_xlim(left=0.0)
    left.grid(axis="y", visible=False)
    left.grid(axis="x", color="#dddddd", linewidth=0.7)
    for edge in rows[:-1] + 0.5:
        left.axhline(edge, color="#eeeeee", linewidth=0.8)
    left.set_title("Median error by district", loc="left", fontsize=11)
    for axis in (left.xaxis, right.xaxis, right.yaxis):
        axis.set_major_formatter(lambda value, _: distance(value))
    right.margins(0.22)
    drawing.legend(loc="outside lower left", ncols=min(6, len(systems)), frameon=False, fontsize=9)
    right.grid(axis="x", color="#dddddd", linewidth=0.7)
    right.set_xlabel("pooled mean error", fontsize=9)
    right.set_title("Median error of the worst district", loc="left", fontsize=11)
    save_figure(drawing, path)


def main() -> None:
    """Train, compare, write."""
    parser = training_parser(__doc__)
    parser.add_argument("--region", default="city", help="manifest column of the districts")
    parser.add_argument("--variance", type=float, nargs="*", default=[0.5], metavar="WEIGHT")
    parser.add_argument("--group-dro", type=float, nargs="*", default=[1.0], metavar="WEIGHT")
    parser.add_argument("--cvar", type=float, nargs="*", default=[1.0], metavar="WEIGHT")
    args = parser.parse_args()
    manifest, splits = read_manifest(args.manifest), read_splits(args.splits)
    if args.region not in manifest.frame:
        raise ConfigError(f"--region {args.region}: the manifest has no such column; name one of its columns.")
    evaluations: dict[str, dict[int | str, Evaluation]] = {}
    for name, more in systems_of(args).items():
        evaluations[name] = {}
        for seed in args.seeds:
            out = args.out / "runs" / f"{name.replace(' ', '-')}-{seed}"
            values = {**more, "seed": seed, "region": args.region}
            data = (manifest, splits)
            evaluations[name][seed] = run(args, "sw-clip", values, data, data, out, name)
    comparison = compare(evaluations, {}, baseline=BASE)
    regions = regions_of(next(iter(evaluations[BASE].values())), manifest, args.region)
    trained = set(splits.frame.loc[splits.frame["split"] == "train", "image_id"])
    at = manifest.frame.loc[manifest.frame["image_id"].isin(trained), args.region].astype(str)
    sizes = {name: (int((at == name).sum()), regions.count(name)) for name in sorted(set(regions))}
    sizes = dict(sorted(sizes.items(), key=lambda item: -item[1][0]))
    systems = summary(comparison, regions)
    results = {
        "manifest": {"path": str(manifest.path), "digest": manifest.digest},
        "splits": str(splits.path),
        "seeds": args.seeds,
        "region": args.region,
        "regions": {name: {"trained": a, "queries": b} for name, (a, b) in sizes.items()},
        "systems": systems,
    }
    figure(systems, sizes, args.out / "fairness")
    write_results(args.out, "fairness", results, tables(systems, sizes))


if __name__ == "__main__":
    main()
