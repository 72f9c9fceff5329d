"""Injected position errors, to measure their effect: GPS noise of known size, and photographs at wrong places.

Photographs at the same recorded position (the headings of a panorama) are one GPS fix: they are displaced together.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float64
from numpy.typing import ArrayLike

from swclip.data.manifest import Manifest
from swclip.data.splits import Splits, check_same_manifest
from swclip.errors import ConfigError, InputError
from swclip.geo.coordinates import LocalFrame
from swclip.geo.distance import haversine_m


def displaced(
    positions_deg: ArrayLike, sigma_m: float, generator: np.random.Generator, spread: float = 0.0
) -> tuple[Float64[np.ndarray, "n 2"], Float64[np.ndarray, " n"]]:
    """Add isotropic normal noise to positions.

    The same generator state gives the same directions for every `sigma_m`; a larger one gives longer displacements.

    Args:
        positions_deg: (N, 2) latitude, longitude in degrees.
        sigma_m: Standard deviation in metres **along each axis**, east and north. The mean displacement is 1.25 times
            as long, and 39 % of the displacements are shorter than sigma.
        generator: Generator of the noise.
        spread: Standard deviation of the logarithm of the fixes' accuracies, whose mean remains `sigma_m`; 0 for equal
            accuracies.

    Returns:
        (N, 2) positions in degrees, and (N,) the standard deviation of each.

    Raises:
        ConfigError: `sigma_m` or `spread` is negative or infinite.

    Example:
        >>> moved, accuracy_m = displaced([[52.2, 0.12]] * 4, 10.0, np.random.default_rng(0))
        >>> len(np.unique(moved, axis=0)), accuracy_m.tolist()
        (1, [10.0, 10.0, 10.0, 10.0])
    """
    if not (math.isfinite(sigma_m) and sigma_m >= 0.0 and math.isfinite(spread) and spread >= 0.0):
        raise ConfigError(f"noise of {sigma_m} m with spread {spread}: both must be 0 or more.")
    positions = np.asarray(positions_deg, dtype=np.float64).reshape(-1, 2)
    fixes, which = _fixes(positions)
    drawn = generator.standard_normal((len(fixes), 3))
    accuracy_m = sigma_m * np.exp(spread * drawn[:, 2] - 0.5 * spread**2)
    if sigma_m == 0.0:
        return positions.copy(), accuracy_m[which]
    return _moved(fixes, accuracy_m[:, None] * drawn[:, :2])[which], accuracy_m[which]


def misplaced(
    positions_deg: ArrayLike, share: float, far_m: float, generator: np.random.Generator
) -> tuple[Float64[np.ndarray, "n 2"], Bool[np.ndarray, " n"]]:
    """Replace a share of the positions by those of other, distant photographs.

    Args:
        positions_deg: (N, 2) latitude, longitude in degrees.
        share: Share of the fixes that are wrong, 0 to below 1.
        far_m: Least distance to the other photograph, metres.
        generator: Generator of the choice.

    Returns:
        (N, 2) positions, and (N,) whether each is wrong.

    Raises:
        ConfigError: The share cannot work.
        InputError: A photograph has no other at that distance.
    """
    if not 0.0 <= share < 1.0:
        raise ConfigError(f"a share of {share} wrong positions: give 0 or more and less than 1.")
    positions = np.asarray(positions_deg, dtype=np.float64).reshape(-1, 2)
    fixes, which = _fixes(positions)
    order = generator.permutation(len(fixes))
    taken = fixes.copy()
    wrong = np.zeros(len(fixes), dtype=np.bool_)
    for at in order[: round(share * len(fixes))]:
        away_m = haversine_m(fixes[at, 0], fixes[at, 1], fixes[:, 0], fixes[:, 1])
        far = np.flatnonzero(away_m >= far_m)
        if len(far) == 0:
            raise InputError(
                f"the photographs at {fixes[at, 0]:.6f}, {fixes[at, 1]:.6f} have none that is {far_m:g} m away; "
                "give a shorter distance."
            )
        taken[at] = fixes[generator.choice(far)]
        wrong[at] = True
    return taken[which], wrong[which]


def with_positions(
    manifest: Manifest,
    splits: Splits,
    positions_deg: Float64[np.ndarray, "n 2"],
    accuracy_m: Float64[np.ndarray, " n"] | None = None,
) -> tuple[Manifest, Splits]:
    """A manifest with other positions, in memory, and the same splits of it, with unchanged candidates.

    Args:
        manifest: The photographs.
        splits: Their splits.
        positions_deg: (N, 2) the new positions, degrees.
        accuracy_m: (N,) the new accuracies, metres; unchanged where None.

    Raises:
        MismatchError: The splits were made from another manifest.
    """
    check_same_manifest(splits, manifest)
    columns = {"lat_deg": positions_deg[:, 0], "lon_deg": positions_deg[:, 1]}
    if accuracy_m is not None:
        columns["accuracy_m"] = accuracy_m
    other = Manifest(manifest.path, manifest.frame.assign(**columns))
    meta = {**splits.meta, "manifest_digest": other.digest}
    return other, Splits(splits.path, splits.frame, splits.candidates, meta)


def without_photographs(splits: Splits) -> Splits:
    """The same splits with candidates without photographs, so that answers use location embeddings only."""
    empty = splits.candidates["image_ids"].map(lambda _: [])
    return Splits(splits.path, splits.frame, splits.candidates.assign(image_ids=empty), splits.meta)


def _fixes(positions: Float64[np.ndarray, "n 2"]) -> tuple[Float64[np.ndarray, "f 2"], np.ndarray]:
    fixes, which = np.unique(positions, axis=0, return_inverse=True)
    return fixes, which.reshape(-1)


def _moved(fixes: Float64[np.ndarray, "f 2"], by_m: Float64[np.ndarray, "f 2"]) -> Float64[np.ndarray, "f 2"]:
    """Each fix moved east and north in a frame of its own, so that cities far apart are all to scale."""
    moved = [LocalFrame(lat, lon).to_deg(step[None])[0] for (lat, lon), step in zip(fixes, by_m, strict=True)]
    return np.array(moved).reshape(-1, 2)
