"""Training on further views: what a batch has of them, which of them the fusion may use, and their embeddings."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from swclip.data.manifest import Manifest
from swclip.errors import InputError
from swclip.losses.modalities import FUSED, View
from swclip.models.locator_model import LocatorModel
from swclip.models.modalities import ViewInputs, Views, is_there
from swclip.training.inputs import PhotographSource

_LOG = logging.getLogger(__name__)
_DROPPED = 7  # what the generator is for: nothing else is drawn from this seed and step


class ViewSource:
    """Captions and map tiles of the training photographs.

    Tiles are decoded and preprocessed as photographs are, and kept in memory while there is room. They are not
    augmented: a map is drawn, and shifted it would be that of another place.

    Args:
        manifest: The photographs.
        rows: Which of them are trained on.
        views: The model's further views.
        dropout: Chance that the fusion goes without a view.
        seed: Seed of what is dropped.

    Raises:
        InputError: None of the photographs has a view that the model has.
    """

    def __init__(
        self, manifest: Manifest, rows: Int64[np.ndarray, " n"], views: Views, dropout: float, seed: int
    ) -> None:
        self._dropout, self._seed = dropout, seed
        self._captions: list[str | None] | None = None
        self._tiles: PhotographSource | None = None
        present = [np.ones(len(rows), dtype=np.bool_)]
        if views.caption is not None:
            texts = manifest.captions
            self._captions = [texts[row] for row in rows]
            present.append(np.array([is_there(text) for text in self._captions]))
            _count(manifest, "caption", "caption", present[-1])
            cut = sum(views.caption.fitted(text) != " ".join(text.split()) for text in self._captions if text)
            if cut:
                _LOG.warning("%d captions are longer than the text tower reads; their ends are left out", cut)
        if views.map is not None:
            paths = [manifest.map_paths[row] for row in rows]
            present.append(np.array([path is not None for path in paths]))
            _count(manifest, "map tile", "map_path", present[-1])
            self._side_px = views.map.preprocess.size_px
            self._tiles = PhotographSource(
                [path or Path() for path in paths], views.map.preprocess, workers=os.cpu_count() or 1
            )
        self._present: Bool[np.ndarray, "n v"] = np.stack(present, axis=1)

    def batch(
        self, rows: Int64[np.ndarray, " b"], step: int, rank: int = 0, device: torch.device | None = None
    ) -> ViewInputs:
        """What the further views of some photographs are made of.

        Args:
            rows: (B,) their numbers in the training set.
            step: The step they are for: what the fusion drops is drawn from the seed and it.
            rank: This process's number: of what is drawn for the whole batch it takes its own part.
            device: Where the tiles are wanted.

        Raises:
            PhotographError: A tile cannot be decoded.
        """
        present = torch.from_numpy(self._present[rows])
        maps: Tensor | None = None
        if self._tiles is not None:
            there = self._present[rows, -1]
            maps = torch.zeros(len(rows), 3, self._side_px, self._side_px)
            if there.any():
                maps[torch.from_numpy(there)] = self._tiles.rows(rows[there])
            maps = maps.to(device)
        captions = None if self._captions is None else [self._captions[row] for row in rows]
        return ViewInputs(captions, maps, present, self._kept(present, step, rank))

    def _kept(self, present: Bool[Tensor, "b v"], step: int, rank: int) -> Bool[Tensor, "b v"]:
        count = len(present)
        generator = np.random.default_rng([self._seed, step, _DROPPED])
        # Row by row, so that the processes' parts put together are what one process draws.
        drawn = torch.from_numpy(generator.random(((rank + 1) * count, present.shape[1])))[rank * count :]
        kept = present & (drawn >= self._dropout)
        return torch.where(kept.any(dim=1, keepdim=True), kept, present)


def _count(manifest: Manifest, what: str, column: str, present: Bool[np.ndarray, " n"]) -> None:
    if not present.any():
        raise InputError(
            f"{manifest.path}: the model has a view for the photographs' {what}s, and none of the {len(present)} "
            f"training photographs has one (column {column!r}); add them to the manifest, or set model.views."
            f"{'caption' if column == 'caption' else 'map'} to 'none'."
        )
    if not present.all():
        missing = int(np.count_nonzero(~present))
        _LOG.warning("%d of %d training photographs have no %s; they train without it", missing, len(present), what)


def embed_views(model: LocatorModel, image: Tensor, inputs: ViewInputs) -> Tensor:
    """All views of some photographs in one tensor (B, V, D), the photograph first, zeros where one is missing."""
    assert model.views is not None
    return torch.stack([image, *model.views.encode(inputs)], dim=1)


def views_of(model: LocatorModel, embedded: Tensor, inputs: ViewInputs) -> tuple[Tensor, Sequence[View]]:
    """The photographs' embeddings (B, D), and the views that the objective contrasts beside them."""
    assert model.views is not None
    image, *further = embedded.unbind(1)
    views = [
        View(name, embedding.float(), inputs.present[:, at])
        for at, (name, embedding) in enumerate(zip(model.views.names, further, strict=True), start=1)
    ]
    everybody = torch.ones(len(image), dtype=torch.bool)
    return image, [*views, View(FUSED, model.views.fuse(embedded, inputs.kept).float(), everybody)]
