"""Rank-N-Contrast, a compared method: image similarities ordered by geographic distance, without a bandwidth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from swclip.errors import ConfigError

RankSimilarity = Literal["l2", "cosine"]

TIE_M = 1e-3
"""Distances are rounded to the millimetre before they are compared. The headings of a panorama have equal distances to
all others, but the last bit of a distance depends on its index in a vectorised computation; ties must not."""

_NEAREST = 1e-6
"""Squared L2 distance below which a pair of embeddings has no gradient: a norm has none at 0, and float32 rounds."""


@dataclass(frozen=True)
class RankNContrastConfig:
    """The Rank-N-Contrast term of the objective.

    Args:
        weight: Its weight in the objective; 0 omits it.
        tau: Temperature of the similarities. The paper's 2 is for embeddings of any length; the distance of unit
            vectors is at most 2, and needs a smaller one.
        similarity: `l2`, the negative L2 distance of the paper, or `cosine`.

    Raises:
        ConfigError: A value that cannot work.
    """

    weight: float = 0.0
    tau: float = 2.0
    similarity: RankSimilarity = "l2"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight >= 0.0):
            raise ConfigError(f"rank_n_contrast weight {self.weight} must be 0 or more.")
        _check(self.tau, self.similarity)


def _check(tau: float, similarity: str) -> None:
    if not (math.isfinite(tau) and tau > 0.0):
        raise ConfigError(f"rank_n_contrast tau {tau} must be a positive number.")
    if similarity not in get_args(RankSimilarity):
        raise ConfigError(
            f"rank_n_contrast similarity {similarity!r} is not known; choose one of {get_args(RankSimilarity)}."
        )


def rank_n_contrast_loss(
    image: Float[Tensor, "b d"],
    distance_m: Float64[Tensor, "b b"],
    tau: float = 2.0,
    similarity: RankSimilarity = "l2",
) -> Float[Tensor, ""]:
    """Contrast of each pair of photographs with all pairs at the same or a larger distance.

        L = 1/B sum_i 1/(B - 1) sum_{j != i} -log( exp(s_ij / tau) / sum_{k != i, d_ik >= d_ij} exp(s_ik / tau) )

    Only the order of the distances has an effect. The sum of a pair includes the pair itself and all ties with it. The
    cost is O(B^2 log B): each row is sorted by distance, and the sums are one cumulative log-sum-exp.

    Args:
        image: (B, D) image embeddings V.
        distance_m: (B, B) geographic distances in metres; the diagonal is not used.
        tau: Temperature.
        similarity: `l2`: `s_ij = -|v_i - v_j|`; `cosine`: `s_ij = v_i . v_j / (|v_i| |v_j|)`.

    Returns:
        Scalar; 0 for a single photograph. With all distances equal and all similarities equal it is log(B - 1).

    Raises:
        ConfigError: The temperature is not positive, or the similarity is unknown.

    References:
        K. Zha, P. Cao, J. Son, Y. Yang, D. Katabi, "Rank-N-Contrast: Learning Continuous Representations for
        Regression", NeurIPS 2023, eq. 1 and 2. There a batch has two augmented views of each sample; here one.

    Example:
        >>> distance_m = torch.tensor([[0.0, 1, 2], [1, 0, 1], [2, 1, 0]], dtype=torch.float64)
        >>> line, folded = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[0.0], [2.0], [1.0]])
        >>> [round(rank_n_contrast_loss(v, distance_m, tau=0.5).item(), 3) for v in (line, folded)]
        [0.273, 0.846]
    """
    return rank_n_contrast_terms(image, distance_m, tau, similarity).mean()


def rank_n_contrast_terms(
    image: Float[Tensor, "b d"],
    distance_m: Float64[Tensor, "b n"],
    tau: float = 2.0,
    similarity: RankSimilarity = "l2",
    all_image: Float[Tensor, "n d"] | None = None,
    first_match: int = 0,
) -> Float[Tensor, " b"]:
    """The Rank-N-Contrast loss of each row, the mean over its pairs.

    Args:
        image: (B, D) image embeddings.
        distance_m: (B, N) geographic distances to all photographs, metres.
        tau: Temperature.
        similarity: `l2` or `cosine`.
        all_image: (N, D) embeddings of all photographs; `image` where None.
        first_match: The column of the photograph of row 0.

    Returns:
        (B,) losses.

    Raises:
        ConfigError: The temperature is not positive, or the similarity is unknown.
    """
    _check(tau, similarity)
    if distance_m.shape[1] < 2:
        return image.sum(dim=1) * 0.0
    with torch.autocast(image.device.type, enabled=False):
        dtype = torch.promote_types(image.dtype, torch.float32)
        image = image.to(dtype)
        logits = _similarities(image, image if all_image is None else all_image.to(dtype), similarity) / tau
        itself = torch.zeros(distance_m.shape, dtype=torch.bool, device=distance_m.device)
        itself.diagonal(first_match).fill_(True)
        # The photograph itself is first and is dropped. Sorted on the device of the distances, which has float64.
        ordered, order = (distance_m / TIE_M).round().masked_fill(itself, -torch.inf).sort(dim=1)
        ordered, order = ordered[:, 1:].contiguous(), order[:, 1:].to(image.device)
        first_tie = torch.searchsorted(ordered, ordered).to(image.device)
        near_to_far = logits.gather(1, order)
        farther = near_to_far.flip(1).logcumsumexp(1).flip(1).gather(1, first_tie)
        return (farther - near_to_far).mean(dim=1)


def _similarities(
    image: Float[Tensor, "b d"], others: Float[Tensor, "n d"], similarity: RankSimilarity
) -> Float[Tensor, "b n"]:
    if similarity == "cosine":
        return torch.nn.functional.normalize(image, dim=1) @ torch.nn.functional.normalize(others, dim=1).T
    squared = image.square().sum(1)[:, None] + others.square().sum(1) - 2.0 * image @ others.T
    return -squared.clamp_min(_NEAREST).sqrt()
