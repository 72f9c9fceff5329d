from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swclip.errors import ConfigError
from swclip.losses import RankNContrastConfig, pairwise_distance_m, rank_n_contrast_loss
from swclip.losses.rank_n_contrast import rank_n_contrast_terms

SIMILARITIES = ["l2", "cosine"]


def loop_loss(image, distance_m, tau, similarity):
    """Equations 1 and 2 of the paper, one triple at a time."""
    n = len(image)

    def likeness(a, b):
        if similarity == "l2":
            return -math.dist(a, b)
        return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))

    total = 0.0
    for i in range(n):
        for j in range(n):
            if j == i:
                continue
            below = 0.0
            for k in range(n):
                if k != i and distance_m[i][k] >= distance_m[i][j]:
                    below += math.exp(likeness(image[i], image[k]) / tau)
            total -= math.log(math.exp(likeness(image[i], image[j]) / tau) / below)
    return total / (n * (n - 1))


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("tau", [2.0, 0.1])
def test_loss_follows_the_formula(make_batch, similarity, tau):
    batch = make_batch()
    distance_m = pairwise_distance_m(batch.positions_deg)
    expected = loop_loss(batch.image.tolist(), distance_m.tolist(), tau, similarity)
    assert rank_n_contrast_loss(batch.image, distance_m, tau, similarity).item() == pytest.approx(expected, rel=1e-11)


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=8), st.sampled_from(SIMILARITIES), st.integers(0, 500))
def test_ties_are_in_each_others_sums(places, similarity, seed):
    """Few places on a line: most pairs are tied with another."""
    line = torch.tensor(places, dtype=torch.float64)
    distance_m = (line[:, None] - line).abs()
    image = torch.randn(len(places), 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    expected = loop_loss(image.tolist(), distance_m.tolist(), 0.7, similarity)
    assert rank_n_contrast_loss(image, distance_m, 0.7, similarity).item() == pytest.approx(
        expected, rel=1e-9, abs=1e-12
    )


def test_a_tie_does_not_depend_on_the_last_bit(make_batch):
    batch = make_batch(6)
    positions_deg = batch.positions_deg.clone()
    positions_deg[4] = positions_deg[3]  # two headings
    distance_m = pairwise_distance_m(positions_deg)
    nudged = distance_m.clone()
    nudged[:3, 4] += 1e-9
    nudged[3, 4] = 1e-12
    assert torch.equal(rank_n_contrast_loss(batch.image, nudged), rank_n_contrast_loss(batch.image, distance_m))
    nudged[:3, 4] += 0.01
    assert not torch.equal(rank_n_contrast_loss(batch.image, nudged), rank_n_contrast_loss(batch.image, distance_m))


@pytest.mark.parametrize("n", [2, 5])
def test_equal_distances_and_similarities_give_a_logarithm(n):
    distance_m = 30.0 * (1.0 - torch.eye(n, dtype=torch.float64))
    image = torch.ones(n, 4, dtype=torch.float64)
    assert rank_n_contrast_loss(image, distance_m).item() == pytest.approx(math.log(n - 1))


def test_only_the_order_of_the_distances_has_an_effect(make_batch):
    batch = make_batch()
    distance_m = pairwise_distance_m(batch.positions_deg)
    squeezed = 10.0 * (1.0 + distance_m).log()
    torch.testing.assert_close(
        rank_n_contrast_loss(batch.image, squeezed), rank_n_contrast_loss(batch.image, distance_m)
    )


def test_embeddings_in_geographic_order_have_a_lower_loss():
    line = torch.arange(7, dtype=torch.float64)
    distance_m = (line[:, None] - line).abs()
    ordered = rank_n_contrast_loss(line[:, None], distance_m, tau=0.1).item()
    # What remains are the ties on both sides of a photograph: 18 of 42 pairs share their sum with one other.
    assert ordered == pytest.approx(18 / 42 * math.log(2.0), abs=1e-3)
    shuffled = line[torch.tensor([3, 0, 6, 1, 5, 2, 4])]
    assert rank_n_contrast_loss(shuffled[:, None], distance_m, tau=0.1).item() > 10 * ordered


@settings(deadline=None)
@given(st.permutations(range(6)), st.sampled_from(SIMILARITIES), st.integers(0, 500))
def test_the_order_of_the_batch_has_no_effect(order, similarity, seed):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    distance_m = pairwise_distance_m(torch.rand(6, 2, generator=generator, dtype=torch.float64) * 0.001)
    permuted = rank_n_contrast_loss(image[order], distance_m[order][:, order], 0.3, similarity)
    torch.testing.assert_close(
        permuted, rank_n_contrast_loss(image, distance_m, 0.3, similarity), rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_gradients(make_batch, similarity):
    batch = make_batch(5, 3)
    distance_m = pairwise_distance_m(batch.positions_deg)
    assert torch.autograd.gradcheck(lambda v: rank_n_contrast_loss(v, distance_m, 0.4, similarity), (batch.image,))


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_equal_embeddings_have_finite_gradients(similarity):
    image = torch.full((4, 3), 0.5, requires_grad=True)
    distance_m = pairwise_distance_m(torch.rand(4, 2, dtype=torch.float64))
    rank_n_contrast_loss(image, distance_m, similarity=similarity).backward()
    assert image.grad.isfinite().all()


def test_a_single_photograph_has_loss_0():
    image = torch.ones(1, 3, requires_grad=True)
    loss = rank_n_contrast_loss(image, torch.zeros(1, 1, dtype=torch.float64))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(image.grad, torch.zeros(1, 3))


def test_terms_of_parts_add_up(make_batch):
    batch = make_batch(8)
    distance_m = pairwise_distance_m(batch.positions_deg)
    parts = [
        rank_n_contrast_terms(batch.image[i : i + 4], distance_m[i : i + 4], all_image=batch.image, first_match=i)
        for i in (0, 4)
    ]
    torch.testing.assert_close(torch.cat(parts).mean(), rank_n_contrast_loss(batch.image, distance_m))


def test_bfloat16_embeddings(make_batch):
    batch = make_batch(32, 16)
    distance_m = pairwise_distance_m(batch.positions_deg)
    low = rank_n_contrast_loss(batch.image.bfloat16(), distance_m)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low.double(), rank_n_contrast_loss(batch.image, distance_m), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"tau": 0.0}, "tau 0.0"), ({"weight": -0.1}, "weight -0.1"), ({"similarity": "dot"}, "'dot'")],
)
def test_invalid_values_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        RankNContrastConfig(**options)
