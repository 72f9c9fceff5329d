"""Further modalities of a location (a caption, a map tile), contrasted with the locations as photographs are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from swclip.errors import ConfigError
from swclip.losses.batch import all_gather_rows

FUSED = "fused"
"""The name of the modality that fuses the photograph with the others; all photographs have it."""


@dataclass(frozen=True)
class ModalitiesConfig:
    """The term of further modalities. It has no effect on a model without any.

    Args:
        weight: Weight of the term.
        dropout: Probability that the fused embedding of a photograph omits a modality, drawn for each independently,
            the photograph included. If all would be dropped, none is.

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
class Modality:
    """One further modality of the local photographs.

    Attributes:
        name: `caption`, `map`, or `fused`.
        embedding: (B, D) L2-normalised; any values in the rows of photographs that lack it.
        present: (B,) which photographs have it.
    """

    name: str
    embedding: Float[Tensor, "b d"]
    present: Bool[Tensor, " b"]


def masked_divergences(
    modality: Float[Tensor, "b d"],
    location: Float[Tensor, "b d"],
    logit_scale: Float[Tensor, ""],
    targets: Float[Tensor, "b n"],
    present: Bool[Tensor, " b"],
    all_modality: Float[Tensor, "n d"] | None = None,
    all_location: Float[Tensor, "n d"] | None = None,
    all_present: Bool[Tensor, " n"] | None = None,
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """The divergences between a modality that some photographs lack and the locations, in both directions.

    With P the photographs that have the modality and w_i its embedding,

        i in P:  KL(T_i. || softmax_k(s w_i . u_k)),            k over all locations
        j in P:  KL(T'_j. || softmax_{k in P}(s u_j . w_k)),    T'_jk = T_jk / sum_{l in P} T_jl

    A location without the modality remains a candidate in the first direction, but has neither a row nor a column in
    the second. If all are present this is `directional_divergences`.

    Args:
        modality: (B, D) embeddings of the local photographs by the modality.
        location: (B, D) location embeddings.
        logit_scale: Scalar, the logarithm of the scale.
        targets: (B, N) row i: the target of photograph i over all locations; rows sum to 1.
        present: (B,) P among the rows.
        all_modality: (N, D) embeddings of all photographs by the modality; `modality` where None.
        all_location: (N, D) all locations; `location` where None.
        all_present: (N,) P among the columns; `present` where None.

    Returns:
        (B,) by modality and (B,) by location; 0 in the rows that are not in P.
    """
    columns = present if all_present is None else all_present
    with torch.autocast(modality.device.type, enabled=False):
        dtype = torch.promote_types(torch.promote_types(modality.dtype, location.dtype), torch.float32)
        local = modality.to(dtype).masked_fill(~present[:, None], 0.0)
        gathered = local if all_modality is None else all_modality.to(dtype).masked_fill(~columns[:, None], 0.0)
        places = (location if all_location is None else all_location).to(dtype)
        scale, targets = logit_scale.to(dtype).exp(), targets.to(dtype)
        log_p = F.log_softmax(scale * local @ places.T, dim=1)
        by_modality = _divergence(targets, log_p)

        # Rows in P contain their match, so that their mass is positive; the others are set to 0 below.
        mass = targets * columns
        targets_t = mass / mass.sum(dim=1, keepdim=True).clamp(min=torch.finfo(dtype).tiny)
        logits_t = scale * location.to(dtype) @ gathered.T
        # Not minus infinity: a batch in which no photograph has the modality would divide 0 by 0.
        logits_t = logits_t.masked_fill(~columns, torch.finfo(dtype).min / 2)
        by_location = _divergence(targets_t, F.log_softmax(logits_t, dim=1).masked_fill(~columns, 0.0))
    zero = by_modality.new_zeros(())
    return torch.where(present, by_modality, zero), torch.where(present, by_location, zero)


def _divergence(targets: Float[Tensor, "b n"], log_p: Float[Tensor, "b n"]) -> Float[Tensor, " b"]:
    entropy: Tensor = torch.special.entr(targets.detach()).sum(dim=1)
    return -(targets * log_p).sum(dim=1) - entropy


def modalities_term(
    modalities: Sequence[Modality],
    location: Float[Tensor, "b d"],
    logit_scale: Float[Tensor, ""],
    targets: Float[Tensor, "b n"],
    all_location: Float[Tensor, "n d"] | None = None,
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """The term of the further modalities, over the batch of all processes.

        L_mod = mean over m in M of L_m + L_fused,    L_m = 1/2 mean_P by modality + 1/2 mean_P by location

    M are the modalities that at least one photograph of the batch has.

    Args:
        modalities: The modalities of the local photographs. Every process passes the same ones, in the same order, and
            embeddings that all need gradients, or all none.
        location: (B, D) location embeddings.
        logit_scale: Scalar, the logarithm of the scale.
        targets: (B, N) soft targets of the local photographs over all locations.
        all_location: (N, D) the locations of all processes; `location` where None.

    Returns:
        The scalar term, the same in every process, and its parts: the loss `view_NAME` of each modality, and
        `with_NAME`, the share of the photographs that have it.
    """
    further = location.new_zeros((), dtype=torch.promote_types(location.dtype, torch.float32))
    fused, count_of_further = further, further
    parts: dict[str, Tensor] = {}
    for modality in modalities:
        present = modality.present.to(location.device)
        all_present = all_gather_rows(present.to(torch.int32)) > 0
        rows = masked_divergences(
            modality.embedding,
            location,
            logit_scale,
            targets,
            present,
            all_gather_rows(modality.embedding),
            all_location,
            all_present,
        )
        count = all_present.sum()
        loss = all_gather_rows(torch.stack(rows, dim=1)).sum() / (2 * count.clamp(min=1))
        parts[f"view_{modality.name}"] = loss.detach()
        if modality.name == FUSED:
            fused = loss
            continue
        parts[f"with_{modality.name}"] = all_present.to(loss.dtype).mean()
        further, count_of_further = further + loss, count_of_further + (count > 0)
    return further / count_of_further.clamp(min=1) + fused, parts
