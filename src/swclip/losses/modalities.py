"""Further views of the same location (a caption, a map tile), contrasted with the locations as photographs are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from swclip.errors import ConfigError
from swclip.losses.gather import all_gather_rows

FUSED = "fused"
"""The name of the view that fuses the photograph with the others; all photographs have it."""


@dataclass(frozen=True)
class ViewsTermConfig:
    """How further views are trained. Of no effect on a model without any.

    Args:
        weight: Weight of the term.
        dropout: Chance that the fused embedding of a photograph goes without one of its views, drawn for each view by
            itself, the photograph too. Where all would be dropped, none is.

    Raises:
        ConfigError: A value that cannot work.
    """

    weight: float = 1.0
    dropout: float = 0.3

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight >= 0.0):
            raise ConfigError(f"views: weight {self.weight} must be 0 or more.")
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"views: dropout {self.dropout} must be from 0 to below 1.")


@dataclass(frozen=True)
class View:
    """One view of the photographs of a process.

    Attributes:
        name: `caption`, `map`, or `fused`.
        embedding: (B, D) L2-normalised; any numbers in the rows of photographs that lack it.
        present: (B,) which photographs have it.
    """

    name: str
    embedding: Float[Tensor, "b d"]
    present: Bool[Tensor, " b"]


def masked_divergences(
    view: Float[Tensor, "b d"],
    location: Float[Tensor, "b d"],
    logit_scale: Float[Tensor, ""],
    targets: Float[Tensor, "b n"],
    present: Bool[Tensor, " b"],
    all_view: Float[Tensor, "n d"] | None = None,
    all_location: Float[Tensor, "n d"] | None = None,
    all_present: Bool[Tensor, " n"] | None = None,
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """The divergence of each view over the locations, and of each location over the views, where some are missing.

    With P the photographs that have the view and w_i its embedding,

        i in P:  KL(T_i. || softmax_k(s w_i . u_k)),            k over all locations
        j in P:  KL(T'_j. || softmax_{k in P}(s u_j . w_k)),    T'_jk = T_jk / sum_{l in P} T_jl

    A location without the view is an answer all the same, but is not asked for a view that is not there; nobody is
    asked to match a view that is missing. With all present it is `directional_divergences`.

    Args:
        view: (B, D) embeddings of this process's photographs by the view.
        location: (B, D) location embeddings.
        logit_scale: Scalar, the logarithm of the scale.
        targets: (B, N) row i: the target of photograph i over all locations; rows sum to 1.
        present: (B,) P among the rows.
        all_view: (N, D) the views to choose among, `view` where None.
        all_location: (N, D) the locations to choose among, `location` where None.
        all_present: (N,) P among the columns, `present` where None.

    Returns:
        (B,) by view and (B,) by location; 0 in the rows that are not in P.
    """
    there = present if all_present is None else all_present
    with torch.autocast(view.device.type, enabled=False):
        dtype = torch.promote_types(torch.promote_types(view.dtype, location.dtype), torch.float32)
        own = view.to(dtype).masked_fill(~present[:, None], 0.0)
        everybody = own if all_view is None else all_view.to(dtype).masked_fill(~there[:, None], 0.0)
        places = (location if all_location is None else all_location).to(dtype)
        scale, targets = logit_scale.to(dtype).exp(), targets.to(dtype)
        log_p = F.log_softmax(scale * own @ places.T, dim=1)
        by_view = _divergence(targets, log_p)

        # Kept rows hold their own match, so that their mass is positive; the others are set to 0 below.
        mass = targets * there
        targets_t = mass / mass.sum(dim=1, keepdim=True).clamp(min=torch.finfo(dtype).tiny)
        logits_t = scale * location.to(dtype) @ everybody.T
        # Not minus infinity: a batch in which nobody has the view would divide nothing by nothing.
        logits_t = logits_t.masked_fill(~there, torch.finfo(dtype).min / 2)
        by_location = _divergence(targets_t, F.log_softmax(logits_t, dim=1).masked_fill(~there, 0.0))
    nothing = by_view.new_zeros(())
    return torch.where(present, by_view, nothing), torch.where(present, by_location, nothing)


def _divergence(targets: Float[Tensor, "b n"], log_p: Float[Tensor, "b n"]) -> Float[Tensor, " b"]:
    entropy: Tensor = torch.special.entr(targets.detach()).sum(dim=1)
    return -(targets * log_p).sum(dim=1) - entropy


def views_term(
    views: Sequence[View],
    location: Float[Tensor, "b d"],
    logit_scale: Float[Tensor, ""],
    targets: Float[Tensor, "b n"],
    all_location: Float[Tensor, "n d"] | None = None,
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """The term of the further views, over the batch of all processes.

        L_views = mean over m in M of L_m + L_fused,    L_m = 1/2 mean_P by view + 1/2 mean_P by location

    M are the views that somebody in the batch has.

    Args:
        views: The views of this process's photographs. Every process passes the same ones, in the same order, and
            embeddings that all need gradients, or all none.
        location: (B, D) location embeddings.
        logit_scale: Scalar, the logarithm of the scale.
        targets: (B, N) soft targets of this process's photographs over all locations.
        all_location: (N, D) the locations of all processes, `location` where None.

    Returns:
        The term, the same in every process, and its parts: `view_NAME`, the loss by view, and `with_NAME`, the share
        of the photographs that have it.
    """
    further = location.new_zeros((), dtype=torch.promote_types(location.dtype, torch.float32))
    fused, seen = further, further
    parts: dict[str, Tensor] = {}
    for view in views:
        present = view.present.to(location.device)
        all_present = all_gather_rows(present.to(torch.int32)) > 0
        rows = masked_divergences(
            view.embedding,
            location,
            logit_scale,
            targets,
            present,
            all_gather_rows(view.embedding),
            all_location,
            all_present,
        )
        count = all_present.sum()
        loss = all_gather_rows(torch.stack(rows, dim=1)).sum() / (2 * count.clamp(min=1))
        parts[f"view_{view.name}"] = loss.detach()
        if view.name == FUSED:
            fused = loss
            continue
        parts[f"with_{view.name}"] = all_present.to(loss.dtype).mean()
        further, seen = further + loss, seen + (count > 0)
    return further / seen.clamp(min=1) + fused, parts
