"""The dual encoder: photographs and positions as unit vectors of a shared space; saved and loaded as a folder."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelHubMixin
from jaxtyping import Float, Float64
from numpy.typing import ArrayLike
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from swclip.errors import ArtefactError, ConfigError, SwclipError
from swclip.files import atomic_folder, read_json, write_json
from swclip.imaging.preprocess import JointPreprocess, Preprocess, preprocess_from_dict
from swclip.models.config import ImageConfig, ModelConfig, saved_config
from swclip.models.download import HubName, download, model_folder
from swclip.models.embed import Progress
from swclip.models.encode import Picture, encode_images, encode_positions
from swclip.models.image_head import ImageHead
from swclip.models.image_tower import FrozenSide, ImageTower
from swclip.models.joint_tower import (
    JointTower,
    build_preprocess,
    build_tower,
    joint_fingerprint,
    tower_encoders,
)
from swclip.models.location_text import LocationEncoder, Words, known_cells
from swclip.models.modalities import Modalities
from swclip.models.patches import PatchEncoder, read_patch_encoder, write_patch_encoder
from swclip.models.weights import WithoutDraws, weights_digest, write_tensors
from swclip.models.whitening import NOVELTY_NAME, Whitening, read_whitening, write_whitening
from swclip.structure import as_plain

FORMAT_VERSION = "1"
_LATER_OPTIONS = ("pooling_grid", "crop", "normalisation", "beside")
"""Options of the image side that release 0.2 did not have; at their defaults they are left out of fingerprints."""
_MAX_LOGIT_SCALE = math.log(100.0)


class LocatorModel(nn.Module, ModelHubMixin, library_name="swclip", tags=["geo-localization", "street-view"]):
    """CLIP for places: an image side and a location side with a shared embedding space of D dimensions.

    Create a model with `LocatorModel.create(config, positions_deg)`, load one with `swclip.load(path)`.

    Args:
        config: The configuration.
        preprocess: The preprocessing of photographs.
        image_tower: The pooled backbone, or several side by side.
        location: The location side.

    Attributes:
        views: Further modalities (captions, map tiles) and their fusion; None for a model without them.
        whitening: Whitening of the frozen tower's features, an evidence beside the embeddings; None without.
        novelty: Whitening of the image features by which the novelty of photographs is measured; None without.
        frozen_tower: The image tower as it was before training, whose features are whitened; None where that is
            `image_tower` itself: it was frozen, or never pretrained.
        folder: The folder that the model was loaded from; None for a new model.
        patches: Patch features for verification, fitted after training; None for a model without them.
    """

    def __init__(
        self,
        config: ModelConfig,
        preprocess: Preprocess | JointPreprocess,
        image_tower: ImageTower | JointTower,
        location: LocationEncoder,
    ) -> None:
        super().__init__()
        self.config = config
        self.preprocess = preprocess
        self.image_tower = image_tower
        image = config.image
        self.image_head = ImageHead(
            image_tower.feature_dim,
            config.embedding_dim,
            image.head_width,
            image.head_dropout,
            image.head,
            image_tower.widths,
        )
        self.location = location
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1.0 / config.initial_temperature)))
        self.views: Modalities | None = None
        self.whitening: Whitening | None = None
        self.novelty: Whitening | None = None
        self.frozen_tower: ImageTower | None = None
        self.folder: Path | None = None
        self.patches: PatchEncoder | None = None

    @classmethod
    def create(cls, config: ModelConfig, positions_deg: Any, seed: int = 0) -> LocatorModel:
        """Create a model: pretrained towers are loaded by name, all other weights drawn from a seed.

        Args:
            config: The configuration.
            positions_deg: (N, 2) training positions in degrees, of which the `cells` form takes its vocabulary.
            seed: Seed of the weights; torch's global generator is restored.

        Raises:
            ConfigError: A tower cannot be loaded, or does not support the configuration.
        """
        cells = known_cells(positions_deg, config.location.cell_resolutions) if config.location.form == "cells" else []
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # not torch.manual_seed, which seeds the GPU's too
            location = LocationEncoder(config.location, config.embedding_dim, cells)
            tower = build_tower(config.image)
            model = cls(config, build_preprocess(config.image, tower), tower, location)
            if config.views.names:  # drawn last: the other weights are those of the seed without modalities
                model.views = Modalities(config.views, config.embedding_dim)
            return model

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.logit_scale.device

    @property
    def embedding_dim(self) -> int:
        """D, the dimension of the embeddings."""
        return self.config.embedding_dim

    @property
    def frozen_side(self) -> FrozenSide | None:
        """The encoder of the features that are whitened; None where they are those of `image_features`."""
        if self.frozen_tower is None:
            return None
        return FrozenSide(self.frozen_tower, self.single_tower("a tower that was tuned")[1])

    def limit_scale(self) -> None:
        """Clamp the softmax scale to at most 100, as CLIP does after every step."""
        with torch.no_grad():
            self.logit_scale.clamp_(max=_MAX_LOGIT_SCALE)

    def image_features(self, *pixels: Float[Tensor, "b 3 _ _"]) -> Float[Tensor, "b f"]:
        """Pooled features (B, F) of photographs (B, 3, H, W), as preprocessed for each tower."""
        features: Tensor = self.image_tower(*pixels)
        return features

    def encode_image_features(self, features: Float[Tensor, "b f"]) -> Float[Tensor, "b d"]:
        """Unit vectors (B, D) of pooled features (B, F)."""
        embeddings: Tensor = self.image_head(features)
        return embeddings

    def encode_pixels(self, *pixels: Float[Tensor, "b 3 _ _"]) -> Float[Tensor, "b d"]:
        """Unit vectors (B, D) of photographs (B, 3, H, W), as preprocessed for each tower."""
        return self.encode_image_features(self.image_features(*pixels))

    def position_embeddings(
        self, positions_deg: Float64[Tensor, "b 2"], words: Sequence[Words] | None = None
    ) -> Float[Tensor, "b d"]:
        """Unit vectors (B, D) of positions, with gradients, for training; see `encode_positions` for other uses.

        Args:
            positions_deg: (B, 2) latitude, longitude in degrees, float64.
            words: B mappings with values of the prompt's other fields (city, street), or None.
        """
        embeddings: Tensor = self.location(positions_deg.to(self.device), words)
        return embeddings

    def encode_images(
        self,
        images: Picture | Sequence[Picture],
        *,
        batch_size: int = 64,
        progress: bool | Progress | None = None,
        convert_to_numpy: bool = True,
        normalize: bool = False,
        workers: int | None = None,
    ) -> Any:
        """Embed photographs, one or several.

        Args:
            images: N photographs, each a path, the bytes of a file, a PIL image, a NumPy array (H, W, 3) of uint8, or
                a tensor (3, H, W) of uint8 or of floats from 0 to 1; or an array (N, H, W, 3) or a tensor
                (N, 3, H, W). Each is resized and normalised as in training.
            batch_size: Photographs per batch.
            progress: True for a bar, or a callback that is called with (done, total).
            convert_to_numpy: False returns a tensor on the CPU.
            normalize: Normalise the embeddings once more, in float32. They already have length 1 up to rounding in the
                type of the weights.
            workers: Decoding threads; the number of processors where None.

        Returns:
            (N, D) float32 in the order of `images`; (D,) for a single photograph that is not in a list.

        Raises:
            InputError: Photographs cannot be read (the message has their number and names the first three), or an
                element is not a photograph.

        Example:
            ```python
            model = swclip.load("runs/first")
            similarity = model.encode_images(["a.jpg", "b.jpg"]) @ model.encode_positions([53.8, -1.55])
            ```
        """
        options: Any = {"batch_size": batch_size, "progress": progress, "normalize": normalize, "workers": workers}
        return encode_images(self, images, convert_to_numpy=convert_to_numpy, **options)

    def encode_positions(
        self,
        positions_deg: ArrayLike | Tensor,
        words: Words | Sequence[Words] | None = None,
        *,
        batch_size: int = 4096,
        progress: bool | Progress | None = None,
        convert_to_numpy: bool = True,
        normalize: bool = False,
    ) -> Any:
        """Embed positions, one or several.

        Args:
            positions_deg: (N, 2) latitude, longitude in degrees; (2,) for one position.
            words: Values of the prompt's other fields, such as {"city": "Leeds"}: one mapping for all positions, or N.
            batch_size: Positions per batch.
            progress: True for a bar, or a callback that is called with (done, total).
            convert_to_numpy: False returns a tensor on the CPU.
            normalize: As in `encode_images`.

        Returns:
            (N, D) float32; (D,) for one position given as (2,).

        Raises:
            InputError: A position is not a latitude and longitude in degrees; the message names its row.
        """
        options: Any = {"batch_size": batch_size, "progress": progress, "normalize": normalize}
        return encode_positions(self, positions_deg, words, convert_to_numpy=convert_to_numpy, **options)

    def __repr__(self) -> str:
        location = self.config.location
        side = location.form + ("" if location.text_tower == "none" else f" read by {_short(location.text_tower)}")
        views = f", with {' and '.join(self.config.views.names)}" if self.views is not None else ""
        towers = " + ".join(_short(tower.tower) for tower in self.config.image.towers)
        weights = sum(weight.numel() for weight in self.parameters())
        return (
            f"LocatorModel({towers}, {side}{views}, {self.embedding_dim} dimensions, "
            f"{weights / 1e6:,.1f} million weights)"
        )

    @property
    def feature_fingerprint(self) -> str:
        """Identity of towers, poolings and preprocessing: what determines the image features."""
        return joint_fingerprint(self.tower_encoders)

    @property
    def tower_encoders(self) -> tuple[FrozenSide, ...]:
        """The towers, one by one: the feature cache stores the features of each."""
        return tower_encoders(self.image_tower, self.preprocess)

    def single_tower(self, purpose: str) -> tuple[ImageTower, Preprocess]:
        """The only tower and its preprocessing; ConfigError, which names the purpose, where there are several."""
        if isinstance(self.image_tower, JointTower) or isinstance(self.preprocess, JointPreprocess):
            names = " and ".join(_short(tower.tower) for tower in self.config.image.towers)
            raise ConfigError(f"{purpose} needs one image tower, but this model has {names} side by side; choose one.")
        return self.image_tower, self.preprocess

    @property
    def feature_widths(self) -> tuple[int, ...]:
        """Number of features of each tower."""
        return self.image_tower.widths

    @property
    def fingerprint(self) -> str:
        """Identity of the whole model and its preprocessing: models with the same fingerprint give equal embeddings."""
        config, extra = as_plain(self.config), self.preprocess.digest
        for name in _LATER_OPTIONS:
            if getattr(self.config.image, name) == getattr(ImageConfig, name):
                del config["image"][name]
        if self.views is None:
            del config["views"]  # keeps the fingerprints of models from before modalities
        else:
            extra += json.dumps(self.views.saved()["map_preprocess"], sort_keys=True)
        if self.whitening is not None:
            extra += self.whitening.fingerprint
        return weights_digest(self.state_dict(), json.dumps(config, sort_keys=True) + extra)

    def save(self, folder: str | Path) -> None:
        """Write the model as a folder, completely or not at all.

        Raises:
            DiskFullError: The disk filled; no incomplete folder is left.
            InputError: The folder cannot be written.
        """
        with atomic_folder(folder, "config.json") as beside:
            self._save_pretrained(beside)

    def _save_pretrained(self, save_directory: Path) -> None:
        text = self.location.text
        write_json(
            save_directory / "config.json",
            {
                "swclip_format": FORMAT_VERSION,
                "fingerprint": self.fingerprint,
                "model": as_plain(self.config),
                "cells": self.location.cells.cells if self.location.cells else [],
                "image_architecture": self.image_tower.architecture,
                "text_architecture": text.architecture if text else None,
                **({} if self.views is None else {"views": self.views.saved()}),
                **({} if self.frozen_tower is None else {"frozen_tower": True}),
            },
        )
        write_json(save_directory / "preprocess.json", self.preprocess.to_dict())
        write_tensors(save_directory / "model.safetensors", self.state_dict())
        if text is not None and text.tokenizer is not None:
            text.tokenizer.save_pretrained(save_directory / "tokenizer")
        if self.views is not None:
            self.views.save_tokenizer(save_directory)
        if self.whitening is not None:
            write_whitening(save_directory, self.whitening)
        if self.patches is not None:
            write_patch_encoder(save_directory, self.patches)
        if self.novelty is not None:
            write_whitening(save_directory, self.novelty, NOVELTY_NAME)

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **hub: Any) -> LocatorModel:
        if Path(model_id).is_dir():
            return load_model(Path(model_id))
        settings = {k: hub[k] for k in ("cache_dir", "force_download", "token", "local_files_only") if k in hub}
        return load_model(download(HubName(model_id, hub.get("revision")), **settings))


def _short(tower: str) -> str:
    """A tower's name; the last component of a path."""
    return tower if tower.startswith("builtin:") else tower.rstrip("/").rpartition("/")[2]


def load_model(path: str | os.PathLike[str]) -> LocatorModel:
    """Load a model from a run, a gallery, the model folder itself, or a hub; on the CPU, in evaluation mode.

    Args:
        path: A folder that contains `model/` (a run or a gallery), a model folder, or a model's name on the hub:
            `hf://owner/name`, `hf://owner/name@revision`, or `owner/name` where no such path exists.

    Returns:
        The model, with `folder` set.

    Raises:
        ArtefactError: There is no model, it is truncated, or another version of swclip wrote it.
        HubError: The hub cannot be reached, or has no such model.
    """
    if str(path).startswith("builtin:"):
        raise ArtefactError(f"{path}: is an image tower, not a model that swclip trained. {_train_one(path)}")
    folder = model_folder(path)
    if (folder / "model").is_dir():
        folder = folder / "model"
    if not (folder / "config.json").is_file():
        raise ArtefactError(f"{folder}: is not a swclip model (config.json is missing); give a run or a model folder.")
    values = read_json(folder / "config.json", "the model's configuration")
    if not isinstance(values, dict) or values.get("swclip_format") != FORMAT_VERSION:
        version = values.get("swclip_format") if isinstance(values, dict) else None
        if version is None and isinstance(values, dict) and "model_type" in values:
            raise ArtefactError(
                f"{path}: is a tower of transformers ({values['model_type']}), not a model that swclip trained. "
                f"{_train_one(path)}"
            )
        raise ArtefactError(
            f"{folder / 'config.json'}: model format {version!r}, but this swclip reads {FORMAT_VERSION!r}; "
            "train it again or install the release that wrote it."
        )
    weights = folder / "model.safetensors"
    try:
        config = saved_config(values["model"], folder / "config.json")
        preprocess = preprocess_from_dict(read_json(folder / "preprocess.json", "the model's preprocessing"))
        texts, tokenizer = values["text_architecture"], folder / "tokenizer"
        with torch.random.fork_rng(devices=[]), WithoutDraws():  # the weights are overwritten below
            location = LocationEncoder(config.location, config.embedding_dim, values["cells"], texts, tokenizer)
            tower = build_tower(config.image, values["image_architecture"])
            model = LocatorModel(config, preprocess, tower, location)
            if config.views.names:
                model.views = Modalities(config.views, config.embedding_dim, values["views"], folder)
            if values.get("frozen_tower"):
                model.frozen_tower = ImageTower(config.image, values["image_architecture"])
        model.load_state_dict(load_file(weights))
    except SwclipError:
        raise
    except (OSError, SafetensorError, RuntimeError, LookupError, TypeError, ValueError, ArithmeticError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ArtefactError(
            f"{weights}: the model is cut short, or does not match the config.json beside it ({reason}); copy or "
            "train it again."
        ) from error
    model.whitening, model.novelty = read_whitening(folder), read_whitening(folder, NOVELTY_NAME)
    model.patches = read_patch_encoder(folder)
    model.folder = folder
    return model.eval()


def _train_one(tower: str | os.PathLike[str]) -> str:
    return f"Train one on it: swclip train MANIFEST --splits FILE --image-tower {tower} --freeze image --out RUN"
