"""Shared parts of the benchmarks that train, or measure trained runs: options, training with evaluation, texts."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from common import command_line, new_parser, say

from swclip.calibration.posterior_config import read_posterior
from swclip.cli.options import RecipeOptions
from swclip.comparison import tables
from swclip.comparison.document import Difference
from swclip.data.manifest import Manifest
from swclip.data.splits import Splits
from swclip.evaluation.evaluate import EmbedConfig, evaluate
from swclip.evaluation.measure import MeasureConfig
from swclip.evaluation.result import Evaluation
from swclip.files import read_json, write_json
from swclip.gallery.hubness import read_bank
from swclip.models.feature_cache import FeatureCache
from swclip.models.locator_model import load_model
from swclip.training.config import load_recipe
from swclip.training.loop import train


def training_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the manifest, its splits, and the options of `swclip train`."""
    parser = new_parser(description, out_required=True)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--splits", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--image-tower", nargs="+")
    parser.add_argument("--text-tower")
    parser.add_argument("--freeze", choices=["image", "none"])
    parser.add_argument("--steps", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--size-px", type=int)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any other recipe value")
    return parser


class Progress:
    """Progress on standard error: one line per run, rewritten on a terminal, and a line for each quarter elsewhere."""

    def __init__(self, title: str) -> None:
        self._title, self._last, self._terminal = title, "", sys.stderr.isatty()

    def __call__(self, task: str, done: int, total: int) -> None:
        quarter = f"{task} {done if self._terminal else 4 * done // max(total, 1)}"
        if quarter == self._last:
            return
        self._last = quarter
        start, end = ("\r\x1b[K", "") if self._terminal else ("", "\n")
        print(f"{start}{self._title}: {task} {done}/{total}", end=end, file=sys.stderr, flush=True)

    def close(self) -> None:
        """End the line."""
        if self._terminal:
            print(file=sys.stderr)


def run(
    args: argparse.Namespace,
    recipe: str,
    more: Mapping[str, Any],
    trained_on: tuple[Manifest, Splits],
    evaluated_on: tuple[Manifest, Splits],
    out: Path,
    system: str,
    config: MeasureConfig | None = None,
) -> Evaluation:
    """Train a recipe on one version of the data, unless OUT has the finished run, and evaluate it on another.

    Args:
        args: The options of `training_parser`.
        recipe: Name of the recipe.
        more: Further values by dotted key, `__` for the dot.
        trained_on: Manifest and splits of training and validation.
        evaluated_on: Manifest and splits of the queries and candidates.
        out: The run's folder.
        system: Its name.
        config: Configuration of the measurement; None for the default.
    """
    options = RecipeOptions(
        image_tower=args.image_tower,
        text_tower=args.text_tower,
        freeze=args.freeze,
        steps=args.steps,
        batch_size=args.batch_size,
        size_px=args.size_px,
        assignments=args.set,
    )
    training = load_recipe(recipe, options.overrides(**more))
    cache, progress = FeatureCache(), Progress(f"{out.parent.name}/{out.name}")
    train(*trained_on, training, out, system=system, cache=cache, command=command_line(), progress=progress)
    evaluation = evaluate(
        load_model(out),
        *evaluated_on,
        posterior=read_posterior(out),
        bank=read_bank(out),
        config=config,
        embedding=EmbedConfig(cache=cache if training.freeze_image else None),
        command=command_line(),
    )
    progress.close()
    return evaluation


def difference_text(difference: Mapping[str, Any]) -> str:
    """A difference of distances in the JSON of a benchmark, with its interval."""
    return tables.difference_text(Difference.model_validate(difference))


def draws_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the folder of a benchmark over several draws, and one of its recipes."""
    parser = new_parser(description, out_required=True)
    parser.add_argument("benchmark", type=Path, help="the folder that `swclip benchmark --draws` wrote")
    parser.add_argument("--recipe", default="sw-clip-plus")
    return parser


def measured_draws(args: argparse.Namespace, measured: Callable[[Path], dict[str, Any]]) -> list[dict[str, Any]]:
    """The figures of a recipe's run in each draw; those that an earlier command wrote are read."""
    runs = f"runs/{args.recipe}-*"
    draws: list[dict[str, Any]] = []
    for run in [*args.benchmark.glob(runs), *sorted(args.benchmark.glob(f"draws/*/{runs}"))]:
        file = args.out / f"draw-{len(draws)}.json"
        if not file.is_file():
            say(str(run))
            write_json(file, measured(run))
        draws.append(read_json(file, "the figures of a draw"))
    if not draws:
        raise SystemExit(f"{args.benchmark}: has no finished runs of {args.recipe}.")
    return draws
