"""`swclip doctor`, `completion` and `recipes`: what they print, and that a shell understands it."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tomllib
from pathlib import Path

import pytest

from swclip.cli.app import run
from swclip.cli.doctor import _PURPOSES
from swclip.training.config import load_recipe, recipe_names

ROOT = Path(__file__).resolve().parents[2]


def _findings(capsys: pytest.CaptureFixture[str], code: int = 0) -> dict[str, dict[str, str]]:
    capsys.readouterr()
    assert run(["doctor", "--format", "json"]) == code
    return {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}


def test_doctor_finds_what_is_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "features").write_bytes(bytes(2_500_000))
    monkeypatch.setenv("SWCLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as hub:
        address = f"http://127.0.0.1:{hub.getsockname()[1]}"
        monkeypatch.setenv("HF_ENDPOINT", address)
        findings = _findings(capsys)
    assert findings["packages"]["state"] == findings["memory"]["state"] == "ok"
    assert findings["cache"]["text"].startswith(f"{tmp_path / 'cache'}, 2.5 MB; ")
    assert findings["model hub"] == {"name": "model hub", "state": "ok", "text": f"{address} can be reached"}
    assert _findings(capsys)["model hub"]["state"] == "note", "nobody listens there any more"
    assert run(["doctor"]) == 0
    shown = capsys.readouterr()
    assert shown.out.split()[:2] == ["ok", "swclip"]
    assert shown.err == "Next: swclip demo\n"


def test_a_cache_that_cannot_be_written_is_a_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SWCLIP_CACHE", str(tmp_path / "file" / "cache"))
    cache = _findings(capsys, code=1)["cache"]
    assert cache["state"] == "fault"
    assert "cannot be written" in cache["text"]
    assert run(["doctor"]) == 1
    assert capsys.readouterr().err.startswith("Next: cache: ")


def test_packages_that_are_missing_or_too_old_are_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = ["numpy>=1.26", "torch>=99", "no-such-package>=1", 'other-package>=2; extra == "serve"']
    monkeypatch.setattr("importlib.metadata.requires", lambda name: needed)
    findings = _findings(capsys, code=1)
    assert findings["packages"]["state"] == "fault"
    assert "is not >=99, no-such-package is missing; run: pip install" in findings["packages"]["text"]
    assert findings["for swclip serve"] == {
        "name": "for swclip serve",
        "state": "note",
        "text": "other-package is missing; run: pip install 'swclip[serve]'",
    }
    assert findings["for swclip export"]["state"] == "ok"


def test_doctor_knows_what_each_extra_is_for() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(_PURPOSES) == {name for name in extras if name not in ("dev", "docs")}


@pytest.mark.parametrize(
    ("typed", "expected"),
    [("lo", ["locate"]), ("gallery b", ["build-index"]), ("train --image-t", ["--image-tower"])],
)
def test_bash_completes_commands_and_options(
    typed: str, expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    asked = f'COMP_WORDS=(swclip {typed}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _swclip; echo "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", f"{script}\n{asked}"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == expected


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_read_their_script(shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "image-tower" in script
    if shutil.which(shell):
        (tmp_path / "script").write_text(script)
        subprocess.run([shell, "-n", str(tmp_path / "script")], check=True)


def test_recipes_are_listed_and_shown_completely(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run(["recipes", "list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == recipe_names()
    assert run(["recipes", "show", "sw-clip-plus"]) == 0
    (tmp_path / "mine.toml").write_text(capsys.readouterr().out)
    assert load_recipe(tmp_path / "mine.toml") == load_recipe("sw-clip-plus")
    assert run(["recipes", "show", "no-such-recipe"]) == 5
    assert "is neither a shipped one" in capsys.readouterr().err
