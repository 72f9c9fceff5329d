"""The whole objective: L_sw + lambda_nc L_nc + lambda_fair L_fair + lambda_hier L_hier, over all processes' batch."""

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
from swclip.losses.neighbourhood import NeighbourhoodConfig, neighbourhood_terms, ratio_of_sums
from swclip.losses.queue import QueuedLocations, queued_targets
from swclip.losses.rank_n_contrast import RankNContrastConfig, rank_n_contrast_terms
from swclip.losses.spatial_contrastive import directional_divergences, exact_mean
from swclip.losses.targets import TargetConfig, pair_weights, pairwise_distance_m, soft_targets
from swclip.losses.views import View, ViewsTermConfig, views_term


@dataclass(frozen=True)
class ObjectiveConfig:
    """What is minimised.

    Args:
        targets: The soft targets; `TargetConfig(alpha=0.0)` is CLIP.
        neighbourhood: The neighbourhood term, left out at weight 0.
        fairness: The fairness term, left out at weight 0.
        rank_n_contrast: Rank-N-Contrast on the photographs, left out at weight 0.
        image_geography: AddressCLIP's image-geography matching, left out at weight 0.
        symmetric: Both directions of the contrast; without it, photograph to location alone, as in GeoCLIP.
        views: The term of further views, for models that have any.
        hierarchy: The hierarchy term, left out at weight 0.
    """

    targets: TargetConfig = field(default_factory=TargetConfig)
    neighbourhood: NeighbourhoodConfig = field(default_factory=NeighbourhoodConfig)
    fairness: FairnessConfig = field(default_factory=FairnessConfig)
    rank_n_contrast: RankNContrastConfig = field(default_factory=RankNContrastConfig)
    image_geography: ImageGeographyConfig = field(default_factory=ImageGeographyConfig)
    symmetric: bool = True
    views: ViewsTermConfig = field(default_factory=ViewsTermConfig)
    hierarchy: HierarchyConfig = field(default_factory=HierarchyConfig)


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


class Objective(nn.Module):
    """The spatially weighted contrastive loss with its neighbourhood, fairness and hierarchy terms.

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
        queue: QueuedLocations | None = None,
        views: Sequence[View] = (),
        stretch: Float64[Tensor, " b"] | None = None,
        level_ids: Int[Tensor, "b l"] | None = None,
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """The loss of a batch, and its parts for the log.

        Args:
            image: (B, D) image embeddings of this process's photographs, L2-normalised.
            location: (B, D) location embeddings, L2-normalised.
            logit_scale: Scalar, the **logarithm** of the softmax scale, as CLIP keeps it.
            positions_deg: (B, 2) latitude, longitude in degrees, float64. May stay on the CPU.
            accuracy_m: (B,) 1-sigma GPS accuracy in metres, NaN where unknown.
            region_ids: (B,) region of each photograph, negative where it has none. Needed by the fairness term.
            queue: Further locations that the photographs choose among; of the other direction they are no part.
            views: Further views of the photographs, and their fusion.
            stretch: (B,) what each photograph multiplies the targets' bandwidths by (a pair: the geometric mean of
                both), and the neighbourhood's where that follows them. 1 where None.
            level_ids: (B, L) unit of each photograph at each level, negative where unknown. Needed by the hierarchy.

        Returns:
            The scalar to call `backward` on, and detached scalars: `loss`, `contrastive`, `target_self` (mean share of
            the target on the photograph's own location: 1 means the kernel sees no neighbours and this is CLIP); with
            their terms also `neighbourhood`, `isolated` (photographs without neighbours, a count), `fairness`,
            `rank_n_contrast`, `image_geography`, `hierarchy`, and what `views_term` gives.

        Raises:
            ConfigError: Fairness without regions, hierarchy without levels, or processes with different numbers of
                photographs.
        """
        config = self.config
        if config.fairness.weight > 0.0 and region_ids is None:
            raise ConfigError(
                "the fairness term needs the region of each photograph: set a region column, or weight 0."
            )
        if queue is not None and stretch is not None and config.targets.alpha > 0.0:
            raise ConfigError(
                "a queue of places has no bandwidth of its own: with soft labels use a bandwidth that is the same for "
                "all photographs and steps, or queue size 0."
            )
        if config.hierarchy.weight > 0.0 and level_ids is None:
            raise ConfigError("the hierarchy term needs the unit of each photograph at each level: pass level_ids.")
        batch = self._gather(image, location, positions_deg, accuracy_m, region_ids, stretch, level_ids)
        n_rows = len(image)
        mine = slice(process_rank() * n_rows, (process_rank() + 1) * n_rows)
        several = process_count() > 1

        accuracy_m = batch.accuracy_m
        my_accuracy_m = None if accuracy_m is None else accuracy_m[mine]
        if config.targets.alpha > 0.0 or config.neighbourhood.weight > 0.0 or config.rank_n_contrast.weight > 0.0:
            distance_m = pairwise_distance_m(batch.positions_deg[mine], batch.positions_deg)
        else:  # plain CLIP asks for no distance
            distance_m = batch.positions_deg.new_zeros(()).expand(n_rows, len(batch.positions_deg))
        mine_stretch = None if batch.stretch is None else batch.stretch[mine]
        targets = soft_targets(
            distance_m,
            config.targets,
            my_accuracy_m,
            accuracy_m,
            first_match=mine.start,
            stretch_a=mine_stretch,
            stretch_b=batch.stretch,
        )
        # Cast before moving: not every accelerator has float64.
        dtype = torch.promote_types(torch.promote_types(image.dtype, location.dtype), torch.float32)
        targets = targets.to(dtype).to(image.device)
        by_location_targets, choices = None, batch.location if several else None
        if queue is not None:
            by_location_targets, choices = targets, torch.cat([batch.location, queue.embedding])
            my_deg = batch.positions_deg[mine]
            targets = queued_targets(
                distance_m, my_deg, queue, config.targets, my_accuracy_m, accuracy_m, first_match=mine.start
            )
            targets = targets.to(dtype).to(image.device)
        by_image, by_location = directional_divergences(
            image,
            location,
            logit_scale,
            targets,
            by_location_targets,
            all_image=batch.image if several or queue is not None else None,
            all_location=choices,
        )
        rows = [by_image, by_location if config.symmetric else by_image, targets.diagonal(mine.start)]
        if config.neighbourhood.weight > 0.0:
            noise, follows = config.targets.gps_noise, config.neighbourhood.bandwidth_m == 0.0
            weights = pair_weights(
                distance_m,
                config.neighbourhood.kernel,
                (min(config.targets.bandwidths_m) if follows else config.neighbourhood.bandwidth_m,),
                accuracy_a=my_accuracy_m if noise else None,
                accuracy_b=accuracy_m if noise else None,
                default_accuracy_m=config.targets.default_accuracy_m if noise else 0.0,
                stretch_a=mine_stretch if follows else None,
                stretch_b=batch.stretch if follows else None,
            )
            rows += neighbourhood_terms(
                image,
                weights.to(dtype).to(image.device),
                config.neighbourhood.form,
                config.neighbourhood.tau,
                all_image=batch.image if several else None,
                first_match=mine.start,
            )
        rows += self._compared(image, distance_m, batch, mine)
        # One gather for everything that is one number a photograph.
        by_sample = all_gather_rows(torch.stack([row.to(dtype) for row in rows], dim=1)).unbind(1)
        hierarchy: Tensor | None = None
        if config.hierarchy.weight > 0.0 and batch.level_ids is not None:
            terms = hierarchy_terms(
                image,
                location,
                logit_scale,
                batch.level_ids[mine],
                all_image=batch.image if several else None,
                all_location=batch.location if several else None,
                all_level_ids=batch.level_ids,
            )
            hierarchy = all_gather_rows(terms).sum()
        loss, parts = self._total(by_sample, batch.region_ids, hierarchy)
        if views and config.views.weight > 0.0:
            in_batch = targets if by_location_targets is None else by_location_targets
            term, named = views_term(views, location, logit_scale, in_batch, batch.location if several else None)
            loss = loss + config.views.weight * term
            parts |= {**named, "loss": loss.detach()}
        return loss, parts

    def _compared(
        self, image: Float[Tensor, "b d"], distance_m: Float64[Tensor, "b n"], batch: _Batch, mine: slice
    ) -> list[Float[Tensor, " b"]]:
        """The terms of compared methods, a number a photograph each."""
        ranks, matching = self.config.rank_n_contrast, self.config.image_geography
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
        accuracy_m: Float[Tensor, " b"] | None,
        region_ids: Int[Tensor, " b"] | None,
        stretch: Float64[Tensor, " b"] | None,
        level_ids: Int[Tensor, "b l"] | None,
    ) -> _Batch:
        if process_count() == 1:
            facts = (_on(region_ids, image.device), stretch, _on(level_ids, image.device))
            return _Batch(image, location, positions_deg, accuracy_m, *facts)
        check_same_rows(len(image), image.device)
        # What is gathered must lie on the process group's device, which is that of the embeddings.
        return _Batch(
            all_gather_rows(image),
            all_gather_rows(location),
            all_gather_rows(positions_deg.to(image.device)),
            None if accuracy_m is None else all_gather_rows(accuracy_m.to(image.device)),
            None if region_ids is None else all_gather_rows(region_ids.to(image.device)),
            None if stretch is None else all_gather_rows(stretch.to(image.device)),
            None if level_ids is None else all_gather_rows(level_ids.to(image.device)),
        )

    def _total(
        self,
        by_sample: tuple[Tensor, ...],
        region_ids: Int[Tensor, " n"] | None,
        hierarchy: Float[Tensor, ""] | None = None,
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        config = self.config
        by_image, by_location, target_self = by_sample[:3]
        loss = (exact_mean(by_image) + exact_mean(by_location)) / 2
        parts = {"contrastive": loss, "target_self": target_self.mean()}
        more = list(by_sample[3:])
        if config.neighbourhood.weight > 0.0:
            terms, shares = more.pop(0), more.pop(0)
            parts["neighbourhood"] = ratio_of_sums(terms, shares)
            parts["isolated"] = (shares == 0.0).sum()
            loss = loss + config.neighbourhood.weight * parts["neighbourhood"]
        if config.fairness.weight > 0.0 and region_ids is not None:
            per_sample = (by_image + by_location) / 2
            if self.group_dro is not None:
                parts["fairness"] = self.group_dro(per_sample, region_ids)
            elif config.fairness.form != "group-dro":
                parts["fairness"] = fairness_loss(
                    per_sample, region_ids, config.fairness.form, config.fairness.fraction
                )
            loss = loss + config.fairness.weight * parts["fairness"]
        for name, term in (("rank_n_contrast", config.rank_n_contrast), ("image_geography", config.image_geography)):
            if term.weight > 0.0:
                parts[name] = more.pop(0).mean()
                loss = loss + term.weight * parts[name]
        if hierarchy is not None:
            parts["hierarchy"] = hierarchy
            loss = loss + config.hierarchy.weight * hierarchy
        parts["loss"] = loss
        return loss, {name: value.detach() for name, value in parts.items()}


def _on(values: Tensor | None, device: torch.device) -> Tensor | None:
    return None if values is None else values.to(device)
