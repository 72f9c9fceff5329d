"""Training with several processes against one, with equal global batches: seconds per step, and their efficiency.

    python benchmarks/several_processes.py data --splits data/splits.parquet --image-tower dinov2-small-9 \\
        [--processes 2 --batch-size 512 --steps 30 --repeats 5 --freeze none --set batch.chunk=32]

Starts `torchrun --nproc-per-node 1` and `... 2` in turn, on the CPU with one thread each, and times the steps after the
first ten, without starting, validation and checkpoints. Reports, for each number of processes, the smallest
and the median wall-clock time of a step, the time of all processors together, and the load of the machine. The
efficiency is the time of one process divided by that of P processes and by P. Wall-clock times need as many idle
processors as there are processes; the time of the processors does not, and shows what the further processes repeat and
what their messages cost.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import new_parser, say, table_of, table_of_figures, write_results

from swclip.cli.options import RecipeOptions
from swclip.data.manifest import read_manifest
from swclip.data.splits import indices, read_splits
from swclip.models.feature_cache import FeatureCache
from swclip.training.distributed import gathered, join_processes
from swclip.training.loop import run_steps
from swclip.training.setup import set_up_training

_FIRST = 10  # steps that are not timed: buckets of DDP are rebuilt, files are read for the first time


def main() -> None:
    """Run the comparison, or, with --worker, be one of its processes."""
    parser = new_parser(__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--splits", type=Path, required=True)
    parser.add_argument("--recipe", default="sw-clip")
    parser.add_argument("--image-tower", nargs="+")
    parser.add_argument("--text-tower", default="none")
    parser.add_argument("--freeze", choices=["image", "none"], default="image")
    parser.add_argument("--size-px", type=int)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=30, help="that are timed")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any other recipe value")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        _train(options)
        return
    measured: dict[int, list[dict[str, float]]] = {1: [], options.processes: []}
    for repeat in range(options.repeats):
        for count, times in measured.items():
            times.append(_measure(count))
            say(f"repeat {repeat + 1}, {count} processes: {times[-1]}")
    one, several = ({key: [time[key] for time in times] for key in times[0]} for times in measured.values())
    seconds = {"1": _summary(one), str(options.processes): _summary(several)}
    efficiency: dict[str, float] = {}
    for kind, smallest in (("wall-clock time", min), ("median wall-clock time", statistics.median)):
        share = smallest(one["wall_s"]) / smallest(several["wall_s"]) / options.processes
        efficiency[f"efficiency by {kind}"] = round(share, 2)
    share = statistics.median(one["processors_s"]) / statistics.median(several["processors_s"])
    efficiency["efficiency by the time of the processors"] = round(share, 2)
    document = {"batch size": options.batch_size, "seconds of a step": seconds, **efficiency}
    text = f"{table_of(seconds, 'processes')}\n{table_of_figures(efficiency)}"
    write_results(options.out, "several_processes", document, text)


def _summary(times: dict[str, list[float]]) -> dict[str, Any]:
    return {
        "least wall_s": round(min(times["wall_s"]), 4),
        "median wall_s": round(statistics.median(times["wall_s"]), 4),
        "median processors_s": round(statistics.median(times["processors_s"]), 4),
        "load": [min(times["load"]), max(times["load"])],
    }


def _measure(count: int) -> dict[str, float]:
    """Seconds of a step with some number of processes."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([*command, *sys.argv, "--worker", folder], env=environment, check=True, stdout=2)
        measured: dict[str, float] = json.loads((Path(folder) / "times.json").read_text())
    return measured


def _train(options: argparse.Namespace) -> None:
    """One process: train, and let the leading one write the times of all."""
    chosen = {name: getattr(options, name) for name in ("image_tower", "text_tower", "freeze", "size_px", "batch_size")}
    steps = _FIRST + options.steps
    config = RecipeOptions(**chosen, steps=steps, assignments=options.set).config(options.recipe)
    config = dataclasses.replace(config, evaluate_every=0, checkpoint_every=0)
    manifest, splits = read_manifest(options.manifest), read_splits(options.splits)
    at: dict[int, tuple[float, float]] = {}

    def note(_task: str, done: int, _total: int) -> None:
        at[done] = time.monotonic(), time.process_time()

    with join_processes(torch.device("cpu")) as process:
        rows = indices(splits, manifest, "train")
        setup = set_up_training(
            manifest, splits, rows, config, options.worker, FeatureCache(), process, lambda *_: None
        )
        setup.validation = None
        run_steps(setup, note)
        wall_s, processor_s = ((at[steps][i] - at[_FIRST][i]) / options.steps for i in range(2))
        everybody = gathered(process, (wall_s, processor_s))
        if process.leads:
            walls, processors = zip(*everybody, strict=True)
            times = {"wall_s": max(walls), "processors_s": sum(processors), "load": os.getloadavg()[0]}
            (options.worker / "times.json").write_text(json.dumps(times))


if __name__ == "__main__":
    main()
