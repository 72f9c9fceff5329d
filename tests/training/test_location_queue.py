"""The queue of earlier locations against a list filled batch by batch, and noise on positions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from swclip.data.samplers import BatchSampler, NeighbourBatchSampler, RandomBatchSampler
from swclip.geo.distance import haversine_m
from swclip.losses import Objective, ObjectiveConfig, TargetConfig
from swclip.models.locator_model import LocatorModel
from swclip.training.config import TrainingConfig
from swclip.training.location_queue import LocationQueue, QueueConfig, QueuedPlaces, embed_locations, noisy_positions
from swclip.training.step import Batch, forward_backward

N = 30
POSITIONS = 52.0 + np.random.default_rng(0).uniform(0.0, 0.01, (N, 2))
ACCURACY = torch.arange(N, dtype=torch.float64)
WORDS = [{"city": f"city {row}"} for row in range(N)]
SAMPLERS: dict[str, Callable[[], BatchSampler]] = {
    "random": lambda: RandomBatchSampler(N, 8, seed=3),
    "neighbours": lambda: NeighbourBatchSampler(POSITIONS, 8, radius_m=300.0, seed=3),
    "second of two processes": lambda: RandomBatchSampler(N, 8, seed=3, rank=1, world_size=2),
}


def _queue(name: str, size: int, noise_m: float = 0.0, seed: int = 5) -> LocationQueue:
    return LocationQueue(SAMPLERS[name](), POSITIONS, ACCURACY, WORDS, QueueConfig(size, noise_m), seed)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("size", [1, 8, 20, 24, 100])
def test_the_queue_has_the_locations_of_earlier_batches(name: str, size: int) -> None:
    sampler, queue = SAMPLERS[name](), _queue(name, size)
    kept: list[int] = []
    for step in range(9):
        result = queue.at(step)
        if step == 0:
            assert result is None
        else:
            assert result is not None
            assert result.positions_deg.tolist() == POSITIONS[kept].tolist()
            assert result.accuracy_m.tolist() == ACCURACY[kept].tolist()
            assert result.words == [WORDS[row] for row in kept]
        kept = [*sampler.global_batch(step).tolist(), *kept][:size]


def test_a_resumed_run_has_the_same_queue() -> None:
    going, resumed = _queue("neighbours", 20, 15.0), _queue("neighbours", 20, 15.0)
    for step in range(7):
        going.at(step)
    first, second = going.at(7), resumed.at(7)
    assert first is not None
    assert second is not None
    assert torch.equal(first.positions_deg, second.positions_deg)
    again = _queue("neighbours", 20, 15.0, seed=6).at(7)
    assert again is not None
    assert not torch.equal(first.positions_deg, again.positions_deg)


def test_the_noise_has_the_stated_size_and_is_new_at_each_step() -> None:
    queue = LocationQueue(
        RandomBatchSampler(4000, 2000), np.full((4000, 2), 52.0), torch.zeros(4000), None, QueueConfig(4000, 30.0), 0
    )
    two, three = queue.at(2), queue.at(3)
    assert two is not None
    assert three is not None
    assert two.words is None
    gone_m = haversine_m(52.0, 52.0, *two.positions_deg.numpy().T)
    assert np.sqrt((gone_m**2).mean() / 2) == pytest.approx(30.0, rel=0.03)
    assert not torch.equal(two.positions_deg, three.positions_deg)


def test_processes_draw_their_rows_of_the_same_noise() -> None:
    positions = torch.from_numpy(POSITIONS[:8])
    whole = noisy_positions(positions, 20.0, seed=1, step=4)
    parts = [noisy_positions(positions[4 * rank : 4 * rank + 4], 20.0, seed=1, step=4, rank=rank) for rank in (0, 1)]
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(noisy_positions(positions, 20.0, seed=1, step=5), whole)
    assert noisy_positions(positions, 0.0, seed=1, step=4) is positions


def test_a_step_with_a_queue_equals_its_parts(small: Callable[..., TrainingConfig]) -> None:
    """Noisy positions are encoded, recorded ones make the targets; the queue's gradients reach the encoder."""
    config = small(model={"location": {"form": "fourier"}, "image": {"head_dropout": 0.0}})
    model = LocatorModel.create(config.model, POSITIONS, seed=2).train()
    objective = Objective(ObjectiveConfig(TargetConfig(bandwidths_m=(200.0,))))
    recorded, nan = torch.from_numpy(POSITIONS[:6]), torch.full((6,), torch.nan, dtype=torch.float64)
    noisy = noisy_positions(recorded, 10.0, seed=0, step=0)
    places = QueuedPlaces(torch.from_numpy(POSITIONS[4:12]), torch.full((8,), torch.nan, dtype=torch.float64), None)
    inputs = torch.randn(6, model.image_tower.feature_dim, generator=torch.Generator().manual_seed(0))
    regions = torch.zeros(6, dtype=torch.int64)
    batch = Batch(inputs, recorded, None, nan, regions, noisy, places)
    figures = forward_backward(model, objective, batch, encode=model.encode_image_features, chunk=4)
    result = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    model.zero_grad()
    _, queue = embed_locations(model, recorded, None, places)
    assert queue is not None
    torch.testing.assert_close(queue.embedding, model.position_embeddings(places.positions_deg))
    loss, _ = objective(
        model.encode_image_features(inputs), model.position_embeddings(noisy), model.logit_scale, recorded, queue=queue
    )
    loss.backward()
    assert figures["loss"].item() == pytest.approx(loss.item(), rel=1e-5)
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(result[name], parameter.grad, rtol=1e-3, atol=1e-6, msg=name)
