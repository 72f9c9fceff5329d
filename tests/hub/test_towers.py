"""Names of towers: recognition of paths, and their replacement everywhere in a model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from swclip.hub.provenance import LICENCES, hide_paths, towers_of
from swclip.models.config import ImageConfig, LocationConfig, ModalitiesConfig, ModelConfig
from swclip.models.locator_model import LocatorModel, load_model

POSITIONS = np.array([[53.80, -1.55], [53.801, -1.549]])


def make(image: str = "builtin:small", text: str = "none", caption: str = "none", map_: str = "none") -> LocatorModel:
    config = ModelConfig(
        image=ImageConfig(tower=image, size_px=32, head_width=8),
        location=LocationConfig(text_tower=text, grid_log2_size=6, hidden_width=8),
        views=ModalitiesConfig(caption=caption, map=map_, map_size_px=32, head_width=8),
        embedding_dim=6,
    )
    return LocatorModel.create(config, POSITIONS).eval()


def test_every_path_is_replaced_and_nothing_else(towers: Path, tmp_path: Path) -> None:
    bert, dinov2, clip = (str(towers / name) for name in ("bert", "dinov2", "clip"))
    model = make(clip, bert, bert, dinov2)
    model_towers = towers_of(model)
    assert [(tower.side, tower.public_name) for tower in model_towers] == [
        ("image", "local:clip_vision_model"),
        ("location text", "local:bert"),
        ("caption", "local:bert"),
        ("map", "local:dinov2"),
    ]
    assert {tower.origin for tower in model_towers} == {"local folder"}
    before = model.feature_fingerprint
    hide_paths(model, model_towers)
    model.save(tmp_path / "model")
    written = (tmp_path / "model" / "config.json").read_text()
    assert str(towers) not in written
    assert "builtin:small" not in written
    loaded = load_model(tmp_path / "model")
    assert loaded.feature_fingerprint == before
    assert loaded.config == model.config
    assert json.loads(written)["fingerprint"] == loaded.fingerprint


def test_built_in_towers_are_not_paths() -> None:
    model = make(text="builtin:small")
    before = model.fingerprint
    model_towers = towers_of(model)
    assert [(tower.side, tower.origin) for tower in model_towers] == [
        ("image", "built in"),
        ("location text", "built in"),
    ]
    hide_paths(model, model_towers)
    assert model.fingerprint == before
    assert [tower.side for tower in towers_of(make())] == ["image"]


@pytest.mark.parametrize(("location", "origin"), [("nowhere", "hub"), (".", "local folder"), ("above", "local folder")])
def test_two_part_name_is_a_path_if_it_exists(
    location: str, origin: str, towers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "facebook/dinov2-small"
    (tmp_path / "here").mkdir()
    run = tmp_path / "work" / "runs" / "first"
    run.mkdir(parents=True)
    training_folder = tmp_path / "trained-here"
    shutil.copytree(towers / "dinov2", training_folder / name)
    monkeypatch.chdir(training_folder)
    model = make(name)
    if location != "nowhere":
        shutil.copytree(training_folder / name, tmp_path / {".": "here", "above": "work"}[location] / name)
    monkeypatch.chdir(tmp_path / "here")
    (tower,) = towers_of(model, [run])
    assert tower.origin == origin
    assert tower.public_name == (name if origin == "hub" else "local:dinov2")
    assert tower.licence == LICENCES[name]
    before = model.fingerprint
    hide_paths(model, [tower])
    assert (model.fingerprint == before) == (origin == "hub")
