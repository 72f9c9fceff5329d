"""Checks of the losses' input, whose errors name the row and a remedy, and its conversion to tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int
from numpy.typing import ArrayLike
from torch import Tensor

from swclip.errors import InputError
from swclip.geo.distance import EARTH_RADIUS_M

UNIT_TOLERANCE = 0.01
"""Largest deviation of a length from 1: vectors that were normalised in bfloat16 deviate by up to 0.004."""

MAX_LOGIT_SCALE = 9.0
"""Largest accepted logarithm of a scale; e^9 = 8103. CLIP's is at most log(100) = 4.6; a larger number is probably the
scale itself, which open_clip and others pass instead of the logarithm."""


def checked_embeddings(rows: Tensor, name: str, normalize: bool) -> Float[Tensor, "b d"]:
    """Check embeddings, and convert them to unit vectors.

    Args:
        rows: (B, D) embeddings.
        name: Their name in errors.
        normalize: Divide each by its length, in float32 at least; False refuses vectors that do not have length 1.

    Returns:
        (B, D) unit vectors, with gradients.

    Raises:
        InputError: The shape is wrong, there are no rows, values are not finite, or vectors do not have unit length.
    """
    if not isinstance(rows, Tensor) or not rows.is_floating_point():
        kind = str(rows.dtype) if isinstance(rows, Tensor) else type(rows).__name__
        raise InputError(f"{name} is {kind}; give a floating-point tensor, with its gradients.")
    if rows.ndim != 2 or 0 in rows.shape:
        raise InputError(f"{name} has shape {tuple(rows.shape)}; give (batch, dimensions), one row per photograph.")
    with torch.autocast(rows.device.type, enabled=False):
        wide = rows.to(torch.promote_types(rows.dtype, torch.float32))
        length = wide.detach().norm(dim=1)
        bad = ~length.isfinite()
        if bool(bad.any()):
            row = _first(bad)
            raise InputError(f"{name}: row {row} is not finite; the model diverged, or its input was not finite.")
        if normalize:
            return F.normalize(wide, dim=1)
        off = (length - 1.0).abs()
        if bool((off > UNIT_TOLERANCE).any()):
            row = int(off.argmax())
            raise InputError(
                f"{name}: row {row} has length {length[row].item():.4g} and not 1 (off by {off[row].item():.4g}; "
                f"{int((off > UNIT_TOLERANCE).sum())} of {len(rows)} rows are off by more than {UNIT_TOLERANCE}). "
                "Create the loss with normalize=True, or divide each row by its length first."
            )
        return rows


def checked_pair(image: Tensor, location: Tensor, normalize: bool) -> tuple[Tensor, Tensor]:
    """Check the embeddings of photographs and of their positions, as `checked_embeddings` does.

    Raises:
        InputError: One is invalid, or the numbers of rows or of dimensions differ.
    """
    image = checked_embeddings(image, "image_embeddings", normalize)
    location = checked_embeddings(location, "location_embeddings", normalize)
    if image.shape != location.shape:
        raise InputError(
            f"image_embeddings has shape {tuple(image.shape)} and location_embeddings {tuple(location.shape)}; "
            "row i of both belongs to photograph i, in the same number of dimensions."
        )
    return image, location


def checked_positions(positions_deg: ArrayLike | Tensor, count: int) -> Float64[Tensor, "b 2"]:
    """Check positions, and convert them to a float64 tensor.

    Args:
        positions_deg: (B, 2) latitude, longitude in degrees: a tensor, or anything that NumPy converts to an array.
        count: B, the number of photographs of the batch.

    Returns:
        (B, 2) degrees, float64.

    Raises:
        InputError: The shape or length is wrong; the dtype is float32 or less (the message has the metres lost); a
            value is not finite or out of range; or longitude comes before latitude, as far as values show it.
    """
    positions = _as_tensor(positions_deg, "positions_deg").detach()
    if positions.ndim != 2 or positions.shape[1] != 2:
        hint = " Transpose it." if positions.ndim == 2 and positions.shape[0] == 2 else ""
        raise InputError(
            f"positions_deg has shape {tuple(positions.shape)}; give (batch, 2): latitude, longitude in degrees.{hint}"
        )
    _check_length("positions_deg", len(positions), count)
    if positions.is_floating_point() and torch.finfo(positions.dtype).bits < 64:
        raise InputError(_lost_digits(positions))
    positions = positions.to(torch.float64)
    bad = ~positions.isfinite().all(dim=1)
    if bool(bad.any()):
        row = _first(bad)
        raise InputError(
            f"positions_deg: row {row} is {_pair(positions[row])}, which is not finite; remove photographs without a "
            "position from the batch."
        )
    lat_deg, lon_deg = positions.abs().unbind(1)
    outside = lat_deg > 90.0
    if bool(outside.any()):
        row = _first(outside)
        value = positions[row, 0].item()
        if value > 180.0 or value < -180.0 or lon_deg[row] > 90.0:
            raise InputError(
                f"positions_deg: row {row} is {_pair(positions[row])}; latitudes are within [-90, 90] and longitudes "
                "within [-180, 180]. Give degrees on WGS84, not projected coordinates."
            )
        raise InputError(
            f"positions_deg: row {row} has latitude {value:.7g}; latitudes are within [-90, 90], so the columns seem "
            "to be (longitude, latitude). Swap them: positions_deg[:, [1, 0]]."
        )
    outside = lon_deg > 180.0
    if bool(outside.any()):
        row = _first(outside)
        raise InputError(
            f"positions_deg: row {row} has longitude {positions[row, 1].item():.7g}; longitudes are within "
            "[-180, 180]. Where they run from 0 to 360, subtract 360 from those above 180."
        )
    return positions


def rounding_m(positions_deg: Float[Tensor, "b 2"]) -> Float64[Tensor, " b"]:
    """The largest distance by which rounding to the tensor's dtype moves a position.

    Half the spacing of the dtype's numbers at each coordinate; a degree of longitude is shorter by cos(latitude).

    Args:
        positions_deg: (B, 2) latitude, longitude in degrees, finite, in float32 or less.

    Returns:
        (B,) metres, float64.

    Example:
        >>> round(rounding_m(torch.tensor([[51.5, -120.1]], dtype=torch.float32)).item(), 2)
        0.34
    """
    exact = positions_deg.to(torch.float64)
    _, exponent = torch.frexp(exact)
    format_ = torch.finfo(positions_deg.dtype)
    half_deg = torch.ldexp(torch.full_like(exact, format_.eps / 2.0), exponent - 1)
    half_deg = half_deg.clamp(min=format_.smallest_normal * format_.eps / 2.0)  # the spacing of subnormal numbers
    half_m = torch.deg2rad(half_deg) * EARTH_RADIUS_M
    return torch.hypot(half_m[:, 0], half_m[:, 1] * torch.deg2rad(exact[:, 0]).cos())


def _lost_digits(positions_deg: Tensor) -> str:
    dtype = str(positions_deg.dtype).removeprefix("torch.")
    lost_m = rounding_m(positions_deg.nan_to_num(0.0, 0.0, 0.0))
    row = int(lost_m.argmax())
    return (
        f"positions_deg is {dtype}, which moves row {row} (latitude {positions_deg[row, 0].item():.7g}, longitude "
        f"{positions_deg[row, 1].item():.7g}) by up to {lost_m[row].item():.2g} m. Use float64 from where the numbers "
        "are read: torch.tensor(..., dtype=torch.float64), or array.astype(np.float64). Converting values that are "
        f"already {dtype} does not restore the digits."
    )


def checked_accuracies(accuracy_m: ArrayLike | Tensor | None, count: int) -> Float64[Tensor, " b"] | None:
    """Check GPS accuracies (B,) in metres, and convert them to a float64 tensor; NaN where unknown.

    Raises:
        InputError: The shape or length is wrong, or a value is negative or infinite.
    """
    if accuracy_m is None:
        return None
    accuracies = _column(accuracy_m, "accuracy_m", count).to(torch.float64)
    bad = (accuracies < 0.0) | accuracies.isinf()
    if bool(bad.any()):
        row = _first(bad)
        raise InputError(
            f"accuracy_m: row {row} is {accuracies[row].item():.7g}; give 1-sigma metres, 0 or more, and NaN where the "
            "accuracy is unknown."
        )
    return accuracies


def checked_bandwidth_scale(scale: ArrayLike | Tensor | None, count: int) -> Float64[Tensor, " b"] | None:
    """Check factors on the bandwidths, and convert them to a float64 tensor (B,); a single number applies to all.

    Raises:
        InputError: The shape or length is wrong, or a value is not a positive number.
    """
    if scale is None:
        return None
    factors = _as_tensor(scale, "bandwidth_scale").detach().to(torch.float64)
    factors = factors.expand(count) if factors.ndim == 0 else _column(factors, "bandwidth_scale", count)
    bad = ~(factors.isfinite() & (factors > 0.0))
    if bool(bad.any()):
        row = _first(bad)
        raise InputError(f"bandwidth_scale: row {row} is {factors[row].item():.7g}; give positive numbers.")
    return factors


def checked_region_ids(region_ids: ArrayLike | Tensor, count: int) -> Int[Tensor, " b"]:
    """Check district numbers, and convert them to an int64 tensor (B,).

    Raises:
        InputError: The shape or length is wrong, or values are not integers.
    """
    ids = _column(region_ids, "region_ids", count)
    if ids.is_floating_point() or ids.dtype == torch.bool:
        raise InputError(
            f"region_ids is {str(ids.dtype).removeprefix('torch.')}; number the districts 0, 1, 2, ... as integers; "
            "a photograph without one has -1."
        )
    return ids.to(torch.int64)


def checked_logit_scale(logit_scale: Tensor | float, device: torch.device) -> Float[Tensor, ""]:
    """Check the logarithm of the softmax scale, and convert it to a scalar tensor.

    Raises:
        InputError: There is more than one number, or it is not the logarithm of a scale.
    """
    scale = torch.as_tensor(logit_scale, device=device)
    if scale.numel() != 1:
        raise InputError(f"logit_scale has shape {tuple(scale.shape)}; give one number, the logarithm of the scale.")
    value = float(scale.detach())
    if not value <= MAX_LOGIT_SCALE:
        raise InputError(
            f"logit_scale is {value:.7g}: this is the logarithm of the softmax scale, as in CLIP, and "
            f"e^{value:.4g} would be the scale. If it is the scale itself, as in open_clip, pass its log()."
        )
    return scale.reshape(())


def _column(values: Any, name: str, count: int) -> Tensor:
    column = _as_tensor(values, name).detach()
    if column.ndim != 1:
        raise InputError(f"{name} has shape {tuple(column.shape)}; give (batch,), one number per photograph.")
    _check_length(name, len(column), count)
    return column


def _check_length(name: str, length: int, count: int) -> None:
    if length != count:
        raise InputError(f"{name} has {length} rows and the embeddings {count}; give one row per photograph.")


def _as_tensor(values: Any, name: str) -> Tensor:
    if isinstance(values, Tensor):
        return values
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "fiub" or (array.dtype.kind == "f" and array.dtype.itemsize > 8):
            array = array.astype(np.float64)
        # A copy: torch warns of read-only arrays and refuses negative strides.
        return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} does not contain numbers ({error}); give a NumPy array or a tensor.") from error


def _first(rows: Tensor) -> int:
    return int(rows.nonzero()[0, 0])


def _pair(position: Tensor) -> str:
    return f"({position[0].item():.7g}, {position[1].item():.7g})"
