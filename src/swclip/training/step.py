"""One training step: embed a batch, in chunks if memory is limited, back-propagate the objective; and its rates.

The rates are those of the parameter groups of the optimizer, multiplied by a factor that depends on the step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from swclip.losses import Objective
from swclip.models.config import UNTRAINED_TOWER
from swclip.models.location_text import Words
from swclip.models.locator_model import LocatorModel
from swclip.models.modalities import ModalityInputs
from swclip.training.config import OptimizerConfig, TrainingConfig
from swclip.training.fine_tuning import LoraAdapters
from swclip.training.inputs import contrasted_modalities, embed_modalities
from swclip.training.location_queue import QueuedPlaces, embed_locations


@dataclass(frozen=True)
class Batch:
    """The batch of one process at a step.

    Attributes:
        inputs: (B, 3, H, W) preprocessed photographs, (B, N, C) tokens below the trained blocks of a tower, or (B, F)
            features of a frozen one.
        positions_deg: (B, 2) latitude, longitude in degrees, float64.
        words: B mappings of the prompt's other fields, or None.
        accuracy_m: (B,) GPS accuracies in metres, NaN where unknown.
        region_ids: (B,) numbers of the districts.
        encoded_deg: (B, 2) positions that the location side encodes, where noise is added; None for `positions_deg`.
        queue: Locations of earlier batches, or None.
        modalities: Captions and map tiles; None where the model reads neither.
        bandwidth_scale: (B,) factor on the bandwidths by photograph, or None.
        level_ids: (B, L) numbers of the units at each level of the hierarchy, or None.
    """

    inputs: Tensor
    positions_deg: Tensor
    words: list[Words] | None
    accuracy_m: Tensor
    region_ids: Tensor
    encoded_deg: Tensor | None = None
    queue: QueuedPlaces | None = None
    modalities: ModalityInputs | None = None
    bandwidth_scale: Tensor | None = None
    level_ids: Tensor | None = None


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Seed dropout and augmentation of a step, so that a resumed run draws the same; restore the generators afterwards.

    Args:
        key: Seed, step, rank, and a number for the purpose.
    """
    mixed = 0
    for number in key:
        mixed = (mixed * 1_000_003 + number + 1) % (1 << 62)
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(mixed)
        yield


def _embed_images(model: LocatorModel, batch: Batch, part: slice, encode: Callable[[Tensor], Tensor]) -> Tensor:
    image = encode(batch.inputs[part])
    return image if batch.modalities is None else embed_modalities(model, image, batch.modalities[part])


def forward_backward(
    model: LocatorModel,
    objective: Objective,
    batch: Batch,
    *,
    encode: Callable[[Tensor], Tensor],
    chunk: int = 0,
    autocast: AbstractContextManager[object] | None = None,
    key: tuple[int, ...] = (0,),
    progress: float = 1.0,
    replicas: DistributedDataParallel | None = None,
) -> dict[str, Tensor]:
    """Compute the gradients of the objective on a batch, in the parameters.

    The loss is first differentiated with respect to the embeddings, and these are then back-propagated. With `chunk`,
    the embeddings are first computed without a graph, and each chunk is embedded again for its backward pass. This
    gives the gradient of the whole batch with the memory of a chunk.

    Of several processes, the last backward pass averages the gradients; the others accumulate them. The loss has
    communicated by then: both kinds of messages never mix, in whatever order the parameters become ready.

    Args:
        model: The model, in training mode.
        objective: The objective.
        batch: The photographs.
        encode: Embeds the inputs: `encode_pixels` or `encode_image_features` of the model, or its upper blocks.
        chunk: Photographs whose activations are in memory at once; 0 for all.
        autocast: Mixed precision for the towers; the loss stays in float32.
        key: Seed of dropout; see `seeded`.
        progress: Share of the steps completed; the objective's robust forms start after a warm-up.
        replicas: That of the parameters, by `swclip.training.distributed.replicate`; None for a single process.

    Returns:
        The objective's parts, detached.

    References:
        L. Gao, Y. Zhang, J. Han, J. Callan, "Scaling deep contrastive learning batch size under memory limited setup",
        RepL4NLP 2021 (GradCache).
    """
    autocast = autocast or nullcontext()
    count = len(batch.inputs)
    parts = (
        [slice(at, min(at + chunk, count)) for at in range(0, count, chunk)] if 0 < chunk < count else [slice(0, count)]
    )

    def images(number: int) -> Tensor:
        with seeded(*key, number), autocast:
            return _embed_images(model, batch, parts[number], encode)

    def loss_of(embedded: Tensor) -> dict[str, Tensor]:
        image, modalities = contrasted_modalities(model, embedded, batch.modalities)
        # A pretrained text tower may have dropout.
        with seeded(*key, len(parts)), autocast:
            encoded_deg = batch.positions_deg if batch.encoded_deg is None else batch.encoded_deg
            location, queue = embed_locations(model, encoded_deg, batch.words, batch.queue)
        loss, figures = objective(
            image.float(),
            location.float(),
            model.logit_scale,
            batch.positions_deg,
            batch.accuracy_m,
            batch.region_ids,
            queue=queue,
            modalities=modalities,
            bandwidth_scale=batch.bandwidth_scale,
            level_ids=batch.level_ids,
            progress=progress,
        )
        loss.backward()
        return {**figures, "scale": model.logit_scale.detach().exp()}

    last = len(parts) - 1
    with torch.no_grad() if last else nullcontext():
        passes = [images(number) for number in range(len(parts))]
    embedded = torch.cat(passes).detach().requires_grad_(True)
    with nullcontext() if replicas is None else replicas.no_sync():
        figures = loss_of(embedded)
        assert embedded.grad is not None
        for number in range(last):
            images(number).backward(embedded.grad[parts[number]])  # type: ignore[no-untyped-call]
    final = images(last) if last else passes[0]
    if replicas is not None:
        final = replicas(final)
    final.backward(embedded.grad[parts[last]])  # type: ignore[no-untyped-call]
    return figures


def rate_factor(step: int, steps: int, config: OptimizerConfig) -> float:
    """Factor on the learning rate at a step: linear warm-up, then a cosine decay to `config.final`.

    Args:
        step: The step, from 0.
        steps: Number of steps of the run.
        config: Warm-up and final shares.

    Example:
        >>> rate_factor(0, 100, OptimizerConfig(warmup=0.1)), round(rate_factor(99, 100, OptimizerConfig()), 4)
        (0.1, 0.0003)
    """
    warm = max(1, round(config.warmup * steps))
    if step < warm:
        return (step + 1) / warm
    part = (step - warm) / max(1, steps - warm)
    return config.final + (1.0 - config.final) * 0.5 * (1.0 + math.cos(math.pi * part))


def parameter_groups(
    model: LocatorModel, config: TrainingConfig, adapters: LoraAdapters | None = None
) -> list[dict[str, Any]]:
    """The trained weights, grouped by learning rate and weight decay, without those of a frozen tower.

    Args:
        model: The model.
        config: Rates, and whether the image tower is frozen.
        adapters: LoRA adapters of the image tower, if any.

    Returns:
        Groups for AdamW, each with `base_rate`, which the schedule multiplies by `rate_factor`, and `first_step`, where
        its schedule starts.
    """
    rates = config.optimizer
    tables = {id(p) for module in model.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}
    towers: list[tuple[nn.Module | None, str, float]] = [
        (model.image_tower, config.model.image.tower, rates.tower_rate),
        (model.location.text, config.model.location.text_tower, rates.text_rate),
    ]
    if model.views is not None:
        towers += [
            (model.views.caption and model.views.caption.text, config.model.views.caption, rates.text_rate),
            (model.views.map and model.views.map.tower, config.model.views.map, rates.tower_rate),
        ]
    pretrained = {
        id(p): rate
        for module, name, rate in towers
        if module is not None and name != UNTRAINED_TOWER
        for p in module.parameters()
    }
    groups: dict[tuple[float, float, int], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if config.freeze_image and name.startswith("image_tower."):
            parameter.requires_grad_(False)
        if not parameter.requires_grad:
            continue
        decay = rates.weight_decay if parameter.ndim > 1 else 0.0
        rate = rates.rate
        if name in ("logit_scale", "views.log_weight"):
            rate = rates.scale_rate
        elif id(parameter) in pretrained:
            rate = pretrained[id(parameter)]
        elif id(parameter) in tables:
            decay = 0.0
            rate = rates.rate if name.startswith(("location.text.", "views.")) else rates.grid_rate
        first = config.tuning.after if name.startswith("image_tower.") else 0
        groups.setdefault((rate, decay, first), []).append(parameter)
    if adapters is not None:  # few parameters with initial value 0: weight decay would only keep them there
        groups.setdefault((rates.lora_rate, 0.0, config.tuning.after), []).extend(adapters.parameters())
    return [
        {"params": parameters, "lr": rate, "base_rate": rate, "weight_decay": decay, "first_step": first}
        for (rate, decay, first), parameters in groups.items()
    ]
