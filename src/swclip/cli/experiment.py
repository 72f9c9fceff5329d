"""`swclip experiment`: a whole experiment from one description, from the service's photographs to the comparison."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from swclip.cli.fetch import PolitenessOptions
from swclip.cli.help import ADVANCED

if TYPE_CHECKING:
    from swclip.experiments.plan import ExperimentPlan


def experiment(
    name: str,
    /,
    *,
    out: Path,
    dry_run: bool = False,
    partial: bool = False,
    jobs: int = 1,
    device: str = "auto",
    endpoint: Annotated[str | None, ADVANCED] = None,
    politeness: PolitenessOptions | None = None,
) -> None:
    """Fetch photographs of cities, and compare systems on them.

    One description, a TOML file, names the areas, the service, dates and thinning, the splits, and the systems with
    their seeds. uk8 is the setting of the paper: eight British cities and three protocols. The cities, areas and the
    image tower are assumptions, since the paper does not publish them. generated8 is the same for the generated cities,
    which a stand-in serves on this machine.

    The stages are those of fetch, merge, split and benchmark. Each resumes: if interrupted, run the same command again.
    A system, a seed or a split that is added to the description later is added to the results.

    Args:
        name: The description: uk8, generated8, or a TOML file, which may begin with `base = "uk8"`.
        out: Output folder: data/CITY, merged, splits, results/SPLIT, experiment.json and the page experiment.html.
        dry_run: Search the areas, print photographs, bytes and hours, and stop. The search is not repeated later.
        partial: Go on although the service refuses a part of the photographs; the page states how many.
        jobs: Number of runs trained in parallel, each in its own process.
        device: auto (a GPU if there is one), cpu, cuda, cuda:1 or mps.
        endpoint: Address of an instance of the service, or of a stand-in.

    Examples:
        swclip experiment uk8 --out uk8 --dry-run
        swclip experiment uk8 --out uk8
        # your cities, systems and seeds
        swclip experiment mine.toml --out mine
    """
    from swclip.cli.console import command_line, console, next_step, print_table
    from swclip.comparison.tables import console_table
    from swclip.experiments.description import read_experiment
    from swclip.experiments.run import experiment as run_experiment

    described = read_experiment(name)
    for note in described.notes:
        console.print(f"Note: {note}", markup=False, soft_wrap=True)
    result = run_experiment(
        described, out, endpoint=endpoint, dry_run=dry_run, partial=partial, jobs=jobs, device=device,
        politeness=(politeness or PolitenessOptions()).read(), command=command_line(), progress=True,
        announce=lambda sentence: console.print(f"\n{sentence}", style="bold cyan", markup=False, soft_wrap=True),
    )  # fmt: skip
    if result.plan is not None:
        _print_plan(result.plan)
        result.plan.raise_problems()
        next_step("experiment", "the same command without --dry-run; the search is not repeated.")
        return
    for title, done in (result.benchmarks or {}).items():
        shown = [done.pooled] if done.pooled is not None else list(done.comparisons.values())
        for comparison in shown:
            words, columns, rows = console_table(comparison.document)
            print_table(f"{title}: {words}", columns, rows)
    print(result.page)
    next_step("experiment", f"open {result.page} in a browser")


def _print_plan(plan: ExperimentPlan) -> None:
    from swclip.cli.console import console, print_table

    rows = [
        [
            city, f"{one.area_km2:,.3g}", f"{one.found:,}", f"{one.photographs:,}", f"{one.to_download:,}",
            f"{one.bytes_to_download / 1e6:,.1f}",
        ]
        for city, one in plan.areas.items()
    ]  # fmt: skip
    to_download = sum(one.to_download for one in plan.areas.values())
    size = f"{plan.bytes_to_download / 1e6:,.1f}"
    rows.append(["all", "", "", f"{plan.photographs:,}", f"{to_download:,}", size])
    columns = ["city", "km2", "photographs there", "after thinning", "to download", "MB"]
    print_table("Photographs", columns, rows)
    sources = sorted({one.bytes_from for one in plan.areas.values()})
    console.print(f"Size: {'; '.join(sources)}", markup=False, soft_wrap=True)
    print_table(
        "Time on this machine, without evaluation",
        ["stage", "time", "basis"],
        [[one.stage, _time(one.hours), one.basis] for one in plan.hours]
        + [["all", _time(sum(one.hours for one in plan.hours)), ""]],
    )


def _time(hours: float) -> str:
    if hours >= 0.95:
        return f"{hours:,.1f} h"
    return f"{60.0 * hours:.0f} min" if hours >= 1.5 / 60.0 else f"{max(1.0, 3600.0 * hours):.0f} s"
