"""Recipes with bases, and the shipped recipes: each ablation omits the part in its name."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from swclip.errors import ConfigError
from swclip.structure import as_plain
from swclip.training.config import load_recipe, recipe_names, write_config


def _flat(values: dict[str, Any], lead: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in values.items():
        out |= _flat(value, f"{lead}{key}.") if isinstance(value, dict) else {f"{lead}{key}": value}
    return out


def _differences(name: str, base: str) -> dict[str, Any]:
    changed, base_values = (_flat(as_plain(load_recipe(recipe))) for recipe in (name, base))
    return {key: value for key, value in changed.items() if value != base_values[key]}


ABLATIONS: dict[str, dict[str, Any]] = {
    "sw-clip-template": {"model.location.form": "template"},
    "sw-clip-fourier": {"model.location.form": "fourier", "model.location.text_tower": "none"},
    "sw-clip-no-text": {"model.location.text_tower": "none"},
    "sw-clip-one-hot": {"objective.targets.alpha": 0.0},
    "sw-clip-no-neighbourhood": {"objective.neighbourhood.weight": 0.0},
    "sw-clip-no-fairness": {"objective.fairness.weight": 0.0},
    "sw-clip-random": {"batch.sampler": "random"},
}


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_omits_the_part_in_its_name(name: str) -> None:
    assert _differences(name, "sw-clip") == ABLATIONS[name]


def test_compared_methods_differ_from_clip_only_in_their_part() -> None:
    assert _differences("addressclip", "clip") == {"objective.image_geography.weight": 0.8}
    ranks = _differences("rank-n-contrast", "clip")
    assert ranks.keys() == {"objective.rank_n_contrast.weight", "objective.rank_n_contrast.tau"}
    geoclip = _differences("geoclip", "clip")
    parts = ("batch.position_noise_m", "queue.", "objective.symmetric", "model.image.head", "model.location.")
    assert all(key.startswith(parts) for key in geoclip)
    assert {key.split(".")[0] for key in geoclip} == {"batch", "queue", "objective", "model"}


@pytest.mark.parametrize("name", ["clip", "sw-clip", "geoclip", "addressclip", "rank-n-contrast", *ABLATIONS])
def test_all_recipes_have_the_same_budget_and_a_summary(name: str) -> None:
    sw_clip, clip = load_recipe(name), load_recipe("clip")
    assert (sw_clip.steps, sw_clip.batch.size, sw_clip.optimizer) == (clip.steps, clip.batch.size, clip.optimizer)
    assert sw_clip.model.embedding_dim == clip.model.embedding_dim
    folder = Path(__file__).parents[2] / "src" / "swclip" / "training" / "recipes"
    assert (folder / f"{name}.toml").read_text().startswith("# ")


def test_a_recipe_overrides_its_base(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "mine.toml").write_text('base = "below/other.toml"\nsteps = 7\n[batch]\nradius_m = 12.0\n')
    (tmp_path / "below" / "other.toml").write_text('base = "third.toml"\nsteps = 6\nseed = 4\n')
    (tmp_path / "below" / "third.toml").write_text('base = "sw-clip"\n[batch]\nsize = 99\nradius_m = 11.0\n')
    sw_clip = load_recipe("sw-clip")
    result = load_recipe(str(tmp_path / "mine.toml"))
    assert (result.steps, result.seed, result.batch.size, result.batch.radius_m) == (7, 4, 99, 12.0)
    assert (result.objective, result.batch.sampler) == (sw_clip.objective, sw_clip.batch.sampler)
    assert load_recipe(str(tmp_path / "mine.toml"), {"steps": 5}).steps == 5


def test_a_saved_configuration_is_complete(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('base = "sw-clip"\nsteps = 7\n')
    config = load_recipe(str(tmp_path / "mine.toml"))
    write_config(tmp_path / "config.toml", config)
    assert "base" not in tomllib.loads((tmp_path / "config.toml").read_text())
    (tmp_path / "mine.toml").unlink()
    assert load_recipe(str(tmp_path / "config.toml")) == config


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"mine": 'base = "mine.toml"'}, r"mine\.toml: base = 'mine\.toml' is circular .*mine\.toml -> mine\.toml"),
        (
            {"mine": 'base = "a.toml"', "a": 'base = "b.toml"', "b": 'base = "a.toml"'},
            r"b\.toml: base = 'a\.toml' is circular .*\(a\.toml -> b\.toml -> a\.toml\)",
        ),
        ({"mine": 'base = "sw-clop"'}, r"mine\.toml: base: recipe 'sw-clop' is neither a shipped one"),
        ({"mine": "base = 3"}, r"mine\.toml: base = 3 must be the name"),
        ({"mine": 'base = "a.toml"', "a": "stepz = 1"}, r"a\.toml: stepz is not an option"),
        ({"mine": 'base = "a.toml"\nsteps = 0', "a": "steps = 1"}, r"steps 0 must"),
        ({"mine": 'base = "a.toml"', "a": "steps 1"}, r"a\.toml: is not valid TOML"),
        ({"mine": '[batch]\nbase = "clip"'}, r"batch\.base is not an option"),
    ],
)
def test_invalid_bases_are_refused(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (tmp_path / f"{name}.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_recipe(str(tmp_path / "mine.toml"))


def test_every_shipped_recipe_can_be_read() -> None:
    for name in recipe_names():
        load_recipe(name)
