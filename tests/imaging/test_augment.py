"""Augmentation: reproducible, without mirror images, and within its bounds."""

from __future__ import annotations

import pytest
import torch

from swclip.imaging.augment import augment


def _augmented(pixels: torch.Tensor, seed: int) -> torch.Tensor:
    return augment(pixels, torch.Generator().manual_seed(seed))


def _picture(count: int, high: int = 24, wide: int = 36) -> torch.Tensor:
    """Return pictures whose red grows to the right and green downwards; blue is constant."""
    red = torch.linspace(-1, 1, wide).expand(count, high, wide)
    green = torch.linspace(-1, 1, high)[:, None].expand(count, high, wide)
    return torch.stack([red, green, torch.zeros_like(red)], dim=1)


def test_augmentation_is_reproducible_with_a_generator() -> None:
    pixels = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    before = pixels.clone()
    assert torch.equal(_augmented(pixels, 1), _augmented(pixels, 1))
    assert not torch.equal(_augmented(pixels, 1), _augmented(pixels, 2))
    assert torch.equal(pixels, before), "the input is unchanged"
    state = torch.get_rng_state()
    _augmented(pixels, 3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(8)
    first = augment(pixels)
    torch.manual_seed(8)
    assert torch.equal(augment(pixels), first)


def test_photographs_of_a_batch_are_augmented_independently() -> None:
    out = _augmented(_picture(6), 0)
    assert out.shape == (6, 3, 24, 36)
    assert torch.isfinite(out).all()
    assert all(not torch.allclose(out[0], out[row]) for row in range(1, 6))


def test_photographs_are_never_mirrored_or_rotated() -> None:
    out = _augmented(_picture(200), 4)
    across = (out[:, 0, :, 1:] - out[:, 0, :, :-1]).flatten(1).median(dim=1).values
    down = (out[:, 1, 1:, :] - out[:, 1, :-1, :]).flatten(1).median(dim=1).values
    assert (across > 0).all(), "red still grows to the right"
    assert (down > 0).all(), "green still grows downwards"


def test_crops_keep_most_of_the_picture() -> None:
    """Red grows from -1 to 1 across: its range after cropping, divided by the contrast, is the share of the side."""
    pixels = _picture(400)
    pixels[:, 1:] = pixels[:, :1]  # grey, which saturation does not change
    out = _augmented(pixels, 5)
    middle = out[:, 0, 12]
    share = (middle[:, -1] - middle[:, 0]).abs() / 2  # crop share x contrast (0.7 to 1.3)
    unoccluded = share[middle.diff(dim=1).abs().amax(dim=1) < 0.1]  # no edge of an occlusion in the row
    assert len(unoccluded) > 200
    assert unoccluded.min() > 0.7 * 0.65 - 0.06
    assert unoccluded.max() < 1.3 + 0.01
    assert unoccluded.std() > 0.05


def test_half_are_occluded_by_at_most_a_ninth() -> None:
    out = augment(torch.full((600, 3, 30, 30), 5.0), torch.Generator().manual_seed(2))
    hidden = (out == 0).all(dim=1).flatten(1).float().mean(dim=1)
    assert 0.35 < (hidden > 0).float().mean() < 0.55
    assert hidden.max() <= (11 / 30) ** 2


def test_colour_changes_are_within_bounds() -> None:
    out = augment(torch.zeros(500, 3, 8, 8), torch.Generator().manual_seed(3))
    shift = out.amax(dim=(2, 3))
    assert shift.abs().max() <= 0.55
    assert shift.mean(dim=1).std() > 0.1, "brightness"
    assert (shift - shift.mean(dim=1, keepdim=True)).std() > 0.03, "white balance"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_preserved(dtype: torch.dtype) -> None:
    assert augment(torch.randn(2, 3, 8, 8, dtype=dtype)).dtype == dtype
