"""What the page's plots draw, as plain numbers: curves of the error, maps of the queries, marks on a line of metres."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64
from numpy.typing import ArrayLike

from swclip.evaluation.measure import Evaluation
from swclip.geo.coordinates import LocalFrame
from swclip.geo.neighbours import SphereIndex

ERROR_CLASSES_M = (25.0, 100.0, 500.0, 5_000.0)
"""Edges of the colours on the map."""

_CURVE_POINTS = 300
_MAP_VIEWS = 24
_MAP_QUERIES = 2_000
_MAP_CANDIDATES = 2_500
# A view reaches this much further than its queries, as a share of their extent and at least so many metres.
_MARGIN_SHARE, _MARGIN_M = 0.08, 60.0


def error_curve(errors_m: ArrayLike) -> dict[str, list[float]]:
    """Share of queries answered within each distance, in percent: the cumulative distribution of the error.

    Args:
        errors_m: Errors in metres, any shape; several seeds are pooled.

    Returns:
        x in metres, never below 1 so that a logarithmic axis can show it, and y in percent; at most 300 points.

    Example:
        >>> error_curve([5.0, 20.0, 0.0, 50.0])
        {'x': [1.0, 5.0, 20.0, 50.0], 'y': [25.0, 50.0, 75.0, 100.0]}
    """
    error = np.sort(np.asarray(errors_m, dtype=np.float64).reshape(-1))
    rank = np.arange(1, error.size + 1)
    if error.size > _CURVE_POINTS:
        rank = np.unique(np.linspace(1, error.size, _CURVE_POINTS).round().astype(int))
    x = np.maximum(error[rank - 1], 1.0)
    return {"x": [float(f"{value:.4g}") for value in x], "y": [round(100.0 * int(r) / error.size, 2) for r in rank]}


@dataclass(frozen=True)
class MetreScale:
    """A logarithmic line of metres for marks placed in percent of its length.

    Attributes:
        low_m: Left end.
        high_m: Right end.
    """

    low_m: float
    high_m: float

    @classmethod
    def holding(cls, values_m: Sequence[float]) -> MetreScale:
        """The shortest line, between steps of 1, 2, 5, 10, that holds the values; nothing below 1 m."""
        low, high = max(min(values_m), 1.0), max(max(values_m), 10.0)
        left, right = _step_below(low), _step_above(high)
        return cls(left, right if right > left else 10.0 * left)

    def at(self, value_m: float) -> float:
        """Percent of the length at which a value lies; clipped to the ends."""
        value = min(max(value_m, self.low_m), self.high_m)
        return round(100.0 * math.log(value / self.low_m) / math.log(self.high_m / self.low_m), 2)

    @property
    def ticks_m(self) -> list[float]:
        """Powers of ten on the line; the ends too where fewer than two fall on it."""
        first, last = math.ceil(math.log10(self.low_m) - 1e-9), math.floor(math.log10(self.high_m) + 1e-9)
        tens = [10.0**power for power in range(first, last + 1)]
        return tens if len(tens) > 1 else sorted({self.low_m, *tens, self.high_m})


def map_data(evaluations: Mapping[str, Evaluation], generator: np.random.Generator) -> dict[str, Any]:
    """The maps of a page: one view a city, or one view for all where no city is known.

    Args:
        evaluations: System and evaluation, all on the same queries and candidates.
        generator: Which candidates and queries are left out where a view holds too many to draw.

    Returns:
        classes_m, systems and views. Each view has its name, centre, extent in metres east and north of the centre,
        candidates, queries (with `row`, for the photographs), and for each system the answers. What was left out to
        keep the page small is counted in `left_out`.
    """
    first = next(iter(evaluations.values()))
    frame = first.predictions
    names = frame["city"].where(frame["city"].notna(), "no city named")
    if frame["city"].isna().all():
        names = pd.Series(["The whole area"] * len(frame))
    largest = names.value_counts()
    drawn = sorted(largest.index[:_MAP_VIEWS])
    candidates = first.candidates[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64)
    nearest = SphereIndex(candidates)
    views = []
    for name in drawn:
        rows = np.flatnonzero((names == name).to_numpy())
        shown = _sample(rows, _MAP_QUERIES, generator)
        views.append(_view(str(name), rows, shown, evaluations, candidates, nearest, generator))
    return {
        "classes_m": list(ERROR_CLASSES_M),
        "systems": list(evaluations),
        "views": views,
        "left_out": {
            "cities": len(largest) - len(drawn),
            "queries": sum(view["n"] - len(view["queries"]["x"]) for view in views),
            "candidates": sum(view["n_candidates"] - len(view["candidates"]["x"]) for view in views),
        },
    }


def _view(
    name: str,
    rows: np.ndarray,
    shown: np.ndarray,
    evaluations: Mapping[str, Evaluation],
    candidates_deg: Float64[np.ndarray, "m 2"],
    nearest: SphereIndex,
    generator: np.random.Generator,
) -> dict[str, Any]:
    frames = {system: found.predictions.iloc[shown] for system, found in evaluations.items()}
    queries = next(iter(evaluations.values())).predictions
    all_deg = queries.iloc[rows][["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64)
    local = LocalFrame.around(all_deg)
    xy = local.to_xy_m(all_deg)
    low, high = xy.min(axis=0), xy.max(axis=0)
    margin = np.maximum((high - low) * _MARGIN_SHARE, _MARGIN_M)
    low, high = low - margin, high + margin
    candidates_xy = local.to_xy_m(candidates_deg)
    here = np.flatnonzero(((candidates_xy >= low) & (candidates_xy <= high)).all(axis=1))
    faint = _sample(here, _MAP_CANDIDATES, generator)
    shown_frame = queries.iloc[shown]
    truth_xy = local.to_xy_m(shown_frame[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64))
    answers = {}
    for system, frame in frames.items():
        answered = frame[["predicted_lat_deg", "predicted_lon_deg"]].to_numpy(dtype=np.float64)
        own = frame["city"].to_numpy(dtype=object)
        cities = _nearest_cities(answered, evaluations[system].candidates, nearest)
        answers[system] = {
            **_axes(local.to_xy_m(answered)),
            "error": [float(f"{value:.4g}") for value in frame["error_m"]],
            "probability": [round(float(value), 3) for value in frame["probability"]],
            "rank": [None if pd.isna(value) else int(value) for value in frame["rank_25m"]],
            # Named only where the answer is in another city than the query.
            "city": [None if pd.isna(a) or pd.isna(b) or a == b else str(b) for a, b in zip(own, cities, strict=True)],
            "median": float(
                np.median(evaluations[system].predictions.iloc[rows]["error_m"].to_numpy(dtype=np.float64))
            ),
        }
    return {
        "name": name,
        "n": len(rows),
        "n_candidates": len(here),
        "centre_deg": [round(local.lat_deg, 5), round(local.lon_deg, 5)],
        "extent_m": [*np.round(low, 1).tolist(), *np.round(high, 1).tolist()],
        "candidates": _axes(candidates_xy[faint]),
        "queries": {**_axes(truth_xy), "id": shown_frame["image_id"].tolist()},
        "answers": answers,
    }


def _nearest_cities(answered_deg: np.ndarray, candidates: pd.DataFrame, nearest: SphereIndex) -> np.ndarray:
    if len(candidates) == 0:  # a report on disk does not hold them
        return np.full(len(answered_deg), None, dtype=object)
    _, which = nearest.nearest(answered_deg, 1)
    cities: np.ndarray = candidates["city"].to_numpy(dtype=object)[which[:, 0]]
    return cities


def _axes(xy_m: Float64[np.ndarray, "n 2"]) -> dict[str, list[float]]:
    return {"x": np.round(xy_m[:, 0], 1).tolist(), "y": np.round(xy_m[:, 1], 1).tolist()}


def _sample(rows: np.ndarray, at_most: int, generator: np.random.Generator) -> np.ndarray:
    if len(rows) <= at_most:
        return rows
    return np.sort(generator.choice(rows, size=at_most, replace=False))


def _step_below(value: float) -> float:
    ten = 10.0 ** math.floor(math.log10(value))
    return max(step * ten for step in (1.0, 2.0, 5.0) if step * ten <= value * (1.0 + 1e-9))


def _step_above(value: float) -> float:
    ten = 10.0 ** math.floor(math.log10(value))
    return min(step * ten for step in (1.0, 2.0, 5.0, 10.0) if step * ten >= value * (1.0 - 1e-9))
