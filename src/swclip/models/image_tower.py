"""The image side: any transformers vision tower, or the built-in one, pooled and projected."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from swclip.errors import ConfigError
from swclip.imaging.preprocess import Preprocess
from swclip.models.config import Pooling, TowerConfig
from swclip.models.onnx_tower import NORMALISATIONS, ONNX, OnnxBackbone, measured, onnx_preprocess
from swclip.models.towers import (
    SmallConvNet,
    street_network,
    tower_config,
    tower_from_config,
    tower_from_name,
    tower_preprocess,
)
from swclip.models.weights import weights_digest

_BUILTIN_SIZE_PX = 96
_BUILTIN: dict[str, Callable[[], SmallConvNet]] = {"builtin:small": SmallConvNet, "builtin:street": street_network}
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
        widths: The same of each tower, of which this is one; see `swclip.models.joint_tower`.
        has_patches: Whether the tower has patches, not only an embedding of the whole picture.
        patch_px: Side of a patch, pixels; 1 where the tower has none.

    Args:
        config: The tower's configuration.
        architecture: The `architecture` saved with a model; None loads pretrained weights by name.

    Raises:
        ConfigError: The tower cannot be loaded, or does not support the pooling or the number of blocks.
    """

    architecture: dict[str, Any] | None

    def __init__(self, config: TowerConfig, architecture: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.backbone: nn.Module
        if config.tower in _BUILTIN:
            self.backbone, self.architecture = _BUILTIN[config.tower](), None
            width, self.prefix_tokens, family = SmallConvNet.width, 0, "builtin"
            self.patch_px = SmallConvNet.stride_px
            first = width
        elif config.tower.startswith("builtin:"):
            raise ConfigError(f"image tower {config.tower!r} is not built in; {' and '.join(_BUILTIN)} are.")
        elif config.is_onnx if architecture is None else architecture["model_type"] == ONNX:
            self.backbone = OnnxBackbone(config.tower, architecture)
            self.architecture = architecture or measured(self.backbone, config)
            width, self.prefix_tokens, family = self.architecture["hidden_size"], 0, ONNX
            self.patch_px, first = _patch_px(self.architecture), self.architecture["embedding_dim"]
        else:
            if architecture is None:
                self.backbone = tower_from_name(config.tower, "vision")
            else:
                self.backbone = tower_from_config(architecture)
            self.architecture = tower_config(self.backbone)
            family = str(self.architecture["model_type"])
            width, self.prefix_tokens = _width_and_prefix(self.architecture)
            self.patch_px, first = _patch_px(self.architecture), width
        self.pooling = _resolve(config.pooling, family, self.prefix_tokens)
        self.blocks = 1 if self.architecture is None else _check_blocks(config.blocks, self.pooling, self.architecture)
        self.gem = GemPool() if self.pooling == "gem" else None
        self.pooling_grid = _check_grid(config.pooling_grid, self.pooling)
        cells = self.pooling_grid[0] * self.pooling_grid[1]
        widths: dict[Pooling, int] = {
            "cls": first,
            "pooler": first,
            "mean": cells * width,
            "cls+mean": first + cells * width,
            "cls+mean+std": first + 2 * cells * width,
            "gem": width,
            "grid": _GRID_SIDE**2 * width,
        }
        if family == ONNX and not width and self.pooling not in ("cls", "pooler"):
            raise ConfigError(
                f"image tower {config.tower!r} has no output 'tokens', which pooling {self.pooling!r} needs."
            )
        self.feature_dim = widths[self.pooling] * self.blocks
        self.widths = (self.feature_dim,)
        self.has_patches = bool(width)

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b f"]:
        """Pooled features (B, F) of normalised pixels (B, 3, H, W), of any height and width."""
        states, pooler = self._states(pixels)
        shape = (pixels.shape[-2], pixels.shape[-1])
        return torch.cat([self._pool(state, pooler, shape) for state in states], dim=1)

    @property
    def identity(self) -> str:
        """What determines the features beside the weights and the pixels: the part of the key of cached features."""
        blocks = f"/{self.blocks} blocks" if self.blocks > 1 else ""
        grid = "" if self.pooling_grid == (1, 1) else f"/{self.pooling_grid} cells"
        return self.pooling + blocks + grid

    def with_patches(self, pixels: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b f"], Float[Tensor, "b c y x"]]:
        """Pooled features (B, F), and the patches of the last block as a map (B, C, Y, X), by one pass.

        Raises:
            ConfigError: The tower has no patches in a grid.
        """
        states, pooler = self._states(pixels)
        shape = (pixels.shape[-2], pixels.shape[-1])
        map_ = self._map(states[-1], shape) if self.has_patches else None
        if map_ is None or map_.ndim != 4:
            raise ConfigError(
                "the image tower has no patches in a grid, which verification compares; use another tower, or train "
                "without verification (--verify 0)."
            )
        return torch.cat([self._pool(state, pooler, shape) for state in states], dim=1), map_

    def _states(self, pixels: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """Outputs of the last blocks, in order, and the output of the tower's pooler, if it has one."""
        if self.architecture is None:
            return [self.backbone(pixels)], None
        if isinstance(self.backbone, OnnxBackbone):
            embedding, tokens = self.backbone(pixels)
            return [embedding if tokens is None else tokens], embedding
        extra = {"interpolate_pos_encoding": True} if self._must_interpolate(pixels) else {}
        if self.blocks > 1:
            states = self.backbone(pixel_values=pixels, output_hidden_states=True, **extra).hidden_states
            return [self._normed(state) for state in states[-self.blocks :]], None
        output = self.backbone(pixel_values=pixels, **extra)
        return [output.last_hidden_state], getattr(output, "pooler_output", None)

    def _map(self, hidden: Tensor, shape: tuple[int, int]) -> Tensor:
        """Patches as a map (B, C, Y, X) of a picture (H, W); tokens (B, N, C) where they do not form its grid."""
        if hidden.ndim == 4:
            return hidden
        if hidden.ndim == 2:
            raise ConfigError("this image tower's ONNX file has no output 'tokens': its patches are not known.")
        tokens = hidden[:, self.prefix_tokens :]
        count, (high, wide) = tokens.shape[1], shape
        rows = high // self.patch_px
        if rows * (wide // self.patch_px) != count:  # merged patches (Swin): a grid of the picture's aspect
            rows = max(1, round((count * high / wide) ** 0.5))
        if count % rows:
            return tokens
        return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, rows, count // rows)

    def _normed(self, state: Tensor) -> Tensor:
        # The residual stream grows from block to block; the tower's final norm, if it has one, brings the blocks to the
        # scale that its last block was trained with.
        for name in ("layernorm", "post_layernorm", "norm"):
            norm = getattr(self.backbone, name, None)
            if isinstance(norm, nn.LayerNorm):
                return norm(state)  # type: ignore[no-any-return]
        return F.layer_norm(state, state.shape[-1:])

    def _must_interpolate(self, pixels: Tensor) -> bool:
        # DINOv2 interpolates by default and has no flag; CLIP, SigLIP and ViT reject another size without it.
        assert self.architecture is not None
        if "interpolate_pos_encoding" not in inspect.signature(self.backbone.forward).parameters:
            return False
        size = self.architecture.get("image_size")
        return tuple(pixels.shape[-2:]) != (tuple(size) if isinstance(size, (list, tuple)) else (size, size))

    def _pool(self, hidden: Tensor, pooler: Tensor | None, shape: tuple[int, int]) -> Tensor:
        if self.pooling == "pooler":
            if pooler is None:
                raise ConfigError("this image tower has no pooler; choose pooling 'mean' or 'cls'.")
            return pooler.flatten(1)
        first = pooler if pooler is not None and isinstance(self.backbone, OnnxBackbone) else hidden[:, 0]
        if self.pooling == "cls":
            return first
        if self.pooling == "grid":
            return F.adaptive_avg_pool2d(self._regular_map(hidden, shape), _GRID_SIDE).flatten(1)
        # A convolutional map is (B, C, H, W).
        tokens = hidden.flatten(2).transpose(1, 2) if hidden.ndim == 4 else hidden[:, self.prefix_tokens :]
        if self.gem is not None:
            return self.gem(tokens)  # type: ignore[no-any-return]
        cells = [tokens] if self.pooling_grid == (1, 1) else self._cells(self._regular_map(hidden, shape))
        parts = [first] if self.pooling.startswith("cls") else []
        parts += [cell.mean(dim=1) for cell in cells]
        if self.pooling == "cls+mean+std":
            parts += [cell.std(dim=1) for cell in cells]
        return torch.cat(parts, dim=1)

    def _regular_map(self, hidden: Tensor, shape: tuple[int, int]) -> Tensor:
        map_ = self._map(hidden, shape)
        if map_.ndim != 4:
            raise ConfigError(f"pooling {self.pooling!r} in cells needs patches in a grid; choose 'mean' without them.")
        return map_

    def _cells(self, map_: Tensor) -> list[Tensor]:
        """The patches (B, n, C) of each cell of the grid, row by row; edges are those of adaptive pooling."""
        rows, columns = self.pooling_grid
        high, wide = map_.shape[-2:]
        if high < rows or wide < columns or (high // rows) * (wide // columns) < 2:  # of one patch there is no spread
            raise ConfigError(
                f"pooling_grid {list(self.pooling_grid)}: the tower sees {high} x {wide} patches, fewer than two a "
                "cell; give fewer rows and columns, or a larger size_px."
            )
        return [
            map_[
                :,
                :,
                row * high // rows : -(-(row + 1) * high // rows),
                column * wide // columns : -(-(column + 1) * wide // columns),
            ]
            .flatten(2)
            .transpose(1, 2)
            for row in range(rows)
            for column in range(columns)
        ]

    def check_whole(self, preprocess: Preprocess) -> None:
        """Check that the tower takes pictures in their shapes.

        Raises:
            ConfigError: It takes one shape only; with its reason.
        """
        try:
            with torch.no_grad():
                self(torch.zeros(1, 3, preprocess.decode_px, 2 * preprocess.decode_px))
        except (ValueError, RuntimeError, TypeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ConfigError(
                f"the image tower takes pictures of one shape only ({reason}); set crop to 'centre' or 'squash'."
            ) from error


def _width_and_prefix(architecture: dict[str, Any]) -> tuple[int, int]:
    width = architecture.get("hidden_size") or (architecture.get("hidden_sizes") or [0])[-1]
    if not width:
        raise ConfigError(f"image tower {architecture['model_type']!r} states no hidden size, so it cannot be used.")
    family = str(architecture["model_type"])
    has_cls = family.startswith(("dinov2", "dinov3_vit", "clip", "vit", "deit", "beit"))
    return int(width), (1 + int(architecture.get("num_register_tokens", 0) or 0)) if has_cls else 0


def _patch_px(architecture: dict[str, Any]) -> int:
    patch = architecture.get("patch_size") or 1
    return max(map(int, patch)) if isinstance(patch, (list, tuple)) else int(patch)


def _check_grid(grid: tuple[int, int], pooling: Pooling) -> tuple[int, int]:
    if grid != (1, 1) and pooling not in ("mean", "cls+mean", "cls+mean+std"):
        raise ConfigError(
            f"pooling_grid {list(grid)}: pooling {pooling!r} has no cells; choose 'mean', 'cls+mean' or 'cls+mean+std'."
        )
    return grid


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
        if family == ONNX or family.startswith("siglip"):
            return "pooler"
        return "cls+mean+std" if prefix_tokens else "mean"
    if "cls" in pooling and not prefix_tokens and family != ONNX:
        raise ConfigError(
            f"pooling {pooling!r} needs a class token, which a {family} tower does not have; choose 'mean' or 'gem'."
        )
    return pooling


@dataclass(frozen=True, eq=False)
class FrozenSide:
    """A tower with its preprocessing: the encoder of its features, one of several or beside a tower that was tuned.

    Attributes:
        image_tower: The tower.
        preprocess: Preprocessing of photographs.
    """

    image_tower: ImageTower
    preprocess: Preprocess

    @property
    def feature_fingerprint(self) -> str:
        """Identity of the features, the same as that of a model with this tower."""
        return feature_fingerprint(self.image_tower, self.preprocess)

    @property
    def logit_scale(self) -> Tensor:
        """A weight on the device of the tower, in place of a model's."""
        return next(chain(self.image_tower.parameters(), self.image_tower.buffers()))

    def single_tower(self, purpose: str) -> tuple[ImageTower, Preprocess]:
        """The tower and its preprocessing, as of a model; there is one whatever the purpose."""
        return self.image_tower, self.preprocess

    def image_features(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b f"]:
        """Pooled features (B, F) of preprocessed photographs."""
        features: Tensor = self.image_tower(pixels)
        return features


def feature_fingerprint(tower: ImageTower, preprocess: Preprocess) -> str:
    """Identity of the features of a tower: its weights, pooling and preprocessing."""
    return weights_digest(tower.state_dict(), tower.identity + preprocess.digest)


def image_preprocess(config: TowerConfig, tower: ImageTower) -> Preprocess:
    """The preprocessing of a tower, at the configured size and crop.

    Args:
        config: The tower's configuration.
        tower: The tower.

    Raises:
        ConfigError: The tower's preprocessing cannot be loaded, or the tower does not take pictures of that shape.
    """
    if config.tower.startswith("builtin:"):
        size = config.size_px or _BUILTIN_SIZE_PX
        preprocess = Preprocess(size_px=size, resize="squash", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    elif isinstance(tower.backbone, OnnxBackbone):
        preprocess = onnx_preprocess(config, tower.backbone.architecture)
    else:
        preprocess = tower_preprocess(config.tower, config.size_px)
        if config.normalisation != "auto":
            mean, std = NORMALISATIONS[config.normalisation]
            preprocess = dataclasses.replace(preprocess, mean=mean, std=std)
    if config.crop == "whole":
        preprocess = dataclasses.replace(preprocess, resize="whole", shortest_px=None, multiple_px=tower.patch_px)
        tower.check_whole(preprocess)
    elif config.crop == "squash":
        preprocess = dataclasses.replace(preprocess, resize="squash", shortest_px=None)
    elif config.crop == "centre":
        preprocess = dataclasses.replace(preprocess, resize="shortest-crop")
    return preprocess
