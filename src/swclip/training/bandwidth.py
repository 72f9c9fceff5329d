"""Bandwidth of the soft labels: fixed, or estimated from the data; optionally from coarse to fine while training."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from swclip.calibration.areas import area_spacings_m
from swclip.errors import ArtefactError, ConfigError
from swclip.files import read_json, write_json
from swclip.geo.kernels import KernelName, kernel_reach
from swclip.geo.places import kth_place_m, sample_with_neighbours
from swclip.geo.semivariogram import (
    EmpiricalSemivariogram,
    FittedSemivariogram,
    VariogramModel,
    empirical_semivariogram,
    feature_directions,
    fit_semivariogram,
)
from swclip.losses import ObjectiveConfig
from swclip.structure import as_plain
from swclip.training.distributed import Process, from_leader
from swclip.training.inputs import pair_noise_m

_LOG = logging.getLogger(__name__)

FeaturesOf = Callable[[Int64[np.ndarray, " m"]], Float32[np.ndarray, "m f"]]
"""Gives the features (M, F) of training photographs, by their numbers (M,), by the image tower before training."""

BANDWIDTH_FILE = "bandwidth.json"
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_HEADED = 0.5
# With fewer bins of pairs with similar headings, all pairs are used.
_MIN_BINS = 6
_LEAST_PLACES = 20  # the spacing of an area with fewer places is not compared


@dataclass(frozen=True)
class BandwidthConfig:
    """The choice of the bandwidth of the soft labels.

    Attributes:
        form: `fixed`: `objective.targets.bandwidths_m`. `semivariogram`: the bandwidth with which the kernel is 1/e
            at the distance where the spatial correlation of the tower's features is 1/e; `adaptive` where they have no
            spatial structure. `adaptive`: for each photograph the distance to its `neighbour`-th nearest place, for a
            pair the geometric mean of both.
        factors: Multiples of the estimated bandwidth; several make a mixture of scales. Not used by `fixed`.
        shares: The weight of each factor; equal where None. Not used by `fixed`.
        neighbour: Rank of the nearest place whose distance is the adaptive bandwidth.
        least_m: Lower limit of estimated bandwidths, metres.
        most_m: Upper limit, metres.
        place_m: Positions within this distance are one place, metres; about the error of a satellite fix under open
            sky.
        model: Model of the semivariogram: `exponential`, `spherical` or `gaussian`.
        max_lag_m: Longest distance of a pair of the semivariogram, metres.
        spacing_ratio: With `semivariogram`, areas (cities) whose spacings differ by more than this factor have no one
            bandwidth, and the adaptive one is used.
        photographs: Largest number of photographs that the semivariogram is estimated from.
        headings: Compare only photographs with similar headings, where most headings are known.
        coarse_factor: Initial factor on the bandwidths, with any form; 1 for no schedule.
        coarse_share: Share of the steps over which the factor falls to 1, by the same ratio at each step.

    References:
        L. Zelnik-Manor, P. Perona, "Self-tuning spectral clustering", NIPS 2004, for the geometric mean of a pair.
        F. van Diggelen, P. Enge, "The world's first GPS MOOC and worldwide laboratory using smartphones", ION GNSS+
        2015, for 4.9 m.

    Raises:
        ConfigError: A value that cannot work.
    """

    form: Literal["fixed", "semivariogram", "adaptive"] = "fixed"
    factors: tuple[float, ...] = (1.0,)
    shares: tuple[float, ...] | None = None
    neighbour: int = 3
    least_m: float = 5.0
    most_m: float = 250.0
    place_m: float = 5.0
    model: VariogramModel = "exponential"
    max_lag_m: float = 500.0
    spacing_ratio: float = 3.0
    photographs: int = 3000
    headings: bool = True
    coarse_factor: float = 1.0
    coarse_share: float = 0.5

    def __post_init__(self) -> None:
        if not self.factors or not all(math.isfinite(factor) and factor > 0.0 for factor in self.factors):
            raise ConfigError(f"bandwidth factors {list(self.factors)} must be one or more positive numbers.")
        if self.shares is not None and (
            len(self.shares) != len(self.factors) or min(self.shares) < 0.0 or not sum(self.shares) > 0.0
        ):
            raise ConfigError(f"bandwidth shares {list(self.shares)}: give {len(self.factors)}, with a positive sum.")
        if self.neighbour < 1:
            raise ConfigError(f"bandwidth neighbour {self.neighbour} must be 1 or more.")
        if not 0.0 < self.least_m <= self.most_m < math.inf:
            raise ConfigError(f"bandwidths from {self.least_m} to {self.most_m} m: least_m must not exceed most_m.")
        if not 0.0 <= self.place_m < math.inf:
            raise ConfigError(f"bandwidth place_m {self.place_m} must be 0 or more metres.")
        if not 1.0 < self.max_lag_m < math.inf:
            raise ConfigError(f"bandwidth max_lag_m {self.max_lag_m} must be more than 1 m.")
        if not 1.0 <= self.spacing_ratio < math.inf:
            raise ConfigError(f"bandwidth spacing_ratio {self.spacing_ratio} must be 1 or more, and finite.")
        if self.photographs < 2:
            raise ConfigError(f"bandwidth photographs {self.photographs} must be at least 2.")
        if not (math.isfinite(self.coarse_factor) and self.coarse_factor >= 1.0):
            raise ConfigError(f"bandwidth coarse_factor {self.coarse_factor} must be 1 (no schedule) or more.")
        if not 0.0 <= self.coarse_share <= 1.0:
            raise ConfigError(f"bandwidth coarse_share {self.coarse_share} is not between 0 and 1.")


def coarseness(step: int, steps: int, config: BandwidthConfig) -> float:
    """Factor on the bandwidths at a step, which is 1 at the end.

        coarse_factor ^ (1 - step / (coarse_share steps)), and 1 from then on

    Args:
        step: The step, from 0.
        steps: Steps in all.
        config: `coarse_factor` and `coarse_share`.

    Example:
        >>> config = BandwidthConfig(coarse_factor=4.0, coarse_share=0.5)
        >>> [coarseness(step, 100, config) for step in (0, 25, 50, 99)]
        [4.0, 2.0, 1.0, 1.0]
    """
    narrowing = config.coarse_share * steps
    if config.coarse_factor == 1.0 or step >= narrowing:
        return 1.0
    return float(config.coarse_factor ** (1.0 - step / narrowing))


@dataclass(frozen=True, eq=False)
class Bandwidths:
    """The bandwidths of a run.

    Attributes:
        objective: The objective, with the resolved bandwidths in metres.
        figures: The estimate, for the run's record; empty with `fixed`.
        scale: (N,) bandwidth scale: the bandwidth of each photograph divided by those of `objective`; None where all
            are equal.
        config: The choice of the bandwidth.
        steps: Number of steps of the run.
    """

    objective: ObjectiveConfig
    figures: dict[str, Any]
    scale: Float64[Tensor, " n"] | None
    config: BandwidthConfig
    steps: int

    def scale_at(self, step: int, rows: Int64[np.ndarray, " b"]) -> Float64[Tensor, " b"] | None:
        """Bandwidth scale (B,) of a batch at a step; None where all bandwidths are those of the objective.

        Args:
            step: The step, from 0.
            rows: (B,) numbers of the photographs.
        """
        coarse = coarseness(step, self.steps, self.config)
        if self.scale is None:
            return None if coarse == 1.0 else torch.full((len(rows),), coarse, dtype=torch.float64)
        return self.scale[torch.from_numpy(rows)] * coarse


def semivariogram_of(
    config: BandwidthConfig,
    positions_deg: Float64[np.ndarray, "n 2"],
    heading_deg: Float64[np.ndarray, " n"],
    features_of: FeaturesOf,
    seed: int,
) -> tuple[EmpiricalSemivariogram, FittedSemivariogram, dict[str, Any]]:
    """Estimate the semivariogram of the training photographs' features.

    Args:
        config: Model, limits and number of photographs.
        positions_deg: (N, 2) latitude, longitude in degrees.
        heading_deg: (N,) headings, NaN where unknown.
        features_of: Gives the features of photographs.
        seed: Seed of the sample, where there are more photographs than `config.photographs`.

    Returns:
        The bins, the curve, and both as plain values.
    """
    generator = np.random.default_rng([seed, 0x5EA1])
    rows = sample_with_neighbours(positions_deg, config.photographs, generator)
    vectors = feature_directions(features_of(rows))
    heading = heading_deg[rows]
    headed = config.headings and bool(np.isfinite(heading).mean() >= _HEADED)
    bins = empirical_semivariogram(
        positions_deg[rows],
        vectors,
        generator=generator,
        max_lag_m=config.max_lag_m,
        heading_deg=heading if headed else None,
    )
    if headed and len(bins.lag_m) < _MIN_BINS:
        headed = False
        bins = empirical_semivariogram(positions_deg[rows], vectors, generator=generator, max_lag_m=config.max_lag_m)
    fitted = fit_semivariogram(bins, config.model, config.place_m)
    plain = {
        **dataclasses.asdict(fitted),
        "sill": fitted.sill,
        "practical_range_m": fitted.practical_range_m,
        "correlation_length_m": fitted.correlation_length_m,
        "photographs": len(rows),
        "same_heading": headed,
        "max_lag_m": config.max_lag_m,
        "lag_m": bins.lag_m.tolist(),
        "gamma": bins.gamma.tolist(),
        "pairs": bins.pairs.tolist(),
    }
    return bins, fitted, plain


def semivariogram_bandwidth_m(
    fitted: FittedSemivariogram, kernel: KernelName, config: BandwidthConfig, noise_m: float = 0.0
) -> float:
    """The bandwidth with which the kernel is 1/e where the features' correlation is, within the limits, metres.

    At most half of the squared length is subtracted for noise. Noise that is independent between neighbours would have
    widened the semivariogram at least to its own size: stated noise near that length or beyond is mostly common to
    neighbours, such as the drift of one receiver during a drive, and does not change their distances.

    Args:
        fitted: The fitted semivariogram.
        kernel: Kernel of the soft labels.
        config: The limits.
        noise_m: Noise by which the kernel is widened later (`pair_noise_m`), and which is therefore subtracted here.
    """
    length = fitted.correlation_length_m / kernel_reach(kernel)
    clean = math.sqrt(length**2 - min(noise_m**2, 0.5 * length**2))
    return round(min(max(clean, config.least_m / kernel_reach(kernel)), config.most_m / kernel_reach(kernel)), 3)


def adaptive_bandwidths_m(
    positions_deg: Float64[np.ndarray, "n 2"], config: BandwidthConfig
) -> Float64[np.ndarray, " n"]:
    """Distance from each photograph to its k-th nearest place, within the limits.

    Args:
        positions_deg: (N, 2) latitude, longitude in degrees.
        config: The limits, the size of a place, and k (`neighbour`).

    Returns:
        (N,) metres, rounded to the millimetre.
    """
    reach = kth_place_m(positions_deg, config.neighbour, config.place_m)
    limited: Float64[np.ndarray, " n"] = np.round(np.clip(reach, config.least_m, config.most_m), 3)
    return limited


def adaptive_plain(bandwidths_m: Float64[np.ndarray, " n"], config: BandwidthConfig) -> dict[str, Any]:
    """Quantiles of adaptive bandwidths (N,) and their geometric mean, in metres, as plain values."""
    return {
        "neighbour": config.neighbour,
        "geometric_mean_m": round(float(np.exp(np.log(bandwidths_m).mean())), 3),
        "quantiles_m": {f"{q:g}": round(float(np.quantile(bandwidths_m, q)), 3) for q in _QUANTILES},
    }


def estimate_bandwidths(
    config: BandwidthConfig,
    kernel: KernelName,
    positions_deg: Float64[np.ndarray, "n 2"],
    heading_deg: Float64[np.ndarray, " n"],
    features_of: FeaturesOf,
    seed: int,
    noise_m: float = 0.0,
    cities: Sequence[str | None] | None = None,
) -> dict[str, Any]:
    """Estimate the bandwidths: the contents of `bandwidth.json`, with the form used and its statistics.

    Args:
        config: The form, not `fixed`, and its settings.
        kernel: Kernel of the soft labels.
        positions_deg: (N, 2) latitude, longitude in degrees.
        heading_deg: (N,) headings, NaN where unknown.
        features_of: Gives features; not called by `adaptive`.
        seed: Seed of the sample of photographs.
        noise_m: Noise by which the kernel is widened later; see `pair_noise_m`.
        cities: N cities, None where unknown.
    """
    record: dict[str, Any] = {"used": config.form, "note": None}
    note = different_spacings(config, positions_deg, cities) if config.form == "semivariogram" else None
    if note is not None:
        record |= {"used": "adaptive", "note": note}
    elif config.form == "semivariogram":
        _, fitted, record["semivariogram"] = semivariogram_of(config, positions_deg, heading_deg, features_of, seed)
        base_m = semivariogram_bandwidth_m(fitted, kernel, config, noise_m)
        record["noise_m"] = round(noise_m, 3)
        if not fitted.structured:
            record |= {"used": "adaptive", "note": f"{fitted.statement} The adaptive bandwidth is used instead."}
    if record["used"] == "adaptive":
        photographs_m = adaptive_bandwidths_m(positions_deg, config)
        record["adaptive"] = {**adaptive_plain(photographs_m, config), "photographs_m": photographs_m.tolist()}
        base_m = record["adaptive"]["geometric_mean_m"]
    return {**record, "base_m": base_m, "bandwidths_m": [round(base_m * factor, 3) for factor in config.factors]}


def different_spacings(
    config: BandwidthConfig, positions_deg: Float64[np.ndarray, "n 2"], cities: Sequence[str | None] | None
) -> str | None:
    """Why one bandwidth cannot serve all areas; None where their spacings are similar."""
    spacing_of = area_spacings_m(positions_deg, cities, _LEAST_PLACES)
    if not spacing_of or max(spacing_of.values()) <= config.spacing_ratio * min(spacing_of.values()):
        return None
    sparse, dense = (pick(spacing_of, key=lambda area: spacing_of[area]) for pick in (max, min))
    return (
        f"places are {spacing_of[sparse]:.3g} m apart in {sparse} and {spacing_of[dense]:.3g} m in {dense} (median), "
        f"too different for one bandwidth (spacing_ratio {config.spacing_ratio:g}). The adaptive bandwidth is used."
    )


def resolve_bandwidths(
    config: BandwidthConfig,
    objective: ObjectiveConfig,
    folder: Path,
    process: Process,
    *,
    positions_deg: Float64[np.ndarray, "n 2"],
    heading_deg: Float64[np.ndarray, " n"],
    accuracy_m: Float64[np.ndarray, " n"],
    cities: Sequence[str | None] | None,
    features_of: FeaturesOf,
    fingerprint: Callable[[], str],
    steps: int,
    seed: int,
) -> Bandwidths:
    """The bandwidths of a run: estimated once, written to RUN/bandwidth.json, and read from there afterwards.

    Args:
        config: The choice of the bandwidth.
        objective: The configured objective.
        folder: The run's folder.
        process: This process; the leading one estimates them for all.
        positions_deg: (N, 2) positions of the training photographs.
        heading_deg: (N,) their headings, NaN where unknown.
        accuracy_m: (N,) their 1-sigma GPS accuracies, NaN where unknown.
        cities: N cities, None where unknown.
        features_of: Gives their features.
        fingerprint: Gives the identity of tower, pooling and preprocessing.
        steps: Number of steps of the run.
        seed: Seed of the run.

    Raises:
        ArtefactError: RUN/bandwidth.json is damaged.
    """
    if config.form == "fixed":
        return Bandwidths(objective, {}, None, config, steps)
    path = folder / BANDWIDTH_FILE

    def recorded() -> dict[str, Any]:
        kernel, noise_m = objective.targets.kernel, pair_noise_m(accuracy_m, objective.targets)
        made_from = {
            "config": as_plain(config),
            "kernel": kernel,
            "seed": seed,
            "noise_m": noise_m,
            "features": fingerprint() if config.form == "semivariogram" else None,
            "cities": None if cities is None else hashlib.sha256(repr(list(cities)).encode()).hexdigest(),
            "positions": hashlib.sha256(np.ascontiguousarray(positions_deg, dtype="<f8").tobytes()).hexdigest(),
        }
        # A run without results may be started again with another configuration.
        if not path.exists() or read_json(path, "the run's bandwidths").get("made_from") != made_from:
            record = estimate_bandwidths(config, kernel, positions_deg, heading_deg, features_of, seed, noise_m, cities)
            write_json(path, {**record, "made_from": made_from})
        written: dict[str, Any] = read_json(path, "the run's bandwidths")
        return written

    record = from_leader(process, recorded)
    try:
        if record["note"] and process.leads:
            _LOG.warning("bandwidth: %s", record["note"])
        targets = dataclasses.replace(
            objective.targets, bandwidths_m=tuple(record["bandwidths_m"]), shares=config.shares
        )
        scale = None
        if record["used"] == "adaptive":
            scale = torch.tensor(record["adaptive"]["photographs_m"], dtype=torch.float64) / record["base_m"]
            if len(scale) != len(positions_deg):
                raise KeyError("photographs_m")
        figures = {key: record[key] for key in ("used", "note", "bandwidths_m")}
    except (KeyError, TypeError) as error:
        raise ArtefactError(
            f"{path}: {error} is missing or damaged; remove the file, and the run estimates the bandwidths again."
        ) from error
    return Bandwidths(dataclasses.replace(objective, targets=targets), {"bandwidth": figures}, scale, config, steps)
