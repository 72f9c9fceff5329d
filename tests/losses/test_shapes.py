"""The shapes in the public signatures are correct, and a wrong shape is detected."""

from __future__ import annotations

import pytest
import torch
from beartype import beartype
from jaxtyping import TypeCheckError, jaxtyped

from swclip import losses

POSITIONS = torch.rand(4, 2, dtype=torch.float64)
SQUARE = torch.ones(4, 4, dtype=torch.float64)
EMBEDDING = torch.eye(4)
REGIONS = torch.zeros(4, dtype=torch.long)
SCALE = torch.tensor(1.0)
QUEUE = losses.QueuedLocations(EMBEDDING, POSITIONS)

CASES = {
    "pairwise_distance_m": ((POSITIONS,), (POSITIONS.T,)),
    "pair_weights": ((SQUARE, "gaussian", (9.0,)), (SQUARE[0], "gaussian", (9.0,))),
    "soft_targets": ((SQUARE, losses.TargetConfig(), POSITIONS[:, 0]), (SQUARE, losses.TargetConfig(), POSITIONS)),
    "spatial_contrastive_loss": ((EMBEDDING, EMBEDDING, SCALE, SQUARE), (EMBEDDING, EMBEDDING[:3], SCALE, SQUARE)),
    "neighbourhood_loss": ((EMBEDDING, SQUARE), (EMBEDDING, SQUARE[:, :2])),
    "rank_n_contrast_loss": ((EMBEDDING, SQUARE), (EMBEDDING, SQUARE[:, :2])),
    "image_geography_loss": ((EMBEDDING, POSITIONS), (EMBEDDING, POSITIONS[:2])),
    "queued_targets": (
        (SQUARE, POSITIONS, QUEUE, losses.TargetConfig()),
        (SQUARE, POSITIONS[:2], QUEUE, losses.TargetConfig()),
    ),
    "regional_means": ((EMBEDDING[0], REGIONS), (EMBEDDING[0], REGIONS[:3])),
    "fairness_loss": ((EMBEDDING[0], REGIONS), (EMBEDDING[0], REGIONS.double())),
    "hierarchy_loss": (
        (EMBEDDING, EMBEDDING, SCALE, REGIONS[:, None]),
        (EMBEDDING, EMBEDDING, SCALE, REGIONS),
    ),
    "robust_weights": ((EMBEDDING[0], losses.RobustConfig()), (EMBEDDING, losses.RobustConfig())),
    "all_gather_rows": ((EMBEDDING,), (SCALE,)),
}


def test_every_public_function_has_a_case():
    functions = {name for name in losses.__all__ if not isinstance(getattr(losses, name), type)}
    assert functions == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_shapes(name):
    function = jaxtyped(typechecker=beartype)(getattr(losses, name))
    right, wrong = CASES[name]
    function(*right)
    with pytest.raises(TypeCheckError):
        function(*wrong)


def test_shapes_of_the_objective():
    objective = losses.Objective(losses.ObjectiveConfig())
    forward = jaxtyped(typechecker=beartype)(objective.forward)
    forward(EMBEDDING, EMBEDDING, SCALE, POSITIONS)
    with pytest.raises(TypeCheckError):
        forward(EMBEDDING, EMBEDDING, SCALE, POSITIONS.float())
