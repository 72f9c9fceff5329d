"""Publishable facts on the training data (counts, cities, approximate areas, dates, licences) and the towers."""

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
from swclip.models.joint_tower import JointTower
from swclip.models.locator_model import LocatorModel
from swclip.training.run import RunFacts, digest_of_splits

_ROUND_DEG = 100.0
"""Boxes are widened to hundredths of a degree, about a kilometre, to hide the positions of single photographs."""


@dataclass(frozen=True)
class Area:
    """The training photographs of a city.

    Attributes:
        city: Name of the city; None for photographs without a city.
        photographs: Number of photographs.
        south_deg: Southern edge of the bounding box, widened to hundredths of a degree like the other edges.
        west_deg: Western edge.
        north_deg: Northern edge.
        east_deg: Eastern edge.
    """

    city: str | None
    photographs: int
    south_deg: float
    west_deg: float
    north_deg: float
    east_deg: float


@dataclass(frozen=True)
class TrainingData:
    """The training data of a model.

    Attributes:
        photographs: Number of photographs in the training split.
        validation: Number of photographs that selected the best weights and fitted the posterior.
        protocol: Split protocol.
        areas: Areas of the cities, sorted by name.
        first: Date of the oldest photograph, as YYYY-MM-DD; None if no photograph has a time.
        last: Date of the newest photograph.
        dated: Number of photographs with a time.
        licences: Licences (None if unknown) and the number of photographs of each.
        sources: Services and data sets that the photographs come from, likewise.
        authors: Number of authors that they state.
    """

    photographs: int
    validation: int
    protocol: str | None
    areas: tuple[Area, ...]
    first: str | None
    last: str | None
    dated: int
    licences: tuple[tuple[str | None, int], ...]
    sources: tuple[tuple[str | None, int], ...] = ()
    authors: int = 0


def training_data(facts: RunFacts, run: Path, manifest: Path | None, splits: Path | None) -> TrainingData | None:
    """Summarise the training data of a run from its manifest and splits.

    Args:
        facts: Record of the run.
        run: Folder of the run.
        manifest: Path of the manifest; None for the recorded path.
        splits: Path of the splits; None for the recorded path.

    Returns:
        The training data; None if the recorded files are missing or were changed after training.

    Raises:
        ArtefactError: `manifest` or `splits` cannot be read.
        MismatchError: `manifest` or `splits` is not that of the run.
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
    return next((candidate for candidate in (Path(path), run / path) if candidate.exists()), Path(path))


def _summary(manifest: Manifest, splits: Splits) -> TrainingData:
    rows = indices(splits, manifest, "train")
    frame, positions = manifest.frame.iloc[rows], manifest.positions_deg[rows]
    names = [None if pd.isna(city) else str(city) for city in frame["city"]]
    labels = np.array(["" if name is None else name for name in names], dtype=object)
    areas = tuple(_area(name, positions[labels == (name or "")]) for name in sorted(set(names), key=lambda n: n or ""))
    times = frame["captured_at"].dropna()
    protocol = splits.meta.get("protocol")
    return TrainingData(
        photographs=len(rows),
        validation=len(indices(splits, manifest, "val")),
        protocol=None if protocol is None else str(protocol),
        areas=areas,
        first=None if times.empty else f"{times.min():%Y-%m-%d}",
        last=None if times.empty else f"{times.max():%Y-%m-%d}",
        dated=len(times),
        licences=_counts(frame["licence"]),
        sources=_counts(frame["source"]),
        authors=frame["author"].nunique() if "author" in frame else 0,
    )


def _counts(values: pd.Series[Any]) -> tuple[tuple[str | None, int], ...]:
    texts = values.map(lambda value: None if pd.isna(value) else str(value)).value_counts(dropna=False)
    return tuple((name if isinstance(name, str) else None, int(count)) for name, count in texts.items())


def _area(city: str | None, positions_deg: Float64[np.ndarray, "n 2"]) -> Area:
    """Compute the widened bounding box; of the two boxes around the globe, the narrower one is used."""
    south, north = positions_deg[:, 0].min(), positions_deg[:, 0].max()
    lon = np.sort(positions_deg[:, 1] % 360.0)
    gaps = np.diff(np.append(lon, lon[0] + 360.0))
    after = (int(gaps.argmax()) + 1) % len(lon)  # the box starts after the widest gap
    west, east = lon[after], lon[after - 1]
    return Area(
        city,
        len(positions_deg),
        max(-90.0, _rounded_down(south)),
        _wrapped(_rounded_down(_signed(west))),
        min(90.0, _rounded_up(north)),
        _wrapped(_rounded_up(_signed(east))),
    )


def _rounded_down(deg: float) -> float:
    return math.floor(deg * _ROUND_DEG) / _ROUND_DEG


def _rounded_up(deg: float) -> float:
    # Exact hundredths are rounded up too, so that a box is never a point.
    return (math.floor(deg * _ROUND_DEG) + 1) / _ROUND_DEG


def _signed(lon_deg: float) -> float:
    return lon_deg - 360.0 if lon_deg > 180.0 else lon_deg


def _wrapped(lon_deg: float) -> float:
    return lon_deg - 360.0 if lon_deg > 180.0 else lon_deg + 360.0 if lon_deg < -180.0 else lon_deg


Side = Literal["image", "location text", "caption", "map"]

LICENCES = {"facebook/dinov2-small": "apache-2.0", "sentence-transformers/all-MiniLM-L6-v2": "apache-2.0"}
"""Licences of the towers in our published results, as stated on the hub; those of other towers are unknown."""


@dataclass(frozen=True)
class Tower:
    """A tower of a model.

    Attributes:
        side: Role of the tower in the model.
        name: Name in the configuration of the run: a hub name, a path, or builtin:...
        public_name: Published name; a path is replaced by the family of its architecture.
        origin: Source of the weights.
    """

    side: Side
    name: str
    public_name: str
    origin: Literal["hub", "built in", "local folder"]

    @property
    def licence(self) -> str | None:
        """Licence of the weights; None if unknown."""
        return LICENCES.get(self.name)


def towers_of(model: LocatorModel, locations: Iterable[Path] = ()) -> list[Tower]:
    """List the towers of a model.

    `owner/name` may be a hub name or a relative path. It is a path if it exists in the working folder or in a parent
    folder of the run or its manifest, where training may have been started.

    Args:
        model: The model.
        locations: Paths of the run and its manifest.
    """
    config, text, views = model.config, model.location.text, model.views
    images = image_architectures(model)
    # transformers' configuration of each tower, None for built-in towers.
    candidates: list[tuple[Side, str, dict[str, Any] | None]] = [
        *(("image", *pair) for pair in zip((part.tower for part in config.image.towers), images, strict=True)),
        ("location text", config.location.text_tower, text.architecture if text else None),
        ("caption", config.views.caption, views.caption.text.architecture if views and views.caption else None),
        ("map", config.views.map, views.map.tower.architecture if views and views.map else None),
    ]
    folders = [Path.cwd(), *(parent for path in locations for parent in path.resolve().parents)]
    towers = []
    for side, name, architecture in candidates:
        if name.startswith("builtin:"):
            towers.append(Tower(side, name, name, "built in"))
        elif name != "none":
            file = name.lower().endswith(".onnx")
            local = file or hub_name(name) is None or any((folder / name).exists() for folder in folders)
            family = str((architecture or {}).get("model_type", "tower"))
            towers.append(Tower(side, name, f"local:{family}" if local else name, "local folder" if local else "hub"))
    return towers


def hide_paths(model: LocatorModel, towers: Iterable[Tower]) -> None:
    """Replace the paths of towers in a model's configuration, in place; weights and embeddings do not change.

    The configuration is part of the fingerprint, which therefore changes if a tower is from a local folder.
    """
    public_names = {tower.name: tower.public_name for tower in towers}
    model.config = with_tower_names(model.config, public_names)
    views = model.views
    architectures = [
        *image_architectures(model),
        model.location.text.architecture if model.location.text else None,
        views.caption.text.architecture if views and views.caption else None,
        views.map.tower.architecture if views and views.map else None,
    ]
    for architecture in architectures:
        for values in _nested(architecture):
            if "_name_or_path" in values:
                name = str(values["_name_or_path"])
                values["_name_or_path"] = public_names.get(name, "" if os.path.isabs(name) else name)


def image_architectures(model: LocatorModel) -> list[dict[str, Any] | None]:
    """The architecture of each image tower."""
    tower = model.image_tower
    return [part.architecture for part in (tower.each() if isinstance(tower, JointTower) else [tower])]


def with_tower_names(config: ModelConfig, names: dict[str, str]) -> ModelConfig:
    """Return a configuration whose towers are renamed by {old: new}."""

    def renamed(name: str) -> str:
        return names.get(name, name)

    return dataclasses.replace(
        config,
        image=dataclasses.replace(
            config.image,
            tower=renamed(config.image.tower),
            beside=tuple(dataclasses.replace(part, tower=renamed(part.tower)) for part in config.image.beside),
        ),
        location=dataclasses.replace(config.location, text_tower=renamed(config.location.text_tower)),
        views=dataclasses.replace(config.views, caption=renamed(config.views.caption), map=renamed(config.views.map)),
    )


def _nested(values: Any) -> Iterable[dict[str, Any]]:
    if isinstance(values, dict):
        yield values
        for inner in values.values():
            yield from _nested(inner)
