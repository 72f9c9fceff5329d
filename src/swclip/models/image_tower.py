"""The image side: any transformers vision tower, or the built-in one, pooled and projected."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from swclip.errors import ConfigError
from swclip.imaging.preprocess import Preprocess
from swclip.models.config import HeadForm, ImageConfig, Pooling
from swclip.models.towers import SmallConvNet, tower_config, tower_from_config, tower_from_name, tower_preprocess

_BUILTIN_SIZE_PX = 96
_GRID_SIDE = 3


class GemPool(nn.Module):
    """Generalised-mean pooling with a learnable power.

    References:
        F. Radenovic, G. Tolias, O. Chum, "Fine-tuning CNN image retrieval with no human annotation" (2018), eq. 3.
    """

    def __init__(self, power: float = 3.0) -> None:
        super().__init__()
        self.power = nn.Parameter(torch.tensor(power))

    def forward(self, tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b c"]:
        """Pool (B, N, C) tokens to (B, C)."""
        return tokens.clamp(min=1e-6).pow(self.power).mean(dim=1).pow(1.0 / self.power)


class ImageTower(nn.Module):
    """A vision backbone and its pooling: pixels to one feature vector.

    Attributes:
        feature_dim: F, the number of pooled features.

    Args:
        config: The image side's configuration.
        architecture: The transformers configuration saved with a model; None loads pretrained weights by name.

    Raises:
        ConfigError: The tower cannot be loaded, or does not support the pooling or the number of blocks.
    """

    def __init__(self, config: ImageConfig, architecture: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.backbone: nn.Module
        if config.tower == "builtin:small":
            self.backbone, self.architecture = SmallConvNet(), None
            width, self.prefix_tokens, family = SmallConvNet.width, 0, "builtin"
        elif config.tower.startswith("builtin:"):
            raise ConfigError(f"image tower {config.tower!r} is not built in; 'builtin:small' is.")
        else:
            if architecture is None:
                self.backbone = tower_from_name(config.tower, "vision")
            else:
                self.backbone = tower_from_config(architecture)
            self.architecture = tower_config(self.backbone)
            family = str(self.architecture["model_type"])
            width, self.prefix_tokens = _width_and_prefix(self.architecture)
        self.pooling = _resolve(config.pooling, family, self.prefix_tokens)
        self.blocks = 1 if self.architecture is None else _check_blocks(config.blocks, self.pooling, self.architecture)
        self.gem = GemPool() if self.pooling == "gem" else None
        factor = {"cls+mean": 2, "cls+mean+std": 3, "grid": _GRID_SIDE**2}.get(self.pooling, 1)
        self.feature_dim = width * factor * self.blocks

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b f"]:
        """Pooled features (B, F) of normalised pixels (B, 3, H, W)."""
        states, pooler = self._states(pixels)
        return torch.cat([self._pool(state, pooler) for state in states], dim=1)

    def _states(self, pixels: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """Outputs of the last blocks, in order, and the output of the tower's pooler, if it has one."""
        if self.architecture is None:
            return [self.backbone(pixels)], None
        extra = {"interpolate_pos_encoding": True} if self._must_interpolate(pixels) else {}
        if self.blocks > 1:
            states = self.backbone(pixel_values=pixels, output_hidden_states=True, **extra).hidden_states
            return [self._normed(state) for state in states[-self.blocks :]], None
        output = self.backbone(pixel_values=pixels, **extra)
        return [output.last_hidden_state], getattr(output, "pooler_output", None)

    def _map(self, hidden: Tensor) -> Tensor:
        """Patches as a map (B, C, H, W); tokens (B, N, C) where they do not form a square."""
        if hidden.ndim == 4:
            return hidden
        tokens = hidden[:, self.prefix_tokens :]
        side = int(tokens.shape[1] ** 0.5)
        square = side * side == tokens.shape[1]
        return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, side, side) if square else tokens

    def _normed(self, state: Tensor) -> Tensor:
        # The residual stream grows from block to block; the tower's final norm, if it has one, brings the blocks to the
        # scale that its last block was trained with.
        for name in ("layernorm", "post_layernorm", "norm"):
            norm = getattr(self.backbone, name, None)
            if isinstance(norm, nn.LayerNorm):
                return norm(state)  # type: ignore[no-any-return]
        return F.layer_norm(state, state.shape[-1:])

    def _must_interpolate(self, pixels: Tensor) -> bool:
        # DINOv2 interpolates by default and rejects the flag; CLIP and SigLIP reject another size without it.
        assert self.architecture is not None
        family = str(self.architecture["model_type"])
        return family.startswith(("clip", "siglip", "vit")) and self.architecture.get("image_size") != pixels.shape[-1]

    def _pool(self, hidden: Tensor, pooler: Tensor | None) -> Tensor:
        if self.pooling == "pooler":
            if pooler is None:
                raise ConfigError("this image tower has no pooler; choose pooling 'mean' or 'cls'.")
            return pooler.flatten(1)
        # A convolutional map is (B, C, H, W).
        tokens = hidden.flatten(2).transpose(1, 2) if hidden.ndim == 4 else hidden[:, self.prefix_tokens :]
        if self.pooling == "cls":
            return hidden[:, 0]
        if self.pooling == "cls+mean":
            return torch.cat([hidden[:, 0], tokens.mean(dim=1)], dim=1)
        if self.pooling == "cls+mean+std":
            return torch.cat([hidden[:, 0], tokens.mean(dim=1), tokens.std(dim=1)], dim=1)
        if self.pooling == "grid":
            map_ = self._map(hidden)
            if map_.ndim != 4:
                raise ConfigError("pooling 'grid' needs a square feature map; choose 'mean'.")
            return F.adaptive_avg_pool2d(map_, _GRID_SIDE).flatten(1)
        if self.gem is not None:
            return self.gem(tokens)  # type: ignore[no-any-return]
        return tokens.mean(dim=1)


def _width_and_prefix(architecture: dict[str, Any]) -> tuple[int, int]:
    width = architecture.get("hidden_size") or (architecture.get("hidden_sizes") or [0])[-1]
    if not width:
        raise ConfigError(f"image tower {architecture['model_type']!r} states no hidden size, so it cannot be used.")
    family = str(architecture["model_type"])
    has_cls = family.startswith(("dinov2", "dinov3_vit", "clip", "vit", "deit", "beit"))
    return int(width), (1 + int(architecture.get("num_register_tokens", 0) or 0)) if has_cls else 0


def _check_blocks(blocks: int, pooling: Pooling, architecture: dict[str, Any]) -> int:
    # The width of towers in stages (Swin, ConvNeXt) changes between blocks.
    count = None if "depths" in architecture else architecture.get("num_hidden_layers")
    if blocks > 1 and (count is None or pooling == "pooler"):
        why = "its pooler uses only the last block" if pooling == "pooler" else "its blocks have different widths"
        raise ConfigError(f"image tower {architecture['model_type']!r}: {blocks} blocks cannot be pooled, {why}.")
    if count is not None and blocks > int(count):
        raise ConfigError(f"image tower {architecture['model_type']!r} has {count} blocks, not {blocks}; give fewer.")
    return blocks


def _resolve(pooling: Pooling, family: str, prefix_tokens: int) -> Pooling:
    if pooling == "auto":
        if family == "builtin":
            return "grid"
        if family.startswith("siglip"):
            return "pooler"
        return "cls+mean+std" if prefix_tokens else "mean"
    if "cls" in pooling and not prefix_tokens:
        raise ConfigError(
            f"pooling {pooling!r} needs a class token, which a {family} tower does not have; choose 'mean' or 'gem'."
        )
    return pooling


class ImageHead(nn.Module):
    """Pooled features to the shared space: layer norm, then a linear map plus a residual two-layer network.

    Args:
        feature_dim: F.
        embedding_dim: D.
        width: Width of the hidden layer; 0 for the linear map alone.
        dropout: Dropout rate.
        form: `residual`, or `mlp`: linear, ReLU, linear, without the linear map beside it (GeoCLIP's head).
    """

    def __init__(
        self, feature_dim: int, embedding_dim: int, width: int, dropout: float, form: HeadForm = "residual"
    ) -> None:
        super().__init__()
        self.mlp: nn.Sequential | None = None
        if form == "mlp":
            self.mlp = nn.Sequential(
                nn.Dropout(dropout), nn.Linear(feature_dim, width), nn.ReLU(), nn.Linear(width, embedding_dim)
            )
            return
        # No affine parameters: a linear layer follows, and their gradient would need a backward pass to the features.
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
            return F.normalize(self.mlp(features), dim=-1)
        x = self.norm(features)
        y = self.linear(x)
        if self.correction is not None:
            y = y + self.correction(x)
        return F.normalize(y, dim=-1)


def image_preprocess(config: ImageConfig) -> Preprocess:
    """The preprocessing of a tower, at the configured size.

    Raises:
        ConfigError: The tower's preprocessing cannot be loaded.
    """
    if config.tower.startswith("builtin:"):
        size = config.size_px or _BUILTIN_SIZE_PX
        return Preprocess(size_px=size, resize="squash", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    return tower_preprocess(config.tower, config.size_px)
