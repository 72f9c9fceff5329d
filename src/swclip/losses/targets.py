"""Soft targets: the share of each photograph's target on each location of a batch, from their distances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from swclip.errors import ConfigError
from swclip.geo.distance import pairwise_haversine_m
from swclip.geo.kernels import KernelName, mixture_weight


@dataclass(frozen=True)
class TargetConfig:
    """The decay of the soft targets with geographic distance.

    Args:
        alpha: Share of the target that the kernel spreads over nearby locations, 0 to 1. 0 is CLIP's one-hot target.
        kernel: `exponential`, `gaussian`, `bisquare`, `tricube` or `inverse-distance`.
        bandwidths_m: Bandwidth in metres; several are a mixture of scales (street, neighbourhood, city).
        shares: The weight of each scale of the mixture; equal where None.
        gps_noise: Widen the bandwidth of a pair by the accuracies of both its photographs.
        default_accuracy_m: 1-sigma GPS accuracy in metres of a photograph without one.
        missing_accuracy: The accuracy assumed for such a photograph: `default`, or `median`, that of the training
            photographs with an accuracy (`default_accuracy_m` where there are none). The training loop fills it in,
            since the median of a batch differs from batch to batch.

    Raises:
        ConfigError: A value that cannot work.
    """

    alpha: float = 1.0
    kernel: KernelName = "exponential"
    bandwidths_m: tuple[float, ...] = (25.0,)
    shares: tuple[float, ...] | None = None
    gps_noise: bool = True
    default_accuracy_m: float = 0.0
    missing_accuracy: Literal["default", "median"] = "default"

    def __post_init__(self) -> None:
        if not 0.0 <= self.alpha <= 1.0:
            raise ConfigError(f"alpha {self.alpha} is not between 0 (one-hot, as in CLIP) and 1 (all by distance).")
        check_kernel(self.kernel, self.bandwidths_m, self.shares)
        if not (math.isfinite(self.default_accuracy_m) and self.default_accuracy_m >= 0.0):
            raise ConfigError(f"default_accuracy_m {self.default_accuracy_m} must be 0 or more metres.")
        if self.missing_accuracy not in ("default", "median"):
            raise ConfigError(f"missing_accuracy {self.missing_accuracy!r} is not known; choose 'default' or 'median'.")


def check_kernel(kernel: str, bandwidths_m: Sequence[float], shares: Sequence[float] | None = None) -> None:
    """Refuse a kernel, bandwidths or shares that cannot work.

    Args:
        kernel: The kernel's name.
        bandwidths_m: Bandwidths in metres.
        shares: The weight of each; None for equal weights.

    Raises:
        ConfigError: The message has the value and the allowed ones.
    """
    if kernel not in get_args(KernelName):
        raise ConfigError(f"kernel {kernel!r} is not known; choose one of {', '.join(get_args(KernelName))}.")
    if not bandwidths_m:
        raise ConfigError("bandwidths_m is empty; give at least one bandwidth in metres.")
    for bandwidth in bandwidths_m:
        if not (math.isfinite(bandwidth) and bandwidth > 0.0):
            raise ConfigError(f"bandwidth {bandwidth} m must be a positive, finite number of metres.")
    if shares is None:
        return
    if len(shares) != len(bandwidths_m):
        raise ConfigError(f"{len(shares)} shares for {len(bandwidths_m)} bandwidths; give one share per bandwidth.")
    if not all(math.isfinite(share) and share >= 0.0 for share in shares) or sum(shares) <= 0.0:
        raise ConfigError(f"shares {tuple(shares)} must be 0 or more, with a positive sum.")


def pairwise_distance_m(
    a_deg: Float64[Tensor, "a 2"], b_deg: Float64[Tensor, "b 2"] | None = None
) -> Float64[Tensor, "a b"]:
    """Great-circle distances between two sets of positions, or within one.

    Args:
        a_deg: (A, 2) latitude, longitude in degrees.
        b_deg: (B, 2) latitude, longitude in degrees; `a_deg` itself where None.

    Returns:
        (A, B) metres, float64: float32 resolves longitudes to about a metre only.

    Example:
        >>> positions_deg = torch.tensor([[0.0, 179.999], [0.0, -179.999]], dtype=torch.float64)
        >>> pairwise_distance_m(positions_deg)[0, 1].round().item()
        222.0
    """
    distance_m: Tensor = pairwise_haversine_m(a_deg, a_deg if b_deg is None else b_deg)
    return distance_m


def pair_weights(
    distance_m: Float[Tensor, "a b"],
    kernel: KernelName,
    bandwidths_m: Sequence[float],
    shares: Sequence[float] | None = None,
    accuracy_a: Float[Tensor, " a"] | None = None,
    accuracy_b: Float[Tensor, " b"] | None = None,
    default_accuracy_m: float = 0.0,
    bandwidth_scale_a: Float[Tensor, " a"] | None = None,
    bandwidth_scale_b: Float[Tensor, " b"] | None = None,
) -> Float[Tensor, "a b"]:
    """Kernel K(d_ij; h_ij) of each pair, with h_ij^2 = h^2 g_i g_j + a_i^2 + a_j^2.

    A kernel is 1 at distance 0 for every bandwidth, so that the weight of a photograph with itself, and with others at
    the same position, is 1 for every accuracy: uncertainty only increases the weights of the surroundings.

    Args:
        distance_m: (A, B) metres.
        kernel: The kernel's name.
        bandwidths_m: Bandwidths h in metres, one per scale.
        shares: The weight of each scale; equal where None.
        accuracy_a: (A,) 1-sigma GPS accuracies of the rows in metres; the default where NaN, or where None.
        accuracy_b: (B,) the same for the columns.
        default_accuracy_m: The accuracy assumed where it is unknown, metres.
        bandwidth_scale_a: (A,) factor g on the bandwidths of each row, where they differ by place; 1 where None.
        bandwidth_scale_b: (B,) the same for the columns.

    Returns:
        (A, B) weights in [0, 1], in the type of the distances.

    Raises:
        ConfigError: An accuracy is negative.
    """
    scaled: list[float | Tensor] = list(bandwidths_m)
    if bandwidth_scale_a is not None or bandwidth_scale_b is not None:
        both = _bandwidth_scale(bandwidth_scale_a, distance_m.shape[0], distance_m)[:, None] * _bandwidth_scale(
            bandwidth_scale_b, distance_m.shape[1], distance_m
        )
        scaled = [bandwidth * both.sqrt() for bandwidth in bandwidths_m]
    if accuracy_a is None and accuracy_b is None and default_accuracy_m == 0.0:
        plain: Tensor = mixture_weight(distance_m, scaled, kernel, shares)
        return plain
    variance = _variance(accuracy_a, distance_m.shape[0], default_accuracy_m, distance_m)[:, None]
    variance = variance + _variance(accuracy_b, distance_m.shape[1], default_accuracy_m, distance_m)
    widened = [(bandwidth**2 + variance).sqrt() for bandwidth in scaled]
    weights: Tensor = mixture_weight(distance_m, widened, kernel, shares)
    return weights


def _bandwidth_scale(scale: Float[Tensor, " n"] | None, n: int, like: Tensor) -> Float[Tensor, " n"]:
    return like.new_ones(n) if scale is None else scale.to(like)


def _variance(accuracy_m: Float[Tensor, " n"] | None, n: int, default_m: float, like: Tensor) -> Float[Tensor, " n"]:
    if accuracy_m is None:
        return like.new_full((n,), default_m**2)
    stated = accuracy_m.to(like)
    if bool((stated < 0.0).any()):
        raise ConfigError(f"accuracy {stated.min().item()} m is negative; state NaN where the accuracy is unknown.")
    return torch.where(stated.isnan(), default_m, stated) ** 2


def match_matrix(
    n_rows: int, n_columns: int, first_match: int = 0, device: torch.device | None = None
) -> Float64[Tensor, "n_rows n_columns"]:
    """One-hot rows (n_rows, n_columns): column `first_match` + i matches row i."""
    match = torch.zeros((n_rows, n_columns), dtype=torch.float64, device=device)
    match.diagonal(first_match).fill_(1.0)
    return match


def soft_targets(
    distance_m: Float64[Tensor, "a b"],
    config: TargetConfig,
    accuracy_a: Float[Tensor, " a"] | None = None,
    accuracy_b: Float[Tensor, " b"] | None = None,
    *,
    first_match: int = 0,
    bandwidth_scale_a: Float[Tensor, " a"] | None = None,
    bandwidth_scale_b: Float[Tensor, " b"] | None = None,
) -> Float64[Tensor, "a b"]:
    """Target distribution of each row over the columns.

        T_ij = (1 - alpha) [i = j] + alpha K(d_ij; h_ij) / sum_k K(d_ik; h_ik)

    Within one batch distances and accuracies are symmetric, so that the same matrix serves both directions: row j is
    also the target of location j over the photographs.

    Photographs at one position (the headings of a panorama) share the kernel's mass equally; with alpha = 0 they are
    negatives of each other, as in CLIP.

    Args:
        distance_m: (A, B) geographic distances in metres from each row's position to each column's.
        config: alpha, kernel, bandwidths, GPS noise.
        accuracy_a: (A,) 1-sigma GPS accuracies of the rows in metres, NaN where unknown. Not used without
            `config.gps_noise`.
        accuracy_b: (B,) the same for the columns; for a square matrix `accuracy_a` where None.
        first_match: The column that matches row 0; above 0 where the rows are one process's part of a batch.
        bandwidth_scale_a: (A,) factor on the bandwidths of each row; that of a pair is the geometric mean of both, so
            that the matrix of a batch is symmetric. 1 where None.
        bandwidth_scale_b: (B,) the same for the columns; for a square matrix `bandwidth_scale_a` where None.

    Returns:
        (A, B) float64, non-negative; rows sum to 1. A row whose kernel is 0 at all columns has its match as target.

    Raises:
        ConfigError: Rows have no match among the columns, or an accuracy is negative.

    Example:
        >>> distance_m = torch.tensor([[0.0, 25.0], [25.0, 0.0]], dtype=torch.float64)
        >>> soft_targets(distance_m, TargetConfig(bandwidths_m=(25.0,)))[0].numpy().round(3).tolist()
        [0.731, 0.269]
    """
    n_rows, n_columns = distance_m.shape
    if not 0 <= first_match <= n_columns - n_rows:
        raise ConfigError(f"{n_rows} rows from match {first_match} do not fit into {n_columns} columns.")
    match = match_matrix(n_rows, n_columns, first_match, distance_m.device)
    if config.alpha == 0.0:
        return match
    if bandwidth_scale_b is None and n_rows == n_columns:
        bandwidth_scale_b = bandwidth_scale_a
    if not config.gps_noise:
        weights = pair_weights(
            distance_m,
            config.kernel,
            config.bandwidths_m,
            config.shares,
            bandwidth_scale_a=bandwidth_scale_a,
            bandwidth_scale_b=bandwidth_scale_b,
        )
    else:
        if accuracy_b is None and n_rows == n_columns:
            accuracy_b = accuracy_a
        weights = pair_weights(
            distance_m,
            config.kernel,
            config.bandwidths_m,
            config.shares,
            accuracy_a,
            accuracy_b,
            config.default_accuracy_m,
            bandwidth_scale_a,
            bandwidth_scale_b,
        )
    mass = weights.sum(dim=1, keepdim=True)
    spread = torch.where(mass > 0.0, weights / mass, match)
    return (1.0 - config.alpha) * match + config.alpha * spread
