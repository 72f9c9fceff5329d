from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swclip.errors import ConfigError, InputError
from swclip.losses import (
    NeighbourhoodConfig,
    NeighbourhoodConsistencyLoss,
    neighbourhood_loss,
    pair_weights,
    pairwise_distance_m,
)
from swclip.losses.neighbourhood import neighbourhood_terms, ratio_of_sums

TAU = 0.2
FORMS = ["distribution", "laplacian"]


def weights_of(batch, bandwidth_m=60.0, kernel="exponential"):
    return pair_weights(pairwise_distance_m(batch.positions_deg), kernel, (bandwidth_m,))


def loop_loss(image, weights, form):
    """Both formulas, one pair at a time."""
    n = len(image)
    dot = [[sum(a * b for a, b in zip(image[i], image[j], strict=True)) for j in range(n)] for i in range(n)]
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    if form == "laplacian":
        squared = {(i, j): sum((a - b) ** 2 for a, b in zip(image[i], image[j], strict=True)) for i, j in pairs}
        return sum(weights[i][j] * squared[i, j] for i, j in pairs) / sum(weights[i][j] for i, j in pairs)
    divergences = []
    for i in range(n):
        mass = sum(weights[i][j] for j in range(n) if j != i)
        if mass == 0.0:
            continue
        normaliser = math.log(sum(math.exp(dot[i][j] / TAU) for j in range(n) if j != i))
        shares = {j: weights[i][j] / mass for j in range(n) if j != i and weights[i][j] > 0.0}
        divergences.append(sum(t * (math.log(t) - (dot[i][j] / TAU - normaliser)) for j, t in shares.items()))
    return sum(divergences) / len(divergences)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kernel", ["exponential", "gaussian", "bisquare"])
def test_loss_follows_the_formula(make_batch, form, kernel):
    batch = make_batch()
    weights = weights_of(batch, 90.0, kernel)
    expected = loop_loss(batch.image.tolist(), weights.tolist(), form)
    assert neighbourhood_loss(batch.image, weights, form, TAU).item() == pytest.approx(expected, rel=1e-11)


def test_isolated_photographs_are_omitted_and_counted(make_batch):
    batch = make_batch(6)
    positions_deg = batch.positions_deg.clone()
    positions_deg[2] = torch.tensor([53.0, 0.0])
    weights = pair_weights(pairwise_distance_m(positions_deg), "bisquare", (400.0,))
    expected = loop_loss(batch.image.tolist(), weights.tolist(), "distribution")
    assert neighbourhood_loss(batch.image, weights, "distribution", TAU).item() == pytest.approx(expected)
    _, shares = neighbourhood_terms(batch.image, weights)
    assert shares.tolist() == [1.0, 1.0, 0.0, 1.0, 1.0, 1.0]


def test_a_distant_nearest_photograph_is_no_neighbour():
    # 2 km away at 25 m, the exponential kernel still gives e^-80: positive, and 1 when normalised.
    distance_m = torch.tensor([[0.0, 2000.0], [2000.0, 0.0]], dtype=torch.float64)
    weights = pair_weights(distance_m, "exponential", (25.0,))
    assert (weights > 0.0).all()
    image = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    for form in FORMS:
        assert neighbourhood_loss(image, weights, form).item() == 0.0


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("n", [1, 3])
def test_a_batch_without_neighbours_has_loss_0(make_batch, form, n):
    batch = make_batch(n)
    loss = neighbourhood_loss(batch.image, torch.eye(n, dtype=torch.float64), form, TAU)
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(batch.image.grad, torch.zeros_like(batch.image))


def test_laplacian_of_one_embedding_is_zero_and_of_opposites_four():
    weights = torch.ones(2, 2, dtype=torch.float64)
    same = torch.tensor([[0.6, 0.8], [0.6, 0.8]], dtype=torch.float64)
    assert neighbourhood_loss(same, weights, "laplacian").item() == pytest.approx(0.0, abs=1e-12)
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    assert neighbourhood_loss(opposite, weights, "laplacian").item() == pytest.approx(4.0)


def test_distribution_is_zero_when_similarity_is_the_logarithm_of_the_weights():
    angle = torch.linspace(0.0, 0.9, 5, dtype=torch.float64)
    image = torch.stack([angle.cos(), angle.sin()], dim=1)
    weights = (image @ image.T / TAU).exp()
    assert neighbourhood_loss(image, weights, "distribution", TAU).item() == pytest.approx(0.0, abs=1e-12)


@settings(deadline=None)
@given(st.permutations(range(6)), st.sampled_from(FORMS), st.integers(0, 500))
def test_the_order_of_the_batch_has_no_effect(order, form, seed):
    generator = torch.Generator().manual_seed(seed)
    image = torch.nn.functional.normalize(torch.randn(6, 3, generator=generator, dtype=torch.float64), dim=1)
    positions_deg = torch.rand(6, 2, generator=generator, dtype=torch.float64) * 0.001
    weights = pair_weights(pairwise_distance_m(positions_deg), "exponential", (40.0,))
    permuted = neighbourhood_loss(image[order], weights[order][:, order], form, TAU)
    torch.testing.assert_close(permuted, neighbourhood_loss(image, weights, form, TAU), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_gradients(make_batch, form):
    batch = make_batch(5, 3)
    weights = weights_of(batch)
    assert torch.autograd.gradcheck(lambda v: neighbourhood_loss(v, weights, form, TAU), (batch.image,))


@pytest.mark.parametrize("form", FORMS)
def test_terms_of_parts_add_up(make_batch, form):
    batch = make_batch(8)
    weights = weights_of(batch)
    parts = [
        neighbourhood_terms(batch.image[i : i + 4], weights[i : i + 4], form, TAU, batch.image, first_match=i)
        for i in (0, 4)
    ]
    terms, shares = (torch.cat(column) for column in zip(*parts, strict=True))
    torch.testing.assert_close(ratio_of_sums(terms, shares), neighbourhood_loss(batch.image, weights, form, TAU))


@pytest.mark.parametrize("form", FORMS)
def test_bfloat16_embeddings(make_batch, form):
    batch = make_batch(32, 16)
    weights = weights_of(batch)
    low = neighbourhood_loss(batch.image.bfloat16(), weights, form, TAU)
    assert low.dtype == torch.float32
    exact = neighbourhood_loss(batch.image, weights, form, TAU)
    torch.testing.assert_close(low.double(), exact, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "graph"}, "'graph'"),
        ({"tau": 0.0}, "tau 0.0"),
        ({"weight": -0.1}, "weight -0.1"),
        ({"bandwidth_m": -5.0}, "-5.0 m"),
        ({"kernel": "cubic"}, "'cubic'"),
    ],
)
def test_invalid_values_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        NeighbourhoodConfig(**options)


def test_the_module_refuses_invalid_input(make_batch):
    batch = make_batch(5)
    with pytest.raises(InputError, match="has 4 rows and the embeddings 5"):
        NeighbourhoodConsistencyLoss()(batch.image, batch.positions_deg[:4])
    with pytest.raises(InputError, match="row 0 has length 3"):
        NeighbourhoodConsistencyLoss(normalize=False)(3.0 * batch.image, batch.positions_deg)
