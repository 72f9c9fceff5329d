"""Recipes, overrides, and the errors for invalid keys and values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from swclip.errors import ConfigError
from swclip.losses import Objective
from swclip.training.config import TrainingConfig, assigned, load_recipe, nested, recipe_names, write_config


def test_shipped_recipes_can_be_read() -> None:
    assert {"clip", "sw-clip", "sw-clip-scales"} <= set(recipe_names())
    clip, sw_clip = load_recipe("clip"), load_recipe("sw-clip")
    assert (clip.objective.targets.alpha, clip.objective.neighbourhood.weight, clip.objective.fairness.weight) == (
        0,
        0,
        0,
    )
    assert clip.batch.sampler == "random"
    assert sw_clip.objective.targets.alpha > 0
    assert sw_clip.batch.sampler == "neighbours"
    # The comparison is of the objective and the sampler: model, optimizer and budget are the same.
    assert (clip.model, clip.optimizer, clip.steps, clip.batch.size) == (
        sw_clip.model,
        sw_clip.optimizer,
        sw_clip.steps,
        sw_clip.batch.size,
    )


def test_the_clip_recipe_has_the_loss_of_clip() -> None:
    generator = torch.Generator().manual_seed(0)
    image, location = torch.nn.functional.normalize(torch.randn(2, 6, 4, generator=generator), dim=2)
    positions = torch.rand(6, 2, generator=generator, dtype=torch.float64) * 1e-4
    loss, _ = Objective(load_recipe("clip").objective)(image, location, torch.tensor(2.0), positions)
    logits = torch.tensor(2.0).exp() * image @ location.T
    wanted = (
        torch.nn.functional.cross_entropy(logits, torch.arange(6))
        + torch.nn.functional.cross_entropy(logits.T, torch.arange(6))
    ) / 2
    torch.testing.assert_close(loss, wanted)


def test_a_configuration_survives_its_file(tmp_path: Path) -> None:
    for name in recipe_names():
        config = load_recipe(
            name, {"seed": 7, "model": {"image": {"size_px": 48}, "location": {"cell_resolutions": [7, 9]}}}
        )
        write_config(tmp_path / "config.toml", config)
        assert load_recipe(str(tmp_path / "config.toml")) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stepz = 3", "mine.toml: stepz is not an option; options: .*steps"),
        ("[model.image]\ntowr = 'x'", r"mine.toml: model.image.towr is not an option; options: .*tower"),
        ("steps = 'many'", "mine.toml: steps = 'many'"),
        ("[batch]\nsize = 2.5", "mine.toml: batch.size = 2.5"),
        ("[batch]\nsampler = 'nearest'", "batch.sampler = 'nearest'.*'random' or 'neighbours'"),
        ("batch = 3", "batch = 3"),
        ("steps = 0", "steps 0 must be at least 1"),
        ("[queue]\nsize = -1", "queue size -1"),
        ("[queue]\nnoise_m = -1.0", "queue noise_m -1.0"),
        ("[batch]\nposition_noise_m = inf", "batch position_noise_m inf"),
        ("[model.location]\nfourier_layers = 0", "fourier_layers 0"),
        ("[model.image]\nhead = 'mlp'\nhead_width = 0", "head_width 0"),
        ("[batch]\nsize = 1", "batch size 1"),
        ("[model.location]\nform = 'fourier'", "set text_tower to 'none'"),
        ("steps 3", "mine.toml: is not valid TOML"),
    ],
)
def test_invalid_keys_and_values_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_recipe(str(tmp_path / "mine.toml"))


def test_unknown_recipes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"shipped one \(.*clip, .*sw-clip, .*\) nor an existing TOML file"):
        load_recipe("better")
    (tmp_path / "mine.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"mine\.toml: is not valid TOML"):
        load_recipe(str(tmp_path / "mine.toml"))


def test_overrides_replace_single_values() -> None:
    given = nested(
        assigned(
            [
                "steps=10",
                "model.image.tower=some/name",
                "model.image.size_px = 64",
                "bandwidth.form=fixed",
                "objective.targets.bandwidths_m=[5, 50.0]",
            ]
        )
    )
    config = load_recipe("sw-clip", given)
    assert (config.steps, config.model.image.tower, config.model.image.size_px) == (10, "some/name", 64)
    assert config.objective.targets.bandwidths_m == (5.0, 50.0)
    assert config.objective.neighbourhood == load_recipe("sw-clip").objective.neighbourhood
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        assigned(["steps"])
    with pytest.raises(ConfigError, match=r"steps\.x: steps has both"):
        nested({"steps": 3, "steps.x": 1})


@given(st.dictionaries(st.sampled_from(["a", "b.c", "b.d", "e.f.g", "e.f.h"]), st.integers()))
def test_dotted_keys_become_nested_tables(values: dict[str, Any]) -> None:
    tables = nested(values)
    for key, value in values.items():
        result: Any = tables
        for part in key.split("."):
            result = result[part]
        assert result == value


# What swclip 0.1 wrote into a run's config.toml, shortened to the tables with options that were removed since.
CONFIG_OF_0_1 = """
steps = 24

[model.image]
tower = "builtin:small"
pooling = "auto"
blocks = 1
tokens = "none"
token_grid = 4
token_queries = 8
head = "residual"

[batch]
size = 16
sampler = "neighbours"

[batch.hard]
share = 0.0
by = "image"
every = 50
radius_m = 100.0
bandwidths = 3.0
among = 10
pool = 16384
"""


def test_a_configuration_of_an_earlier_release_is_read_without_its_removed_options(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(CONFIG_OF_0_1)
    config = load_recipe(str(tmp_path / "config.toml"))
    assert (config.steps, config.batch.size, config.batch.sampler) == (24, 16, "neighbours")
    assert load_recipe("sw-clip", {"batch": {"hard": {"share": 0.0}}}) == load_recipe("sw-clip")


@pytest.mark.parametrize(
    ("on", "message"),
    [
        (("share = 0.0", "share = 0.25"), r"config\.toml: batch\.hard\.share = 0\.25: .*removed in swclip 0\.2\.0"),
        (('"none"', '"attention"'), r"config\.toml: model\.image\.tokens = 'attention': .*removed in swclip 0\.2\.0"),
    ],
)
def test_a_removed_option_that_is_switched_on_is_refused(tmp_path: Path, on: tuple[str, str], message: str) -> None:
    (tmp_path / "config.toml").write_text(CONFIG_OF_0_1.replace(*on))
    with pytest.raises(ConfigError, match=message):
        load_recipe(str(tmp_path / "config.toml"))


def test_defaults_are_a_configuration() -> None:
    assert TrainingConfig().steps == 1000


def test_overrides_by_dotted_key_equal_those_of_set() -> None:
    texts = {
        "steps": "10",
        "optimizer.rate": "1e-3",
        "bandwidth.form": "fixed",
        "objective.targets.bandwidths_m": "[5, 50.0]",
        "augment": "false",
        "model.image.tower": "some/name",
    }
    values = {
        "steps": 10,
        "optimizer": {"rate": 1e-3},
        "bandwidth.form": "fixed",
        "objective": {"targets.bandwidths_m": [5, 50.0]},
        "augment": False,
        "model.image": {"tower": "some/name"},
    }
    by_set = load_recipe("sw-clip", nested(assigned([f"{key}={value}" for key, value in texts.items()])))
    assert load_recipe("sw-clip", texts) == load_recipe("sw-clip", values) == by_set
    assert by_set.steps == 10


def test_texts_of_text_fields_are_not_parsed() -> None:
    assert load_recipe("clip", {"model.image.tower": "2024-05-01", "region": "7"}).model.image.tower == "2024-05-01"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"optimizer.rat": 1e-3}, r"optimizer\.rat is not an option; options: .*rate"),
        ({"steps": "many"}, "steps = 'many'"),
        ({"batch": 3, "batch.size": 8}, "batch.size: batch has both a value and nested keys"),
        ({"batch.size": 8, "batch": 3}, "batch: batch has both a value and nested keys"),
    ],
)
def test_an_invalid_override_is_named(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_recipe("sw-clip", overrides)
