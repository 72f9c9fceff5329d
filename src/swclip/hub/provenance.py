"""What a model was trained on, in figures that may be published: counts, cities, a rough area, dates, licences."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float64

from swclip.data.manifest import Manifest, read_manifest
from swclip.data.splits import Splits, indices, read_splits
from swclip.errors import ArtefactError, MismatchError
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
