"""A small model with the interface of the real one, and galleries with known geometry."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from swclip.files import atomic_folder
from swclip.imaging.preprocess import Preprocess
from swclip.gallery.gallery import Gallery

DIM = 8


class TinyModel(nn.Module):
    """Linear on 8 x 8 pixels, Fourier features of the position; counts the photographs its tower has seen."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.preprocess = Preprocess(size_px=8)
        self.tower = nn.Parameter(torch.randn(192, 16, generator=generator) / 14)
        self.head = nn.Parameter(torch.randn(16, DIM, generator=generator))
        self.waves = nn.Parameter(torch.randn(2, DIM // 2, generator=generator) * 2000)
        self.logit_scale = nn.Parameter(torch.tensor(3.0))
        self.seen = 0
        self.feature_dtype = "float32"
        self.seed = seed

    def image_features(self, pixels: Tensor) -> Tensor:
        self.seen += len(pixels)
        return torch.tanh(pixels.flatten(1) @ self.tower)

    def encode_image_features(self, features: Tensor) -> Tensor:
        return F.normalize(features @ self.head, dim=-1)

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        return self.encode_image_features(self.image_features(pixels))

    def encode_positions(self, positions_deg: Tensor, words: Any = None) -> Tensor:
        phase = positions_deg.float() @ self.waves
        return F.normalize(torch.cat([phase.sin(), phase.cos()], dim=-1), dim=-1)

    @property
    def feature_fingerprint(self) -> str:
        return hashlib.sha256(self.tower.detach().numpy().tobytes() + self.preprocess.digest.encode()).hexdigest()

    @property
    def fingerprint(self) -> str:
        return f"tiny-{self.seed}"

    def save(self, folder: str | Path) -> None:
        with atomic_folder(folder, "config.json") as beside:
            (beside / "config.json").write_text(json.dumps({"seed": self.seed}))


@pytest.fixture
def model() -> TinyModel:
    return TinyModel()


@pytest.fixture
def photographs(tmp_path: Path) -> Callable[[int], list[Path]]:
    """Make N different photographs in a folder."""

    def make(count: int) -> list[Path]:
        folder = tmp_path / "photographs"
        folder.mkdir(exist_ok=True)
        generator = np.random.default_rng(7)
        paths = []
        for number in range(count):
            path = folder / f"{number:03d}.png"
            Image.fromarray(generator.integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(path)
            paths.append(path)
        return paths

    return make


def _unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def _random_gallery(seed: int, places: int = 30, with_photographs: int = 12, photographs: int = 25) -> Gallery:
    """Places within about a kilometre; some of them with photographs, in no order."""
    generator = np.random.default_rng(seed)
    positions = np.array([51.5, -0.1]) + generator.normal(0, [0.003, 0.005], (places, 2))
    rows = generator.choice(with_photographs, photographs) if with_photographs else np.zeros(0, dtype=np.int64)
    return Gallery(
        candidate_ids=[f"c{i}" for i in range(places)],
        positions_deg=positions,
        cities=[None if i % 3 == 0 else f"city {i % 3}" for i in range(places)],
        location_embeddings=_unit(generator.normal(size=(places, DIM))),
        image_embeddings=_unit(generator.normal(size=(len(rows), DIM))),
        image_rows=rows.astype(np.int64),
        image_ids=[f"p{i}" for i in range(len(rows))],
        meta={"fingerprint": "tiny-0"},
    )


@pytest.fixture(scope="session")
def make_gallery() -> Callable[..., Gallery]:
    return _random_gallery


@pytest.fixture(scope="session")
def make_queries() -> Callable[..., np.ndarray]:
    def make(seed: int, count: int = 11) -> np.ndarray:
        return _unit(np.random.default_rng(1000 + seed).normal(size=(count, DIM)))

    return make
