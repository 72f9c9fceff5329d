"""Arguments in each other's place: one sentence that names what they are, with the right command."""

from __future__ import annotations

from pathlib import Path

import pytest

from swclip.cli.app import run
from swclip.cli.arguments import kind_of
from swclip.errors import ConfigError


@pytest.fixture
def here(town: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with short names for the data, a run, a gallery and photographs."""
    for name, target in (("data", town), ("run", made / "run"), ("gallery", made / "gallery")):
        (tmp_path / name).symlink_to(target)
    (tmp_path / "trip").mkdir()
    (tmp_path / "trip" / "photo.jpg").symlink_to(town / "p00-0.jpg")
    (tmp_path / "recipe.toml").write_text("steps = 3\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_kinds_are_recognised(here: Path) -> None:
    kinds = {
        "data": "a manifest",
        "data/manifest.parquet": "a manifest",
        "data/splits.parquet": "splits",
        "run": "a run",
        "run/model": "a model",
        "gallery": "a gallery",
        "trip": "a folder of photographs",
        "trip/photo.jpg": "a photograph",
        "recipe.toml": "a recipe",
        "nowhere": None,
    }
    assert {name: kind_of(name) for name in kinds} == kinds


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (
            "locate trip/photo.jpg gallery --top-k 2",
            "trip/photo.jpg is a photograph and gallery is a gallery, but `swclip locate` takes GALLERY PHOTOGRAPHS. "
            "Type: swclip locate gallery trip/photo.jpg --top-k 2",
        ),
        (
            "evaluate data run --out report",
            "data is a manifest and run is a run, but `swclip evaluate` takes RUN. "
            "Type: swclip evaluate run --out report",
        ),
        (
            "index data run --out new",
            "data is a manifest and run is a run, but `swclip index` takes RUN MANIFEST. "
            "Type: swclip index run data --out new",
        ),
        (
            "gallery append data gallery",
            "data is a manifest and gallery is a gallery, but `swclip gallery append` takes GALLERY MANIFEST. "
            "Type: swclip gallery append gallery data",
        ),
        (
            "train trip --splits data/splits.parquet --out new",
            "trip is a folder of photographs, but MANIFEST must be a manifest (`swclip prepare` writes it).",
        ),
        ("evaluate data --out new", "data is a manifest, but RUN must be a run (`swclip train` writes it)."),
        ("serve run", "run is a run, but GALLERY must be a gallery (`swclip index` writes it)."),
        ("split run --protocol known-places --out s", "run is a run, but MANIFEST must be a manifest"),
    ],
)
def test_swapped_arguments_are_named(
    command: str, sentence: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    before = sorted(here.iterdir())
    assert run(command.split()) == ConfigError.exit_code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {sentence}")
    assert sorted(here.iterdir()) == before


def test_other_errors_keep_their_message(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["locate", "gallery", "trip/photo.jpg", "--top-k", "0"]) == ConfigError.exit_code
    assert "error: top_k is 0" in capsys.readouterr().err
