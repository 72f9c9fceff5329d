"""Loading a model by its name on a hub: what is fetched, without a network, and what is not a model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import swclip
from swclip.cli.app import run
from swclip.errors import ArtefactError, HubError
from swclip.hub.folder import ModelFolder, write_model_folder
from swclip.models.download import HubName, download

from .stand_in import STRANGER, StandIn

NAME = "ada/leeds"


@pytest.fixture(scope="module")
def folder(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return write_model_folder(tmp_path_factory.mktemp("ready") / "model", trained / "run", NAME)


@pytest.fixture
def files(folder: ModelFolder) -> dict[str, bytes]:
    return {name: (folder.path / name).read_bytes() for name in folder.files}


def test_nothing_but_safetensors_json_and_word_lists_is_fetched(files: dict[str, bytes], hub: StandIn) -> None:
    others = ("model.py", "tokenizer/tokens.py", "pytorch_model.bin", "data.pkl", "deep/config.json", "tokenizer/x.so")
    hub.add(NAME, {**files, **dict.fromkeys(others, b"boom"), "tokenizer/vocab.txt": b"a"})
    found = download(HubName(NAME))
    names = {path.relative_to(found).as_posix() for path in found.rglob("*") if path.is_file()}
    wanted = {name for name in files if name.endswith((".json", ".safetensors"))}
    assert names == wanted | {"tokenizer/vocab.txt"}


def test_without_a_network_what_was_fetched_before_is_used(
    files: dict[str, bytes], folder: ModelFolder, hub: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    hub.add(NAME, files)
    assert swclip.load(NAME).fingerprint == folder.fingerprint
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert swclip.load(NAME).fingerprint == folder.fingerprint
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    seen = len(hub.seen)
    assert swclip.load(NAME).fingerprint == folder.fingerprint
    with pytest.raises(HubError, match=r"hf://ada/york: the hub cannot be reached and the model was not downloaded"):
        swclip.load("ada/york")
    assert len(hub.seen) == seen


def test_a_hub_that_is_not_there(hub: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match=r"cannot be reached and the model was not downloaded before .*go online"):
        swclip.load(f"hf://{NAME}")


def test_what_the_hub_does_not_have_or_may_not_show(
    files: dict[str, bytes], hub: StandIn, monkeypatch: pytest.MonkeyPatch, town: Path, tmp_path: Path,
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


def test_a_download_that_breaks_off(files: dict[str, bytes], folder: ModelFolder, hub: StandIn) -> None:
    hub.add(NAME, files)
    hub.fail("/resolve/", 403, times=50)
    with pytest.raises(HubError, match=r"download failed|cannot be reached"):
        swclip.load(NAME)
    hub.faults.clear()
    assert swclip.load(NAME).fingerprint == folder.fingerprint


def test_repositories_that_hold_something_else(files: dict[str, bytes], hub: StandIn) -> None:
    hub.add(NAME, {"notes.txt": b"nothing here"})
    with pytest.raises(ArtefactError, match=r"hf://ada/leeds: holds no swclip model \(config.json is missing\)"):
        swclip.load(NAME)
    hub.add("ada/bert", {"config.json": b'{"model_type": "bert"}'})
    with pytest.raises(ArtefactError, match="model format None"):
        swclip.load("ada/bert")
    values = json.loads(files["config.json"])
    values["image_architecture"] = {"auto_map": {"AutoModel": "eve/code--trap.Trap"}}
    hub.add("eve/trap", {**files, "config.json": json.dumps(values).encode()})
    with pytest.raises(ArtefactError, match="asks for code from elsewhere"):
        swclip.load("eve/trap")
