"""Hierarchy: the softmax over locations, summed within cities and cells, as a prediction of city and cell."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from swclip.errors import ConfigError


@dataclass(frozen=True)
class HierarchyConfig:
    """The hierarchy term of the objective.

    Args:
        weight: Its weight in the objective; 0 omits it.
        levels: Columns of the manifest with the unit of each photograph, such as `city`.
        resolutions: H3 resolutions whose cells are further levels; cells of 8 are about 0.9 km wide, of 10 130 m.

    Raises:
        ConfigError: A value that cannot work.
    """

    weight: float = 0.0
    levels: tuple[str, ...] = ("city",)
    resolutions: tuple[int, ...] = (8, 10)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight >= 0.0):
            raise ConfigError(f"hierarchy weight {self.weight} must be 0 or more.")
        wrong = [resolution for resolution in self.resolutions if resolution not in range(16)]
        if wrong:
            raise ConfigError(f"hierarchy resolution {wrong[0]} does not exist; H3 has 0 to 15.")
        if len(set(self.levels)) < len(self.levels) or len(set(self.resolutions)) < len(self.resolutions):
            raise ConfigError(f"hierarchy names a level twice: {[*self.levels, *self.resolutions]}.")
        if self.weight > 0.0 and not (self.levels or self.resolutions):
            raise ConfigError("the hierarchy term has no level: name columns (levels) or H3 resolutions, or weight 0.")


def hierarchy_loss(
    image: Float[Tensor, "b d"],
    location: Float[Tensor, "b d"],
    logit_scale: Float[Tensor, ""],
    level_ids: Int[Tensor, "b l"],
) -> Float[Tensor, ""]:
    """Negative log probability of each photograph's unit at each level, of both softmaxes of a batch.

        p_l(i)  = sum over j with c_jl = c_il of softmax(s V U^T)_ij          the photograph's city or cell
        p'_l(i) = the same of softmax(s U V^T)                                the location's
        L_hier  = mean over levels of the mean over i of (-log p_l(i) - log p'_l(i)) / 2

    The logits are those of the contrastive loss, so that point, cell and city have one distribution. The distribution
    within a unit has no effect; it is trained by the contrastive loss. The loss is 0 where all are in one unit, and
    CLIP's one-hot loss where each photograph is alone in its unit. It is computed by log-sum-exp.

    Args:
        image: (B, D) image embeddings V, L2-normalised.
        location: (B, D) location embeddings U, L2-normalised; row i is the position of photograph i.
        logit_scale: Scalar, the **logarithm** of the scale s.
        level_ids: (B, L) the unit of each photograph at each level; where it is unknown (negative), the photograph is
            ignored at that level, as a row and as a column.

    Returns:
        Scalar; levels without known units are not part of the mean; 0 where there are none.

    References:
        The SW-CLIP paper names hierarchical spatial models as future work; the term is by swclip. The sum within a set
        of positives before the logarithm is that of A. Miech et al., "End-to-End Learning of Visual Representations
        from Uncurated Instructional Videos" (2020), eq. 1 (MIL-NCE).

    Example:
        >>> embedding, scale = torch.eye(3), torch.tensor(0.0)
        >>> round(hierarchy_loss(embedding, embedding, scale, torch.tensor([[0], [0], [1]])).item(), 3)
        0.343
    """
    return hierarchy_terms(image, location, logit_scale, level_ids).sum()


def hierarchy_terms(
    image: Float[Tensor, "b d"],
    location: Float[Tensor, "b d"],
    logit_scale: Float[Tensor, ""],
    level_ids: Int[Tensor, "b l"],
    all_image: Float[Tensor, "n d"] | None = None,
    all_location: Float[Tensor, "n d"] | None = None,
    all_level_ids: Int[Tensor, "n l"] | None = None,
) -> Float[Tensor, " b"]:
    """The contribution of each row to `hierarchy_loss`, which is their sum over all rows of all processes.

    Args:
        image: (B, D) image embeddings of this process's rows.
        location: (B, D) their location embeddings.
        logit_scale: Scalar, the logarithm of the scale.
        level_ids: (B, L) their units.
        all_image: (N, D) all photographs; `image` where None.
        all_location: (N, D) all locations; `location` where None.
        all_level_ids: (N, L) their units; `level_ids` where None.

    Returns:
        (B,) terms.
    """
    with torch.autocast(image.device.type, enabled=False):
        dtype = torch.promote_types(torch.promote_types(image.dtype, location.dtype), torch.float32)
        image, location = image.to(dtype), location.to(dtype)
        scale = logit_scale.to(dtype).exp()
        columns = level_ids if all_level_ids is None else all_level_ids
        logits = scale * image @ (location if all_location is None else all_location.to(dtype)).T
        logits_t = scale * location @ (image if all_image is None else all_image.to(dtype)).T
        counts = (columns >= 0).sum(0)
        used = [level for level, count in enumerate(counts.tolist()) if count > 0]
        terms = logits.sum(1) * 0.0  # with a graph even where all units are unknown
        for level in used:
            rows = (level_ids[:, level] >= 0).nonzero()[:, 0]
            among = (columns[:, level] >= 0).nonzero()[:, 0]
            same_unit = level_ids[rows, level][:, None] == columns[among, level]
            both = _surprise(logits[rows][:, among], same_unit) + _surprise(logits_t[rows][:, among], same_unit)
            terms = terms.index_add(0, rows, both / (2.0 * float(counts[level]) * len(used)))
        return terms


def _surprise(logits: Float[Tensor, "r n"], same_unit: Tensor) -> Float[Tensor, " r"]:
    # First the softmax, then the sum within the unit: the difference of two log-sum-exps would lose the digits of a
    # probability near 1. The column that matches a row is in its unit, so that no row is empty.
    return -F.log_softmax(logits, dim=1).masked_fill(~same_unit, -torch.inf).logsumexp(dim=1)
