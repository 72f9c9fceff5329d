"""Pairs of a batch in tiles: the kernel of each tile, and which tiles are within its reach.

Positions are sorted along a curve, so that a tile is a small part of the Earth. Where two tiles are farther apart than
the kernel reaches, their weights are 0 and no distance is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from swclip.geo.distance import EARTH_RADIUS_M
from swclip.geo.kernels import kernel_cutoff
from swclip.losses.batch import Places
from swclip.losses.targets import TargetConfig, pair_weights

_SHORT_M = 20_000.0
"""Chords of up to this length become arcs by two terms of a series, with a relative error below 1e-12."""

LOST_MASS = 1e-8
"""Largest share of a row's kernel that is left out beyond its reach."""


@dataclass(frozen=True)
class PairKernel:
    """The kernel of all pairs of rows and columns.

    Attributes:
        row_deg: (B, 2) latitude, longitude of the rows in degrees.
        column_deg: (N, 2) of the columns; `row_deg` itself where they are the same photographs.
        match: (B,) the column of each row's own photograph.
        weights: Kernel weights (A, C) of a tile, from its distances in metres, its rows (A,) and its columns (C,).
        row_reach_m: (B,) a pair farther apart than the reaches of both has no weight; infinite for long tails.
        column_reach_m: (N,) of the columns.
        alpha: Share of the target that the kernel spreads; with 0 no distance is computed.
        without_self: A row's own photograph is not among its candidates, as for neighbourhoods.
        least_mass: Rows with a smaller sum of the kernel have no target, and divergence 0.
    """

    row_deg: Float64[Tensor, "b 2"]
    column_deg: Float64[Tensor, "n 2"]
    match: Int64[Tensor, " b"]
    weights: Callable[[Tensor, Tensor, Tensor], Tensor]
    row_reach_m: Float64[Tensor, " b"]
    column_reach_m: Float64[Tensor, " n"]
    alpha: float = 1.0
    without_self: bool = False
    least_mass: float = 0.0


def pair_kernel(
    config: TargetConfig,
    rows: Places,
    columns: Places,
    match: Int64[Tensor, " b"],
    *,
    without_self: bool = False,
    least_mass: float = 1.0,
) -> PairKernel:
    """The kernel of soft targets, or of neighbourhoods.

    Args:
        config: alpha, kernel, bandwidths, and the accuracy of photographs without one.
        rows: The rows: positions, accuracies and bandwidth scales of all of `rows.positions_deg`.
        columns: The columns; `rows` itself where they are the same photographs.
        match: (B,) the column of each row's own photograph.
        without_self: See `PairKernel`.
        least_mass: Smallest sum of the kernel of a row with a target: 1, the kernel of a photograph with itself, or
            less where it is left out.
    """
    cutoff = kernel_cutoff(config.kernel, LOST_MASS * least_mass / max(1, len(columns.positions_deg)))

    def reach_m(places: Places) -> Tensor:
        # h_ij^2 = h^2 g_i g_j + a_i^2 + a_j^2 is at most the larger of h^2 g_i^2 + 2 a_i^2 and the same of j.
        count, like = len(places.positions_deg), places.positions_deg
        scale = like.new_ones(count) if places.bandwidth_scale is None else places.bandwidth_scale.to(like)
        accuracy_m = like.new_full((count,), torch.nan) if places.accuracy_m is None else places.accuracy_m.to(like)
        accuracy_m = accuracy_m.nan_to_num(config.default_accuracy_m)
        return cutoff * ((max(config.bandwidths_m) * scale).square() + 2.0 * accuracy_m.square()).sqrt()

    def part(values: Tensor | None, numbers: Tensor) -> Tensor | None:
        return None if values is None else values[numbers.to(values.device)]

    def weights(distance_m: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return pair_weights(
            distance_m,
            config.kernel,
            config.bandwidths_m,
            config.shares,
            part(rows.accuracy_m, a),
            part(columns.accuracy_m, b),
            config.default_accuracy_m,
            part(rows.bandwidth_scale, a),
            part(columns.bandwidth_scale, b),
        )

    return PairKernel(
        rows.positions_deg,
        columns.positions_deg,
        match,
        weights,
        reach_m(rows),
        reach_m(columns),
        config.alpha,
        without_self,
        least_mass if without_self else 0.0,
    )


class _Side:
    """Rows or columns, sorted so that a tile is a small part of the Earth."""

    def __init__(self, positions_deg: Tensor, reach_m: Tensor, tile: int, sort: bool, device: torch.device) -> None:
        count = len(positions_deg)
        self.slices = [slice(start, min(start + tile, count)) for start in range(0, count, tile)]
        if not sort:
            self.order = torch.arange(count, device=device)
            return
        xyz_m = _xyz_m(positions_deg)
        order = _along_a_curve(xyz_m)
        self.order, self.xyz_m, reach_m = order.to(device), xyz_m[order].to(device), reach_m[order].to(device)
        boxes = [self.xyz_m[part] for part in self.slices]
        self.centres = torch.stack([box.mean(dim=0) for box in boxes])
        self.radii_m = torch.stack([(box - c).norm(dim=1).amax() for box, c in zip(boxes, self.centres, strict=True)])
        self.reach_m = torch.stack([reach_m[part].amax() for part in self.slices])

    def restored(self, values: Tensor) -> Tensor:
        """Sorted values in the order of the batch."""
        out = torch.empty_like(values)
        out[self.order] = values
        return out


class PairTiles:
    """The tiles of a batch, and which of them are within the kernel's reach."""

    def __init__(self, kernel: PairKernel, tile: int, device: torch.device) -> None:
        self.kernel, spatial = kernel, kernel.alpha > 0.0
        self.rows = _Side(kernel.row_deg, kernel.row_reach_m, tile, spatial, device)
        self.columns = self.rows
        if kernel.column_deg is not kernel.row_deg:
            self.columns = _Side(kernel.column_deg, kernel.column_reach_m, tile, spatial, device)
        self.match = kernel.match.to(device)[self.rows.order]
        shape = (len(self.rows.slices), len(self.columns.slices))
        self._near = self._long = [[False] * shape[1]] * shape[0]
        if spatial:
            apart_m = torch.cdist(self.rows.centres, self.columns.centres)
            radii_m = self.rows.radii_m[:, None] + self.columns.radii_m
            reach_m = torch.maximum(self.rows.reach_m[:, None], self.columns.reach_m)
            self._near = (apart_m - radii_m <= reach_m).tolist()
            self._long = (apart_m + radii_m > _SHORT_M).tolist()

    def __call__(self, rows: Tensor, columns: Tensor) -> Iterator[tuple[slice, slice, Tensor, Tensor | None]]:
        """Slices of sorted rows (B, D) and columns (N, D), their products, and their kernel or None where it is 0."""
        for i, part in enumerate(self.rows.slices):
            for j, others in enumerate(self.columns.slices):
                logits = rows[part] @ columns[others].T
                if not self._near[i][j]:
                    yield part, others, logits, None
                    continue
                weights = self._weights(part, others, self._long[i][j], logits.dtype)
                if self.kernel.without_self:
                    itself = self.match[part, None] == self.columns.order[others]
                    weights, logits = weights.masked_fill(itself, 0.0), logits.masked_fill(itself, -torch.inf)
                yield part, others, logits, weights

    def _weights(self, part: slice, others: slice, long: bool, dtype: torch.dtype) -> Tensor:
        a, b = self.rows.xyz_m[part], self.columns.xyz_m[others]
        # Differences of coordinates, in float64: products would lose metres at the radius of the Earth.
        chord_m = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
        chord_m = chord_m.to(dtype)
        diameter_m = 2.0 * EARTH_RADIUS_M
        if long:
            arc_m = (chord_m / diameter_m).clamp_(max=1.0).asin_().mul_(diameter_m)
        else:
            arc_m = torch.addcmul(chord_m, chord_m.square(), chord_m, value=1.0 / (6.0 * diameter_m**2))
        return self.kernel.weights(arc_m, self.rows.order[part], self.columns.order[others])


def _xyz_m(positions_deg: Float64[Tensor, "n 2"]) -> Float64[Tensor, "n 3"]:
    lat, lon = torch.deg2rad(positions_deg.to(torch.float64)).unbind(1)
    return EARTH_RADIUS_M * torch.stack([lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()], dim=1)


def _along_a_curve(xyz_m: Float64[Tensor, "n 3"], bits: int = 20) -> Int64[Tensor, " n"]:
    """The order of points along a Z-order curve: points near in it are mostly near on the Earth.

    References:
        G. M. Morton, "A computer oriented geodetic data base and a new technique in file sequencing", IBM, 1966.
    """
    low, high = xyz_m.amin(dim=0), xyz_m.amax(dim=0)
    side = (high - low).amax().clamp_min(1e-9)
    cells = ((xyz_m - low) / side * (2**bits - 1)).to(torch.int64)
    key = torch.zeros(len(xyz_m), dtype=torch.int64, device=xyz_m.device)
    for bit in range(bits):
        for axis in range(3):
            key |= ((cells[:, axis] >> bit) & 1) << (3 * bit + axis)
    return key.argsort(stable=True)
