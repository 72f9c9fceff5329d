"""Street-view geo-localization with spatially weighted CLIP: from a photograph to where it was taken.

The names below are imported when they are first used, so that `import swclip` costs nothing.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swclip.answers.record import Answer
    from swclip.api import evaluate, evaluate_predictions, evaluate_vectors
    from swclip.comparison.compare_reports import compare_reports as compare
    from swclip.data.manifest import Manifest, read_manifest
    from swclip.data.splits import Splits, read_splits
    from swclip.geo.areas import read_area
    from swclip.ingest.prepare import prepare
    from swclip.models.locator_model import LocatorModel
    from swclip.models.locator_model import load_model as load
    from swclip.retrieval.locator import Locator
    from swclip.retrieval.prior import Prior
    from swclip.training.config import TrainingConfig, load_recipe
    from swclip.training.loop import train

__version__ = importlib.metadata.version("swclip")

_HOMES = {
    "Answer": "swclip.answers.record:Answer",
    "Locator": "swclip.retrieval.locator:Locator",
    "LocatorModel": "swclip.models.locator_model:LocatorModel",
    "Manifest": "swclip.data.manifest:Manifest",
    "Prior": "swclip.retrieval.prior:Prior",
    "Splits": "swclip.data.splits:Splits",
    "TrainingConfig": "swclip.training.config:TrainingConfig",
    "compare": "swclip.comparison.compare_reports:compare_reports",
    "evaluate": "swclip.api:evaluate",
    "evaluate_predictions": "swclip.api:evaluate_predictions",
    "evaluate_vectors": "swclip.api:evaluate_vectors",
    "load": "swclip.models.locator_model:load_model",
    "load_recipe": "swclip.training.config:load_recipe",
    "prepare": "swclip.ingest.prepare:prepare",
    "read_area": "swclip.geo.areas:read_area",
    "read_manifest": "swclip.data.manifest:read_manifest",
    "read_splits": "swclip.data.splits:read_splits",
    "train": "swclip.training.loop:train",
}

__all__ = [
    "Answer",
    "Locator",
    "LocatorModel",
    "Manifest",
    "Prior",
    "Splits",
    "TrainingConfig",
    "__version__",
    "compare",
    "evaluate",
    "evaluate_predictions",
    "evaluate_vectors",
    "load",
    "load_recipe",
    "prepare",
    "read_area",
    "read_manifest",
    "read_splits",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'swclip' has no attribute {name!r}")
    module, attribute = _HOMES[name].split(":")
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
