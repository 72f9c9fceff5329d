"""The example of docs/export.md: a program without swclip gives the answers of `swclip locate --estimator argmax`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from swclip.cli.app import run

DOCUMENT = Path(__file__).parents[2] / "docs" / "export.md"


def _example() -> str:
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    return str(code)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_example_matches_locate(
    precision: str, answering: Path, town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gallery = str(answering / "gallery")
    if not (answering / "onnx").is_dir():
        assert run(["export", gallery, f"--out={answering / 'onnx'}"]) == 0
    shutil.copytree(answering / "onnx", tmp_path / "onnx")
    exported = ["export", gallery, f"--embeddings={precision}", f"--out={tmp_path / 'gallery.safetensors'}"]
    assert run(exported) == 0
    code = _example() + "\nimport sys\nassert not {'torch', 'swclip', 'safetensors'} & set(sys.modules)\n"
    answers = set()
    for name in ("p00-0", "p06-0", "p18-0"):
        capsys.readouterr()
        assert run(["locate", gallery, str(town / f"{name}.jpg"), "--estimator", "argmax"]) == 0
        (expected,) = json.loads(capsys.readouterr().out)
        shutil.copy(town / f"{name}.jpg", tmp_path / "photo.jpg")
        command = [sys.executable, "-W", "error", "-c", code]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        answer = json.loads(done.stdout)
        assert answer["candidate_id"] == expected["candidates"][0]["candidate_id"]
        assert (answer["lat_deg"], answer["lon_deg"]) == pytest.approx(
            (expected["lat_deg"], expected["lon_deg"]), abs=1e-7
        )
        answers.add(answer["candidate_id"])
    assert len(answers) == 3, "the answers depend on the photographs"
