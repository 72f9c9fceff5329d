"""Captions and map tiles as unit vectors, their fusion with the photograph, saved and loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from swclip.errors import ConfigError
from swclip.models.config import ModalitiesConfig, ModelConfig
from swclip.models.locator_model import LocatorModel, load_model
from swclip.models.modalities import Modalities, ModalityInputs
from swclip.models.weights import weights_digest
from swclip.structure import as_plain

MakeModel = Callable[..., LocatorModel]
CAPTIONS = ["Kirkgate, a bakery", None, "Briggate", "Kirkgate, a bakery"]
BOTH = ModalitiesConfig(caption="builtin:small", map="builtin:small", map_size_px=32, head_width=8)


def with_modalities(make_model: MakeModel, views: ModalitiesConfig = BOTH, seed: int = 0) -> LocatorModel:
    config = replace(make_model().config, views=views)
    return LocatorModel.create(config, [[53.8, -1.55]], seed).eval()


def inputs(count: int = 4) -> ModalityInputs:
    maps = torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    present = torch.tensor([[1, 1, 1], [1, 0, 1], [1, 1, 0], [1, 1, 1]], dtype=torch.bool)
    return ModalityInputs(CAPTIONS, maps, present, present)


def test_modalities_become_unit_vectors_and_zeros_where_missing(make_model: MakeModel) -> None:
    views = with_modalities(make_model).views
    assert views is not None
    with torch.no_grad():
        caption, tile = views.encode(inputs())
        alone = views.encode(inputs()[1:2])
    assert caption.norm(dim=1).tolist() == pytest.approx([1, 0, 1, 1], abs=1e-5)
    assert tile.norm(dim=1).tolist() == pytest.approx([1, 1, 0, 1], abs=1e-5)
    assert torch.equal(caption[0], caption[3])
    assert (caption[0] - caption[2]).abs().max() > 1e-3
    assert alone[0].shape == (1, 12)
    assert (alone[0] == 0).all()
    torch.testing.assert_close(alone[1], tile[1:2])


@pytest.fixture(scope="module")
def views() -> Modalities:
    return Modalities(BOTH, 6)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.lists(st.sampled_from(range(1, 8)), min_size=1, max_size=6))
def test_the_fusion_is_the_normalised_weighted_sum_of_the_present(
    views: Modalities, seed: int, rows: list[int]
) -> None:
    generator = torch.Generator().manual_seed(seed)
    views.log_weight.grad = None
    views.log_weight.data = torch.randn(2, generator=generator)
    embeddings = F.normalize(torch.randn(len(rows), 3, 6, generator=generator), dim=2)
    present = torch.tensor([[bool(row >> at & 1) for at in range(3)] for row in rows])
    embeddings[~present] = torch.nan
    embeddings.requires_grad_()
    fused = views.fuse(embeddings, present)
    weights = [1.0, *views.log_weight.exp().tolist()]
    for row in range(len(rows)):
        available = [at for at in range(3) if present[row, at]]
        if len(available) == 1:
            assert torch.equal(fused[row], embeddings[row, available[0]]), "to the last bit"
        total = sum(weights[at] * embeddings[row, at] for at in available)
        torch.testing.assert_close(fused[row], total / total.norm(), rtol=1e-5, atol=1e-6)
    (fused * torch.arange(6.0)).sum().backward()
    assert embeddings.grad is not None
    assert torch.isfinite(embeddings.grad).all()
    assert views.log_weight.grad is not None
    assert torch.isfinite(views.log_weight.grad).all()


@pytest.mark.parametrize(("caption", "tile"), [("bert", "dinov2"), ("builtin:small", "none"), ("none", "clip")])
def test_a_model_with_modalities_survives_saving(
    caption: str, tile: str, make_model: MakeModel, towers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copied(name: str) -> str:
        if ":" in name or name == "none":
            return name
        return str(shutil.copytree(towers / name, tmp_path / "towers" / name))

    config = ModalitiesConfig(caption=copied(caption), map=copied(tile), map_size_px=32, head_width=8)
    model = with_modalities(make_model, config)
    assert model.views is not None
    model.save(tmp_path / "model")
    shutil.rmtree(tmp_path / "towers", ignore_errors=True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    loaded = load_model(tmp_path)
    assert loaded.views is not None
    assert loaded.config == model.config
    assert loaded.fingerprint == model.fingerprint
    sample = inputs()
    present = sample.present[:, [True, caption != "none", tile != "none"]]
    sample = replace(sample, present=present, kept=present)
    with torch.no_grad():
        for actual, expected in zip(loaded.views.encode(sample), model.views.encode(sample), strict=True):
            assert torch.equal(actual, expected)
    if loaded.views.map is not None:
        assert model.views.map is not None
        assert loaded.views.map.preprocess == model.views.map.preprocess
    loaded.save(tmp_path / "again")
    assert load_model(tmp_path / "again").fingerprint == model.fingerprint


def test_a_model_without_modalities_is_unchanged(make_model: MakeModel, tmp_path: Path) -> None:
    """Folders and galleries from before views: their configuration and fingerprint do not have them."""
    model = make_model(text="builtin:small")
    config = as_plain(model.config)
    del config["views"]
    for later in ("pooling_grid", "crop", "normalisation", "beside"):
        del config["image"][later]
    assert model.fingerprint == weights_digest(
        model.state_dict(), json.dumps(config, sort_keys=True) + model.preprocess.digest
    )
    model.save(tmp_path / "model")
    values = json.loads((tmp_path / "model" / "config.json").read_text())
    assert "views" not in values
    del values["model"]["views"]
    (tmp_path / "model" / "config.json").write_text(json.dumps(values))
    assert load_model(tmp_path).fingerprint == model.fingerprint


def test_modalities_do_not_change_the_other_weights(make_model: MakeModel) -> None:
    plain, more = make_model(seed=3), with_modalities(make_model, seed=3)
    for name, weight in plain.state_dict().items():
        assert torch.equal(more.state_dict()[name], weight), name
    pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(more.encode_pixels(pixels), plain.encode_pixels(pixels))
    assert more.feature_fingerprint == plain.feature_fingerprint
    assert more.fingerprint != plain.fingerprint


def test_the_fingerprint_depends_on_every_weight_of_the_modalities(make_model: MakeModel) -> None:
    model = with_modalities(make_model)
    seen = {model.fingerprint}
    names = [name for name in model.state_dict() if name.startswith("views.")]
    assert "views.log_weight" in names
    for name in names:
        flat = model.state_dict()[name].view(-1)
        original = flat[-1].clone()
        flat[-1] = original + 1
        seen.add(model.fingerprint)
        flat[-1] = original
    assert len(seen) == 1 + len(names)


@pytest.mark.parametrize("tower", ["builtin:small", "bert", "siglip"])
def test_a_caption_that_is_too_long_is_truncated(tower: str, make_model: MakeModel, towers: Path) -> None:
    name = tower if ":" in tower else str(towers / tower)
    views = with_modalities(make_model, ModalitiesConfig(caption=name, head_width=8)).views
    assert views is not None
    assert views.caption is not None
    encoder = views.caption
    assert encoder.fitted("  a street\tview ") == "a street view"
    long = " ".join(f"street {number}" for number in range(200))
    kept = encoder.fitted(long)
    assert long.startswith(kept)
    tokens = len(encoder.text._ids(kept))
    assert encoder.text.longest - 6 <= tokens <= encoder.text.longest - 2
    endless = encoder.fitted("7" * 500)
    assert 0 < len(encoder.text._ids(endless)) <= encoder.text.longest - 2
    with torch.no_grad():
        assert torch.isfinite(encoder([long, "7" * 500, "a"])).all()


def test_invalid_configurations_are_refused() -> None:
    assert ModelConfig().views.names == ()
    for values in ({"map_size_px": 0}, {"head_width": -1}, {"head_dropout": 1.0}):
        with pytest.raises(ConfigError, match=f"views: .*{next(iter(values))}"):
            ModalitiesConfig(**values)
    with pytest.raises(ConfigError, match="is not built in"):
        Modalities(ModalitiesConfig(caption="builtin:large"), 4)
