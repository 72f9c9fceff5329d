"""Losses in tiles: equal to whole matrices in values and gradients, without any matrix of the batch's square."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from swclip.errors import ConfigError
from swclip.losses import (
    FairnessConfig,
    NeighbourhoodConfig,
    NeighbourhoodConsistencyLoss,
    Objective,
    ObjectiveConfig,
    QueuedLocations,
    RobustConfig,
    SpatialContrastiveLoss,
    SWCLIPLoss,
    TargetConfig,
    pairwise_distance_m,
)
from swclip.losses.batch import GatheredRows, Places
from swclip.losses.pair_tiles import PairTiles, pair_kernel
from swclip.losses.tiled_divergences import tile_size, tiled_divergences

N, QUEUED, DIM = 150, 37, 16
KERNELS = ["exponential", "gaussian", "bisquare", "tricube", "inverse-distance"]
DRAWN = torch.Generator().manual_seed(3)


def _positions(count: int) -> Tensor:
    positions_deg = torch.tensor([52.2, 0.12], dtype=torch.float64) + 0.01 * torch.rand(
        count, 2, generator=DRAWN, dtype=torch.float64
    )
    positions_deg[20:30] = positions_deg[10:20]  # the headings of a panorama
    positions_deg[-9:] += torch.tensor([1.0, 40.0], dtype=torch.float64)  # another city
    positions_deg[-1] = torch.tensor([-89.9, 179.9], dtype=torch.float64)  # alone
    return positions_deg


POSITIONS, QUEUE_POSITIONS = _positions(N), _positions(QUEUED)
IMAGE, LOCATION = F.normalize(torch.randn(2, N, DIM, generator=DRAWN, dtype=torch.float64), dim=2)
QUEUE = F.normalize(torch.randn(QUEUED, DIM, generator=DRAWN, dtype=torch.float64), dim=1)
ACCURACY = torch.where(torch.rand(N, generator=DRAWN) < 0.3, torch.nan, 30.0 * torch.rand(N, generator=DRAWN)).double()
STRETCH = 0.5 + torch.rand(N, generator=DRAWN, dtype=torch.float64)
REGIONS = torch.randint(-1, 4, (N,), generator=DRAWN)


def _run(
    config: ObjectiveConfig, tile: int, dtype: torch.dtype, scale: float, queued: bool, accuracy: bool, stretch: bool
) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Parts of the objective, and its gradients."""
    leaves = [IMAGE.to(dtype), LOCATION.to(dtype), torch.tensor(scale, dtype=dtype).log(), QUEUE.to(dtype)]
    image, location, logit_scale, queue = (leaf.detach().clone().requires_grad_() for leaf in leaves)
    loss, parts = Objective(dataclasses.replace(config, tile=tile))(
        image,
        location,
        logit_scale,
        POSITIONS,
        ACCURACY if accuracy else None,
        REGIONS,
        bandwidth_scale=STRETCH if stretch else None,
        queue=QueuedLocations(queue, QUEUE_POSITIONS) if queued else None,
    )
    inputs = [image, location, logit_scale, *([queue] if queued else [])]
    return parts, list(torch.autograd.grad(loss, inputs))


CASES: list[tuple[str, float, dict[str, Any], dict[str, bool]]] = [
    ("exponential", 1.0, {}, {}),
    ("gaussian", 1.0, {}, {"accuracy": True}),
    ("bisquare", 0.6, {}, {"stretch": True}),
    ("tricube", 0.6, {"symmetric": False}, {"queued": True, "accuracy": True}),
    ("inverse-distance", 1.0, {}, {"accuracy": True, "stretch": True}),
    ("exponential", 0.6, {}, {"queued": True, "accuracy": True, "stretch": True}),
    ("exponential", 0.0, {}, {}),
    ("exponential", 0.0, {"symmetric": False}, {"queued": True}),
    ("gaussian", 1.0, {"neighbourhood": NeighbourhoodConfig(weight=0.7, bandwidth_m=0.0)}, {"stretch": True}),
    ("exponential", 1.0, {"neighbourhood": NeighbourhoodConfig("laplacian", 0.7)}, {"accuracy": True}),
    ("exponential", 1.0, {"robust": RobustConfig("reweighted")}, {}),
]


@pytest.mark.parametrize("scale", [14.0, 95.0])  # the larger one needs a running maximum in float32
@pytest.mark.parametrize(("kernel", "alpha", "terms", "inputs"), CASES)
def test_tiles_equal_whole_matrices(
    kernel: Any, alpha: float, terms: dict[str, Any], inputs: dict[str, bool], scale: float
) -> None:
    targets = TargetConfig(alpha, kernel, (25.0, 200.0), shares=(0.7, 0.3), default_accuracy_m=3.0)
    base = {"neighbourhood": NeighbourhoodConfig(weight=0.5), "fairness": FairnessConfig(weight=0.5)}
    config = ObjectiveConfig(targets, **{**base, **terms})
    given = {"queued": False, "accuracy": False, "stretch": False, **inputs}
    for dtype, tolerance in ((torch.float64, 1e-7), (torch.float32, 1e-5)):
        parts, gradients = _run(config, 0, dtype, scale, **given)
        tiled_parts, tiled_gradients = _run(config, 40, dtype, scale, **given)
        assert parts.keys() == tiled_parts.keys()
        for name, value in parts.items():
            torch.testing.assert_close(tiled_parts[name], value, rtol=tolerance, atol=tolerance, msg=name)
        for gradient, tiled in zip(gradients, tiled_gradients, strict=True):
            assert gradient.norm() > 1e-4
            assert (tiled - gradient).norm() <= tolerance * gradient.norm()
            assert (tiled - gradient).abs().max() <= tolerance * gradient.abs().max()


def test_tiles_of_local_rows_among_gathered_ones() -> None:
    part = slice(40, 90)
    places = Places(POSITIONS, ACCURACY, STRETCH, part)
    results = []
    for tile in (0, 16):
        loss = SpatialContrastiveLoss((25.0, 200.0), alpha=0.8, scale=None, tile=tile)
        near = NeighbourhoodConsistencyLoss(25.0, tile=tile)
        image, location = IMAGE.clone().requires_grad_(), LOCATION.clone().requires_grad_()
        images, locations = GatheredRows(image[part], image), GatheredRows(location[part], location)
        outputs = [*loss.divergences(images, locations, places, torch.tensor(2.0)), *near.terms(images, places)]
        weights = torch.linspace(1.0, 2.0, 50, dtype=torch.float64)  # each row counts differently
        total = sum(weights @ output for output in outputs if output.requires_grad)
        results.append((*outputs, *torch.autograd.grad(total, (image, location))))
    for whole, tiled in zip(*results, strict=True):
        torch.testing.assert_close(tiled, whole, rtol=1e-7, atol=1e-9)


def test_gradients_by_finite_differences() -> None:
    count = 7
    places = Places(POSITIONS[5 : 5 + count], ACCURACY[:count], None, slice(0, count))
    for alpha, without_self, least in ((0.7, False, 1.0), (1.0, True, 1e-6)):
        kernel = pair_kernel(
            TargetConfig(alpha, bandwidths_m=(200.0,)),
            places,
            places,
            places.matches,
            without_self=without_self,
            least_mass=least,
        )

        def divergences(image: Tensor, location: Tensor, scale: Tensor, kernel: Any = kernel) -> tuple[Tensor, Tensor]:
            result = tiled_divergences(image, location, scale, kernel, 3, both=True)
            return result.by_row, result.by_column

        inputs = [IMAGE[:count, :4], LOCATION[:count, :4], torch.tensor(1.0, dtype=torch.float64)]
        assert torch.autograd.gradcheck(divergences, [leaf.clone().requires_grad_() for leaf in inputs])


class Largest(TorchDispatchMode):
    """Records the size of the largest tensor that any operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        self.numel = max([self.numel, *(leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor))])
        return result


@pytest.mark.parametrize("form", ["distribution", "laplacian"])
def test_no_tensor_grows_with_the_square_of_the_batch(form: Any) -> None:
    count, dim, tile = 300, 8, 32
    image, location = F.normalize(torch.randn(2, count, dim, generator=DRAWN), dim=2)
    sizes = {}
    for side in (0, tile):
        config = ObjectiveConfig(
            neighbourhood=NeighbourhoodConfig(form, 0.5), fairness=FairnessConfig(weight=0.1), tile=side
        )
        inputs = [leaf.clone().requires_grad_() for leaf in (image, location)]
        with Largest() as largest:
            loss, _ = Objective(config)(
                *inputs, torch.tensor(2.0), _positions(count), region_ids=torch.arange(count) % 3
            )
            loss.backward()
        sizes[side] = largest.numel
    assert sizes[0] >= count * count
    assert sizes[tile] <= count * dim  # an embedding; a tile is smaller


def test_kernels_are_computed_only_within_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    cities = torch.tensor([[52.2, 0.1], [51.5, -0.1], [0.0, 179.9999], [0.001, -179.9999]], dtype=torch.float64)
    positions_deg = cities.repeat(16, 1) + 0.001 * torch.rand(64, 2, generator=generator, dtype=torch.float64)
    positions_deg = positions_deg[torch.randperm(64, generator=generator)]
    places = Places(positions_deg, None, None, slice(0, 64))
    tiles = PairTiles(pair_kernel(TargetConfig(), places, places, places.matches), 16, torch.device("cpu"))
    rows = torch.zeros(64, 2, dtype=torch.float64)
    near = [weights is not None for *_, weights in tiles(rows, rows)]
    assert len(near) == 16
    assert sum(near) == 2 + 4, "two cities alone; two at the antimeridian within reach of each other"
    everywhere = PairTiles(
        pair_kernel(TargetConfig(kernel="inverse-distance"), places, places, places.matches), 16, torch.device("cpu")
    )
    assert all(weights is not None for *_, weights in everywhere(rows, rows))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_distances_of_tiles_are_great_circle_distances(dtype: torch.dtype) -> None:
    positions_deg = torch.tensor(
        [[52.2, 0.12], [52.2, 0.12], [52.20001, 0.12], [52.21, 0.12], [53.0, 1.0], [90.0, 7.0], [-52.2, -179.8]],
        dtype=torch.float64,
    )
    places = Places(positions_deg, None, None, slice(0, 7))
    kernel = pair_kernel(TargetConfig(kernel="inverse-distance"), places, places, places.matches)
    kernel = dataclasses.replace(kernel, weights=lambda distance_m, *_: distance_m)
    expected = pairwise_distance_m(positions_deg)
    for tile in (1, 7):
        result = torch.zeros(7, 7, dtype=dtype)
        tiles = PairTiles(kernel, tile, torch.device("cpu"))
        rows = torch.zeros(7, 2, dtype=dtype)
        for part, others, _, distance_m in tiles(rows, rows):
            assert distance_m is not None
            result[tiles.rows.order[part, None], tiles.columns.order[others]] = distance_m
        # Near the antipode a chord in float32 determines the arc to a few kilometres, where every kernel is nearly 0.
        near = expected < 1e7
        torch.testing.assert_close(result[near], expected[near].to(dtype), rtol=2e-6, atol=1e-8)
        torch.testing.assert_close(result[~near], expected[~near].to(dtype), rtol=1e-3, atol=0.0)
        assert (result[~near] > 1e7).all()


def test_the_public_losses_take_tiles() -> None:
    image, location = IMAGE.float(), LOCATION.float()
    values = []
    for tile in (0, 30):
        total = SWCLIPLoss(SpatialContrastiveLoss(25.0, tile=tile))
        assert total.neighbourhood.tile == tile
        values.append(total(image, location, POSITIONS, REGIONS, accuracy_m=ACCURACY))
        rows = SpatialContrastiveLoss(25.0, reduction="none", tile=tile)(image, location, POSITIONS)
        values.append(rows.mean())
    torch.testing.assert_close(values[2:], values[:2], rtol=1e-5, atol=1e-6)


def test_tiles_under_autocast_are_in_float32() -> None:
    image, location = IMAGE.bfloat16(), LOCATION.bfloat16()
    expected = SpatialContrastiveLoss(25.0, tile=0)(image, location, POSITIONS)
    with torch.autocast("cpu", torch.bfloat16):
        result = SpatialContrastiveLoss(25.0, tile=30)(image, location, POSITIONS)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-6)


def test_large_batches_are_in_tiles() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert tile_size("auto", 512, 512, cpu) == tile_size("auto", 1024, 1024, cuda) == 0
    assert 0 < tile_size("auto", 513, 512, cpu) < tile_size("auto", 1025, 1024, cuda)
    assert tile_size("auto", 4096, 4096, torch.device("mps")) == 0
    assert (tile_size(0, 4096, 4096, cpu), tile_size(7, 2, 2, cpu)) == (0, 7)
    for wrong in (-1, 2.5, "all", True):
        for loss in (SpatialContrastiveLoss, NeighbourhoodConsistencyLoss):
            with pytest.raises(ConfigError, match="choose 'auto', 0"):
                loss(tile=wrong)
        with pytest.raises(ConfigError, match="tile"):
            ObjectiveConfig(tile=wrong)
