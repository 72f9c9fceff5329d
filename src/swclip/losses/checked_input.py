"""What a caller passes to a loss: checked, with errors that name the row and the way out, and as tensors."""

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
"""How far a length may be from 1: vectors that were normalised in bfloat16 are off by up to 0.004."""

MAX_LOGIT_SCALE = 9.0
"""Logarithms of a scale stop here, at e^9 = 8103. CLIP keeps its own at or below log(100) = 4.6; a larger number is the
scale itself, which open_clip and others pass where this package takes the logarithm."""


def checked_embeddings(rows: Tensor, name: str, normalize: bool) -> Float[Tensor, "b d"]:
    """Embeddings as unit vectors.

    Args:
        rows: (B, D) embeddings.
        name: What to call them in an error.
        normalize: Divide each by its length, in float32 at least; else refuse those that are not of length 1.

    Raises:
        InputError: Another shape, no rows, values that are not finite, or vectors that are not of unit length.
    """
    if not isinstance(rows, Tensor) or not rows.is_floating_point():
        kind = str(rows.dtype) if isinstance(rows, Tensor) else type(rows).__name__
        raise InputError(f"{name} is {kind}; give a floating-point tensor, with its gradients.")
    if rows.ndim != 2 or 0 in rows.shape:
        raise InputError(f"{name} has shape {tuple(rows.shape)}; give (batch, dimensions), one row a photograph.")
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
                "Make the loss with normalize=True, or divide each row by its length first."
            )
        return rows


def check_pair(image: Tensor, location: Tensor) -> None:
    """Refuse image and location embeddings that do not correspond row by row.

    Raises:
        InputError: Other numbers of rows or of dimensions.
    """
    if image.shape != location.shape:
        raise InputError(
            f"image_embeddings has shape {tuple(image.shape)} and location_embeddings {tuple(location.shape)}; "
            "row i of both belongs to photograph i, in the same number of dimensions."
        )


def checked_positions(positions_deg: ArrayLike | Tensor, count: int) -> Float64[Tensor, "b 2"]:
    """Positions as a float64 tensor.

    Args:
        positions_deg: (B, 2) latitude, longitude in degrees: a NumPy array, a tensor, or what NumPy reads.
        count: Photographs of the batch.

    Raises:
        InputError: Another shape or length; float32 or less, with the metres that it loses; a value that is not finite
            or out of range; longitude before latitude, where a latitude beyond 90 degrees shows it.
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
            f"positions_deg: row {row} is {_pair(positions[row])}, which is not finite; leave photographs without a "
            "position out of the batch."
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
    """The furthest that rounding to the tensor's own dtype moves a position, in metres.

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
    half_deg = torch.ldexp(torch.full_like(exact, torch.finfo(positions_deg.dtype).eps / 2.0), exponent - 1)
    half_m = torch.deg2rad(half_deg) * EARTH_RADIUS_M
    return torch.hypot(half_m[:, 0], half_m[:, 1] * torch.deg2rad(exact[:, 0]).cos())


def _lost_digits(positions_deg: Tensor) -> str:
    dtype = str(positions_deg.dtype).removeprefix("torch.")
    lost_m = rounding_m(positions_deg.nan_to_num(0.0, 0.0, 0.0))
    row = int(lost_m.argmax())
    return (
        f"positions_deg is {dtype}, which moves row {row} (latitude {positions_deg[row, 0].item():.7g}, longitude "
        f"{positions_deg[row, 1].item():.7g}) by up to {lost_m[row].item():.2g} m. Pass float64 from where the numbers "
        "are read: torch.tensor(..., dtype=torch.float64), or array.astype(np.float64). A conversion of what is "
        f"already {dtype} does not bring the digits back."
    )


def checked_accuracies(accuracy_m: ArrayLike | Tensor | None, count: int) -> Float64[Tensor, " b"] | None:
    """GPS accuracies as a float64 tensor; NaN stays for those that are unknown.

    Raises:
        InputError: Another shape or length, or a value that is negative or infinite.
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
    """Factors of the bandwidths as a float64 tensor, one a photograph; a single number is that of all.

    Raises:
        InputError: Another shape or length, or a value that is not a positive number.
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
    """Region numbers as an int64 tensor.

    Raises:
        InputError: Another shape or length, or values that are not whole numbers.
    """
    ids = _column(region_ids, "region_ids", count)
    if ids.is_floating_point() or ids.dtype == torch.bool:
        raise InputError(
            f"region_ids is {str(ids.dtype).removeprefix('torch.')}; number the regions 0, 1, 2, ... as integers, and "
            "give -1 to a photograph that has none."
        )
    return ids.to(torch.int64)


def checked_logit_scale(logit_scale: Tensor | float, device: torch.device) -> Float[Tensor, ""]:
    """The logarithm of the softmax scale as a scalar tensor.

    Raises:
        InputError: More than one number, or one that is not the logarithm of a scale.
    """
    scale = torch.as_tensor(logit_scale, device=device)
    if scale.numel() != 1:
        raise InputError(f"logit_scale has shape {tuple(scale.shape)}; give one number, the logarithm of the scale.")
    value = float(scale.detach())
    if not value <= MAX_LOGIT_SCALE:
        raise InputError(
            f"logit_scale is {value:.7g}: it is the logarithm of the softmax scale, as CLIP keeps it, and "
            f"e^{value:.4g} would be the scale. Where it is the scale itself, as open_clip passes it, pass its log()."
        )
    return scale.reshape(())


def _column(values: Any, name: str, count: int) -> Tensor:
    column = _as_tensor(values, name).detach()
    if column.ndim != 1:
        raise InputError(f"{name} has shape {tuple(column.shape)}; give (batch,), one number a photograph.")
    _check_length(name, len(column), count)
    return column


def _check_length(name: str, length: int, count: int) -> None:
    if length != count:
        raise InputError(f"{name} has {length} rows and the embeddings {count}; give one row a photograph.")


def _as_tensor(values: Any, name: str) -> Tensor:
    if isinstance(values, Tensor):
        return values
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "fiub" or (array.dtype.kind == "f" and array.dtype.itemsize > 8):
            array = array.astype(np.float64)
        # A copy: torch would warn of an array that cannot be written to, and refuse one that runs backwards.
        return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} does not hold numbers ({error}); give a NumPy array or a tensor.") from error


def _first(rows: Tensor) -> int:
    return int(rows.nonzero()[0, 0])


def _pair(position: Tensor) -> str:
    return f"({position[0].item():.7g}, {position[1].item():.7g})"
