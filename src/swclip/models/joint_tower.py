"""Several image towers side by side: their features are concatenated, and each has its own preprocessing and cache.

What one tower does not see another may: a tower trained on scenes (Places365) beside one trained without labels
(DINOv2). The features of all are joined so that each tower weighs the same, whatever its width and scale:

- by a whitening of each, whose unit vectors are joined (`swclip.models.whitening`);
- for the trained head by a layer norm of each (`swclip.models.image_head`).
"""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from swclip.imaging.preprocess import JointPreprocess, Preprocess
from swclip.models.config import ImageConfig
from swclip.models.image_tower import FrozenSide, ImageTower, image_preprocess


class JointTower(nn.Module):
    """Several towers: the pixels for each to the concatenation of their features.

    Attributes:
        widths: Number of features of each tower.
        feature_dim: F, their sum.
        architecture: Those of the towers, as `ImageTower.architecture`.

    Args:
        config: The image side's configuration.
        architecture: The `architecture` saved with a model; None loads pretrained weights by name.

    Raises:
        ConfigError: A tower cannot be loaded, or does not support its configuration.
    """

    def __init__(self, config: ImageConfig, architecture: dict[str, Any] | None = None) -> None:
        super().__init__()
        saved = [None] * len(config.towers) if architecture is None else architecture["towers"]
        self.towers = nn.ModuleList(
            ImageTower(tower, values) for tower, values in zip(config.towers, saved, strict=True)
        )
        self.widths = tuple(tower.feature_dim for tower in self.each())
        self.feature_dim = sum(self.widths)
        self.architecture = {"towers": [tower.architecture for tower in self.each()]}

    def each(self) -> list[ImageTower]:
        """The towers, in order."""
        return [tower for tower in self.towers if isinstance(tower, ImageTower)]

    def forward(self, *pixels: Float[Tensor, "b 3 _ _"]) -> Float[Tensor, "b f"]:
        """Features (B, F) of the pixels (B, 3, H, W) for each tower."""
        return torch.cat([tower(part) for tower, part in zip(self.each(), pixels, strict=True)], dim=1)

    def with_patches(self, *pixels: Float[Tensor, "b 3 _ _"]) -> tuple[Float[Tensor, "b f"], Float[Tensor, "b c y x"]]:
        """Features (B, F), and the patches (B, C, Y, X) of the first tower that has them; see `ImageTower`."""
        towers = self.each()
        patched = next((number for number, tower in enumerate(towers) if tower.has_patches), 0)
        features, map_ = towers[patched].with_patches(pixels[patched])
        parts = [
            features if number == patched else tower(part)
            for number, (tower, part) in enumerate(zip(towers, pixels, strict=True))
        ]
        return torch.cat(parts, dim=1), map_


def tower_encoders(tower: ImageTower | JointTower, preprocess: Preprocess | JointPreprocess) -> tuple[FrozenSide, ...]:
    """The encoder of the features of each tower of a model."""
    towers = tower.each() if isinstance(tower, JointTower) else [tower]
    parts = preprocess.parts if isinstance(preprocess, JointPreprocess) else (preprocess,)
    return tuple(FrozenSide(*pair) for pair in zip(towers, parts, strict=True))


def joint_fingerprint(encoders: tuple[FrozenSide, ...]) -> str:
    """Identity of the features of all towers together."""
    prints = [encoder.feature_fingerprint for encoder in encoders]
    return prints[0] if len(prints) == 1 else hashlib.sha256(" ".join(prints).encode()).hexdigest()[:32]


def build_tower(config: ImageConfig, architecture: dict[str, Any] | None = None) -> ImageTower | JointTower:
    """The tower of an image side, or its towers side by side; arguments as of `JointTower`."""
    return JointTower(config, architecture) if config.beside else ImageTower(config, architecture)


def build_preprocess(config: ImageConfig, tower: ImageTower | JointTower) -> Preprocess | JointPreprocess:
    """The preprocessing of an image side.

    Args:
        config: The image side's configuration.
        tower: Its tower, of `build_tower`.

    Raises:
        ConfigError: A tower's preprocessing cannot be loaded, or does not suit it.
    """
    if isinstance(tower, JointTower):
        pairs = zip(config.towers, tower.each(), strict=True)
        return JointPreprocess(tuple(image_preprocess(part, of) for part, of in pairs))
    return image_preprocess(config, tower)
