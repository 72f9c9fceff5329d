"""Contrastive divergences in tiles: memory that grows with the batch and not with its square.

The matrices of a batch (distances, kernel, logits, both softmaxes) exist one tile at a time. With l = s R C' and K the
kernel, all that a row needs is a sum over its tiles:

    T_ij = (1 - alpha) [i = j] + alpha K_ij / M_i,     M_i = sum_j K_ij
    KL(T_i || softmax(l_i)) = log sum_j exp(l_ij) - sum_j T_ij l_ij - H(T_i)

and likewise a column. The backward pass computes each tile again, as FlashAttention does, and adds (softmax - T) times
the embeddings of the other side to the gradients of both sides.

References:
    M. Milakov, N. Gimelshein, "Online normalizer calculation for softmax", 2018.
    T. Dao et al., "FlashAttention: fast and memory-efficient exact attention with IO-awareness", NeurIPS 2022.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from swclip.errors import ConfigError
from swclip.losses.pair_tiles import PairKernel, PairTiles

TileSize = int | Literal["auto"]

_AUTO_PAIRS = {"cpu": 512 * 512, "cuda": 1024 * 1024}
"""Most pairs of a batch that `auto` computes whole. Other devices may lack float64: whole matrices at all sizes."""

_CPU_TILE, _GPU_TILE = 512, 4096
"""Sides of a tile: on a CPU it fits into the cache of a core; a GPU needs more work for each launch."""


def check_tile(tile: object) -> None:
    """Raise ConfigError unless `tile` is `auto`, 0 or a positive number."""
    if tile != "auto" and (not isinstance(tile, int) or isinstance(tile, bool) or tile < 0):
        raise ConfigError(f"tile {tile!r} cannot be; choose 'auto', 0 (whole matrices), or the side of a tile.")


def tile_size(tile: TileSize, rows: int, columns: int, device: torch.device) -> int:
    """Side of the tiles for a batch; 0 for whole matrices.

    Args:
        tile: The side; `auto` for tiles from more than 512 x 512 pairs on, 1024 x 1024 on a GPU.
        rows: Number of rows.
        columns: Number of columns.
        device: Device of the embeddings.
    """
    if tile != "auto":
        return tile
    if rows * columns <= _AUTO_PAIRS.get(device.type, math.inf):
        return 0
    return _CPU_TILE if device.type == "cpu" else _GPU_TILE


class TiledDivergences(NamedTuple):
    """Divergences of a batch.

    Attributes:
        by_row: (B,) divergence of each row over the columns.
        by_column: (N,) divergence of each column over the rows; empty unless both directions were computed.
        mass: (B,) sum of the kernel of each row, without gradient.
    """

    by_row: Float[Tensor, " b"]
    by_column: Float[Tensor, " n"]
    mass: Float[Tensor, " b"]


def tiled_divergences(
    rows: Float[Tensor, "b d"],
    columns: Float[Tensor, "n d"],
    logit_scale: Float[Tensor, ""],
    kernel: PairKernel,
    tile: int,
    both: bool = False,
) -> TiledDivergences:
    """The divergences KL(T || softmax(s R C')) of rows R over columns C, in tiles.

    Args:
        rows: (B, D) embeddings R.
        columns: (N, D) embeddings C.
        logit_scale: Scalar, the logarithm of the scale s.
        kernel: The kernel of the targets T.
        tile: Side of the tiles.
        both: Also the divergence of each column over the rows. Only where rows and columns are of the same photographs
            in the same order, so that the kernel is symmetric.

    Returns:
        The divergences, in float32 at least, with first derivatives by rows, columns and scale.
    """
    with torch.autocast(rows.device.type, enabled=False):
        dtype = torch.promote_types(torch.promote_types(rows.dtype, columns.dtype), torch.float32)
        outputs = _Tiled.apply(  # type: ignore[no-untyped-call]
            rows.to(dtype), columns.to(dtype), logit_scale.to(dtype), kernel, tile, both
        )
    return TiledDivergences(*outputs)


class _LogSumExp:
    """The logarithm of the sum of exponentials, tile by tile; with `bound`, of exp(l - bound) for |l| <= bound."""

    def __init__(self, count: int, like: Tensor) -> None:
        self.sum = like.new_zeros(count, dtype=torch.float64)
        self._max = like.new_full((count,), -torch.inf)

    def add(self, part: slice, logits: Tensor, dim: int) -> None:
        """Add the logits (A, C) of a tile along a dimension, relative to the largest so far."""
        before = self._max[part]
        now = torch.maximum(before, logits.amax(dim=dim))
        shift = torch.where(now.isneginf(), 0.0, now)
        self.sum[part] = self.sum[part] * (before - shift).exp() + (logits - shift.unsqueeze(dim)).exp_().sum(dim=dim)
        self._max[part] = now

    def value(self, bound: float | None) -> Tensor:
        """The logarithms in float64; -inf for an empty sum."""
        return self.sum.log() + (torch.where(self._max.isneginf(), 0.0, self._max) if bound is None else bound)


class _Tiled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, columns: Tensor, logit_scale: Tensor, kernel: PairKernel, tile: int, both: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        tiles = PairTiles(kernel, tile, rows.device)
        scaled, others_ = rows[tiles.rows.order] * logit_scale.exp(), columns[tiles.columns.order]
        bound = _bound(scaled, others_)
        row_sums, column_sums = _LogSumExp(len(rows), rows), _LogSumExp(len(columns), rows)
        mass, entropy, cross = rows.new_zeros(3, len(rows), dtype=torch.float64)
        cross_t = rows.new_zeros(len(columns), dtype=torch.float64)
        for part, others, logits, weights in tiles(scaled, others_):
            if weights is not None:
                mass[part] += weights.sum(dim=1)
                entropy[part] -= weights.clamp_min(torch.finfo(weights.dtype).tiny).log_().mul_(weights).sum(dim=1)
                # A row's own photograph, where it is left out, has weight 0 and logit -inf.
                products = weights * (logits.nan_to_num(neginf=0.0) if kernel.without_self else logits)
                cross[part] += products.sum(dim=1)
                if both:
                    cross_t[others] += products.sum(dim=0)
            if bound is not None:
                exponentials = logits.sub_(bound).exp_()
                row_sums.sum[part] += exponentials.sum(dim=1)
                if both:
                    column_sums.sum[others] += exponentials.sum(dim=0)
            else:
                row_sums.add(part, logits, 1)
                if both:
                    column_sums.add(others, logits, 0)
        itself = (scaled * columns[tiles.match]).sum(dim=1) if kernel.alpha < 1.0 else scaled.new_zeros(())
        log_sums = [row_sums.value(bound), *([column_sums.value(bound)] if both else [])]
        values = [
            _divergence(kernel, log_sum, mass, entropy, own, itself)
            for log_sum, own in zip(log_sums, (cross, cross_t), strict=False)
        ]
        ctx.save_for_backward(rows, columns, logit_scale, mass, *log_sums)
        ctx.tiles, ctx.both, ctx.bound = tiles, both, bound
        mass = tiles.rows.restored(mass).to(rows.dtype)
        ctx.mark_non_differentiable(mass)
        by_row, *by_column = (tiles.rows.restored(value).to(rows.dtype) for value in values)
        return by_row, by_column[0] if both else rows.new_zeros(0), mass

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        rows, columns, logit_scale, mass, *log_sums = ctx.saved_tensors
        tiles: PairTiles = ctx.tiles
        kernel, bound = tiles.kernel, ctx.bound
        scaled, sorted_columns = rows[tiles.rows.order] * logit_scale.exp(), columns[tiles.columns.order]
        # Of each row, then of each column: the factors of its softmax and of its kernel.
        soft, spread, matched = [], [], scaled.new_zeros(len(rows), dtype=torch.float64)
        for gradient, log_sum in zip(upstream[: 1 + ctx.both], log_sums, strict=True):
            given = gradient.to(torch.float64)[tiles.rows.order].masked_fill(mass < kernel.least_mass, 0.0)
            factor = 1.0 if bound is None else (bound - log_sum).exp()
            soft.append(torch.where(given == 0.0, 0.0, given * factor).to(rows.dtype))  # an empty sum: 0, not NaN
            spread.append((kernel.alpha * given / mass.clamp_min(torch.finfo(mass.dtype).tiny)).to(rows.dtype))
            matched += (1.0 - kernel.alpha) * given
        log_sums = [log_sum.to(rows.dtype) for log_sum in log_sums]
        to_rows, to_columns = torch.zeros_like(scaled), torch.zeros_like(sorted_columns)
        for part, others, logits, weights in tiles(scaled, sorted_columns):
            if bound is not None:
                to_logits = logits.sub_(bound).exp_().mul_(_outer(soft, part, others))
            else:
                to_logits = (logits - log_sums[0][part, None]).exp_().mul_(soft[0][part, None])
                if ctx.both:
                    to_logits += logits.sub_(log_sums[1][others]).exp_().mul_(soft[1][others])
            if weights is not None:
                to_logits.addcmul_(weights, _outer(spread, part, others), value=-1.0)
            to_rows[part].addmm_(to_logits, sorted_columns[others])
            to_columns[others].addmm_(to_logits.T, scaled[part])
        to_rows, to_columns = tiles.rows.restored(to_rows), tiles.columns.restored(to_columns)
        if kernel.alpha < 1.0:
            share = tiles.rows.restored(matched).to(rows.dtype)[:, None]
            match = kernel.match.to(rows.device)
            to_rows -= share * columns[match]
            to_columns.index_add_(0, match, share * rows * logit_scale.exp(), alpha=-1.0)
        to_rows *= logit_scale.exp()
        return to_rows, to_columns, (rows * to_rows).sum(dtype=torch.float64).to(logit_scale.dtype), None, None, None


def _outer(factors: list[Tensor], part: slice, others: slice) -> Tensor:
    """Factors of the rows, plus those of the columns where both directions are computed, for a tile."""
    of_rows = factors[0][part, None]
    return of_rows if len(factors) == 1 else of_rows + factors[1][others]


def _bound(rows: Tensor, columns: Tensor) -> float | None:
    """The largest possible product of a row and a column; None where exponentials relative to it would vanish."""
    bound = float(rows.norm(dim=1).amax() * columns.norm(dim=1).amax())
    return bound if bound <= (40.0 if rows.dtype == torch.float32 else 300.0) else None


def _divergence(
    kernel: PairKernel, log_sum: Tensor, mass: Tensor, entropy: Tensor, cross: Tensor, itself: Tensor
) -> Tensor:
    """Divergences in float64, from the sums over the tiles, and from the logit of each row's own photograph."""
    alpha, some = kernel.alpha, mass.clamp_min(torch.finfo(mass.dtype).tiny)
    if kernel.without_self:
        target_entropy = some.log() + entropy / some
    else:  # the kernel of a photograph with itself is 1
        own, share = (1.0 - alpha) + alpha / some, alpha / some
        rest = share * entropy - torch.special.xlogy(share * (mass - 1.0), share) if alpha > 0.0 else 0.0
        target_entropy = torch.special.entr(own if alpha > 0.0 else torch.ones_like(own)) + rest
    value = log_sum - target_entropy
    if alpha > 0.0:
        value = value - alpha * cross / some
    if alpha < 1.0:
        value = value - (1.0 - alpha) * itself
    return value.masked_fill(mass < kernel.least_mass, 0.0)
