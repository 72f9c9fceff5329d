"""Certainty by area, on real photographs of areas of different density: coverage of regions, and stated probabilities.

    python benchmarks/certainty.py cambridge/metadata.csv wuhan/metadata.csv --image-tower dinov2-small-9 --out OUT

Three areas in one data set: the western half of Cambridge (7 m from a place to the next), its eastern half with its
positions stretched about their mean until places are `--sparse-m` apart, as a second city 0.5 degrees to the east, and
a drive through Wuhan (6 m). The photographs are real; the stretched positions are not: they make a city whose
photographs are far apart but numerous enough for a calibration. Each draw splits anew (known places; new streets by
blocks of 50 m, 30 % of the training side for validation), trains `sw-clip` and evaluates it, by swclip's commands.

Written to OUT/certainty.md and certainty.json: for each protocol, area and nominal coverage the mean coverage over the
draws, the lowest and highest, in how many draws the nominal coverage is within the interval of the coverage or the
coverage within the range expected from the number of calibration units (`expected`), and the median area;
and the stated probability of an error below 50 m against what happened, on average and in the surest tenth.
A draw that has its report is not run again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from common import markdown, new_parser, swclip, write_results

from swclip.evaluation.report import Report, read_report
from swclip.geo.places import kth_place_m

PROTOCOLS = {
    "known places": ["--protocol", "known-places", "--hold-out", "place"],
    "new streets": ["--protocol", "new-streets", "--block-m", "50", "--val-share", "0.3"],
}
LEVELS = (0.5, 0.8, 0.9)
SPARSE = "Cambridge, east, stretched"


def main() -> None:
    """Run the draws and write the tables."""
    parser = new_parser(__doc__, out_required=True)
    parser.add_argument("cambridge", type=Path)
    parser.add_argument("wuhan", type=Path)
    parser.add_argument("--image-tower", required=True)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--sparse-m", type=float, default=122.0)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any other recipe value")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    table = options.out / "mixed.csv"
    mixed(options.cambridge, options.wuhan, options.sparse_m).to_csv(table, index=False)
    data = options.out / "data"
    if not data.exists():
        swclip("prepare", table, "--out", data)
    record: dict[str, Any] = {}
    for protocol, split in PROTOCOLS.items():
        reports = [draw(options, data, protocol, split, number) for number in range(options.draws)]
        record[protocol] = {"coverage": coverage(reports), "stated": stated(reports)}
    write_results(options.out, "certainty", record, "\n".join(texts(record)))


def mixed(cambridge: Path, wuhan: Path, sparse_m: float) -> pd.DataFrame:
    """The table of the three areas."""
    tables = []
    for path in (cambridge, wuhan):
        table = pd.read_csv(path)
        tables.append(table.assign(image=[str((path.parent / name).resolve()) for name in table["image"]]))
    city, drive = tables
    position = ["lat", "lon"]
    east = (city["lon"] >= city["lon"].median()).to_numpy()
    spacing = float(np.median(kth_place_m(city.loc[east, position].to_numpy(), 1, 5.0)))
    middle = city.loc[east, position].mean()
    city.loc[east, position] = middle + sparse_m / spacing * (city.loc[east, position] - middle) + [0.0, 0.5]
    city["city"] = np.where(east, SPARSE, "Cambridge, west")
    return pd.concat([city, drive[["image", "lat", "lon", "heading", "city"]]])


def draw(options: argparse.Namespace, data: Path, protocol: str, split: list[str], number: int) -> Report:
    """Split, train and evaluate one draw."""
    name = f"{protocol.replace(' ', '-')}-{number}"
    splits, run, report = (options.out / f"{name}{suffix}" for suffix in (".parquet", "-run", "-report"))
    if not (report / "report.json").exists():
        swclip("split", data, *split, "--seed", number, "--out", splits)
        recipe = ["--recipe", "sw-clip", "--freeze", "image", "--text-tower", "none", "--steps", options.steps]
        values = ["evaluate_every=0", "checkpoint_every=0", *options.set]
        sets = [part for value in values for part in ("--set", value)]
        swclip(
            "train", data, "--splits", splits, *recipe, "--image-tower", options.image_tower, *sets, "--out", run,
        )  # fmt: skip
        swclip("evaluate", run, "--out", report)
    return read_report(report / "report.json")


def finite(value: float) -> float | None:
    """The value, None where it is infinite, as JSON has it."""
    return value if np.isfinite(value) else None


def coverage(reports: Iterable[Report]) -> dict[str, dict[str, dict[str, float]]]:
    """Coverage by area and nominal coverage over the draws."""
    rows: dict[str, dict[str, list[dict[str, float]]]] = {}
    for report in reports:
        for figures in (level for level in levels_of(report) if level.level in LEVELS):
            for area, district in figures.by_region.items():
                low, high = district.coverage_interval or (0.0, 1.0)
                least, most = district.expected or (0.0, 0.0)
                rows.setdefault(area, {}).setdefault(f"{figures.level:g}", []).append(
                    {
                        "coverage": district.coverage,
                        "as_stated": float(low <= figures.level <= high or least <= district.coverage <= most),
                        "area_km2": np.inf if district.median_area_km2 is None else district.median_area_km2,
                    }
                )
    return {
        area: {
            level: {
                "draws": len(draws),
                "coverage": float(np.mean([one["coverage"] for one in draws])),
                "lowest": min(one["coverage"] for one in draws),
                "highest": max(one["coverage"] for one in draws),
                "as_stated": sum(one["as_stated"] for one in draws),
                "area_km2": finite(float(np.median([one["area_km2"] for one in draws]))),
            }
            for level, draws in by_level.items()
        }
        for area, by_level in rows.items()
    }


def levels_of(report: Report) -> Iterable[Any]:
    """The coverage levels of a report."""
    return [] if report.calibration is None else report.calibration.levels


def stated(reports: Iterable[Report]) -> dict[str, dict[str, float]]:
    """Stated and true shares within 50 m by area, means over the draws."""
    rows: dict[str, list[tuple[float, float, float, float]]] = {}
    for report in reports:
        if report.calibration is not None and report.calibration.stated is not None:
            part = report.calibration.stated
            for area, figures in {"all": part.overall, **part.by_region}.items():
                surest = figures.bins[-1]
                row = (figures.mean_probability, figures.coverage, surest.mean_probability, surest.coverage)
                rows.setdefault(area, []).append(row)
    keys = ("stated", "true", "stated_surest", "true_surest")
    return {area: dict(zip(keys, np.mean(draws, axis=0).tolist(), strict=True)) for area, draws in rows.items()}


def texts(record: dict[str, Any]) -> Iterable[str]:
    """The tables as Markdown."""
    for protocol in PROTOCOLS:
        rows = [
            [
                area,
                f"{100 * float(level):.0f} %",
                f"{100 * one['coverage']:.1f} % [{100 * one['lowest']:.1f}, {100 * one['highest']:.1f}]",
                f"{one['as_stated']:.0f} of {one['draws']}",
                "unbounded" if one["area_km2"] is None else f"{one['area_km2']:.3g} km2",
            ]
            for area, by_level in record[protocol]["coverage"].items()
            for level, one in by_level.items()
        ]
        yield f"**{protocol}**\n"
        yield markdown(["area", "nominal", "coverage [lowest, highest draw]", "as stated", "median area"], rows)
        shares = [
            [area, *(f"{100 * value:.0f} %" for value in one.values())]
            for area, one in record[protocol]["stated"].items()
        ]
        yield markdown(["area", "stated within 50 m", "true", "surest tenth, stated", "true"], shares)


if __name__ == "__main__":
    main()
