"""What the map shows of one query when it is chosen: its best candidates, its posterior on the ground, its region."""

from __future__ import annotations

from typing import Any

import h3
import numpy as np
import pandas as pd
from jaxtyping import Float64, Int32, Int64

from swclip.evaluation.measure import Evaluation
from swclip.geo.coordinates import LocalFrame
from swclip.geo.distance import geodesic_m
from swclip.metrics.query_details import GroundPosterior, TopCandidates

# Probabilities are drawn in steps of a thousandth; what is less than half of one is left out.
_STEPS = 1_000
# A sum of cells' areas is that of the region if it is nearer to it than this share of a cell.
_SHARE_OF_A_CELL = 0.5


def answer_details(evaluation: Evaluation, shown: Int64[np.ndarray, " d"], local: LocalFrame) -> dict[str, Any]:
    """The details of the queries of one view, as far as the evaluation has them.

    Args:
        evaluation: With `top` and `ground` or without.
        shown: Rows of the predictions.
        local: The view's frame.

    Returns:
        places and top: candidates by position, and for each query a flat list of place, thousandths, metres from the
        truth. cells and posterior: centres and the common outline of the cells, and for each query a flat list of
        cell, thousandths. region: for each query its 80 % region as area_km2, covered, and cells: how many of the
        listed cells it is made of, -1 where it is more than the listed, None where it cannot be told from them.
    """
    frame = evaluation.predictions.iloc[shown]
    details: dict[str, Any] = {}
    if evaluation.top is not None:
        details |= _top(evaluation.top, evaluation.candidates, frame, shown, local)
    areas = _numbers(frame, "region_area_km2_80")
    counts: list[int | None] = [None] * len(shown)
    if evaluation.ground is not None:
        drawn, counts = _ground(evaluation.ground, shown, areas, local)
        details |= drawn
    if np.isfinite(areas).any():
        covered = frame["covered_80"] if "covered_80" in frame else [None] * len(frame)
        details["region"] = {
            "area_km2": [float(f"{area:.3g}") if np.isfinite(area) else None for area in areas],
            "covered": [None if pd.isna(own) else bool(own) for own in covered],
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
    ground: GroundPosterior,
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
    # Cells of one size hardly differ in shape across a city: one outline serves all.
    middle = int(np.argmin((xy**2).sum(axis=1)))
    outline = local.to_xy_m(np.asarray(h3.cell_to_boundary(names[middle]))) - xy[middle]
    lists, counts = [], []
    for at in range(len(shown)):
        own = np.searchsorted(used, cells[at][cells[at] >= 0]).astype(np.int32)
        mass = probability[at][cells[at] >= 0]
        own, mass = _densest_first(own, mass, area)
        steps = np.round(_STEPS * mass).astype(int)
        drawn = int(np.flatnonzero(steps)[-1]) + 1 if steps.any() else 0
        counts.append(_cells_of_region(area[own], areas_km2[at], drawn))
        lists.append(np.stack([own[:drawn], steps[:drawn]], axis=1).reshape(-1).tolist())
    drawn_cells = {
        "x": np.round(xy[:, 0]).astype(int).tolist(),
        "y": np.round(xy[:, 1]).astype(int).tolist(),
        "outline": np.round(outline, 1).tolist(),
    }
    return {"cells": drawn_cells, "posterior": lists}, counts


def _densest_first(
    cells: Int32[np.ndarray, " k"], mass: Float64[np.ndarray, " k"], area_km2: Float64[np.ndarray, " c"]
) -> tuple[Int32[np.ndarray, " k"], Float64[np.ndarray, " k"]]:
    """The order in which a region takes the cells: by what each holds of the posterior on a square metre."""
    order = np.argsort(-mass / area_km2[cells], kind="stable")
    return cells[order], mass[order]


def _cells_of_region(area_km2: Float64[np.ndarray, " k"], region_km2: float, drawn: int) -> int | None:
    """How many of a query's cells, densest first, have the area of its region together; -1 where all have less."""
    if not np.isfinite(region_km2) or len(area_km2) == 0:
        return None
    together = np.cumsum(area_km2)
    tolerance = _SHARE_OF_A_CELL * float(area_km2[0])
    if region_km2 > together[-1] + tolerance:
        return -1
    off = np.abs(together - region_km2)
    count = int(np.argmin(off)) + 1
    if off[count - 1] > tolerance:
        return None
    return count if count <= drawn else -1


def _numbers(frame: pd.DataFrame, column: str) -> Float64[np.ndarray, " n"]:
    if column not in frame:
        return np.full(len(frame), np.nan)
    values: Float64[np.ndarray, " n"] = pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=np.float64)
    return values
