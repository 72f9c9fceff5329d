"""Names on the hub, and files from there that are refused; `tests/hub` tests the download itself."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from swclip.errors import ArtefactError, ConfigError
from swclip.models.download import HubName, check_harmless, hub_name, model_folder
from swclip.models.locator_model import LocatorModel, load_model


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hf://ada/leeds", HubName("ada/leeds")),
        ("hf://ada/leeds@v1.0", HubName("ada/leeds", "v1.0")),
        ("hf://ada/leeds@refs/pr/1", HubName("ada/leeds", "refs/pr/1")),
        ("ada/leeds", HubName("ada/leeds")),
        ("a-da_0/l.e-e_ds@main", HubName("a-da_0/l.e-e_ds", "main")),
        ("leeds", None),
        ("/ada/leeds", None),
        ("./ada/leeds", None),
        ("../leeds", None),
        ("ada/leeds/model", None),
        ("ada\\leeds", None),
        ("a b/leeds", None),
        ("", None),
        (Path("ada/leeds"), None),
    ],
)
def test_names_on_the_hub_are_recognised(
    name: str | Path, expected: HubName | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert hub_name(name) == expected


def test_existing_paths_take_precedence_and_local_folders_are_not_disclosed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "first").mkdir(parents=True)
    assert hub_name("runs/first") is None
    assert hub_name("runs/frist") is None
    assert hub_name("hf://runs/frist") == HubName("runs/frist"), "the scheme is certain"
    assert model_folder("runs/first") == Path("runs/first")
    with pytest.raises(ArtefactError, match="runs/frist: is not a swclip model"):
        load_model("runs/frist")


@pytest.mark.parametrize("name", ["hf://", "hf://leeds", "hf://ada/leeds/model", "hf:///leeds", "hf://ada/leeds@"])
def test_invalid_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="write hf://OWNER/NAME or hf://OWNER/NAME@REVISION"):
        hub_name(name)


def test_names_survive_formatting_and_parsing() -> None:
    for text in ("hf://ada/leeds", "hf://ada/leeds@v1"):
        assert str(hub_name(text)) == text


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("config.json", "auto_map", {"AutoModel": "eve/code--modeling.Trap"}),
        ("config.json", "_attn_implementation", "eve/kernels"),
        ("config.json", "experts_implementation", "eve/kernels"),
        ("config.json", "trust_remote_code", True),
        ("tokenizer/tokenizer_config.json", "auto_map", {"AutoTokenizer": ["eve/code--tokens.Trap", None]}),
    ],
)
def test_a_configuration_with_remote_code_is_refused(
    file: str, key: str, value: object, make_model: Callable[..., LocatorModel], tmp_path: Path
) -> None:
    make_model("dinov2", text="bert").save(tmp_path / "model")
    check_harmless(tmp_path / "model")
    path = tmp_path / "model" / file
    values = json.loads(path.read_text())
    if file == "config.json":
        values["image_architecture"]["deeper"] = [{key: value}]
    else:
        values[key] = value
    path.write_text(json.dumps(values))
    with pytest.raises(ArtefactError, match=f"{key} = .* asks for remote code"):
        check_harmless(tmp_path / "model")


def test_an_unchecked_tokenizer_runs_no_code_and_makes_no_request(
    make_model: Callable[..., LocatorModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_model(text="bert").save(tmp_path / "model")
    path = tmp_path / "model" / "tokenizer" / "tokenizer_config.json"
    values = json.loads(path.read_text())
    path.write_text(
        json.dumps({**values, "auto_map": {"AutoTokenizer": ["trap.Trap", None]}, "tokenizer_class": "Trap"})
    )
    (path.parent / "trap.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\n")
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with contextlib.suppress(ArtefactError, ConfigError):
        load_model(tmp_path / "model")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["pipeline", "AutoModel", "PreTrainedTokenizerFast", "utils", "__spec__"])
def test_only_model_classes_are_built_as_towers(
    name: str, make_model: Callable[..., LocatorModel], tmp_path: Path
) -> None:
    make_model("dinov2").save(tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    values = json.loads(path.read_text())
    values["image_architecture"]["swclip_class"] = name
    path.write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=f"does not know {name}"):
        load_model(tmp_path / "model")
