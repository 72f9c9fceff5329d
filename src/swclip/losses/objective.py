"""The objective: the spatially weighted contrast and its terms, over the batch of all processes.

L = L_sw + lambda_nc L_nc + lambda_fair L_fair + lambda_h L_h + lambda_views L_views, and those of compared methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn

from swclip.errors import ArtefactError, ConfigError
from swclip.losses.batch import GatheredRows, Places, all_gather_rows, check_same_rows, gather_embeddings, gather_places
from swclip.losses.divergences import mean_of_directions
from swclip.losses.fairness import FairnessConfig, RegionalFairnessLoss
from swclip.losses.hierarchy import HierarchyConfig, hierarchy_terms
from swclip.losses.image_geography import ImageGeographyConfig, image_geography_terms
from swclip.losses.memory_bank import QueuedLocations
from swclip.losses.modalities import ModalitiesConfig, Modality, modalities_term
from swclip.losses.neighbourhood import NeighbourhoodConfig, NeighbourhoodConsistencyLoss, ratio_of_sums
from swclip.losses.rank_n_contrast import RankNContrastConfig, rank_n_contrast_terms
from swclip.losses.robust_weights import RobustConfig, robust_weights, trusted_divergence, weighted_mean
from swclip.losses.spatial_contrastive import SpatialContrastiveLoss
from swclip.losses.targets import TargetConfig
from swclip.losses.tiled_divergences import TileSize, check_tile


@dataclass(frozen=True)
class ObjectiveConfig:
    """The terms of the objective.

    Args:
        targets: The soft targets; `TargetConfig(alpha=0.0)` is CLIP.
        neighbourhood: The neighbourhood term; omitted at weight 0.
        fairness: The fairness term; omitted at weight 0.
        robust: Down-weighting of photographs whose position seems wrong; none by default.
        hierarchy: The hierarchy term; omitted at weight 0.
        views: The term of further modalities, for models that have any.
        rank_n_contrast: Rank-N-Contrast on the photographs; omitted at weight 0.
        image_geography: AddressCLIP's image-geography matching; omitted at weight 0.
        symmetric: Both directions of the contrast; False for photograph to location only, as in GeoCLIP.
        tile: Side of the tiles in which contrast and neighbourhood of a large batch are computed; `auto`: tiles above
            512 x 512 pairs (1024 x 1024 on a GPU); 0: never. The other terms have whole matrices.

    Raises:
        ConfigError: `robust` has a form and `symmetric` is False.
    """

    targets: TargetConfig = field(default_factory=TargetConfig)
    neighbourhood: NeighbourhoodConfig = field(default_factory=NeighbourhoodConfig)
    fairness: FairnessConfig = field(default_factory=FairnessConfig)
    robust: RobustConfig = field(default_factory=RobustConfig)
    hierarchy: HierarchyConfig = field(default_factory=HierarchyConfig)
    views: ModalitiesConfig = field(default_factory=ModalitiesConfig)
    rank_n_contrast: RankNContrastConfig = field(default_factory=RankNContrastConfig)
    image_geography: ImageGeographyConfig = field(default_factory=ImageGeographyConfig)
    symmetric: bool = True
    tile: TileSize = "auto"

    def __post_init__(self) -> None:
        check_tile(self.tile)
        if self.robust.form != "none" and not self.symmetric:
            raise ConfigError(
                "the robust forms weight both directions of the contrast: set `symmetric`, or form 'none'."
            )


class Objective(nn.Module):
    """The spatially weighted contrastive loss with its further terms.

    It consists of the public modules (`SpatialContrastiveLoss`, `NeighbourhoodConsistencyLoss`,
    `RegionalFairnessLoss`) and the further terms of a recipe. Its input is not checked: embeddings are unit vectors,
    and positions were checked when the manifest was read.

    Each process passes its local photographs; the terms use the batch of all processes, in order of rank, with
    gradients through the gather. The loss is equal in all processes, and the gradients that DDP averages are those of
    one process with the whole batch (see `losses/batch.py`). Do not wrap the objective itself in DDP: it has no
    parameters. Save its `state_dict` with the checkpoint: Group-DRO's weights are in it.

    Args:
        config: The terms and their weights.
        n_regions: Number of districts, for `group-dro` only; ids are 0 to n_regions - 1.

    Raises:
        ConfigError: The fairness form is `group-dro` and `n_regions` is None.

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
        self.contrastive = SpatialContrastiveLoss.from_config(config.targets, config.symmetric, config.tile)
        near, noise = config.neighbourhood, config.targets.gps_noise
        self.neighbourhood = NeighbourhoodConsistencyLoss(
            near.bandwidth_m or min(config.targets.bandwidths_m),
            near.kernel,
            form=near.form,
            tau=near.tau,
            default_accuracy_m=config.targets.default_accuracy_m if noise else 0.0,
            tile=config.tile,
        )
        self.fairness: RegionalFairnessLoss | None = None
        if config.fairness.weight > 0.0:
            fair = config.fairness
            self.fairness = RegionalFairnessLoss(fair.form, n_regions=n_regions, eta=fair.eta, fraction=fair.fraction)

    def forward(
        self,
        image: Float[Tensor, "b d"],
        location: Float[Tensor, "b d"],
        logit_scale: Float[Tensor, ""],
        positions_deg: Float64[Tensor, "b 2"],
        accuracy_m: Float[Tensor, " b"] | None = None,
        region_ids: Int[Tensor, " b"] | None = None,
        *,
        bandwidth_scale: Float64[Tensor, " b"] | None = None,
        level_ids: Int[Tensor, "b l"] | None = None,
        queue: QueuedLocations | None = None,
        modalities: Sequence[Modality] = (),
        progress: float = 1.0,
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """The loss of a batch, and its parts for the log.

        Args:
            image: (B, D) image embeddings of the local photographs, L2-normalised.
            location: (B, D) location embeddings, L2-normalised.
            logit_scale: Scalar, the **logarithm** of the softmax scale, as in CLIP.
            positions_deg: (B, 2) latitude, longitude in degrees, float64; may be on the CPU.
            accuracy_m: (B,) 1-sigma GPS accuracy in metres, NaN where unknown.
            region_ids: (B,) district of each photograph, negative where it has none. Needed by the fairness term.
            bandwidth_scale: (B,) factor on the targets' bandwidths by photograph (a pair: the geometric mean of both),
                and on the neighbourhood's, where that is the targets' smallest. 1 where None.
            level_ids: (B, L) unit of each photograph at each level, negative where unknown. Needed by the hierarchy.
            queue: Further locations among the candidates of the photographs; not used in the other direction.
            modalities: Further modalities of the photographs, and their fusion.
            progress: Share of the training steps completed, 0 to 1; the robust forms start after their warm-up.

        Returns:
            The scalar to call `backward` on, and detached scalars: `loss`, `contrastive`, `target_self` (mean share of
            the target on the photograph's location: 1 means that the kernel has no neighbours, as in CLIP); with
            their terms also `neighbourhood`, `isolated` (photographs without neighbours, a count), `fairness`,
            `hierarchy`, `rank_n_contrast`, `image_geography`, the parts of `modalities_term`, and with a robust form
            `trimmed` (share of the batch omitted) or `trust` (mean weight of a photograph).

        Raises:
            ConfigError: The fairness term has no districts, the hierarchy term no levels, or processes have different
                numbers of photographs.
        """
        config = self.config
        self._check(region_ids, level_ids)
        check_same_rows(len(image), image.device)
        images, locations = gather_embeddings(image), gather_embeddings(location)
        accuracy_m = accuracy_m if config.targets.gps_noise else None
        places = gather_places(positions_deg, accuracy_m, bandwidth_scale, image.device)
        by_image, by_location, target_self = self.contrastive.divergences(images, locations, places, logit_scale, queue)
        trust = None
        if config.robust.form != "none":
            plain = ((by_image + by_location) / 2).detach()
            trust = robust_weights(all_gather_rows(plain), config.robust, progress)
            if config.robust.columns:
                targets = self.contrastive.soft_targets(images, locations, places)
                by_location = trusted_divergence(location, images.gathered, logit_scale, targets, trust)

        rows = [by_image, by_location, target_self]
        if config.neighbourhood.weight > 0.0:
            neighbour_trust = trust if config.robust.columns else None
            follows = config.neighbourhood.bandwidth_m == 0.0
            rows += self.neighbourhood.terms(images, places, neighbour_trust, scaled=follows)
        rows += self._compared(images, places)
        # One gather for all values per photograph.
        by_sample = all_gather_rows(torch.stack([row.to(by_image.dtype) for row in rows], dim=1)).unbind(1)
        loss, parts = self._total(by_sample, region_ids, trust)
        if config.hierarchy.weight > 0.0 and level_ids is not None:
            level_ids = level_ids.to(image.device)
            terms = hierarchy_terms(
                image,
                location,
                logit_scale,
                level_ids,
                images.others,
                locations.others,
                all_gather_rows(level_ids),
            )
            parts["hierarchy"] = all_gather_rows(terms).sum()
            loss = loss + config.hierarchy.weight * parts["hierarchy"]
        if modalities and config.views.weight > 0.0:
            targets = self.contrastive.soft_targets(images, locations, places)
            term, named = modalities_term(modalities, location, logit_scale, targets, locations.others)
            parts |= named
            loss = loss + config.views.weight * term
        parts["loss"] = loss
        return loss, {name: value.detach() for name, value in parts.items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As in torch.

        Raises:
            ArtefactError: The state is from another objective or another version of swclip.
        """
        if strict and state_dict.keys() != self.state_dict().keys():
            raise ArtefactError(
                f"the checkpoint's objective has {sorted(state_dict)} instead of {sorted(self.state_dict())}: another "
                "version of swclip wrote it. Finish the run with that version, or delete the run's folder "
                "`checkpoints` to start it again."
            )
        return super().load_state_dict(state_dict, strict, assign)

    def _check(self, region_ids: Tensor | None, level_ids: Tensor | None) -> None:
        if self.config.fairness.weight > 0.0 and region_ids is None:
            raise ConfigError(
                "the fairness term needs the district of each photograph: set a region column, or weight 0."
            )
        if self.config.hierarchy.weight > 0.0 and level_ids is None:
            raise ConfigError("the hierarchy term needs the unit of each photograph at each level: pass level_ids.")

    def _compared(self, image: GatheredRows, places: Places) -> list[Float[Tensor, " b"]]:
        """The terms of compared methods, each (B,), by photograph."""
        ranks, matching, local = self.config.rank_n_contrast, self.config.image_geography, places.local
        rows = []
        if ranks.weight > 0.0:
            rows.append(
                rank_n_contrast_terms(
                    image.local, places.distance_m, ranks.tau, ranks.similarity, image.gathered, local.start
                )
            )
        if matching.weight > 0.0:
            all_deg = places.positions_deg
            rows.append(image_geography_terms(image.local, all_deg[local], matching.measure, image.gathered, all_deg))
        return rows

    def _total(
        self,
        by_sample: tuple[Tensor, ...],
        region_ids: Int[Tensor, " b"] | None,
        trust: Float[Tensor, " n"] | None,
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """The total of the gathered values by photograph."""
        config = self.config
        by_image, by_location, target_self, *more = by_sample
        if trust is None:
            loss = mean_of_directions(by_image, by_location)
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
        if self.fairness is not None and region_ids is not None:
            all_ids = all_gather_rows(region_ids.to(by_image.device))
            parts["fairness"] = self.fairness.by_region((by_image + by_location) / 2, all_ids, trust)
            loss = loss + config.fairness.weight * parts["fairness"]
        for name, term in (("rank_n_contrast", config.rank_n_contrast), ("image_geography", config.image_geography)):
            if term.weight > 0.0:
                parts[name] = more.pop(0).mean()
                loss = loss + term.weight * parts[name]
        return loss, parts
