"""Runs of a benchmark: configuration, folder, shared features and evaluation."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float32, Int64

from swclip.calibration.conformal import read_calibration
from swclip.calibration.posterior_config import ESTIMATOR, PosteriorConfig, read_posterior
from swclip.data.manifest import Manifest
from swclip.data.splits import QuerySplit, Splits, indices
from swclip.errors import ConfigError
from swclip.evaluation.evaluate import EmbedConfig, evaluate, evaluate_embeddings, query_rows
from swclip.evaluation.measure import MeasureConfig
from swclip.evaluation.result import Evaluation
from swclip.external.measure_embeddings import photographs_by_candidate
from swclip.external.prediction_gallery import fitted_posterior
from swclip.gallery.gallery import Gallery, gallery_from_embeddings
from swclip.gallery.hubness import read_bank
from swclip.models.blocks import available_device
from swclip.models.config import UNTRAINED_TOWER
from swclip.models.feature_cache import FeatureCache
from swclip.models.locator_model import LocatorModel, load_model
from swclip.models.token_cache import TokenCache
from swclip.models.whitening import Whitening, joined_units
from swclip.structure import as_plain
from swclip.training.config import TrainingConfig, load_recipe
from swclip.training.fine_tuning import token_cache
from swclip.training.loop import train

Progress = Callable[[str, int, int], None]

NEAREST = "nearest-neighbour"
"""The system without training: the training photographs with the nearest image features."""

NEAREST_WHITENED = "nearest-neighbour-whitened"
"""The same on whitened features; the whitening is fitted on the training photographs."""

UNTRAINED = (NEAREST, NEAREST_WHITENED)

UNSEEDED = "-"
"""Seed of a system without randomness."""


@dataclass(frozen=True)
class Run:
    """One system with one seed on one split. Calling it trains the system where needed and evaluates it.

    Attributes:
        title: Title in messages and progress.
        split: Name of the splits.
        system: Name of the system.
        seed: The seed; `UNSEEDED` for a system without training.
        config: The configuration; a system without training only uses its image tower.
        folder: Folder of the run; None for a system without training.
        manifest: The photographs.
        splits: Their splits.
        cache: Cache of the features of frozen towers.
        command: The command line, for the provenance.
        device: Device of training and evaluation, by the name that `available_device` takes.
        estimator: The estimator that answers.
        on: The queries that are evaluated, "query" or "val".
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
    device: str = "auto"
    estimator: str = ESTIMATOR
    on: QuerySplit = "query"

    def __call__(self, progress: Progress) -> Evaluation:
        """Train and evaluate."""
        if self.folder is None:
            return nearest_neighbour(
                self.manifest,
                self.splits,
                self.config,
                self.cache,
                self.command,
                progress,
                on=self.on,
                estimator=self.estimator,
                whitened=self.system == NEAREST_WHITENED,
            )
        train(
            self.manifest,
            self.splits,
            self.config,
            self.folder,
            system=self.system,
            cache=self.cache,
            device=self.device,
            command=self.command,
            progress=progress,
        )
        model = load_model(self.folder).to(available_device(self.device))
        return evaluate(
            model,
            self.manifest,
            self.splits,
            on=self.on,
            config=MeasureConfig(self.estimator),
            posterior=read_posterior(self.folder),
            bank=read_bank(self.folder),
            calibration=read_calibration(self.folder) if self.on == "query" else None,
            embedding=EmbedConfig(cache=self.cache if self.config.freeze_image else self._tokens(model)),
            command=self.command,
            progress=lambda done, total: progress("evaluating", done, total),
        )

    def _tokens(self, model: LocatorModel) -> TokenCache | None:
        used = np.concatenate([indices(self.splits, self.manifest, name) for name in ("train", "val", "query")])
        paths = [self.manifest.image_paths[row] for row in used]
        return token_cache(self.config.tuning, self.config.augment, model, self.cache, paths)


def system_name(system: str) -> str:
    """Name of a system: the name of its recipe, or of the recipe file."""
    return Path(system).stem if system.endswith(".toml") else system


def system_config(system: str, overrides: Mapping[str, Any] | None, seed: int | None = None) -> TrainingConfig:
    """Load a recipe with the overrides of a benchmark.

    A text tower only replaces that of recipes with one; a recipe without a text tower stays without, so that both can
    be compared.

    Args:
        system: Recipe, by name or path.
        overrides: Values that replace those of the recipe.
        seed: The seed; that of the recipe where None.
    """
    values = json.loads(json.dumps(overrides or {}))
    location = values.get("model", {}).get("location", {})
    replaces = location.get("text_tower", "none") != "none" and "form" not in location
    if replaces and load_recipe(system).model.location.text_tower == "none":
        del location["text_tower"]
    return load_recipe(system, values if seed is None else {**values, "seed": seed})


def same_configuration(configs: Mapping[str, TrainingConfig | None]) -> list[list[str]]:
    """Groups of systems with equal configurations after the overrides are applied."""
    groups: dict[str, list[str]] = {}
    for name, config in configs.items():
        if config is not None:
            groups.setdefault(json.dumps(as_plain(config), sort_keys=True), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def check_one_folder_each(runs: Iterable[Run]) -> None:
    """Raise ConfigError if two runs would be trained in the same folder."""
    seen: dict[Path, str] = {}
    for run in runs:
        if run.folder is None:
            continue
        folder = run.folder.resolve()
        if folder in seen:
            raise ConfigError(f"{run.folder}: {seen[folder]} and {run.title} would be trained in the same folder.")
        seen[folder] = run.title


class SharedFeatures:
    """The image features of frozen towers, computed once for the runs that share them, when the first of them starts.

    Args:
        runs: All runs. Runs with a trainable tower need no features; those without training do.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self._paths: dict[str, dict[Path, None]] = {}
        for run in runs:
            if (key := _features_key(run)) is None:
                continue
            used = [indices(run.splits, run.manifest, name) for name in ("train", "val", "query")]
            self._paths.setdefault(key, {}).update(
                (run.manifest.image_paths[row], None) for row in np.sort(np.concatenate(used)).tolist()
            )

    def compute_for(self, run: Run, progress: Progress) -> None:
        """Compute the features that a run needs, where no run before it did.

        Args:
            run: The run that is about to start.
            progress: Called with (task, done, total).
        """
        key = _features_key(run)
        paths = None if key is None else self._paths.pop(key, None)
        if paths is None:
            return
        positions = run.manifest.positions_deg[indices(run.splits, run.manifest, "train")]
        model = LocatorModel.create(run.config.model, positions, run.config.seed).to(available_device(run.device))
        run.cache.features(model, list(paths), progress=lambda done, total: progress("image features", done, total))


def _features_key(run: Run) -> str | None:
    """What determines the features of a run's tower; None where it needs none before it starts."""
    image = run.config.model.image
    untrained = any(tower.tower == UNTRAINED_TOWER for tower in image.towers)
    if not run.config.freeze_image and (run.folder is not None or untrained):
        return None
    # An untrained tower is initialised from the seed, after the location side; others are loaded from a file.
    return repr((run.config.model, run.config.seed) if untrained else image)


def nearest_neighbour(
    manifest: Manifest,
    splits: Splits,
    config: TrainingConfig,
    cache: FeatureCache,
    command: str | None = None,
    progress: Progress | None = None,
    *,
    on: QuerySplit = "query",
    estimator: str = ESTIMATOR,
    whitened: bool = False,
) -> Evaluation:
    """Nearest-neighbour search among the training photographs on the features of an untrained tower.

    A candidate is scored by its most similar photograph, and the scores become a posterior as those of a trained system
    do: temperature and smoothing are fitted on the validation queries, and the answer is by the same estimator. Its
    `argmax` is the position of the nearest photograph; without validation queries that is the answer of every
    estimator but the geometric median.

    The photographs are assigned to candidates by `photographs_by_candidate`, so that the answer is a candidate of the
    split even where the candidates are a grid.

    Args:
        manifest: The photographs.
        splits: Their splits.
        config: Configuration of the image tower.
        cache: Cache of its features.
        command: The command line, for the provenance.
        progress: Called with (task, done, total).
        on: The queries that are evaluated, "query" or "val".
        estimator: The estimator that answers.
        whitened: Whiten the features, fitted on the training photographs.
    """
    queries, gallery, posterior = untrained_system(manifest, splits, config, cache, progress, on=on, whitened=whitened)
    return evaluate_embeddings(
        queries,
        gallery,
        manifest,
        splits,
        on=on,
        posterior=posterior,
        config=MeasureConfig(estimator),
        command=command,
    )


def untrained_system(
    manifest: Manifest,
    splits: Splits,
    config: TrainingConfig,
    cache: FeatureCache,
    progress: Progress | None = None,
    *,
    on: QuerySplit = "query",
    whitened: bool = False,
) -> tuple[Float32[np.ndarray, "q w"], Gallery, PosteriorConfig]:
    """The parts of `nearest_neighbour`, whose arguments these are: vectors of the queries, gallery, posterior."""
    model = LocatorModel.create(config.model, manifest.positions_deg, config.seed)
    report = None if progress is None else lambda done, total: progress("image features", done, total)

    def features_of(rows: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, "n f"]:
        return cache.features(model, [manifest.image_paths[row] for row in rows], progress=report)

    whitening: Whitening | None = None
    if whitened:
        training = features_of(indices(splits, manifest, "train"))
        whitening = Whitening.fit(training, widths=model.feature_widths)
    meta = {"fingerprint": model.feature_fingerprint}
    if whitening is not None:
        meta["whitening"] = whitening.fingerprint

    def unit(features: Float32[np.ndarray, "n f"]) -> Float32[np.ndarray, "n w"]:
        if whitening is not None:
            return whitening(features)
        return joined_units(features, model.feature_widths)

    def embedded(queries: QuerySplit) -> tuple[Float32[np.ndarray, "q w"], Gallery]:
        return _embedded(manifest, splits, queries, lambda rows: unit(features_of(rows)), meta)

    has_validation = len(indices(splits, manifest, "val")) > 0
    validation = embedded("val") if has_validation else None
    queries, gallery = validation if on == "val" and validation is not None else embedded(on)
    # Without validation queries: the position of the nearest photograph.
    posterior = PosteriorConfig(1.0, 0.002, 1.0, 0.0)
    if validation is not None:
        truth = manifest.positions_deg[query_rows(splits, manifest, "val")]
        posterior = fitted_posterior(validation[0], truth, validation[1], config.seed)
    return queries, gallery, posterior


def _embedded(
    manifest: Manifest,
    splits: Splits,
    on: QuerySplit,
    embed: Callable[[Int64[np.ndarray, " n"]], Float32[np.ndarray, "n w"]],
    meta: Mapping[str, Any],
) -> tuple[Float32[np.ndarray, "q w"], Gallery]:
    """Unit vectors of the queries, and the gallery of the photographs they search; `embed` takes manifest rows."""
    candidates, at = photographs_by_candidate(manifest, splits, on)
    ids = [image_id for image_ids in at for image_id in image_ids]
    row_of = {str(image_id): row for row, image_id in enumerate(manifest.frame["image_id"])}
    rows = np.array([row_of[image_id] for image_id in ids], dtype=np.int64)
    vectors = embed(np.concatenate([rows, query_rows(splits, manifest, on)]))
    blank = np.zeros((len(candidates), vectors.shape[1]), dtype=np.float32)
    gallery = gallery_from_embeddings(
        candidates.assign(image_ids=pd.Series(at, index=candidates.index)),
        blank,
        dict(zip(ids, vectors[: len(rows)], strict=True)),
        meta,
    )
    return vectors[len(rows) :], gallery
