"""Hyper-parameters of each compared method, chosen on validation queries with the benchmark's budget.

    python benchmarks/tune_baselines.py DATA --splits FILE --out OUT [--systems geoclip sw-clip] [--seed 0]
        [--set steps=400 --set freeze_image=true --set model.image.tower=PATH ...]

Every system has the same number of settings: its recipe as shipped, and a few that change parameters which matter for
the method. Each is trained once; the one with the lowest `val_log_error` (the mean of log10(1 + error / 10 m) of the
validation queries, at the best step) is chosen. The queries are not used. Finished runs are not trained again, so that
an interrupted search resumes.

Writes OUT/tuning.json and OUT/tuning.md, with all settings, and OUT/recipes/SYSTEM.toml: the chosen one as a recipe,
for `swclip benchmark --systems OUT/recipes/geoclip.toml ...` with the same --set.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tomli_w
from common import new_parser

from swclip.data.manifest import Manifest, read_manifest
from swclip.data.splits import Splits, indices, read_splits
from swclip.errors import InputError, SwclipError
from swclip.files import write_json
from swclip.models.feature_cache import FeatureCache
from swclip.training.config import assigned, load_recipe, merged, nested
from swclip.training.loop import train
from swclip.versions import versions

Setting = Mapping[str, Any]
"""The values that a setting changes in its recipe, by dotted key."""

GRIDS: dict[str, list[Setting]] = {
    "clip": [
        {},
        {"optimizer.rate": 3e-4},
        {"optimizer.rate": 3e-3},
        {"model.initial_temperature": 0.03},
        {"model.image.head_dropout": 0.3},
        {"optimizer.weight_decay": 0.3},
    ],
    "sw-clip": [
        {},
        {"bandwidth.form": "fixed", "objective.targets.bandwidths_m": [30.0]},
        {"bandwidth.form": "fixed", "objective.targets.bandwidths_m": [15.0, 60.0]},
        {"bandwidth.form": "fixed", "objective.targets.bandwidths_m": [60.0]},
        {"objective.neighbourhood.weight": 1.0},
        {"optimizer.rate": 3e-4},
    ],
    "sw-clip-plus": [
        {},
        {"optimizer.rate": 3e-4},
        {"model.initial_temperature": 0.03},
        {"bandwidth.factors": [2.0]},
        {"bandwidth.factors": [1.0, 4.0]},
        {"optimizer.rate": 3e-4, "bandwidth.factors": [2.0]},
    ],
    "geoclip": [
        {},
        {"model.location.fourier_wavelengths_m": [1000.0, 250.0, 60.0]},
        {"queue.noise_m": 150.0, "batch.position_noise_m": 15.0},
        {"queue.size": 0, "batch.position_noise_m": 0.0},
        {"model.image.head": "residual", "model.image.head_width": 1024, "model.image.head_dropout": 0.1},
        {"optimizer.rate": 3e-4},
    ],
    "addressclip": [
        {},
        {"objective.image_geography.weight": 0.2},
        {"objective.image_geography.weight": 3.0},
        {"objective.image_geography.weight": 10.0},
        {"objective.image_geography.measure": "similarity"},
        {"optimizer.rate": 3e-4},
    ],
    "rank-n-contrast": [
        {},
        {"objective.rank_n_contrast.tau": 2.0},
        {"objective.rank_n_contrast.tau": 0.05},
        {"objective.rank_n_contrast.weight": 0.3},
        {"objective.rank_n_contrast.similarity": "cosine"},
        {"optimizer.rate": 3e-4},
    ],
}


@dataclass(frozen=True)
class Trial:
    """One trained setting.

    Attributes:
        values: The values that it changes in its recipe, by dotted key.
        run: The folder of its run, relative to OUT.
        val_log_error: The score of the choice.
        val_median_m: Median error of the validation queries at the same step, metres.
        val_mean_m: Their mean error, metres.
        step: The step.
        seconds: Duration of the run, or of its last part.
    """

    values: dict[str, Any]
    run: str
    val_log_error: float
    val_median_m: float
    val_mean_m: float
    step: int
    seconds: float


def tune(
    manifest: Manifest,
    splits: Splits,
    systems: Sequence[str],
    out: Path,
    overrides: Mapping[str, Any],
    seed: int,
    cache: FeatureCache,
) -> dict[str, list[Trial]]:
    """Train all settings of the systems, and write the tables after each.

    Raises:
        InputError: A system is unknown, or the splits have no validation queries.
    """
    if unknown := sorted(set(systems) - set(GRIDS)):
        raise InputError(f"there are no settings for {', '.join(unknown)}; there are some for {', '.join(GRIDS)}.")
    if not len(indices(splits, manifest, "val")):
        raise InputError(f"{splits.path}: there are no validation queries to choose by; split again with some.")
    trials: dict[str, list[Trial]] = {system: [] for system in systems}
    total, made = sum(len(GRIDS[system]) for system in systems), 0
    for system in systems:
        for values in GRIDS[system]:
            made += 1
            print(f"{made}/{total}: {system} {_text(values)}", file=sys.stderr)
            trials[system].append(_trial(manifest, splits, system, values, out, overrides, seed, cache))
            write_tables(out, trials, {"overrides": overrides, "seed": seed, "splits": splits.meta, **versions()})
    return trials


def _trial(
    manifest: Manifest,
    splits: Splits,
    system: str,
    values: Setting,
    out: Path,
    overrides: Mapping[str, Any],
    seed: int,
    cache: FeatureCache,
) -> Trial:
    config = load_recipe(system, merged({**overrides, "seed": seed}, nested(values)))
    # Named by its content and not by its number, so that a grid may be extended between two searches.
    name = hashlib.sha256(json.dumps([dict(values), seed], sort_keys=True).encode()).hexdigest()[:8]
    run = Path("runs") / f"{system}-{name}"
    facts = train(manifest, splits, config, out / run, system=system, cache=cache)
    lines = [json.loads(line) for line in (out / run / "metrics.jsonl").read_text().splitlines()]
    best = min((line for line in lines if "val_log_error" in line), key=lambda line: line["val_log_error"])
    return Trial(
        dict(values),
        str(run),
        val_log_error=best["val_log_error"],
        val_median_m=best["val_median_m"],
        val_mean_m=best["val_mean_m"],
        step=best["step"],
        seconds=facts.figures["seconds"],
    )


def best_of(trials: Sequence[Trial]) -> Trial:
    """The trial with the lowest error; the first of equals, which is closer to the recipe as shipped."""
    return min(trials, key=lambda trial: trial.val_log_error)


def write_tables(out: Path, trials_of: Mapping[str, Sequence[Trial]], made_with: Mapping[str, Any]) -> None:
    """Write tuning.json, tuning.md, and the chosen setting of each finished system as a recipe."""
    out.mkdir(parents=True, exist_ok=True)
    document = {
        "made_with": dict(made_with),
        "systems": {
            system: {
                "trials": [asdict(trial) for trial in trials],
                "best": best_of(trials).values if trials else None,
                "finished": len(trials) == len(GRIDS[system]),
            }
            for system, trials in trials_of.items()
        },
    }
    write_json(out / "tuning.json", document)
    (out / "tuning.md").write_text(table(trials_of), encoding="utf-8")
    (out / "recipes").mkdir(exist_ok=True)
    for system, trials in trials_of.items():
        if len(trials) == len(GRIDS[system]):
            text = tomli_w.dumps({"base": system, **nested(best_of(trials).values)})
            (out / "recipes" / f"{system}.toml").write_text(text, encoding="utf-8")


def table(trials_of: Mapping[str, Sequence[Trial]]) -> str:
    """All settings as a Markdown table, the chosen ones in bold."""
    rows = [
        "| system | setting | log error | median m | mean m | best step | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for system, trials in trials_of.items():
        chosen = best_of(trials) if trials else None
        for trial in trials:
            mark = "**" if trial is chosen else ""
            figures = f"{trial.val_log_error:.4f} | {trial.val_median_m:.1f} | {trial.val_mean_m:.1f} | {trial.step}"
            rows.append(f"| {system} | {mark}{_text(trial.values)}{mark} | {figures} | {trial.seconds:.0f} |")
    return "\n".join(rows) + "\n"


def _text(values: Setting) -> str:
    return ", ".join(f"{key} = {json.dumps(value)}" for key, value in values.items()) or "as shipped"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the search."""
    parser = new_parser(__doc__, out_required=True)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--splits", type=Path, required=True)
    parser.add_argument("--systems", nargs="+", default=list(GRIDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="assignments")
    options = parser.parse_args(arguments)
    try:
        overrides = nested(assigned(options.assignments))
        data = read_manifest(options.manifest), read_splits(options.splits)
        trials = tune(*data, options.systems, options.out, overrides, options.seed, FeatureCache())
    except SwclipError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(table(trials), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
