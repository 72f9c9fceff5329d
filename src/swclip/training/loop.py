"""The training loop: from photographs with positions to a run's folder. It reads from top to bottom."""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from swclip.calibration.conformal import write_calibration
from swclip.calibration.posterior_config import write_posterior
from swclip.data.look_alikes import LookAlikes
from swclip.data.manifest import Manifest
from swclip.data.samplers import BatchSampler, NeighbourBatchSampler, RandomBatchSampler
from swclip.data.splits import Splits, indices
from swclip.errors import ConfigError, InputError
from swclip.files import write_json
from swclip.gallery.hubness import write_bank
from swclip.imaging.augment import augment
from swclip.losses import Objective
from swclip.models.embed import tower_features
from swclip.models.feature_cache import FeatureCache
from swclip.models.location_text import prompt_fields
from swclip.models.locator_model import LocatorModel, load_model
from swclip.training.bandwidth import settle_bandwidths
from swclip.training.checkpoint import (
    Checkpoint,
    MetricsLog,
    newest_checkpoint,
    optimizer_tensors,
    remove_checkpoints,
    restore_optimizer,
    write_checkpoint,
)
from swclip.training.config import TrainingConfig, warn_of_untrained_tower
from swclip.training.distributed import Process, average_gradients, join_processes, wait_for_all
from swclip.training.fine_tuning import Corrections, as_saved, tune
from swclip.training.hard_negatives import Miner, embedder, widest_bandwidths_m
from swclip.training.inputs import (
    FeatureSource,
    PhotographSource,
    Source,
    ViewSource,
    fetched_ahead,
    fill_missing_accuracies,
    level_ids,
)
from swclip.training.location_queue import LocationQueue, noisy_positions
from swclip.training.optimizer import parameter_groups, rate_factor
from swclip.training.run import RunFacts, open_run, sole_trainer
from swclip.training.step import Batch, forward_backward, seeded
from swclip.training.validation import Validation

_LOG = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and the total."""


def train(
    manifest: Manifest,
    splits: Splits,
    config: TrainingConfig,
    out: str | os.PathLike[str],
    *,
    system: str = "sw-clip",
    cache: FeatureCache | None = None,
    command: str | None = None,
    progress: Progress | None = None,
) -> RunFacts:
    """Train a model, or go on with a run that was interrupted: its final weights are the same either way.

    Args:
        manifest: The photographs.
        splits: Their splits; those of `train` are trained on, those of `val` choose the best weights and fit the
            posterior.
        config: What to do.
        out: The run's folder. One that holds a finished run of the same configuration is left as it is.
        system: What the run is called in comparisons.
        cache: Where features of a frozen tower are kept; the user's cache folder where None.
        command: The command line, for the record.
        progress: Called with (what, done, total).

    Returns:
        The run's record, with the figures on the validation queries.

    Raises:
        InputError: No photograph is in split `train`, or one cannot be decoded.
        ConfigError: `out` holds another run, another process trains in it, or the configuration cannot work on these
            photographs.
        ArtefactError: The newest checkpoint is damaged.
    """
    folder = Path(out)
    rows = indices(splits, manifest, "train")
    if len(rows) < 2:
        raise InputError(f"{splits.path}: {len(rows)} photographs are in split 'train'; at least 2 are needed.")
    with sole_trainer(folder):
        facts = open_run(folder, config, manifest, splits, system, command)
        if facts.status == "finished":
            _LOG.info("%s: is finished; nothing to do", folder)
            return facts
        warn_of_untrained_tower(config)
        with join_processes() as process:
            return _train(manifest, splits, rows, config, folder, facts, cache or FeatureCache(), process, progress)


def _train(
    manifest: Manifest,
    splits: Splits,
    rows: Any,
    config: TrainingConfig,
    folder: Path,
    facts: RunFacts,
    cache: FeatureCache,
    process: Process,
    progress: Progress | None,
) -> RunFacts:
    report = progress if progress is not None and process.leads else _silent
    frame, positions = manifest.frame.iloc[rows], manifest.positions_deg[rows]
    model = LocatorModel.create(config.model, positions, config.seed)
    corrections = tune(model.image_tower, config.tuning, config.seed)
    groups = parameter_groups(model, config, corrections)
    model.to(process.device)
    if corrections is not None:
        corrections.to(process.device)
    paths = [manifest.image_paths[row] for row in rows]
    source: Source
    if config.freeze_image:
        features = cache.features(model, paths, progress=lambda done, total: report("image features", done, total))
        source = FeatureSource(features)
    else:
        source = PhotographSource(paths, model.preprocess, workers=os.cpu_count() or 1)
    views: ViewSource | None = None
    if model.views is not None:
        views = ViewSource(manifest, rows, model.views, config.objective.views.dropout, config.seed)
    validation = Validation.of(manifest, splits, cache if config.freeze_image else None)
    val_features = validation.features(model) if validation is not None else None

    size = min(config.batch.size, len(rows) // process.count * process.count)
    if size < config.batch.size:
        _LOG.warning("batch size %d is more than the photographs there are; %d is used", config.batch.size, size)
    region_names, region_ids = _regions(frame, config)
    look_alikes = LookAlikes()
    sampler = _sampler(config, positions, region_names, size, process, look_alikes)
    position_tensor = torch.from_numpy(positions)
    accuracy = torch.from_numpy(fill_missing_accuracies(manifest.accuracy_m[rows], config.objective.targets))
    words = _words(frame, config)
    queue: LocationQueue | None = None
    if config.queue.size:  # with a sampler of its own: the other one draws ahead in a thread
        again = _sampler(config, positions, region_names, size, process)
        queue = LocationQueue(again, positions, accuracy, words, config.queue, config.seed)
    levels = level_ids(frame, positions, config.objective.hierarchy)

    bandwidths = settle_bandwidths(
        config.bandwidth,
        config.objective,
        folder,
        process,
        positions_deg=positions,
        heading_deg=frame["heading_deg"].to_numpy(dtype=np.float64),
        accuracy_m=accuracy.numpy(),
        look=lambda some: model.pooled(
            features[some] if config.freeze_image else tower_features(model, [paths[i] for i in some])
        ).astype(np.float32),
        fingerprint=lambda: model.feature_fingerprint,
        steps=config.steps,
        seed=config.seed,
        wait=wait_for_all,
    )
    objective = Objective(bandwidths.objective, n_regions=max(1, len(set(region_names)))).to(process.device)
    miner: Miner | None = None
    if config.batch.hard.share:  # with a sampler of its own, as the queue
        ahead = _sampler(config, positions, region_names, size, process, look_alikes)
        assert isinstance(ahead, NeighbourBatchSampler)
        miner = Miner(
            config.batch.hard,
            ahead,
            positions,
            widest_bandwidths_m(bandwidths, len(positions)),
            embedder(model, source, positions, words, frozen=config.freeze_image),
            look_alikes,
            config.seed,
            process,
        )
    # Fused: one pass over the weights; the feature grid's table alone has millions, of which a step touches few.
    optimizer = torch.optim.AdamW(groups, betas=config.optimizer.betas, fused=True)
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    checkpoints = folder / "checkpoints"
    first, best = 0, float("inf")
    if (there := newest_checkpoint(checkpoints)) is not None:
        first, best = there.step, float(there.facts["best"])
        model.load_state_dict(there.part("model"), strict=not config.freeze_image)
        objective.load_state_dict(there.part("objective"))
        look_alikes.restore({name: value.numpy() for name, value in there.part("look_alikes").items()})
        if corrections is not None:
            corrections.load_state_dict(there.part("corrections"))
        restore_optimizer(optimizer, there.part("optimizer"))
        _LOG.info("%s: goes on from step %d", folder, first)
    log = MetricsLog(folder, first) if process.leads else None
    mixed = config.precision == "bfloat16" or (config.precision == "auto" and process.device.type == "cuda")
    started = time.monotonic()

    model.train()
    for step, drawn, inputs in fetched_ahead(source, sampler.batch, first, config.steps):
        for group in optimizer.param_groups:
            group["lr"] = group["base_rate"] * rate_factor(step, config.steps, config.optimizer)
        inputs = inputs.to(process.device)
        if config.augment and not config.freeze_image:
            with seeded(config.seed, step, process.rank, 1):
                inputs = augment(inputs)
        batch = Batch(
            inputs,
            position_tensor[drawn],
            [words[row] for row in drawn] if words is not None else None,
            accuracy[drawn],
            region_ids[drawn],
            encoded_deg=noisy_positions(
                position_tensor[drawn], config.batch.position_noise_m, config.seed, step, process.rank
            ),
            queue=queue.at(step) if queue is not None else None,
            views=None if views is None else views.batch(drawn, step, process.rank, process.device),
            stretch=bandwidths.stretch_of(step, drawn),
            level_ids=levels[drawn] if levels is not None else None,
        )
        optimizer.zero_grad(set_to_none=True)
        figures = forward_backward(
            model,
            objective,
            batch,
            frozen=config.freeze_image,
            chunk=config.batch.chunk,
            autocast=torch.autocast(process.device.type, torch.bfloat16) if mixed else nullcontext(),
            key=(config.seed, step, process.rank, 2),
            progress=step / config.steps,
        )
        average_gradients(weights)
        norm = nn.utils.clip_grad_norm_(weights, config.optimizer.clip)
        optimizer.step()
        model.limit_scale()

        done = step + 1
        last = done == config.steps
        report("training", done, config.steps)
        if log is not None and (done % 10 == 0 or last):
            named = {name: value.item() for name, value in figures.items()}
            if not np.isfinite(named["loss"]):
                raise ConfigError(
                    f"{folder}: the loss is {named['loss']} at step {done}: the training diverged. Lower the rates "
                    "(--set optimizer.rate=...) or the gradient's limit (optimizer.clip), in another --out."
                )
            log.write(done, {**named, "gradient_norm": norm.item(), "rate": optimizer.param_groups[0]["lr"]})
        if miner is not None and not last and (mined := miner.mine(done)) and log is not None:
            log.write(done, mined)
        if validation is not None and process.leads and (last or _every(done, config.evaluate_every)):
            measured = validation.measure(model, validation.queries(model, val_features))
            assert log is not None
            log.write(done, measured)
            if measured["val_log_error"] < best:
                best = measured["val_log_error"]
                with as_saved(corrections):
                    model.save(folder / "model")
        if process.leads and not last and _every(done, config.checkpoint_every):
            write_checkpoint(
                checkpoints, _checkpoint(done, model, corrections, objective, optimizer, look_alikes, best, config)
            )
    wait_for_all()
    if log is not None:
        log.close()
    if not process.leads:
        return dataclasses.replace(facts, status="finished")

    fitted: dict[str, Any] = {
        "seconds": round(time.monotonic() - started, 1),
        "steps": config.steps,
        **bandwidths.figures,
    }
    if validation is None:
        _LOG.warning("there are no validation queries: the last weights are kept, and no posterior is fitted")
        with as_saved(corrections):
            model.save(folder / "model")
    else:
        kept = load_model(folder / "model").to(process.device)
        bank = validation.bank(kept, rows) if config.hubness.asked else None
        fit, calibration = validation.fit(kept, validation.queries(kept, val_features), bank, config.hubness)
        write_posterior(folder / "model", fit.config)
        write_calibration(folder / "model", calibration)
        if bank is not None and (fit.config.location_hubness or fit.config.image_hubness):
            write_bank(folder / "model", bank)
        fitted |= {"val_log_error": best, "val_posterior": dataclasses.asdict(fit)}
    facts = dataclasses.replace(facts, status="finished", figures=fitted)
    write_json(folder / "run.json", dataclasses.asdict(facts))
    remove_checkpoints(checkpoints)
    return facts


def _silent(_what: str, _done: int, _total: int) -> None:
    return None


def _every(done: int, interval: int) -> bool:
    return interval > 0 and done % interval == 0


def _regions(frame: pd.DataFrame, config: TrainingConfig) -> tuple[list[str | None], torch.Tensor]:
    """Names of the regions by photograph, and their numbers (-1 where there is none)."""
    needed = config.objective.fairness.weight > 0.0 or config.batch.balance_regions
    if config.region not in frame and needed:
        raise ConfigError(
            f"the manifest has no column {config.region!r} to take regions from; set `region` to one it has."
        )
    values = frame[config.region] if config.region in frame else pd.Series([None] * len(frame), dtype=object)
    names = [None if pd.isna(value) else str(value) for value in values]
    if config.objective.fairness.weight > 0.0 and all(name is None for name in names):
        raise ConfigError(
            f"column {config.region!r} names no region; set `region` to another column, or fairness weight 0."
        )
    number = {name: at for at, name in enumerate(sorted({name for name in names if name is not None}))}
    return names, torch.tensor([number.get(name, -1) if name is not None else -1 for name in names])


def _sampler(
    config: TrainingConfig,
    positions: Any,
    regions: list[str | None],
    size: int,
    process: Process,
    look_alikes: LookAlikes | None = None,
) -> BatchSampler:
    batch = config.batch
    if batch.sampler == "random":
        return RandomBatchSampler(len(positions), size, seed=config.seed, rank=process.rank, world_size=process.count)
    return NeighbourBatchSampler(
        positions,
        size,
        neighbours_per_anchor=batch.neighbours_per_anchor,
        radius_m=batch.radius_m,
        regions=regions,
        balance_regions=batch.balance_regions,
        hard_share=batch.hard.share,
        look_alikes=look_alikes,
        seed=config.seed,
        rank=process.rank,
        world_size=process.count,
    )


def _words(frame: pd.DataFrame, config: TrainingConfig) -> list[dict[str, str | None]] | None:
    """What the prompt names beside the location, by photograph; None where it names nothing."""
    fields = prompt_fields(config.model.location.prompt)
    if config.model.location.text_tower == "none" or not fields:
        return None
    for name in fields:
        if name not in frame:
            raise ConfigError(f"the prompt names {{{name}}}, which is no column of the manifest; mend the prompt.")
    return [
        {name: None if pd.isna(value) else str(value) for name, value in zip(fields, row, strict=True)}
        for row in frame[fields].itertuples(index=False)
    ]


def _checkpoint(
    step: int,
    model: LocatorModel,
    corrections: Corrections | None,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    look_alikes: LookAlikes,
    best: float,
    config: TrainingConfig,
) -> Checkpoint:
    parts = {
        "model": model.state_dict(),
        "corrections": {} if corrections is None else corrections.state_dict(),
        "objective": objective.state_dict(),
        "optimizer": optimizer_tensors(optimizer),
        "look_alikes": {name: torch.from_numpy(value) for name, value in look_alikes.state().items()},
    }
    tensors = {
        f"{part}.{name}": value
        for part, values in parts.items()
        for name, value in values.items()
        # A frozen tower is as its file has it: no need to write it again and again.
        if not (config.freeze_image and part == "model" and name.startswith("image_tower."))
    }
    return Checkpoint(step, tensors, {"best": best if np.isfinite(best) else 1e9})
