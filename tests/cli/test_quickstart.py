"""`swclip quickstart`: all commands from a table of photographs to a gallery, and its resumption after a failure."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from pathlib import Path

import pytest

from swclip.cli.app import run
from swclip.cli.quickstart import BUILT_IN, PRETRAINED, _commands
from swclip.data.manifest import read_manifest
from swclip.training.config import load_recipe
from swclip.training.run import read_run

COMMANDS = ["prepare", "split", "train", "evaluate", "index"]


class Listener:
    """A hub that counts who connects to it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.setblocking(False)
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{self._server.getsockname()[1]}")
        monkeypatch.setenv("no_proxy", "*")

    def connections(self) -> int:
        """Close it, and return the number of connections that were not accepted yet."""
        count = 0
        with self._server, contextlib.suppress(BlockingIOError):
            while True:
                self._server.accept()[0].close()
                count += 1
        return count


@pytest.fixture
def table(town: Path, tmp_path: Path) -> Path:
    """A table of the town's photographs."""
    frame = read_manifest(town).frame[["image_path", "lat_deg", "lon_deg", "place_id"]]
    path = tmp_path / "trip.csv"
    frame.assign(image_path=[str(town / name) for name in frame["image_path"]]).to_csv(path, index=False)
    return path


def _shown(text: str) -> list[tuple[str, bool]]:
    """The commands that were shown, and whether each was done before."""
    parts = re.split(r"^\$ swclip (\w+) .*$", text, flags=re.MULTILINE)
    return [
        (name, after.strip().startswith("done before")) for name, after in zip(parts[1::2], parts[2::2], strict=True)
    ]


@pytest.mark.slow
def test_quickstart_leads_from_photographs_to_a_gallery_without_a_hub_and_resumes(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Listener(monkeypatch)
    out = tmp_path / "first"
    command = ["quickstart", str(table), "--out", str(out), "--city", "York"]
    capsys.readouterr()
    assert run([*command, "--steps", "0"]) == 5
    shown = capsys.readouterr().err
    assert re.match(r"About \d+ (s|min): 60 photographs, ", shown), "the time comes first"
    assert _shown(shown) == [(name, False) for name in COMMANDS[:3]]
    assert shown.splitlines()[-1].startswith("error: ")
    assert "steps 0 must be at least 1" in shown, "the message of the command that failed"
    manifest = (out / "data" / "manifest.parquet").stat().st_mtime_ns

    assert run([*command, "--steps", "3"]) == 0
    shown = capsys.readouterr()
    assert _shown(shown.err) == [(name, name in ("prepare", "split")) for name in COMMANDS]
    assert shown.err.splitlines()[-1] == f"Next: swclip locate {out / 'gallery'} PHOTOGRAPH --figure map.png"
    assert "Next: swclip evaluate" not in shown.err, "one next step, of the command that was typed"
    assert (out / "data" / "manifest.parquet").stat().st_mtime_ns == manifest
    command_of_run = read_run(out / "run").command or ""
    assert command_of_run.startswith("swclip train "), "records name the command that makes them"
    assert json.loads((out / "report" / "report.json").read_text())["n_queries"] > 0
    assert run(["locate", str(out / "gallery"), str(read_manifest(out / "data").image_paths[0])]) == 0
    assert json.loads(capsys.readouterr().out)[0]["city"] == "York"

    assert run([*command, "--steps", "3"]) == 0
    assert _shown(capsys.readouterr().err) == [(name, True) for name in COMMANDS]

    assert hub.connections() == 0
    config = load_recipe(str(out / "run" / "config.toml"))
    assert (config.model.image.tower, config.freeze_image) == (BUILT_IN, True)


def test_a_tower_can_be_named(tmp_path: Path) -> None:
    steps = _commands(Path("trip.csv"), tmp_path, None, "known-places", PRETRAINED, 3, 0)
    (training,) = (step.words for step in steps if step.words[0] == "train")
    assert training[training.index("--image-tower") :][:4] == ("--image-tower", PRETRAINED, "--freeze", "image")
