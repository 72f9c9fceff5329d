"""AddressCLIP's image-geography matching: embedding distances follow geographic distances."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn import functional as F

from swclip.errors import ConfigError

FeatureMeasure = Literal["distance", "similarity"]


@dataclass(frozen=True)
class ImageGeographyConfig:
    """The image-geography term of the objective.

    Args:
        weight: Its weight gamma in the objective; 0 omits it. The paper uses 0.8, and 1 for the contrast.
        measure: The quantity compared with the geographic distance: `distance`, 1 - cosine, or `similarity`, the
            cosine.

    Raises:
        ConfigError: A value that cannot work.
    """

    weight: float = 0.0
    measure: FeatureMeasure = "distance"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight >= 0.0):
            raise ConfigError(f"image_geography weight {self.weight} must be 0 or more.")
        _check_measure(self.measure)


def _check_measure(measure: str) -> None:
    if measure not in get_args(FeatureMeasure):
        raise ConfigError(
            f"image_geography measure {measure!r} is not known; choose one of {get_args(FeatureMeasure)}."
        )


def image_geography_loss(
    image: Float[Tensor, "b d"], positions_deg: Float64[Tensor, "b 2"], measure: FeatureMeasure = "distance"
) -> Float[Tensor, ""]:
    """Mean squared difference between the embedding distances and geographic distances.

        L = 1/B^2 sum_ij (D^V_ij - D^U_ij)^2
        D^U_ij = |n_i - n_j| + |e_i - e_j|,   n, e: northing and easting, each scaled to [0, 1] over the batch
        D^V_ij = 1 - cos(v_i, v_j)

    Both distances are in [0, 2]. Distances are scaled over the whole batch, so that one distant photograph shrinks all
    others: the term is designed for one city, and has little effect within each of several.

    Args:
        image: (B, D) image embeddings V.
        positions_deg: (B, 2) latitude, longitude in degrees.
        measure: `distance`, or `similarity`: D^V_ij = cos(v_i, v_j), as in summaries of the paper. Equating a
            similarity with a distance separates neighbours, contrary to the paper's aim; it is for experiments only.

    Returns:
        Scalar.

    Raises:
        ConfigError: The measure is unknown.

    References:
        S. Xu et al., "AddressCLIP: Empowering Vision-Language Models for City-wide Image Address Localization", ECCV
        2024, section 4.3. There eastings and northings are UTM's; scaled to [0, 1] they are latitude and longitude
        except for UTM's small rotation.

    Example:
        >>> positions_deg = torch.tensor([[52.0, 0.0], [52.0, 0.1], [52.1, 0.0]], dtype=torch.float64)
        >>> angle = torch.tensor([0.0, torch.pi / 2, -torch.pi / 2])
        >>> image = torch.stack([angle.cos(), angle.sin()], dim=1)
        >>> round(image_geography_loss(image, positions_deg).item(), 6)
        0.0
    """
    return image_geography_terms(image, positions_deg, measure).mean()


def image_geography_terms(
    image: Float[Tensor, "b d"],
    positions_deg: Float64[Tensor, "b 2"],
    measure: FeatureMeasure = "distance",
    all_image: Float[Tensor, "n d"] | None = None,
    all_positions_deg: Float64[Tensor, "n 2"] | None = None,
) -> Float[Tensor, " b"]:
    """The image-geography loss of each row, the mean over all photographs.

    Args:
        image: (B, D) image embeddings.
        positions_deg: (B, 2) their positions in degrees.
        measure: `distance` or `similarity`.
        all_image: (N, D) embeddings of all photographs; `image` where None.
        all_positions_deg: (N, 2) their positions, over which distances are scaled; `positions_deg` where None.

    Returns:
        (B,) losses.

    Raises:
        ConfigError: The measure is unknown.
    """
    _check_measure(measure)
    everywhere = positions_deg if all_positions_deg is None else all_positions_deg
    geographic = scaled_manhattan(positions_deg, everywhere)
    with torch.autocast(image.device.type, enabled=False):
        dtype = torch.promote_types(image.dtype, torch.float32)
        unit = F.normalize(image.to(dtype), dim=1)
        others = unit if all_image is None else F.normalize(all_image.to(dtype), dim=1)
        cosine = unit @ others.T
        feature = 1.0 - cosine if measure == "distance" else cosine
        return (feature - geographic.to(dtype).to(image.device)).square().mean(dim=1)


def scaled_manhattan(
    positions_deg: Float64[Tensor, "b 2"], everywhere_deg: Float64[Tensor, "n 2"]
) -> Float64[Tensor, "b n"]:
    """Manhattan distances, each axis scaled to [0, 1] over `everywhere_deg`.

    Args:
        positions_deg: (B, 2) latitude, longitude in degrees.
        everywhere_deg: (N, 2) the positions whose minimum is 0 and maximum 1. An axis along which they are equal is 0.

    Returns:
        (B, N) distances, in [0, 2] if `everywhere_deg` contains `positions_deg`.
    """
    # Longitudes are relative to their mean direction, so that a city may contain the antimeridian.
    turn = torch.deg2rad(everywhere_deg[:, 1])
    middle = torch.rad2deg(torch.atan2(turn.sin().sum(), turn.cos().sum()))

    def flat(points_deg: Tensor) -> Tensor:
        east = torch.remainder(points_deg[:, 1] - middle + 180.0, 360.0) - 180.0
        return torch.stack([points_deg[:, 0], east], dim=1)

    rows, columns = flat(positions_deg), flat(everywhere_deg)
    extent = columns.amax(0) - columns.amin(0)
    per_unit = torch.where(extent > 0.0, 1.0 / extent.clamp_min(torch.finfo(extent.dtype).tiny), 0.0)
    return ((rows[:, None] - columns).abs() * per_unit).sum(dim=2)
