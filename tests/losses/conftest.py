"""Batches of known geometry."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor


class Batch(NamedTuple):
    image: Tensor
    location: Tensor
    positions_deg: Tensor
    accuracy_m: Tensor
    region_ids: Tensor


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    """A batch over about 200 m of ground: unit embeddings with gradients, positions, accuracies (some NaN), regions."""

    def make(n: int = 9, d: int = 5, seed: int = 0, dtype: torch.dtype = torch.float64) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        image, location = F.normalize(torch.randn(2, n, d, generator=generator, dtype=torch.float64), dim=2).to(dtype)
        offset_deg = torch.rand(n, 2, generator=generator, dtype=torch.float64) * torch.tensor([0.002, 0.003])
        positions_deg = torch.tensor([52.2, 0.12], dtype=torch.float64) + offset_deg
        accuracy_m = torch.rand(n, generator=generator, dtype=torch.float64) * 20.0
        accuracy_m[::3] = torch.nan
        return Batch(
            image.clone().requires_grad_(),
            location.clone().requires_grad_(),
            positions_deg,
            accuracy_m,
            torch.randint(0, 3, (n,), generator=generator),
        )

    return make
