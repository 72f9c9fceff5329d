"""Small models of every kind."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swclip.models.config import ImageConfig, LocationConfig, ModelConfig
from swclip.models.locator_model import LocatorModel

POSITIONS = np.array([[53.80, -1.55], [53.801, -1.549], [53.96, -1.08], [-33.86, 151.2]])


@pytest.fixture(scope="session")
def make_model(towers: Path) -> Callable[..., LocatorModel]:
    """A model; `image` and `text` are builtin:small, none, or a name in the folder of towers."""

    def make(
        image: str = "builtin:small",
        text: str = "none",
        *,
        seed: int = 0,
        size_px: int | None = 32,
        pooling: Any = "auto",
        **location: Any,
    ) -> LocatorModel:
        def named(name: str) -> str:
            return name if ":" in name or name == "none" else str(towers / name)

        base = LocationConfig(
            text_tower="none",
            grid_levels=4,
            grid_log2_size=8,
            grid_features=3,
            hidden_width=16,
            cell_resolutions=(5, 8, 10),
        )
        config = ModelConfig(
            image=ImageConfig(tower=named(image), size_px=size_px, head_width=16, pooling=pooling),
            location=dataclasses.replace(base, text_tower=named(text), **location),
            embedding_dim=12,
        )
        return LocatorModel.create(config, POSITIONS, seed).eval()

    return make
