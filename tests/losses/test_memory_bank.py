"""Extra locations of the contrast, and the terms of compared methods inside the objective."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from swclip.losses import (
    ImageGeographyConfig,
    Objective,
    ObjectiveConfig,
    QueuedLocations,
    RankNContrastConfig,
    TargetConfig,
    image_geography_loss,
    pair_weights,
    pairwise_distance_m,
    rank_n_contrast_loss,
    spatial_contrastive_loss,
)

SCALE = torch.tensor(8.0, dtype=torch.float64).log()


def make_queue(batch, n=4, seed=7, accuracies=True):
    generator = torch.Generator().manual_seed(seed)
    embedding = F.normalize(torch.randn(n, batch.image.shape[1], generator=generator, dtype=torch.float64), dim=1)
    places = batch.positions_deg[:1] + torch.rand(n, 2, generator=generator, dtype=torch.float64) * 0.001
    accuracy_m = torch.rand(n, generator=generator, dtype=torch.float64) * 10.0 if accuracies else None
    return QueuedLocations(embedding.requires_grad_(), places, accuracy_m)


def loop_objective(batch, queue, config, accuracies):
    """Both directions from the formula: a photograph chooses among N + Q locations, a location among N photographs."""
    n, q, s = len(batch.image), len(queue.embedding), SCALE.exp().item()
    places = [*batch.positions_deg, *queue.positions_deg]
    locations = [*batch.location.tolist(), *queue.embedding.tolist()]
    images = batch.image.tolist()
    accuracy = [*batch.accuracy_m.tolist()] if accuracies else [math.nan] * n
    accuracy += [math.nan] * q if queue.accuracy_m is None else queue.accuracy_m.tolist()
    noise = [config.default_accuracy_m if math.isnan(a) else a for a in accuracy]

    def target(i, columns):
        if config.alpha == 0.0:
            return [float(i == j) for j in columns]
        weights = []
        for j in columns:
            distance_m = pairwise_distance_m(places[i][None], places[j][None]).item()
            bandwidth = math.sqrt(config.bandwidths_m[0] ** 2 + noise[i] ** 2 + noise[j] ** 2)
            weights.append(math.exp(-distance_m / bandwidth))
        return [
            (1.0 - config.alpha) * (i == j) + config.alpha * w / sum(weights)
            for j, w in zip(columns, weights, strict=True)
        ]

    def divergence(goal, logits):
        normaliser = math.log(sum(map(math.exp, logits)))
        return sum(t * (math.log(t) - (x - normaliser)) for t, x in zip(goal, logits, strict=True) if t > 0.0)

    def dot(a, b):
        return s * sum(x * y for x, y in zip(a, b, strict=True))

    by_image = [divergence(target(i, range(n + q)), [dot(images[i], u) for u in locations]) for i in range(n)]
    by_location = [divergence(target(j, range(n)), [dot(locations[j], v) for v in images]) for j in range(n)]
    return sum(by_image) / n, sum(by_location) / n


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("accuracies", [True, False])
def test_the_queue_follows_the_formula(make_batch, alpha, symmetric, accuracies):
    batch = make_batch(5)
    queue = make_queue(batch, accuracies=accuracies)
    targets = TargetConfig(alpha=alpha, bandwidths_m=(40.0,), default_accuracy_m=3.0)
    objective = Objective(ObjectiveConfig(targets, symmetric=symmetric))
    loss, parts = objective(
        batch.image,
        batch.location,
        SCALE,
        batch.positions_deg,
        batch.accuracy_m if accuracies else None,
        queue=queue,
    )
    by_image, by_location = loop_objective(batch, queue, targets, accuracies)
    expected = (by_image + by_location) / 2 if symmetric else by_image
    assert loss.item() == pytest.approx(expected, rel=1e-10)
    assert parts["contrastive"].item() == pytest.approx(expected, rel=1e-10)


def test_gradients_reach_the_queue(make_batch):
    batch = make_batch(4, 3)
    queue = make_queue(batch, 3)
    objective = Objective(ObjectiveConfig(TargetConfig(bandwidths_m=(40.0,))))

    def loss(image, location, queued):
        extra = QueuedLocations(queued, queue.positions_deg, queue.accuracy_m)
        return objective(image, location, SCALE, batch.positions_deg, batch.accuracy_m, queue=extra)[0]

    assert torch.autograd.gradcheck(loss, (batch.image, batch.location, queue.embedding))


def test_photographs_of_the_queued_places_would_give_the_same_targets(make_batch):
    """The share on a photograph's own location is that of a batch which holds the queued photographs as well."""
    batch = make_batch(9)
    extra = QueuedLocations(batch.location[6:], batch.positions_deg[6:], batch.accuracy_m[6:])
    config = TargetConfig(bandwidths_m=(40.0,))
    _, parts = Objective(ObjectiveConfig(config))(
        batch.image[:6], batch.location[:6], SCALE, batch.positions_deg[:6], batch.accuracy_m[:6], queue=extra
    )
    weights = pair_weights(
        pairwise_distance_m(batch.positions_deg), "exponential", (40.0,), None, batch.accuracy_m, batch.accuracy_m
    )
    shares = (weights / weights.sum(1, keepdim=True)).diagonal()[:6]
    assert parts["target_self"].item() == pytest.approx(shares.mean().item())


def test_one_direction_is_cross_entropy(make_batch):
    batch = make_batch(12)
    loss, _ = Objective(ObjectiveConfig(TargetConfig(alpha=0.0), symmetric=False))(
        batch.image, batch.location, SCALE, batch.positions_deg
    )
    wanted = F.cross_entropy(SCALE.exp() * batch.image @ batch.location.T, torch.arange(12))
    torch.testing.assert_close(loss, wanted)
    for actual, expected in zip(
        torch.autograd.grad(loss, (batch.image, batch.location), retain_graph=True),
        torch.autograd.grad(wanted, (batch.image, batch.location)),
        strict=True,
    ):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_terms_of_compared_methods_are_added(make_batch, alpha):
    batch = make_batch()
    targets = TargetConfig(alpha=alpha, bandwidths_m=(40.0,), gps_noise=False)
    config = ObjectiveConfig(
        targets,
        rank_n_contrast=RankNContrastConfig(weight=0.3, tau=0.5, similarity="cosine"),
        image_geography=ImageGeographyConfig(weight=0.7, measure="similarity"),
    )
    loss, parts = Objective(config)(batch.image, batch.location, SCALE, batch.positions_deg)
    plain, _ = Objective(ObjectiveConfig(targets))(batch.image, batch.location, SCALE, batch.positions_deg)
    ranks = rank_n_contrast_loss(batch.image, pairwise_distance_m(batch.positions_deg), 0.5, "cosine")
    matching = image_geography_loss(batch.image, batch.positions_deg, "similarity")
    torch.testing.assert_close(loss, plain + 0.3 * ranks + 0.7 * matching)
    torch.testing.assert_close(parts["rank_n_contrast"], ranks.detach())
    torch.testing.assert_close(parts["image_geography"], matching.detach())


def test_weight_zero_does_not_change_the_objective(make_batch):
    batch = make_batch(24)
    loss, parts = Objective(ObjectiveConfig(TargetConfig(alpha=0.0)))(
        batch.image, batch.location, SCALE, batch.positions_deg
    )
    assert torch.equal(loss, spatial_contrastive_loss(batch.image, batch.location, SCALE, torch.eye(24).double()))
    assert set(parts) == {"loss", "contrastive", "target_self"}
