"""`swclip benchmark`: compare systems on the same photographs, splits, budget and seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from swclip.cli.help import ADVANCED, REPEATED
from swclip.cli.options import RecipeOptions


def benchmark(
    manifest: Path,
    /,
    *,
    splits: Annotated[list[Path], REPEATED],
    out: Path,
    systems: Annotated[list[str], REPEATED] = [  # noqa: B006
        "nearest-neighbour",
        "nearest-neighbour-whitened",
        "clip",
        "sw-clip",
    ],
    seeds: Annotated[list[int], REPEATED] = [0],  # noqa: B006
    draws: int = 1,
    jobs: int = 1,
    device: str = "auto",
    baseline: Annotated[str | None, ADVANCED] = None,
    reference: Annotated[str | None, ADVANCED] = None,
    estimator: Annotated[Literal["mode", "argmax", "geometric-median", "validation"], ADVANCED] = "mode",
    tiles: Annotated[str | None, ADVANCED] = None,
    attribution: Annotated[str, ADVANCED] = "",
    options: RecipeOptions | None = None,
) -> None:
    """Train and evaluate several systems, and compare them.

    All systems get the same photographs, splits, budget and seeds.

    Writes benchmark.json, benchmark.html and error-curves.png and .svg. Finished runs in OUT/runs are not trained
    again, so an interrupted benchmark resumes. A run that fails does not stop the others.

    With several splits, the results of each are in OUT/NAME, after the name of the splits file. Where each leaves out a
    different city, OUT also holds a pooled comparison of all queries.

    Args:
        manifest: The manifest that `swclip prepare` or `swclip synth` wrote.
        splits: One or more files that `swclip split` wrote, or the folder of `swclip split --all-cities`.
        out: Output folder.
        systems: Recipes by name or path (clip, sw-clip, recipe.toml), and two systems without training:
            nearest-neighbour on the features of the image tower, and nearest-neighbour-whitened.
        seeds: Each recipe is trained once per seed.
        baseline: The system to which the others are compared; by default `clip` if it is among the systems, else the
            first.
        reference: A second system to which the others are compared, such as the full method in an ablation; by default
            `sw-clip` if it is among the systems and not the baseline.
        estimator: How the point of every system is estimated from its posterior: mode (the densest place), argmax (the
            most probable candidate), or geometric-median (the point with the least expected distance). validation: the
            one with the least mean of log(1 + error / 10 m) on the validation queries, summed over the systems. The
            page has the figures of all.
        draws: Number of draws of the splits. Each further one is split again with the parameters of the splits file and
            the next seed, and every system is trained on it, in OUT/draws. The claims and their intervals are then over
            all draws, seeds and blocks of queries.
        jobs: Number of runs trained in parallel, each in its own process with its share of the processors.
        device: auto (a GPU if there is one), cpu, cuda, cuda:1 or mps.
        options: Values that override those of every recipe. A text tower is used only in recipes that have one.
        tiles: A base map below the maps of the page: osm (OpenStreetMap), another name of xyzservices, or a URL such as
            https://tiles.example.org/{z}/{x}/{y}.png. The browser of a reader requests the tiles from that host. By
            default the page requests nothing.
        attribution: Attribution of the tiles; needed for a URL.

    Examples:
        swclip benchmark data --splits data/splits.parquet --out compared
        # a pretrained tower, kept frozen; three seeds of each system
        swclip benchmark data --splits data/splits.parquet --out compared \\
            --image-tower facebook/dinov2-small --freeze image --seeds 0 1 2
        # every city left out once
        swclip benchmark data --splits each-city --out transfer --jobs 2
    """
    from swclip.api.runs import benchmark as run_benchmark
    from swclip.cli.console import command_line, console, next_step, print_table
    from swclip.comparison.tables import console_draws_table, console_table
    from swclip.reporting.tiles import Tiles

    base_map = None if tiles is None else Tiles.of(tiles, attribution)
    options = options or RecipeOptions()
    for system in systems:
        if not system.startswith("nearest-neighbour"):
            options.check_frozen(system)
    done = run_benchmark(
        manifest,
        splits,
        out,
        systems=systems,
        seeds=seeds,
        overrides=options.overrides(),
        baseline=baseline,
        reference=reference,
        command=command_line(),
        jobs=jobs,
        estimator=estimator,
        draws=draws,
        device=device,
        tiles=base_map,
        errors="keep",
        progress=True,
    )
    single = len(done.comparisons) == 1 and done.files[:1] == [out / "benchmark.json"]
    for name, comparison in done.comparisons.items():
        title, columns, rows = console_table(comparison.document)
        print_table(title if single else f"{name}: {title}", columns, rows)
        if (drawn := console_draws_table(comparison.document)) is not None:
            print_table(*drawn)
    if done.pooled is not None:
        title, columns, rows = console_table(done.pooled.document)
        print_table(f"All cities, each left out once: {title}", columns, rows)
    for path in done.files:
        print(path)
    for note in done.notes:
        console.print(f"Note: {note}", markup=False, soft_wrap=True)
    if done.files:
        next_step("benchmark", f"open {done.files[-1].with_suffix('.html')} in a browser")
    done.raise_failures()
