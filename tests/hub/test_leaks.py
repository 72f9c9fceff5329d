"""Published files contain no names of local machines, folders and files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from swclip.cli.app import run
from swclip.data.manifest import read_manifest
from swclip.errors import ArtefactError
from swclip.gallery.hubness import Bank, photograph_hubness, read_bank
from swclip.hub.folder import ModelFolder, PublishOptions, check_no_leaks, private_names, write_model_folder
from swclip.models.embed import embed_photographs
from swclip.models.locator_model import load_model
from swclip.training.config import load_recipe

NAME = "ada/leeds"


@pytest.fixture(scope="module")
def published(private_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    report = private_folder / "Geheim-Bericht"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(private_folder)
        assert run(["evaluate", "Geheim-Lauf", f"--out={report}", "--resamples=20", "--no-figures"]) == 0
        patch.setenv("HOME", str(private_folder))
        options = PublishOptions(reports=[report], base_models=["facebook/dinov2-small"])
        return write_model_folder(tmp_path_factory.mktemp("out") / "model", "Geheim-Lauf", NAME, options)


def test_published_files_contain_no_local_names(published: ModelFolder, private_folder: Path) -> None:
    words = ["Geheim", "Ordner", "Album", str(private_folder), str(Path.home()), str(Path.cwd()), "/tmp", "p00-"]
    for name in published.files:
        data = (published.path / name).read_bytes()
        if name == "model.safetensors":
            data = data[: 8 + int.from_bytes(data[:8], "little")]  # weights may contain any bytes
        for word in words:
            assert word.encode() not in data, (name, word)
    assert "tokenizer/tokenizer.json" in published.files


def test_reports_and_galleries_state_no_folder_of_this_machine(
    published: ModelFolder, private_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data, gallery = private_folder / "Geheim-Daten", tmp_path / "gallery"
    assert run(["index", str(private_folder / "Geheim-Lauf"), str(data), f"--out={gallery}"]) == 0
    files = [
        path for folder in (private_folder / "Geheim-Bericht", gallery) for path in folder.rglob("*") if path.is_file()
    ]
    assert len(files) > 10
    for path in files:
        if path == gallery / "model" / "config.json":
            continue  # the folder of a tower is part of the model's fingerprint; `swclip push` hides it
        content = path.read_bytes()
        for word in (str(private_folder), str(private_folder.parent), str(Path.home()) + "/"):
            assert word.encode() not in content, (path.name, word)
    made = json.loads((private_folder / "Geheim-Bericht" / "report.json").read_text())["made_with"]
    assert made["manifest"]["path"] == "Geheim-Daten/manifest.parquet"


def test_published_model_differs_only_in_tower_names(published: ModelFolder, private_folder: Path) -> None:
    local, loaded = load_model(private_folder / "Geheim-Lauf"), load_model(published.path)
    assert published.run_fingerprint == local.fingerprint != loaded.fingerprint == published.fingerprint
    assert json.loads((published.path / "config.json").read_text())["fingerprint"] == loaded.fingerprint
    assert (loaded.config.image.tower, loaded.config.location.text_tower) == ("local:dinov2", "local:bert")
    assert load_recipe(str(published.path / "config.toml")).model == loaded.config
    assert loaded.feature_fingerprint == local.feature_fingerprint
    paths = read_manifest(private_folder / "Geheim-Daten").image_paths[:5]
    assert (embed_photographs(loaded, paths) == embed_photographs(local, paths)).all()
    positions, words = torch.tensor([[53.8, -1.55]], dtype=torch.float64), [{"city": "leeds"}]
    with torch.no_grad():
        assert torch.equal(loaded.position_embeddings(positions, words), local.position_embeddings(positions, words))
    assert any("changes the fingerprint" in note for note in published.notes)


def test_bank_without_names_recognises_its_photographs(published: ModelFolder, private_folder: Path) -> None:
    local, hidden = read_bank(private_folder / "Geheim-Lauf"), read_bank(published.path)
    assert local is not None
    assert hidden is not None
    assert (local.embeddings == hidden.embeddings).all()
    assert all(image_id.startswith("sha256:") for image_id in hidden.image_ids)
    assert hidden.without_names().image_ids == hidden.image_ids
    photographs, ids = local.embeddings.astype(np.float32), local.image_ids
    wanted, found = (photograph_hubness(photographs, ids, bank) for bank in (local, hidden))
    assert (wanted == found).all()
    strangers = photograph_hubness(photographs, [f"other-{name}" for name in ids], hidden)
    assert (strangers > found).all(), "itself is not counted where it is known"


def test_card_contains_only_public_facts(published: ModelFolder) -> None:
    card = (published.path / "README.md").read_text(encoding="utf-8")
    for text in ("Leeds", "York", "40 photographs", "known-places", "local folder (dinov2)", "`facebook/dinov2-small`"):
        assert text in card
    assert "by the recipe" not in card, "the name of a user's recipe is private"


@pytest.mark.parametrize("word", ["/home/ada/album", "/home/Zoë/album", "hf_a-token-of-mine"])
@pytest.mark.parametrize("name", ["a.json", "deep/b.md", "c.safetensors", "escaped.json"])
def test_check_finds_private_names_in_any_file(name: str, word: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".safetensors":
        save_file({"x": np.zeros(3, dtype=np.float32)}, path, metadata={"from": word})
    else:
        path.write_text(json.dumps({"from": f"x{word}/y"}, ensure_ascii=name == "escaped.json"), encoding="utf-8")
    check_no_leaks(tmp_path, ["/home/somebody/else"])
    with pytest.raises(ArtefactError, match=f"^{name}: would publish") as raised:
        check_no_leaks(tmp_path, ["/home/somebody/else", word])
    assert word not in str(raised.value)


def test_check_ignores_weights(tmp_path: Path) -> None:
    save_file({"x": np.frombuffer(b"/tmp/abc" * 4, dtype=np.float32)}, tmp_path / "model.safetensors")
    check_no_leaks(tmp_path, ["/tmp/abc"])


def test_private_names_include_paths_and_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = tmp_path / "link"
    (tmp_path / "real").mkdir()
    link.symlink_to(tmp_path / "real")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("HF_TOKEN", "hf_a-token-of-mine")
    names = private_names(link / "run", "relative/tower")
    for name in (
        link / "run",
        tmp_path / "real" / "run",
        "relative/tower",
        tmp_path,
        "/home/ada",
        "hf_a-token-of-mine",
    ):
        assert str(name) in names
    assert not any(len(name) < 4 for name in names)
    monkeypatch.setenv("HOME", "/")
    assert "/" not in private_names(link)


def test_run_with_private_names_is_rejected(
    private_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from swclip.hub import folder as module

    monkeypatch.setattr(module, "hide_paths", lambda model, towers: None)
    with pytest.raises(ArtefactError, match=r"config\.json: would publish a local path"):
        write_model_folder(tmp_path / "out", private_folder / "Geheim-Lauf", NAME)
    assert list(tmp_path.iterdir()) == [], "no incomplete folder"


def test_local_bank_keeps_plain_ids(private_folder: Path) -> None:
    bank = read_bank(private_folder / "Geheim-Lauf")
    assert isinstance(bank, Bank)
    assert bank.image_ids[0].startswith("Geheim-Album/")
