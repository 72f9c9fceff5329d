"""Divergences of the softmaxes of a batch from its targets, with whole matrices, and their means over the batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def mean_of_directions(by_image: Float[Tensor, " n"], by_location: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """The mean over the batch (N,) of both directions, in CLIP's order of summation."""
    return (exact_mean(by_image) + exact_mean(by_location)) / 2


def directional_divergences(
    image: Float[Tensor, "b d"],
    location: Float[Tensor, "b d"],
    logit_scale: Float[Tensor, ""],
    targets: Float[Tensor, "b n"],
    targets_t: Float[Tensor, "b n"] | None = None,
    all_image: Float[Tensor, "n d"] | None = None,
    all_location: Float[Tensor, "n d"] | None = None,
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """The divergence of each photograph over the locations, and of each location over the photographs.

    Args:
        image: (B, D) image embeddings.
        location: (B, D) location embeddings.
        logit_scale: Scalar, the logarithm of the scale.
        targets: (B, N) row i: the target of photograph i over all locations.
        targets_t: (B, N) row j: the target of location j over all photographs; `targets` where None.
        all_image: (N, D) all photographs, those of all processes where the batch is gathered; `image` where None.
        all_location: (N, D) all locations; `location` where None.

    Returns:
        (B,) by photograph and (B,) by location.
    """
    with torch.autocast(image.device.type, enabled=False):
        dtype = torch.promote_types(torch.promote_types(image.dtype, location.dtype), torch.float32)
        image, location = image.to(dtype), location.to(dtype)
        scale = logit_scale.to(dtype).exp()
        targets = targets.to(dtype)
        targets_t = targets if targets_t is None else targets_t.to(dtype)
        entropy = _entropy(targets)
        entropy_t = entropy if targets_t is targets else _entropy(targets_t)
        logits = scale * image @ (location if all_location is None else all_location.to(dtype)).T
        by_image = _cross_entropy(logits, targets) - entropy
        # The transpose is taken after the first direction: autograd then sums the gradients of the logits in the order
        # of CLIP's code, and the last bit agrees.
        one_matrix = all_image is None and all_location is None
        logits_t = (
            logits.T if one_matrix else scale * location @ (image if all_image is None else all_image.to(dtype)).T
        )
        return by_image, _cross_entropy(logits_t, targets_t) - entropy_t


def _entropy(targets: Float[Tensor, "b n"]) -> Float[Tensor, " b"]:
    # entr(0) = 0: locations without a share of the target contribute nothing.
    entropy: Tensor = torch.special.entr(targets.detach()).sum(dim=1)
    return entropy


def _cross_entropy(logits: Float[Tensor, "b n"], targets: Float[Tensor, "b n"]) -> Float[Tensor, " b"]:
    return -(targets * F.log_softmax(logits, dim=1)).sum(dim=1)


def exact_mean(values: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """The mean, summed in the order in which `torch.nn.functional.cross_entropy` sums.

    `Tensor.mean` has another order of summation, and differs from CLIP's loss in the last bit for every second batch.
    """
    return F.nll_loss(-values[:, None], torch.zeros(len(values), dtype=torch.long, device=values.device))
