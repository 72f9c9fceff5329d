"""The dual encoder: both sides, saving and loading, identity."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from swclip.errors import ArtefactError
from swclip.models.config import ModelConfig
from swclip.models.locator_model import LocatorModel, load_model
from swclip.models.weights import WithoutDraws
from swclip.structure import structure

MakeModel = Callable[..., LocatorModel]
HERE = torch.tensor(
    [[53.80, -1.55], [53.801, -1.549], [-33.86, 151.2], [0.0, -180.0], [90.0, 0.0]], dtype=torch.float64
)
WORDS = [{"city": "leeds"}, {"city": None}, {}, {"city": "york"}, {"city": "leeds"}]
KINDS = [
    *((form, text) for form in ("grid", "cells") for text in ("builtin:small", "none", "bert", "clip", "siglip")),
    *(("template", text) for text in ("builtin:small", "bert", "clip")),
    ("fourier", "none"),
]


@pytest.mark.parametrize(("form", "text"), KINDS)
def test_positions_become_unit_vectors_and_survive_saving(
    form: str, text: str, make_model: MakeModel, tmp_path: Path
) -> None:
    model = make_model(text=text, form=form, prompt="a photo in {city} at {location}")
    with torch.no_grad():
        result = model.position_embeddings(HERE, WORDS)
    assert result.shape == (5, 12)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.norm(dim=1), torch.ones(5))
    assert (result[0] - result[2]).abs().max() > 1e-3
    model.save(tmp_path / "model")
    loaded = load_model(tmp_path)
    assert loaded.fingerprint == model.fingerprint
    assert loaded.config == model.config
    assert not loaded.training
    with torch.no_grad():
        assert torch.equal(loaded.position_embeddings(HERE, WORDS), result)
        pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
        assert torch.equal(loaded.encode_pixels(pixels), model.encode_pixels(pixels))


@pytest.mark.parametrize("name", ["dinov2", "clip", "siglip"])
def test_loading_needs_neither_the_hub_nor_the_towers(
    name: str, towers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from swclip.models.config import ImageConfig, LocationConfig

    text = "bert" if name == "dinov2" else name
    for folder in {name, text}:
        shutil.copytree(towers / folder, tmp_path / "towers" / folder)
    config = ModelConfig(
        image=ImageConfig(tower=str(tmp_path / "towers" / name), size_px=48),
        location=LocationConfig(text_tower=str(tmp_path / "towers" / text), grid_log2_size=6, hidden_width=8),
        embedding_dim=6,
    )
    model = LocatorModel.create(config, HERE.numpy()).eval()
    model.save(tmp_path / "run" / "model")
    shutil.rmtree(tmp_path / "towers")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    loaded = load_model(tmp_path / "run")
    pixels = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(loaded.encode_pixels(pixels), model.encode_pixels(pixels))
        assert torch.equal(loaded.position_embeddings(HERE), model.position_embeddings(HERE))
    assert loaded.feature_fingerprint == model.feature_fingerprint
    assert loaded.preprocess == model.preprocess
    loaded.save(tmp_path / "again")
    assert load_model(tmp_path / "again").fingerprint == model.fingerprint, "a loaded model can be saved again"


def test_the_fingerprint_depends_on_every_weight(make_model: MakeModel) -> None:
    model = make_model(text="builtin:small")
    seen = {model.fingerprint}
    for name, weight in model.state_dict().items():
        before = model.feature_fingerprint
        flat = weight.view(-1)
        original = flat[-1].clone()
        flat[-1] = original + 1
        seen.add(model.fingerprint)
        assert (model.feature_fingerprint != before) == name.startswith("image_tower."), name
        flat[-1] = original
    assert len(seen) == 1 + len(model.state_dict())
    assert model.fingerprint in seen


def test_a_seed_determines_the_model_and_keeps_the_global_generator(make_model: MakeModel, tmp_path: Path) -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    one, same, other = (make_model(text="builtin:small", seed=seed) for seed in (4, 4, 5))
    one.save(tmp_path / "model")
    load_model(tmp_path / "model")
    assert torch.equal(torch.get_rng_state(), before)
    assert one.fingerprint == same.fingerprint != other.fingerprint
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))


def test_parameters_that_a_file_follows_are_not_drawn() -> None:
    with WithoutDraws():
        layer, bounded = torch.nn.Linear(4, 3), torch.nn.Parameter(torch.full((50,), 9.0))
        before = layer.weight.clone()
        layer.reset_parameters()
        torch.nn.init.normal_(layer.weight)
        other = torch.zeros(50).normal_(generator=torch.Generator().manual_seed(1))
        torch.nn.init.trunc_normal_(bounded)  # draws until all are within bounds
    assert layer.weight.detach().numpy().tobytes() == before.detach().numpy().tobytes()  # they may be NaN
    assert other.std() > 0.5
    assert bounded.abs().max() <= 2.0
    layer.reset_parameters()
    assert not torch.equal(layer.weight, before)


def test_the_scale_is_limited_as_in_clip(make_model: MakeModel) -> None:
    model = make_model()
    assert model.logit_scale.exp().item() == pytest.approx(1 / 0.07, rel=1e-5)
    model.logit_scale.data.fill_(9.0)
    model.limit_scale()
    assert model.logit_scale.exp().item() == pytest.approx(100.0, rel=1e-5)


def test_the_interface_of_the_hub_mixin(make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(text="bert")
    model.save_pretrained(tmp_path / "local")
    loaded = LocatorModel.from_pretrained(tmp_path / "local")
    assert loaded.fingerprint == model.fingerprint
    # What would be uploaded is the same folder; the network stands still.
    uploaded: dict[str, set[str]] = {}

    class Api:
        def __init__(self, **_: object) -> None: ...

        def create_repo(self, repo_id: str, **_: object) -> object:
            return type("Url", (), {"repo_id": repo_id})()

        def upload_folder(self, folder_path: Path, **_: object) -> None:
            uploaded["names"] = {path.name for path in Path(folder_path).iterdir()}
            shutil.copytree(folder_path, tmp_path / "remote")

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    model.push_to_hub("somebody/somewhere")
    assert {"config.json", "model.safetensors", "preprocess.json", "tokenizer"} <= uploaded["names"]
    assert LocatorModel.from_pretrained(tmp_path / "remote").fingerprint == model.fingerprint


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("model.safetensors", lambda b: b[: len(b) // 2], "model.safetensors"),
        ("model.safetensors", lambda b: b"", "model.safetensors"),
        ("model.safetensors", None, "model.safetensors"),
        ("config.json", lambda b: b[:40], r"config\.json: the model's configuration cannot be read"),
        (
            "config.json",
            lambda b: b.replace(b'"swclip_format": "1"', b'"swclip_format": "9"'),
            r"config\.json: model format '9'.*reads '1'",
        ),
        ("config.json", lambda b: b'{"model_type": "clip"}', r"is a tower of transformers \(clip\)"),
        ("config.json", lambda b: b"{}", r"config\.json: model format None"),
        ("config.json", None, r"config\.json is missing"),
        ("config.json", lambda b: b.replace(b'"embedding_dim": 12', b'"embedding_dim": 13'), "model.safetensors"),
        ("preprocess.json", None, r"preprocess\.json: the model's preprocessing is missing"),
    ],
)
def test_a_damaged_model_is_named(
    name: str, damage: Callable[[bytes], bytes] | None, message: str, make_model: MakeModel, tmp_path: Path
) -> None:
    make_model().save(tmp_path / "model")
    path = tmp_path / "model" / name
    if damage is None:
        path.unlink()
    else:
        changed = damage(path.read_bytes())
        assert changed != path.read_bytes()
        path.write_bytes(changed)
    with pytest.raises(ArtefactError, match=message) as caught:
        load_model(tmp_path / "model")
    assert str(tmp_path / "model") in str(caught.value)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="is not a swclip model"):
        load_model(tmp_path)


# What swclip 0.1 wrote into a model's config.json, beside its fingerprint.
MODEL_OF_0_1 = json.loads("""
{
  "image": {
    "tower": "builtin:small", "pooling": "auto", "blocks": 1, "tokens": "none", "token_grid": 4, "token_queries": 8,
    "head": "residual", "head_width": 8, "head_dropout": 0.1, "size_px": 32
  },
  "location": {
    "form": "grid", "text_tower": "none", "prompt": "a street view photo taken at {location}", "context_tokens": 0,
    "location_tokens": 4, "direct": true, "grid_levels": 2, "grid_coarsest_m": 800.0, "grid_finest_m": 50.0,
    "grid_features": 8, "grid_log2_size": 6, "cell_resolutions": [4, 6, 8, 9, 10, 11],
    "fourier_wavelengths_m": [2000.0, 500.0, 125.0], "fourier_features": 128, "fourier_layers": 2,
    "fourier_activation": "gelu", "hidden_width": 8
  },
  "views": {"caption": "none", "map": "none", "map_size_px": null, "head_width": 256, "head_dropout": 0.1},
  "embedding_dim": 6,
  "initial_temperature": 0.07
}
""")


def _saved_by_0_1(folder: Path, **image: object) -> LocatorModel:
    """A model whose config.json is that of swclip 0.1."""
    kept = {name: value for name, value in MODEL_OF_0_1["image"].items() if not name.startswith("token")}
    model = LocatorModel.create(structure(ModelConfig, {**MODEL_OF_0_1, "image": kept}), [[53.8, -1.55]])
    model.save(folder)
    values = json.loads((folder / "config.json").read_text())
    values["model"] = {**MODEL_OF_0_1, "image": {**MODEL_OF_0_1["image"], **image}}
    (folder / "config.json").write_text(json.dumps(values))
    return model


def test_a_model_of_an_earlier_release_loads_with_the_same_fingerprint(tmp_path: Path) -> None:
    model = _saved_by_0_1(tmp_path / "model")
    assert load_model(tmp_path).fingerprint == model.fingerprint


def test_a_model_with_a_removed_option_is_refused(tmp_path: Path) -> None:
    _saved_by_0_1(tmp_path / "model", tokens="attention")
    with pytest.raises(ArtefactError, match=r"config\.json: image\.tokens = 'attention': .*removed in swclip 0\.2\.0"):
        load_model(tmp_path)
