"""Photographs to verify exports on, and a gallery."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from swclip.calibration.posterior_config import PosteriorConfig, write_posterior
from swclip.cli.app import run
from swclip.models.locator_model import LocatorModel


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five JPEGs: wide, tall, one with an EXIF orientation, and two large enough for reduced decoding."""
    folder, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(3)
    paths = []
    for number, (height, width) in enumerate([(48, 80), (80, 48), (60, 90), (400, 640), (641, 403)]):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        image = coarse.resize((width, height), Image.Resampling.BICUBIC)
        exif = Image.Exif()
        if number == 2:
            exif[0x0112] = 6
        paths.append(folder / f"{number}.jpg")
        image.save(paths[-1], quality=92, exif=exif)
    return paths


@pytest.fixture(scope="session")
def pixels() -> Callable[[int, int], np.ndarray]:
    """Factory of N random inputs of an image encoder, with a side in pixels."""

    def make(count: int, side: int) -> np.ndarray:
        return np.random.default_rng(count).standard_normal((count, 3, side, side)).astype(np.float32)

    return make


@pytest.fixture(scope="session")
def encoded() -> Callable[[LocatorModel, np.ndarray], np.ndarray]:
    """Function that encodes pixels with a model."""

    def encode(model: LocatorModel, values: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            embeddings: np.ndarray = model.encode_pixels(torch.from_numpy(values)).numpy()
        return embeddings

    return encode


@pytest.fixture(scope="session")
def answering(town: Path, make_model: Callable[..., LocatorModel], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model folder `run` and a `gallery` whose posterior uses locations and photographs."""
    folder = tmp_path_factory.mktemp("answering")
    make_model().save(folder / "run" / "model")
    write_posterior(folder / "run" / "model", PosteriorConfig(0.2, 0.01, 0.9, 20.0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWCLIP_CACHE", str(folder / "cache"))
        arguments = ["index", str(folder / "run"), str(town), f"--out={folder / 'gallery'}"]
        assert run([*arguments, f"--splits={town / 'splits.parquet'}"]) == 0
    return folder
