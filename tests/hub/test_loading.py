"""Loading a model by its hub name: downloaded files, offline use, and errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import swclip
from swclip.cli.app import run
from swclip.data.manifest import read_manifest
from swclip.errors import ArtefactError, HubError
from swclip.hub.folder import ModelFolder, write_model_folder
from swclip.models.download import HubName, download

from .fake_hub import STRANGER, FakeHub

NAME = "ada/leeds"


@pytest.fixture(scope="module")
def folder(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return write_model_folder(tmp_path_factory.mktemp("ready") / "model", trained / "run", NAME)


@pytest.fixture
def files(folder: ModelFolder) -> dict[str, bytes]:
    return {name: (folder.path / name).read_bytes() for name in folder.files}


def test_downloads_only_safetensors_json_and_vocabularies(files: dict[str, bytes], hub: FakeHub) -> None:
    others = ("model.py", "tokenizer/tokens.py", "pytorch_model.bin", "data.pkl", "deep/config.json", "tokenizer/x.so")
    hub.add(NAME, {**files, **dict.fromkeys(others, b"boom"), "tokenizer/vocab.txt": b"a"})
    folder = download(HubName(NAME))
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    expected = {name for name in files if name.endswith((".json", ".safetensors"))}
    assert names == expected | {"tokenizer/vocab.txt"}


def test_offline_uses_the_cache(
    files: dict[str, bytes], folder: ModelFolder, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    hub.add(NAME, files)
    assert swclip.load(NAME).fingerprint == folder.fingerprint
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert swclip.load(NAME).fingerprint == folder.fingerprint
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    count = len(hub.requests)
    assert swclip.load(NAME).fingerprint == folder.fingerprint
    with pytest.raises(HubError, match=r"hf://ada/york: the hub cannot be reached and the model was not downloaded"):
        swclip.load("ada/york")
    assert len(hub.requests) == count


def test_a_published_model_locates_among_the_photographs_of_a_manifest(
    files: dict[str, bytes], hub: FakeHub, town: Path, trained: Path, tmp_path: Path
) -> None:
    hub.add(NAME, files)
    locator = swclip.Locator.from_pretrained(f"hf://{NAME}", town)
    photograph = read_manifest(town).image_paths[0]
    swclip.build_gallery(trained / "run", town, tmp_path / "gallery")
    (expected,) = swclip.locate(tmp_path / "gallery", photograph)
    (answer,) = locator.locate(photograph)
    assert answer.region is not None
    assert answer == expected


@pytest.mark.parametrize("tower", ["builtin:street", "dinov2"])
def test_a_tower_is_not_a_trained_model(tower: str, town: Path, towers: Path) -> None:
    name = tower if ":" in tower else str(towers / tower)
    with pytest.raises(ArtefactError, match=rf"{name}: is .* tower.*--image-tower {name} --freeze image"):
        swclip.Locator.from_pretrained(name, town)


def test_unreachable_hub_without_cache_raises(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match=r"cannot be reached and the model was not downloaded before .*go online"):
        swclip.load(f"hf://{NAME}")


def test_missing_and_private_models_raise(
    files: dict[str, bytes], hub: FakeHub, monkeypatch: pytest.MonkeyPatch, town: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    with pytest.raises(HubError, match="the hub has no such model, or it is private"):
        swclip.load(NAME)
    hub.add(NAME, files, private=True)
    with pytest.raises(HubError, match=r"hf://ada/leeds@v9: the hub has no revision 'v9'"):
        swclip.load(f"hf://{NAME}@v9")
    monkeypatch.setenv("HF_TOKEN", STRANGER)
    with pytest.raises(HubError, match="private and the token"):
        swclip.load(NAME)
    assert run(["index", f"hf://{NAME}", str(town), f"--out={tmp_path / 'gallery'}"]) == 8
    errors = capsys.readouterr().err
    assert "private and the token" in errors
    assert STRANGER not in errors
    assert not (tmp_path / "gallery").exists()


def test_interrupted_download_can_be_repeated(files: dict[str, bytes], folder: ModelFolder, hub: FakeHub) -> None:
    hub.add(NAME, files)
    hub.fail("/resolve/", 403, times=50)
    with pytest.raises(HubError, match=r"download failed|cannot be reached"):
        swclip.load(NAME)
    hub.faults.clear()
    assert swclip.load(NAME).fingerprint == folder.fingerprint


def test_rejects_repositories_without_a_valid_model(files: dict[str, bytes], hub: FakeHub) -> None:
    hub.add(NAME, {"notes.txt": b"nothing here"})
    with pytest.raises(ArtefactError, match=r"hf://ada/leeds: is not a swclip model \(config.json is missing\)"):
        swclip.load(NAME)
    hub.add("ada/bert", {"config.json": b'{"model_type": "bert"}'})
    with pytest.raises(ArtefactError, match=r"is a tower of transformers \(bert\)"):
        swclip.load("ada/bert")
    values = json.loads(files["config.json"])
    values["image_architecture"] = {"auto_map": {"AutoModel": "eve/code--trap.Trap"}}
    hub.add("eve/trap", {**files, "config.json": json.dumps(values).encode()})
    with pytest.raises(ArtefactError, match="asks for remote code"):
        swclip.load("eve/trap")
