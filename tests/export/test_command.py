"""The command `swclip export`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from swclip.cli.app import run
from swclip.export.embeddings import read_embeddings
from swclip.gallery.read_write import load_gallery


@pytest.mark.slow
def test_export_of_a_gallery_is_verified_on_its_photographs(
    answering: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["export", str(answering / "gallery"), f"--out={tmp_path / 'onnx'}", "--location"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "location.onnx: " in captured.err
    assert "16 inputs" in captured.err
    assert json.loads((tmp_path / "onnx" / "parity.json").read_text())["photographs"] == 16
    fingerprint = json.loads((tmp_path / "onnx" / "export.json").read_text())["fingerprint"]
    assert fingerprint == load_gallery(answering / "gallery").meta["fingerprint"]


@pytest.mark.parametrize(("precision", "largest"), [("float32", 0.0), ("int8", 0.01)])
def test_exports_embeddings_of_a_gallery(
    precision: str, largest: float, answering: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "gallery.safetensors"
    assert run(["export", str(answering / "gallery"), f"--embeddings={precision}", f"--out={out}"]) == 0
    assert "20 candidates, 50 photographs" in capsys.readouterr().err
    exported, gallery = read_embeddings(out), load_gallery(answering / "gallery")
    assert abs(exported.image_embeddings - gallery.image_embeddings).max() <= largest
    assert exported.posterior == gallery.posterior


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "--out=o"], 2, "does not record a manifest; name photographs to check the export on"),
        (["run", "--out=o", "--photographs", "gone.jpg"], 2, "gone.jpg: there is no such file"),
        (["run", "--out=o", "--word", "city=Leeds"], 5, "--word needs --location; add --location or remove --word"),
        (["run", "--out=o", "--location", "--word", "Leeds"], 5, "--word 'Leeds': write FIELD=WORDS"),
        (["run", "--out=o", "--opset", "11", "--photographs", "photo.jpg"], 5, "--opset 11: the graphs need 18"),
        (["gallery", "--out=o", "--embeddings=int8", "--location"], 5, "--embeddings writes only the embeddings"),
        (["run", "--out=o", "--embeddings=int8"], 3, "is not a gallery"),
        (["gallery", "--out=gallery", "--embeddings=int8"], 2, "gallery: is a folder; with --embeddings, --out is"),
        (["gallery", "--out=gallery"], 2, "gallery: exists and contains no export.json"),
        (["nowhere", "--out=o"], 3, "nowhere: is not a swclip model"),
    ],
)
def test_rejects_invalid_arguments(
    arguments: list[str],
    code: int,
    message: str,
    answering: Path,
    town: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copy(town / "p00-0.jpg", answering / "photo.jpg")
    monkeypatch.chdir(answering)
    assert run(["export", *arguments]) == code
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors
    assert not (answering / "o").exists()


def test_missing_photographs_and_manifest(
    answering: Path, town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(town, tmp_path / "town")
    arguments = ["index", str(answering / "run"), str(tmp_path / "town"), f"--out={tmp_path / 'gallery'}", "--no-cache"]
    assert run(arguments) == 0
    for photograph in (tmp_path / "town").glob("*.jpg"):
        photograph.unlink()
    command = ["export", str(tmp_path / "gallery"), f"--out={tmp_path / 'onnx'}"]
    assert run(command) == 2
    assert "its photographs no longer" in capsys.readouterr().err
    (tmp_path / "town" / "manifest.parquet").unlink()
    assert run(command) == 2
    assert "cannot be read; name photographs to check the export on" in capsys.readouterr().err
    assert run([*command, "--photographs", str(town / "p00-0.jpg"), str(town / "p01-0.jpg")]) == 0
    assert json.loads((tmp_path / "onnx" / "parity.json").read_text())["photographs"] == 2
