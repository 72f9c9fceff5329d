"""The spatially weighted contrastive loss: CLIP's loss with targets that decay with geographic distance.

`SpatialContrastiveLoss` checks and normalises its input; `spatial_contrastive_loss` is the formula.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple, overload

import torch
from jaxtyping import Float, Float64
from numpy.typing import ArrayLike
from torch import Tensor, nn

from swclip.errors import ConfigError
from swclip.geo.kernels import KernelName
from swclip.losses.batch import GatheredRows, Places, checked_places, gather_embeddings
from swclip.losses.checked_input import checked_logit_scale, checked_pair
from swclip.losses.divergences import directional_divergences, mean_of_directions
from swclip.losses.memory_bank import QueuedLocations, queued_targets, with_queue
from swclip.losses.pair_tiles import pair_kernel
from swclip.losses.targets import TargetConfig, soft_targets
from swclip.losses.tiled_divergences import TileSize, check_tile, tile_size, tiled_divergences

_MAX_SCALE = 100.0
"""Upper bound of the scale, as in CLIP."""


class Divergences(NamedTuple):
    """The contrastive divergences of the local rows.

    Attributes:
        by_image: (B,) divergence of each photograph over the locations.
        by_location: (B,) divergence of each location over the photographs.
        target_self: (B,) share of each photograph's target on its own location.
    """

    by_image: Float[Tensor, " b"]
    by_location: Float[Tensor, " b"]
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
        tile: Side of the tiles in which the matrices of a large batch are computed: memory then grows with the batch
            and not with its square, and values agree within 1e-5. `auto`: tiles above 512 x 512 pairs (1024 x 1024 on
            a GPU); 0: never.

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
        tile: TileSize = "auto",
    ) -> None:
        super().__init__()
        check_tile(tile)
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
        self.tile: TileSize = tile
        if scale is None:
            self.register_parameter("logit_scale", None)
        elif learn_scale:
            self.logit_scale = nn.Parameter(torch.tensor(math.log(scale)))
        else:
            self.register_buffer("logit_scale", torch.tensor(math.log(scale)))

    @classmethod
    def from_config(
        cls, targets: TargetConfig, symmetric: bool = True, tile: TileSize = "auto"
    ) -> SpatialContrastiveLoss:
        """The module of a recipe: without a scale, for unit vectors, over the batch of all processes."""
        loss = cls(scale=None, normalize=False, gather=True, symmetric=symmetric, tile=tile)
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
        pair = checked_pair(image_embeddings, location_embeddings, self.normalize)
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
        candidates = len(location.gathered) + (0 if queue is None else len(queue.embedding))
        tile = tile_size(self.tile, len(image.local), candidates, image.local.device)
        if tile:
            return self._in_tiles(image, location, places, logit_scale, queue, tile)
        config, first = self.targets, places.local.start
        targets = self.soft_targets(image, location, places)
        by_column, all_location, all_image = targets, location.others, image.others
        if queue is not None:
            local_deg = places.positions_deg[places.local]
            by_row = queued_targets(
                self._distance_m(places),
                local_deg,
                queue,
                config,
                *places.accuracies,
                first_match=first,
                **places.bandwidth_scales,
            )
            by_row = by_row.to(targets.dtype).to(targets.device)
            all_location, all_image = torch.cat([location.gathered, queue.embedding]), image.gathered
        else:
            by_row = targets
        by_image, by_location = directional_divergences(
            image.local, location.local, logit_scale, by_row, by_column, all_image, all_location
        )
        return Divergences(by_image, by_location if self.symmetric else by_image, by_row.diagonal(first))

    def soft_targets(self, image: GatheredRows, location: GatheredRows, places: Places) -> Float[Tensor, "b n"]:
        """(B, N) targets of the local rows over the locations of the batch, in the type of the loss."""
        dtype = torch.promote_types(torch.promote_types(image.local.dtype, location.local.dtype), torch.float32)
        targets = soft_targets(
            self._distance_m(places),
            self.targets,
            *places.accuracies,
            first_match=places.local.start,
            **places.bandwidth_scales,
        )
        # Cast before moving: not every device has float64.
        return targets.to(dtype).to(image.local.device)

    def _distance_m(self, places: Places) -> Float64[Tensor, "b n"]:
        # Plain CLIP needs no distance.
        return places.distance_m if self.targets.alpha > 0.0 else places.no_distance_m

    def _in_tiles(
        self,
        image: GatheredRows,
        location: GatheredRows,
        places: Places,
        logit_scale: Float[Tensor, ""],
        queue: QueuedLocations | None,
        tile: int,
    ) -> Divergences:
        config = self.targets
        if not config.gps_noise:
            config = replace(config, default_accuracy_m=0.0)
            places = replace(places, accuracy_m=None)
        rows, match = places.of_rows, places.matches
        of_batch = pair_kernel(config, rows, places, match)
        if queue is None and image.others is None:
            result = tiled_divergences(image.local, location.local, logit_scale, of_batch, tile, both=self.symmetric)
            by_location = result.by_column if self.symmetric else result.by_row
        else:
            candidates, kernel = location.gathered, of_batch
            if queue is not None:
                candidates = torch.cat([candidates, queue.embedding])
                kernel = pair_kernel(config, rows, with_queue(places, queue), match)
            result = tiled_divergences(image.local, candidates, logit_scale, kernel, tile)
            by_location = result.by_row
            if self.symmetric:
                by_location = tiled_divergences(location.local, image.gathered, logit_scale, of_batch, tile).by_row
        alpha = config.alpha
        target_self = (1.0 - alpha) + (alpha / result.mass if alpha > 0.0 else torch.zeros_like(result.mass))
        return Divergences(result.by_row, by_location, target_self)

    def extra_repr(self) -> str:
        """The settings that `print` shows."""
        config = self.targets
        return (
            f"bandwidth_m={config.bandwidths_m}, kernel={config.kernel!r}, alpha={config.alpha}, gather={self.gather}"
        )


@overload
def spatial_contrastive_loss(
    image: Float[Tensor, "b d"],
    location: Float[Tensor, "b d"],
    logit_scale: Float[Tensor, ""],
    targets: Float[Tensor, "b b"],
    targets_t: Float[Tensor, "b b"] | None = ...,
    reduction: Literal["mean"] = ...,
) -> Float[Tensor, ""]: ...
@overload
def spatial_contrastive_loss(
    image: Float[Tensor, "b d"],
    location: Float[Tensor, "b d"],
    logit_scale: Float[Tensor, ""],
    targets: Float[Tensor, "b b"],
    targets_t: Float[Tensor, "b b"] | None = ...,
    *,
    reduction: Literal["none"],
) -> Float[Tensor, " b"]: ...
def spatial_contrastive_loss(
    image: Float[Tensor, "b d"],
    location: Float[Tensor, "b d"],
    logit_scale: Float[Tensor, ""],
    targets: Float[Tensor, "b b"],
    targets_t: Float[Tensor, "b b"] | None = None,
    reduction: Literal["mean", "none"] = "mean",
) -> Float[Tensor, ""] | Float[Tensor, " b"]:
    """KL divergence of the two softmaxes of a batch from soft targets.

        L_sw = 1/2 KL(T || softmax(s V U^T)) + 1/2 KL(T' || softmax(s U V^T)),   s = exp(logit_scale)

    The minimum is 0 for all targets. With one-hot targets it equals CLIP's symmetric cross-entropy, in value and
    gradients, to the last bit of float64. It is computed in float32 at least, with autocast off: at a scale of 100,
    bfloat16 would round the logits to multiples of 0.5.

    Args:
        image: (B, D) image embeddings V, L2-normalised.
        location: (B, D) location embeddings U, L2-normalised; row i is the position of photograph i.
        logit_scale: Scalar, the **logarithm** of the scale s, as in CLIP.
        targets: (B, B) row i: the target of photograph i over the locations; rows sum to 1.
        targets_t: (B, B) row j: the target of location j over the photographs; rows sum to 1. `targets` where None,
            which is correct for symmetric distances, as within one batch.
        reduction: `mean`, or `none` for one value per sample: the mean of photograph i's and location i's divergence.

    Returns:
        Scalar, or (B,) with `none`.

    Raises:
        ConfigError: The reduction is unknown.

    References:
        Han et al., "Spatially-Weighted CLIP for Street-View Geo-localization", arXiv 2604.04357 (2026).
        Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (2021), fig. 3.

    Example:
        >>> from swclip.losses import TargetConfig, pairwise_distance_m, soft_targets
        >>> positions_deg = torch.tensor([[52.2050, 0.1190], [52.2051, 0.1190], [52.2090, 0.1190]], dtype=torch.float64)
        >>> targets = soft_targets(pairwise_distance_m(positions_deg), TargetConfig(bandwidths_m=(25.0,)))
        >>> embedding = torch.eye(3)
        >>> round(spatial_contrastive_loss(embedding, embedding, torch.tensor(0.0), targets).item(), 3)
        0.366
    """
    if reduction not in ("mean", "none"):
        raise ConfigError(f"reduction {reduction!r} is not known; choose 'mean' or 'none'.")
    by_image, by_location = directional_divergences(image, location, logit_scale, targets, targets_t)
    if reduction == "none":
        return (by_image + by_location) / 2
    return mean_of_directions(by_image, by_location)
