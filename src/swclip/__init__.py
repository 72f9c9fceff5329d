"""Street-view geo-localization with spatially weighted CLIP: from a photograph to where it was taken.

    manifest = swclip.prepare("photos", "data").manifest           # or swclip.synth("cities"): generated ones
    swclip.fetch("leeds", bbox="-1.56,53.79,-1.53,53.81")          # or photographs of a street-imagery service
    swclip.inspect(manifest, "inspection").recommended             # what the photographs can bear, and a page
    splits = swclip.split(manifest, "known-places", "data/splits.parquet")
    swclip.recipes()                                               # what can be trained, a line each
    tower = {"model.image.tower": "facebook/dinov2-small", "freeze_image": True}
    config = swclip.load_recipe("sw-clip", tower)
    swclip.train(manifest, splits, config, "runs/first", progress=True)
    report = swclip.evaluate("runs/first")                         # tables, plots, report.save("report")
    swclip.build_gallery("runs/first", manifest, "gallery")
    answer, = swclip.locate("gallery", "new-photo.jpg")            # for many questions: swclip.Locator
    vectors = swclip.load("runs/first").encode_images(["a.jpg"])   # NumPy arrays; encode_positions too
    swclip.benchmark(manifest, splits, "compared")                 # systems side by side; of reports: swclip.compare

Where a function takes a manifest, splits, a run or a gallery, it takes the path too. Long work shows a bar with
`progress=True`. Every error that a user can fix is a `swclip.errors.SwclipError`.

The names below are imported when they are first used, so that `import swclip` costs nothing.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swclip import losses as losses
    from swclip.answers.record import Answer
    from swclip.api.answers import build_gallery, locate
    from swclip.api.evaluations import evaluate, evaluate_predictions, evaluate_vectors
    from swclip.api.fetch import fetch
    from swclip.api.photographs import inspect, merge, pack, prepare, split, split_each_city, synth
    from swclip.api.runs import benchmark, recipes, train
    from swclip.comparison.compare_reports import compare_reports as compare
    from swclip.data.manifest import Manifest, read_manifest
    from swclip.data.splits import Splits, read_splits
    from swclip.experiments.run import experiment
    from swclip.gallery.gallery import Gallery
    from swclip.gallery.read_write import load_gallery
    from swclip.geo.areas import read_area
    from swclip.models.locator_model import LocatorModel
    from swclip.models.locator_model import load_model as load
    from swclip.retrieval.locator import Locator
    from swclip.retrieval.prior import Prior
    from swclip.training.config import TrainingConfig, load_recipe

__version__ = importlib.metadata.version("swclip")

_HOMES = {
    "Answer": "swclip.answers.record:Answer",
    "Gallery": "swclip.gallery.gallery:Gallery",
    "Locator": "swclip.retrieval.locator:Locator",
    "LocatorModel": "swclip.models.locator_model:LocatorModel",
    "Manifest": "swclip.data.manifest:Manifest",
    "Prior": "swclip.retrieval.prior:Prior",
    "Splits": "swclip.data.splits:Splits",
    "TrainingConfig": "swclip.training.config:TrainingConfig",
    "benchmark": "swclip.api.runs:benchmark",
    "build_gallery": "swclip.api.answers:build_gallery",
    "compare": "swclip.comparison.compare_reports:compare_reports",
    "evaluate": "swclip.api.evaluations:evaluate",
    "evaluate_predictions": "swclip.api.evaluations:evaluate_predictions",
    "evaluate_vectors": "swclip.api.evaluations:evaluate_vectors",
    "experiment": "swclip.experiments.run:experiment",
    "fetch": "swclip.api.fetch:fetch",
    "inspect": "swclip.api.photographs:inspect",
    "load": "swclip.models.locator_model:load_model",
    "load_gallery": "swclip.gallery.read_write:load_gallery",
    "load_recipe": "swclip.training.config:load_recipe",
    "locate": "swclip.api.answers:locate",
    "merge": "swclip.api.photographs:merge",
    "pack": "swclip.api.photographs:pack",
    "prepare": "swclip.api.photographs:prepare",
    "read_area": "swclip.geo.areas:read_area",
    "read_manifest": "swclip.data.manifest:read_manifest",
    "read_splits": "swclip.data.splits:read_splits",
    "recipes": "swclip.api.runs:recipes",
    "split": "swclip.api.photographs:split",
    "split_each_city": "swclip.api.photographs:split_each_city",
    "synth": "swclip.api.photographs:synth",
    "train": "swclip.api.runs:train",
}

__all__ = [
    "Answer",
    "Gallery",
    "Locator",
    "LocatorModel",
    "Manifest",
    "Prior",
    "Splits",
    "TrainingConfig",
    "__version__",
    "benchmark",
    "build_gallery",
    "compare",
    "evaluate",
    "evaluate_predictions",
    "evaluate_vectors",
    "experiment",
    "fetch",
    "inspect",
    "load",
    "load_gallery",
    "load_recipe",
    "locate",
    "losses",
    "merge",
    "pack",
    "prepare",
    "read_area",
    "read_manifest",
    "read_splits",
    "recipes",
    "split",
    "split_each_city",
    "synth",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "losses":
        return importlib.import_module("swclip.losses")
    if name in _HOMES:
        module, attribute = _HOMES[name].split(":")
        return getattr(importlib.import_module(module), attribute)
    import difflib

    near = difflib.get_close_matches(name, __all__, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise AttributeError(f"module 'swclip' has no attribute {name!r}{hint}", name=name)


def __dir__() -> list[str]:
    return sorted(__all__)
