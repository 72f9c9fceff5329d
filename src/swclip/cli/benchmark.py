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
    splits: Annotated[list[Path], Parameter(consume_multiple=True)],
    out: Path,
    systems: Annotated[list[str], Parameter(consume_multiple=True)] = ["nearest-neighbour", "clip", "sw-clip"],  # noqa: B006
    seeds: Annotated[list[int], Parameter(consume_multiple=True)] = [0],  # noqa: B006
    baseline: str | None = None,
    reference: str | None = None,
    jobs: int = 1,
    options: RecipeOptions | None = None,
) -> None:
    """Train and evaluate systems side by side; write benchmark.json, benchmark.html and error-curves.png and .svg.

    Runs that are finished already (OUT/runs) are not trained again, so an interrupted benchmark goes on. A run that
    fails does not stop the others.

    With several splits each has its folder, OUT/NAME of the splits file. Where each leaves out another city, a pooled
    comparison of all queries stands in OUT itself.

    Args:
        manifest: The photographs, as `swclip prepare` or `swclip synth` wrote them.
        splits: What `swclip split` wrote: one file or several, or the folder of `swclip split --all-cities`.
        out: The benchmark's folder.
        systems: Recipes by name or path (clip, sw-clip, MINE.toml), and nearest-neighbour.
        seeds: Each recipe is trained once a seed.
        baseline: The system that differences are taken from: `clip` if it is there, else the first.
        reference: A second system that differences are taken from, such as the method whose parts others leave out:
            `sw-clip` if it is there and not the baseline.
        jobs: Runs trained at once, each in a process of its own with its share of the processors.
        options: Values that replace those of every recipe. A text tower replaces that of recipes that read text; those
            without one stay without.
    """
    from swclip.api.runs import benchmark as run_benchmark
    from swclip.cli.console import command_line, console, print_table
    from swclip.comparison.comparison import comparison_table

    done = run_benchmark(
        manifest,
        splits,
        out,
        systems=systems,
        seeds=seeds,
        overrides=(options or RecipeOptions()).overrides(),
        baseline=baseline,
        reference=reference,
        command=command_line(),
        jobs=jobs,
        errors="keep",
        progress=True,
    )
    alone = len(done.comparisons) == 1 and done.files == [out / "benchmark.json"]
    for name, comparison in done.comparisons.items():
        title, columns, rows = comparison_table(comparison.document)
        print_table(title if alone else f"{name}: {title}", columns, rows)
    if done.pooled is not None:
        title, columns, rows = comparison_table(done.pooled.document)
        print_table(f"all cities, each left out once: {title}", columns, rows)
    for path in done.files:
        console.print(f"Open {path.with_suffix('.html')} in a browser.", markup=False)
        print(path)
    for note in done.notes:
        console.print(f"Note: {note}", markup=False)
    done.raise_failures()
