"""The towers that a model was initialised from, and their names without the paths of this machine."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from swclip.models.config import ModelConfig
from swclip.models.locator_model import LocatorModel
from swclip.models.download import hub_name

Side = Literal["image", "location text", "caption", "map"]

LICENCES = {"facebook/dinov2-small": "apache-2.0", "sentence-transformers/all-MiniLM-L6-v2": "apache-2.0"}
"""Of the towers that our own results use, as their pages on the hub state them; of others nothing is claimed."""


@dataclass(frozen=True)
class Tower:
    """A tower that a model was made of.

    Attributes:
        side: Which of the model's towers.
        given: Its name as the run was given it.
        shown: Its name in what is published: a path is replaced by the family of its architecture.
        origin: A name on the hub, `built in`, or `local folder`.
    """

    side: Side
    given: str
    shown: str
    origin: Literal["hub", "built in", "local folder"]

    @property
    def licence(self) -> str | None:
        """The licence of its weights, where it is known."""
        return LICENCES.get(self.given)


def towers_of(model: LocatorModel, beside: Iterable[Path] = ()) -> list[Tower]:
    """The towers of a model.

    `owner/name` may be a name on the hub or a relative path. It counts as a path where one is there: here, or in a
    folder above the run or its manifest, where training may have been started.

    Args:
        model: The model.
        beside: The run and its manifest.
    """
    config, text, views = model.config, model.location.text, model.views
    # transformers' configuration of each tower, None where it is built in.
    found: list[tuple[Side, str, dict[str, Any] | None]] = [
        ("image", config.image.tower, model.image_tower.architecture),
        ("location text", config.location.text_tower, text.architecture if text else None),
        ("caption", config.views.caption, views.caption.text.architecture if views and views.caption else None),
        ("map", config.views.map, views.map.tower.architecture if views and views.map else None),
    ]
    folders = [Path.cwd(), *(above for path in beside for above in path.resolve().parents)]
    towers = []
    for side, name, architecture in found:
        if name.startswith("builtin:"):
            towers.append(Tower(side, name, name, "built in"))
        elif name != "none":
            local = hub_name(name) is None or any((folder / name).exists() for folder in folders)
            family = str((architecture or {}).get("model_type", "tower"))
            towers.append(Tower(side, name, f"local:{family}" if local else name, "local folder" if local else "hub"))
    return towers


def hide_paths(model: LocatorModel, towers: Iterable[Tower]) -> None:
    """Replace the paths of towers in a model's configuration, in place; weights and embeddings stay as they are.

    The configuration is part of a model's fingerprint, so that of a model with a tower from a local folder changes.
    """
    shown = {tower.given: tower.shown for tower in towers}
    model.config = renamed(model.config, shown)
    views = model.views
    architectures = [
        model.image_tower.architecture,
        model.location.text.architecture if model.location.text else None,
        views.caption.text.architecture if views and views.caption else None,
        views.map.tower.architecture if views and views.map else None,
    ]
    for architecture in architectures:
        for values in _nested(architecture):
            if "_name_or_path" in values:
                name = str(values["_name_or_path"])
                values["_name_or_path"] = shown.get(name, "" if os.path.isabs(name) else name)


def renamed(config: ModelConfig, shown: dict[str, str]) -> ModelConfig:
    """A configuration with other names for its towers."""

    def name(given: str) -> str:
        return shown.get(given, given)

    return dataclasses.replace(
        config,
        image=dataclasses.replace(config.image, tower=name(config.image.tower)),
        location=dataclasses.replace(config.location, text_tower=name(config.location.text_tower)),
        views=dataclasses.replace(config.views, caption=name(config.views.caption), map=name(config.views.map)),
    )


def _nested(values: Any) -> Iterable[dict[str, Any]]:
    if isinstance(values, dict):
        yield values
        for inner in values.values():
            yield from _nested(inner)
