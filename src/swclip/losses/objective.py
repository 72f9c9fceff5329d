"""The whole objective: the weighted contrast plus its terms, over the batch of all processes.

L = L_sw + lambda_nc L_nc + lambda_fair L_fair + lambda_h L_h + lambda_views L_views, and those of compared methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn

from swclip.errors import ConfigError
from swclip.losses.fairness import FairnessConfig, GroupDRO, fairness_loss
from swclip.losses.gather import all_gather_rows, check_same_rows, process_count, process_rank
from swclip.losses.hierarchy import HierarchyConfig, hierarchy_terms
from swclip.losses.image_geography import ImageGeographyConfig, image_geography_terms
from swclip.losses.memory_bank import QueuedLocations, queued_targets
from swclip.losses.modalities import View, ViewsTermConfig, views_term
from swclip.losses.neighbourhood import NeighbourhoodConfig, neighbourhood_terms, ratio_of_sums
from swclip.losses.rank_n_contrast import RankNContrastConfig, rank_n_contrast_terms
from swclip.losses.robust_weights import RobustConfig, robust_weights, trusted_divergence, weighted_mean
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
        hierarchy: The hierarchy term, left out at weight 0.
        views: The term of further views, for models that have any.
        rank_n_contrast: Rank-N-Contrast on the photographs, left out at weight 0.
        image_geography: AddressCLIP's image-geography matching, left out at weight 0.
        symmetric: Both directions of the contrast; without it, photograph to location alone, as in GeoCLIP.
    """

    targets: TargetConfig = field(default_factory=TargetConfig)
    neighbourhood: NeighbourhoodConfig = field(default_factory=NeighbourhoodConfig)
    fairness: FairnessConfig = field(default_factory=FairnessConfig)
    robust: RobustConfig = field(default_factory=RobustConfig)
    hierarchy: HierarchyConfig = field(default_factory=HierarchyConfig)
    views: ViewsTermConfig = field(default_factory=ViewsTermConfig)
    rank_n_contrast: RankNContrastConfig = field(default_factory=RankNContrastConfig)
    image_geography: ImageGeographyConfig = field(default_factory=ImageGeographyConfig)
    symmetric: bool = True

    def __post_init__(self) -> None:
        if self.robust.form != "none" and not self.symmetric:
            raise ConfigError(
                "the robust forms weigh both directions of the contrast: set `symmetric`, or form 'none'."
            )


@dataclass(frozen=True)
class _Batch:
    """What a process needs of everybody: embeddings with gradients, and the facts of the photographs without."""

    image: Float[Tensor, "n d"]
    location: Float[Tensor, "n d"]
    positions_deg: Float64[Tensor, "n 2"]
    accuracy_m: Float64[Tensor, " n"] | None
    region_ids: Int[Tensor, " n"] | None
    stretch: Float64[Tensor, " n"] | None
    level_ids: Int[Tensor, "n l"] | None
    mine: slice
    """The rows that are this process's."""

    @property
    def choices(self) -> dict[str, Tensor | None]:
        """What this process's rows choose among: everybody's, or their own where there is one process."""
        several = process_count() > 1
        return {"all_image": self.image if several else None, "all_location": self.location if several else None}

    def of_mine(self, facts: Tensor | None) -> Tensor | None:
        """This process's rows of a fact."""
        return None if facts is None else facts[self.mine]


class Objective(nn.Module):
    """The spatially weighted contrastive loss with its further terms.

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
        stretch: Float64[Tensor, " b"] | None = None,
        level_ids: Int[Tensor, "b l"] | None = None,
        queue: QueuedLocations | None = None,
        views: Sequence[View] = (),
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
            stretch: (B,) what each photograph multiplies the targets' bandwidths by (a pair: the geometric mean of
                both), and the neighbourhood's where that follows them. 1 where None.
            level_ids: (B, L) unit of each photograph at each level, negative where unknown. Needed by the hierarchy.
            queue: Further locations that the photographs choose among; of the other direction they are no part.
            views: Further views of the photographs, and their fusion.
            progress: Share of the training steps that are made, 0 to 1; the robust forms wait for their warm-up.

        Returns:
            The scalar to call `backward` on, and detached scalars: `loss`, `contrastive`, `target_self` (mean share of
            the target on the photograph's own location: 1 means the kernel sees no neighbours and this is CLIP); with
            their terms also `neighbourhood`, `isolated` (photographs without neighbours, a count), `fairness`,
            `hierarchy`, `rank_n_contrast`, `image_geography`, what `views_term` gives, and with a robust form
            `trimmed` (share of the batch left out) or `trust` (mean weight of a photograph).

        Raises:
            ConfigError: Fairness without regions, hierarchy without levels, or processes with different numbers of
                photographs.
        """
        config = self.config
        self._check(region_ids, level_ids)
        batch = self._gather(image, location, positions_deg, accuracy_m, region_ids, stretch, level_ids)
        mine, accuracies = batch.mine, (batch.of_mine(batch.accuracy_m), batch.accuracy_m)
        stretches = {"stretch_a": batch.of_mine(batch.stretch), "stretch_b": batch.stretch}
        if config.targets.alpha > 0.0 or config.neighbourhood.weight > 0.0 or config.rank_n_contrast.weight > 0.0:
            distance_m = pairwise_distance_m(batch.positions_deg[mine], batch.positions_deg)
        else:  # plain CLIP asks for no distance
            distance_m = batch.positions_deg.new_zeros(()).expand(len(image), len(batch.positions_deg))
        targets = soft_targets(distance_m, config.targets, *accuracies, first_match=mine.start, **stretches)
        # Cast before moving: not every accelerator has float64.
        dtype = torch.promote_types(torch.promote_types(image.dtype, location.dtype), torch.float32)
        targets = targets.to(dtype).to(image.device)

        if queue is None:
            by_image, by_location = directional_divergences(image, location, logit_scale, targets, **batch.choices)
            target_self = targets.diagonal(mine.start)
        else:
            my_deg = batch.positions_deg[mine]
            wider = queued_targets(
                distance_m, my_deg, queue, config.targets, *accuracies, first_match=mine.start, **stretches
            )
            wider = wider.to(dtype).to(image.device)
            by_image, by_location = directional_divergences(
                image,
                location,
                logit_scale,
                wider,
                targets,
                all_image=batch.image,
                all_location=torch.cat([batch.location, queue.embedding]),
            )
            target_self = wider.diagonal(mine.start)
        trust = None
        if config.robust.form != "none":
            plain = ((by_image + by_location) / 2).detach()
            trust = robust_weights(all_gather_rows(plain), config.robust, progress)
            if config.robust.columns:
                by_location = trusted_divergence(location, batch.image, logit_scale, targets, trust)

        rows = [by_image, by_location if config.symmetric else by_image, target_self]
        if config.neighbourhood.weight > 0.0:
            weights = self._neighbours(distance_m, accuracies, stretches)
            if trust is not None and config.robust.columns:
                weights = weights * trust.to(weights)
            rows += neighbourhood_terms(
                image,
                weights.to(dtype).to(image.device),
                config.neighbourhood.form,
                config.neighbourhood.tau,
                all_image=batch.choices["all_image"],
                first_match=mine.start,
            )
        rows += self._compared(image, distance_m, batch)
        # One gather for everything that is one number a photograph.
        by_sample = all_gather_rows(torch.stack([row.to(dtype) for row in rows], dim=1)).unbind(1)
        loss, parts = self._total(by_sample, batch.region_ids, trust)
        if config.hierarchy.weight > 0.0 and batch.level_ids is not None:
            terms = hierarchy_terms(
                image,
                location,
                logit_scale,
                batch.level_ids[mine],
                all_level_ids=batch.level_ids,
                **batch.choices,
            )
            parts["hierarchy"] = all_gather_rows(terms).sum()
            loss = loss + config.hierarchy.weight * parts["hierarchy"]
        if views and config.views.weight > 0.0:
            term, named = views_term(views, location, logit_scale, targets, batch.choices["all_location"])
            parts |= named
            loss = loss + config.views.weight * term
        parts["loss"] = loss
        return loss, {name: value.detach() for name, value in parts.items()}

    def _check(self, region_ids: Tensor | None, level_ids: Tensor | None) -> None:
        if self.config.fairness.weight > 0.0 and region_ids is None:
            raise ConfigError(
                "the fairness term needs the region of each photograph: set a region column, or weight 0."
            )
        if self.config.hierarchy.weight > 0.0 and level_ids is None:
            raise ConfigError("the hierarchy term needs the unit of each photograph at each level: pass level_ids.")

    def _neighbours(
        self,
        distance_m: Float64[Tensor, "b n"],
        accuracies: tuple[Tensor | None, Tensor | None],
        stretches: dict[str, Tensor | None],
    ) -> Float64[Tensor, "b n"]:
        """The kernel of the neighbourhood term."""
        config = self.config.neighbourhood
        noise, follows = self.config.targets.gps_noise, config.bandwidth_m == 0.0
        mine_m, everybodys_m = accuracies if noise else (None, None)
        return pair_weights(
            distance_m,
            config.kernel,
            (min(self.config.targets.bandwidths_m) if follows else config.bandwidth_m,),
            accuracy_a=mine_m,
            accuracy_b=everybodys_m,
            default_accuracy_m=self.config.targets.default_accuracy_m if noise else 0.0,
            stretch_a=stretches["stretch_a"] if follows else None,
            stretch_b=stretches["stretch_b"] if follows else None,
        )

    def _compared(
        self, image: Float[Tensor, "b d"], distance_m: Float64[Tensor, "b n"], batch: _Batch
    ) -> list[Float[Tensor, " b"]]:
        """The terms of compared methods, a number a photograph each."""
        ranks, matching, mine = self.config.rank_n_contrast, self.config.image_geography, batch.mine
        rows = []
        if ranks.weight > 0.0:
            rows.append(rank_n_contrast_terms(image, distance_m, ranks.tau, ranks.similarity, batch.image, mine.start))
        if matching.weight > 0.0:
            everywhere = batch.positions_deg
            rows.append(image_geography_terms(image, everywhere[mine], matching.measure, batch.image, everywhere))
        return rows

    def _gather(
        self,
        image: Float[Tensor, "b d"],
        location: Float[Tensor, "b d"],
        positions_deg: Float64[Tensor, "b 2"],
        *facts: Tensor | None,
    ) -> _Batch:
        on_device = [None if fact is None else fact.to(image.device) for fact in facts]
        start = process_rank() * len(image)
        mine = slice(start, start + len(image))
        if process_count() == 1:
            # Accuracies and stretches weigh distances, which are made where the positions are.
            near = [None if fact is None else fact.to(positions_deg.device) for fact in facts]
            return _Batch(image, location, positions_deg, near[0], on_device[1], near[2], on_device[3], mine)
        check_same_rows(len(image), image.device)
        # What is gathered must lie on the process group's device, which is that of the embeddings.
        everybodys = [None if fact is None else all_gather_rows(fact) for fact in on_device]
        return _Batch(
            all_gather_rows(image),
            all_gather_rows(location),
            all_gather_rows(positions_deg.to(image.device)),
            everybodys[0],
            everybodys[1],
            everybodys[2],
            everybodys[3],
            mine,
        )

    def _total(
        self,
        by_sample: tuple[Tensor, ...],
        region_ids: Int[Tensor, " n"] | None,
        trust: Float[Tensor, " n"] | None,
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """What the numbers by photograph add up to."""
        config = self.config
        by_image, by_location, target_self, *more = by_sample
        if trust is None:
            loss = (exact_mean(by_image) + exact_mean(by_location)) / 2
        else:
            loss = weighted_mean((by_image + by_location) / 2, trust)
        parts = {"contrastive": loss, "target_self": target_self.mean()}
        if trust is not None and config.robust.form == "trimmed":
            parts["trimmed"] = (trust == 0.0).to(trust.dtype).mean()
        elif trust is not None:
            parts["trust"] = trust.mean()
        if config.neighbourhood.weight > 0.0:
            terms, shares = more.pop(0), more.pop(0)
            parts["isolated"] = (shares == 0.0).sum()
            if trust is not None:
                terms, shares = terms * trust, shares * trust
            parts["neighbourhood"] = ratio_of_sums(terms, shares)
            loss = loss + config.neighbourhood.weight * parts["neighbourhood"]
        if config.fairness.weight > 0.0 and region_ids is not None:
            parts["fairness"] = self._fairness((by_image + by_location) / 2, region_ids, trust)
            loss = loss + config.fairness.weight * parts["fairness"]
        for name, term in (("rank_n_contrast", config.rank_n_contrast), ("image_geography", config.image_geography)):
            if term.weight > 0.0:
                parts[name] = more.pop(0).mean()
                loss = loss + term.weight * parts[name]
        return loss, parts

    def _fairness(
        self, per_sample: Float[Tensor, " n"], region_ids: Int[Tensor, " n"], trust: Float[Tensor, " n"] | None
    ) -> Float[Tensor, ""]:
        config = self.config.fairness
        if self.group_dro is not None:
            return self.group_dro(per_sample, region_ids, trust)  # type: ignore[no-any-return]
        assert config.form != "group-dro"
        return fairness_loss(per_sample, region_ids, config.form, config.fraction, trust)
