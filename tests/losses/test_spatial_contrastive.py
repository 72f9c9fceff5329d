from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from swclip.errors import ConfigError
from swclip.losses import TargetConfig, pairwise_distance_m, soft_targets, spatial_contrastive_loss
from swclip.losses.divergences import directional_divergences

SCALE = torch.tensor(14.3, dtype=torch.float64).log()


def loop_loss(batch, alpha, kernel):
    """Both directions of the formula, T by row and T' by column from the kernel itself, one pair at a time."""
    distance_m = pairwise_distance_m(batch.positions_deg).tolist()
    n = len(distance_m)
    shape = {"exponential": lambda u: math.exp(-u), "bisquare": lambda u: max(1 - u * u, 0.0) ** 2}[kernel]
    weight = [[shape(distance_m[i][j] / 60.0) for j in range(n)] for i in range(n)]
    rows = [[(1 - alpha) * (i == j) + alpha * weight[i][j] / sum(weight[i]) for j in range(n)] for i in range(n)]
    mass = [sum(weight[i][j] for i in range(n)) for j in range(n)]
    columns = [[(1 - alpha) * (i == j) + alpha * weight[i][j] / mass[j] for j in range(n)] for i in range(n)]
    image, location, scale = batch.image.tolist(), batch.location.tolist(), math.exp(SCALE)
    score = [
        [scale * sum(a * b for a, b in zip(image[i], location[j], strict=True)) for j in range(n)] for i in range(n)
    ]

    def divergence(target, scores):
        normaliser = math.log(sum(math.exp(s) for s in scores))
        return sum(t * (math.log(t) - (s - normaliser)) for t, s in zip(target, scores, strict=True) if t > 0)

    values = []
    for i in range(n):
        by_column = divergence([columns[k][i] for k in range(n)], [score[k][i] for k in range(n)])
        values.append((divergence(rows[i], score[i]) + by_column) / 2)
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("kernel", ["exponential", "bisquare"])
def test_loss_follows_the_formula(make_batch, alpha, kernel):
    batch = make_batch()
    targets = soft_targets(
        pairwise_distance_m(batch.positions_deg), TargetConfig(alpha=alpha, kernel=kernel, bandwidths_m=(60.0,))
    )
    per_sample = spatial_contrastive_loss(batch.image, batch.location, SCALE, targets, reduction="none")
    expected = loop_loss(batch, alpha, kernel)
    torch.testing.assert_close(per_sample, expected, rtol=1e-11, atol=1e-12)
    mean = spatial_contrastive_loss(batch.image, batch.location, SCALE, targets)
    torch.testing.assert_close(mean, expected.mean(), rtol=1e-12, atol=1e-12)


def clip_loss(image, location, logit_scale):
    """CLIP's loss as its paper and OpenAI's model write it."""
    logits = logit_scale.exp() * image @ location.T
    labels = torch.arange(len(image))
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


@settings(deadline=None)
@given(st.integers(1, 150), st.integers(1, 70), st.integers(0, 2**31), st.floats(-1.0, 4.7))
def test_alpha_zero_equals_clip_to_the_last_bit(n, d, seed, log_scale):
    generator = torch.Generator().manual_seed(seed)
    image, location = F.normalize(torch.randn(2, n, d, generator=generator, dtype=torch.float64), dim=2).unbind()
    position = torch.rand(n, 2, generator=generator, dtype=torch.float64)
    arguments = [image.requires_grad_(), location.requires_grad_(), torch.tensor(log_scale, dtype=torch.float64)]
    arguments[2].requires_grad_()
    targets = soft_targets(pairwise_distance_m(position), TargetConfig(alpha=0.0))
    value, clip = spatial_contrastive_loss(*arguments, targets), clip_loss(*arguments)
    assert torch.equal(value, clip)
    pairs = zip(torch.autograd.grad(value, arguments), torch.autograd.grad(clip, arguments), strict=True)
    assert all(torch.equal(actual, expected) for actual, expected in pairs)


def test_a_perfect_match_is_zero_for_any_targets():
    # With one-hot locations the scores are the image embedding itself: it is set to the logarithm of the targets.
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(6, 6, generator=generator, dtype=torch.float64)
    weights = weights @ weights.T
    for _ in range(500):  # made doubly stochastic, so that both directions can be met at once
        weights = weights / weights.sum(1, keepdim=True)
        weights = weights / weights.sum(0, keepdim=True)
    image, location = weights.log(), torch.eye(6, dtype=torch.float64)
    loss = spatial_contrastive_loss(image, location, torch.tensor(0.0, dtype=torch.float64), weights, weights.T)
    assert abs(loss.item()) < 1e-12


def test_uniform_scores_against_one_hot_targets():
    image = torch.ones(5, 1, dtype=torch.float64)
    loss = spatial_contrastive_loss(image, image, SCALE, torch.eye(5, dtype=torch.float64))
    assert loss.item() == pytest.approx(math.log(5))


def test_the_second_direction_uses_its_targets(make_batch):
    batch = make_batch(4)
    generator = torch.Generator().manual_seed(1)
    rows, columns = torch.rand(2, 4, 4, generator=generator, dtype=torch.float64).softmax(2).unbind()
    swapped = spatial_contrastive_loss(batch.location, batch.image, SCALE, columns, rows)
    straight = spatial_contrastive_loss(batch.image, batch.location, SCALE, rows, columns)
    torch.testing.assert_close(straight, swapped)
    assert not torch.isclose(straight, spatial_contrastive_loss(batch.image, batch.location, SCALE, rows))


@settings(deadline=None)
@given(st.integers(0, 1000), st.randoms(use_true_random=False))
def test_the_order_of_the_batch_has_no_effect(seed, random):
    generator = torch.Generator().manual_seed(seed)
    n = 7
    image, location = F.normalize(torch.randn(2, n, 4, generator=generator, dtype=torch.float64), dim=2)
    positions_deg = torch.rand(n, 2, generator=generator, dtype=torch.float64) * 0.001
    order = random.sample(range(n), n)

    def loss(rows):
        targets = soft_targets(pairwise_distance_m(positions_deg[rows]), TargetConfig())
        return spatial_contrastive_loss(image[rows], location[rows], SCALE, targets)

    torch.testing.assert_close(loss(order), loss(list(range(n))), rtol=1e-10, atol=1e-12)


def test_gradients(make_batch):
    batch = make_batch(5, 3)
    targets = soft_targets(pairwise_distance_m(batch.positions_deg), TargetConfig(alpha=0.8))
    scale = torch.tensor(1.1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda v, u, s: spatial_contrastive_loss(v, u, s, targets), (batch.image, batch.location, scale)
    )


def test_the_gradient_of_the_scores_is_softmax_minus_target(make_batch):
    batch = make_batch(6)
    targets = soft_targets(pairwise_distance_m(batch.positions_deg), TargetConfig())
    loss = spatial_contrastive_loss(batch.image, batch.location, SCALE, targets)
    (gradient,) = torch.autograd.grad(loss, batch.image)
    logits = SCALE.exp() * batch.image.detach() @ batch.location.detach().T
    by_score = (logits.softmax(1) - targets + (logits.T.softmax(1) - targets).T) / (2 * len(logits))
    torch.testing.assert_close(gradient, SCALE.exp() * by_score @ batch.location.detach())


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 2e-2), (torch.float16, 3e-3)])
def test_low_precision_embeddings_have_the_error_of_their_precision(make_batch, dtype, tolerance):
    batch = make_batch(64, 32)
    hot = torch.tensor(100.0, dtype=torch.float64).log()
    targets = soft_targets(pairwise_distance_m(batch.positions_deg), TargetConfig())
    exact = spatial_contrastive_loss(batch.image, batch.location, hot, targets)
    low = spatial_contrastive_loss(batch.image.to(dtype), batch.location.to(dtype), hot.float(), targets)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low.double(), exact, rtol=tolerance, atol=0.0)


def test_autocast_does_not_affect_the_logits(make_batch):
    batch = make_batch(32, 16, dtype=torch.float32)
    targets = soft_targets(pairwise_distance_m(batch.positions_deg), TargetConfig())
    plain = spatial_contrastive_loss(batch.image, batch.location, SCALE.float(), targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = spatial_contrastive_loss(batch.image, batch.location, SCALE.float(), targets)
    assert torch.equal(inside, plain)


def test_rows_of_a_part_against_all_columns(make_batch):
    batch = make_batch(8)
    targets = soft_targets(pairwise_distance_m(batch.positions_deg), TargetConfig())
    whole = directional_divergences(batch.image, batch.location, SCALE, targets)
    part = slice(2, 5)
    rows = directional_divergences(
        batch.image[part],
        batch.location[part],
        SCALE,
        targets[part],
        all_image=batch.image,
        all_location=batch.location,
    )
    for actual, expected in zip(rows, whole, strict=True):
        torch.testing.assert_close(actual, expected[part])


def test_an_unknown_reduction(make_batch):
    batch = make_batch(2)
    with pytest.raises(ConfigError, match="'sum'"):
        spatial_contrastive_loss(batch.image, batch.location, SCALE, torch.eye(2), reduction="sum")
