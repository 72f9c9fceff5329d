"""`swclip benchmark`: systems side by side on the same photographs, splits, budget and seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from swclip.cli.options import RecipeOptions


def benchmark(
    manifest: Path,
    /,
    *,
    splits: Path,
    out: Path,
    systems: Annotated[list[str], Parameter(consume_multiple=True)] = ["nearest-neighbour", "clip", "sw-clip"],  # noqa: B006
    seeds: Annotated[list[int], Parameter(consume_multiple=True)] = [0],  # noqa: B006
    baseline: str | None = None,
    options: RecipeOptions | None = None,
) -> None:
    """Train and evaluate systems side by side, and write benchmark.json and benchmark.html.

    Runs that are finished already (OUT/runs) are not trained again, so an interrupted benchmark goes on.

    Args:
        manifest: The photographs, as `swclip prepare` or `swclip synth` wrote them.
        splits: What `swclip split` wrote.
        out: The benchmark's folder.
        systems: Recipes by name or path (clip, sw-clip, MINE.toml), and nearest-neighbour.
        seeds: Each recipe is trained once a seed.
        baseline: The system that differences are taken from: `clip` if it is there, else the first.
        options: Values that replace those of every recipe.
    """
    from swclip.cli.console import console, print_table, progress_bars
    from swclip.cli.record import command_line
    from swclip.data.manifest import read_manifest
    from swclip.data.splits import leakage_path, read_splits
    from swclip.evaluation.benchmark_page import write_benchmark_page
    from swclip.evaluation.comparison import comparison_table
    from swclip.files import read_json, write_json
    from swclip.training.benchmark import run_benchmark

    table, split = read_manifest(manifest), read_splits(splits)
    with progress_bars() as progress:
        comparison = run_benchmark(
            table,
            split,
            systems,
            seeds,
            out,
            overrides=(options or RecipeOptions()).overrides(),
            baseline=baseline or ("clip" if "clip" in systems else None),
            command=command_line(),
            progress=progress,
        )
    leaks = leakage_path(split.path)
    leakage = read_json(leaks, "the leakage report") if leaks.is_file() else None
    (out / "benchmark.json").unlink(missing_ok=True)
    write_benchmark_page(out / "benchmark.html", comparison, manifest=table, leakage=leakage)
    write_json(out / "benchmark.json", comparison.document)
    print_table(*comparison_table(comparison.document))
    console.print(f"Open {out / 'benchmark.html'} in a browser.", markup=False)
    print(out / "benchmark.json")
