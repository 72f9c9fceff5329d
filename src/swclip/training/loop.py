"""The training loop: from photographs with positions to a run's folder."""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int64
from torch import Tensor, nn

from swclip.calibration.conformal import write_calibration
from swclip.calibration.posterior_config import write_posterior
from swclip.data.manifest import Manifest
from swclip.data.splits import Splits, indices
from swclip.errors import ArtefactError, ConfigError, InputError
from swclip.files import write_json
from swclip.gallery.hubness import write_bank
from swclip.imaging.photograph_file import photograph_exists
from swclip.models.blocks import available_device
from swclip.models.config import UNTRAINED_TOWER
from swclip.models.feature_cache import FeatureCache
from swclip.models.image_tower import ImageTower
from swclip.models.keypoints import KeypointMatcher
from swclip.models.locator_model import load_model
from swclip.structure import as_plain
from swclip.training.checkpoint import MetricsLog, list_checkpoints, remove_checkpoints, write_checkpoint
from swclip.training.config import TrainingConfig, warn_of_untrained_tower
from swclip.training.distributed import (
    Process,
    check_agreement,
    errors_in_all,
    from_leader,
    gathered,
    join_processes,
)
from swclip.training.fine_tuning import merged_weights
from swclip.training.inputs import prefetch
from swclip.training.run import RunFacts, digest_of_candidates, digest_of_splits, open_run, sole_trainer
from swclip.training.setup import Progress, TrainingSetup, set_up_training
from swclip.training.step import forward_backward, rate_factor
from swclip.versions import versions

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
        MismatchError: Processes under torchrun have different data, settings or versions.
        ArtefactError: The newest checkpoint is damaged, or another process has a newer one than the leading process.
    """
    folder = Path(out)
    with join_processes(available_device(device)) as process, ExitStack() as held:
        with errors_in_all(process):
            rows = indices(splits, manifest, "train")
            if len(rows) < 2:
                raise InputError(f"{splits.path}: {len(rows)} photographs are in split 'train'; at least 2 are needed.")
            if process.count > 1:
                _look_for_photographs([manifest.image_paths[row] for row in rows])
        if process.count > 1:
            _check_processes(process, manifest, splits, config, folder)

        def opened() -> RunFacts:
            held.enter_context(sole_trainer(folder))
            return open_run(folder, config, manifest, splits, system, command)

        facts = from_leader(process, opened)
        if facts.status == "finished":
            _LOG.info("%s: the run is finished; nothing to do", folder)
            return facts
        with errors_in_all(process):
            if process.leads:
                warn_of_untrained_tower(config)
                if config.verification.matcher is not None:
                    KeypointMatcher(config.verification.matcher)  # one that cannot be used is known before the training
        report = progress if progress is not None and process.leads else _silent
        cache = cache or FeatureCache()
        setup = set_up_training(manifest, splits, rows, config, folder, cache, process, report)
        seconds = run_steps(setup, report)

        def finished() -> RunFacts:
            result = dataclasses.replace(facts, status="finished", figures=_fit_posterior(setup, seconds, report))
            write_json(folder / "run.json", dataclasses.asdict(result))
            remove_checkpoints(setup.checkpoints)
            return result

        return from_leader(process, finished)


def _look_for_photographs(paths: Sequence[Path], count: int = 50) -> None:
    """Refuse a machine without the photographs: some of them, evenly spread, since there may be millions."""
    chosen = [paths[at] for at in np.unique(np.linspace(0, len(paths) - 1, count).astype(int))]
    missing = [path for path in chosen if not photograph_exists(path)]
    if missing:
        raise InputError(
            f"{missing[0]}: does not exist on this machine, nor do {len(missing) - 1} others of {len(chosen)} that "
            "were looked for; copy the photographs to each machine, or give a folder that all machines share."
        )


def _check_processes(
    process: Process, manifest: Manifest, splits: Splits, config: TrainingConfig, folder: Path
) -> None:
    """Refuse processes with other data, settings or versions than the leader, or with a newer checkpoint."""
    settings = pd.json_normalize(as_plain(config), sep=".").iloc[0].to_dict()
    digests = {
        "manifest": manifest.digest,
        "splits": digest_of_splits(splits),
        "candidates": digest_of_candidates(splits),
    }
    facts = {name: digest[:12] for name, digest in digests.items()}
    facts |= {str(name): str(value) for name, value in settings.items()} | versions()
    check_agreement(process, facts, str(manifest.path))
    newest = gathered(process, [path.name for path in list_checkpoints(folder / "checkpoints")][-1:])
    if max(newest) > newest[0]:
        raise ArtefactError(
            f"{folder}: process {newest.index(max(newest))} has {max(newest)[0]} of this run, newer than those of "
            "process 0, which reads the checkpoints; share the folder between the machines, or copy it to that of "
            "process 0."
        )


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
            replicas=setup.replicas,
        )
        norm = nn.utils.clip_grad_norm_(setup.weights, config.optimizer.clip)
        setup.optimizer.step()
        model.limit_scale()

        done = step + 1
        last = done == config.steps
        report("training", done, config.steps)
        logged = done % 10 == 0 or last
        # The norm is that of all processes, so that they end together.
        if logged and not torch.isfinite(figures["loss"] + norm):
            raise ConfigError(
                f"{setup.folder}: the loss is {figures['loss'].item()} at step {done}: the training diverged. Lower "
                "the rates (--set optimizer.rate=...) or the limit of the gradient (optimizer.clip); use another --out."
            )
        if log is None:  # only the leading process writes the run's files
            continue
        if logged:
            values = {name: value.item() for name, value in figures.items()}
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
