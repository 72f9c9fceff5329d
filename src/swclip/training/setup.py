"""The parts of a training run, built in one fixed order: model, inputs, batches, objective, optimizer."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Float64, Int, Int64
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from swclip.data.grouping import text_or_none
from swclip.data.manifest import Manifest
from swclip.data.samplers import BatchSampler, NeighbourBatchSampler, RandomBatchSampler
from swclip.data.splits import Splits, indices
from swclip.errors import ArtefactError, ConfigError
from swclip.imaging.augment import augment
from swclip.losses import Objective
from swclip.models.embed import tower_features
from swclip.models.feature_cache import FeatureCache
from swclip.models.location_text import Words, prompt_fields
from swclip.models.locator_model import LocatorModel
from swclip.models.token_cache import TokenCache
from swclip.training.bandwidth import Bandwidths, resolve_bandwidths
from swclip.training.checkpoint import Checkpoint, newest_checkpoint, optimizer_tensors, restore_optimizer
from swclip.training.config import TrainingConfig
from swclip.training.distributed import Process, errors_in_all, from_leader, replicate, tensors_from_leader
from swclip.training.fine_tuning import LoraAdapters, stored_tokens, token_cache, tune
from swclip.training.inputs import (
    FeatureSource,
    ModalitySource,
    Phase,
    PhotographSource,
    fill_missing_accuracies,
    level_ids,
)
from swclip.training.location_queue import LocationQueue, noisy_positions
from swclip.training.step import Batch, parameter_groups, seeded
from swclip.training.validation import Validation

_LOG = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Called with the name of a task, how much of it is done, and the total."""


@dataclass
class TrainingSetup:
    """The parts of a training run.

    Attributes:
        config: The configuration.
        folder: The run's folder.
        process: This process.
        rows: (N,) rows of the training photographs in the manifest; other numbers of photographs are indices of it.
        model: The model, on the process's device.
        adapters: LoRA adapters of the image tower; None where it has none.
        phases: Inputs of the image side, and where they change: features of a frozen tower, then tokens below its
            trained blocks, or pixels.
        modalities: Captions and map tiles; None where the model reads neither.
        validation: The validation queries; None where the split has none.
        validation_features: (V, F) their features by a frozen tower, in the leading process; None where the tower is
            trained.
        sampler: Draws the batches.
        positions_deg: (N, 2) latitude, longitude in degrees, float64.
        accuracy_m: (N,) 1-sigma GPS accuracies in metres, NaN where unknown.
        region_ids: (N,) numbers of the districts, -1 where unknown.
        words: N mappings of the prompt's other fields; None where it has none.
        queue: Locations of earlier batches; None without a queue.
        level_ids: (N, L) numbers of the units at each level of the hierarchy; None without that term.
        bandwidths: Bandwidths of the soft labels.
        objective: The loss, on the process's device.
        optimizer: AdamW over `weights`.
        weights: All trained parameters.
        replicas: Averages their gradients over the processes; None for a single process.
        step: Number of steps completed before: 0, or that of the newest checkpoint.
        best: Lowest validation score so far.
    """

    config: TrainingConfig
    folder: Path
    process: Process
    rows: Int64[np.ndarray, " n"]
    model: LocatorModel
    adapters: LoraAdapters | None
    phases: list[Phase]
    modalities: ModalitySource | None
    validation: Validation | None
    validation_features: Float[np.ndarray, "v f"] | None
    sampler: BatchSampler
    positions_deg: Float64[Tensor, "n 2"]
    accuracy_m: Float64[Tensor, " n"]
    region_ids: Int64[Tensor, " n"]
    words: list[Words] | None
    queue: LocationQueue | None
    level_ids: Int[Tensor, "n l"] | None
    bandwidths: Bandwidths
    objective: Objective
    optimizer: torch.optim.Optimizer
    weights: list[torch.nn.Parameter]
    replicas: DistributedDataParallel | None
    step: int = 0
    best: float = float("inf")

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.folder / "checkpoints"

    def batch(self, step: int, rows: Int64[np.ndarray, " b"], inputs: Tensor) -> Batch:
        """The batch of a step.

        Args:
            step: The step.
            rows: (B,) numbers of its photographs.
            inputs: (B, ...) their inputs from the source of the step's phase.
        """
        config, process = self.config, self.process
        inputs = inputs.to(process.device)
        if config.augment and inputs.ndim == 4:
            with seeded(config.seed, step, process.rank, 1):
                inputs = augment(inputs)
        positions = self.positions_deg[rows]
        return Batch(
            inputs,
            positions,
            [self.words[row] for row in rows] if self.words is not None else None,
            self.accuracy_m[rows],
            self.region_ids[rows],
            encoded_deg=noisy_positions(positions, config.batch.position_noise_m, config.seed, step, process.rank),
            queue=self.queue.at(step) if self.queue is not None else None,
            modalities=(
                None if self.modalities is None else self.modalities.batch(rows, step, process.rank, process.device)
            ),
            bandwidth_scale=self.bandwidths.scale_at(step, rows),
            level_ids=self.level_ids[rows] if self.level_ids is not None else None,
        )

    def checkpoint(self, step: int) -> Checkpoint:
        """The checkpoint after `step` steps."""
        parts = {
            "model": self.model.state_dict(),
            "lora": {} if self.adapters is None else self.adapters.state_dict(),
            "objective": self.objective.state_dict(),
            "optimizer": optimizer_tensors(self.optimizer),
        }
        tensors = {
            f"{part}.{name}": value
            for part, values in parts.items()
            for name, value in values.items()
            # A frozen tower does not change, and is not written with each checkpoint.
            if not (self.config.freeze_image and part == "model" and name.startswith("image_tower."))
        }
        return Checkpoint(step, tensors, {"best": self.best if np.isfinite(self.best) else 1e9})

    def restore(self) -> None:
        """Restore the state of the newest checkpoint, if there is one; the leading process reads it for all.

        Raises:
            ArtefactError: The checkpoint is damaged, or an earlier release wrote it in a form that is not supported.
        """
        tensors: dict[str, Tensor] = {}

        def read() -> Checkpoint | None:
            checkpoint = newest_checkpoint(self.checkpoints)
            if checkpoint is not None:
                tensors.update(checkpoint.tensors)
            return checkpoint and dataclasses.replace(checkpoint, tensors={})

        header = from_leader(self.process, read)
        if header is None:
            return
        checkpoint = dataclasses.replace(header, tensors=tensors_from_leader(self.process, tensors))
        adapters = checkpoint.part("lora")
        if self.adapters is not None and not adapters:
            raise ArtefactError(
                f"{self.checkpoints}: these checkpoints have no LoRA adapters under the name of this release: swclip "
                "0.1 wrote them. Finish the run with swclip 0.1, or remove the run's folder to start it again."
            )
        self.step, self.best = checkpoint.step, float(checkpoint.facts["best"])
        self.model.load_state_dict(checkpoint.part("model"), strict=not self.config.freeze_image)
        self.objective.load_state_dict(checkpoint.part("objective"))
        if self.adapters is not None:
            self.adapters.load_state_dict(adapters)
        restore_optimizer(self.optimizer, checkpoint.part("optimizer"))
        _LOG.info("%s: resumes from step %d", self.folder, self.step)


def set_up_training(
    manifest: Manifest,
    splits: Splits,
    rows: Int64[np.ndarray, " n"],
    config: TrainingConfig,
    folder: Path,
    cache: FeatureCache,
    process: Process,
    progress: Progress,
) -> TrainingSetup:
    """Build the parts of a run, and restore its newest checkpoint.

    Args:
        manifest: The photographs.
        splits: Their splits.
        rows: (N,) rows of the training photographs in the manifest.
        config: The configuration.
        folder: The run's folder.
        cache: Cache of a frozen tower's features.
        process: This process.
        progress: Called with (task, done, total).

    Raises:
        ConfigError: The configuration cannot work on these photographs.
        InputError: A photograph cannot be decoded.
        ArtefactError: The newest checkpoint, or the run's record of bandwidths, is damaged.
    """
    frame, positions = manifest.frame.iloc[rows], manifest.positions_deg[rows]
    paths = [manifest.image_paths[row] for row in rows]
    validation_paths = [manifest.image_paths[row] for row in indices(splits, manifest, "val")]
    model = LocatorModel.create(config.model, positions, config.seed)
    adapters: LoraAdapters | None = None
    if config.tuning.partial:
        adapters = tune(model.single_tower("training a part of the image tower")[0], config.tuning, config.seed)
    groups = parameter_groups(model, config, adapters)
    model.to(process.device)
    if adapters is not None:
        adapters.to(process.device)

    features: Float[np.ndarray, "n f"] | None = None
    tokens: TokenCache | None = None
    phases: list[Phase] = []
    if config.freeze_image or config.tuning.after:
        report = partial(progress, "image features")
        if process.count > 1:
            with errors_in_all(process):  # each process computes its share of those that the cache lacks
                cache.features(model, paths[process.rank :: process.count], progress=report)
        features = cache.features(model, paths, progress=report)
        until = config.steps if config.freeze_image else config.tuning.after
        phases.append(Phase(until, FeatureSource(features), model.encode_image_features))
    if not config.freeze_image:
        tokens = token_cache(config.tuning, config.augment, model, cache, [*paths, *validation_paths])
        if tokens is not None:
            report = partial(progress, "tokens of the frozen blocks")
            source, encode = stored_tokens(tokens, model, paths, process, report)
            phases.append(Phase(config.steps, source, encode))
        else:
            _, preprocess = model.single_tower("training the image tower")
            beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # processes of this machine
            pixels = PhotographSource(paths, preprocess, workers=max(1, (os.cpu_count() or 1) // beside))
            phases.append(Phase(config.steps, pixels, model.encode_pixels))
    modalities: ModalitySource | None = None
    if model.views is not None:
        modalities = ModalitySource(manifest, rows, model.views, config.objective.views.dropout, config.seed)
    stored = cache if config.freeze_image else tokens
    validation = Validation.of(manifest, splits, stored, frozen=config.freeze_image)

    size = min(config.batch.size, len(rows) // process.count * process.count)
    if size < config.batch.size:
        _LOG.warning("batch size %d exceeds the number of photographs; %d is used", config.batch.size, size)
    districts, region_ids = _districts(frame, config)
    sampler = _sampler(config, positions, districts, size, process)
    accuracy_m = torch.from_numpy(fill_missing_accuracies(manifest.accuracy_m[rows], config.objective.targets))
    words = _words(frame, config)
    queue: LocationQueue | None = None
    if config.queue.size:  # with a second sampler, since a thread draws ahead from the first
        queue_sampler = _sampler(config, positions, districts, size, process)
        queue = LocationQueue(queue_sampler, positions, accuracy_m, words, config.queue, config.seed)

    def features_of(numbers: Int64[np.ndarray, " m"]) -> Any:
        if features is not None:
            return features[numbers]
        chosen = [paths[i] for i in numbers]
        return tower_features(model, chosen) if tokens is None else tokens.features(model, chosen)

    levels = level_ids(frame, positions, config.objective.hierarchy)
    bandwidths = resolve_bandwidths(
        config.bandwidth,
        config.objective,
        folder,
        process,
        positions_deg=positions,
        heading_deg=frame["heading_deg"].to_numpy(dtype=np.float64),
        accuracy_m=accuracy_m.numpy(),
        cities=text_or_none(frame["city"]) if "city" in frame else None,
        features_of=features_of,
        fingerprint=lambda: model.feature_fingerprint,
        steps=config.steps,
        seed=config.seed,
    )
    objective = Objective(bandwidths.objective, n_regions=max(1, len(set(districts)))).to(process.device)
    # Fused: one pass over the weights, of which the feature grid's table alone has millions.
    optimizer = torch.optim.AdamW(groups, betas=config.optimizer.betas, fused=True)
    weights = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    setup = TrainingSetup(
        config,
        folder,
        process,
        rows,
        model,
        adapters,
        phases,
        modalities,
        validation,
        validation.features(model) if validation is not None and process.leads else None,
        sampler,
        torch.from_numpy(positions),
        accuracy_m,
        region_ids,
        words,
        queue,
        levels,
        bandwidths,
        objective,
        optimizer,
        weights,
        replicate(process, weights),
    )
    setup.restore()
    return setup


def _districts(frame: pd.DataFrame, config: TrainingConfig) -> tuple[list[str | None], Int64[Tensor, " n"]]:
    """Names of the districts by photograph, and their numbers, (N,), -1 where there is none."""
    needed = config.objective.fairness.weight > 0.0 or config.batch.balance_regions
    if config.region not in frame and needed:
        raise ConfigError(
            f"the manifest has no column {config.region!r} with districts; set `region` to one of its columns."
        )
    values = frame[config.region] if config.region in frame else pd.Series([None] * len(frame), dtype=object)
    names = [None if pd.isna(value) else str(value) for value in values]
    if config.objective.fairness.weight > 0.0 and all(name is None for name in names):
        if config.region != TrainingConfig.region:
            raise ConfigError(
                f"column {config.region!r} has no district; set `region` to another column, or fairness weight 0."
            )
        # Photographs from a folder have no city. They are one district, as those of a single city are.
        _LOG.warning(
            "no photograph has a %s: all are one district, so that regional fairness has no effect", config.region
        )
        names = [""] * len(names)
    number = {name: at for at, name in enumerate(sorted({name for name in names if name is not None}))}
    return names, torch.tensor([number.get(name, -1) if name is not None else -1 for name in names])


def _sampler(
    config: TrainingConfig,
    positions_deg: Float64[np.ndarray, "n 2"],
    districts: list[str | None],
    size: int,
    process: Process,
) -> BatchSampler:
    batch = config.batch
    if batch.sampler == "random":
        count = len(positions_deg)
        return RandomBatchSampler(count, size, seed=config.seed, rank=process.rank, world_size=process.count)
    return NeighbourBatchSampler(
        positions_deg,
        size,
        neighbours_per_anchor=batch.neighbours_per_anchor,
        radius_m=batch.radius_m,
        regions=districts,
        balance_regions=batch.balance_regions,
        seed=config.seed,
        rank=process.rank,
        world_size=process.count,
    )


def _words(frame: pd.DataFrame, config: TrainingConfig) -> list[Words] | None:
    """The prompt's other fields, by photograph; None where it has none."""
    fields = prompt_fields(config.model.location.prompt)
    if config.model.location.text_tower == "none" or not fields:
        return None
    for name in fields:
        if name not in frame:
            raise ConfigError(f"the prompt has {{{name}}}, which is not a column of the manifest; fix the prompt.")
    return [
        {name: None if pd.isna(value) else str(value) for name, value in zip(fields, row, strict=True)}
        for row in frame[fields].itertuples(index=False)
    ]
