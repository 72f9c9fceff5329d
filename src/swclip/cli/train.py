"""`swclip train`: a run from a manifest and its splits."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from swclip.cli.options import RecipeOptions


def train(
    manifest: Path,
    /,
    *,
    splits: Path,
    out: Path,
    recipe: str = "sw-clip",
    options: RecipeOptions | None = None,
    bandwidth_m: Annotated[list[float] | None, Parameter(consume_multiple=True)] = None,
    seed: int | None = None,
) -> None:
    """Train a model on the `train` photographs of a split; an interrupted run goes on where it was.

    Under torchrun, every process of the group trains on its part of each batch.

    Args:
        manifest: The photographs, as `swclip prepare` or `swclip synth` wrote them.
        splits: What `swclip split` wrote.
        out: The run's folder.
        recipe: One that ships (`clip`, `sw-clip`, `geoclip`, ...), or the path of a TOML file; RUN/config.toml is one.
        options: Values that replace the recipe's.
        bandwidth_m: Bandwidth of the soft labels in metres, instead of one found from the data; several make a mixture.
        seed: Seed of weights, batches, augmentation and dropout.
    """
    from swclip.api.runs import train as run_training
    from swclip.cli.console import command_line, console
    from swclip.training.config import load_recipe

    overrides = (options or RecipeOptions()).overrides(
        objective__targets__bandwidths_m=bandwidth_m, bandwidth__form="fixed" if bandwidth_m else None, seed=seed
    )
    config = load_recipe(recipe, overrides)
    facts = run_training(manifest, splits, config, out, system=Path(recipe).stem, command=command_line(), progress=True)
    fitted = facts.figures.get("val_posterior")
    if fitted:
        console.print(
            f"validation: median error {fitted['median_error_m']:.0f} m, mean {fitted['mean_error_m']:.0f} m "
            f"over {fitted['n_queries']} queries"
        )
    if facts.status == "finished" and os.environ.get("RANK", "0") == "0":  # of several processes, one speaks
        console.print(f"{out}: trained. Next: swclip evaluate {out} --out REPORT", markup=False)
