"""Input of the losses: accepted if valid, else refused with the row and a remedy."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from swclip.errors import InputError
from swclip.geo.distance import haversine_m
from swclip.losses.checked_input import (
    checked_accuracies,
    checked_bandwidth_scale,
    checked_embeddings,
    checked_logit_scale,
    checked_pair,
    checked_positions,
    checked_region_ids,
    rounding_m,
)

LEEDS = np.array([[53.8, -1.55], [53.8001, -1.5502], [53.9, -1.6]])


@pytest.mark.parametrize(
    "positions_deg",
    [
        LEEDS,
        LEEDS.astype(">f8"),
        LEEDS.astype(np.longdouble),
        LEEDS[::-1][::-1],
        np.asfortranarray(LEEDS),
        torch.from_numpy(LEEDS),
        LEEDS.tolist(),
        [tuple(row) for row in LEEDS],
        pd.DataFrame(LEEDS, columns=["lat_deg", "lon_deg"]),
    ],
)
def test_positions_of_any_container_are_the_same_numbers(positions_deg):
    positions = checked_positions(positions_deg, 3)
    assert positions.dtype == torch.float64
    assert np.array_equal(positions.numpy(), LEEDS)


def test_an_array_that_cannot_be_written_to_is_copied():
    frozen = LEEDS.copy()
    frozen.flags.writeable = False
    positions = checked_positions(frozen, 3)
    positions += 1.0
    assert np.array_equal(frozen, LEEDS)


def test_whole_degrees_are_exact():
    assert checked_positions(np.array([[53, -1]]), 1).tolist() == [[53.0, -1.0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@given(lat_deg=st.floats(-89.9, 89.9), lon_deg=st.floats(-180.0, 180.0))
def test_no_rounding_moves_a_position_further_than_stated(dtype, lat_deg, lon_deg):
    exact = torch.tensor([[lat_deg, lon_deg]], dtype=torch.float64)
    rounded = exact.to(dtype)
    moved_m = haversine_m(*exact[0], *rounded[0].double()).item()
    # The bound is of small moves; those of half precision are of kilometres, where cos(latitude) changes on the way.
    assert moved_m <= rounding_m(rounded).item() * (1.001 if dtype == torch.float32 else 2.0) + 1e-6


def test_the_metres_stated_are_half_the_spacing_of_the_numbers():
    values = np.array([[51.5074, -0.1278], [53.8, -1.55], [-36.85, 174.76]], dtype=np.float32)
    metres = np.radians(0.5 * np.spacing(np.abs(values)).astype(np.float64)) * 6_371_008.8
    metres[:, 1] *= np.cos(np.radians(values[:, 0].astype(np.float64)))
    assert rounding_m(torch.from_numpy(values)).tolist() == pytest.approx(np.hypot(*metres.T).tolist(), rel=1e-9)


@pytest.mark.parametrize("wrap", [lambda a: a, torch.from_numpy])
def test_float32_is_refused_with_the_metres_it_loses(wrap):
    values = np.array([[53.8, -1.55], [-36.85, 174.76]], dtype=np.float32)
    lost_m = rounding_m(torch.from_numpy(values))[1].item()
    assert 0.5 < lost_m < 1.0
    with pytest.raises(
        InputError, match=rf"is float32, which moves row 1 .*174\.76.* by up to {lost_m:.2g} m"
    ) as refused:
        checked_positions(wrap(values), 2)
    assert "dtype=torch.float64" in str(refused.value)


@pytest.mark.parametrize(
    ("positions_deg", "message"),
    [
        (LEEDS[:2], "has 2 rows and the embeddings 3"),
        (LEEDS[:, :1], r"shape \(3, 1\)"),
        (LEEDS[0], r"shape \(2,\)"),
        ([torch.from_numpy(LEEDS[:, 0]), torch.from_numpy(LEEDS[:, 1])], r"shape \(2, 3\).*Transpose"),
        (np.where(np.arange(3)[:, None] == 1, math.nan, LEEDS), r"row 1 is \(nan, nan\)"),
        ([[1.0, 2.0], [1.0, math.inf], [0.0, 0.0]], r"row 1 is \(1, inf\)"),
        (
            [[35.0, 139.7], [139.7, 35.68], [0.0, 0.0]],
            r"row 1 has latitude 139\.7; .*\(longitude, lat.*\[1, 0\]",
        ),
        ([[35.0, 139.7], [35.0, 220.3], [0.0, 0.0]], r"row 1 has longitude 220\.3.*subtract 360"),
        ([[5961000.0, 430000.0]] * 3, r"row 0 is \(5961000, 430000\).*not projected coordinates"),
        ([["53.8 N", "1.55 W"]] * 3, "does not contain numbers"),
        ([[1.0, 2.0], [3.0], [4.0, 5.0]], "does not contain numbers"),
    ],
)
def test_invalid_positions_are_refused(positions_deg, message):
    with pytest.raises(InputError, match=message):
        checked_positions(positions_deg, 3)


def test_embeddings_are_divided_by_their_length_in_float32_at_least():
    rows = torch.randn(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    unit = checked_embeddings(rows, "image_embeddings", normalize=True)
    assert torch.equal(unit, F.normalize(rows, dim=1))
    assert unit.requires_grad
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = checked_embeddings(100.0 * rows.to(torch.bfloat16), "image_embeddings", normalize=True)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half.norm(dim=1), torch.ones(5))


def test_without_normalising_unit_vectors_are_passed_through():
    unit = F.normalize(torch.randn(5, 64, generator=torch.Generator().manual_seed(0)), dim=1)
    assert checked_embeddings(unit, "image_embeddings", normalize=False) is unit
    rounded = unit.bfloat16().float()
    assert checked_embeddings(rounded, "image_embeddings", normalize=False) is rounded
    longer = unit * torch.tensor([1.0, 1.0, 1.0, 2.5, 1.0])[:, None]
    with pytest.raises(InputError, match=r"row 3 has length 2\.5 and not 1 \(off by 1\.5; 1 of 5 .*normalize=True"):
        checked_embeddings(longer, "image_embeddings", normalize=False)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.ones((2, 3)), "image_embeddings is ndarray"),
        (torch.ones(2, 3, dtype=torch.int64), r"is torch\.int64"),
        (torch.ones(3), r"shape \(3,\)"),
        (torch.ones(0, 3), r"shape \(0, 3\)"),
        (torch.tensor([[1.0, 0.0], [1.0, math.nan]]), "row 1 is not finite"),
    ],
)
@pytest.mark.parametrize("normalize", [True, False])
def test_invalid_embeddings_are_refused(rows, message, normalize):
    with pytest.raises(InputError, match=message):
        checked_embeddings(rows, "image_embeddings", normalize)


def test_a_pair_of_different_shapes_is_refused():
    with pytest.raises(InputError, match=r"\(4, 3\) and location_embeddings \(5, 3\)"):
        checked_pair(torch.ones(4, 3), torch.ones(5, 3), True)


def test_accuracies():
    assert checked_accuracies(None, 2) is None
    accuracies = checked_accuracies(np.array([3.0, np.nan], dtype=np.float32), 2)
    assert accuracies.dtype == torch.float64
    assert accuracies[0] == 3.0
    assert accuracies[1].isnan()
    for wrong, message in (([3.0, -2.0], "row 1 is -2"), ([3.0, math.inf], "row 1 is inf"), ([3.0], "has 1 rows")):
        with pytest.raises(InputError, match=f"accuracy_m.*{message}"):
            checked_accuracies(wrong, 2)


def test_bandwidth_scales():
    assert checked_bandwidth_scale(None, 2) is None
    assert checked_bandwidth_scale(1.5, 2).tolist() == [1.5, 1.5]
    assert checked_bandwidth_scale(np.array([1.0, 2.0]), 2).tolist() == [1.0, 2.0]
    for wrong in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="bandwidth_scale: row 1 is"):
            checked_bandwidth_scale([1.0, wrong], 2)


def test_region_ids():
    assert checked_region_ids(np.array([3, -1], dtype=np.int32), 2).tolist() == [3, -1]
    assert checked_region_ids([0, 1], 2).dtype == torch.int64
    for wrong, message in (([0.0, 1.0], "is float64"), ([True, False], "is bool"), ([0, 1, 2], "has 3 rows")):
        with pytest.raises(InputError, match=f"region_ids {message}"):
            checked_region_ids(wrong, 2)
    with pytest.raises(InputError, match="region_ids does not contain numbers"):
        checked_region_ids(["Leeds", "York"], 2)


def test_a_logit_scale_is_a_logarithm():
    device = torch.device("cpu")
    learned = torch.nn.Parameter(torch.tensor([2.6]))
    assert checked_logit_scale(learned, device).requires_grad
    assert checked_logit_scale(learned, device).shape == ()
    assert checked_logit_scale(math.log(100.0), device).item() == pytest.approx(math.log(100.0))
    for scale in (1 / 0.07, 100.0, math.nan):
        with pytest.raises(InputError, match=r"is the logarithm of the softmax scale.*pass its log\(\)"):
            checked_logit_scale(torch.tensor(scale), device)
    with pytest.raises(InputError, match=r"shape \(2,\)"):
        checked_logit_scale(torch.ones(2), device)
