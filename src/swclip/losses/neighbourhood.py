"""Neighbourhood consistency: nearby places have nearby image embeddings."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from swclip.errors import ConfigError
from swclip.geo.kernels import KernelName
from swclip.losses.batch import GatheredRows, Places, checked_places, gather_embeddings
from swclip.losses.checked_input import checked_embeddings
from swclip.losses.pair_tiles import pair_kernel
from swclip.losses.targets import TargetConfig, check_kernel, pair_weights
from swclip.losses.tiled_divergences import TileSize, check_tile, tile_size, tiled_divergences

NeighbourhoodForm = Literal["distribution", "laplacian"]

MIN_MASS = 1e-6
"""A photograph whose kernel mass outside itself is below this is isolated: about 14 bandwidths from all others
(exponential). Kernels of infinite support give weights like e^-400 to the other side of a city; normalised, they would
make the nearest photograph a neighbour at any distance."""


@dataclass(frozen=True)
class NeighbourhoodConfig:
    """The neighbourhood term of the objective.

    Args:
        form: `distribution` or `laplacian`.
        weight: Its weight in the objective; 0 omits it.
        tau: Temperature of the softmax over image similarities (`distribution`).
        bandwidth_m: Bandwidth of the kernel in metres; 0 for the smallest one of the soft targets.
        kernel: The kernel's name.

    Raises:
        ConfigError: A value that cannot work.
    """

    form: NeighbourhoodForm = "distribution"
    weight: float = 0.0
    tau: float = 0.1
    bandwidth_m: float = 25.0
    kernel: KernelName = "exponential"

    def __post_init__(self) -> None:
        _check_form(self.form, self.tau)
        if not (math.isfinite(self.weight) and self.weight >= 0.0):
            raise ConfigError(f"neighbourhood weight {self.weight} must be 0 or more.")
        check_kernel(self.kernel, (self.bandwidth_m or 1.0,))


def _check_form(form: str, tau: float) -> None:
    if form not in get_args(NeighbourhoodForm):
        raise ConfigError(f"neighbourhood form {form!r} is not known; choose one of {get_args(NeighbourhoodForm)}.")
    if not (math.isfinite(tau) and tau > 0.0):
        raise ConfigError(f"neighbourhood tau {tau} must be a positive number.")


def neighbourhood_loss(
    image: Float[Tensor, "b d"],
    weights: Float[Tensor, "b b"],
    form: NeighbourhoodForm = "distribution",
    tau: float = 0.1,
) -> Float[Tensor, ""]:
    """Deviation of the image embeddings' neighbourhoods from the geographic ones.

        distribution:  mean over i of KL(w_i. / sum_k w_ik || softmax(V V^T / tau)_i.), self excluded
        laplacian:     sum_ij w_ij |v_i - v_j|^2 / sum_ij w_ij

    `distribution` also separates distant places. `laplacian` is minimised by collapsing all embeddings to one: use it
    only beside a term that separates them.

    Args:
        image: (B, D) image embeddings V, L2-normalised.
        weights: (B, B) kernel weights of the pairs, 0 or more; the diagonal is not used.
        form: `distribution` or `laplacian`.
        tau: Temperature of `distribution`.

    Returns:
        Scalar. Photographs whose kernel mass outside themselves is below `MIN_MASS` are omitted; 0 if all are.

    Raises:
        ConfigError: The form is unknown, or the temperature is not positive.

    References:
        Han et al., arXiv 2604.04357 (2026), name a neighbourhood-consistency term without its formula: both forms are
        by swclip. M. Belkin, P. Niyogi, "Laplacian Eigenmaps" (2003), eq. 3.1, for `laplacian`.

    Example:
        >>> image = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> weights = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
        >>> neighbourhood_loss(image, weights, "laplacian").item()
        0.0
    """
    terms, shares = neighbourhood_terms(image, weights, form, tau)
    return ratio_of_sums(terms, shares)


def ratio_of_sums(terms: Float[Tensor, " b"], shares: Float[Tensor, " b"]) -> Float[Tensor, ""]:
    """Sum of the terms (B,) over the sum of the shares (B,); 0, with zero gradients, where the shares sum to 0."""
    return terms.sum() / shares.sum().clamp_min(torch.finfo(shares.dtype).tiny)


def neighbourhood_terms(
    image: Float[Tensor, "b d"],
    weights: Float[Tensor, "b n"],
    form: NeighbourhoodForm = "distribution",
    tau: float = 0.1,
    all_image: Float[Tensor, "n d"] | None = None,
    first_match: int = 0,
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """The neighbourhood loss of each row, as a term and a share; the loss is the ratio of their sums.

    Args:
        image: (B, D) image embeddings.
        weights: (B, N) kernel weights to all photographs.
        form: `distribution` or `laplacian`.
        tau: Temperature of `distribution`.
        all_image: (N, D) embeddings of all photographs; `image` where None.
        first_match: The column of the photograph of row 0.

    Returns:
        Terms (B,), and shares (B,): 1 or 0 (isolated) for `distribution`, the kernel's mass for `laplacian`.

    Raises:
        ConfigError: The form is unknown, or the temperature is not positive.
    """
    _check_form(form, tau)
    with torch.autocast(image.device.type, enabled=False):
        dtype = torch.promote_types(image.dtype, torch.float32)
        image = image.to(dtype)
        others = image if all_image is None else all_image.to(dtype)
        itself = torch.zeros(weights.shape, dtype=torch.bool, device=weights.device)
        itself.diagonal(first_match).fill_(True)
        weights = weights.masked_fill(itself, 0.0)
        mass = weights.sum(dim=1, keepdim=True)
        alone = mass < MIN_MASS
        weights = weights.masked_fill(alone, 0.0)
        if form == "laplacian":
            weights = weights.to(dtype)
            squared = image.square().sum(1)[:, None] + others.square().sum(1) - 2.0 * image @ others.T
            return (weights * squared).sum(1), weights.sum(1)
        shares = (weights / mass.masked_fill(alone, 1.0)).to(dtype)
        # A large negative number instead of -inf: 0 * -inf is NaN, and a batch may have a single photograph.
        logits = (image @ others.T / tau).masked_fill(itself, torch.finfo(dtype).min / 4)
        divergence = -(shares * F.log_softmax(logits, dim=1)).sum(1) - torch.special.entr(shares).sum(1)
        return divergence, (~alone[:, 0]).to(dtype)


class NeighbourhoodConsistencyLoss(nn.Module):
    """A term that asks nearby places for nearby image embeddings.

        distribution:  mean over i of KL(w_i. / sum_k w_ik || softmax(V V^T / tau)_i.), self excluded
        laplacian:     sum_ij w_ij |v_i - v_j|^2 / sum_ij w_ij,        w_ij = K(d_ij; h_ij)

    It is added to a contrastive loss. Photographs without a neighbour in the batch are omitted; 0 if all are.

    Args:
        bandwidth_m: Bandwidth of the kernel in metres.
        kernel: As in `SpatialContrastiveLoss`.
        form: `distribution`, or `laplacian`, which collapses the embeddings unless another loss separates them.
        tau: Temperature of `distribution`.
        default_accuracy_m: 1-sigma GPS accuracy in metres of a photograph without one.
        normalize: As in `SpatialContrastiveLoss`.
        gather: As in `SpatialContrastiveLoss`.
        tile: As in `SpatialContrastiveLoss`.

    Raises:
        ConfigError: An option has a value that cannot work.

    References:
        Han et al., arXiv 2604.04357 (2026), name the term without its formula: both forms are by swclip.

    Example:
        >>> positions_deg = torch.tensor([[52.205, 0.119], [52.205, 0.119], [52.300, 0.119]], dtype=torch.float64)
        >>> image = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> NeighbourhoodConsistencyLoss(form="laplacian")(image, positions_deg).item()
        0.0
    """

    def __init__(
        self,
        bandwidth_m: float = 25.0,
        kernel: KernelName = "exponential",
        *,
        form: NeighbourhoodForm = "distribution",
        tau: float = 0.1,
        default_accuracy_m: float = 0.0,
        normalize: bool = True,
        gather: bool = False,
        tile: TileSize = "auto",
    ) -> None:
        super().__init__()
        check_tile(tile)
        if not bandwidth_m > 0.0:
            raise ConfigError(f"bandwidth {bandwidth_m} m must be a positive, finite number of metres.")
        self.config = NeighbourhoodConfig(form, tau=tau, bandwidth_m=bandwidth_m, kernel=kernel)
        self.default_accuracy_m = TargetConfig(default_accuracy_m=default_accuracy_m).default_accuracy_m
        self.normalize, self.gather, self.tile = normalize, gather, tile

    def forward(
        self,
        image_embeddings: Float[Tensor, "b d"],
        positions_deg: ArrayLike | Tensor,
        *,
        accuracy_m: ArrayLike | Tensor | None = None,
        bandwidth_scale: ArrayLike | Tensor | None = None,
    ) -> Float[Tensor, ""]:
        """The loss of a batch, a scalar; arguments and errors as in `SpatialContrastiveLoss.forward`."""
        rows = checked_embeddings(image_embeddings, "image_embeddings", self.normalize)
        places = checked_places(rows, positions_deg, accuracy_m, bandwidth_scale, self.gather)
        terms = torch.stack(self.terms(gather_embeddings(rows, self.gather), places), dim=1)
        return ratio_of_sums(*gather_embeddings(terms, self.gather).gathered.unbind(1))

    def terms(
        self, image: GatheredRows, places: Places, trust: Float[Tensor, " n"] | None = None, scaled: bool = True
    ) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """Terms and shares (B,) of the local rows (see `neighbourhood_terms`); the input is not checked.

        Args:
            image: (B, D) and (N, D) unit embeddings of the photographs.
            places: Their positions.
            trust: (N,) weights of the photographs as neighbours; 1 where None.
            scaled: Whether `places.bandwidth_scale` applies.
        """
        count = len(image.local)
        tile = tile_size(self.tile, count, len(image.gathered), image.local.device)
        if not tile:
            return self._terms_of(image.local, image.gathered, places, trust, scaled)
        if self.config.form == "distribution" and trust is None:
            return self._in_tiles(image, places if scaled else replace(places, bandwidth_scale=None), tile)
        # Whole rows, computed again in the backward pass.
        blocks, first = [], places.local.start
        step = max(1, tile**2 // len(image.gathered))
        for start in range(0, count, step):
            end = min(start + step, count)
            part = replace(places, local=slice(first + start, first + end))
            rows = image.local[start:end]
            blocks.append(checkpoint(self._terms_of, rows, image.gathered, part, trust, scaled, use_reentrant=False))
        terms, shares = zip(*blocks, strict=True)
        return torch.cat(terms), torch.cat(shares)

    def _terms_of(
        self,
        image: Float[Tensor, "b d"],
        others: Float[Tensor, "n d"],
        places: Places,
        trust: Float[Tensor, " n"] | None,
        scaled: bool,
    ) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        config, scales = self.config, places.bandwidth_scales if scaled else {}
        weights = pair_weights(
            places.distance_m,
            config.kernel,
            (config.bandwidth_m,),
            None,
            *places.accuracies,
            self.default_accuracy_m,
            **scales,
        )
        if trust is not None:
            weights = weights * trust.to(weights)
        # Cast before moving: not every device has float64.
        weights = weights.to(torch.promote_types(image.dtype, torch.float32)).to(image.device)
        return neighbourhood_terms(image, weights, config.form, config.tau, others, first_match=places.local.start)

    def _in_tiles(
        self, image: GatheredRows, places: Places, tile: int
    ) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        targets = TargetConfig(
            kernel=self.config.kernel,
            bandwidths_m=(self.config.bandwidth_m,),
            default_accuracy_m=self.default_accuracy_m,
        )
        kernel = pair_kernel(targets, places.of_rows, places, places.matches, without_self=True, least_mass=MIN_MASS)
        log_scale = image.local.new_tensor(-math.log(self.config.tau))
        result = tiled_divergences(image.local, image.gathered, log_scale, kernel, tile)
        return result.by_row, (result.mass >= MIN_MASS).to(result.mass.dtype)
