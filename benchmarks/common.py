"""Shared parts of the experiments: options, training with evaluation, tables, and the style of the figures."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from swclip.calibration.posterior_config import read_posterior
from swclip.cli.options import RecipeOptions
from swclip.comparison import tables
from swclip.comparison.document import Difference
from swclip.data.manifest import Manifest
from swclip.data.splits import Splits
from swclip.evaluation.evaluate import EmbedConfig, evaluate
from swclip.evaluation.measure import MeasureConfig
from swclip.evaluation.result import Evaluation
from swclip.files import atomic_file
from swclip.gallery.hubness import read_bank
from swclip.models.feature_cache import FeatureCache
from swclip.models.locator_model import load_model
from swclip.training.config import load_recipe
from swclip.training.loop import train

# The colours of Okabe and Ito, which most people can distinguish, and a marker each for those who cannot.
STYLES = [("#0072b2", "o"), ("#d55e00", "s"), ("#009e73", "^"), ("#cc79a7", "D"), ("#56b4e9", "v"), ("#e69f00", "P")]


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Add the manifest, its splits, and the options of `swclip train`."""
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--splits", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--image-tower")
    parser.add_argument("--text-tower")
    parser.add_argument("--freeze", choices=["image", "none"])
    parser.add_argument("--steps", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--size-px", type=int)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any other recipe value")


def command_line() -> str:
    """The command line, for repetition."""
    return shlex.join(["python", *sys.argv])


def say(text: str) -> None:
    """Print a line on standard error."""
    print(text, file=sys.stderr, flush=True)


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
        args: The options of `add_training_options`.
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


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def difference_text(difference: Mapping[str, Any]) -> str:
    """A difference of distances in the JSON of a benchmark, with its interval."""
    return tables.difference_text(Difference.model_validate(difference))


def write_text(path: Path, text: str) -> None:
    """Write a text completely or not at all."""
    with atomic_file(path) as beside:
        beside.write_text(text, encoding="utf-8")


def new_figure(width: float, height: float, panels: int, **more: Any) -> tuple[Any, Any]:
    """A figure and its panels side by side."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, panels, **more)
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="y", color="#dddddd", linewidth=0.7)
        panel.set_axisbelow(True)
    return figure, axes


def save_figure(figure: Any, path: Path) -> None:
    """Write PATH.png and PATH.svg; the same data give the same SVG."""
    import matplotlib

    for ending in ("png", "svg"):
        file = path.with_suffix(f".{ending}")
        with matplotlib.rc_context({"svg.hashsalt": path.name}), atomic_file(file) as beside:
            figure.savefig(beside, dpi=150, metadata={"Date": None} if ending == "svg" else None)
