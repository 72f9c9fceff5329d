"""Further modalities of a place beside its photograph (a caption, a map tile) and their fusion to one query vector."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from swclip.imaging.preprocess import Preprocess
from swclip.models.blocks import in_blocks_of_one_length, vector_rows
from swclip.models.config import ImageConfig, ModalitiesConfig
from swclip.models.image_head import ImageHead
from swclip.models.image_tower import ImageTower, image_preprocess
from swclip.models.text_tower import TextTower

ModalityName = Literal["image", "caption", "map"]
_BUILTIN_MAP_PX = 64
_TOKENIZER = "caption_tokenizer"


@dataclass(frozen=True)
class ModalityInputs:
    """Inputs of the further modalities of B photographs. V counts the modalities, the photograph included as the first.

    Attributes:
        captions: B texts, None where a photograph has none; None for a model without captions.
        maps: (B, 3, H, W) preprocessed tiles, zeros where a photograph has none; None for a model without maps.
        present: (B, V) whether a photograph has a modality.
        kept: (B, V) whether the fused embedding may use it: training drops some of those present.
    """

    captions: Sequence[str | None] | None
    maps: Float[Tensor, "b 3 h w"] | None
    present: Bool[Tensor, "b v"]
    kept: Bool[Tensor, "b v"]

    def __getitem__(self, part: slice) -> ModalityInputs:
        """The inputs of a slice of the photographs."""
        return ModalityInputs(
            None if self.captions is None else self.captions[part],
            None if self.maps is None else self.maps[part],
            self.present[part],
            self.kept[part],
        )


class CaptionEncoder(nn.Module):
    """Encode a text about a photograph as a unit vector of the shared space.

    Args:
        config: The modalities' configuration.
        embedding_dim: D.
        architecture: The transformers configuration saved with a model; None loads pretrained weights by name.
        tokenizer_folder: Folder of a saved model's tokenizer; None loads it by name.
    """

    def __init__(
        self,
        config: ModalitiesConfig,
        embedding_dim: int,
        architecture: dict[str, Any] | None = None,
        tokenizer_folder: Path | None = None,
    ) -> None:
        super().__init__()
        self.text = TextTower(config.caption, architecture, tokenizer_folder)
        self.head = ImageHead(self.text.output_dim, embedding_dim, config.head_width, config.head_dropout)

    def fitted(self, caption: str) -> str:
        """The longest beginning of a caption, in whole words, that the tower can read."""
        room = self.text.longest - 2  # the tokens of beginning and end
        words = caption.split()
        text = " ".join(words)
        if len(self.text._ids(text)) <= room:
            return text

        def fits(parts: Sequence[str], between: str) -> str:
            lengths = range(1, len(parts) + 1)
            count = bisect_right(lengths, room, key=lambda n: len(self.text._ids(between.join(parts[:n]))))
            return between.join(parts[:count])

        return fits(words, " ") or fits(words[0], "")

    def forward(self, captions: Sequence[str]) -> Float[Tensor, "b d"]:
        """Unit vectors (B, D); each distinct caption is encoded once, and cut where it is too long for the tower."""
        texts = [self.fitted(caption) for caption in captions]
        distinct = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        prompts = [[text] for text in distinct]
        read: Tensor
        if self.training:
            read = self.head(self.text(prompts, None))
        else:
            read = in_blocks_of_one_length(
                lambda numbers: self.head(self.text([prompts[number] for number in numbers], None)),
                [self.text.count_tokens(prompt) for prompt in prompts],
                vector_rows(next(self.parameters()).device),
            )
        return F.embedding(torch.tensor([distinct[text] for text in texts], device=read.device), read)


class MapEncoder(nn.Module):
    """Encode a map tile as a unit vector of the shared space.

    Args:
        config: The modalities' configuration.
        embedding_dim: D.
        architecture: The transformers configuration saved with a model; None loads pretrained weights by name.
        preprocess: The preprocessing saved with a model; None for that of the tower.
    """

    def __init__(
        self,
        config: ModalitiesConfig,
        embedding_dim: int,
        architecture: dict[str, Any] | None = None,
        preprocess: Preprocess | None = None,
    ) -> None:
        super().__init__()
        builtin = config.map.startswith("builtin:")
        image = ImageConfig(tower=config.map, size_px=config.map_size_px or (_BUILTIN_MAP_PX if builtin else None))
        self.tower = ImageTower(image, architecture)
        self.head = ImageHead(self.tower.feature_dim, embedding_dim, config.head_width, config.head_dropout)
        self.preprocess = preprocess or image_preprocess(image, self.tower)

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Unit vectors (B, D) of preprocessed tiles (B, 3, H, W)."""
        embeddings: Tensor = self.head(self.tower(pixels))
        return embeddings


class Modalities(nn.Module):
    """The further modalities of a model, and their fusion with the photograph.

        q = normalise(v_image + sum_m w_m v_m),   over the present modalities, w_m = exp(log_weight_m)

    Only ratios of the weights matter, so the photograph's is 1. A single present modality is returned unchanged, bit by
    bit: a model with further modalities answers a photograph alone as if it had none.

    Args:
        config: Which modalities, and their towers.
        embedding_dim: D.
        saved: The `saved` values of a model to load; None makes a new one.
        folder: The folder of the model to load.
    """

    def __init__(
        self,
        config: ModalitiesConfig,
        embedding_dim: int,
        saved: dict[str, Any] | None = None,
        folder: Path | None = None,
    ) -> None:
        super().__init__()
        saved = saved or {}
        tokenizer = None if folder is None else folder / _TOKENIZER
        self.caption: CaptionEncoder | None = None
        self.map: MapEncoder | None = None
        if config.caption != "none":
            self.caption = CaptionEncoder(config, embedding_dim, saved.get("caption_architecture"), tokenizer)
        if config.map != "none":
            preprocess = Preprocess.from_dict(saved["map_preprocess"]) if saved else None  # needs no hub
            self.map = MapEncoder(config, embedding_dim, saved.get("map_architecture"), preprocess)
        self.log_weight = nn.Parameter(torch.zeros(len(config.names)))
        self.names: tuple[ModalityName, ...] = config.names

    def encode(self, inputs: ModalityInputs) -> list[Float[Tensor, "b d"]]:
        """Unit vectors (B, D) of each further modality, in the order of `names`; zeros where a photograph lacks it."""
        return [self._encode(name, inputs, inputs.present[:, at]) for at, name in enumerate(self.names, start=1)]

    def _encode(self, name: ModalityName, inputs: ModalityInputs, present: Bool[Tensor, " b"]) -> Float[Tensor, "b d"]:
        rows = present.cpu().nonzero().squeeze(1)
        encoder = self.caption if name == "caption" else self.map
        assert encoder is not None
        if len(rows) == 0:
            weight = encoder.head.linear.weight
            return torch.zeros(len(present), weight.shape[0], dtype=weight.dtype, device=weight.device)
        if name == "caption":
            assert inputs.captions is not None
            encoded: Tensor = encoder([inputs.captions[row] or "" for row in rows.tolist()])
        else:
            assert inputs.maps is not None
            encoded = encoder(inputs.maps[rows.to(inputs.maps.device)])
        blank = torch.zeros(len(present), encoded.shape[1], dtype=encoded.dtype, device=encoded.device)
        return blank.index_copy(0, rows.to(encoded.device), encoded)

    def fuse(self, embeddings: Float[Tensor, "b v d"], present: Bool[Tensor, "b v"]) -> Float[Tensor, "b d"]:
        """Fuse the present modalities to one unit vector.

        Args:
            embeddings: (B, V, D) unit vectors, the photograph's first, then those of `names`; the values of absent
                modalities are ignored.
            present: (B, V) whether a modality is present; at least one in each row.

        Returns:
            (B, D); where a single modality is present, its vector unchanged.
        """
        present = present.to(embeddings.device)
        masked = embeddings.masked_fill(~present[..., None], 0.0)
        weight = torch.cat([self.log_weight.new_ones(1), self.log_weight.exp()]).to(embeddings.dtype)
        mixed = F.normalize((weight[:, None] * masked).sum(dim=1), dim=-1)
        first = present.to(torch.int64).argmax(dim=1)
        alone = masked[torch.arange(len(masked), device=masked.device), first]
        return torch.where((present.sum(dim=1) == 1)[:, None], alone, mixed)

    def saved(self) -> dict[str, Any]:
        """The values a saved model needs beside its weights, to be loaded without a hub."""
        return {
            "caption_architecture": self.caption.text.architecture if self.caption else None,
            "map_architecture": self.map.tower.architecture if self.map else None,
            "map_preprocess": self.map.preprocess.to_dict() if self.map else None,
        }

    def save_tokenizer(self, folder: Path) -> None:
        """Write the tokenizer of a pretrained caption tower, if any."""
        if self.caption is not None and self.caption.text.tokenizer is not None:
            self.caption.text.tokenizer.save_pretrained(folder / _TOKENIZER)


def has_words(caption: str | None) -> bool:
    """Whether a caption has any words: blank ones count as missing."""
    return caption is not None and bool(caption.strip())
