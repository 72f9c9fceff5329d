"""`swclip push` to a hub and the way back: the same model, bit for bit, whatever was there before."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import swclip
from swclip.cli.app import run
from swclip.data.manifest import read_manifest
from swclip.models.embed import embed_photographs
from swclip.models.locator_model import LocatorModel, load_model
from swclip.retrieval.locator import Locator

from .stand_in import StandIn

# The hub's library sends large files in a way that its HTTP library would rather have called by another name.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload:DeprecationWarning")
NAME = "ada/leeds"
POSITIONS = torch.tensor([[53.8, -1.55], [53.802, -1.548], [0.0, 0.0]], dtype=torch.float64)


def push(run_folder: Path, *more: str) -> int:
    return run(["push", str(run_folder), NAME, *more])


def test_there_and_back_is_the_same_model(
    trained: Path, town: Path, hub: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.large_from = 50_000
    assert push(trained / "run", f"--report={trained / 'report'}", "--licence=apache-2.0", "--message=first") == 0
    captured = capsys.readouterr()
    head = hub.head(NAME)
    assert captured.out == f"{hub.address}/{NAME}/commit/{head.oid}\n"
    assert head.message == "first"
    assert not hub.repositories[NAME].private
    assert head.large == {"model.safetensors"}, "the weights went the way of large files"
    assert set(head.files) == {
        ".gitattributes", "README.md", "bank.safetensors", "config.json", "config.toml", "model.safetensors",
        "posterior.json", "preprocess.json", "regions.json",
    }  # fmt: skip
    own, back = load_model(trained / "run"), swclip.load(f"hf://{NAME}")
    assert back.fingerprint == own.fingerprint
    paths = read_manifest(town).image_paths[:8]
    assert (embed_photographs(back, paths) == embed_photographs(own, paths)).all()
    with torch.no_grad():
        assert torch.equal(back.position_embeddings(POSITIONS), own.position_embeddings(POSITIONS))
    assert swclip.load(NAME).fingerprint == own.fingerprint, "the scheme may be left out"
    assert LocatorModel.from_pretrained(NAME).fingerprint == own.fingerprint

    # The gallery of the published model answers as that of the run, the posterior, regions and hubness included.
    for source, name in ((str(trained / "run"), "own"), (f"hf://{NAME}", "back")):
        assert run(["index", source, str(town), f"--out={tmp_path / name}"]) == 0
    answers = [Locator.from_gallery(tmp_path / name).locate(paths) for name in ("own", "back")]
    assert [a.as_dict() for a in answers[0]] == [a.as_dict() for a in answers[1]]
    assert answers[1][0].region is not None


def test_the_same_again_is_no_new_commit(trained: Path, hub: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    hub.large_from = 50_000
    assert push(trained / "run", "--no-verify") == 0
    first, sent = hub.head(NAME), hub.asked("PUT /store")
    assert push(trained / "run") == 0
    assert hub.head(NAME) is first
    assert hub.asked("PUT /store") == sent == 1
    captured = capsys.readouterr()
    assert f"{NAME} is there, at commit {first.oid[:12]}" in captured.err
    assert "as it was before" in captured.err


def test_what_others_put_there_stays_and_what_an_earlier_model_left_goes(
    trained: Path, hub: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    before = hub.add(
        NAME, {"picture.png": b"png", "README.md": b"of old", "tokenizer/tokenizer.json": b"{}", "run.py": b"pass"}
    )
    assert push(trained / "run") == 0
    head = hub.head(NAME)
    assert head.files["picture.png"] == b"png"
    assert head.files["README.md"].startswith(b"---\nlibrary_name: swclip")
    assert "tokenizer/tokenizer.json" not in head.files, "it would be read with weights that have no text tower"
    captured = capsys.readouterr()
    assert f"at commit {before.oid[:12]}; the model goes on top of it" in captured.err
    assert "removed, of an earlier model: tokenizer/tokenizer.json" in captured.err
    assert swclip.load(NAME).fingerprint == load_model(trained / "run").fingerprint


def test_private_and_on_a_branch(trained: Path, hub: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    assert push(trained / "run", "--private", "--revision=trial") == 0
    repository = hub.repositories[NAME]
    assert repository.private
    assert set(hub.head(NAME).files) == {".gitattributes"}, "main is as it was made"
    assert "model.safetensors" in hub.head(NAME, "trial").files
    assert swclip.load(f"hf://{NAME}@trial").fingerprint == load_model(trained / "run").fingerprint
    assert push(trained / "run", "--private", "--revision=trial", "--no-verify") == 0
    assert hub.asked("POST /api/models/ada/leeds/branch") == 1, "a branch that is there is not made again"
    hub.add("ada/open", {"a": b"a"})
    seen = len(hub.seen)
    assert run(["push", str(trained / "run"), "ada/open", "--private"]) == 8
    assert "is there and public, and --private was asked for; nothing was sent" in capsys.readouterr().err
    assert all(line.startswith("GET ") for line in hub.seen[seen:])


def test_a_dry_run_asks_nobody_and_leaves_the_folder(
    trained: Path, hub: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    out = tmp_path / "out"
    assert push(trained / "run", f"--dry-run={out}") == 0
    assert hub.seen == []
    assert capsys.readouterr().out == f"{out}\n"
    assert load_model(out).fingerprint == load_model(trained / "run").fingerprint
    monkeypatch.setenv("HF_TOKEN", "hf_of-ada-may-write")
    assert push(trained / "run") == 0
    files = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert files.items() <= hub.head(NAME).files.items(), "what was looked at is what is sent"
    assert push(trained / "run", f"--dry-run={out}") == 0, "a folder of the same kind is replaced"
