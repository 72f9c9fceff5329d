"""Coordinates to features: a multi-resolution hash grid, and random Fourier features, both defined on the sphere."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn
from torch.nn import functional as F

from swclip.geo.distance import EARTH_RADIUS_M

_PRIMES = (1, 2_654_435_761, 805_459_861)
# Tensors, since an exported graph stores Python numbers in float32, which resolve half a metre at the Earth's radius.
_RAD_PER_DEG = torch.tensor(math.pi / 180.0, dtype=torch.float64)
_RADIUS_M = torch.tensor(EARTH_RADIUS_M, dtype=torch.float64)


def ecef_m(positions_deg: Float64[Tensor, "b 2"]) -> Float64[Tensor, "b 3"]:
    """Points on the sphere of the mean Earth radius.

    Args:
        positions_deg: (B, 2) latitude, longitude in degrees.

    Returns:
        (B, 3) metres, in float64, since float32 resolves half a metre at this radius.
    """
    lat, lon = (positions_deg.to(torch.float64) * _RAD_PER_DEG).unbind(-1)
    return _RADIUS_M * torch.stack([lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()], dim=-1)


class HashGrid(nn.Module):
    """Features interpolated from learnable grids at several resolutions: continuous in the position.

    The grids are three-dimensional: a position is a point on the sphere, and its features are a mixture of those of the
    eight corners of its cube. There is no projection, no seam at the antimeridian and no special case at the poles, and
    one table serves cities anywhere.

    Args:
        levels: Number of resolutions.
        coarsest_m: Cube side of the first level, metres.
        finest_m: Cube side of the last level, metres.
        features: Features per level.
        log2_size: Rows of each level's table, as a power of two.

    References:
        T. Mueller, A. Evans, C. Schied, A. Keller, "Instant neural graphics primitives with a multiresolution hash
        encoding", ACM Trans. Graphics 41 (2022), section 3.

    Example:
        >>> grid = HashGrid(levels=4, coarsest_m=1000.0, finest_m=20.0, features=2, log2_size=10)
        >>> grid(torch.tensor([[52.2, 0.12]], dtype=torch.float64)).shape
        torch.Size([1, 8])
    """

    sides_m: Tensor
    shift: Tensor
    corners: Tensor

    def __init__(self, levels: int, coarsest_m: float, finest_m: float, features: int, log2_size: int) -> None:
        super().__init__()
        ratio = (finest_m / coarsest_m) ** (1.0 / max(levels - 1, 1))
        sides = coarsest_m * ratio ** torch.arange(levels, dtype=torch.float64)
        self.register_buffer("sides_m", sides, persistent=False)
        # The lattices are shifted relative to each other, so that their kinks are at different places.
        golden = torch.tensor([0.754878, 0.569840, 0.430160], dtype=torch.float64)
        self.register_buffer(
            "shift", (torch.arange(levels, dtype=torch.float64)[:, None] * golden) % 1.0, persistent=False
        )
        corners = torch.tensor([[(c >> a) & 1 for a in range(3)] for c in range(8)], dtype=torch.int64)
        self.register_buffer("corners", corners, persistent=False)
        self.rows = 1 << log2_size
        self.table = nn.Embedding(levels * self.rows, features)
        nn.init.normal_(self.table.weight, std=0.1)
        self.output_dim = levels * features

    def forward(self, positions_deg: Float64[Tensor, "b 2"]) -> Float[Tensor, "b f"]:
        """Features (B, levels x features) of positions (B, 2) in degrees."""
        levels = self.sides_m.shape[0]
        lattice = ecef_m(positions_deg)[:, None, :] / self.sides_m[:, None] + self.shift  # (B, L, 3)
        low = lattice.floor()
        part = (lattice - low).to(torch.float32)
        nodes = low.to(torch.int64)[:, :, None, :] + self.corners  # (B, L, 8, 3)
        x, y, z = (nodes[..., a] * _PRIMES[a] for a in range(3))
        rows = ((x ^ y ^ z) & (self.rows - 1)) + torch.arange(levels, device=nodes.device)[:, None] * self.rows
        weight = torch.where(self.corners.bool(), part[:, :, None, :], 1.0 - part[:, :, None, :]).prod(dim=-1)
        features: Tensor = (self.table(rows) * weight[..., None]).sum(dim=2).flatten(1)
        # Interpolation shrinks features between nodes; only their direction should have an effect.
        return F.layer_norm(features, features.shape[-1:])


class FourierEncoder(nn.Module):
    """Random Fourier features at several scales, one small network each, summed (GeoCLIP's location encoder).

    The features are functions of the point on the sphere, in metres, so that a scale is a geographic wavelength. Those
    of GeoCLIP are functions of an equal-earth map scaled to [-1, 1], on which its sigmas 1, 16 and 256 are wavelengths
    of 17,200, 1,080 and 67 km. Within a city the map is nearly linear, so that only the wavelengths matter.

    Args:
        wavelengths_m: The scales, metres: frequencies are drawn with standard deviation 1 / wavelength.
        features: Frequencies per scale.
        hidden_width: Width of the hidden layers.
        output_dim: D.
        layers: Hidden layers of each network; GeoCLIP has 3.
        activation: `gelu`, or GeoCLIP's `relu`.

    References:
        V. Vivanco Cepeda, G. K. Nayak, M. Shah, "GeoCLIP: Clip-inspired alignment between locations and images for
        effective worldwide geo-localization", NeurIPS 2023, section 3.2.
    """

    frequencies: Tensor

    def __init__(
        self,
        wavelengths_m: tuple[float, ...],
        features: int,
        hidden_width: int,
        output_dim: int,
        layers: int = 2,
        activation: Literal["gelu", "relu"] = "gelu",
    ) -> None:
        super().__init__()
        scales = torch.tensor(wavelengths_m, dtype=torch.float64)
        draws = torch.randn(len(wavelengths_m), 3, features, dtype=torch.float64)
        self.register_buffer("frequencies", 2.0 * math.pi * draws / scales[:, None, None])
        self.networks = nn.ModuleList(
            mlp(2 * features, hidden_width, output_dim, layers, activation) for _ in wavelengths_m
        )
        self.output_dim = output_dim

    def forward(self, positions_deg: Float64[Tensor, "b 2"]) -> Float[Tensor, "b d"]:
        """Embeddings (B, D), not normalised, of positions (B, 2) in degrees."""
        point = ecef_m(positions_deg)
        total = torch.zeros((), device=point.device)
        for frequencies, network in zip(self.frequencies, self.networks, strict=True):
            phase = point @ frequencies
            total = total + network(torch.cat([phase.cos(), phase.sin()], dim=-1).to(torch.float32))
        return total


def mlp(
    input_dim: int, hidden_width: int, output_dim: int, layers: int = 2, activation: Literal["gelu", "relu"] = "gelu"
) -> nn.Sequential:
    """A multilayer perceptron.

    Args:
        input_dim: Number of inputs.
        hidden_width: Width of the hidden layers.
        output_dim: Number of outputs.
        layers: Number of hidden layers.
        activation: Activation after each of them.
    """
    widths = [input_dim, *[hidden_width] * layers]
    hidden = [
        module
        for before, after in pairwise(widths)
        for module in (nn.Linear(before, after), nn.GELU() if activation == "gelu" else nn.ReLU())
    ]
    return nn.Sequential(*hidden, nn.Linear(hidden_width, output_dim))
