"""The head of the image side: pooled features to unit vectors of the shared space."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from swclip.models.config import HeadForm


class ImageHead(nn.Module):
    """Pooled features to the shared space: layer norm, then a linear map plus a residual two-layer network.

    Args:
        feature_dim: F.
        embedding_dim: D.
        width: Width of the hidden layer; 0 for the linear map alone.
        dropout: Dropout rate.
        form: `residual`, or `mlp`: linear, ReLU, linear, without the linear map beside it (GeoCLIP's head).
        widths: Number of features of each tower; those of several are normalised tower by tower.
    """

    def __init__(
        self,
        feature_dim: int,
        embedding_dim: int,
        width: int,
        dropout: float,
        form: HeadForm = "residual",
        widths: Sequence[int] = (),
    ) -> None:
        super().__init__()
        several = len(widths) > 1
        self.norm: nn.Module = _JointNorm(widths) if several else nn.Identity()
        self.mlp: nn.Sequential | None = None
        if form == "mlp":
            self.mlp = nn.Sequential(
                nn.Dropout(dropout), nn.Linear(feature_dim, width), nn.ReLU(), nn.Linear(width, embedding_dim)
            )
            return
        if not several:
            # No affine parameters: a linear layer follows, and their gradient would need a pass back to the features.
            self.norm = nn.LayerNorm(feature_dim, elementwise_affine=False)
        self.linear = nn.Linear(feature_dim, embedding_dim)
        self.correction = (
            nn.Sequential(
                nn.Dropout(dropout),
                nn.Linear(feature_dim, width),
                nn.GELU(),
                nn.Dropout(dropout),
                nn.Linear(width, embedding_dim),
            )
            if width
            else None
        )

    def forward(self, features: Float[Tensor, "b f"]) -> Float[Tensor, "b d"]:
        """Unit vectors (B, D) of pooled features (B, F)."""
        if self.mlp is not None:
            return F.normalize(self.mlp(self.norm(features)), dim=-1)
        x = self.norm(features)
        y = self.linear(x)
        if self.correction is not None:
            y = y + self.correction(x)
        return F.normalize(y, dim=-1)


class _JointNorm(nn.Module):
    """Layer norm of the features of each of T towers, scaled so that each contributes 1 / T of the squared length."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.widths = list(widths)

    def forward(self, features: Float[Tensor, "b f"]) -> Float[Tensor, "b f"]:
        share = sum(self.widths) / len(self.widths)
        parts = torch.split(features, self.widths, dim=-1)
        # A small eps: numbers of a wide unit vector are small themselves.
        normed = [F.layer_norm(x, x.shape[-1:], eps=1e-10) * (share / x.shape[-1]) ** 0.5 for x in parts]
        return torch.cat(normed, dim=-1)
