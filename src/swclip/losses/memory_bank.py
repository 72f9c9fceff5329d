"""Memory bank: locations of earlier batches as further candidates of the contrast."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from swclip.losses.batch import Places
from swclip.losses.targets import TargetConfig, pairwise_distance_m, soft_targets


@dataclass(frozen=True)
class QueuedLocations:
    """Locations of the memory bank, which match no photograph of the batch; the same in every process.

    Attributes:
        embedding: (Q, D) location embeddings, L2-normalised; gradients flow through them.
        positions_deg: (Q, 2) latitude, longitude in degrees.
        accuracy_m: (Q,) GPS accuracies in metres, NaN where unknown; None for all unknown.
    """

    embedding: Float[Tensor, "q d"]
    positions_deg: Float64[Tensor, "q 2"]
    accuracy_m: Float[Tensor, " q"] | None = None


def queued_targets(
    distance_m: Float64[Tensor, "b n"],
    positions_deg: Float64[Tensor, "b 2"],
    queue: QueuedLocations,
    config: TargetConfig,
    accuracy_a: Float[Tensor, " b"] | None = None,
    accuracy_b: Float[Tensor, " n"] | None = None,
    *,
    bandwidth_scale_a: Float[Tensor, " b"] | None = None,
    bandwidth_scale_b: Float[Tensor, " n"] | None = None,
    first_match: int = 0,
) -> Float64[Tensor, "b m"]:
    """Targets of the photographs over the batch's locations and the queue's.

    With soft targets, a queued location has the kernel's weight at its distance, as if its photograph were in the
    batch. With alpha = 0 all queued locations are negatives, as in GeoCLIP, even one at the position of the photograph.

    Args:
        distance_m: (B, N) distances from the photographs to the batch's locations, metres.
        positions_deg: (B, 2) positions of the photographs.
        queue: The queue.
        config: alpha, kernel, bandwidths, GPS noise.
        accuracy_a: (B,) accuracies of the photographs, metres.
        accuracy_b: (N,) accuracies of the batch's locations, metres.
        bandwidth_scale_a: (B,) factor on the bandwidths by photograph; 1 where None.
        bandwidth_scale_b: (N,) the same for the batch's locations; that of queued locations is 1.
        first_match: The column that matches row 0.

    Returns:
        (B, N + Q) float64; rows sum to 1.
    """
    places_deg = queue.positions_deg.to(positions_deg.device)
    if config.alpha == 0.0:
        to_queue = distance_m.new_zeros(()).expand(len(distance_m), len(places_deg))
    else:
        to_queue = pairwise_distance_m(positions_deg, places_deg)
    everywhere = torch.cat([distance_m, to_queue], dim=1)
    accuracy = _joined(accuracy_b, distance_m.shape[1], queue.accuracy_m, len(places_deg), distance_m)
    if bandwidth_scale_b is not None:
        bandwidth_scale_b = torch.cat([bandwidth_scale_b, bandwidth_scale_b.new_ones(len(places_deg))])
    return soft_targets(
        everywhere,
        config,
        accuracy_a,
        accuracy,
        first_match=first_match,
        bandwidth_scale_a=bandwidth_scale_a,
        bandwidth_scale_b=bandwidth_scale_b,
    )


def _joined(of_batch: Tensor | None, n: int, of_queue: Tensor | None, q: int, like: Tensor) -> Tensor | None:
    if of_batch is None and of_queue is None:
        return None
    parts = [
        like.new_full((count,), torch.nan) if part is None else part.to(like)
        for part, count in ((of_batch, n), (of_queue, q))
    ]
    return torch.cat(parts)


def with_queue(places: Places, queue: QueuedLocations) -> Places:
    """The positions of a batch followed by those of the queue, whose bandwidth scale is 1."""
    positions_deg = places.positions_deg
    count, of_queue = len(positions_deg), len(queue.positions_deg)
    accuracy_m = _joined(places.accuracy_m, count, queue.accuracy_m, of_queue, positions_deg)
    scale = places.bandwidth_scale
    scale = None if scale is None else torch.cat([scale, scale.new_ones(of_queue)])
    everywhere = torch.cat([positions_deg, queue.positions_deg.to(positions_deg)])
    return Places(everywhere, accuracy_m, scale, places.local)
