"""Configuration of a model, as frozen dataclasses: sufficient to rebuild it from a saved folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from swclip.errors import ArtefactError, ConfigError
from swclip.structure import structure

Pooling = Literal["auto", "cls", "mean", "cls+mean", "cls+mean+std", "gem", "grid", "pooler"]
LocationForm = Literal["grid", "cells", "template", "fourier"]
Crop = Literal["auto", "centre", "squash", "whole"]
Normalisation = Literal["auto", "imagenet", "clip", "none"]
HeadForm = Literal["residual", "mlp"]

UNTRAINED_TOWER = "builtin:small"
"""The tower whose weights are drawn from a seed; all others are loaded from a file."""


@dataclass(frozen=True)
class TowerConfig:
    """An image tower with its preprocessing and pooling.

    Attributes:
        tower: `builtin:street` (small, trained on generated cities, part of swclip), `builtin:small` (the same network,
            untrained), a name on the model hub, a local folder of transformers, or an ONNX file (FILE.onnx; frozen
            only).
        pooling: How a feature map or a sequence of patch tokens becomes one vector. `grid` keeps a 3 x 3 layout; `auto`
            is cls+mean+std for towers with a class token (that token, and mean and standard deviation of the patches),
            pooler for SigLIP, grid for the built-in ones, the output `embedding` of an ONNX file, else mean. In an ONNX
            file `cls` and `pooler` are that output; the other poolings need its output `tokens`.
        pooling_grid: Rows and columns of cells in which mean and standard deviation are pooled separately, for `mean`,
            `cls+mean` and `cls+mean+std`; the features keep the layout of the picture.
        blocks: Number of the tower's last blocks that are pooled separately and concatenated. Earlier blocks have more
            spatial, later ones more semantic information. The built-in towers use their last map only.
        size_px: Side of the tower's square input, pixels; the shorter side where `crop` is `whole`; None for the
            tower's default.
        crop: The part of a photograph that the tower sees: `centre`, its central square; `squash`, all of it,
            compressed to a square; `whole`, all of it in its shape (sides are rounded to multiples of the tower's
            patch); `auto`, that of the tower's preprocessing.
        normalisation: Mean and standard deviation of pixels: those of `imagenet` or `clip`, or `none` for pixels from 0
            to 1; `auto`, those that the tower states, which an ONNX file may not.
    """

    tower: str = "builtin:small"
    pooling: Pooling = "auto"
    pooling_grid: tuple[int, int] = (1, 1)
    blocks: int = 1
    size_px: int | None = None
    crop: Crop = "auto"
    normalisation: Normalisation = "auto"

    @property
    def is_onnx(self) -> bool:
        """Whether the tower is an ONNX file."""
        return self.tower.lower().endswith(".onnx")

    def __post_init__(self) -> None:
        if self.blocks < 1:
            raise ConfigError(f"blocks {self.blocks}: at least the last block must be pooled; give 1 or more.")
        if min(self.pooling_grid) < 1:
            raise ConfigError(f"pooling_grid {list(self.pooling_grid)}: give rows and columns, such as [2, 3].")


@dataclass(frozen=True)
class ImageConfig(TowerConfig):
    """The image side: a tower, or several side by side, and the head that maps its features to the embedding.

    Attributes:
        beside: Further towers, each with its own preprocessing and pooling: their features are concatenated, and all
            towers weigh the same. Frozen only.
        head: `residual`: layer norm, a linear map and a two-layer correction; `mlp`: two layers with ReLU, as in
            GeoCLIP.
        head_width: Width of the hidden layer of the image head, 0 for a linear head (`residual`).
        head_dropout: Dropout on the pooled features and the hidden layer.
    """

    beside: tuple[TowerConfig, ...] = ()
    head: HeadForm = "residual"
    head_width: int = 1024
    head_dropout: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head == "mlp" and self.head_width < 1:
            raise ConfigError(f"head_width {self.head_width}: the mlp head has a hidden layer; give 1 or more.")

    @property
    def towers(self) -> tuple[TowerConfig, ...]:
        """All towers, this one first."""
        return (self, *self.beside)

    @property
    def name(self) -> str:
        """The names of all towers."""
        return " + ".join(tower.tower for tower in self.towers)


@dataclass(frozen=True)
class LocationConfig:
    """The location side.

    Attributes:
        form: `grid`, `cells` or `template` (location-as-text), or `fourier` (coordinates without text).
        text_tower: `builtin:small`, a name on the model hub, a local folder, or `none` (with `grid` or `cells`: their
            features are mapped directly to the embedding). `fourier` needs `none`.
        prompt: The text around the location. `{location}` is replaced by the location tokens or the digits; other
            fields in braces ({city}) are filled from the manifest's columns, and omitted where null. Galleries have
            the city only.
        context_tokens: Learnable context tokens before the prompt (CoOp); 0 for none.
        location_tokens: Soft tokens of the `grid` form.
        direct: Add a direct path from the grid or cell features to the embedding, beside the text tower.
        grid_levels: Levels of the feature grid, spaced geometrically from coarsest to finest.
        grid_coarsest_m: Cell side of the coarsest level, metres.
        grid_finest_m: Cell side of the finest level, metres.
        grid_features: Features per level.
        grid_log2_size: Rows of each level's hash table, as a power of two.
        cell_resolutions: H3 resolutions of the `cells` form, coarse to fine.
        fourier_wavelengths_m: Scales of the random Fourier features, metres; each has a small network, whose outputs
            are summed.
        fourier_features: Random frequencies per scale.
        fourier_layers: Hidden layers of each of these networks; GeoCLIP has 3.
        fourier_activation: Their activation: `gelu`, or GeoCLIP's `relu`.
        hidden_width: Width of the small networks after grid, cells and Fourier features.
    """

    form: LocationForm = "grid"
    text_tower: str = "builtin:small"
    prompt: str = "a street view photo taken at {location}"
    context_tokens: int = 0
    location_tokens: int = 4
    direct: bool = True
    grid_levels: int = 8
    grid_coarsest_m: float = 2000.0
    grid_finest_m: float = 15.0
    grid_features: int = 8
    grid_log2_size: int = 16
    cell_resolutions: tuple[int, ...] = (4, 6, 8, 9, 10, 11)
    fourier_wavelengths_m: tuple[float, ...] = (2000.0, 500.0, 125.0)
    fourier_features: int = 128
    fourier_layers: int = 2
    fourier_activation: Literal["gelu", "relu"] = "gelu"
    hidden_width: int = 512

    def __post_init__(self) -> None:
        if self.form != "template" and "{location}" not in self.prompt and self.text_tower != "none":
            raise ConfigError(f"prompt {self.prompt!r} has no {{location}}; put it where the location tokens belong.")
        if self.form == "fourier" and self.text_tower != "none":
            raise ConfigError("the Fourier encoder reads no text; set text_tower to 'none' with it.")
        if self.form == "template" and self.text_tower == "none":
            raise ConfigError("the template form consists of text only; give it a text tower.")
        if self.grid_levels < 1 or not 0 < self.grid_finest_m <= self.grid_coarsest_m:
            raise ConfigError(
                f"the grid needs at least one level and 0 < finest <= coarsest, not {self.grid_levels} levels from "
                f"{self.grid_coarsest_m} m to {self.grid_finest_m} m."
            )
        if self.fourier_layers < 1:
            raise ConfigError(f"fourier_layers {self.fourier_layers} must be at least 1.")
        if not self.cell_resolutions or any(not 0 <= r <= 15 for r in self.cell_resolutions):
            raise ConfigError(f"cell_resolutions must be H3 resolutions from 0 to 15, not {self.cell_resolutions}.")


@dataclass(frozen=True)
class ModalitiesConfig:
    """Further modalities, each of which a photograph may lack.

    Attributes:
        caption: A text tower that reads the photographs' captions: `builtin:small`, a name on the model hub, a local
            folder, or `none` for no captions.
        map: An image tower for their map tiles: likewise, or `none`.
        map_size_px: Side of the square tile, pixels; None for 64 with `builtin:small`, else the tower's default.
        head_width: Width of the hidden layer of each modality's head, 0 for a linear head.
        head_dropout: Dropout of the heads.
    """

    caption: str = "none"
    map: str = "none"
    map_size_px: int | None = None
    head_width: int = 256
    head_dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.map_size_px is not None and self.map_size_px < 1:
            raise ConfigError(f"views: map_size_px {self.map_size_px} must be at least 1.")
        if self.head_width < 0 or not 0.0 <= self.head_dropout < 1.0:
            raise ConfigError(
                f"views: head_width {self.head_width} must be 0 or more, head_dropout {self.head_dropout} from 0 to "
                "below 1."
            )

    @property
    def names(self) -> tuple[Literal["caption", "map"], ...]:
        """The configured modalities, caption first."""
        both: tuple[tuple[Literal["caption", "map"], str], ...] = (("caption", self.caption), ("map", self.map))
        return tuple(name for name, tower in both if tower != "none")


@dataclass(frozen=True)
class ModelConfig:
    """A whole model: both sides and their shared space.

    Attributes:
        image: The image side.
        location: The location side.
        views: Further modalities beside the photograph; none by default.
        embedding_dim: Dimension D of the shared space.
        initial_temperature: Softmax temperature at the start; the logit scale is its inverse, as in CLIP (0.07).
    """

    image: ImageConfig = field(default_factory=ImageConfig)
    location: LocationConfig = field(default_factory=LocationConfig)
    views: ModalitiesConfig = field(default_factory=ModalitiesConfig)
    embedding_dim: int = 256
    initial_temperature: float = 0.07

    def __post_init__(self) -> None:
        if not 0.0 < self.initial_temperature < math.inf:
            raise ConfigError(f"initial_temperature {self.initial_temperature} must be above 0.")


def saved_config(values: Mapping[str, Any], path: Path) -> ModelConfig:
    """The configuration in the config.json of a saved model.

    Raises:
        ArtefactError: It is invalid: the folder is at fault, not an option of the user's.
    """
    try:
        return structure(ModelConfig, values, str(path))
    except ConfigError as error:
        raise ArtefactError(str(error)) from error
