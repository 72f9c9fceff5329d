"""One optimizer step: embed a batch, in chunks if it must fit into little memory, and back-propagate the objective."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from swclip.losses import Objective
from swclip.models.location_text import Words
from swclip.models.locator_model import LocatorModel


@dataclass(frozen=True)
class Batch:
    """What a step sees of the photographs of one process.

    Attributes:
        inputs: (B, 3, H, W) preprocessed photographs, or (B, F) features of a frozen tower.
        positions_deg: (B, 2) latitude, longitude in degrees, float64.
        words: B mappings of what the prompt may name, or None.
        accuracy_m: (B,) GPS accuracies in metres, NaN where unknown.
        region_ids: (B,) numbers of the regions.
    """

    inputs: Tensor
    positions_deg: Tensor
    words: list[Words] | None
    accuracy_m: Tensor
    region_ids: Tensor


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Dropout and augmentation of a step drawn from its own seed, so that a resumed run draws the same.

    Args:
        key: Seed, step, rank, and what it is drawn for. The generators are put back afterwards.
    """
    mixed = 0
    for number in key:
        mixed = (mixed * 1_000_003 + number + 1) % (1 << 62)
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(mixed)
        yield


def _embed_images(model: LocatorModel, inputs: Tensor, frozen: bool) -> Tensor:
    return model.encode_image_features(inputs) if frozen else model.encode_pixels(inputs)


def forward_backward(
    model: LocatorModel,
    objective: Objective,
    batch: Batch,
    *,
    frozen: bool,
    chunk: int = 0,
    autocast: AbstractContextManager[object] | None = None,
    key: tuple[int, ...] = (0,),
    progress: float = 1.0,
) -> dict[str, Tensor]:
    """Gradients of the objective on a batch, left in the parameters.

    With `chunk`, the embeddings are computed without a graph first, the loss is differentiated with respect to them,
    and each chunk is then embedded again and handed its part: the gradient of the whole batch at the memory of a chunk.

    Args:
        model: The model, in training mode.
        objective: The objective.
        batch: The photographs.
        frozen: Whether the inputs are features of a frozen tower.
        chunk: Photographs whose activations are in memory at once; 0 for all.
        autocast: Mixed precision for the towers; the loss stays in float32.
        key: What dropout is drawn from.
        progress: Share of the steps that are made; the objective's robust forms wait for their warm-up.

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
            return _embed_images(model, batch.inputs[parts[number]], frozen)

    def loss_of(image: Tensor) -> dict[str, Tensor]:
        # A pretrained text tower has dropout of its own.
        with seeded(*key, len(parts)), autocast:
            location = model.encode_positions(batch.positions_deg, batch.words)
        loss, figures = objective(
            image.float(),
            location.float(),
            model.logit_scale,
            batch.positions_deg,
            batch.accuracy_m,
            batch.region_ids,
            progress=progress,
        )
        loss.backward()
        return {**figures, "scale": model.logit_scale.detach().exp()}

    if len(parts) == 1:
        return loss_of(images(0))
    with torch.no_grad():
        embedded = torch.cat([images(number) for number in range(len(parts))])
    embedded.requires_grad_(True)
    figures = loss_of(embedded)
    assert embedded.grad is not None
    for number, part in enumerate(parts):
        images(number).backward(embedded.grad[part])  # type: ignore[no-untyped-call]
    return figures
