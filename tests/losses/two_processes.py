"""A training that runs alike in one process and in two: `python two_processes.py RANK RENDEZVOUS OUT`.

Each case trains the same small model for two steps on the same eight photographs; gradients, weights and losses are
written to OUT as one .npz file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from swclip.errors import ConfigError
from swclip.losses import (
    FairnessConfig,
    HierarchyConfig,
    ImageGeographyConfig,
    ModalitiesConfig,
    Modality,
    NeighbourhoodConfig,
    NeighbourhoodConsistencyLoss,
    Objective,
    ObjectiveConfig,
    QueuedLocations,
    RankNContrastConfig,
    RegionalFairnessLoss,
    RobustConfig,
    SpatialContrastiveLoss,
    SWCLIPLoss,
    TargetConfig,
    all_gather_rows,
)
from swclip.losses.modalities import FUSED

PROCESSES = 2
N = 8
TARGETS = TargetConfig(bandwidths_m=(60.0,), default_accuracy_m=5.0)
LAPLACIAN = NeighbourhoodConfig(form="laplacian", weight=0.7, bandwidth_m=60.0)
DISTRIBUTION = NeighbourhoodConfig(weight=0.7, bandwidth_m=80.0, kernel="bisquare")
CASES = {
    "clip": ObjectiveConfig(TargetConfig(alpha=0.0)),
    "sw-clip": ObjectiveConfig(TARGETS),
    "laplacian": ObjectiveConfig(TARGETS, LAPLACIAN),
    "distribution": ObjectiveConfig(TARGETS, DISTRIBUTION),
    "variance": ObjectiveConfig(TARGETS, fairness=FairnessConfig("variance", weight=0.9)),
    "cvar": ObjectiveConfig(TARGETS, fairness=FairnessConfig("cvar", weight=0.9, fraction=0.5)),
    "group-dro": ObjectiveConfig(TARGETS, fairness=FairnessConfig("group-dro", weight=0.9, eta=0.5)),
    "views": ObjectiveConfig(TARGETS, views=ModalitiesConfig(weight=0.6)),
    "hierarchy": ObjectiveConfig(TARGETS, hierarchy=HierarchyConfig(weight=0.8)),
    "trimmed": ObjectiveConfig(TARGETS, robust=RobustConfig("trimmed", share=0.3)),
    "reweighted": ObjectiveConfig(
        TARGETS, LAPLACIAN, FairnessConfig("variance", weight=0.9), RobustConfig("reweighted", cutoff=1.0)
    ),
    "trimmed, everything": ObjectiveConfig(
        TARGETS, DISTRIBUTION, FairnessConfig("cvar", weight=0.9, fraction=0.5), RobustConfig("trimmed", share=0.3)
    ),
    "everything": ObjectiveConfig(TARGETS, DISTRIBUTION, FairnessConfig("group-dro", weight=0.9, eta=0.5)),
    "rank-n-contrast": ObjectiveConfig(TargetConfig(alpha=0.0), rank_n_contrast=RankNContrastConfig(0.8, tau=0.3)),
    "image-geography": ObjectiveConfig(TARGETS, image_geography=ImageGeographyConfig(0.8)),
    "tiles": ObjectiveConfig(TARGETS, DISTRIBUTION, FairnessConfig("variance", weight=0.9), tile=3),
    "tiles, laplacian": ObjectiveConfig(TARGETS, LAPLACIAN, robust=RobustConfig("trimmed", share=0.3), tile=3),
    "queue, tiles": ObjectiveConfig(TARGETS, DISTRIBUTION, tile=3),
    "queue": ObjectiveConfig(TARGETS, DISTRIBUTION, rank_n_contrast=RankNContrastConfig(0.5)),
    "bandwidth scale": ObjectiveConfig(TARGETS, NeighbourhoodConfig(weight=0.7, bandwidth_m=0.0)),
    "queue, bandwidth scale": ObjectiveConfig(TARGETS),
    "queue, one direction": ObjectiveConfig(TargetConfig(alpha=0.0), symmetric=False),
}

MODULES = {
    "module, contrast": lambda: SpatialContrastiveLoss(60.0, gather=True).double(),
    "module, alpha 0": lambda: SpatialContrastiveLoss(alpha=0.0, gather=True).double(),
    "module, neighbourhood": lambda: NeighbourhoodConsistencyLoss(60.0, gather=True),
    "module, fairness": lambda: RegionalFairnessLoss(gather=True),
    "module, group-dro": lambda: RegionalFairnessLoss("group-dro", n_regions=3, eta=0.5, gather=True).double(),
    "module, total": lambda: SWCLIPLoss(SpatialContrastiveLoss(60.0, gather=True), lambda_fair=0.8).double(),
}

PRESENT = {"caption": [1, 0, 1, 1, 0, 0, 0, 0], "map": [0, 1, 0, 0, 1, 1, 1, 0], "missing": [0] * N, FUSED: [1] * N}


class Model(nn.Module):
    """Two linear towers and a scale."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.image = nn.Parameter(torch.randn(6, 4, generator=generator, dtype=torch.float64))
        self.location = nn.Parameter(torch.randn(3, 4, generator=generator, dtype=torch.float64))
        self.logit_scale = nn.Parameter(torch.tensor(1.3, dtype=torch.float64))

    def forward(self, pixels: torch.Tensor, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return F.normalize(pixels @ self.image, dim=1), F.normalize(places @ self.location, dim=1), self.logit_scale


def train(case: str, rank: int, processes: int) -> dict[str, np.ndarray]:
    """Two steps of a case on this process's share of the photographs."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(N, 6, generator=generator, dtype=torch.float64)
    places = torch.randn(N, 3, generator=generator, dtype=torch.float64)
    positions_deg = torch.rand(N, 2, generator=generator, dtype=torch.float64) * 0.001
    positions_deg[5] += 0.1  # isolated for the bisquare kernel
    accuracy_m = torch.tensor([3.0, torch.nan, 9.0, 1.0, torch.nan, 20.0, 0.0, 4.0], dtype=torch.float64)
    region_ids = torch.tensor([0, 1, -1, 2, 2, 0, 2, 1])
    level_ids = torch.tensor([[0, 0], [0, 1], [-1, -1], [1, 2], [1, 2], [0, -1], [1, 3], [0, 1]])
    share = N // processes
    local = slice(rank * share, (rank + 1) * share)

    model = Model()
    parallel = nn.parallel.DistributedDataParallel(model) if processes > 1 else model
    objective = Objective(CASES[case], n_regions=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    results = {}
    for step in range(2):
        optimizer.zero_grad()
        image, location, logit_scale = parallel(pixels[local], places[local])
        queue = None
        if case.startswith("queue"):  # the same in every process, and encoded by the weights that learn
            queued = torch.randn(5, 3, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
            queue = QueuedLocations(F.normalize(queued @ model.location, dim=1), positions_deg[:5] + 1e-4)
        facts = (positions_deg[local], accuracy_m[local], region_ids[local])
        further = {"queue": queue, "level_ids": level_ids[local]}
        if case == "views":
            present = {name: torch.tensor(rows, dtype=torch.bool)[local] for name, rows in PRESENT.items()}
            further["modalities"] = [
                Modality(name, image.roll(at, 1), rows) for at, (name, rows) in enumerate(present.items())
            ]
        if "bandwidth scale" in case:
            further["bandwidth_scale"] = torch.linspace(0.5, 3.0, N, dtype=torch.float64)[local]
        loss, parts = objective(image, location, logit_scale, *facts, **further)
        loss.backward()
        results |= {
            f"{case}/{step}/{name}.grad": weight.grad.numpy().copy() for name, weight in model.named_parameters()
        }
        results |= {f"{case}/{step}/{name}": value.numpy() for name, value in parts.items()}
        optimizer.step()
    results |= {f"{case}/{name}": weight.detach().numpy() for name, weight in model.named_parameters()}
    results |= {f"{case}/{name}": value.numpy() for name, value in objective.state_dict().items()}
    return results


def train_module(case: str, rank: int, processes: int) -> dict[str, np.ndarray]:
    """Two steps of a public module on the local photographs, with positions as NumPy arrays and lengths that vary."""
    generator = torch.Generator().manual_seed(2)
    pixels = torch.randn(N, 6, generator=generator, dtype=torch.float64)
    places = torch.randn(N, 3, generator=generator, dtype=torch.float64)
    positions_deg = (torch.rand(N, 2, generator=generator, dtype=torch.float64) * 0.001).numpy()
    accuracy_m = np.array([3.0, np.nan, 9.0, 1.0, np.nan, 20.0, 0.0, 4.0])
    region_ids = np.array([0, 1, -1, 2, 2, 0, 2, 1])
    share = N // processes
    local = slice(rank * share, (rank + 1) * share)

    model = Model()
    parallel = nn.parallel.DistributedDataParallel(model) if processes > 1 else model
    # The scale of the loss learns too, and DDP does not see it: the gradient is the mean over the processes.
    loss_fn = MODULES[case]()
    optimizer = torch.optim.SGD([*model.parameters(), *loss_fn.parameters()], lr=0.2)
    results = {}
    for step in range(2):
        optimizer.zero_grad()
        image, location, logit_scale = parallel(pixels[local], places[local])
        rows = (3.0 * image, 0.5 * location, positions_deg[local])
        if isinstance(loss_fn, SWCLIPLoss):
            loss = loss_fn(*rows, region_ids[local], accuracy_m=accuracy_m[local])
        elif isinstance(loss_fn, SpatialContrastiveLoss):
            loss = loss_fn(*rows, accuracy_m=accuracy_m[local], bandwidth_scale=1.5)
        elif isinstance(loss_fn, NeighbourhoodConsistencyLoss):
            loss = loss_fn(rows[0], rows[2], accuracy_m=accuracy_m[local])
        else:
            loss = loss_fn((image * location).sum(1), region_ids[local])
        (loss + 0.0 * (image.sum() + location.sum() + logit_scale)).backward()  # DDP wants all weights to take part
        for weight in loss_fn.parameters():
            if processes > 1:
                dist.all_reduce(weight.grad)
                weight.grad /= processes
        weights = {**dict(model.named_parameters()), **dict(loss_fn.named_parameters(prefix="loss_fn"))}
        results |= {f"{case}/{step}/{name}.grad": weight.grad.numpy().copy() for name, weight in weights.items()}
        results[f"{case}/{step}/loss"] = loss.detach().numpy()
        optimizer.step()
    return results


def gather(rank: int) -> dict[str, np.ndarray]:
    """Rows come in order of rank, and their gradients are summed over the processes."""
    rows = torch.full((2, 3), float(rank + 1), dtype=torch.float64, requires_grad=True)
    gathered = all_gather_rows(rows)
    # Each process weighs row r by (r + 1) * (its rank + 1).
    (gathered.sum(1) * torch.arange(1.0, 5.0, dtype=torch.float64) * (rank + 1)).sum().backward()
    facts = all_gather_rows(torch.tensor([rank, 10 + rank]))
    return {"gather/rows": gathered.detach().numpy(), "gather/grad": rows.grad.numpy(), "gather/facts": facts.numpy()}


def uneven(rank: int) -> dict[str, np.ndarray]:
    """The message when the processes hold different numbers of photographs."""
    n = 3 + rank
    embedding = torch.eye(n, dtype=torch.float64)
    try:
        Objective(ObjectiveConfig())(embedding, embedding, torch.tensor(0.0), torch.zeros(n, 2, dtype=torch.float64))
    except ConfigError as error:
        return {"uneven/message": np.array(str(error))}
    return {}


def main() -> None:
    rank, rendezvous, out = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=PROCESSES)
    results = gather(rank) | uneven(rank)
    for case in CASES:
        results |= train(case, rank, PROCESSES)
    for case in MODULES:
        results |= train_module(case, rank, PROCESSES)
    np.savez(out, **results)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
