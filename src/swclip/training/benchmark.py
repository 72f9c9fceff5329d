"""Several systems on the same photographs, splits, budget and seeds: train what must be trained, evaluate all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from swclip.data.manifest import Manifest
from swclip.data.splits import Splits, candidates_for
from swclip.errors import ConfigError
from swclip.evaluation.comparison import Comparison, compare
from swclip.evaluation.evaluate import EmbedConfig, asked_rows, evaluate, evaluate_embeddings
from swclip.evaluation.measure import Evaluation
from swclip.geo.neighbours import SphereIndex
from swclip.models.locator_model import LocatorModel, load_model
from swclip.retrieval.feature_cache import FeatureCache
from swclip.retrieval.gallery import gallery_from_embeddings
from swclip.retrieval.posterior_config import PosteriorConfig, read_posterior
from swclip.training.config import TrainingConfig, load_recipe
from swclip.training.loop import train
from swclip.versions import versions

Progress = Callable[[str, int, int], None]

NEAREST = "nearest-neighbour"
"""The system that learns nothing: the position of the training photograph whose tower features are nearest."""


def run_benchmark(
    manifest: Manifest,
    splits: Splits,
    systems: Sequence[str],
    seeds: Sequence[int],
    out: Path,
    *,
    overrides: Mapping[str, Any] | None = None,
    baseline: str | None = None,
    cache: FeatureCache | None = None,
    command: str | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Train and evaluate systems side by side; runs that are finished already are not trained again.

    Args:
        manifest: The photographs.
        splits: Their splits.
        systems: Recipes, by name or path, and `nearest-neighbour`.
        seeds: Each recipe is trained once a seed.
        out: Runs are kept under OUT/runs/SYSTEM-SEED.
        overrides: Values that replace those of every recipe: towers, steps, batch size.
        baseline: The system that differences are taken from; the first where None.
        cache: Where features of a frozen tower are kept.
        command: The command line, for the record.
        progress: Called with (what, done, total).

    Returns:
        The comparison, ready to be written.

    Raises:
        ConfigError: No systems or seeds, two systems of one name, or a recipe that cannot work.
    """
    if not systems or not seeds:
        raise ConfigError("a benchmark needs at least one system and one seed.")
    configs = {_name(s): None if s == NEAREST else load_recipe(s, overrides) for s in systems}
    if len(configs) != len(systems):
        raise ConfigError(f"two of the systems have the same name: {', '.join(map(_name, systems))}.")
    cache = cache or FeatureCache()
    found: dict[str, dict[int | str, Evaluation]] = {}
    for name, config in configs.items():
        if config is None:
            like = next((c for c in configs.values() if c is not None), load_recipe("clip", overrides))
            found[name] = {"-": nearest_neighbour(manifest, splits, like, cache, command, progress)}
            continue
        found[name] = {}
        for seed in seeds:
            run = out / "runs" / f"{name}-{seed}"
            seeded = load_recipe(systems[list(configs).index(name)], {**(overrides or {}), "seed": seed})
            train(
                manifest,
                splits,
                seeded,
                run,
                system=name,
                cache=cache,
                command=command,
                progress=_titled(progress, f"{name}, seed {seed}"),
            )
            found[name][seed] = evaluate(
                load_model(run),
                manifest,
                splits,
                posterior=read_posterior(run),
                embedding=EmbedConfig(cache=cache if seeded.freeze_image else None),
                command=command,
                progress=_counting(progress, f"{name}, seed {seed}: evaluating"),
            )
    return compare(found, _made_with(manifest, splits, configs, seeds, command), baseline=baseline)


def nearest_neighbour(
    manifest: Manifest,
    splits: Splits,
    config: TrainingConfig,
    cache: FeatureCache,
    command: str | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Image-to-image search on the features of an untrained tower, which every split allows on its training side.

    The photographs of the training side stand at the candidate nearest to them, so the answer is one of the candidates
    of the split even where those are a grid.

    Args:
        manifest: The photographs.
        splits: Their splits.
        config: Whose image tower.
        cache: Where its features are kept.
        command: The command line, for the record.
        progress: Called with (what, done, total).
    """
    model = LocatorModel.create(config.model, manifest.positions_deg, config.seed)
    candidates = candidates_for(splits, "query")
    kept = splits.frame["split"].isin(["train", "val"]).to_numpy()
    trained = set(splits.frame["image_id"][kept])
    rows = np.flatnonzero(manifest.frame["image_id"].isin(trained).to_numpy())
    places = SphereIndex(candidates[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64))
    _, nearest = places.nearest(manifest.positions_deg[rows], k=1)
    ids = manifest.frame["image_id"].to_numpy()[rows]
    at: list[list[str]] = [[] for _ in range(len(candidates))]
    for image_id, place in zip(ids, nearest[:, 0], strict=True):
        at[int(place)].append(str(image_id))
    asked = asked_rows(splits, manifest, "query")
    wanted = np.concatenate([rows, asked])
    features = cache.features(
        model,
        [manifest.image_paths[row] for row in wanted],
        progress=_counting(progress, f"{NEAREST}: image features"),
    )
    features = features / np.linalg.norm(features, axis=1, keepdims=True)
    blank = np.zeros((len(candidates), features.shape[1]), dtype=np.float32)
    gallery = gallery_from_embeddings(
        candidates.assign(image_ids=pd.Series(at, index=candidates.index)),
        blank,
        dict(zip(map(str, ids), features[: len(rows)], strict=True)),
        {"fingerprint": model.feature_fingerprint},
    )
    # Almost all the weight on the image, at a low temperature and without smoothing: the nearest photograph's place.
    posterior = PosteriorConfig(1.0, 0.002, 1.0, 0.0)
    return evaluate_embeddings(features[len(rows) :], gallery, manifest, splits, posterior=posterior, command=command)


def _name(system: str) -> str:
    return Path(system).stem if system.endswith(".toml") else system


def _titled(progress: Progress | None, title: str) -> Progress | None:
    return None if progress is None else lambda what, done, total: progress(f"{title}: {what}", done, total)


def _counting(progress: Progress | None, what: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(what, done, total)


def _made_with(
    manifest: Manifest,
    splits: Splits,
    configs: Mapping[str, TrainingConfig | None],
    seeds: Sequence[int],
    command: str | None,
) -> dict[str, Any]:
    first = next((config for config in configs.values() if config is not None), None)
    return {
        **versions(),
        "manifest": {"path": str(manifest.path), "digest": manifest.digest},
        "splits": {"path": str(splits.path), **splits.meta},
        "seeds": list(seeds),
        "image_tower": None if first is None else first.model.image.tower,
        "command": command,
    }
