"""`swclip push` to a hub and loading from it: the model is identical, whatever the repository contained."""

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

from .fake_hub import FakeHub

# huggingface_hub uploads large files with a deprecated argument of its HTTP library.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload:DeprecationWarning")
NAME = "ada/leeds"
POSITIONS = torch.tensor([[53.8, -1.55], [53.802, -1.548], [0.0, 0.0]], dtype=torch.float64)


def push(run_folder: Path, *more: str) -> int:
    return run(["push", str(run_folder), NAME, *more])


def test_pushed_model_is_identical_after_loading(
    trained: Path, town: Path, hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.large_from = 50_000
    assert push(trained / "run", f"--report={trained / 'report'}", "--licence=apache-2.0", "--message=first") == 0
    captured = capsys.readouterr()
    head = hub.head(NAME)
    assert captured.out == f"{hub.address}/{NAME}/commit/{head.oid}\n"
    assert head.message == "first"
    assert not hub.repositories[NAME].private
    assert head.large == {"model.safetensors", "novelty.safetensors"}, "these are stored as large files"
    assert set(head.files) == {
        ".gitattributes", "README.md", "bank.safetensors", "config.json", "config.toml", "model.safetensors",
        "novelty.safetensors", "posterior.json", "preprocess.json", "regions.json",
    }  # fmt: skip
    local, loaded = load_model(trained / "run"), swclip.load(f"hf://{NAME}")
    assert loaded.fingerprint == local.fingerprint
    paths = read_manifest(town).image_paths[:8]
    assert (embed_photographs(loaded, paths) == embed_photographs(local, paths)).all()
    with torch.no_grad():
        assert torch.equal(loaded.position_embeddings(POSITIONS), local.position_embeddings(POSITIONS))
    assert swclip.load(NAME).fingerprint == local.fingerprint, "the scheme may be left out"
    assert LocatorModel.from_pretrained(NAME).fingerprint == local.fingerprint

    # Galleries of the published model and of the run give equal answers, including posterior, regions and hubness.
    for source, name in ((str(trained / "run"), "local"), (f"hf://{NAME}", "loaded")):
        assert run(["index", source, str(town), f"--out={tmp_path / name}"]) == 0
    answers = [Locator.from_gallery(tmp_path / name).locate(paths) for name in ("local", "loaded")]
    assert [a.as_dict() for a in answers[0]] == [a.as_dict() for a in answers[1]]
    assert answers[1][0].region is not None


def test_repeated_push_makes_no_new_commit(trained: Path, hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    hub.large_from = 50_000
    assert push(trained / "run", "--no-verify") == 0
    first, sent = hub.head(NAME), hub.count_requests("PUT /store")
    assert push(trained / "run") == 0
    assert hub.head(NAME) is first
    assert hub.count_requests("PUT /store") == sent == 2
    captured = capsys.readouterr()
    assert f"{NAME} exists, at commit {first.oid[:12]}" in captured.err
    assert "(unchanged)" in captured.err


def test_keeps_other_files_and_removes_those_of_an_earlier_model(
    trained: Path, hub: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    before = hub.add(
        NAME, {"picture.png": b"png", "README.md": b"of old", "tokenizer/tokenizer.json": b"{}", "run.py": b"pass"}
    )
    assert push(trained / "run") == 0
    head = hub.head(NAME)
    assert head.files["picture.png"] == b"png"
    assert head.files["README.md"].startswith(b"---\nlibrary_name: swclip")
    assert "tokenizer/tokenizer.json" not in head.files, "it would be loaded with weights without a text tower"
    captured = capsys.readouterr()
    assert f"at commit {before.oid[:12]}; the model is added as a new commit" in captured.err
    assert "removed files of an earlier model: tokenizer/tokenizer.json" in captured.err
    assert swclip.load(NAME).fingerprint == load_model(trained / "run").fingerprint


def test_pushes_to_a_private_repository_and_a_branch(
    trained: Path, hub: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(trained / "run", "--private", "--revision=trial") == 0
    repository = hub.repositories[NAME]
    assert repository.private
    assert set(hub.head(NAME).files) == {".gitattributes"}, "main is unchanged"
    assert "model.safetensors" in hub.head(NAME, "trial").files
    assert swclip.load(f"hf://{NAME}@trial").fingerprint == load_model(trained / "run").fingerprint
    assert push(trained / "run", "--private", "--revision=trial", "--no-verify") == 0
    assert hub.count_requests("POST /api/models/ada/leeds/branch") == 1, "an existing branch is not created again"
    hub.add("ada/open", {"a": b"a"})
    count = len(hub.requests)
    assert run(["push", str(trained / "run"), "ada/open", "--private"]) == 8
    assert "exists and is public, but --private is given; nothing was sent" in capsys.readouterr().err
    assert all(line.startswith("GET ") for line in hub.requests[count:])


def test_dry_run_writes_the_folder_without_requests(
    trained: Path, hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    out = tmp_path / "out"
    assert push(trained / "run", f"--dry-run={out}") == 0
    assert hub.requests == []
    assert capsys.readouterr().out == f"{out}\n"
    assert load_model(out).fingerprint == load_model(trained / "run").fingerprint
    monkeypatch.setenv("HF_TOKEN", "hf_of-ada-may-write")
    assert push(trained / "run") == 0
    files = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert files.items() <= hub.head(NAME).files.items(), "the dry run shows the files that are sent"
    assert push(trained / "run", f"--dry-run={out}") == 0, "a folder of the same kind is replaced"
