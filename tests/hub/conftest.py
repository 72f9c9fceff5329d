"""Runs to publish, and a local hub to publish them to; tests never access the real hub."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from swclip.calibration.posterior_config import PosteriorConfig, write_posterior
from swclip.cli.app import run as command
from swclip.data.manifest import read_manifest, write_manifest
from swclip.data.splits import read_splits, write_splits
from swclip.gallery.hubness import Bank, write_bank
from swclip.models.embed import embed_photographs
from swclip.models.locator_model import load_model

from .fake_hub import WRITER, FakeHub, serve_hub

TINY = [
    "--steps=4",
    "--size-px=32",
    "--batch-size=16",
    "--set=model.embedding_dim=8",
    "--set=model.image.head_width=16",
    "--set=model.location.grid_log2_size=6",
    "--set=model.location.hidden_width=16",
]


@pytest.fixture(scope="session", autouse=True)
def _separate_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWCLIP_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("COLUMNS", "200")
        yield


@pytest.fixture(scope="session")
def trained(town: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished `run` of the town that corrects hubness, and its `report`."""
    folder = tmp_path_factory.mktemp("trained")
    splits = f"--splits={town / 'splits.parquet'}"
    assert command(["train", str(town), splits, f"--out={folder / 'run'}", "--text-tower=none", *TINY]) == 0
    add_bank(folder / "run", town)
    out = f"--out={folder / 'report'}"
    assert command(["evaluate", str(folder / "run"), out, "--resamples=20", "--no-figures"]) == 0
    return folder


def add_bank(run: Path, town: Path) -> None:
    """Make a run correct hubness, with half of its photographs as the bank."""
    manifest, model = read_manifest(town), load_model(run)
    rows = [row for row in range(len(manifest)) if row % 2]
    vectors = embed_photographs(model, [manifest.image_paths[row] for row in rows])
    ids = [str(manifest.frame["image_id"][row]) for row in rows]
    write_bank(run / "model", Bank(vectors.astype(np.float16), ids))
    write_posterior(run / "model", PosteriorConfig(0.2, 0.02, 0.8, 15.0, image_hubness=0.5))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """An empty hub, which this process accesses with a token with write access."""
    from huggingface_hub import constants
    from huggingface_hub.utils import close_session

    with serve_hub(FakeHub()) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        monkeypatch.setenv("HF_TOKEN", WRITER)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        close_session()
        yield server
        close_session()
        assert server.store_requests_with_token == 0


@pytest.fixture(scope="session")
def private_folder(town: Path, towers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose folders, towers and photographs all have private names: `Geheim-...`."""
    folder = tmp_path_factory.mktemp("work") / "Geheim-Ordner"
    for name in ("dinov2", "bert"):
        shutil.copytree(towers / name, folder / "Geheim-Modelle" / name)
    manifest, splits = read_manifest(town), read_splits(town / "splits.parquet")
    names = {name: f"Geheim-Album/{name}" for name in manifest.frame["image_id"]}
    frame = manifest.frame.assign(image_id=[names[name] for name in manifest.frame["image_id"]])
    for path in manifest.image_paths:
        target = folder / "Geheim-Fotos" / path.name
        target.parent.mkdir(exist_ok=True)
        shutil.copy(path, target)
    frame["image_path"] = [str(folder / "Geheim-Fotos" / path.name) for path in manifest.image_paths]
    written = write_manifest(folder / "Geheim-Daten", frame)
    write_splits(
        folder / "Geheim-Daten" / "splits.parquet",
        splits.frame.assign(image_id=[names[name] for name in splits.frame["image_id"]]),
        splits.candidates.assign(
            image_ids=pd.Series([[names[name] for name in ids] for ids in splits.candidates["image_ids"]])
        ),
        {**{key: splits.meta[key] for key in ("protocol", "seed", "parameters")}, "manifest_digest": written.digest},
    )
    (folder / "Geheim-Rezept.toml").write_text('base = "sw-clip"\n', encoding="utf-8")
    flags = [
        f"--splits={folder / 'Geheim-Daten' / 'splits.parquet'}",
        f"--recipe={folder / 'Geheim-Rezept.toml'}",
        f"--image-tower={folder / 'Geheim-Modelle' / 'dinov2'}",
        f"--text-tower={folder / 'Geheim-Modelle' / 'bert'}",
        "--location=cells",
        f"--out={folder / 'Geheim-Lauf'}",
    ]
    assert command(["train", str(folder / "Geheim-Daten"), *flags, *TINY]) == 0
    add_bank(folder / "Geheim-Lauf", folder / "Geheim-Daten")
    return folder
