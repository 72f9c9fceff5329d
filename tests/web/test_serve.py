"""`swclip serve` as a process: requests, invalid options and shutdown."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from fixtures.service import send, started_process
from swclip.cli import serve as verb
from swclip.cli.app import run
from swclip.web.admission import VARIABLE


@pytest.mark.slow
def test_serves_and_stops_gracefully(gallery_folder: Path, town: Path, photographs: list[bytes]) -> None:
    key = "correct-horse-battery"
    process, address = started_process(gallery_folder, "--photographs", str(town), "--max-files=2", **{VARIABLE: key})
    with process, httpx.Client(base_url=address, timeout=60, trust_env=False) as client:
        try:
            assert client.get("/readyz").status_code == 200
            assert client.get("/v2/gallery").status_code == 401
            client.headers["X-API-Key"] = key
            assert client.get("/v2/gallery").json()["limits"]["max_files"] == 2
            assert client.post("/v2/locate", **send(photographs[:2])).status_code == 200
            assert client.post("/v2/locate", **send(photographs[:3])).status_code == 413
            assert client.get("/v2/gallery/photographs/p00-0").status_code == 200
            assert client.get("/").status_code == 200
        finally:
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert output == ""
    assert "Traceback" not in errors
    assert key not in errors
    assert "POST /v2/locate 200" in errors


def test_address_in_use_is_reported(gallery_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run(["serve", str(gallery_folder), "--port", str(port)]) == 2
    assert f"cannot listen on 127.0.0.1 port {port}" in capsys.readouterr().err
    assert run(["serve", str(gallery_folder), "--host", "host.invalid", "--port", "0"]) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--tiles", "https://example.org/tiles"], 5, "{z}, {x} and {y}"),
        (["--tiles", "https://example.org/{z}/{x}/{y}.png"], 5, "--attribution"),
        (["--max-batch", "0"], 5, "--max-batch 0: must be above 0"),
        (["--photographs", "nowhere"], 3, "nowhere"),
        (["--model", "nowhere"], 3, "nowhere"),
    ],
)
def test_invalid_options_are_refused_before_listening(
    gallery_folder: Path, arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["serve", str(gallery_folder), "--port", "0", *arguments]) == code
    assert words in capsys.readouterr().err


def test_missing_gallery_and_invalid_keys_are_refused(
    gallery_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["serve", str(tmp_path), "--port", "0"]) == 3
    monkeypatch.setenv(VARIABLE, "short")
    assert run(["serve", str(gallery_folder), "--port", "0"]) == 5
    assert VARIABLE in capsys.readouterr().err


def test_missing_libraries_are_named(
    gallery_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there: Any = verb.find_spec
    monkeypatch.setattr(verb, "find_spec", lambda name: None if name in ("fastapi", "uvicorn") else there(name))
    assert run(["serve", str(gallery_folder)]) == 9
    assert "fastapi, uvicorn; install them with: pip install 'swclip[serve]'" in capsys.readouterr().err


def test_help_lists_all_options_without_heavy_imports(capsys: pytest.CaptureFixture[str]) -> None:
    code = (
        "import sys\nfrom swclip.cli.app import run\n"
        "try:\n    run(['serve', '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'fastapi', 'uvicorn', 'pandas', 'numpy'} & set(sys.modules)\n"
        "print('heavy:', sorted(heavy), file=sys.stderr)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "heavy: []" in shown.stderr
    for flag in (
        "--host",
        "--port",
        "--photographs",
        "--tiles",
        "--cors",
        "--max-upload-mb",
        "--timeout-s",
        "--max-batch",
    ):
        assert flag in shown.stdout
    assert VARIABLE in shown.stdout
