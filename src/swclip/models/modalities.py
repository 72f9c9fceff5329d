"""Further views of a place beside its photograph: a caption, a map tile, and one query vector of what is there."""

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
from swclip.models.config import ImageConfig, ViewsConfig
from swclip.models.image_tower import ImageHead, ImageTower, image_preprocess
from swclip.models.text_tower import TextTower

ViewName = Literal["image", "caption", "map"]
_BUILTIN_MAP_PX = 64
_TOKENIZER = "caption_tokenizer"


@dataclass(frozen=True)
class ViewInputs:
    """What the further views of B photographs are made of. V counts the views, the photograph among them and first.

    Attributes:
        captions: B texts, None where there is none. None of a model without the view.
        maps: (B, 3, H, W) preprocessed tiles, zeros where there is none. None of a model without the view.
        present: (B, V) which views there are.
        kept: (B, V) those of them that the fused embedding may use: some are dropped in training.
    """

    captions: Sequence[str | None] | None
    maps: Float[Tensor, "b 3 h w"] | None
    present: Bool[Tensor, "b v"]
    kept: Bool[Tensor, "b v"]

    def __getitem__(self, part: slice) -> ViewInputs:
        """Some of the photographs."""
        return ViewInputs(
            None if self.captions is None else self.captions[part],
            None if self.maps is None else self.maps[part],
            self.present[part],
            self.kept[part],
        )


class CaptionEncoder(nn.Module):
    """A text about a photograph, as a unit vector of the shared space.

    Args:
        config: The views' configuration.
        embedding_dim: D.
        architecture: The transformers configuration saved with a model; None loads pretrained weights by name.
        tokenizer_folder: Where a saved model keeps its tokenizer; None loads it by name.
    """

    def __init__(
        self,
        config: ViewsConfig,
        embedding_dim: int,
        architecture: dict[str, Any] | None = None,
        tokenizer_folder: Path | None = None,
    ) -> None:
        super().__init__()
        self.text = TextTower(config.caption, architecture, tokenizer_folder)
        self.head = ImageHead(self.text.output_dim, embedding_dim, config.head_width, config.head_dropout)

    def fitted(self, caption: str) -> str:
        """As many words of a caption, from its beginning, as the tower reads: all of most captions."""
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
        """Unit vectors (B, D); each distinct caption is read once. What is longer than the tower reads is cut."""
        texts = [self.fitted(caption) for caption in captions]
        distinct = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        read: Tensor = self.head(self.text([[text] for text in distinct], None))
        return read[torch.tensor([distinct[text] for text in texts], device=read.device)]


class MapEncoder(nn.Module):
    """A map tile as a unit vector of the shared space.

    Args:
        config: The views' configuration.
        embedding_dim: D.
        architecture: The transformers configuration saved with a model; None loads pretrained weights by name.
        preprocess: As saved with a model; None takes what goes with the tower.
    """

    def __init__(
        self,
        config: ViewsConfig,
        embedding_dim: int,
        architecture: dict[str, Any] | None = None,
        preprocess: Preprocess | None = None,
    ) -> None:
        super().__init__()
        builtin = config.map.startswith("builtin:")
        image = ImageConfig(tower=config.map, size_px=config.map_size_px or (_BUILTIN_MAP_PX if builtin else None))
        self.tower = ImageTower(image, architecture)
        self.head = ImageHead(self.tower.feature_dim, embedding_dim, config.head_width, config.head_dropout)
        self.preprocess = preprocess or image_preprocess(image)

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Unit vectors (B, D) of preprocessed tiles."""
        embeddings: Tensor = self.head(self.tower(pixels))
        return embeddings


class Views(nn.Module):
    """The further views of a model, and their fusion with the photograph.

        q = normalise(v_image + sum_m w_m v_m),   over the views that are there, w_m = exp(log_weight_m)

    Only ratios of the weights matter, so the photograph's is 1. A view that is alone is handed on as it is, to the
    last bit: a model with views answers a photograph alone as if it had none.

    Args:
        config: Which views, and their towers.
        embedding_dim: D.
        saved: What `saved` gave of the model that is loaded; None makes a new one.
        folder: The folder of the model that is loaded.
    """

    def __init__(
        self,
        config: ViewsConfig,
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
            preprocess = Preprocess.from_dict(saved["map_preprocess"]) if saved else None  # the hub is not asked
            self.map = MapEncoder(config, embedding_dim, saved.get("map_architecture"), preprocess)
        self.log_weight = nn.Parameter(torch.zeros(len(config.names)))
        self.names: tuple[ViewName, ...] = config.names

    def encode(self, inputs: ViewInputs) -> list[Float[Tensor, "b d"]]:
        """Unit vectors (B, D) of each further view, in the order of `names`; zeros where a photograph lacks it."""
        return [self._encode(name, inputs, inputs.present[:, at]) for at, name in enumerate(self.names, start=1)]

    def _encode(self, name: ViewName, inputs: ViewInputs, there: Bool[Tensor, " b"]) -> Float[Tensor, "b d"]:
        rows = there.cpu().nonzero().squeeze(1)
        encoder = self.caption if name == "caption" else self.map
        assert encoder is not None
        if len(rows) == 0:
            weight = encoder.head.linear.weight
            return torch.zeros(len(there), weight.shape[0], dtype=weight.dtype, device=weight.device)
        if name == "caption":
            assert inputs.captions is not None
            encoded: Tensor = encoder([inputs.captions[row] or "" for row in rows.tolist()])
        else:
            assert inputs.maps is not None
            encoded = encoder(inputs.maps[rows.to(inputs.maps.device)])
        blank = torch.zeros(len(there), encoded.shape[1], dtype=encoded.dtype, device=encoded.device)
        return blank.index_copy(0, rows.to(encoded.device), encoded)

    def fuse(self, embeddings: Float[Tensor, "b v d"], present: Bool[Tensor, "b v"]) -> Float[Tensor, "b d"]:
        """One unit vector of the views that are there.

        Args:
            embeddings: (B, V, D) unit vectors, the photograph's first, then those of `names`. Rows of views that are
                not there may hold anything.
            present: (B, V) which are there; at least one in each row.

        Returns:
            (B, D); where a single view is there, that view itself.
        """
        present = present.to(embeddings.device)
        there = embeddings.masked_fill(~present[..., None], 0.0)
        weight = torch.cat([self.log_weight.new_ones(1), self.log_weight.exp()]).to(embeddings.dtype)
        mixed = F.normalize((weight[:, None] * there).sum(dim=1), dim=-1)
        first = present.to(torch.int64).argmax(dim=1)
        alone = there[torch.arange(len(there), device=there.device), first]
        return torch.where((present.sum(dim=1) == 1)[:, None], alone, mixed)

    def saved(self) -> dict[str, Any]:
        """What a saved model must state beside its weights, to be loaded without a hub."""
        return {
            "caption_architecture": self.caption.text.architecture if self.caption else None,
            "map_architecture": self.map.tower.architecture if self.map else None,
            "map_preprocess": self.map.preprocess.to_dict() if self.map else None,
        }

    def save_tokenizer(self, folder: Path) -> None:
        """Write the tokenizer of a pretrained caption tower, where there is one."""
        if self.caption is not None and self.caption.text.tokenizer is not None:
            self.caption.text.tokenizer.save_pretrained(folder / _TOKENIZER)


def is_there(caption: str | None) -> bool:
    """Whether a caption says anything: blank ones count as missing."""
    return caption is not None and bool(caption.strip())
