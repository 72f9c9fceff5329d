"""Inputs of training: image features or pixels, captions and map tiles, GPS accuracies, units of the hierarchy."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int, Int64
from torch import Tensor

from swclip.data.manifest import Manifest
from swclip.errors import ConfigError, InputError
from swclip.geo.cells import nested_cell_ids
from swclip.imaging.preprocess import Preprocess
from swclip.losses import HierarchyConfig, TargetConfig
from swclip.losses.modalities import FUSED, Modality
from swclip.models.locator_model import LocatorModel
from swclip.models.modalities import Modalities, ModalityInputs, has_words

_LOG = logging.getLogger(__name__)

_IN_MEMORY_BYTES = 2 << 30
_DROPPED = 7  # purpose of the generator, so that it shares no seed and step with others


class Source(Protocol):
    """Source of the image side's inputs."""

    def rows(self, rows: Int64[np.ndarray, " b"]) -> Tensor:
        """Inputs (B, ...) of photographs, by their numbers (B,) in the training set."""
        ...


@dataclass(frozen=True)
class Phase:
    """Steps of a run with one source.

    Attributes:
        until: The step after its last.
        source: Inputs of the image side.
        encode: Embeds those inputs.
    """

    until: int
    source: Source
    encode: Callable[[Tensor], Tensor]


class FeatureSource:
    """Features of a frozen tower, in memory.

    Args:
        features: (N, F) features of the training photographs.
    """

    def __init__(self, features: Float[np.ndarray, "n f"]) -> None:
        self._features = torch.from_numpy(features)

    def rows(self, rows: Int64[np.ndarray, " b"]) -> Tensor:
        """(B, F) features, float32."""
        return self._features[torch.from_numpy(rows)].float()


class PhotographSource:
    """Decoded and preprocessed photographs; kept in memory after the first use if all of them fit.

    Args:
        paths: N photographs.
        preprocess: The model's preprocessing.
        workers: Decoding threads.
        memory_bytes: Photographs are kept, in half precision, if all of them fit into this memory.

    Raises:
        PhotographError: The first photograph, whose shape all must have where the preprocessing keeps shapes, cannot be
            decoded.
    """

    def __init__(
        self, paths: Sequence[Path], preprocess: Preprocess, workers: int, memory_bytes: int = _IN_MEMORY_BYTES
    ) -> None:
        self._paths, self._preprocess = list(paths), preprocess
        self._pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="swclip-decode")
        self._shape_px = preprocess.shape_px or preprocess.read(self._paths[0]).shape[1:]
        shape = (len(self._paths), 3, *self._shape_px)
        fits = 2 * int(np.prod(shape)) <= memory_bytes
        self._kept = torch.zeros(shape, dtype=torch.float16) if fits else None
        self._decoded = np.zeros(len(self._paths), dtype=np.bool_)

    def rows(self, rows: Int64[np.ndarray, " b"]) -> Tensor:
        """(B, 3, H, W) normalised pixels, float32.

        Raises:
            PhotographError: A photograph cannot be decoded.
            ConfigError: It has another shape than the first one.
        """
        if self._kept is None:
            read = self._pool.map(self._read, (self._paths[row] for row in rows))
            return torch.from_numpy(np.stack(list(read)))
        missing = rows[~self._decoded[rows]]
        for row, pixels in zip(missing, self._pool.map(self._read, (self._paths[row] for row in missing)), strict=True):
            self._kept[int(row)] = torch.from_numpy(pixels).to(torch.float16)
        self._decoded[missing] = True
        # In float16 the first time too, so that a photograph has the same values whenever it is drawn.
        return self._kept[torch.from_numpy(rows)].to(torch.float32)

    def _read(self, path: Path) -> Float32[np.ndarray, "3 h w"]:
        pixels = self._preprocess.read(path)
        if pixels.shape[1:] != self._shape_px:
            shapes = [f"{wide} x {high}" for high, wide in (pixels.shape[1:], self._shape_px)]
            raise ConfigError(
                f"{path}: is {shapes[0]} pixels after preprocessing, and {self._paths[0]} is {shapes[1]}, but a tower "
                "that is trained needs pictures of one shape. Set model.image.crop to 'centre' or 'squash' (--crop), "
                "or freeze the tower (--freeze image), which may see whole pictures of any shape."
            )
        return pixels


def prefetch(
    source: Source, batch: Callable[[int], Int64[np.ndarray, " b"]], first: int, steps: int
) -> Iterator[tuple[int, Int64[np.ndarray, " b"], Tensor]]:
    """Fetch batches from step `first` on, the next one while the current one is used.

    Args:
        source: Gives the inputs.
        batch: Gives the rows of a step.
        first: The first step.
        steps: Number of steps of the run.

    Yields:
        Step, rows (B,) and inputs (B, ...).
    """

    def fetch(step: int) -> tuple[int, Int64[np.ndarray, " b"], Tensor]:
        rows = batch(step)
        return step, rows, source.rows(rows)

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="swclip-fetch") as pool:
        waiting = pool.submit(fetch, first) if first < steps else None
        while waiting is not None:
            current = waiting.result()
            following = current[0] + 1
            waiting = pool.submit(fetch, following) if following < steps else None
            yield current


class ModalitySource:
    """Captions and map tiles of the training photographs.

    Tiles are decoded, preprocessed and kept in memory like photographs. They are not augmented, since a shifted map
    would be that of another place.

    Args:
        manifest: The photographs.
        rows: (N,) rows of the training photographs in the manifest.
        views: The model's modalities beside the photograph.
        dropout: Probability with which the fusion omits a modality.
        seed: Seed of that dropout.

    Raises:
        InputError: No photograph has one of the model's modalities.
    """

    def __init__(
        self, manifest: Manifest, rows: Int64[np.ndarray, " n"], views: Modalities, dropout: float, seed: int
    ) -> None:
        self._dropout, self._seed = dropout, seed
        self._captions: list[str | None] | None = None
        self._tiles: PhotographSource | None = None
        present = [np.ones(len(rows), dtype=np.bool_)]
        if views.caption is not None:
            texts = manifest.captions
            self._captions = [texts[row] for row in rows]
            present.append(np.array([has_words(text) for text in self._captions]))
            _check_present(manifest, "caption", "caption", present[-1])
            cut = sum(views.caption.fitted(text) != " ".join(text.split()) for text in self._captions if text)
            if cut:
                _LOG.warning("%d captions are longer than the text tower reads; their ends are cut off", cut)
        if views.map is not None:
            paths = [manifest.map_paths[row] for row in rows]
            present.append(np.array([path is not None for path in paths]))
            _check_present(manifest, "map tile", "map_path", present[-1])
            self._side_px = views.map.preprocess.size_px
            self._tiles = PhotographSource(
                [path or Path() for path in paths], views.map.preprocess, workers=os.cpu_count() or 1
            )
        self._present: Bool[np.ndarray, "n v"] = np.stack(present, axis=1)

    def batch(
        self, rows: Int64[np.ndarray, " b"], step: int, rank: int = 0, device: torch.device | None = None
    ) -> ModalityInputs:
        """Captions and tiles of the photographs of a batch.

        Args:
            rows: (B,) their numbers in the training set.
            step: The step; the fusion's dropout is drawn from the seed and the step.
            rank: This process's number, which selects its rows of the batch's dropout.
            device: Device of the tiles.

        Raises:
            PhotographError: A tile cannot be decoded.
        """
        present = torch.from_numpy(self._present[rows])
        maps: Tensor | None = None
        if self._tiles is not None:
            with_tile = self._present[rows, -1]
            maps = torch.zeros(len(rows), 3, self._side_px, self._side_px)
            if with_tile.any():
                maps[torch.from_numpy(with_tile)] = self._tiles.rows(rows[with_tile])
            maps = maps.to(device)
        captions = None if self._captions is None else [self._captions[row] for row in rows]
        return ModalityInputs(captions, maps, present, self._kept(present, step, rank))

    def _kept(self, present: Bool[Tensor, "b v"], step: int, rank: int) -> Bool[Tensor, "b v"]:
        count = len(present)
        generator = np.random.default_rng([self._seed, step, _DROPPED])
        # Row by row, so that the processes together draw the same as one process.
        drawn = torch.from_numpy(generator.random(((rank + 1) * count, present.shape[1])))[rank * count :]
        kept = present & (drawn >= self._dropout)
        return torch.where(kept.any(dim=1, keepdim=True), kept, present)


def _check_present(manifest: Manifest, modality: str, column: str, present: Bool[np.ndarray, " n"]) -> None:
    if not present.any():
        raise InputError(
            f"{manifest.path}: the model reads the photographs' {modality}s, but none of the {len(present)} training "
            f"photographs has one (column {column!r}); add them to the manifest, or set model.views."
            f"{'caption' if column == 'caption' else 'map'} to 'none'."
        )
    if not present.all():
        missing = int(np.count_nonzero(~present))
        _LOG.warning("%d of %d training photographs have no %s; they train without it", missing, len(present), modality)


def embed_modalities(model: LocatorModel, image: Tensor, inputs: ModalityInputs) -> Tensor:
    """Embed the further modalities, and stack them with the photographs.

    Args:
        model: A model with further modalities.
        image: (B, D) embeddings of the photographs.
        inputs: Inputs of the further modalities.

    Returns:
        (B, M, D) embeddings, those of the photographs first; zeros where a modality is missing.
    """
    assert model.views is not None
    return torch.stack([image, *model.views.encode(inputs)], dim=1)


def contrasted_modalities(
    model: LocatorModel, embedded: Tensor, inputs: ModalityInputs | None
) -> tuple[Tensor, list[Modality]]:
    """Separate the photographs' embeddings from the modalities that the objective contrasts beside them.

    Args:
        model: The model.
        embedded: (B, M, D) of `embed_modalities`, or (B, D) without `inputs`.
        inputs: The inputs of the modalities; None for a model without them.

    Returns:
        (B, D) embeddings of the photographs, and the further modalities with their fusion.
    """
    if inputs is None:
        return embedded, []
    assert model.views is not None
    image, *further = embedded.unbind(1)
    modalities = [
        Modality(name, embedding.float(), inputs.present[:, at])
        for at, (name, embedding) in enumerate(zip(model.views.names, further, strict=True), start=1)
    ]
    everywhere = torch.ones(len(image), dtype=torch.bool)
    return image, [*modalities, Modality(FUSED, model.views.fuse(embedded, inputs.kept).float(), everywhere)]


def fill_missing_accuracies(accuracy_m: Float64[np.ndarray, " n"], config: TargetConfig) -> Float64[np.ndarray, " n"]:
    """Fill the missing accuracies of the training photographs, and log how many were filled with which value.

    Args:
        accuracy_m: (N,) 1-sigma accuracies in metres, NaN where unknown.
        config: `missing_accuracy` and `default_accuracy_m`.

    Returns:
        (N,) metres, with the median of the stated ones or the default instead of NaN; unchanged without `gps_noise`,
        which does not use accuracies.

    Example:
        >>> fill_missing_accuracies(np.array([4.0, np.nan, 8.0]), TargetConfig(missing_accuracy="median")).tolist()
        [4.0, 6.0, 8.0]
    """
    missing = np.isnan(accuracy_m)
    if not config.gps_noise or not missing.any():
        return accuracy_m
    filled_m, reason = config.default_accuracy_m, "the default"
    if config.missing_accuracy == "median":
        if missing.all():
            _LOG.warning(
                "none of the %d training photographs states an accuracy, so there is no median: the default is used",
                len(accuracy_m),
            )
        else:
            filled_m, reason = float(np.median(accuracy_m[~missing])), "the median of the others"
    _LOG.info(
        "%d of %d training photographs state no accuracy; %g m is used, %s",
        missing.sum(),
        len(accuracy_m),
        filled_m,
        reason,
    )
    return np.where(missing, filled_m, accuracy_m)


def level_ids(
    frame: pd.DataFrame, positions_deg: Float64[np.ndarray, "n 2"], config: HierarchyConfig
) -> Int[Tensor, "n l"] | None:
    """Number the units of the hierarchy, equally in all processes and after a resumption.

    Args:
        frame: The training photographs' rows of the manifest.
        positions_deg: (N, 2) their positions, latitude and longitude in degrees.
        config: Columns and H3 resolutions of the levels.

    Returns:
        (N, L) numbers, for the columns first, then for the cells from coarse to fine; -1 where a column is null. None
        where the term has no weight.

    Raises:
        ConfigError: The manifest lacks a column, or all its values are null.
    """
    if config.weight == 0.0:
        return None
    columns: list[list[int]] = []
    for name in config.levels:
        if name not in frame:
            raise ConfigError(
                f"the manifest has no column {name!r} for a level of the hierarchy; set objective.hierarchy.levels to "
                "columns of the manifest, or to [] for cells only."
            )
        values = [None if pd.isna(value) else str(value) for value in frame[name]]
        if all(value is None for value in values):
            raise ConfigError(
                f"column {name!r} is empty, and cannot be a level of the hierarchy; set objective.hierarchy.levels to "
                "other columns, or to [] for cells only."
            )
        columns.append(_numbered(values))
    if config.resolutions:
        columns += [_numbered(cells) for cells in nested_cell_ids(positions_deg, config.resolutions).values()]
    return torch.tensor(columns, dtype=torch.int64).T.contiguous()


def _numbered(values: Sequence[str | None]) -> list[int]:
    number = {value: at for at, value in enumerate(sorted({value for value in values if value is not None}))}
    return [-1 if value is None else number[value] for value in values]


def pair_noise_m(accuracy_m: Float64[np.ndarray, " n"], targets: TargetConfig) -> float:
    """Root of the mean that GPS noise adds to the squared bandwidth of a pair, metres; 0 without `gps_noise`.

    The semivariogram is estimated from recorded positions, so that its range already includes the noise. The
    noise-aware kernel adds the noise of each pair, h^2 + a_i^2 + a_j^2: its mean is subtracted first, since it would
    otherwise be counted twice.

    Args:
        accuracy_m: (N,) 1-sigma GPS accuracies in metres, NaN where unknown.
        targets: `gps_noise` and `default_accuracy_m`.
    """
    if not targets.gps_noise:
        return 0.0
    filled_m = np.where(np.isnan(accuracy_m), targets.default_accuracy_m, accuracy_m)
    return float(np.sqrt(2.0 * np.square(filled_m).mean()))
