"""Parameter groups of the optimizer, and the learning rate at each step."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from swclip.models.config import UNTRAINED_TOWER
from swclip.models.locator_model import LocatorModel
from swclip.training.config import OptimizerConfig, TrainingConfig
from swclip.training.fine_tuning import LoraAdapters


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
