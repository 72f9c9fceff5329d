"""`builtin:street`: the trained tower that is part of the package."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

from swclip.errors import ArtefactError
from swclip.models import towers
from swclip.models.config import ImageConfig
from swclip.models.image_tower import ImageTower
from swclip.training.config import load_recipe, warn_of_untrained_tower


def test_weights_do_not_depend_on_the_seed() -> None:
    pixels = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    features = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        tower = ImageTower(ImageConfig(tower="builtin:street")).eval()
        with torch.inference_mode():
            features.append(tower(pixels))
    assert features[0].shape == (2, tower.feature_dim)
    assert torch.equal(*features)
    assert towers.STREET_WEIGHTS.stat().st_size <= 2e6


def test_refuses_other_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = bytearray(towers.STREET_WEIGHTS.read_bytes())
    changed[-1] ^= 1
    file = tmp_path / "street.safetensors"
    monkeypatch.setattr(towers, "STREET_WEIGHTS", file)
    with pytest.raises(ArtefactError, match=r"street\.safetensors: cannot be read .*install swclip again"):
        towers.street_network()
    file.write_bytes(changed)
    with pytest.raises(ArtefactError, match=r"street\.safetensors: is not the file of this version"):
        towers.street_network()


def test_freezing_it_is_no_mistake() -> None:
    values = {"model": {"image": {"tower": "builtin:street"}}, "freeze_image": True}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_untrained_tower(load_recipe("sw-clip", values))
