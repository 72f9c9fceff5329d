"""Augmentation of batches of training photographs: crops, colour changes and small occlusions.

There are no mirror images, because a mirrored street is another place, and no rotations, which photographs taken in
the street rarely have.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def augment(pixels: Float[Tensor, "b 3 h w"], generator: torch.Generator | None = None) -> Float[Tensor, "b 3 h w"]:
    """Randomly crop, tint, brighten and occlude preprocessed photographs.

    Args:
        pixels: (B, 3, H, W) normalised pixels.
        generator: Source of randomness; torch's global generator if None.

    Returns:
        (B, 3, H, W) augmented pixels, a new tensor.
    """
    count = len(pixels)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        drawn = torch.rand(count, *shape, generator=generator, dtype=pixels.dtype)
        return (low + (high - low) * drawn).to(pixels.device)

    # Crop 65 to 100 % of each side at a random position, in one resampling.
    size = uniform(0.65, 1.0, 2)
    shift = uniform(-1.0, 1.0, 2) * (1.0 - size)
    matrix = torch.zeros(count, 2, 3, dtype=pixels.dtype, device=pixels.device)
    matrix[:, 0, 0], matrix[:, 1, 1], matrix[:, :, 2] = size[:, 0], size[:, 1], shift
    grid = F.affine_grid(matrix, list(pixels.shape), align_corners=False)
    x = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=False)

    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    x = (x - mean) * uniform(0.7, 1.3, 1, 1, 1) + mean  # contrast
    grey = x.mean(dim=1, keepdim=True)
    x = grey + (x - grey) * uniform(0.6, 1.4, 1, 1, 1)  # saturation
    x = x + uniform(-0.4, 0.4, 1, 1, 1) + uniform(-0.15, 0.15, 3, 1, 1)  # brightness, white balance
    return _occlude(x, uniform(0.0, 1.0, 5))


def _occlude(x: Float[Tensor, "b 3 h w"], draws: Float[Tensor, "b 5"]) -> Float[Tensor, "b 3 h w"]:
    """Replace a rectangle of up to a third of each side by grey in half of the photographs, like a passing van."""
    height, width = x.shape[-2:]
    rows = torch.arange(height, device=x.device, dtype=x.dtype)[None, :, None] / height
    columns = torch.arange(width, device=x.device, dtype=x.dtype)[None, None, :] / width
    top, left, tall, wide, chance = draws[:, :, None, None].unbind(1)
    hidden = (rows >= top) & (rows < top + tall / 3) & (columns >= left) & (columns < left + wide / 3) & (chance < 0.5)
    return x.masked_fill(hidden[:, None], 0.0)
