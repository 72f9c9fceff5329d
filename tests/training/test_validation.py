"""A run whose posterior subtracts hubness: its bank, gallery and evaluation; and a run without hubness."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swclip.calibration.posterior_config import read_posterior
from swclip.data.manifest import read_manifest
from swclip.data.splits import candidates_for, indices, read_splits
from swclip.errors import ConfigError, MismatchError
from swclip.evaluation.evaluate import EmbedConfig, evaluate
from swclip.gallery.build import build_gallery
from swclip.gallery.hubness import read_bank
from swclip.gallery.read_write import load_gallery, save_gallery
from swclip.models.embed import embed_photographs
from swclip.models.feature_cache import FeatureCache
from swclip.models.locator_model import load_model
from swclip.retrieval.locator import Locator
from swclip.retrieval.posterior_fit import PosteriorFit, fit_posterior
from swclip.training.config import TrainingConfig, load_recipe
from swclip.training.loop import train


@pytest.mark.parametrize("chosen", [0.0, 0.5])
def test_a_run_keeps_the_bank_that_its_posterior_needs(
    chosen: float,
    small: Callable[..., TrainingConfig],
    town: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[Any] = []

    def fit(*arguments: Any, **shares: Any) -> PosteriorFit:
        tried.append(shares["image_hubness"])
        found = fit_posterior(*arguments, **shares)
        config = dataclasses.replace(found.config, image_hubness=chosen)
        return dataclasses.replace(found, config=config)

    monkeypatch.setattr("swclip.training.validation.fit_posterior", fit)
    manifest, splits, cache = (
        read_manifest(town),
        read_splits(town / "splits.parquet"),
        FeatureCache(tmp_path / "cache"),
    )
    run = tmp_path / "run"
    train(manifest, splits, small(freeze_image=True, hubness={"photographs": [0.5, 1.0]}), run, cache=cache)
    assert tried == [(0.5, 1.0)]
    posterior, bank, model = read_posterior(run), read_bank(run), load_model(run)
    assert posterior is not None
    assert posterior.image_hubness == chosen
    if chosen == 0.0:
        assert bank is None
        return
    assert bank is not None
    rows = indices(splits, manifest, "train")
    assert bank.image_ids == manifest.frame["image_id"].to_numpy()[rows].tolist()
    embedded = embed_photographs(model, [manifest.image_paths[row] for row in rows], cache=cache)
    np.testing.assert_allclose(bank.embeddings, embedded, atol=1e-3)

    options: dict[str, Any] = {"posterior": posterior, "embedding": EmbedConfig(cache=cache)}
    with pytest.raises(MismatchError, match="bank"):
        evaluate(model, manifest, splits, **options)
    report = evaluate(model, manifest, splits, bank=bank, **options).report
    assert report.posterior["image_hubness"] == 0.5

    places = candidates_for(splits, "query")
    built = build_gallery(model, places, manifest, posterior=posterior, bank=bank, cache=cache)
    save_gallery(built, tmp_path / "gallery", model)
    again = load_gallery(tmp_path / "gallery")
    assert again.image_hubness is not None
    photograph = manifest.image_paths[indices(splits, manifest, "query")[0]]
    (answer,) = Locator.from_gallery(tmp_path / "gallery").locate([photograph])
    assert answer.error is None


def test_shares_below_0_are_refused(small: Callable[..., TrainingConfig]) -> None:
    with pytest.raises(ConfigError, match="hubness photographs"):
        small(hubness={"photographs": [-0.5]})


def test_a_recipe_with_the_removed_hubness_of_locations_is_refused_and_an_empty_one_is_read(tmp_path: Path) -> None:
    earlier = tmp_path / "config.toml"
    earlier.write_text('base = "sw-clip-plus"\n[hubness]\nlocations = []\nphotographs = [0.5, 1.0]\n')
    assert load_recipe(str(earlier)) == load_recipe("sw-clip-plus")
    earlier.write_text('base = "sw-clip-plus"\n[hubness]\nlocations = [0.5]\n')
    with pytest.raises(
        ConfigError,
        match=r"config\.toml: hubness\.locations = \[0\.5\]: this option was removed in swclip 0\.2\.0",
    ):
        load_recipe(str(earlier))
    with pytest.raises(ConfigError, match=r"hubness\.locations"):
        load_recipe("sw-clip", {"hubness": {"locations": [1.0]}})
