"""`swclip train`: train a model on a manifest and its splits."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from swclip.cli.help import ADVANCED, REPEATED
from swclip.cli.options import RecipeOptions


def train(
    manifest: Path,
    /,
    *,
    splits: Path,
    out: Path,
    recipe: str = "sw-clip",
    options: RecipeOptions | None = None,
    device: str = "auto",
    bandwidth_m: Annotated[list[float] | None, REPEATED, ADVANCED] = None,
    seed: Annotated[int | None, Parameter(show_default="the recipe's; 0 in all shipped ones")] = None,
) -> None:
    """Train a model, or resume an interrupted run.

    Trains on the photographs of split `train`. Under torchrun, each process trains on its part of every batch.

    Args:
        manifest: The manifest that `swclip prepare` or `swclip synth` wrote.
        splits: The splits that `swclip split` wrote.
        out: The run's folder. A run that was interrupted there is resumed.
        recipe: A built-in recipe (clip, sw-clip, geoclip, ...), or the path of a TOML file, such as the config.toml of
            a run.
        options: Values that override the recipe's.
        device: auto (a GPU if there is one), cpu, cuda, cuda:1 or mps.
        bandwidth_m: Bandwidth of the soft labels in metres, instead of an estimate from the data; several values give a
            mixture of kernels.
        seed: Seed of weights, batches, augmentation and dropout.

    Examples:
        # from scratch, without a download
        swclip train data --splits data/splits.parquet --out runs/first
        # a pretrained tower, kept frozen: minutes on a CPU
        swclip train data --splits data/splits.parquet --out runs/dino \\
            --image-tower facebook/dinov2-small --freeze image
    """
    from swclip.api.runs import train as run_training
    from swclip.cli.console import command_line, console, next_step

    bandwidths = {"objective__targets__bandwidths_m": bandwidth_m, "bandwidth__form": "fixed" if bandwidth_m else None}
    config = (options or RecipeOptions()).config(recipe, **bandwidths, seed=seed)
    system, command = Path(recipe).stem, command_line()
    facts = run_training(manifest, splits, config, out, system=system, device=device, command=command, progress=True)
    if os.environ.get("RANK", "0") != "0":  # only one process prints
        return
    fitted = facts.figures.get("val_posterior")
    if fitted:
        console.print(
            f"validation: median error {fitted['median_error_m']:.0f} m, mean {fitted['mean_error_m']:.0f} m "
            f"over {fitted['n_queries']} queries"
        )
    console.print(f"{out}: trained", markup=False, soft_wrap=True)
    next_step("train", "swclip", "evaluate", out, "--out", f"reports/{out.name}")
