"""The whole loss of SW-CLIP as a module for any training loop.

In distributed training every process calls it on its local batch; with `gather=True` of the contrast the terms use the
batch of all processes.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor, nn

from swclip.errors import ConfigError
from swclip.losses.batch import checked_places, gather_embeddings
from swclip.losses.checked_input import checked_pair, checked_region_ids
from swclip.losses.divergences import mean_of_directions
from swclip.losses.fairness import RegionalFairnessLoss
from swclip.losses.neighbourhood import NeighbourhoodConsistencyLoss, ratio_of_sums
from swclip.losses.spatial_contrastive import SpatialContrastiveLoss


class SWCLIPLoss(nn.Module):
    """The whole loss of SW-CLIP: the spatial contrast, neighbourhood consistency and regional fairness.

        L = L_sw + lambda_nc L_nc + lambda_fair L_fair

    Args:
        contrastive: The contrast; `SpatialContrastiveLoss()` where None. Its `normalize` and `gather` apply to all.
        neighbourhood: The neighbourhood term; None for one with the smallest bandwidth, the kernel, the default
            accuracy and the tiles of the contrast.
        fairness: The fairness term, over the contrast's losses by photograph; `RegionalFairnessLoss()` where None.
        lambda_nc: Weight of the neighbourhood term; 0 omits it.
        lambda_fair: Weight of the fairness term; 0 omits it, and then no districts are needed.

    Raises:
        ConfigError: A weight is negative, or the contrast has no reduction.

    References:
        Han et al., "Spatially-Weighted CLIP for Street-View Geo-localization", arXiv 2604.04357 (2026).

    Example:
        >>> loss_fn = SWCLIPLoss(SpatialContrastiveLoss(bandwidth_m=25.0), lambda_fair=0.1)
        >>> positions_deg = torch.tensor([[52.2050, 0.1190], [52.2051, 0.1190], [52.2090, 0.1190]], dtype=torch.float64)
        >>> terms = loss_fn.terms(torch.eye(3), torch.eye(3), positions_deg, region_ids=[0, 0, 1])
        >>> sorted(terms)
        ['contrastive', 'fairness', 'loss', 'neighbourhood']
    """

    def __init__(
        self,
        contrastive: SpatialContrastiveLoss | None = None,
        neighbourhood: NeighbourhoodConsistencyLoss | None = None,
        fairness: RegionalFairnessLoss | None = None,
        *,
        lambda_nc: float = 0.25,
        lambda_fair: float = 0.05,
    ) -> None:
        super().__init__()
        for name, value in (("lambda_nc", lambda_nc), ("lambda_fair", lambda_fair)):
            if not (math.isfinite(value) and value >= 0.0):
                raise ConfigError(f"{name} {value} must be 0 or more.")
        self.contrastive = SpatialContrastiveLoss() if contrastive is None else contrastive
        if self.contrastive.reduction != "mean":
            raise ConfigError("the total is a mean over the batch: give a contrastive loss with reduction='mean'.")
        targets = self.contrastive.targets
        self.neighbourhood = neighbourhood or NeighbourhoodConsistencyLoss(
            min(targets.bandwidths_m),
            targets.kernel,
            default_accuracy_m=targets.default_accuracy_m,
            tile=self.contrastive.tile,
        )
        self.fairness = fairness or RegionalFairnessLoss()
        self.lambda_nc, self.lambda_fair = lambda_nc, lambda_fair

    def forward(self, *args: Any, **kwargs: Any) -> Float[Tensor, ""]:
        """The loss of a batch: `loss` of `terms`, which describes arguments and errors.

        Returns:
            Scalar.
        """
        return self.terms(*args, **kwargs)["loss"]

    def terms(
        self,
        image_embeddings: Float[Tensor, "b d"],
        location_embeddings: Float[Tensor, "b d"],
        positions_deg: ArrayLike | Tensor,
        region_ids: ArrayLike | Tensor | None = None,
        *,
        accuracy_m: ArrayLike | Tensor | None = None,
        logit_scale: Tensor | float | None = None,
        bandwidth_scale: ArrayLike | Tensor | None = None,
    ) -> dict[str, Float[Tensor, ""]]:
        """The loss of a batch and its terms.

        Args:
            image_embeddings: (B, D) embeddings of the photographs.
            location_embeddings: (B, D) embeddings of their positions.
            positions_deg: (B, 2) latitude, longitude in degrees, float64.
            region_ids: (B,) integers, the district of each photograph, negative where it has none; for the fairness
                term.
            accuracy_m: (B,) GPS accuracies, as in `SpatialContrastiveLoss.forward`.
            logit_scale: Scalar, the **logarithm** of the scale.
            bandwidth_scale: Factor on the bandwidths of contrast and neighbourhood.

        Returns:
            The scalars `loss` (the total), `contrastive`, and `neighbourhood` and `fairness` where their weight is not
            0.

        Raises:
            InputError: Invalid input; the message names the row and a remedy.
            ConfigError: The fairness term has no districts, there is no scale, or processes have different numbers of
                photographs.
        """
        fair = self.lambda_fair > 0.0
        if fair and region_ids is None:
            raise ConfigError(
                "the fairness term needs the district of each photograph: pass region_ids, or lambda_fair=0."
            )
        contrastive = self.contrastive
        pair = checked_pair(image_embeddings, location_embeddings, contrastive.normalize)
        places = checked_places(pair[0], positions_deg, accuracy_m, bandwidth_scale, contrastive.gather)
        image, location = (gather_embeddings(rows, contrastive.gather) for rows in pair)
        scale = contrastive.scale(logit_scale, pair[0].device)
        by_image, by_location, _ = contrastive.divergences(image, location, places, scale)
        rows = [by_image, by_location]
        if self.lambda_nc > 0.0:
            rows += self.neighbourhood.terms(image, places)
        # One gather for all values per photograph.
        stacked = torch.stack([row.to(by_image.dtype) for row in rows], dim=1)
        by_image, by_location, *further = gather_embeddings(stacked, contrastive.gather).gathered.unbind(1)
        loss = mean_of_directions(by_image, by_location)
        terms = {"contrastive": loss}
        if self.lambda_nc > 0.0:
            terms["neighbourhood"] = ratio_of_sums(*further)
            loss = loss + self.lambda_nc * terms["neighbourhood"]
        if fair and region_ids is not None:
            ids = checked_region_ids(region_ids, len(pair[0])).to(pair[0].device)
            ids = gather_embeddings(ids, contrastive.gather).gathered
            terms["fairness"] = self.fairness.by_region((by_image + by_location) / 2, ids)
            loss = loss + self.lambda_fair * terms["fairness"]
        return {"loss": loss, **terms}
