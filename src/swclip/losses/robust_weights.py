"""Wrong positions: photographs whose loss indicates a wrong position are down-weighted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from swclip.errors import ConfigError

RobustForm = Literal["none", "trimmed", "reweighted"]
Influence = Literal["geman-mcclure", "welsch"]

_MAD_TO_SIGMA = 1.4826
"""The median absolute deviation of a normal distribution is its standard deviation divided by this."""


@dataclass(frozen=True)
class RobustConfig:
    """Down-weighting of photographs whose position seems wrong.

    Args:
        form: `none`; `trimmed`: the share of a batch with the largest losses is omitted; `reweighted`: a photograph's
            weight falls with its loss.
        share: Share of a batch that `trimmed` omits. Best near the share of wrong positions; a larger one omits hard
            photographs, a smaller one keeps wrong positions.
        warmup: Share of the steps without down-weighting: at first the losses of correct photographs are large too.
        influence: The decay of the weight (`reweighted`), see `robust_weights`.
        cutoff: Loss at which the weight is 1/4 (`geman-mcclure`) or 1/e (`welsch`), in robust standard deviations of
            the batch's losses above their median.
        columns: Down-weight the photograph among the candidates of locations too; its location keeps its weight among
            the candidates of photographs, since that place exists.

    Raises:
        ConfigError: A value that cannot work.
    """

    form: RobustForm = "none"
    share: float = 0.1
    warmup: float = 0.25
    influence: Influence = "geman-mcclure"
    cutoff: float = 3.0
    columns: bool = True

    def __post_init__(self) -> None:
        if self.form not in get_args(RobustForm):
            raise ConfigError(f"robust form {self.form!r} is not known; choose one of {get_args(RobustForm)}.")
        if self.influence not in get_args(Influence):
            raise ConfigError(f"robust influence {self.influence!r} is not known; choose one of {get_args(Influence)}.")
        if not 0.0 <= self.share < 1.0:
            raise ConfigError(f"robust share {self.share} must be 0 or more and below 1: some photographs must remain.")
        if not 0.0 <= self.warmup <= 1.0:
            raise ConfigError(f"robust warmup {self.warmup} must be a share of the steps, 0 to 1.")
        if not (math.isfinite(self.cutoff) and self.cutoff > 0.0):
            raise ConfigError(f"robust cutoff {self.cutoff} must be a positive number of standard deviations.")


def robust_weights(per_sample: Float[Tensor, " n"], config: RobustConfig, progress: float = 1.0) -> Float[Tensor, " n"]:
    """Weight of each photograph of a batch, from its loss.

        trimmed:        0 for the floor(share n) largest losses, 1 for the others
        reweighted:     u = max(0, l - median) / (1.4826 MAD cutoff),   MAD = median |l - median|
          geman-mcclure w = 1 / (1 + u^2)^2
          welsch        w = exp(-u^2)

    Only losses above the median reduce a weight. `reweighted` needs no assumed share, but reduces many weights slightly
    where there are no outliers; the weights are invariant to a shift or a scale of all losses. Weights have no
    gradient: a step is one of iteratively reweighted least squares.

    Args:
        per_sample: (N,) losses of the whole batch, of all processes.
        config: Form, share, cutoff.
        progress: Share of the training steps completed, 0 to 1; below `config.warmup` all weights are 1.

    Returns:
        (N,) weights from 0 to 1, without gradient. With `reweighted` all are 1 if half of the losses are equal, since
        their spread is then 0.

    References:
        P. J. Rousseeuw, "Least Median of Squares Regression" (1984), section 4, for the trimmed mean of the residuals;
        Y. Shen, S. Sanghavi, "Learning with Bad Training Data via Iterative Trimmed Loss Minimization", ICML 2019;
        B. Han et al., "Co-teaching", NeurIPS 2018, for the warm-up: networks fit clean samples first.
        P. W. Holland, R. E. Welsch, "Robust regression using iteratively reweighted least-squares" (1977): `welsch`,
        whose cutoff 2.985 is 95 % as efficient as the mean on normal residuals. S. Geman, D. E. McClure, "Statistical
        methods for tomographic image reconstruction" (1987): `geman-mcclure`. F. R. Hampel, "The influence curve and
        its role in robust estimation" (1974): median and MAD.

    Example:
        >>> losses = torch.tensor([1.0, 1.2, 0.8, 1.1, 9.0])
        >>> robust_weights(losses, RobustConfig(form="trimmed", share=0.2)).tolist()
        [1.0, 1.0, 1.0, 1.0, 0.0]
        >>> [round(w, 2) for w in robust_weights(losses, RobustConfig(form="reweighted")).tolist()]
        [1.0, 0.91, 1.0, 1.0, 0.0]
    """
    losses = per_sample.detach()
    weights = torch.ones_like(losses)
    if config.form == "none" or progress < config.warmup or len(losses) == 0:
        return weights
    if config.form == "trimmed":
        # Rounded first: 0.29 * 100 is 28.999999999999996.
        count = math.floor(round(config.share * len(losses), 9))
        weights[losses.argsort(descending=True, stable=True)[:count]] = 0.0
        return weights
    centre = losses.quantile(0.5)
    spread = _MAD_TO_SIGMA * (losses - centre).abs().quantile(0.5)
    if not bool(spread > 0.0):
        return weights
    u = (losses - centre).clamp_min(0.0) / (spread * config.cutoff)
    return (-u.square()).exp() if config.influence == "welsch" else (1.0 + u.square()).pow(-2)


def weighted_mean(values: Float[Tensor, " n"], weights: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """The weighted mean of values (N,), sum_i w_i x_i / sum_i w_i; 0, with zero gradients, if all weights are 0."""
    return (weights * values).sum() / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)


def trusted_divergence(
    rows: Float[Tensor, "b d"],
    columns: Float[Tensor, "n d"],
    logit_scale: Float[Tensor, ""],
    targets: Float[Tensor, "b n"],
    trust: Float[Tensor, " n"],
) -> Float[Tensor, " b"]:
    """The divergence of each row over weighted columns.

        T_ij = w_j T_ij / sum_k w_k T_ik,   p_ij = w_j exp(s r_i c_j) / sum_k w_k exp(s r_i c_k),   KL(T_i || p_i)

    With all weights 1 this is the plain divergence; a weight of 0 removes a column, and a weight of 2 would duplicate
    it.

    Args:
        rows: (B, D) embeddings of the rows.
        columns: (N, D) embeddings of their candidates.
        logit_scale: Scalar, the logarithm of the scale.
        targets: (B, N) targets; rows sum to 1.
        trust: (N,) weights of the columns, 0 or more, without gradient.

    Returns:
        (B,) divergences; 0 for a row whose whole target is on columns of weight 0.
    """
    with torch.autocast(rows.device.type, enabled=False):
        dtype = torch.promote_types(torch.promote_types(rows.dtype, columns.dtype), torch.float32)
        trust = trust.to(dtype)
        weighted = targets.to(dtype) * trust
        mass = weighted.sum(dim=1, keepdim=True)
        target = weighted / mass.clamp_min(torch.finfo(dtype).tiny)
        gone: Bool[Tensor, " n"] = trust == 0.0
        logits = logit_scale.to(dtype).exp() * rows.to(dtype) @ columns.to(dtype).T + trust.log()
        # -inf times a target of 0 would be NaN.
        log_p = F.log_softmax(logits, dim=1).masked_fill(gone, 0.0)
        entropy: Tensor = torch.special.entr(target).sum(dim=1)
        return -(target * log_p).sum(dim=1) - entropy
