"""The losses of SW-CLIP (arXiv 2604.04357), for any training loop; `swclip train` uses the same ones.

They map tensors to a scalar and do not depend on a model. docs/losses.md shows each in a complete loop.

**Modules**, which check and normalise their input:

- `SpatialContrastiveLoss`: CLIP's loss with soft targets that decay with geographic distance. Start here.
- `NeighbourhoodConsistencyLoss`: nearby places have nearby image embeddings.
- `RegionalFairnessLoss`: narrows the gap of the loss between districts. `GroupDRO` is its form with a state.
- `SWCLIPLoss`: the sum of the three.
- `Objective`, with its `ObjectiveConfig`: the loss of `swclip train`: the same modules, robust weights, a hierarchy of
  units, further modalities, a memory bank, and the losses of compared methods.

**Functions**, which do not check their input, as parts of other losses:

- `pairwise_distance_m`, `pair_weights`, `soft_targets`: positions to distances, kernel weights, target distributions.
- `spatial_contrastive_loss`, `neighbourhood_loss`, `fairness_loss`, `regional_means`: the formulas of the modules.
- `hierarchy_loss`: a loss on the softmax summed within cities and cells.
- `robust_weights`: small weights for photographs whose position seems wrong.
- `queued_targets`: targets over a memory bank.
- `rank_n_contrast_loss`, `image_geography_loss`: those of Rank-N-Contrast and AddressCLIP.
- `all_gather_rows`: rows of all processes, with gradients.

Example:
    >>> import torch
    >>> from swclip.losses import SpatialContrastiveLoss
    >>> loss_fn = SpatialContrastiveLoss(bandwidth_m=25.0)
    >>> positions_deg = torch.tensor([[52.2050, 0.1190], [52.2051, 0.1190]], dtype=torch.float64)
    >>> loss = loss_fn(torch.randn(2, 8, requires_grad=True), torch.randn(2, 8), positions_deg)
    >>> loss.backward()
"""

from swclip.losses.batch import all_gather_rows
from swclip.losses.fairness import FairnessConfig, GroupDRO, RegionalFairnessLoss, fairness_loss, regional_means
from swclip.losses.hierarchy import HierarchyConfig, hierarchy_loss
from swclip.losses.image_geography import ImageGeographyConfig, image_geography_loss
from swclip.losses.memory_bank import QueuedLocations, queued_targets
from swclip.losses.modalities import ModalitiesConfig, Modality
from swclip.losses.neighbourhood import NeighbourhoodConfig, NeighbourhoodConsistencyLoss, neighbourhood_loss
from swclip.losses.objective import Objective, ObjectiveConfig
from swclip.losses.rank_n_contrast import RankNContrastConfig, rank_n_contrast_loss
from swclip.losses.robust_weights import RobustConfig, robust_weights
from swclip.losses.spatial_contrastive import SpatialContrastiveLoss, spatial_contrastive_loss
from swclip.losses.sw_clip import SWCLIPLoss
from swclip.losses.targets import TargetConfig, pair_weights, pairwise_distance_m, soft_targets

__all__ = [
    "FairnessConfig",
    "GroupDRO",
    "HierarchyConfig",
    "ImageGeographyConfig",
    "ModalitiesConfig",
    "Modality",
    "NeighbourhoodConfig",
    "NeighbourhoodConsistencyLoss",
    "Objective",
    "ObjectiveConfig",
    "QueuedLocations",
    "RankNContrastConfig",
    "RegionalFairnessLoss",
    "RobustConfig",
    "SWCLIPLoss",
    "SpatialContrastiveLoss",
    "TargetConfig",
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
