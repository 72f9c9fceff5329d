from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swclip.errors import ConfigError
from swclip.losses import ImageGeographyConfig, image_geography_loss
from swclip.losses.image_geography import image_geography_terms

MEASURES = ["distance", "similarity"]


def loop_loss(image, positions_deg, measure):
    """The formula, one pair at a time."""
    n = len(image)
    lowest = [min(p[axis] for p in positions_deg) for axis in (0, 1)]
    highest = [max(p[axis] for p in positions_deg) for axis in (0, 1)]
    scaled = [
        [(p[a] - lowest[a]) / (highest[a] - lowest[a]) if highest[a] > lowest[a] else 0.0 for a in (0, 1)]
        for p in positions_deg
    ]
    total = 0.0
    for i in range(n):
        for j in range(n):
            cosine = sum(x * y for x, y in zip(image[i], image[j], strict=True))
            cosine /= math.hypot(*image[i]) * math.hypot(*image[j])
            ground = sum(abs(a - b) for a, b in zip(scaled[i], scaled[j], strict=True))
            total += ((1.0 - cosine if measure == "distance" else cosine) - ground) ** 2
    return total / n**2


@pytest.mark.parametrize("measure", MEASURES)
def test_loss_follows_the_formula(make_batch, measure):
    batch = make_batch()
    expected = loop_loss(batch.image.tolist(), batch.positions_deg.tolist(), measure)
    found = image_geography_loss(batch.image, batch.positions_deg, measure)
    assert found.item() == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("straight", [0, 1])
def test_a_street_along_one_axis(make_batch, straight):
    batch = make_batch(5)
    positions_deg = batch.positions_deg.clone()
    positions_deg[:, straight] = 0.125
    expected = loop_loss(batch.image.tolist(), positions_deg.tolist(), "distance")
    assert image_geography_loss(batch.image, positions_deg).item() == pytest.approx(expected, rel=1e-11)


def test_photographs_of_one_place_have_minimal_loss_at_one_embedding():
    positions_deg = torch.full((3, 2), 52.0, dtype=torch.float64)
    assert image_geography_loss(torch.ones(3, 2), positions_deg).item() == pytest.approx(0.0, abs=1e-12)
    assert image_geography_loss(torch.eye(3), positions_deg).item() == pytest.approx(6 / 9)


@settings(deadline=None)
@given(
    st.permutations(range(6)),
    st.sampled_from(MEASURES),
    st.integers(0, 500),
    st.floats(-180.0, 180.0),
    st.floats(0.1, 9.0),
)
def test_order_longitude_and_length_have_no_effect(order, measure, seed, turn_deg, length):
    """Turned about the pole, also across the antimeridian, the city is the same city."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    positions_deg = torch.rand(6, 2, generator=generator, dtype=torch.float64) * 0.1
    wanted = image_geography_loss(image, positions_deg, measure)
    turned = positions_deg.clone()
    turned[:, 1] = (turned[:, 1] + turn_deg + 180.0) % 360.0 - 180.0
    found = image_geography_loss(length * image[order], turned[order], measure)
    torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("measure", MEASURES)
def test_gradients(make_batch, measure):
    batch = make_batch(5, 3)
    assert torch.autograd.gradcheck(lambda v: image_geography_loss(v, batch.positions_deg, measure), (batch.image,))


def test_a_distance_attracts_neighbours_and_a_similarity_repels_them():
    positions_deg = torch.tensor([[52.0, 0.0], [52.0, 0.0], [52.1, 0.1]], dtype=torch.float64)
    for measure, way in (("distance", 1.0), ("similarity", -1.0)):
        image = torch.tensor([[1.0, 0.1], [1.0, -0.1], [-1.0, 0.0]], dtype=torch.float64, requires_grad=True)
        image_geography_loss(image, positions_deg, measure).backward()
        apart = (image.grad[0, 1] - image.grad[1, 1]).item()  # a step goes against the gradient
        assert apart * way > 0.0


def test_terms_of_parts_add_up(make_batch):
    batch = make_batch(8)
    whole = (batch.image, batch.positions_deg)
    parts = [
        image_geography_terms(batch.image[i : i + 4], batch.positions_deg[i : i + 4], "distance", *whole)
        for i in (0, 4)
    ]
    torch.testing.assert_close(torch.cat(parts).mean(), image_geography_loss(*whole))


def test_bfloat16_embeddings(make_batch):
    batch = make_batch(32, 16)
    low = image_geography_loss(batch.image.bfloat16(), batch.positions_deg)
    assert low.dtype == torch.float32
    torch.testing.assert_close(
        low.double(), image_geography_loss(batch.image, batch.positions_deg), rtol=1e-2, atol=1e-3
    )


@pytest.mark.parametrize(("options", "message"), [({"weight": -0.1}, "weight -0.1"), ({"measure": "dot"}, "'dot'")])
def test_invalid_values_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        ImageGeographyConfig(**options)
