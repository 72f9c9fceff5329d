"""Losses: tensors in, scalar out; never a model."""

from swclip.losses.fairness import FairnessConfig, GroupDRO, fairness_loss, regional_means
from swclip.losses.gather import all_gather_rows
from swclip.losses.neighbourhood import NeighbourhoodConfig, neighbourhood_loss
from swclip.losses.objective import Objective, ObjectiveConfig
from swclip.losses.robust import RobustConfig, robust_weights
from swclip.losses.spatial_contrastive import spatial_contrastive_loss
from swclip.losses.targets import TargetConfig, pair_weights, pairwise_distance_m, soft_targets

__all__ = [
    "FairnessConfig",
    "GroupDRO",
    "NeighbourhoodConfig",
    "Objective",
    "ObjectiveConfig",
    "RobustConfig",
    "TargetConfig",
    "all_gather_rows",
    "fairness_loss",
    "neighbourhood_loss",
    "pair_weights",
    "pairwise_distance_m",
    "regional_means",
    "robust_weights",
    "soft_targets",
    "spatial_contrastive_loss",
]
