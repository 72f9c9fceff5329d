"""The training loop: from photographs with positions to a run's folder."""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor, nn

from swclip.calibration.conformal import write_calibration
from swclip.calibration.posterior_config import write_posterior
from swclip.data.manifest import Manifest
from swclip.data.splits import Splits, indices
from swclip.errors import ConfigError, InputError
from swclip.files import write_json
from swclip.gallery.hubness import write_bank
from swclip.models.blocks import available_device
from swclip.models.config import UNTRAINED_TOWER
from swclip.models.feature_cache import FeatureCache
from swclip.models.image_tower import ImageTower
from swclip.models.keypoints import KeypointMatcher
from swclip.models.locator_model import load_model
from swclip.training.checkpoint import MetricsLog, remove_checkpoints, write_checkpoint
from swclip.training.config import TrainingConfig, warn_of_untrained_tower
from swclip.training.distributed import average_gradients, join_processes, wait_for_all
from swclip.training.fine_tuning import merged_weights
from swclip.training.inputs import prefetch
from swclip.training.run import RunFacts, open_run, sole_trainer
from swclip.training.setup import Progress, TrainingSetup, set_up_training
from swclip.training.step import forward_backward, rate_factor

_LOG = logging.getLogger(__name__)


def train(
    manifest: Manifest,
    splits: Splits,
    config: TrainingConfig,
    out: str | os.PathLike[str],
    *,
    system: str = "sw-clip",
    cache: FeatureCache | None = None,
    device: str = "auto",
    command: str | None = None,
    progress: Progress | None = None,
) -> RunFacts:
    """Train a model, or resume a run that was interrupted: the final weights are the same either way.

    Args:
        manifest: The photographs.
        splits: Their splits: `train` for training, `val` for the choice of the best weights and the posterior.
        config: The configuration.
        out: The run's folder; a finished run of the same configuration is kept.
        system: Name of the run in comparisons.
        cache: Cache of a frozen tower's features; None for the user's cache folder.
        device: auto (a GPU if there is one), cpu, cuda, ...
        command: The command line, for the record.
        progress: Called with (task, done, total).

    Returns:
        The run's record, with the figures on the validation queries.

    Raises:
        InputError: Split `train` has fewer than two photographs, or one cannot be decoded.
        ConfigError: `out` contains another run, another process trains in it, the configuration cannot work on these
            photographs, or the device is not available.
        ArtefactError: The newest checkpoint is damaged.
    """
    folder, place = Path(out), available_device(device)
    rows = indices(splits, manifest, "train")
    if len(rows) < 2:
        raise InputError(f"{splits.path}: {len(rows)} photographs are in split 'train'; at least 2 are needed.")
    with sole_trainer(folder):
        facts = open_run(folder, config, manifest, splits, system, command)
        if facts.status == "finished":
            _LOG.info("%s: the run is finished; nothing to do", folder)
            return facts
        warn_of_untrained_tower(config)
        if config.verification.matcher is not None:
            KeypointMatcher(config.verification.matcher)  # so that one that cannot be used is known before the training
        with join_processes(place) as process:
            report = progress if progress is not None and process.leads else _silent
            cache = cache or FeatureCache()
            setup = set_up_training(manifest, splits, rows, config, folder, cache, process, report)
            seconds = run_steps(setup, report)
            if not process.leads:
                return dataclasses.replace(facts, status="finished")
            facts = dataclasses.replace(facts, status="finished", figures=_fit_posterior(setup, seconds, report))
            write_json(folder / "run.json", dataclasses.asdict(facts))
            remove_checkpoints(setup.checkpoints)
            return facts


def run_steps(setup: TrainingSetup, report: Progress) -> float:
    """Train from the restored step to the last one, save the best weights, and return the duration in seconds."""
    config, process, model, validation = setup.config, setup.process, setup.model, setup.validation
    log = MetricsLog(setup.folder, setup.step) if process.leads else None
    mixed = config.precision == "bfloat16" or (config.precision == "auto" and process.device.type == "cuda")
    started = time.monotonic()

    model.train()
    for step, rows, inputs, encode in training_inputs(setup):
        for group in setup.optimizer.param_groups:
            first = group["first_step"]
            factor = rate_factor(step - first, config.steps - first, config.optimizer) if step >= first else 0.0
            group["lr"] = group["base_rate"] * factor
        setup.optimizer.zero_grad(set_to_none=True)
        figures = forward_backward(
            model,
            setup.objective,
            setup.batch(step, rows, inputs),
            encode=encode,
            chunk=config.batch.chunk,
            autocast=torch.autocast(process.device.type, torch.bfloat16) if mixed else nullcontext(),
            key=(config.seed, step, process.rank, 2),
            progress=step / config.steps,
        )
        average_gradients(setup.weights)
        norm = nn.utils.clip_grad_norm_(setup.weights, config.optimizer.clip)
        setup.optimizer.step()
        model.limit_scale()

        done = step + 1
        last = done == config.steps
        report("training", done, config.steps)
        if log is None:  # only the leading process writes the run's files
            continue
        if done % 10 == 0 or last:
            values = {name: value.item() for name, value in figures.items()}
            if not np.isfinite(values["loss"]):
                raise ConfigError(
                    f"{setup.folder}: the loss is {values['loss']} at step {done}: the training diverged. Lower the "
                    "rates (--set optimizer.rate=...) or the limit of the gradient (optimizer.clip); use another --out."
                )
            log.write(done, {**values, "gradient_norm": norm.item(), "rate": setup.optimizer.param_groups[0]["lr"]})
        if validation is not None and (last or _every(done, config.evaluate_every)):
            errors = validation.measure(model, validation.queries(model, setup.validation_features))
            log.write(done, errors)
            if errors["val_log_error"] < setup.best:
                setup.best = errors["val_log_error"]
                with merged_weights(setup.adapters):
                    model.save(setup.folder / "model")
        if not last and _every(done, config.checkpoint_every):
            write_checkpoint(setup.checkpoints, setup.checkpoint(done))
    wait_for_all()
    if log is not None:
        log.close()
    return time.monotonic() - started


def training_inputs(
    setup: TrainingSetup,
) -> Iterator[tuple[int, Int64[np.ndarray, " b"], Tensor, Callable[[Tensor], Tensor]]]:
    """Step, rows and inputs of each batch that remains, and the function that embeds the inputs."""
    first = setup.step
    for phase in setup.phases:
        for step, rows, inputs in prefetch(phase.source, setup.sampler.batch, first, phase.until):
            yield step, rows, inputs, phase.encode
        first = max(first, phase.until)


def _fit_posterior(setup: TrainingSetup, seconds: float, report: Progress) -> dict[str, Any]:
    """Fit the posterior of the best weights on the validation queries, write it, and return the run's figures."""
    config, folder, validation = setup.config, setup.folder / "model", setup.validation
    figures = {"seconds": round(seconds, 1), "steps": config.steps, **setup.bandwidths.figures}
    if validation is None:
        _LOG.warning("there are no validation queries: the last weights are kept, and no posterior is fitted")
        with merged_weights(setup.adapters):
            setup.model.save(folder)
        return figures
    model = load_model(folder).to(setup.process.device)
    if config.whitening.dimensions:
        if not config.freeze_image and config.model.image.tower != UNTRAINED_TOWER:
            # Of a tower that was tuned, the features before tuning; this one was never trained.
            model.frozen_tower = ImageTower(config.model.image).to(setup.process.device).eval()
        model.whitening = validation.whitening(model, setup.rows, config.whitening)
    verification = config.verification
    if verification.candidates and verification.matcher is None:
        try:
            model.patches = validation.patch_encoder(model, setup.rows, config.verification)
        except ConfigError as error:  # the run is trained: it is kept, without verification
            verification = dataclasses.replace(verification, candidates=0)
            _LOG.warning("candidates are not verified: %s", error)
    try:
        model.novelty = validation.novelty(model, setup.rows)
    except InputError as error:  # fewer than two training photographs, or features that do not vary
        _LOG.warning("answers do not state whether photographs are novel: %s", error)
    model.save(folder)
    bank = validation.bank(model, setup.rows) if config.hubness.photographs else None
    queries = validation.queries(model, setup.validation_features)
    fit, calibration = validation.fit(
        model, queries, bank, config.hubness, verification, progress=partial(report, "fitting verification")
    )
    write_posterior(folder, fit.config)
    write_calibration(folder, calibration)
    if bank is not None and fit.config.image_hubness:
        write_bank(folder, bank)
    return {**figures, "val_log_error": setup.best, "val_posterior": dataclasses.asdict(fit)}


def _silent(_task: str, _done: int, _total: int) -> None:
    return None


def _every(done: int, interval: int) -> bool:
    return interval > 0 and done % interval == 0
