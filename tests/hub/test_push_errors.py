"""What can go wrong on the way to a hub: one message that says what to do, no token in it, nothing half visible."""

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

from .stand_in import READER, STRANGER, WRITER, StandIn

# The hub's library sends large files in a way that its HTTP library would rather have called by another name.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload:DeprecationWarning")
NAME = "ada/leeds"


@pytest.fixture(scope="module")
def folder(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return write_model_folder(tmp_path_factory.mktemp("ready") / "model", trained / "run", NAME)


def refused(code: int, message: str, capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    capsys.readouterr()
    assert run(["push", *map(str, arguments)]) == code
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors
    assert not any(token in errors for token in (WRITER, READER, STRANGER))
    return errors


def test_without_a_token_nothing_is_asked(folder: ModelFolder, hub: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match="set HF_TOKEN to one that may write, or log in with `hf auth login`"):
        push_folder(folder, NAME, endpoint=hub.address)
    assert hub.seen == []


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("hf_nobodys", "the hub does not know the token"),
        (READER, r"the token may not write there \(403\)"),
        (STRANGER, r"the token may not write there \(403\)"),
    ],
)
def test_a_token_that_may_not(
    token: str, message: str, folder: ModelFolder, hub: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(HubError, match=message) as caught:
        push_folder(folder, NAME, endpoint=hub.address)
    assert token not in str(caught.value)
    assert caught.value.__cause__ is None
    assert NAME not in hub.repositories
    hub.add(NAME, {})
    before = hub.head(NAME)
    with pytest.raises(HubError, match=message):
        push_folder(folder, NAME, endpoint=hub.address)
    assert hub.head(NAME) is before


def test_a_hub_that_fails_midway_and_the_same_command_again(folder: ModelFolder, hub: StandIn) -> None:
    hub.large_from = 1_000
    hub.fail("POST /api/models/ada/leeds/commit", 500)
    with pytest.raises(HubError, match=r"interrupted.*Give the same command again"):
        push_folder(folder, NAME, endpoint=hub.address)
    assert set(hub.head(NAME).files) == {".gitattributes"}, "nothing half is visible"
    sent = hub.asked("PUT /store")
    assert sent > 1
    pushed = push_folder(folder, NAME, endpoint=hub.address)
    assert pushed.changed
    assert hub.asked("PUT /store") == sent, "what had arrived is not sent again"
    assert set(folder.files) <= set(hub.head(NAME).files)


def test_a_large_file_is_sent_again_by_itself_when_the_store_stumbles(folder: ModelFolder, hub: StandIn) -> None:
    hub.large_from = 50_000
    hub.fail("PUT /store", 503)
    assert push_folder(folder, NAME, endpoint=hub.address).verified
    assert hub.asked("PUT /store") == 2


@pytest.mark.parametrize(
    ("what", "status", "message"),
    [
        ("/preupload/", 413, "no file or commit as large as this"),
        ("/commit/", 413, "no file or commit as large as this"),
        ("/commit/", 412, "somebody else committed in the meantime"),
        ("/validate-yaml", 400, "the hub does not take it"),
    ],
)
def test_refusals_by_their_status(what: str, status: int, message: str, folder: ModelFolder, hub: StandIn) -> None:
    hub.fail(what, status)
    with pytest.raises(HubError, match=message):
        push_folder(folder, NAME, endpoint=hub.address)
    assert set(hub.head(NAME).files) == {".gitattributes"}


def test_somebody_elses_commit_in_between_is_not_overwritten(
    folder: ModelFolder, hub: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(NAME, {"README.md": b"one"})
    there = upload._is_ours
    calls: list[str] = []

    def slow(name: str) -> bool:
        if not calls:
            hub.add(NAME, {"README.md": b"two"})
        calls.append(name)
        return there(name)

    monkeypatch.setattr(upload, "_is_ours", slow)
    with pytest.raises(HubError, match=r"somebody else committed in the meantime \(412\)"):
        push_folder(folder, NAME, endpoint=hub.address)
    assert hub.head(NAME).files["README.md"] == b"two"


def test_a_hub_that_gives_back_something_else(folder: ModelFolder, hub: StandIn) -> None:
    hub.large_from, hub.spoils = 50_000, True
    with pytest.raises(HubError, match=r"model\.safetensors came back from the hub as another file"):
        push_folder(folder, NAME, endpoint=hub.address)


def test_a_hub_that_knows_no_xet(folder: ModelFolder, hub: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("hf_xet", reason="without it large files go by LFS anyway")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", False)
    hub.large_from = 50_000
    with pytest.raises(HubError, match="If this hub does not know Xet, set HF_HUB_DISABLE_XET=1"):
        push_folder(folder, NAME, endpoint=hub.address)
    assert hub.asked("xet-write-token") > 0
    assert set(hub.head(NAME).files) == {".gitattributes"}


def test_no_hub_at_the_address(folder: ModelFolder, hub: StandIn) -> None:
    with pytest.raises(HubError, match="interrupted"):
        push_folder(folder, NAME, endpoint="http://127.0.0.1:9")


def test_a_token_is_not_sent_in_clear_text(trained: Path, hub: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    refused(5, "begins with https://", capsys, trained / "run", NAME, "--endpoint=http://hub.example.org")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["leeds"], 5, "give the repository as OWNER/NAME"),
        (["ada/leeds@v1"], 5, "a branch with --revision"),
        (["../leeds"], 5, "give the repository as OWNER/NAME"),
        ([NAME, "--licence=My own"], 5, "give the hub's identifier"),
        ([NAME, "--dataset=photographs"], 5, "dataset 'photographs': give its name on the hub"),
        ([NAME, "--base-model=/home/ada/tower"], 5, "base model '/home/ada/tower': give its name on the hub"),
        ([NAME, "--report=nowhere.json"], 3, "nowhere.json: the report is not there"),
        ([NAME, "--manifest=nowhere"], 3, "nowhere"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_asked(
    arguments: list[str], code: int, message: str, trained: Path, hub: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(code, message, capsys, trained / "run", *arguments)
    assert hub.seen == []


def test_runs_that_cannot_be_published(
    trained: Path, hub: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(3, "no run is there (run.json is missing)", capsys, tmp_path, NAME)
    copy = tmp_path / "run"
    shutil.copytree(trained / "run", copy)
    facts = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**facts, "status": "running"}))
    refused(3, "this run has not finished", capsys, copy, NAME)
    (copy / "run.json").write_text(json.dumps(facts))
    weights = copy / "model" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    refused(3, "a file was changed after training", capsys, copy, NAME)
    weights.write_bytes(whole[: len(whole) // 2])
    refused(3, "the model is cut short", capsys, copy, NAME)
    weights.write_bytes(whole)
    (copy / "model" / "posterior.json").write_text('{"image_weight": 7}')
    refused(3, "posterior.json", capsys, copy, NAME)
    assert hub.seen == []


def test_a_report_on_another_model(
    trained: Path, hub: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = json.loads((trained / "report" / "report.json").read_text())
    report["made_with"]["model"] = "0" * 32
    (tmp_path / "report.json").write_text(json.dumps(report))
    refused(4, "this report is about model 0000", capsys, trained / "run", NAME, f"--report={tmp_path}")
    assert hub.seen == []
