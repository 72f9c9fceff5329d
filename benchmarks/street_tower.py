"""Train the image tower `builtin:street`: a small convolutional network, on generated cities, by contrast between days.

    python benchmarks/street_tower.py --work street-tower [--weights src/swclip/models/street.safetensors]

Photographs of one place by two surveys, which look the same way on different days, are a pair; the targets of the
contrast are soft labels that decay with distance (40 m), so that features vary along a street as those of pretrained
towers do. With one-hot targets they were too local: a range of 7 m, where DINOv2 on the same photographs has 15 m.
Cities of seeds 1001 and 1002 are for training, two of seed 1003 for the printed check: the
share of photographs whose most similar photograph of another day is of the same place. No other part of the project
uses these seeds. The same command gives the same file, up to rounding on other processors; rendering resumes.
"""

from __future__ import annotations

import hashlib
import math
import time
from pathlib import Path
from typing import Any

import torch
from common import new_parser, say, table_of_figures, write_results
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from swclip.files import atomic_file
from swclip.geo.distance import pairwise_haversine_m
from swclip.imaging.preprocess import Preprocess
from swclip.models.config import ImageConfig
from swclip.models.image_tower import ImageTower, image_preprocess
from swclip.models.towers import STREET_WEIGHTS, SmallConvNet
from swclip.synthetic.generate import generate

TRAINING_SEEDS, CHECK_SEED = (1001, 1002), 1003
ANCHORS, RUN = 16, 8  # a batch: places drawn by chance, and the next places along their streets
BANDWIDTH_M = 40.0
RATE, DECAY, WARM_UP = 2e-3, 0.05, 20


def days(
    folder: Path, seed: int, cities: int, photos_per_city: int, preprocess: Preprocess
) -> tuple[Tensor, Tensor, Tensor]:
    """Two photographs of each place and side, in order along streets: (N, 3, H, W) of one day and of another, and their
    positions (N, 2) in degrees."""
    size = preprocess.size_px
    frame = generate(folder, cities=cities, photos_per_city=photos_per_city, size_px=size, seed=seed).frame
    survey = frame["sequence_id"].str.rsplit("-", n=1).str[-1].astype(int)
    first, second, positions_deg = [], [], []
    for side in (0, 1):
        one, other = (frame[survey == side + shift].set_index("place_id")["image_path"] for shift in (0, 2))
        places = one.index.intersection(other.index, sort=False)
        first += [folder / path for path in one[places]]
        second += [folder / path for path in other[places]]
        by_place = frame[survey == side].set_index("place_id")
        positions_deg += by_place.loc[places, ["lat_deg", "lon_deg"]].to_numpy().tolist()
    return pixels(first, preprocess), pixels(second, preprocess), torch.tensor(positions_deg, dtype=torch.float64)


def pixels(paths: list[Path], preprocess: Preprocess) -> Tensor:
    """(N, 3, H, W) preprocessed photographs, float16 to save memory."""
    return torch.stack([torch.from_numpy(preprocess(Image.open(path))).half() for path in paths])


def features(tower: nn.Module, photographs: Tensor) -> Tensor:
    """(B, 1728) features as the tower `builtin:street` gives them, normalised."""
    maps = tower(photographs.float())
    return F.layer_norm(F.adaptive_avg_pool2d(maps, 3).flatten(1), (9 * SmallConvNet.width,))


def batch(one: Tensor, other: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Photographs of both days of the same places, mirrored and in other light by chance, and the rows of these places:
    runs of neighbours."""
    starts = torch.randint(len(one) - RUN, (ANCHORS,), generator=generator)
    rows = (starts[:, None] + torch.arange(RUN)).flatten().unique()
    pair = []
    mirrored = torch.rand(len(rows), generator=generator) < 0.5
    for day in (one, other):
        photographs = day[rows].float()
        photographs[mirrored] = photographs[mirrored].flip(3)
        gain = torch.exp(0.15 * torch.randn(len(rows), 1, 1, 1, generator=generator))
        tint = 0.15 * torch.randn(len(rows), 3, 1, 1, generator=generator)
        pair.append(photographs * gain + tint)
    return pair[0], pair[1], rows


def train(one: Tensor, other: Tensor, positions_deg: Tensor, steps: int) -> nn.Module:
    """The trained tower."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    tower, head = SmallConvNet(), nn.Linear(9 * SmallConvNet.width, 192)
    scale = nn.Parameter(torch.tensor(math.log(1 / 0.1)))
    weights = [*tower.parameters(), *head.parameters(), scale]
    optimizer = torch.optim.AdamW(weights, lr=RATE, weight_decay=DECAY)
    started, total = time.monotonic(), 0.0
    for step in range(steps):
        warm = min(1.0, (step + 1) / WARM_UP)
        for group in optimizer.param_groups:
            group["lr"] = RATE * warm * 0.5 * (1.0 + math.cos(math.pi * step / steps))
        *pair, rows = batch(one, other, generator)
        a, b = (F.normalize(head(features(tower, day)), dim=1) for day in pair)
        similarity = scale.exp() * a @ b.T
        distance_m = pairwise_haversine_m(positions_deg[rows], positions_deg[rows])
        target = F.normalize(torch.exp(-distance_m / BANDWIDTH_M), p=1.0, dim=1).float()
        loss = 0.5 * (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        total += loss.item()
        if (step + 1) % 20 == 0:
            seconds = time.monotonic() - started
            say(f"step {step + 1}/{steps}: loss {total / 20:.3f}, {seconds:.0f} s")
            total = 0.0
    return tower.eval()


def check(tower: nn.Module, one: Tensor, other: Tensor) -> float:
    """Share of photographs whose most similar photograph of the other day is of the same place."""
    with torch.inference_mode():
        a, b = (
            F.normalize(torch.cat([features(tower, part) for part in day.split(128)]), dim=1) for day in (one, other)
        )
    return float(((a @ b.T).argmax(dim=1) == torch.arange(len(a))).float().mean())


def main() -> None:
    """Render, train, check and write."""
    parser = new_parser(__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for the rendered photographs")
    parser.add_argument("--weights", type=Path, default=STREET_WEIGHTS, help="the file that is written")
    parser.add_argument("--cities", type=int, default=8, help="of each training seed")
    parser.add_argument("--photos-per-city", type=int, default=160)
    parser.add_argument("--steps", type=int, default=120)
    args = parser.parse_args()
    preprocess = image_preprocess(config := ImageConfig(tower="builtin:small"), ImageTower(config))
    parts = [
        days(args.work / f"seed-{seed}", seed, args.cities, args.photos_per_city, preprocess) for seed in TRAINING_SEEDS
    ]
    one, other, positions_deg = (torch.cat(columns) for columns in zip(*parts, strict=True))
    *held_out, _ = days(args.work / f"seed-{CHECK_SEED}", CHECK_SEED, 2, args.photos_per_city, preprocess)
    torch.manual_seed(0)
    figures: dict[str, Any] = {"pairs of photographs": len(one), "pixels": preprocess.size_px}
    figures |= {"pairs of the check": len(held_out[0])}
    figures["same place first, untrained"] = f"{check(SmallConvNet().eval(), *held_out):.1%}"
    tower = train(one, other, positions_deg, args.steps)
    figures["same place first, trained"] = f"{check(tower, *held_out):.1%}"
    with atomic_file(args.weights) as beside:
        save_file({name: weight.contiguous() for name, weight in tower.state_dict().items()}, beside)
    figures["MB"] = round(args.weights.stat().st_size / 1e6, 2)
    figures["sha256"] = hashlib.sha256(args.weights.read_bytes()).hexdigest()
    write_results(args.out, "street_tower", figures, table_of_figures(figures))


if __name__ == "__main__":
    main()
