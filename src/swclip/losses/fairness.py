"""Regional fairness: terms that narrow the gap of the loss between districts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from torch import Tensor, nn

from swclip.errors import ConfigError, InputError
from swclip.losses.batch import all_gather_rows, check_same_rows
from swclip.losses.checked_input import checked_region_ids

FairnessForm = Literal["variance", "group-dro", "cvar"]


@dataclass(frozen=True)
class FairnessConfig:
    """The fairness term of the objective.

    Args:
        form: `variance`, `group-dro` or `cvar`.
        weight: Its weight in the objective; 0 omits it.
        eta: Step size of the districts' weights (`group-dro`).
        fraction: Share of the districts, the worst ones, that `cvar` averages.

    Raises:
        ConfigError: A value that cannot work.
    """

    form: FairnessForm = "variance"
    weight: float = 0.0
    eta: float = 0.01
    fraction: float = 0.25

    def __post_init__(self) -> None:
        if self.form not in get_args(FairnessForm):
            raise ConfigError(f"fairness form {self.form!r} is not known; choose one of {get_args(FairnessForm)}.")
        if not (math.isfinite(self.weight) and self.weight >= 0.0):
            raise ConfigError(f"fairness weight {self.weight} must be 0 or more.")
        _check_eta(self.eta)
        _check_fraction(self.fraction)


def _check_eta(eta: float) -> None:
    if not (math.isfinite(eta) and eta >= 0.0):
        raise ConfigError(f"fairness eta {eta} must be 0 or more.")


def _check_fraction(fraction: float) -> None:
    if not 0.0 < fraction <= 1.0:
        raise ConfigError(f"fairness fraction {fraction} must be above 0 and at most 1.")


def regional_means(
    per_sample: Float[Tensor, " b"], region_ids: Int[Tensor, " b"], weights: Float[Tensor, " b"] | None = None
) -> tuple[Float[Tensor, " r"], Int[Tensor, " r"]]:
    """Mean loss of each district in the batch.

    Args:
        per_sample: (B,) losses.
        region_ids: (B,) district of each sample; samples without one (negative) are ignored.
        weights: (B,) weight of each sample in the mean of its district, equal where None; samples of weight 0 are
            ignored.

    Returns:
        (R,) means of the districts present, and (R,) their ids, increasing.

    Example:
        >>> means, ids = regional_means(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([4, 4, -1]))
        >>> means.tolist(), ids.tolist()
        ([2.0], [4])
    """
    placed = region_ids >= 0 if weights is None else (region_ids >= 0) & (weights > 0.0)
    ids, which, counts = torch.unique(region_ids[placed], return_inverse=True, return_counts=True)
    sums = torch.zeros(len(ids), dtype=per_sample.dtype, device=per_sample.device)
    if weights is None:
        return sums.index_add(0, which, per_sample[placed]) / counts.to(per_sample.dtype), ids
    share = weights[placed].to(per_sample.dtype)
    return sums.index_add(0, which, share * per_sample[placed]) / sums.index_add(0, which, share), ids


def fairness_loss(
    per_sample: Float[Tensor, " b"],
    region_ids: Int[Tensor, " b"],
    form: Literal["variance", "cvar"] = "variance",
    fraction: float = 0.25,
    weights: Float[Tensor, " b"] | None = None,
) -> Float[Tensor, ""]:
    """Unfairness of the mean losses of the districts in a batch.

        variance:  mean over districts of (l_r - mean l)^2; 0 when all districts have equal losses (V-REx)
        cvar:      mean of the worst ceil(fraction R) of the R district means

    `variance` depends only on the differences of the losses, and needs the main loss beside it. `cvar` is a loss
    itself. Group-DRO, which has a state across steps, is the module `GroupDRO`.

    Args:
        per_sample: (B,) losses.
        region_ids: (B,) district of each sample; samples without one (negative) are ignored.
        form: `variance` or `cvar`.
        fraction: Share of the districts that `cvar` averages.
        weights: (B,) weight of each sample in the mean of its district, equal where None.

    Returns:
        Scalar; 0 for a batch without districts, and for `variance` with one.

    Raises:
        ConfigError: The form is unknown, or the fraction cannot work.

    References:
        D. Krueger et al., "Out-of-Distribution Generalization via Risk Extrapolation (REx)" (2021), eq. 8: `variance`.
        R. T. Rockafellar, S. Uryasev, "Optimization of Conditional Value-at-Risk" (2000): `cvar`.

    Example:
        >>> losses, regions = torch.tensor([1.0, 1.0, 3.0]), torch.tensor([0, 0, 1])
        >>> fairness_loss(losses, regions, "variance").item(), fairness_loss(losses, regions, "cvar").item()
        (1.0, 3.0)
    """
    if form not in ("variance", "cvar"):
        raise ConfigError(f"fairness form {form!r} is not a function; choose 'variance' or 'cvar', or use GroupDRO.")
    _check_fraction(fraction)
    means, _ = regional_means(per_sample, region_ids, weights)
    if len(means) == 0:
        return per_sample.sum() * 0.0
    if form == "variance":
        return (means - means.mean()).square().mean()
    # Rounded first: products of floats may be slightly above an integer, and ceil would take one district too many.
    worst = max(1, math.ceil(round(fraction * len(means), 9)))
    return means.topk(worst).values.mean()


class GroupDRO(nn.Module):
    """Group-DRO: districts with larger losses gain weight at each step.

        q_r <- q_r exp(eta l_r), normalised;   L = sum_r q_r l_r / sum_r q_r   over the districts in the batch

    The weights are a buffer, saved with the module, and change only in training mode, by the losses of the same step
    (as in the paper). Districts that are absent from a batch keep their relative weights; the sum is normalised over
    those present, so that its magnitude does not depend on which were drawn.

    In the objective L = L_sw + weight * L the term is added to the plain mean: with weight 1, half of the gradient is
    distributed over districts by q and half by their number of photographs; a large weight approaches pure Group-DRO.

    Args:
        n_regions: Number of districts; ids are 0 to n_regions - 1.
        eta: Step size of the weights.

    Raises:
        ConfigError: There are no districts, or eta is negative.

    References:
        S. Sagawa et al., "Distributionally Robust Neural Networks for Group Shifts" (2020), algorithm 1.

    Example:
        >>> dro = GroupDRO(2, eta=1.0)
        >>> loss = dro(torch.tensor([0.0, 1.0]), torch.tensor([0, 1]))
        >>> [round(q, 3) for q in dro.q.tolist()], round(loss.item(), 3)
        ([0.269, 0.731], 0.731)
    """

    log_q: Float[Tensor, " r"]

    def __init__(self, n_regions: int, eta: float = 0.01) -> None:
        super().__init__()
        if n_regions < 1:
            raise ConfigError(f"group-dro needs at least one district, not {n_regions}.")
        _check_eta(eta)
        self.eta = eta
        # Logarithms: over a long run the weight of an easy district would underflow to 0 and remain there.
        self.register_buffer("log_q", torch.full((n_regions,), -math.log(n_regions)))

    @property
    def q(self) -> Float[Tensor, " r"]:
        """(R,) weights of the districts; they sum to 1."""
        return self.log_q.exp()

    def forward(
        self,
        per_sample: Float[Tensor, " b"],
        region_ids: Int[Tensor, " b"],
        weights: Float[Tensor, " b"] | None = None,
    ) -> Float[Tensor, ""]:
        """Weighted mean of the districts' losses; in training mode it first updates the weights.

        Args:
            per_sample: (B,) losses; with several processes those of the whole batch, so that q is the same in all.
            region_ids: (B,) district of each sample; samples without one (negative) are ignored.
            weights: (B,) weight of each sample in the mean of its district, equal where None.

        Returns:
            Scalar; 0 for a batch without districts.

        Raises:
            ConfigError: A district id is n_regions or more.
        """
        means, ids = regional_means(per_sample, region_ids, weights)
        if len(ids) == 0:
            return per_sample.sum() * 0.0
        if int(ids[-1]) >= len(self.log_q):
            raise ConfigError(f"district id {int(ids[-1])} with {len(self.log_q)} districts; check n_regions.")
        if self.training:
            with torch.no_grad():
                moved = self.log_q.index_add(0, ids, self.eta * means.to(self.log_q.dtype))
                self.log_q.copy_(moved.log_softmax(0))
        return (self.log_q[ids].softmax(0).to(means.dtype) * means).sum()


class RegionalFairnessLoss(nn.Module):
    """Narrow the gap of the loss between districts: a term of the losses by photograph, averaged by district.

        variance:   mean over districts of (l_r - mean l)^2                    V-REx
        cvar:       mean of the worst ceil(fraction R) of the R district means
        group-dro:  sum_r q_r l_r, where q grows for districts of large loss   see `GroupDRO`

    Args:
        form: `variance`, `cvar` or `group-dro`.
        n_regions: Number of districts, for `group-dro` only; ids are 0 to n_regions - 1. Its weights are in the state
            dict: save it with the checkpoint.
        eta: Step size of the districts' weights (`group-dro`).
        fraction: Share of the districts that `cvar` averages.
        gather: Average over the photographs of all processes; as in `SpatialContrastiveLoss`.

    Raises:
        ConfigError: An option has a value that cannot work, or `group-dro` has no `n_regions`.

    References:
        See `fairness_loss` and `GroupDRO`.

    Example:
        >>> RegionalFairnessLoss()(torch.tensor([1.0, 1.0, 3.0]), torch.tensor([0, 0, 1])).item()
        1.0
    """

    def __init__(
        self,
        form: FairnessForm = "variance",
        *,
        n_regions: int | None = None,
        eta: float = 0.01,
        fraction: float = 0.25,
        gather: bool = False,
    ) -> None:
        super().__init__()
        self.config = FairnessConfig(form, eta=eta, fraction=fraction)
        self.gather = gather
        self.group_dro: GroupDRO | None = None
        if form == "group-dro":
            if n_regions is None:
                raise ConfigError("group-dro needs the number of districts: pass n_regions.")
            self.group_dro = GroupDRO(n_regions, eta)

    def forward(
        self,
        losses: Float[Tensor, " b"],
        region_ids: ArrayLike | Int[Tensor, " b"],
        weights: Float[Tensor, " b"] | None = None,
    ) -> Float[Tensor, ""]:
        """The term of a batch.

        Args:
            losses: (B,) losses by photograph, such as those of `SpatialContrastiveLoss(reduction="none")`.
            region_ids: (B,) integers, the district of each; photographs without one (negative) are ignored.
            weights: (B,) weight of each photograph in the mean of its district; equal where None.

        Returns:
            Scalar.

        Raises:
            InputError: A shape is wrong, or district ids are not integers.
            ConfigError: A district id is `n_regions` or more.
        """
        if losses.ndim != 1:
            raise InputError(
                f"losses has shape {tuple(losses.shape)}; give one value per photograph, as reduction='none' returns."
            )
        ids = checked_region_ids(region_ids, len(losses)).to(losses.device)
        if self.gather:
            check_same_rows(len(losses), losses.device)
            losses, ids = all_gather_rows(losses), all_gather_rows(ids)
            weights = None if weights is None else all_gather_rows(weights)
        return self.by_region(losses, ids, weights)

    def by_region(
        self, losses: Float[Tensor, " n"], region_ids: Int[Tensor, " n"], weights: Float[Tensor, " n"] | None = None
    ) -> Float[Tensor, ""]:
        """The term of the whole batch; the input is not checked.

        Args:
            losses: (N,) losses by photograph.
            region_ids: (N,) district of each; photographs without one (negative) are ignored.
            weights: (N,) weight of each in the mean of its district; equal where None.

        Raises:
            ConfigError: A district id is `n_regions` or more.
        """
        if self.group_dro is not None:
            return self.group_dro(losses, region_ids, weights)  # type: ignore[no-any-return]
        assert self.config.form != "group-dro"
        return fairness_loss(losses, region_ids, self.config.form, self.config.fraction, weights)
