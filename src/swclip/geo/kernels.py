"""Spatial kernels: how the weight of a neighbour falls with ground distance.

Written once for NumPy and torch (array API): the loss uses them on tensors, the posterior and the sampler on arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import array_api_compat

from swclip.errors import ConfigError

KernelName = Literal["exponential", "gaussian", "bisquare", "tricube", "inverse-distance"]


def _exponential(u: Any) -> Any:
    return array_api_compat.array_namespace(u).exp(-u)


def _gaussian(u: Any) -> Any:
    return array_api_compat.array_namespace(u).exp(-0.5 * u**2)


def _bisquare(u: Any) -> Any:
    xp = array_api_compat.array_namespace(u)
    return xp.clip(1.0 - u**2, 0.0, 1.0) ** 2


def _tricube(u: Any) -> Any:
    xp = array_api_compat.array_namespace(u)
    return xp.clip(1.0 - u**3, 0.0, 1.0) ** 3


def _inverse_distance(u: Any) -> Any:
    # 1 / (1 + u): finite at distance 0, where a place meets itself.
    return 1.0 / (1.0 + u)


_KERNELS: dict[str, Callable[[Any], Any]] = {
    "exponential": _exponential,
    "gaussian": _gaussian,
    "bisquare": _bisquare,
    "tricube": _tricube,
    "inverse-distance": _inverse_distance,
}
assert set(_KERNELS) == set(get_args(KernelName))


# Where a kernel has fallen to 1/e, in bandwidths.
_REACH: dict[str, float] = {
    "exponential": 1.0,
    "gaussian": math.sqrt(2.0),
    "bisquare": math.sqrt(1.0 - math.exp(-0.5)),
    "tricube": (1.0 - math.exp(-1.0 / 3.0)) ** (1.0 / 3.0),
    "inverse-distance": math.e - 1.0,
}


def kernel_reach(kernel: KernelName) -> float:
    """Where a kernel has fallen to 1/e, in bandwidths: what makes bandwidths of different kernels comparable.

    Raises:
        ConfigError: The kernel is not known.

    Example:
        >>> kernel_reach("exponential"), round(kernel_reach("gaussian"), 3)
        (1.0, 1.414)
    """
    if kernel not in _REACH:
        raise ConfigError(f"kernel {kernel!r} is not known; choose one of {', '.join(_KERNELS)}.")
    return _REACH[kernel]


def kernel_weight(distance_m: Any, bandwidth_m: Any, kernel: KernelName = "exponential") -> Any:
    """Kernel K(d; h), 1 at distance 0 and falling with d / h.

    Args:
        distance_m: Ground distances in metres, any shape.
        bandwidth_m: Bandwidth h in metres: a number, or an array that broadcasts against the distances.
        kernel: exponential exp(-u), gaussian exp(-u^2/2), bisquare (1-u^2)^2 and tricube (1-u^3)^3 with compact
            support u <= 1, inverse-distance 1/(1+u); u = d/h.

    Returns:
        Weights in [0, 1], broadcast shape.

    Raises:
        ConfigError: The kernel is not known, or the bandwidth is a number that is not positive.

    References:
        A. S. Fotheringham, C. Brunsdon, M. Charlton, "Geographically Weighted Regression" (2002), ch. 2.

    Example:
        >>> import numpy as np
        >>> kernel_weight(np.array([0.0, 15.0]), 15.0).round(3).tolist()
        [1.0, 0.368]
    """
    try:
        function = _KERNELS[kernel]
    except KeyError:
        raise ConfigError(f"kernel {kernel!r} is not known; choose one of {', '.join(_KERNELS)}.") from None
    # An array is not looked at: it would wait for the device, and its maker has checked what it is made from.
    if isinstance(bandwidth_m, (int, float)) and not bandwidth_m > 0:
        raise ConfigError(f"a bandwidth of {bandwidth_m} m weighs nothing; give a positive number of metres.")
    return function(distance_m / bandwidth_m)


def mixture_weight(
    distance_m: Any,
    bandwidths_m: Sequence[Any],
    kernel: KernelName = "exponential",
    shares: Sequence[float] | None = None,
) -> Any:
    """Mixture of one kernel over several scales, such as street, neighbourhood and city.

    Args:
        distance_m: Ground distances in metres, any shape.
        bandwidths_m: One bandwidth a scale, metres; numbers or arrays that broadcast.
        kernel: The kernel's name.
        shares: The weight of each scale; equal where None. They are normalised to sum to 1.

    Returns:
        Weights in [0, 1].

    Raises:
        ConfigError: No bandwidths, or shares of another length or that do not sum to a positive number.
    """
    if len(bandwidths_m) == 0:
        raise ConfigError("a mixture of kernels needs at least one bandwidth.")
    weights = [1.0] * len(bandwidths_m) if shares is None else list(shares)
    if len(weights) != len(bandwidths_m) or sum(weights) <= 0 or min(weights) < 0:
        raise ConfigError(
            f"a mixture over {len(bandwidths_m)} bandwidths needs as many non-negative shares, not {weights}."
        )
    total = sum(weights)
    mixture = (weights[0] / total) * kernel_weight(distance_m, bandwidths_m[0], kernel)
    for share, bandwidth in zip(weights[1:], bandwidths_m[1:], strict=True):
        mixture = mixture + (share / total) * kernel_weight(distance_m, bandwidth, kernel)
    return mixture
