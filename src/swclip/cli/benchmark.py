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
    from swclip.cli.console import command_line, console, print_table, run_bars
    from swclip.comparison.benchmark import run_benchmarks
    from swclip.comparison.comparison import comparison_table
    from swclip.comparison.page import write_benchmark
    from swclip.data.manifest import read_manifest
    from swclip.data.splits import find_splits, leakage_path, read_splits
    from swclip.files import read_json

    table, found = read_manifest(manifest), [read_splits(path) for path in find_splits(splits)]
    baseline = baseline or ("clip" if "clip" in systems else None)
    if reference is None and "sw-clip" in systems and (baseline or systems[0]) != "sw-clip":
        reference = "sw-clip"
    with run_bars() as progress:
        done = run_benchmarks(
            table,
            found,
            systems,
            seeds,
            out,
            overrides=(options or RecipeOptions()).overrides(),
            baseline=baseline,
            reference=reference,
            command=command_line(),
            jobs=jobs,
            progress=progress,
        )
    if len(found) == 1:
        folders = dict.fromkeys(done.comparisons, out)
    else:
        (out / "benchmark.json").unlink(missing_ok=True)  # of another set of splits, or of runs that failed now
        folders = {name: out / name for name in done.comparisons}
    leaks = {split.path.stem: leakage_path(split.path) for split in found}
    written = []
    for name, comparison in done.comparisons.items():
        leakage = read_json(leaks[name], "the leakage report") if leaks[name].is_file() else None
        written.append(write_benchmark(folders[name], comparison, manifest=table, leakage=leakage))
        title, columns, rows = comparison_table(comparison.document)
        print_table(title if len(found) == 1 else f"{name}: {title}", columns, rows)
    if done.pooled is not None:
        written.append(write_benchmark(out, done.pooled, manifest=table))
        title, columns, rows = comparison_table(done.pooled.document)
        print_table(f"all cities, each left out once: {title}", columns, rows)
    for path in written:
        console.print(f"Open {path.with_suffix('.html')} in a browser.", markup=False)
        print(path)
    for note in done.notes:
        console.print(f"Note: {note}", markup=False)
    done.raise_failures()
