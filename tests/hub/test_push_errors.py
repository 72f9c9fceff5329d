"""Errors of pushing to a hub: one message that says what to do, without the token, and no incomplete model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from swclip.cli.app import run
from swclip.errors import HubError
from swclip.hub import upload
from swclip.hub.folder import ModelFolder, write_model_folder
from swclip.hub.upload import push_folder

from .fake_hub import READER, STRANGER, WRITER, FakeHub

# huggingface_hub uploads large files with a deprecated argument of its HTTP library.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload:DeprecationWarning")
NAME = "ada/leeds"


@pytest.fixture(scope="module")
def folder(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return write_model_folder(tmp_path_factory.mktemp("ready") / "model", trained / "run", NAME)


def assert_rejected(code: int, message: str, capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    capsys.readouterr()
    assert run(["push", *map(str, arguments)]) == code
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors
    assert not any(token in errors for token in (WRITER, READER, STRANGER))
    return errors


def test_missing_token_raises_before_any_request(
    folder: ModelFolder, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match="set HF_TOKEN to one with write access, or log in with `hf auth login`"):
        push_folder(folder, NAME, endpoint=hub.address)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("hf_nobodys", "the hub does not know the token"),
        (READER, r"the token has no write access \(403\)"),
        (STRANGER, r"the token has no write access \(403\)"),
    ],
)
def test_token_without_write_access(
    token: str, message: str, folder: ModelFolder, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(HubError, match=message) as raised:
        push_folder(folder, NAME, endpoint=hub.address)
    assert token not in str(raised.value)
    assert raised.value.__cause__ is None
    assert NAME not in hub.repositories
    hub.add(NAME, {})
    before = hub.head(NAME)
    with pytest.raises(HubError, match=message):
        push_folder(folder, NAME, endpoint=hub.address)
    assert hub.head(NAME) is before


def test_interrupted_push_can_be_repeated(folder: ModelFolder, hub: FakeHub) -> None:
    hub.large_from = 1_000
    hub.fail("POST /api/models/ada/leeds/commit", 500)
    with pytest.raises(HubError, match=r"interrupted.*Give the same command again"):
        push_folder(folder, NAME, endpoint=hub.address)
    assert set(hub.head(NAME).files) == {".gitattributes"}, "no incomplete model is visible"
    sent = hub.count_requests("PUT /store")
    assert sent > 1
    pushed = push_folder(folder, NAME, endpoint=hub.address)
    assert pushed.changed
    assert hub.count_requests("PUT /store") == sent, "uploaded files are not sent again"
    assert set(folder.files) <= set(hub.head(NAME).files)


def test_upload_of_a_large_file_is_retried(folder: ModelFolder, hub: FakeHub) -> None:
    hub.large_from = 50_000
    hub.fail("PUT /store", 503)
    assert push_folder(folder, NAME, endpoint=hub.address).verified
    assert hub.count_requests("PUT /store") == len(hub.head(NAME).large) + 1


@pytest.mark.parametrize(
    ("pattern", "status", "message"),
    [
        ("/preupload/", 413, "rejects files or commits of this size"),
        ("/commit/", 413, "rejects files or commits of this size"),
        ("/commit/", 412, "somebody else committed in the meantime"),
        ("/validate-yaml", 400, "the hub rejects the upload"),
    ],
)
def test_error_message_for_each_status(
    pattern: str, status: int, message: str, folder: ModelFolder, hub: FakeHub
) -> None:
    hub.fail(pattern, status)
    with pytest.raises(HubError, match=message):
        push_folder(folder, NAME, endpoint=hub.address)
    assert set(hub.head(NAME).files) == {".gitattributes"}


def test_concurrent_commit_is_not_overwritten(
    folder: ModelFolder, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(NAME, {"README.md": b"one"})
    original = upload._is_model_file
    calls: list[str] = []

    def commit_first(name: str) -> bool:
        if not calls:
            hub.add(NAME, {"README.md": b"two"})
        calls.append(name)
        return original(name)

    monkeypatch.setattr(upload, "_is_model_file", commit_first)
    with pytest.raises(HubError, match=r"somebody else committed in the meantime \(412\)"):
        push_folder(folder, NAME, endpoint=hub.address)
    assert hub.head(NAME).files["README.md"] == b"two"


def test_corrupted_download_raises(folder: ModelFolder, hub: FakeHub) -> None:
    hub.large_from, hub.corrupts_downloads = 50_000, True
    with pytest.raises(HubError, match=r"the hub returned another model\.safetensors"):
        push_folder(folder, NAME, endpoint=hub.address)


def test_hub_without_xet_names_the_setting(folder: ModelFolder, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("hf_xet", reason="without it large files are uploaded by LFS")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", False)
    hub.large_from = 50_000
    with pytest.raises(HubError, match="If this hub does not support Xet, set HF_HUB_DISABLE_XET=1"):
        push_folder(folder, NAME, endpoint=hub.address)
    assert hub.count_requests("xet-write-token") > 0
    assert set(hub.head(NAME).files) == {".gitattributes"}


def test_unreachable_hub_raises(folder: ModelFolder, hub: FakeHub) -> None:
    with pytest.raises(HubError, match="interrupted"):
        push_folder(folder, NAME, endpoint="http://127.0.0.1:9")


def test_rejects_endpoints_without_encryption(trained: Path, hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    assert_rejected(5, "begins with https://", capsys, trained / "run", NAME, "--endpoint=http://hub.example.org")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["leeds"], 5, "must be OWNER/NAME"),
        (["ada/leeds@v1"], 5, "a branch with --revision"),
        (["../leeds"], 5, "must be OWNER/NAME"),
        ([NAME, "--licence=My own"], 5, "give the hub's identifier"),
        ([NAME, "--dataset=photographs"], 5, "dataset 'photographs': give its name on the hub"),
        ([NAME, "--base-model=/home/ada/tower"], 5, "base model '/home/ada/tower': give its name on the hub"),
        ([NAME, "--report=nowhere.json"], 3, "nowhere.json: the report is missing"),
        ([NAME, "--manifest=nowhere"], 3, "nowhere"),
    ],
)
def test_rejects_invalid_arguments_before_any_request(
    arguments: list[str], code: int, message: str, trained: Path, hub: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_rejected(code, message, capsys, trained / "run", *arguments)
    assert hub.requests == []


def test_rejects_unfinished_and_damaged_runs(
    trained: Path, hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_rejected(3, "is not a run (run.json is missing)", capsys, tmp_path, NAME)
    copy = tmp_path / "run"
    shutil.copytree(trained / "run", copy)
    facts = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**facts, "status": "running"}))
    assert_rejected(3, "this run has not finished", capsys, copy, NAME)
    (copy / "run.json").write_text(json.dumps(facts))
    weights = copy / "model" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert_rejected(3, "a file was changed after training", capsys, copy, NAME)
    weights.write_bytes(whole[: len(whole) // 2])
    assert_rejected(3, "the model is cut short", capsys, copy, NAME)
    weights.write_bytes(whole)
    (copy / "model" / "posterior.json").write_text('{"image_weight": 7}')
    assert_rejected(3, "posterior.json", capsys, copy, NAME)
    assert hub.requests == []


def test_rejects_report_of_another_model(
    trained: Path, hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = json.loads((trained / "report" / "report.json").read_text())
    report["made_with"]["model"] = "0" * 32
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert_rejected(4, "this report evaluates model 0000", capsys, trained / "run", NAME, f"--report={tmp_path}")
    assert hub.requests == []
