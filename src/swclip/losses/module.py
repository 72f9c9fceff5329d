"""The losses as modules for any training loop; `swclip train` uses the same ones.

Each module checks and normalises its input and then calls the pure functions of this package. In distributed training
every process calls it on its local batch; with `gather=True` the terms use the batch of all processes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor, nn

from swclip.errors import ConfigError
from swclip.geo.kernels import KernelName
from swclip.losses.batch import GatheredRows, Places, checked_places, gather_embeddings
from swclip.losses.checked_input import check_pair, checked_embeddings, checked_logit_scale, checked_region_ids
from swclip.losses.fairness import RegionalFairnessLoss
from swclip.losses.memory_bank import QueuedLocations, queued_targets
from swclip.losses.neighbourhood import NeighbourhoodConsistencyLoss, ratio_of_sums
from swclip.losses.spatial_contrastive import directional_divergences, mean_of_directions
from swclip.losses.targets import TargetConfig, soft_targets

_MAX_SCALE = 100.0
"""Upper bound of the scale, as in CLIP."""


class Divergences(NamedTuple):
    """The contrastive divergences of the local rows.

    Attributes:
        by_image: (B,) divergence of each photograph over the locations.
        by_location: (B,) divergence of each location over the photographs.
        targets: (B, N) soft targets over the locations of the batch.
        target_self: (B,) share of each photograph's target on its own location.
    """

    by_image: Float[Tensor, " b"]
    by_location: Float[Tensor, " b"]
    targets: Float[Tensor, "b n"]
    target_self: Float[Tensor, " b"]


class SpatialContrastiveLoss(nn.Module):
    """CLIP's contrastive loss with soft targets that decay with geographic distance.

        T_ij = (1 - alpha) [i = j] + alpha K(d_ij; h_ij) / sum_k K(d_ik; h_ik)
        L_sw = 1/2 KL(T || softmax(s V U^T)) + 1/2 KL(T || softmax(s U V^T))

    Photographs V and locations U of nearby places are partial positives of each other; distant ones are negatives as in
    CLIP. The minimum is 0 for every kernel; `alpha=0` equals CLIP's symmetric cross-entropy to the last bit of float64.
    A batch needs photographs within a few bandwidths of each other: draw neighbours together (docs/losses.md).

    Args:
        bandwidth_m: Bandwidth h in metres; several are a mixture of scales (street, neighbourhood, city).
        kernel: `exponential`, `gaussian`, `bisquare`, `tricube` or `inverse-distance`.
        alpha: Share of the target that the kernel spreads, 0 (CLIP) to 1.
        shares: Weight of each bandwidth of a mixture; equal where None.
        default_accuracy_m: 1-sigma GPS accuracy in metres of a photograph without one.
        scale: Initial softmax scale s, the inverse of a temperature. None: the loss has no scale, and each call passes
            `logit_scale`.
        learn_scale: Learn log(s), the parameter `logit_scale`: pass the loss's parameters to the optimizer, without
            weight decay. It is clamped to s <= 100, as in CLIP. False keeps `scale` constant.
        normalize: Divide embeddings by their length; False refuses embeddings that do not have unit length.
        gather: Contrast with the photographs of all processes, with gradients; no effect without a process group. All
            processes must have the same number of photographs; each gets the loss of the whole batch.
        symmetric: Both directions; False for photograph to location only.
        reduction: `mean`, or `none` for one value per local photograph.

    Raises:
        ConfigError: An option has a value that cannot work.

    References:
        Han et al., "Spatially-Weighted CLIP for Street-View Geo-localization", arXiv 2604.04357 (2026).
        Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (2021), fig. 3.

    Example:
        >>> loss_fn = SpatialContrastiveLoss(bandwidth_m=25.0, scale=1.0)
        >>> positions_deg = torch.tensor([[52.2050, 0.1190], [52.2051, 0.1190], [52.2090, 0.1190]], dtype=torch.float64)
        >>> round(loss_fn(torch.eye(3), torch.eye(3), positions_deg).item(), 3)
        0.366
    """

    logit_scale: Tensor | None

    def __init__(
        self,
        bandwidth_m: float | Sequence[float] = 25.0,
        kernel: KernelName = "exponential",
        alpha: float = 1.0,
        *,
        shares: Sequence[float] | None = None,
        default_accuracy_m: float = 0.0,
        scale: float | None = 1.0 / 0.07,
        learn_scale: bool = True,
        normalize: bool = True,
        gather: bool = False,
        symmetric: bool = True,
        reduction: Literal["mean", "none"] = "mean",
    ) -> None:
        super().__init__()
        self.targets = TargetConfig(
            alpha=alpha,
            kernel=kernel,
            bandwidths_m=(float(bandwidth_m),) if isinstance(bandwidth_m, (int, float)) else tuple(bandwidth_m),
            shares=None if shares is None else tuple(shares),
            default_accuracy_m=default_accuracy_m,
        )
        if reduction not in ("mean", "none"):
            raise ConfigError(f"reduction {reduction!r} is not known; choose 'mean' or 'none'.")
        if scale is not None and not 0.0 < scale <= _MAX_SCALE:
            raise ConfigError(f"scale {scale} must be above 0 and at most {_MAX_SCALE:g}; it is 1 / temperature.")
        self.normalize, self.gather, self.symmetric, self.reduction = normalize, gather, symmetric, reduction
        if scale is None:
            self.register_parameter("logit_scale", None)
        elif learn_scale:
            self.logit_scale = nn.Parameter(torch.tensor(math.log(scale)))
        else:
            self.register_buffer("logit_scale", torch.tensor(math.log(scale)))

    @classmethod
    def from_config(cls, targets: TargetConfig, symmetric: bool = True) -> SpatialContrastiveLoss:
        """The module of a recipe: without a scale, for unit vectors, over the batch of all processes."""
        loss = cls(scale=None, normalize=False, gather=True, symmetric=symmetric)
        loss.targets = targets
        return loss

    def forward(
        self,
        image_embeddings: Float[Tensor, "b d"],
        location_embeddings: Float[Tensor, "b d"],
        positions_deg: ArrayLike | Tensor,
        *,
        accuracy_m: ArrayLike | Tensor | None = None,
        logit_scale: Tensor | float | None = None,
        bandwidth_scale: ArrayLike | Tensor | None = None,
    ) -> Float[Tensor, ""] | Float[Tensor, " b"]:
        """The loss of a batch.

        Args:
            image_embeddings: (B, D) embeddings of the photographs.
            location_embeddings: (B, D) embeddings of their positions.
            positions_deg: (B, 2) latitude, longitude in degrees, float64; a NumPy array or a tensor on any device.
            accuracy_m: (B,) 1-sigma GPS accuracies in metres, NaN where unknown: h_ij^2 = h^2 + a_i^2 + a_j^2.
            logit_scale: Scalar, the **logarithm** of the scale s; that of the loss where None.
            bandwidth_scale: Factor on the bandwidths: a number, or (B,) by photograph (a pair: the geometric mean).

        Returns:
            Scalar, or (B,) with `reduction="none"`.

        Raises:
            InputError: Invalid input; the message names the row and a remedy.
            ConfigError: There is no scale, or, with `gather`, processes have different numbers of photographs.
        """
        pair = _checked_pair(image_embeddings, location_embeddings, self.normalize)
        places = checked_places(pair[0], positions_deg, accuracy_m, bandwidth_scale, self.gather)
        image, location = (gather_embeddings(rows, self.gather) for rows in pair)
        by_image, by_location, *_ = self.divergences(image, location, places, self.scale(logit_scale, pair[0].device))
        if self.reduction == "none":
            return (by_image + by_location) / 2
        rows = torch.stack([by_image, by_location], dim=1)
        return mean_of_directions(*gather_embeddings(rows, self.gather).gathered.unbind(1))

    def scale(self, logit_scale: Tensor | float | None, device: torch.device) -> Float[Tensor, ""]:
        """The logarithm of the scale of a call: `logit_scale`, or the parameter of the loss where None.

        Raises:
            ConfigError: The loss was created with `scale=None` and `logit_scale` is None.
            InputError: `logit_scale` is not the logarithm of a scale.
        """
        if logit_scale is not None:
            return checked_logit_scale(logit_scale, device)
        if self.logit_scale is None:
            raise ConfigError("the loss was created with scale=None: pass logit_scale, the logarithm of the scale.")
        if self.training and isinstance(self.logit_scale, nn.Parameter):
            with torch.no_grad():  # as CLIP does after each step; here, so that no loop can forget it
                self.logit_scale.clamp_(max=math.log(_MAX_SCALE))
        return self.logit_scale

    def divergences(
        self,
        image: GatheredRows,
        location: GatheredRows,
        places: Places,
        logit_scale: Float[Tensor, ""],
        queue: QueuedLocations | None = None,
    ) -> Divergences:
        """The contrastive divergences of the local rows; the input is not checked.

        Args:
            image: (B, D) and (N, D) unit embeddings of the photographs.
            location: (B, D) and (N, D) unit embeddings of the locations.
            places: The positions of the photographs.
            logit_scale: Scalar, the logarithm of the scale.
            queue: Further locations among the candidates of the photographs; not used in the other direction.
        """
        config, first, target_device = self.targets, places.local.start, image.local.device
        dtype = torch.promote_types(torch.promote_types(image.local.dtype, location.local.dtype), torch.float32)
        # Plain CLIP needs no distance.
        distance_m = places.distance_m if config.alpha > 0.0 else places.no_distance_m
        targets = soft_targets(distance_m, config, *places.accuracies, first_match=first, **places.bandwidth_scales)
        # Cast before moving: not every device has float64.
        targets = targets.to(dtype).to(target_device)
        by_column, all_location, all_image = targets, location.others, image.others
        if queue is not None:
            local_deg = places.positions_deg[places.local]
            by_row = queued_targets(
                distance_m, local_deg, queue, config, *places.accuracies, first_match=first, **places.bandwidth_scales
            )
            by_row = by_row.to(dtype).to(target_device)
            all_location, all_image = torch.cat([location.gathered, queue.embedding]), image.gathered
        else:
            by_row = targets
        by_image, by_location = directional_divergences(
            image.local, location.local, logit_scale, by_row, by_column, all_image, all_location
        )
        return Divergences(by_image, by_location if self.symmetric else by_image, targets, by_row.diagonal(first))

    def extra_repr(self) -> str:
        """The settings that `print` shows."""
        config = self.targets
        return (
            f"bandwidth_m={config.bandwidths_m}, kernel={config.kernel!r}, alpha={config.alpha}, gather={self.gather}"
        )


class SWCLIPLoss(nn.Module):
    """The whole loss of SW-CLIP: the spatial contrast, neighbourhood consistency and regional fairness.

        L = L_sw + lambda_nc L_nc + lambda_fair L_fair

    Args:
        contrastive: The contrast; `SpatialContrastiveLoss()` where None. Its `normalize` and `gather` apply to all.
        neighbourhood: The neighbourhood term; None for one with the smallest bandwidth, the kernel and the default
            accuracy of the contrast.
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
            min(targets.bandwidths_m), targets.kernel, default_accuracy_m=targets.default_accuracy_m
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
        pair = _checked_pair(image_embeddings, location_embeddings, contrastive.normalize)
        places = checked_places(pair[0], positions_deg, accuracy_m, bandwidth_scale, contrastive.gather)
        image, location = (gather_embeddings(rows, contrastive.gather) for rows in pair)
        scale = contrastive.scale(logit_scale, pair[0].device)
        by_image, by_location, *_ = contrastive.divergences(image, location, places, scale)
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


def _checked_pair(image: Tensor, location: Tensor, normalize: bool) -> tuple[Tensor, Tensor]:
    image = checked_embeddings(image, "image_embeddings", normalize)
    location = checked_embeddings(location, "location_embeddings", normalize)
    check_pair(image, location)
    return image, location
