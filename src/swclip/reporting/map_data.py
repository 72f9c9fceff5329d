"""Data of the map of a page: one view per city with its candidates, queries and answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import h3
import numpy as np
import pandas as pd
from jaxtyping import Float64, Int32, Int64

from swclip.evaluation.result import Evaluation
from swclip.geo.coordinates import LocalFrame
from swclip.geo.distance import EARTH_RADIUS_M, geodesic_m
from swclip.geo.neighbours import SphereIndex
from swclip.metrics.localization_error import worst_count
from swclip.metrics.query_details import CellPosterior, TopCandidates

ERROR_CLASSES_M = (25.0, 100.0, 500.0, 5_000.0)
"""Edges of the error classes, which have a colour each."""

LISA_LABELS = ("high-high", "low-low", "high-low", "low-high", "not significant")

_VIEWS = 24
_QUERIES = 6_000
_CANDIDATES = 24_000
# Margin of a view around its queries: a share of their extent, and a minimum in metres.
_MARGIN_SHARE, _MARGIN_M = 0.06, 60.0


def map_data(evaluations: Mapping[str, Evaluation], generator: np.random.Generator) -> dict[str, Any]:
    """Build the map of a page: one view per city, or a single view where no city is known.

    Args:
        evaluations: System and evaluation, all on the same queries and candidates. For a single system the views also
            have the best candidates and the posterior of each query, where the evaluation has them.
        generator: Random generator of the sample that is drawn of many candidates and queries.

    Returns:
        classes_m, lisa (the labels, None where not measured), systems, views and left_out. Each view has its name,
        extent in metres east and north of its centre, candidates, districts, queries, and the answers of each system.
        left_out counts the cities, queries and candidates that are not drawn.
    """
    first = next(iter(evaluations.values()))
    frame = first.predictions
    names = frame["city"].where(frame["city"].notna(), "unknown city")
    if frame["city"].isna().all():
        names = pd.Series(["All queries"] * len(frame))
    largest = names.value_counts()
    drawn = sorted(largest.index[:_VIEWS])
    rows = [np.flatnonzero((names == name).to_numpy()) for name in drawn]
    candidates = first.candidates[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64)
    nearest = {name: _index(evaluation.candidates) for name, evaluation in evaluations.items()}
    views = []
    for name, of_city, at_most in zip(drawn, rows, allocate([len(of_city) for of_city in rows], _QUERIES), strict=True):
        shown = sample_rows(frame, of_city, at_most, generator)
        views.append(_view(str(name), of_city, shown, evaluations, candidates, nearest))
    inside = [view.pop("candidates_xy") for view in views]
    for view, xy, at_most in zip(views, inside, allocate([len(xy) for xy in inside], _CANDIDATES), strict=True):
        kept = xy if len(xy) <= at_most else xy[np.sort(generator.choice(len(xy), size=at_most, replace=False))]
        view["candidates"] = {
            "x": np.round(kept[:, 0]).astype(int).tolist(),
            "y": np.round(kept[:, 1]).astype(int).tolist(),
        }
    return {
        "classes_m": list(ERROR_CLASSES_M),
        "lisa": list(LISA_LABELS) if "lisa" in frame and frame["lisa"].notna().any() else None,
        "systems": list(evaluations),
        "views": views,
        "left_out": {
            "cities": len(largest) - len(drawn),
            "queries": sum(view["n"] - len(view["queries"]["x"]) for view in views),
            "candidates": sum(len(xy) - len(view["candidates"]["x"]) for view, xy in zip(views, inside, strict=True)),
        },
    }


def _view(
    name: str,
    rows: Int64[np.ndarray, " n"],
    shown: Int64[np.ndarray, " d"],
    evaluations: Mapping[str, Evaluation],
    candidates_deg: Float64[np.ndarray, "m 2"],
    nearest: Mapping[str, SphereIndex | None],
) -> dict[str, Any]:
    first = next(iter(evaluations.values()))
    frame = first.predictions.iloc[shown]
    all_deg = first.predictions.iloc[rows][["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64)
    local = LocalFrame.around(all_deg)
    xy = local.to_xy_m(all_deg)
    low, high = with_margin(xy.min(axis=0), xy.max(axis=0))
    candidates_xy = local.to_xy_m(candidates_deg)
    districts = sorted({str(district) for district in frame["region"]})
    number = {district: at for at, district in enumerate(districts)}
    view = {
        "name": name,
        "n": len(rows),
        "frame": frame_of(local),
        "extent_m": [*np.round(low, 1).tolist(), *np.round(high, 1).tolist()],
        "candidates_xy": candidates_xy[((candidates_xy >= low) & (candidates_xy <= high)).all(axis=1)],
        "districts": districts,
        "queries": {
            **axes(local.to_xy_m(frame[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64))),
            "row": shown.tolist(),
            "id": frame["image_id"].tolist(),
            "district": [number[str(district)] for district in frame["region"]],
            "lisa": [LISA_LABELS.index(label) if label in LISA_LABELS else -1 for label in frame["lisa"]]
            if "lisa" in frame
            else None,
            "path": [None if pd.isna(path) else _shown_path(str(path)) for path in frame["image_path"]]
            if "image_path" in frame and frame["image_path"].notna().any()
            else None,
        },
        "answers": {
            system: _answers(evaluation, rows, shown, local, nearest[system])
            for system, evaluation in evaluations.items()
        },
    }
    return view if len(evaluations) > 1 else {**view, **answer_details(first, shown, local)}


def _shown_path(path: str) -> str:
    """A path within the data, as it is; of one on this machine only the name, since pages are shared."""
    inside = not (PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute() or ".." in Path(path).parts)
    return path if inside else PureWindowsPath(path).name


def with_margin(
    low: Float64[np.ndarray, " 2"], high: Float64[np.ndarray, " 2"]
) -> tuple[Float64[np.ndarray, " 2"], Float64[np.ndarray, " 2"]]:
    """Corners of a view, metres, with a margin."""
    margin = np.maximum((high - low) * _MARGIN_SHARE, _MARGIN_M)
    return low - margin, high + margin


def frame_of(local: LocalFrame) -> dict[str, float]:
    """The origin of a view in degrees, and its metres per degree to the east and to the north."""
    north_m = float(np.radians(1.0) * EARTH_RADIUS_M)
    east_m = north_m * float(np.cos(np.radians(local.lat_deg)))
    return {
        "lat_deg": round(local.lat_deg, 7),
        "lon_deg": round(local.lon_deg, 7),
        "east_m": round(east_m, 3),
        "north_m": round(north_m, 3),
    }


def _answers(
    evaluation: Evaluation,
    rows: Int64[np.ndarray, " n"],
    shown: Int64[np.ndarray, " d"],
    local: LocalFrame,
    nearest: SphereIndex | None,
) -> dict[str, Any]:
    frame = evaluation.predictions.iloc[shown]
    answered = frame[["predicted_lat_deg", "predicted_lon_deg"]].to_numpy(dtype=np.float64)
    cities = _nearest_cities(answered, evaluation.candidates, nearest)
    truths = frame["city"].to_numpy(dtype=object)
    return {
        **axes(local.to_xy_m(answered)),
        "error": [float(f"{value:.4g}") for value in frame["error_m"]],
        "probability": [None if pd.isna(value) else round(float(value), 3) for value in frame["probability"]],
        "rank": [None if pd.isna(value) else int(value) for value in frame["rank_25m"]],
        # Stated only where the answer is in another city than the query.
        "city": [None if pd.isna(a) or pd.isna(b) or a == b else str(b) for a, b in zip(truths, cities, strict=True)],
        "median": float(np.median(evaluation.predictions.iloc[rows]["error_m"].to_numpy(dtype=np.float64))),
    }


def axes(xy_m: Float64[np.ndarray, "n 2"]) -> dict[str, list[float]]:
    """East and north coordinates, rounded to 0.1 m."""
    return {"x": np.round(xy_m[:, 0], 1).tolist(), "y": np.round(xy_m[:, 1], 1).tolist()}


def _nearest_cities(
    answered_deg: Float64[np.ndarray, "n 2"], candidates: pd.DataFrame, nearest: SphereIndex | None
) -> np.ndarray:
    if nearest is None:
        return np.full(len(answered_deg), None, dtype=object)
    cities: np.ndarray = candidates["city"].to_numpy(dtype=object)[nearest.nearest(answered_deg, 1)[1][:, 0]]
    return cities


def _index(candidates: pd.DataFrame) -> SphereIndex | None:
    """Index of the candidates of a system; None for a report on disk, which does not contain them."""
    return SphereIndex(candidates[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64)) if len(candidates) else None


# Probabilities are rounded to thousandths; smaller ones are not drawn.
_STEPS = 1_000
# Tolerance of the sum of cell areas to the area of a region, as a share of a cell.
_SHARE_OF_A_CELL = 0.5


def answer_details(evaluation: Evaluation, shown: Int64[np.ndarray, " d"], local: LocalFrame) -> dict[str, Any]:
    """Details of the queries of one view, as far as the evaluation has them.

    Args:
        evaluation: The evaluation; `top` and `ground` are optional.
        shown: Rows of the predictions.
        local: Local frame of the view.

    Returns:
        places and top: positions of candidates, and for each query a flat list of place, thousandths, metres from the
        true position. cells and posterior: centres and the common outline of the cells, and for each query a flat
        list of cell, thousandths. region: the 80 % region of each query as area_km2, covered, and cells: how many of
        the listed cells it has, -1 where it is larger than these, None where they do not add up to its area.
    """
    frame = evaluation.predictions.iloc[shown]
    details: dict[str, Any] = {}
    if evaluation.top is not None:
        details |= _top(evaluation.top, evaluation.candidates, frame, shown, local)
    areas = _numbers(frame, "region_area_km2_80")
    counts: list[int | None] = [None] * len(shown)
    if evaluation.cell_posterior is not None:
        drawn, counts = _ground(evaluation.cell_posterior, shown, areas, local)
        details |= drawn
    if np.isfinite(areas).any():
        covered = frame["covered_80"] if "covered_80" in frame else [None] * len(frame)
        details["region"] = {
            "area_km2": [float(f"{area:.3g}") if np.isfinite(area) else None for area in areas],
            "covered": [None if pd.isna(value) else bool(value) for value in covered],
            "cells": counts,
        }
    return details


def _top(
    top: TopCandidates, candidates: pd.DataFrame, frame: pd.DataFrame, shown: Int64[np.ndarray, " d"], local: LocalFrame
) -> dict[str, Any]:
    rows, share = top.rows[shown], np.round(_STEPS * top.probability[shown].astype(np.float64)).astype(int)
    used, place = np.unique(rows, return_inverse=True)
    place = place.reshape(rows.shape)
    positions = candidates[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64)
    truth = frame[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64)
    off = geodesic_m(np.repeat(truth, rows.shape[1], axis=0), positions[rows.reshape(-1)]).reshape(rows.shape)
    xy = local.to_xy_m(positions[used])
    return {
        "places": {
            "x": np.round(xy[:, 0]).astype(int).tolist(),
            "y": np.round(xy[:, 1]).astype(int).tolist(),
            "row": used.tolist(),
        },
        "top": [
            np.stack([place[at], share[at], np.round(off[at]).astype(int)], axis=1).reshape(-1).tolist()
            for at in range(len(shown))
        ],
    }


def _ground(
    ground: CellPosterior,
    shown: Int64[np.ndarray, " d"],
    areas_km2: Float64[np.ndarray, " d"],
    local: LocalFrame,
) -> tuple[dict[str, Any], list[int | None]]:
    cells, probability = ground.cells[shown], ground.probability[shown].astype(np.float64)
    used = np.unique(cells[cells >= 0])
    if len(used) == 0:
        return {}, [None] * len(shown)
    names = [ground.cell_ids[at] for at in used]
    area = np.asarray([h3.cell_area(name, unit="km^2") for name in names])
    centres = np.asarray([h3.cell_to_latlng(name) for name in names])
    xy = local.to_xy_m(centres)
    # Cells of one resolution hardly differ in shape within a city: one outline is used for all.
    middle = int(np.argmin((xy**2).sum(axis=1)))
    outline = local.to_xy_m(np.asarray(h3.cell_to_boundary(names[middle]))) - xy[middle]
    lists, counts = [], []
    for at in range(len(shown)):
        listed = np.searchsorted(used, cells[at][cells[at] >= 0]).astype(np.int32)
        mass = probability[at][cells[at] >= 0]
        listed, mass = _densest_first(listed, mass, area)
        steps = np.round(_STEPS * mass).astype(int)
        drawn = int(np.flatnonzero(steps)[-1]) + 1 if steps.any() else 0
        counts.append(_cells_of_region(area[listed], areas_km2[at], drawn))
        lists.append(np.stack([listed[:drawn], steps[:drawn]], axis=1).reshape(-1).tolist())
    drawn_cells = {
        "x": np.round(xy[:, 0]).astype(int).tolist(),
        "y": np.round(xy[:, 1]).astype(int).tolist(),
        "outline": np.round(outline, 1).tolist(),
    }
    return {"cells": drawn_cells, "posterior": lists}, counts


def _densest_first(
    cells: Int32[np.ndarray, " k"], mass: Float64[np.ndarray, " k"], area_km2: Float64[np.ndarray, " c"]
) -> tuple[Int32[np.ndarray, " k"], Float64[np.ndarray, " k"]]:
    """Sort cells by posterior density, the order in which a region includes them."""
    order = np.argsort(-mass / area_km2[cells], kind="stable")
    return cells[order], mass[order]


def _cells_of_region(area_km2: Float64[np.ndarray, " k"], region_km2: float, drawn: int) -> int | None:
    """Number of cells of a query, densest first, that add up to the area of its region; -1 where all are smaller."""
    if not np.isfinite(region_km2) or len(area_km2) == 0:
        return None
    total_km2 = np.cumsum(area_km2)
    tolerance = _SHARE_OF_A_CELL * float(area_km2[0])
    if region_km2 > total_km2[-1] + tolerance:
        return -1
    off = np.abs(total_km2 - region_km2)
    count = int(np.argmin(off)) + 1
    if off[count - 1] > tolerance:
        return None
    return count if count <= drawn else -1


def _numbers(frame: pd.DataFrame, column: str) -> Float64[np.ndarray, " n"]:
    if column not in frame:
        return np.full(len(frame), np.nan)
    values: Float64[np.ndarray, " n"] = pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=np.float64)
    return values


CLUSTERS = ("high-high", "low-low")
"""LISA labels of queries whose neighbours have similar errors."""


def allocate(counts: Sequence[int], at_most: int) -> list[int]:
    """Divide a budget equally; what an item does not need is divided among the others.

    Args:
        counts: Demand of each item.
        at_most: The budget.

    Example:
        >>> allocate([10, 500, 900], 400)
        [10, 195, 195]
    """
    shares = [0] * len(counts)
    left = at_most
    for rank, at in enumerate(sorted(range(len(counts)), key=lambda at: counts[at])):
        shares[at] = min(counts[at], left // (len(counts) - rank))
        left -= shares[at]
    return shares


def sample_rows(
    predictions: pd.DataFrame, rows: Int64[np.ndarray, " n"], at_most: int, generator: np.random.Generator
) -> Int64[np.ndarray, " d"]:
    """Choose the rows to draw, in increasing order.

    Where not all fit, the largest 5 % of the errors and the queries of LISA clusters fill at most a third each; the
    others are sampled at random.

    Args:
        predictions: Predictions of the evaluation: `error_m`, and `lisa` where it was measured.
        rows: Rows of the predictions to choose from.
        at_most: Maximum number of rows.
        generator: Random generator of the sample.
    """
    if len(rows) <= at_most:
        return np.sort(rows)
    frame = predictions.iloc[rows]
    third = at_most // 3
    worst = np.argsort(-frame["error_m"].to_numpy(dtype=np.float64), kind="stable")[
        : min(third, worst_count(len(rows)))
    ]
    taken = set(worst.tolist())
    if "lisa" in frame:
        inside = [at for at in np.flatnonzero(frame["lisa"].isin(CLUSTERS).to_numpy()).tolist() if at not in taken]
        taken.update(_sample(np.asarray(inside, dtype=np.int64), third, generator).tolist())
    rest = np.asarray([at for at in range(len(rows)) if at not in taken], dtype=np.int64)
    kept = np.concatenate([np.asarray(sorted(taken), dtype=np.int64), _sample(rest, at_most - len(taken), generator)])
    return np.sort(rows[kept])


def _sample(rows: Int64[np.ndarray, " n"], at_most: int, generator: np.random.Generator) -> Int64[np.ndarray, " m"]:
    return rows if len(rows) <= at_most else generator.choice(rows, size=at_most, replace=False)
