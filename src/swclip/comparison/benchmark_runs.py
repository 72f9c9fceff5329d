"""The runs of a benchmark: configuration and folder of each, their shared features, and their evaluation."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from swclip.calibration.conformal import read_calibration
from swclip.calibration.posterior_config import PosteriorConfig, read_posterior
from swclip.data.manifest import Manifest
from swclip.data.splits import Splits, indices
from swclip.errors import ConfigError
from swclip.evaluation.evaluate import EmbedConfig, evaluate, evaluate_embeddings, query_rows
from swclip.evaluation.result import Evaluation
from swclip.external.measure_embeddings import photographs_by_candidate
from swclip.gallery.gallery import gallery_from_embeddings
from swclip.gallery.hubness import read_bank
from swclip.models.feature_cache import FeatureCache
from swclip.models.locator_model import LocatorModel, load_model
from swclip.structure import as_plain
from swclip.training.config import TrainingConfig, load_recipe
from swclip.training.loop import train

Progress = Callable[[str, int, int], None]

NEAREST = "nearest-neighbour"
"""The system without training: the position of the training photograph with the nearest tower features."""

UNSEEDED = "-"
"""Seed of a system without randomness."""


@dataclass(frozen=True)
class Run:
    """One system with one seed on one split; called, it is trained where it is not yet, and evaluated.

    Attributes:
        title: Title in messages and progress.
        split: Name of the splits.
        system: Name of the system.
        seed: Its seed; `UNSEEDED` for `nearest-neighbour`.
        config: The configuration; of `nearest-neighbour` only the image tower is used.
        folder: Folder of the run; None for `nearest-neighbour`.
        manifest: The photographs.
        splits: Their splits.
        cache: Where features of a frozen tower are kept.
        command: The command line, for the record.
    """

    title: str
    split: str
    system: str
    seed: int | str
    config: TrainingConfig
    folder: Path | None
    manifest: Manifest
    splits: Splits
    cache: FeatureCache
    command: str | None

    def __call__(self, progress: Progress) -> Evaluation:
        """Train and evaluate."""
        if self.folder is None:
            return nearest_neighbour(self.manifest, self.splits, self.config, self.cache, self.command, progress)
        train(
            self.manifest,
            self.splits,
            self.config,
            self.folder,
            system=self.system,
            cache=self.cache,
            command=self.command,
            progress=progress,
        )
        return evaluate(
            load_model(self.folder),
            self.manifest,
            self.splits,
            posterior=read_posterior(self.folder),
            bank=read_bank(self.folder),
            calibration=read_calibration(self.folder),
            embedding=EmbedConfig(cache=self.cache if self.config.freeze_image else None),
            command=self.command,
            progress=lambda done, total: progress("evaluating", done, total),
        )


def system_name(system: str) -> str:
    """Name of a system: that of its recipe, or of the recipe's file."""
    return Path(system).stem if system.endswith(".toml") else system


def system_config(system: str, overrides: Mapping[str, Any] | None, seed: int | None = None) -> TrainingConfig:
    """A recipe with a benchmark's overrides.

    A text tower replaces that of recipes that read text; a recipe without one stays without, so that leaving the text
    out can be compared.

    Args:
        system: Recipe, by name or path.
        overrides: Values that replace the recipe's.
        seed: Its seed; the recipe's own where None.
    """
    values = json.loads(json.dumps(overrides or {}))
    location = values.get("model", {}).get("location", {})
    replaces = location.get("text_tower", "none") != "none" and "form" not in location
    if replaces and load_recipe(system).model.location.text_tower == "none":
        del location["text_tower"]
    return load_recipe(system, values if seed is None else {**values, "seed": seed})


def same_configuration(configs: Mapping[str, TrainingConfig | None]) -> list[list[str]]:
    """Names of systems that have the same configuration once a benchmark's overrides are applied."""
    groups: dict[str, list[str]] = {}
    for name, config in configs.items():
        if config is not None:
            groups.setdefault(json.dumps(as_plain(config), sort_keys=True), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def check_one_folder_each(runs: Iterable[Run]) -> None:
    """Raise ConfigError if two runs would be trained in one folder."""
    seen: dict[Path, str] = {}
    for run in runs:
        if run.folder is None:
            continue
        folder = run.folder.resolve()
        if folder in seen:
            raise ConfigError(f"{run.folder}: {seen[folder]} and {run.title} would be trained in one folder.")
        seen[folder] = run.title


def compute_features(runs: Sequence[Run], progress: Progress) -> None:
    """Compute the image features of frozen towers once, before runs that are trained at the same time need them.

    Args:
        runs: All runs. Those whose tower learns need no features; `nearest-neighbour` does.
        progress: Called with (task, done, total).
    """
    wanted: dict[str, dict[Path, None]] = {}
    models: dict[str, Run] = {}
    for run in runs:
        image = run.config.model.image
        drawn = image.tower.startswith("builtin:")
        if not run.config.freeze_image and (run.folder is not None or drawn):
            continue
        # A built-in tower is drawn from the seed, after the location side; any other is what its file has.
        key = repr((run.config.model, run.config.seed) if drawn else image)
        models.setdefault(key, run)
        used = [indices(run.splits, run.manifest, name) for name in ("train", "val", "query")]
        wanted.setdefault(key, {}).update(
            (run.manifest.image_paths[row], None) for row in np.sort(np.concatenate(used)).tolist()
        )
    for key, run in models.items():
        positions = run.manifest.positions_deg[indices(run.splits, run.manifest, "train")]
        model = LocatorModel.create(run.config.model, positions, run.config.seed)
        run.cache.features(
            model, list(wanted[key]), progress=lambda done, total: progress("image features", done, total)
        )


def nearest_neighbour(
    manifest: Manifest,
    splits: Splits,
    config: TrainingConfig,
    cache: FeatureCache,
    command: str | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Image-to-image search on the features of an untrained tower, which every split allows on its training side.

    The photographs are assigned to candidates by `photographs_by_candidate`, so that the answer is a candidate of the split
    even where those are a grid.

    Args:
        manifest: The photographs.
        splits: Their splits.
        config: Configuration of the image tower.
        cache: Where its features are kept.
        command: The command line, for the record.
        progress: Called with (task, done, total).
    """
    model = LocatorModel.create(config.model, manifest.positions_deg, config.seed)
    candidates, at = photographs_by_candidate(manifest, splits, "query")
    ids = [image_id for image_ids in at for image_id in image_ids]
    row_of = {str(image_id): row for row, image_id in enumerate(manifest.frame["image_id"])}
    rows = np.array([row_of[image_id] for image_id in ids], dtype=np.int64)
    wanted = np.concatenate([rows, query_rows(splits, manifest, "query")])
    features = cache.features(
        model,
        [manifest.image_paths[row] for row in wanted],
        progress=None if progress is None else lambda done, total: progress("image features", done, total),
    )
    features = features.astype(np.float32)
    features = features / np.linalg.norm(features, axis=1, keepdims=True)
    blank = np.zeros((len(candidates), features.shape[1]), dtype=np.float32)
    gallery = gallery_from_embeddings(
        candidates.assign(image_ids=pd.Series(at, index=candidates.index)),
        blank,
        dict(zip(ids, features[: len(rows)], strict=True)),
        {"fingerprint": model.feature_fingerprint},
    )
    # Almost all the weight on the image, at a low temperature and without smoothing: the nearest photograph's place.
    posterior = PosteriorConfig(1.0, 0.002, 1.0, 0.0)
    return evaluate_embeddings(features[len(rows) :], gallery, manifest, splits, posterior=posterior, command=command)
