"""Benefit of captions and map tiles at query time, and their cost where they are absent.

    swclip synth --out CITIES --captions --maps
    swclip split CITIES --out splits.parquet
    python benchmarks/views.py CITIES --splits splits.parquet --out DIR [--steps 400 --batch-size 128 --size-px 64]

Trains sw-clip and sw-clip-views with the same budget and seeds. Evaluates sw-clip by the photograph, and sw-clip-views
by the photograph alone, by each set of modalities, and on the same manifest without its captions and tiles, which must
equal the photograph alone to the last digit. Finished runs in DIR/runs are not trained again. Writes DIR/views.json and
DIR/views.md; figures are means over the seeds, differences from sw-clip are paired, with 95 % intervals from resampling
blocks of queries.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import new_parser, write_results

from swclip.calibration.posterior_config import read_posterior
from swclip.comparison.compare import compare
from swclip.comparison.document import Difference
from swclip.data.manifest import Manifest, read_manifest
from swclip.data.splits import Splits, read_splits
from swclip.evaluation.evaluate import EmbedConfig, evaluate
from swclip.evaluation.measure import MeasureConfig
from swclip.evaluation.result import Evaluation
from swclip.gallery.hubness import read_bank
from swclip.models.feature_cache import FeatureCache
from swclip.models.locator_model import load_model
from swclip.models.modalities import ModalityName
from swclip.reporting.units import figure_name, metres, percent, signed, signed_interval
from swclip.training.config import assigned, load_recipe, nested
from swclip.training.loop import train
from swclip.versions import versions

PLAIN, VIEWS = "sw-clip", "sw-clip-views"
ABSENT = "views absent"
USES: dict[str, tuple[ModalityName, ...]] = {
    "image": ("image",),
    "image + caption": ("image", "caption"),
    "image + map": ("image", "map"),
    "image + caption + map": ("image", "caption", "map"),
}
COMPARED = ("median", "mean", "within_25", "within_100")
FIGURES = {"median": "error_m", "mean": "error_m", "25": "accuracy_within_m", "100": "accuracy_within_m"}


def main() -> None:
    """Run the comparison."""
    parser = new_parser(__doc__, out_required=True)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--splits", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--size-px", type=int, default=64)
    parser.add_argument("--set", dest="assignments", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--estimator", default="mode", choices=["mode", "argmax", "geometric-median"])
    options = parser.parse_args()
    manifest, splits = read_manifest(options.manifest), read_splits(options.splits)

    evaluations: dict[tuple[str, str], dict[int | str, Evaluation]] = {}
    for seed in options.seeds:
        for system in (PLAIN, VIEWS):
            for use, evaluation in measure(system, seed, manifest, splits, options).items():
                evaluations.setdefault((system, use), {})[seed] = evaluation
    rows = {key: [evaluation.report.as_dict() for evaluation in seeds.values()] for key, seeds in evaluations.items()}
    by_label = {_label(*key): seeds for key, seeds in evaluations.items()}
    compared = compare(by_label, {}, baseline=_label(PLAIN, "image")).document.as_dict()
    table = [
        {
            "system": system,
            "queries": use,
            **{f"{kind}.{key}": _mean(reports, kind, key) for key, kind in FIGURES.items()},
            "difference": compared["systems"][_label(system, use)].get("difference"),
        }
        for (system, use), reports in rows.items()
    ]
    by_image, absent = rows[VIEWS, "image"], rows[VIEWS, ABSENT]
    harmless = all(a["error_m"] == b["error_m"] for a, b in zip(by_image, absent, strict=True))
    counts = {name: report["made_with"]["views"] for (_, name), (report, *_) in rows.items()}
    document = {
        "made_with": {**versions(), "manifest": str(manifest.path), "digest": manifest.digest, **_plain(options)},
        "queries_with_each_view": counts,
        "absent_is_image_alone": harmless,
        "table": table,
    }
    write_results(options.out, "views", document, markdown(table, harmless))


def measure(
    system: str, seed: int, manifest: Manifest, splits: Splits, options: argparse.Namespace
) -> dict[str, Evaluation]:
    """Train a system, and evaluate it by each set of modalities."""
    budget = {"steps": options.steps, "batch.size": options.batch_size, "model.image.size_px": options.size_px}
    values = assigned(options.assignments)
    if system == PLAIN:  # without values for further modalities
        values = {
            key: value for key, value in values.items() if not key.startswith(("model.views.", "objective.views."))
        }
    config = load_recipe(system, nested({**budget, **values, "seed": seed}))
    run, cache = options.out / "runs" / f"{system}-{seed}", FeatureCache()
    train(manifest, splits, config, run, system=system, cache=cache)
    model = load_model(run)

    def evaluated(on: Manifest, use: tuple[ModalityName, ...] | None) -> Evaluation:
        return evaluate(
            model,
            on,
            splits,
            posterior=read_posterior(run),
            bank=read_bank(run),
            config=MeasureConfig(estimator=options.estimator),
            embedding=EmbedConfig(cache=cache if config.freeze_image else None),
            use=use,
        )

    if system == PLAIN:
        return {"image": evaluated(manifest, ("image",))}
    bare = replace(manifest, frame=manifest.frame.drop(columns=["caption", "map_path"]))
    return {**{name: evaluated(manifest, use) for name, use in USES.items()}, ABSENT: evaluated(bare, None)}


def markdown(table: list[dict[str, Any]], harmless: bool) -> str:
    """The table as Markdown."""
    head = ["system", "queries by", "median", "mean", "within 25 m", "within 100 m"]
    head += [f"{figure_name(key)} vs {PLAIN}" for key in COMPARED]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in table:
        lengths = [metres(row[f"error_m.{key}"]) for key in ("median", "mean")]
        shares = [percent(row[f"accuracy_within_m.{key}"]) for key in ("25", "100")]
        cells = [""] * len(COMPARED)
        if row["difference"] is not None:
            differences = {key: Difference.model_validate(row["difference"][key]) for key in COMPARED}
            cells = [
                f"{signed(one.value, key)} {signed_interval(one.value, one.interval, key)}"
                for key, one in differences.items()
            ]
        lines.append(f"| {' | '.join([row['system'], row['queries'], *lengths, *shares, *cells])} |")
    same = "are" if harmless else "ARE NOT"
    return "\n".join([*lines, "", f"Errors with absent modalities {same} those of the photograph alone.", ""])


def _label(system: str, use: str) -> str:
    return f"{system} by {use}"


def _mean(reports: list[dict[str, Any]], kind: str, key: str) -> float:
    return float(sum(report[kind][key] for report in reports) / len(reports))


def _plain(options: argparse.Namespace) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(vars(options), default=str))
    return values


if __name__ == "__main__":
    main()
