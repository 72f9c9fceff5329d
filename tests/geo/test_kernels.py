"""Kernels against their closed forms, in NumPy and torch."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from swclip.errors import ConfigError
from swclip.geo.kernels import KernelName, kernel_weight, mixture_weight

KERNELS: tuple[KernelName, ...] = get_args(KernelName)
CLOSED_FORMS = {
    "exponential": lambda u: math.exp(-u),
    "gaussian": lambda u: math.exp(-u * u / 2),
    "bisquare": lambda u: (1 - u * u) ** 2 if u < 1 else 0.0,
    "tricube": lambda u: (1 - u**3) ** 3 if u < 1 else 0.0,
    "inverse-distance": lambda u: 1 / (1 + u),
}


@pytest.mark.parametrize("kernel", KERNELS)
@given(distance_m=st.floats(0.0, 2.1e7), bandwidth_m=st.floats(1e-3, 1e6))
def test_kernel_matches_its_closed_form(kernel: KernelName, distance_m: float, bandwidth_m: float) -> None:
    expected = CLOSED_FORMS[kernel](distance_m / bandwidth_m)
    assert float(kernel_weight(np.array([distance_m]), bandwidth_m, kernel)[0]) == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("kernel", KERNELS)
@given(distances_m=st.lists(st.floats(0.0, 1e6), min_size=1, max_size=20), bandwidth_m=st.floats(0.1, 1e5))
def test_torch_and_numpy_agree_and_weights_decrease(
    kernel: KernelName, distances_m: list[float], bandwidth_m: float
) -> None:
    distance = np.sort(np.array(distances_m))
    weight = kernel_weight(distance, bandwidth_m, kernel)
    tensor = kernel_weight(torch.from_numpy(distance), bandwidth_m, kernel)
    assert tensor.dtype == torch.float64
    np.testing.assert_allclose(tensor.numpy(), weight, rtol=1e-13, atol=1e-300)
    assert np.all((weight >= 0.0) & (weight <= 1.0))
    assert np.all(np.diff(weight) <= 1e-15)


@pytest.mark.parametrize("kernel", KERNELS)
def test_weight_at_distance_zero_is_one(kernel: KernelName) -> None:
    assert float(kernel_weight(np.zeros(1), 15.0, kernel)[0]) == 1.0


@pytest.mark.parametrize("kernel", ["bisquare", "tricube"])
def test_compact_kernels_are_zero_beyond_the_bandwidth(kernel: KernelName) -> None:
    weight = kernel_weight(np.array([14.999, 15.0, 15.001, 1e7]), 15.0, kernel)
    assert weight[0] > 0.0
    assert weight[1:].tolist() == [0.0, 0.0, 0.0]


def test_bandwidths_broadcast() -> None:
    distance = np.array([[0.0, 10.0], [20.0, 0.0]])
    bandwidth = np.array([[10.0], [20.0]])
    np.testing.assert_allclose(kernel_weight(distance, bandwidth), [[1.0, math.exp(-1)], [math.exp(-1), 1.0]])


@given(
    distances_m=st.lists(st.floats(0.0, 1e4), min_size=1, max_size=6),
    scales=st.lists(st.tuples(st.floats(1.0, 1e4), st.floats(0.1, 5.0)), min_size=1, max_size=4),
    kernel=st.sampled_from(KERNELS),
)
def test_mixture_is_the_weighted_mean_of_its_scales(
    distances_m: list[float], scales: list[tuple[float, float]], kernel: KernelName
) -> None:
    bandwidths, shares = [h for h, _ in scales], [share for _, share in scales]
    distance = np.array(distances_m)
    mixture = mixture_weight(distance, bandwidths, kernel, shares)
    for i, distance_m in enumerate(distances_m):
        parts = [share * CLOSED_FORMS[kernel](distance_m / h) for h, share in scales]
        assert mixture[i] == pytest.approx(sum(parts) / sum(shares), abs=1e-13)
    # At the edge of a compact kernel 1 - u^3 loses digits, and NumPy and torch round u^3 differently.
    atol = 1e-16 if kernel in ("bisquare", "tricube") else 1e-300
    in_torch = mixture_weight(torch.from_numpy(distance), bandwidths, kernel, shares).numpy()
    np.testing.assert_allclose(in_torch, mixture, rtol=1e-13, atol=atol)
    equal = mixture_weight(distance, bandwidths, kernel)
    np.testing.assert_allclose(equal, mixture_weight(distance, bandwidths, kernel, [2.0] * len(scales)))


def test_mixture_accepts_an_array_of_bandwidths() -> None:
    weight = mixture_weight(np.array([10.0]), np.array([10.0, 20.0]))  # type: ignore[arg-type]
    assert weight[0] == pytest.approx((math.exp(-1) + math.exp(-0.5)) / 2)


def test_every_kernel_is_differentiable() -> None:
    for kernel in KERNELS:
        distance = torch.tensor([0.3, 0.9, 4.0], dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda d, k=kernel: kernel_weight(d, 2.0, k), (distance,))


def test_rejects_unknown_kernels_and_invalid_bandwidths_and_shares() -> None:
    with pytest.raises(ConfigError, match=r"kernel 'cosine'.*exponential, gaussian, bisquare"):
        kernel_weight(np.zeros(1), 1.0, "cosine")  # type: ignore[arg-type]
    for bandwidth in (0.0, -1.0, float("nan"), 0):
        with pytest.raises(ConfigError, match="bandwidth of"):
            kernel_weight(np.zeros(1), bandwidth)
    with pytest.raises(ConfigError, match="at least one bandwidth"):
        mixture_weight(np.zeros(1), [])
    for shares in ([1.0], [1.0, -0.5], [0.0, 0.0]):
        with pytest.raises(ConfigError, match="mixture over 2 bandwidths"):
            mixture_weight(np.zeros(1), [1.0, 2.0], shares=shares)
