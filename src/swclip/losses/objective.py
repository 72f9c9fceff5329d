"""The whole objective: L = L_sw + lambda_nc L_nc + lambda_fair L_fair, over the batch of all processes."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn

from swclip.errors import ConfigError
from swclip.losses.fairness import FairnessConfig, GroupDRO, fairness_loss
from swclip.losses.gather import all_gather_rows, check_same_rows, process_count, process_rank
from swclip.losses.neighbourhood import NeighbourhoodConfig, neighbourhood_terms, ratio_of_sums
from swclip.losses.robust import RobustConfig, robust_weights, trusted_divergence, weighted_mean
from swclip.losses.spatial_contrastive import directional_divergences, exact_mean
from swclip.losses.targets import TargetConfig, pair_weights, pairwise_distance_m, soft_targets


@dataclass(frozen=True)
class ObjectiveConfig:
    """What is minimised.

    Args:
        targets: The soft targets; `TargetConfig(alpha=0.0)` is CLIP.
        neighbourhood: The neighbourhood term, left out at weight 0.
        fairness: The fairness term, left out at weight 0.
        robust: What is done about photographs whose position is wrong; nothing by default.
    """

    targets: TargetConfig = field(default_factory=TargetConfig)
    neighbourhood: NeighbourhoodConfig = field(default_factory=NeighbourhoodConfig)
    fairness: FairnessConfig = field(default_factory=FairnessConfig)
    robust: RobustConfig = field(default_factory=RobustConfig)


@dataclass(frozen=True)
class _Batch:
    """What a process needs of everybody: embeddings with gradients, and the facts of the photographs without."""

    image: Float[Tensor, "n d"]
    location: Float[Tensor, "n d"]
    positions_deg: Float64[Tensor, "n 2"]
    accuracy_m: Float64[Tensor, " n"] | None
    region_ids: Int[Tensor, " n"] | None


class Objective(nn.Module):
    """The spatially weighted contrastive loss with its neighbourhood and fairness terms.

    Each process passes its own photographs; the terms see the batch of all processes, in order of rank, with gradients
    through the gather. The loss is the same number in every process, and the gradients that DDP averages are those of
    one process with the whole batch (see `losses/gather.py`). Do not wrap the objective itself in DDP: it has no
    parameters. Save its `state_dict` with the checkpoint: Group-DRO's weights are in it.

    Args:
        config: The terms and their weights.
        n_regions: Number of regions, for `group-dro` only; ids are 0 to n_regions - 1.

    Raises:
        ConfigError: `group-dro` without `n_regions`.

    Example:
        >>> objective = Objective(ObjectiveConfig())
        >>> positions_deg = torch.tensor([[52.2050, 0.1190], [52.2090, 0.1190]], dtype=torch.float64)
        >>> loss, parts = objective(torch.eye(2), torch.eye(2), torch.tensor(100.0).log(), positions_deg)
        >>> round(loss.item(), 3), sorted(parts)
        (0.0, ['contrastive', 'loss', 'target_self'])
    """

    def __init__(self, config: ObjectiveConfig, n_regions: int | None = None) -> None:
        super().__init__()
        self.config = config
        self.group_dro: GroupDRO | None = None
        if config.fairness.weight > 0.0 and config.fairness.form == "group-dro":
            if n_regions is None:
                raise ConfigError("group-dro must know the number of regions: pass n_regions.")
            self.group_dro = GroupDRO(n_regions, config.fairness.eta)

    def forward(
        self,
        image: Float[Tensor, "b d"],
        location: Float[Tensor, "b d"],
        logit_scale: Float[Tensor, ""],
        positions_deg: Float64[Tensor, "b 2"],
        accuracy_m: Float[Tensor, " b"] | None = None,
        region_ids: Int[Tensor, " b"] | None = None,
        *,
        progress: float = 1.0,
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """The loss of a batch, and its parts for the log.

        Args:
            image: (B, D) image embeddings of this process's photographs, L2-normalised.
            location: (B, D) location embeddings, L2-normalised.
            logit_scale: Scalar, the **logarithm** of the softmax scale, as CLIP keeps it.
            positions_deg: (B, 2) latitude, longitude in degrees, float64. May stay on the CPU.
            accuracy_m: (B,) 1-sigma GPS accuracy in metres, NaN where unknown.
            region_ids: (B,) region of each photograph, negative where it has none. Needed by the fairness term.
            progress: Share of the training steps that are made, 0 to 1; the robust forms wait for their warm-up.

        Returns:
            The scalar to call `backward` on, and detached scalars: `loss`, `contrastive`, `target_self` (mean share of
            the target on the photograph's own location: 1 means the kernel sees no neighbours and this is CLIP); with
            their terms also `neighbourhood`, `isolated` (photographs without neighbours, a count) and `fairness`; with
            a robust form `trimmed` (share of the batch left out) or `trust` (mean weight of a photograph).

        Raises:
            ConfigError: Fairness without regions, or processes with different numbers of photographs.
        """
        config = self.config
        if config.fairness.weight > 0.0 and region_ids is None:
            raise ConfigError(
                "the fairness term needs the region of each photograph: set a region column, or weight 0."
            )
        batch = self._gather(image, location, positions_deg, accuracy_m, region_ids)
        n_rows = len(image)
        mine = slice(process_rank() * n_rows, (process_rank() + 1) * n_rows)
        several = process_count() > 1

        accuracy_m = batch.accuracy_m
        my_accuracy_m = None if accuracy_m is None else accuracy_m[mine]
        if config.targets.alpha > 0.0 or config.neighbourhood.weight > 0.0:
            distance_m = pairwise_distance_m(batch.positions_deg[mine], batch.positions_deg)
        else:  # plain CLIP asks for no distance
            distance_m = batch.positions_deg.new_zeros(()).expand(n_rows, len(batch.positions_deg))
        targets = soft_targets(distance_m, config.targets, my_accuracy_m, accuracy_m, first_match=mine.start)
        # Cast before moving: not every accelerator has float64.
        dtype = torch.promote_types(torch.promote_types(image.dtype, location.dtype), torch.float32)
        targets = targets.to(dtype).to(image.device)
        rows = [
            *directional_divergences(
                image,
                location,
                logit_scale,
                targets,
                all_image=batch.image if several else None,
                all_location=batch.location if several else None,
            ),
            targets.diagonal(mine.start),
        ]
        trust = None
        if config.robust.form != "none":
            plain = ((rows[0] + rows[1]) / 2).detach()
            trust = robust_weights(all_gather_rows(plain), config.robust, progress)
            if config.robust.columns:
                rows[1] = trusted_divergence(location, batch.image, logit_scale, targets, trust)
        if config.neighbourhood.weight > 0.0:
            noise = config.targets.gps_noise
            weights = pair_weights(
                distance_m,
                config.neighbourhood.kernel,
                (config.neighbourhood.bandwidth_m,),
                accuracy_a=my_accuracy_m if noise else None,
                accuracy_b=accuracy_m if noise else None,
                default_accuracy_m=config.targets.default_accuracy_m if noise else 0.0,
            )
            if trust is not None and config.robust.columns:
                weights = weights * trust.to(weights)
            rows += neighbourhood_terms(
                image,
                weights.to(dtype).to(image.device),
                config.neighbourhood.form,
                config.neighbourhood.tau,
                all_image=batch.image if several else None,
                first_match=mine.start,
            )
        # One gather for everything that is one number a photograph.
        by_sample = all_gather_rows(torch.stack([row.to(dtype) for row in rows], dim=1)).unbind(1)
        return self._total(by_sample, batch.region_ids, trust)

    def _gather(
        self,
        image: Float[Tensor, "b d"],
        location: Float[Tensor, "b d"],
        positions_deg: Float64[Tensor, "b 2"],
        accuracy_m: Float[Tensor, " b"] | None,
        region_ids: Int[Tensor, " b"] | None,
    ) -> _Batch:
        if process_count() == 1:
            return _Batch(image, location, positions_deg, accuracy_m, _on(region_ids, image.device))
        check_same_rows(len(image), image.device)
        # What is gathered must lie on the process group's device, which is that of the embeddings.
        return _Batch(
            all_gather_rows(image),
            all_gather_rows(location),
            all_gather_rows(positions_deg.to(image.device)),
            None if accuracy_m is None else all_gather_rows(accuracy_m.to(image.device)),
            None if region_ids is None else all_gather_rows(region_ids.to(image.device)),
        )

    def _total(
        self, by_sample: tuple[Tensor, ...], region_ids: Int[Tensor, " n"] | None, trust: Float[Tensor, " n"] | None
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        config = self.config
        by_image, by_location, target_self = by_sample[:3]
        if trust is None:
            loss = (exact_mean(by_image) + exact_mean(by_location)) / 2
        else:
            loss = weighted_mean((by_image + by_location) / 2, trust)
        parts = {"contrastive": loss, "target_self": target_self.mean()}
        if config.neighbourhood.weight > 0.0:
            terms, shares = by_sample[3:]
            parts["isolated"] = (shares == 0.0).sum()
            if trust is not None:
                terms, shares = terms * trust, shares * trust
            parts["neighbourhood"] = ratio_of_sums(terms, shares)
            loss = loss + config.neighbourhood.weight * parts["neighbourhood"]
        if trust is not None:
            if config.robust.form == "trimmed":
                parts["trimmed"] = (trust == 0.0).to(trust.dtype).mean()
            else:
                parts["trust"] = trust.mean()
        if config.fairness.weight > 0.0 and region_ids is not None:
            per_sample = (by_image + by_location) / 2
            if self.group_dro is not None:
                parts["fairness"] = self.group_dro(per_sample, region_ids, trust)
            elif config.fairness.form != "group-dro":
                parts["fairness"] = fairness_loss(
                    per_sample, region_ids, config.fairness.form, config.fairness.fraction, trust
                )
            loss = loss + config.fairness.weight * parts["fairness"]
        parts["loss"] = loss
        return loss, {name: value.detach() for name, value in parts.items()}


def _on(values: Tensor | None, device: torch.device) -> Tensor | None:
    return None if values is None else values.to(device)
