"""`swclip bandwidth`: how wide the soft labels should be, by the data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from swclip.cli.options import RecipeOptions

if TYPE_CHECKING:
    from swclip.training.bandwidth_study import BandwidthStudy


def bandwidth(
    manifest: Path,
    /,
    *,
    splits: Path,
    recipe: str = "sw-clip",
    options: RecipeOptions | None = None,
    out: Path | None = None,
    search: Annotated[list[float] | None, Parameter(consume_multiple=True)] = None,
    seed: int | None = None,
) -> None:
    """Find the bandwidth of the soft labels: from a semivariogram of image features, from the spacing of the places.

    Prints what was found, and the bandwidth in metres on standard output. `swclip train` finds the same by itself with
    --set bandwidth.form=semivariogram.

    Args:
        manifest: The photographs, as `swclip prepare` or `swclip synth` wrote them.
        splits: What `swclip split` wrote; the photographs of `train` are looked at.
        recipe: A recipe's name, or the path of a TOML file.
        options: Values that replace the recipe's.
        out: A folder for bandwidth.json, semivariogram.png and .svg, and the runs of --search.
        search: Bandwidths in metres to try: each, and the one that was found, is trained with for --steps steps and
            compared on the validation queries.
        seed: Seed of the photographs that are looked at, and of the search's runs.
    """
    import tempfile

    from swclip.cli.console import command_line, console, print_table
    from swclip.data.manifest import read_manifest
    from swclip.data.splits import read_splits
    from swclip.files import write_json
    from swclip.progress import progress_bars
    from swclip.reporting.semivariogram_figure import write_semivariogram_figure
    from swclip.training.bandwidth_study import search_bandwidth, study_bandwidth
    from swclip.training.config import load_recipe

    config = load_recipe(recipe, (options or RecipeOptions()).overrides(seed=seed))
    table, split = read_manifest(manifest), read_splits(splits)
    with progress_bars() as progress:
        found = study_bandwidth(table, split, config, progress=progress)
    record: dict[str, Any] = {**found.record, "command": command_line()}
    _show(found)
    best_m = found.bandwidth_m
    if search:
        with tempfile.TemporaryDirectory() as scratch, progress_bars() as progress:
            runs = (out or Path(scratch)) / "search"
            record["search"] = tried = search_bandwidth(
                table, split, config, search, runs, form=found.form, command=record["command"], progress=progress
            )
        best = min(tried, key=lambda row: float(row["val_log_error"]))
        print_table(
            f"Validation after {config.steps} steps; * the best by the mean of log(1 + error / 10 m)",
            ["bandwidth", "metres", "median", "mean", "log error"],
            [_tried(row, row is best) for row in tried],
        )
        best_m = min(best["bandwidths_m"])
    if out is not None:
        write_json(out / "bandwidth.json", record)
        if len(found.empirical.lag_m):
            looked = found.record["semivariogram"]
            note = f"{looked['photographs']:,} photographs" + (
                ", pairs that look the same way" if looked["same_heading"] else ""
            )
            pictures = [out / "semivariogram.png", out / "semivariogram.svg"]
            write_semivariogram_figure(pictures, found.empirical, found.fitted, note=note)
        console.print(f"{out}: bandwidth.json, semivariogram.png, semivariogram.svg", markup=False)
    print(f"{best_m:g}")


def _tried(row: dict[str, Any], best: bool) -> list[str]:
    metres = " + ".join(f"{value:g}" for value in row["bandwidths_m"])
    figures = [f"{row['val_median_m']:,.1f} m", f"{row['val_mean_m']:,.1f} m", f"{row['val_log_error']:.4f}"]
    return [f"{row['name']}{' *' if best else ''}", metres, *figures]


def _show(found: BandwidthStudy) -> None:
    from swclip.cli.console import console, print_table

    fitted, looked, adaptive = found.fitted, found.record["semivariogram"], found.record["adaptive"]
    rows = [
        ["photographs looked at", f"{looked['photographs']:,} of {found.record['photographs']:,}"],
        ["pairs within the longest lag", f"{sum(looked['pairs']):,}"],
        ["pairs look the same way", "yes" if looked["same_heading"] else "no"],
        ["nugget", f"{fitted.nugget:.3f}"],
        ["sill", f"{fitted.sill:.3f}"],
        ["range parameter", f"{fitted.range_m:,.1f} m"],
        ["practical range", f"{fitted.practical_range_m:,.1f} m"],
        ["correlation falls to 1/e at", f"{fitted.correlation_length_m:,.1f} m"],
        ["bandwidth", f"{looked['bandwidth_m']:,.1f} m" if fitted.structured else "none: no structure"],
    ]
    print_table(f"Semivariogram of image features ({fitted.model})", ["", "value"], rows)
    console.print(f"The semivariogram has {fitted.statement}", markup=False)
    print_table(
        f"Adaptive bandwidth: distance to place {adaptive['neighbour']} from each photograph",
        ["", "metres"],
        [[f"{float(share):.0%}", f"{value:,.1f}"] for share, value in adaptive["quantiles_m"].items()]
        + [["geometric mean", f"{adaptive['geometric_mean_m']:,.1f}"]],
    )
    console.print(f"Bandwidth: {found.bandwidth_m:g} m, {found.form}", markup=False)
