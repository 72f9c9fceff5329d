"""The objective and CLIP's plain cross-entropy: time of a forward and a backward pass for each batch size.

    python benchmarks/losses.py [--batch-sizes 128 512 2048 --dim 512 --repeats 20 --device cpu --threads 1]

Both have the same normalised float32 embeddings; the objective also computes its soft targets from positions, as in
training. The passes are timed in turn. Prints the medians as JSON; `ratio` is relative to CLIP's time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from swclip.losses import FairnessConfig, NeighbourhoodConfig, Objective, ObjectiveConfig, TargetConfig

MIXTURE = TargetConfig(bandwidths_m=(15.0, 100.0, 1000.0), default_accuracy_m=5.0)
NEIGHBOURHOOD = NeighbourhoodConfig(weight=0.5)
SYSTEMS = {
    "one-hot (alpha 0)": ObjectiveConfig(TargetConfig(alpha=0.0)),
    "soft labels": ObjectiveConfig(),
    "soft labels, three scales, GPS noise": ObjectiveConfig(MIXTURE),
    "soft labels + neighbourhood": ObjectiveConfig(neighbourhood=NEIGHBOURHOOD),
    "soft labels + neighbourhood + fairness": ObjectiveConfig(
        neighbourhood=NEIGHBOURHOOD, fairness=FairnessConfig(weight=0.5)
    ),
}


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[128, 512, 2048])
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    results = [measure(n, options.dim, options.repeats, options.device) for n in options.batch_sizes]
    json.dump({"torch": torch.__version__, **vars(options), "results": results}, sys.stdout, indent=2)
    print()


def measure(n: int, dim: int, repeats: int, device: str) -> dict[str, object]:
    """Median milliseconds of each system at one batch size."""
    generator = torch.Generator().manual_seed(0)
    image, location = F.normalize(torch.randn(2, n, dim, generator=generator), dim=2).to(device)
    image, location = image.clone().requires_grad_(), location.clone().requires_grad_()
    logit_scale = torch.tensor(20.0, device=device).log().requires_grad_()
    positions_deg = (torch.rand(n, 2, generator=generator, dtype=torch.float64) * 0.01 + 52.0).to(device)
    region_ids = torch.randint(0, 8, (n,), generator=generator).to(device)
    labels = torch.arange(n, device=device)

    def clip() -> Tensor:
        logits = logit_scale.exp() * image @ location.T
        return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2

    def system(config: ObjectiveConfig) -> Callable[[], Tensor]:
        objective = Objective(config)
        return lambda: objective(image, location, logit_scale, positions_deg, None, region_ids)[0]

    losses = {"CLIP": clip, **{name: system(config) for name, config in SYSTEMS.items()}}
    times: dict[str, list[float]] = {name: [] for name in losses}
    for repeat in range(repeats + 2):
        for name, loss in losses.items():
            _wait(device)
            start = time.perf_counter()
            torch.autograd.grad(loss(), (image, location, logit_scale))
            _wait(device)
            if repeat >= 2:  # the first two warm up
                times[name].append(1e3 * (time.perf_counter() - start))
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "batch_size": n,
        "systems": {
            name: {"ms": round(value, 3), "ratio": round(value / medians["CLIP"], 2)} for name, value in medians.items()
        },
    }


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
