"""Time and memory of `prepare` and `split` against the number of photographs.

    python benchmarks/million_rows.py --sizes 10000 30000 100000 300000 1000000 --out results/million-rows

Generated cities: streets 100 m apart, a place every 10 m, four views of each, passed by one to three drives with the
position noise of a phone. Half of the cities name their places. `--shape` draws two other extremes: `centroids` (all
photographs of a city at 20 positions, as in collections with rounded positions) and `still` (one camera per city, with
its noise).

Each step runs in a process of its own. "compare hashes" is known-places with the search for near-duplicates among
generated hashes; "prepare" and "split, with pictures" read real files, which are copies of one JPEG of 64 x 48 pixels
with a different comment each: they show the cost of a row beside the decoding of its photograph. `--files` limits their
number (4 kB of disk each).

Above a million, the manifest is repetitions of a million rows beside each other, written in parts. "filter" takes the
photographs of one city, of one year and within a circle; "sample" draws 100 batches of 512 with geographic neighbours
from all rows, as training does.

Writes million-rows.json and million-rows.md.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
from common import command_line, markdown, new_parser, say, write_results

import swclip
from swclip.data.manifest import METADATA_KEY, Manifest, read_manifest, write_manifest
from swclip.data.protocols import split
from swclip.data.samplers import NeighbourBatchSampler
from swclip.data.split_files import report_leakage
from swclip.files import write_json
from swclip.geo.coordinates import LocalFrame
from swclip.geo.distance import haversine_m
from swclip.imaging.phash import PictureHashes

VIEWS = 4
ROWS_OF_CITY = 50_000
FILES_OF_FOLDER = 1_000
ROWS_AT_ONCE = 1_000_000
STEPS = (
    "write manifest", "read manifest", "filter", "sample",
    "known-places", "known-places, place", "known-places, capture", "new-streets",
    "new-city", "grid:50", "compare hashes", "prepare", "split, with pictures",
)  # fmt: skip


def positions_of(shape: str, n: int, centre: LocalFrame, rng: np.random.Generator) -> dict[str, Any]:
    """Positions, place, drive and heading of the photographs of one city."""
    number = np.arange(n)
    if shape == "centroids":
        spot = rng.integers(20, size=n)
        xy, drive = rng.uniform(-5_000, 5_000, size=(20, 2))[spot], rng.integers(50, size=n)
        return {"deg": centre.to_deg(xy), "place": spot, "drive": drive, "heading": rng.uniform(0, 360, n)}
    if shape == "still":
        xy = rng.normal(scale=5.0, size=(n, 2))
        return {"deg": centre.to_deg(xy), "place": number, "drive": number * 0, "heading": np.full(n, 90.0)}
    place, heading = number // (2 * VIEWS), 90.0 * (number % VIEWS)  # two passes a place in the mean
    drive = (number // VIEWS % 2) + rng.integers(2, size=n // (2 * VIEWS) + 1)[place]
    streets = max(2, int(np.sqrt(place.max() / 20)))  # as long as the town is wide, in both directions
    per_street = place.max() // (2 * streets) + 1
    street, along = np.divmod(place, per_street)
    across = 100.0 * (street % streets)
    xy = np.where((street < streets)[:, None], np.c_[across, 10.0 * along], np.c_[10.0 * along, across])
    noise = rng.normal(scale=1.5, size=(len(xy) // VIEWS + 1, 2))[number // VIEWS]  # one position for the views
    return {"deg": centre.to_deg(xy + noise), "place": place, "drive": 10 * street + drive, "heading": heading}


def photographs(n: int, shape: str, seed: int = 0) -> pd.DataFrame:
    """The rows of a manifest."""
    rng = np.random.default_rng([seed, n])
    count = max(3, n // ROWS_OF_CITY)
    frames = []
    for city in range(count):
        rows = (n * (city + 1)) // count - (n * city) // count
        centre = LocalFrame(float(rng.uniform(-50, 60)), float(rng.uniform(-170, 170)))
        drawn = positions_of(shape, rows, centre, rng)
        minutes = 10_000 * drawn["drive"] + np.arange(rows) // VIEWS % 10_000
        frames.append(
            pd.DataFrame(
                {
                    "lat_deg": drawn["deg"][:, 0],
                    "lon_deg": drawn["deg"][:, 1],
                    "accuracy_m": rng.gamma(4.0, 1.5, rows),
                    "heading_deg": drawn["heading"],
                    "captured_at": np.datetime64("2020-01-01") + minutes.astype("timedelta64[m]"),
                    "city": f"city-{city:02d}",
                    "place_id": [f"{city}-{k}" for k in drawn["place"]] if city % 2 else None,
                    "sequence_id": [f"{city}-{k}" for k in drawn["drive"]] if city % 3 else None,
                }
            )
        )
    frame = pd.concat(frames, ignore_index=True)
    names = [f"{row // FILES_OF_FOLDER:05d}/{row:07d}" for row in range(n)]
    return frame.assign(image_id=names, image_path=[f"images/{name}.jpg" for name in names])


def write_repeated(target: Path, n: int, shape: str) -> None:
    """A manifest of several million rows, in parts with cities, places and ids of their own."""
    part = target.with_name("part.parquet")
    write_manifest(part, photographs(ROWS_AT_ONCE, shape))
    table = pq.read_table(part).drop_columns(["geometry"])
    table = table.replace_schema_metadata({METADATA_KEY: table.schema.metadata[METADATA_KEY]})
    with pq.ParquetWriter(target, table.schema, compression="zstd") as writer:
        for number in range(n // ROWS_AT_ONCE):
            moved = table
            for name in ("image_id", "image_path", "city", "place_id", "sequence_id"):
                texts = pc.binary_join_element_wise(f"{number}", table[name], "-")
                moved = moved.set_column(moved.column_names.index(name), name, texts)
            lon = pc.add(table["lon_deg"], 0.5 * number)
            writer.write_table(moved.set_column(moved.column_names.index("lon_deg"), "lon_deg", lon))
    part.unlink()


def write_files(folder: Path, frame: pd.DataFrame) -> None:
    """One JPEG with a different comment for each row, and their table."""
    from PIL import Image

    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, size=(6, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((64, 48)).save(stream, "JPEG")
    start, rest = stream.getvalue()[:2], stream.getvalue()[2:]
    for row, name in enumerate(frame["image_path"]):
        file = folder / name
        if row % FILES_OF_FOLDER == 0:
            file.parent.mkdir(parents=True, exist_ok=True)
        comment = b"%012d" % row
        file.write_bytes(start + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + rest)
    frame.drop(columns="image_id").rename(columns={"image_path": "image"}).to_csv(
        folder / "photographs.csv", index=False
    )


def generated_hashes(manifest: Manifest) -> PictureHashes:
    """A hash per place, with up to 12 bits changed in each photograph; few files of the same bytes."""
    rng, n = np.random.default_rng(1), len(manifest)
    scene = rng.integers(0, 2**64, size=n // (2 * VIEWS) + 1, dtype=np.uint64)[np.arange(n) // (2 * VIEWS)]
    for _ in range(12):
        scene = scene ^ (rng.integers(2, size=n, dtype=np.uint64) << rng.integers(0, 64, size=n).astype(np.uint64))
    content = [f"{k:064x}" for k in rng.integers(50 * n, size=n)]
    return PictureHashes(scene, content, np.ones(n, dtype=bool), {})


def run_step(step: str, folder: Path, shape: str, n: int) -> None:
    """What one child process does."""
    data, target = folder / "manifest.parquet", folder / "splits.parquet"
    known = {"known-places, place": "place", "known-places, capture": "capture"}
    if step == "write manifest" and n > ROWS_AT_ONCE:
        write_repeated(data, n, shape)
    elif step == "write manifest":
        write_manifest(data, photographs(n, shape))
    elif step == "read manifest":
        read_manifest(data)
    elif step == "filter":
        manifest = read_manifest(data)
        one = manifest.frame["city"] == manifest.frame["city"].iloc[-1]
        year = manifest.frame["captured_at"].dt.year == 2020
        near = haversine_m(*manifest.positions_deg.T, *manifest.positions_deg[:1].T) < 2_000.0
        say(f"{one.sum()} of a city, {year.sum()} of a year, {near.sum()} in a circle")
    elif step == "sample":
        manifest = read_manifest(data)
        sampler = NeighbourBatchSampler(manifest.positions_deg, 512, radius_m=50.0)
        for number in range(100):
            sampler.batch(number)
    elif step == "compare hashes":
        manifest = read_manifest(data)
        report_leakage(split(manifest, "known-places", hold_out="place"), manifest, target, generated_hashes(manifest))
    elif step == "prepare":
        swclip.prepare(folder / "photographs.csv", folder / "prepared", progress=True)
    elif step == "split, with pictures":
        swclip.split(folder / "prepared", "known-places", target, hold_out="place", progress=True)
    elif step == "grid:50":
        swclip.split(data, "new-streets", target, gallery="grid:50", picture_hash=False)
    elif step in known:
        swclip.split(data, "known-places", target, hold_out=known[step], picture_hash=False)  # type: ignore[arg-type]
    else:
        swclip.split(data, step, target, picture_hash=False)  # type: ignore[arg-type]


def measured(command: list[str]) -> dict[str, Any]:
    """Run a child process; its times in seconds and its largest resident memory in bytes."""
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {child.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "wall_s": time.perf_counter() - start,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "memory_bytes": usage.ru_maxrss * unit,
    }


def table(results: list[dict[str, Any]], sizes: list[int], cell: Callable[[dict[str, Any]], str]) -> str:
    """One row per step, one column per size."""
    by_step: dict[str, dict[int, dict[str, Any]]] = {}
    for result in results:
        by_step.setdefault(result["step"], {})[result["n"]] = result
    rows = [[step, *(cell(cells[n]) if n in cells else "-" for n in sizes)] for step, cells in by_step.items()]
    return markdown(["", *(f"{n:,}" for n in sizes)], rows)


def main() -> None:
    """Measure every step at every size."""
    parser = new_parser(__doc__, out_required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 30_000, 100_000])
    parser.add_argument("--shape", choices=["streets", "centroids", "still"], default="streets")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--files", type=int, default=100_000, help="largest size of the steps that read files")
    parser.add_argument("--child", nargs=3, metavar=("STEP", "FOLDER", "N"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        run_step(args.child[0], Path(args.child[1]), args.shape, int(args.child[2]))
        return
    results: list[dict[str, Any]] = []
    for n in args.sizes:
        folder = args.out / args.shape / str(n)
        folder.mkdir(parents=True, exist_ok=True)
        for step in args.steps:
            reads_files = step in ("prepare", "split, with pictures")
            if reads_files and n > args.files:
                continue
            if step == "prepare" and not (folder / "photographs.csv").exists():
                write_files(folder, photographs(n, args.shape))
            child = [sys.executable, __file__, "--shape", args.shape, "--out", str(args.out)]
            results.append({"step": step, "n": n, **measured([*child, "--child", step, str(folder), str(n)])})
            say(json.dumps(results[-1]))
        write_json(args.out / "million-rows.json", {"command": command_line(), "results": results})
    text = "Processor seconds (elapsed seconds):\n\n"
    text += table(results, args.sizes, lambda cell: f"{cell['cpu_s']:.1f} ({cell['wall_s']:.1f})")
    text += "\nLargest resident memory, MB:\n\n"
    text += table(results, args.sizes, lambda cell: f"{cell['memory_bytes'] / 1e6:,.0f}")
    write_results(args.out, "million-rows", {"results": results}, text)


if __name__ == "__main__":
    main()
