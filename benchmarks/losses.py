"""The losses and CLIP's cross-entropy: time and memory of a forward and a backward pass for each batch size.

    python benchmarks/losses.py --out results/losses [--batch-sizes 512 1024 2048 4096 8192 --dim 512 --threads 1]
    python benchmarks/losses.py --out results/losses --systems tiles --batch-sizes 131072 --dim 32 --side-km 10

All have the same normalised float32 embeddings and positions in a square; in one of 1 km most tiles are within the
kernel's reach. The losses of swclip also compute their targets from positions, as in training. `CLIP` is `ClipLoss` of
open_clip where that is installed (its loss.py is loaded, not its package, which needs torchvision), else the same
formula. Each system and batch size runs in a process of its own, in turn; sizes at which matrices would not fit
(`--largest-whole`) are computed from the largest that does, by the square of the batch, and marked.

Times are those of the processor and do not depend on what else runs on the machine; `wall_s` is there too. Memory is
the largest resident size above that before the first pass. With `--device cuda` it is that of the device. Results are
added to OUT/losses.json; writes also losses.md, losses.png and losses.svg.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from common import STYLES, markdown, new_figure, new_parser, save_figure, say, write_text
from torch import Tensor

from swclip.files import read_json, write_json
from swclip.losses import FairnessConfig, NeighbourhoodConfig, Objective, ObjectiveConfig, TargetConfig

CLIP, WHOLE, TILES = "CLIP", "soft labels, whole matrices", "soft labels, tiles"
SYSTEMS: dict[str, tuple[str, ObjectiveConfig | None]] = {
    "clip": (CLIP, None),
    "whole": (WHOLE, ObjectiveConfig(tile=0)),
    "tiles": (TILES, ObjectiveConfig()),
    "tiles-scales": (
        "three scales and GPS noise, tiles",
        ObjectiveConfig(TargetConfig(bandwidths_m=(15.0, 100.0, 1000.0), default_accuracy_m=5.0)),
    ),
    "tiles-total": (
        "with neighbourhood and fairness, tiles",
        ObjectiveConfig(neighbourhood=NeighbourhoodConfig(weight=0.25), fairness=FairnessConfig(weight=0.05)),
    ),
}
_TILE = 512
"""Tiles at all batch sizes, also where `auto` would choose whole matrices."""


def main() -> None:
    """Run the race, or one competitor of it."""
    parser = new_parser(__doc__)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[512, 1024, 2048, 4096, 8192])
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=["clip", "whole", "tiles"])
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--side-km", type=float, default=1.0, help="side of the square of the positions")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--largest-whole", type=int, default=8192, help="largest batch of whole matrices")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.one:
        json.dump(measured(options.one, options.batch_sizes[0], options), sys.stdout)
        return
    if options.out is None:
        parser.error("give --out")
    race(options)


def race(options: argparse.Namespace) -> None:
    """Run the competitors in turn, and write the results after each."""
    path = options.out / "losses.json"
    rows: list[dict[str, Any]] = read_json(path, "the results")["rows"] if path.exists() else []
    done = {(row["system"], row["batch"], row["dim"]) for row in rows}
    for batch in options.batch_sizes:
        for system in options.systems:
            too_large = batch > options.largest_whole and system in ("clip", "whole")
            if too_large or (SYSTEMS[system][0], batch, options.dim) in done:
                continue
            command = [sys.executable, __file__, "--one", system, "--batch-sizes", str(batch)]
            for name in ("dim", "repeats", "device", "threads", "side_km"):
                command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
            rows.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
            say(json.dumps(rows[-1]))
            write_json(path, {"torch": torch.__version__, "rows": rows})
    report(options.out, rows)


def measured(name: str, batch: int, options: argparse.Namespace) -> dict[str, Any]:
    """Median seconds and memory of a system at a batch size, in this process."""
    device, dim = options.device, options.dim
    generator = torch.Generator().manual_seed(0)
    image, location = F.normalize(torch.randn(2, batch, dim, generator=generator), dim=2).to(device)
    inputs = [image.clone().requires_grad_(), location.clone().requires_grad_()]
    logit_scale = torch.tensor(1.0 / 0.07, device=device).log().requires_grad_()
    side_deg = options.side_km * torch.tensor([0.009, 0.0147], dtype=torch.float64)  # degrees of a km at this latitude
    positions_deg = torch.rand(batch, 2, generator=generator, dtype=torch.float64) * side_deg + 52.2
    region_ids = torch.randint(0, 8, (batch,), generator=generator).to(device)
    title, config = SYSTEMS[name]
    loss: Callable[[], Tensor]
    if config is None:
        clip = clip_loss()
        loss = lambda: clip(*inputs, logit_scale.exp())  # noqa: E731
    else:
        if name.startswith("tiles") and device == "cpu":
            config = ObjectiveConfig(config.targets, config.neighbourhood, config.fairness, tile=_TILE)
        objective = Objective(config)
        loss = lambda: objective(*inputs, logit_scale, positions_deg, None, region_ids)[0]  # noqa: E731
    before, cpu_s, wall_s = resident_bytes(device), [], []
    # The first pass warms up; large batches are timed at once.
    warm = 1 if batch <= 4096 or device != "cpu" else 0
    for repeat in range(options.repeats + warm if warm else 1):
        wall, cpu = time.perf_counter(), time.process_time()
        torch.autograd.grad(loss(), (*inputs, logit_scale))
        if device != "cpu":
            torch.cuda.synchronize()
        if repeat >= warm:
            wall_s.append(time.perf_counter() - wall)
            cpu_s.append(time.process_time() - cpu)
    return {
        "system": title,
        "batch": batch,
        "dim": dim,
        "device": device,
        "threads": options.threads,
        "side_km": options.side_km,
        "cpu_s": round(statistics.median(cpu_s), 4),
        "wall_s": round(statistics.median(wall_s), 4),
        "peak_bytes": resident_bytes(device) - before,
        "open_clip": importlib.util.find_spec("open_clip") is not None,
    }


def resident_bytes(device: str) -> int:
    """The largest memory so far."""
    if device != "cpu":
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def clip_loss() -> Callable[..., Tensor]:
    """`ClipLoss` of open_clip, or the same formula where it is not installed."""
    package = importlib.util.find_spec("open_clip")
    if package is None or package.origin is None:

        def formula(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
            labels = torch.arange(len(image), device=image.device)
            return (
                F.cross_entropy(scale * image @ text.T, labels) + F.cross_entropy(scale * text @ image.T, labels)
            ) / 2

        return formula
    spec = importlib.util.spec_from_file_location("open_clip_loss", Path(package.origin).with_name("loss.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    loss: Callable[..., Tensor] = module.ClipLoss()
    return loss


def report(out: Path, rows: list[dict[str, Any]]) -> None:
    """Write the table and the picture of the sizes and systems at the most frequent dimension."""
    dim = statistics.mode(row["dim"] for row in rows)
    rows = sorted((row for row in rows if row["dim"] == dim), key=lambda row: row["batch"])
    titles = [title for title, _ in SYSTEMS.values() if any(row["system"] == title for row in rows)]
    batches = sorted({row["batch"] for row in rows})
    figures = {"cpu_s": "seconds of the processor", "peak_bytes": "peak memory above the start, GB"}
    values = {name: {title: _extended(rows, title, batches, name) for title in titles} for name in figures}

    columns = ["batch", *(f"{title}: s (x CLIP)" for title in titles), *(f"{title}: GB" for title in titles)]
    table = []
    for batch in batches:
        seconds, memory = ([values[name][title].get(batch) for title in titles] for name in figures)
        clip = values["cpu_s"].get(CLIP, {}).get(batch)
        cells = [_cell(value, "{:.3g}") for value in seconds]
        if clip is not None:
            ratios = ["" if value is None else f" ({value[0] / clip[0]:.2f})" for value in seconds]
            cells = [cell + ratio for cell, ratio in zip(cells, ratios, strict=True)]
        cells += [_cell(value, "{:.2g}", 1e9) for value in memory]
        table.append([f"{batch:,}", *cells])
    text = markdown(columns, table)
    print(text)
    write_text(out / "losses.md", text)

    figure, axes = new_figure(9.0, 3.8, 2)
    for panel, (name, label) in zip(axes, figures.items(), strict=True):
        unit = 1e9 if name == "peak_bytes" else 1.0
        for title, (colour, marker) in zip(titles, STYLES, strict=False):
            points = sorted(values[name][title].items())
            known = [(batch, value / unit) for batch, (value, computed) in points if not computed]
            line = [(batch, value / unit) for batch, (value, _) in points]
            panel.plot(*zip(*line, strict=True), color=colour, linewidth=1, linestyle=":")
            panel.plot(*zip(*known, strict=True), color=colour, marker=marker, label=title)
        # The peak of a small batch may be that of the imports: nothing above the start.
        positive = any(value > 0 for by_batch in values[name].values() for value, _ in by_batch.values())
        panel.set(xscale="log", yscale="log" if positive else "linear", xlabel="batch", ylabel=label)
        panel.set_xticks(batches, [f"{batch:,}" for batch in batches], rotation=45)
        panel.minorticks_off()
    axes[0].legend(frameon=False, fontsize="small")
    axes[1].annotate(
        "dotted: computed by the square of the batch",
        (0.02, 0.98),
        xycoords="axes fraction",
        va="top",
        fontsize="small",
    )
    save_figure(figure, out / "losses")


def _cell(value: tuple[float, bool] | None, form: str, unit: float = 1.0) -> str:
    return "" if value is None else ("~" if value[1] else "") + form.format(value[0] / unit)


def _extended(rows: list[dict[str, Any]], title: str, batches: list[int], name: str) -> dict[int, tuple[float, bool]]:
    """Values by batch, and whether each was computed from the largest measured one of whole matrices."""
    known = {row["batch"]: float(row[name]) for row in rows if row["system"] == title}
    values = {batch: (value, False) for batch, value in known.items()}
    if title in (CLIP, WHOLE):
        largest = max(known)
        values |= {b: (known[largest] * (b / largest) ** 2, True) for b in batches if b > largest}
    return values


if __name__ == "__main__":
    main()
