"""Losses: tensors in, scalar out; never a model."""

from swclip.losses.fairness import FairnessConfig, GroupDRO, fairness_loss, regional_means
from swclip.losses.gather import all_gather_rows
from swclip.losses.hierarchy import HierarchyConfig, hierarchy_loss
from swclip.losses.image_geography import ImageGeographyConfig, image_geography_loss
from swclip.losses.memory_bank import QueuedLocations, queued_targets
from swclip.losses.modalities import View, ViewsTermConfig
from swclip.losses.neighbourhood import NeighbourhoodConfig, neighbourhood_loss
from swclip.losses.objective import Objective, ObjectiveConfig
from swclip.losses.rank_n_contrast import RankNContrastConfig, rank_n_contrast_loss
from swclip.losses.robust_weights import RobustConfig, robust_weights
from swclip.losses.spatial_contrastive import spatial_contrastive_loss
from swclip.losses.targets import TargetConfig, pair_weights, pairwise_distance_m, soft_targets

__all__ = [
    "FairnessConfig",
    "GroupDRO",
    "HierarchyConfig",
    "ImageGeographyConfig",
    "NeighbourhoodConfig",
    "Objective",
    "ObjectiveConfig",
    "QueuedLocations",
    "RankNContrastConfig",
    "RobustConfig",
    "TargetConfig",
    "View",
    "ViewsTermConfig",
    "all_gather_rows",
    "fairness_loss",
    "hierarchy_loss",
    "image_geography_loss",
    "neighbourhood_loss",
    "pair_weights",
    "pairwise_distance_m",
    "queued_targets",
    "rank_n_contrast_loss",
    "regional_means",
    "robust_weights",
    "soft_targets",
    "spatial_contrastive_loss",
]
