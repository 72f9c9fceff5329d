"""Estimate the bandwidth from the data, and search over a few values on validation queries."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from swclip.data.grouping import text_or_none
from swclip.data.manifest import Manifest
from swclip.data.splits import Splits, indices
from swclip.errors import ConfigError, InputError
from swclip.geo.semivariogram import EmpiricalSemivariogram, FittedSemivariogram
from swclip.models.blocks import available_device
from swclip.models.embed import tower_features
from swclip.models.feature_cache import FeatureCache
from swclip.models.locator_model import LocatorModel
from swclip.training.bandwidth import (
    adaptive_bandwidths_m,
    adaptive_plain,
    different_spacings,
    semivariogram_bandwidth_m,
    semivariogram_of,
)
from swclip.training.config import TrainingConfig
from swclip.training.inputs import pair_noise_m
from swclip.training.loop import train

Progress = Callable[[str, int, int], None]


@dataclasses.dataclass(frozen=True, eq=False)
class BandwidthStudy:
    """Estimates of the bandwidth.

    Attributes:
        empirical: The bins of the semivariogram.
        fitted: The fitted curve.
        form: `semivariogram` where there is structure and the areas' spacings are similar, else `adaptive`.
        bandwidth_m: The bandwidth by that form, metres; for `adaptive` the geometric mean over the photographs.
        record: All of this as plain values.
    """

    empirical: EmpiricalSemivariogram
    fitted: FittedSemivariogram
    form: str
    bandwidth_m: float
    record: dict[str, Any]


def study_bandwidth(
    manifest: Manifest,
    splits: Splits,
    config: TrainingConfig,
    *,
    cache: FeatureCache | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> BandwidthStudy:
    """Estimate the semivariogram and the adaptive bandwidths of the training photographs, for any form of the recipe.

    Args:
        manifest: The photographs.
        splits: Their splits; those of `train` are used.
        config: Image tower, kernel and settings of the bandwidth.
        cache: Cache of a frozen tower's features.
        device: auto (a GPU if there is one), cpu, cuda, ...
        progress: Called with (task, done, total).

    Raises:
        InputError: Split `train` has fewer than two photographs, or one cannot be decoded.
        ConfigError: The device is not available.
    """
    place = available_device(device)
    rows = indices(splits, manifest, "train")
    if len(rows) < 2:
        raise InputError(f"{splits.path}: {len(rows)} photographs are in split 'train'; at least 2 are needed.")
    positions = manifest.positions_deg[rows]
    heading = manifest.frame["heading_deg"].to_numpy(dtype=np.float64)[rows]
    model = LocatorModel.create(config.model, positions, config.seed).to(place)

    def features_of(numbers: Any) -> Any:
        paths = [manifest.image_paths[row] for row in rows[numbers]]
        if not config.freeze_image:
            return tower_features(model, paths)
        report = None if progress is None else (lambda done, total: progress("image features", done, total))
        return (cache or FeatureCache()).features(model, paths, progress=report)

    kernel = config.objective.targets.kernel
    empirical, fitted, plain = semivariogram_of(config.bandwidth, positions, heading, features_of, config.seed)
    adaptive = adaptive_plain(adaptive_bandwidths_m(positions, config.bandwidth), config.bandwidth)
    noise_m = pair_noise_m(manifest.accuracy_m[rows], config.objective.targets)
    estimate_m = semivariogram_bandwidth_m(fitted, kernel, config.bandwidth, noise_m)
    plain |= {"noise_m": noise_m, "bandwidth_m": estimate_m if fitted.structured else None}
    cities = text_or_none(manifest.frame["city"].iloc[rows]) if "city" in manifest.frame else None
    note = different_spacings(config.bandwidth, positions, cities)
    form = "semivariogram" if fitted.structured and note is None else "adaptive"
    bandwidth_m = float(plain["bandwidth_m"] if form == "semivariogram" else adaptive["geometric_mean_m"])
    record = {
        "form": form,
        "note": note,
        "bandwidth_m": bandwidth_m,
        "kernel": kernel,
        "photographs": len(rows),
        "semivariogram": plain,
        "adaptive": adaptive,
    }
    return BandwidthStudy(empirical, fitted, form, bandwidth_m, record)


def search_bandwidth(
    manifest: Manifest,
    splits: Splits,
    config: TrainingConfig,
    values_m: Sequence[float],
    folder: Path,
    *,
    form: str | None = None,
    cache: FeatureCache | None = None,
    device: str = "auto",
    command: str | None = None,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Train briefly with each bandwidth and compare on the validation queries.

    Args:
        manifest: The photographs.
        splits: Their splits, with validation queries.
        config: The recipe, with the number of steps of one trial.
        values_m: Bandwidths to try, metres.
        folder: Folder of the runs; finished ones are not trained again.
        form: A form that estimates the bandwidth, as a further trial.
        cache: Cache of a frozen tower's features.
        device: auto (a GPU if there is one), cpu, cuda, ...
        command: The command line, for the record.
        progress: Called with (task, done, total).

    Returns:
        One mapping per trial, in order: `name`, `bandwidths_m`, and `val_median_m`, `val_mean_m`, `val_log_error` of
        its best weights.

    Raises:
        ConfigError: A value cannot work or occurs twice, or the targets are one-hot.
        InputError: The splits have no validation queries.
    """
    if config.objective.targets.alpha == 0.0:
        raise ConfigError("this recipe has one-hot targets (alpha 0), which have no bandwidth to search for.")
    if len(set(values_m)) != len(values_m):
        raise ConfigError(f"bandwidths to search {list(values_m)}: a value occurs twice.")
    if len(indices(splits, manifest, "val")) == 0:
        raise InputError(f"{splits.path}: there are no validation queries to compare on; split with --val-share.")
    fixed = dataclasses.replace(config.bandwidth, form="fixed")
    trials: list[tuple[str, TrainingConfig]] = []
    for value in values_m:
        targets = dataclasses.replace(config.objective.targets, bandwidths_m=(float(value),), shares=None)
        objective = dataclasses.replace(config.objective, targets=targets)
        trials.append((f"{value:g} m", dataclasses.replace(config, objective=objective, bandwidth=fixed)))
    if form is not None:
        estimated = dataclasses.replace(config.bandwidth, form=form)  # type: ignore[arg-type]
        trials.append((form, dataclasses.replace(config, bandwidth=estimated)))
    rows = []
    for name, trial in trials:
        out = folder / name.replace(" ", "")
        report = None if progress is None else _titled(progress, name)
        how: Any = {"cache": cache, "device": device, "command": command, "progress": report}
        facts = train(manifest, splits, trial, out, system=name, **how)
        bandwidths = facts.figures.get("bandwidth", {}).get("bandwidths_m", trial.objective.targets.bandwidths_m)
        rows.append({"name": name, "bandwidths_m": list(bandwidths), **_best(out / "metrics.jsonl")})
    return rows


def _titled(progress: Progress, title: str) -> Progress:
    return lambda task, done, total: progress(f"{title}: {task}", done, total)


def _best(path: Path) -> dict[str, float]:
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    best = min(
        (line for line in lines if line.get("val_log_error") is not None), key=lambda line: line["val_log_error"]
    )
    return {name: best[name] for name in ("val_median_m", "val_mean_m", "val_log_error")}
