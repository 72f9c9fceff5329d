"""What a model was trained on, in figures that may be published: counts, cities, a rough area, dates, licences."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float64

from swclip.data.manifest import Manifest, read_manifest
from swclip.data.splits import Splits, indices, read_splits
from swclip.errors import ArtefactError, MismatchError
from swclip.models.config import ModelConfig
from swclip.models.download import hub_name
from swclip.models.locator_model import LocatorModel
from swclip.training.run import RunFacts, digest_of_splits

_ROUND_DEG = 100.0
"""Boxes are widened to hundredths of a degree, about a kilometre: no single photograph can be read off one."""


@dataclass(frozen=True)
class Area:
    """The training photographs of a city.

    Attributes:
        city: Its name; None of photographs without one.
        photographs: How many.
        south_deg: The box they lie in, widened to hundredths of a degree; so the next three.
        west_deg: Its western edge.
        north_deg: Its northern edge.
        east_deg: Its eastern edge.
    """

    city: str | None
    photographs: int
    south_deg: float
    west_deg: float
    north_deg: float
    east_deg: float


@dataclass(frozen=True)
class TrainingData:
    """What a model was trained on.

    Attributes:
        photographs: In the split that was trained on.
        validation: Photographs that chose the best weights and fitted the posterior.
        protocol: How queries were held out.
        areas: By city, in the order of their names.
        first: Date of the oldest photograph, as YYYY-MM-DD; None where no time is known.
        last: Of the newest.
        dated: How many have a time.
        licences: Licences of the photographs, and how many have each; None where unknown.
    """

    photographs: int
    validation: int
    protocol: str | None
    areas: tuple[Area, ...]
    first: str | None
    last: str | None
    dated: int
    licences: tuple[tuple[str | None, int], ...]


def training_data(facts: RunFacts, run: Path, manifest: Path | None, splits: Path | None) -> TrainingData | None:
    """Read what a run was trained on from its manifest and splits.

    Args:
        facts: The run's record.
        run: Its folder.
        manifest: Where the manifest is now; None for where the run recorded it.
        splits: The same of the splits.

    Returns:
        The figures; None where the recorded files are not there any more, or are not those that were trained on.

    Raises:
        ArtefactError: A file that was given cannot be read.
        MismatchError: What was given is not what was trained on.
    """
    try:
        table = read_manifest(manifest or _recorded(run, facts.manifest))
        chosen = read_splits(splits or _recorded(run, facts.splits))
        if table.digest != facts.manifest_digest:
            raise MismatchError(
                f"{table.path}: this is not the manifest that {run} was trained on (digest {table.digest[:12]}, not "
                f"{facts.manifest_digest[:12]}); give the run's own with --manifest."
            )
        if facts.splits_digest and digest_of_splits(chosen) != facts.splits_digest:
            raise MismatchError(
                f"{chosen.path}: these are not the splits that {run} was trained on; give the run's own with --splits."
            )
        return _summary(table, chosen)
    except (ArtefactError, MismatchError):
        if manifest is not None or splits is not None:
            raise
        return None


def _recorded(run: Path, path: str) -> Path:
    return next((found for found in (Path(path), run / path) if found.exists()), Path(path))


def _summary(manifest: Manifest, splits: Splits) -> TrainingData:
    rows = indices(splits, manifest, "train")
    frame, positions = manifest.frame.iloc[rows], manifest.positions_deg[rows]
    names = [None if pd.isna(city) else str(city) for city in frame["city"]]
    labels = np.array(["" if name is None else name for name in names], dtype=object)
    areas = tuple(_area(name, positions[labels == (name or "")]) for name in sorted(set(names), key=lambda n: n or ""))
    times = frame["captured_at"].dropna()
    licences = frame["licence"].map(lambda value: None if pd.isna(value) else str(value)).value_counts(dropna=False)
    protocol = splits.meta.get("protocol")
    return TrainingData(
        photographs=len(rows),
        validation=len(indices(splits, manifest, "val")),
        protocol=None if protocol is None else str(protocol),
        areas=areas,
        first=None if times.empty else f"{times.min():%Y-%m-%d}",
        last=None if times.empty else f"{times.max():%Y-%m-%d}",
        dated=len(times),
        licences=tuple((name if isinstance(name, str) else None, int(count)) for name, count in licences.items()),
    )


def _area(city: str | None, positions_deg: Float64[np.ndarray, "n 2"]) -> Area:
    """The widened box. East of west across the antimeridian, the narrower of the two boxes is taken."""
    south, north = positions_deg[:, 0].min(), positions_deg[:, 0].max()
    lon = np.sort(positions_deg[:, 1] % 360.0)
    gaps = np.diff(np.append(lon, lon[0] + 360.0))
    after = (int(gaps.argmax()) + 1) % len(lon)  # the box begins behind the widest gap
    west, east = lon[after], lon[after - 1]
    return Area(
        city,
        len(positions_deg),
        max(-90.0, _below(south)),
        _wrapped(_below(_signed(west))),
        min(90.0, _above(north)),
        _wrapped(_above(_signed(east))),
    )


def _below(deg: float) -> float:
    return math.floor(deg * _ROUND_DEG) / _ROUND_DEG


def _above(deg: float) -> float:
    # The next hundredth even of a hundredth: a box is never a point.
    return (math.floor(deg * _ROUND_DEG) + 1) / _ROUND_DEG


def _signed(lon_deg: float) -> float:
    return lon_deg - 360.0 if lon_deg > 180.0 else lon_deg


def _wrapped(lon_deg: float) -> float:
    return lon_deg - 360.0 if lon_deg > 180.0 else lon_deg + 360.0 if lon_deg < -180.0 else lon_deg


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
