"""`swclip bandwidth`: the bandwidth of the soft labels, estimated from the data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from swclip.cli.help import ADVANCED, REPEATED
from swclip.cli.options import RecipeOptions

if TYPE_CHECKING:
    from swclip.training.bandwidth_study import BandwidthStudy


def bandwidth(
    manifest: Path,
    /,
    *,
    splits: Path,
    recipe: str = "sw-clip",
    out: Path | None = None,
    search: Annotated[list[float] | None, REPEATED] = None,
    device: str = "auto",
    options: RecipeOptions | None = None,
    seed: Annotated[int | None, ADVANCED] = None,
) -> None:
    """Estimate the bandwidth of the soft labels from the data.

    The estimate comes from a semivariogram of image features; the spacing of the places is shown beside it. The
    bandwidth in metres is printed on standard output. `swclip train` computes the same estimate with
    --set bandwidth.form=semivariogram.

    Args:
        manifest: The manifest that `swclip prepare` or `swclip synth` wrote.
        splits: The splits that `swclip split` wrote; the photographs of split `train` are used.
        recipe: A recipe's name, or the path of a TOML file.
        device: auto (a GPU if there is one), cpu, cuda, cuda:1 or mps.
        options: Values that override the recipe's.
        out: A folder for bandwidth.json, semivariogram.png and .svg, and the runs of --search.
        search: Bandwidths in metres to try: a model is trained for --steps steps with each of them and with the
            estimate, and compared on the validation queries.
        seed: Seed for sampling photographs and for the runs of the search.

    Examples:
        swclip bandwidth data --splits data/splits.parquet --out bandwidth
        # try three bandwidths beside the estimate
        swclip bandwidth data --splits data/splits.parquet --search 10 25 60
    """
    import tempfile

    from swclip.cli.console import command_line, console, next_step, print_table
    from swclip.data.manifest import read_manifest
    from swclip.data.splits import read_splits
    from swclip.files import write_json
    from swclip.progress import progress_bars
    from swclip.reporting.semivariogram_figure import write_semivariogram_figure
    from swclip.training.bandwidth_study import search_bandwidth, study_bandwidth

    config = (options or RecipeOptions()).config(recipe, seed=seed)
    table, split = read_manifest(manifest), read_splits(splits)
    with progress_bars() as progress:
        study = study_bandwidth(table, split, config, device=device, progress=progress)
    record: dict[str, Any] = {**study.record, "command": command_line()}
    _show(study)
    best_m = study.bandwidth_m
    if search:
        with tempfile.TemporaryDirectory() as scratch, progress_bars() as progress:
            runs = (out or Path(scratch)) / "search"
            record["search"] = rows = search_bandwidth(
                table,
                split,
                config,
                search,
                runs,
                form=study.form,
                device=device,
                command=record["command"],
                progress=progress,
            )
        best = min(rows, key=lambda row: float(row["val_log_error"]))
        print_table(
            f"Validation after {config.steps} steps; * lowest mean of log(1 + error / 10 m)",
            ["bandwidth", "metres", "median", "mean", "log error"],
            [_search_row(row, row is best) for row in rows],
        )
        best_m = min(best["bandwidths_m"])
    if out is not None:
        write_json(out / "bandwidth.json", record)
        if len(study.empirical.lag_m):
            semivariogram = study.record["semivariogram"]
            note = f"{semivariogram['photographs']:,} photographs" + (
                ", pairs with similar headings" if semivariogram["same_heading"] else ""
            )
            pictures = [out / "semivariogram.png", out / "semivariogram.svg"]
            write_semivariogram_figure(pictures, study.empirical, study.fitted, note=note)
        console.print(f"{out}: bandwidth.json, semivariogram.png, semivariogram.svg", markup=False, soft_wrap=True)
    print(f"{best_m:g}")
    scale = ("--bandwidth-m", f"{best_m:g}")
    next_step("bandwidth", "swclip", "train", manifest, "--splits", splits, *scale, "--out", "runs/first")


def _search_row(row: dict[str, Any], best: bool) -> list[str]:
    metres = " + ".join(f"{value:g}" for value in row["bandwidths_m"])
    figures = [f"{row['val_median_m']:,.1f} m", f"{row['val_mean_m']:,.1f} m", f"{row['val_log_error']:.4f}"]
    return [f"{row['name']}{' *' if best else ''}", metres, *figures]


def _show(study: BandwidthStudy) -> None:
    from swclip.cli.console import console, print_table

    fitted, semivariogram, adaptive = study.fitted, study.record["semivariogram"], study.record["adaptive"]
    rows = [
        ["photographs used", f"{semivariogram['photographs']:,} of {study.record['photographs']:,}"],
        ["pairs within the longest lag", f"{sum(semivariogram['pairs']):,}"],
        ["pairs with similar headings only", "yes" if semivariogram["same_heading"] else "no"],
        ["nugget", f"{fitted.nugget:.3f}"],
        ["sill", f"{fitted.sill:.3f}"],
        ["range parameter", f"{fitted.range_m:,.1f} m"],
        ["practical range", f"{fitted.practical_range_m:,.1f} m"],
        ["correlation falls to 1/e at", f"{fitted.correlation_length_m:,.1f} m"],
        ["bandwidth", f"{semivariogram['bandwidth_m']:,.1f} m" if fitted.structured else "none: no spatial structure"],
    ]
    print_table(f"Semivariogram of image features ({fitted.model})", ["", "value"], rows)
    console.print(f"The semivariogram has {fitted.statement}", markup=False, soft_wrap=True)
    if study.record["note"]:
        console.print(f"Bandwidth: {study.record['note']}", markup=False, soft_wrap=True)
    print_table(
        f"Adaptive bandwidth: distance to place {adaptive['neighbour']} from each photograph",
        ["", "metres"],
        [[f"{float(share):.0%}", f"{value:,.1f}"] for share, value in adaptive["quantiles_m"].items()]
        + [["geometric mean", f"{adaptive['geometric_mean_m']:,.1f}"]],
    )
    console.print(f"Bandwidth: {study.bandwidth_m:g} m, {study.form}", markup=False, soft_wrap=True)
