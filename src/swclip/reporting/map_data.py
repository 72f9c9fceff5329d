"""What the map of a page draws, as plain numbers: a view a city, its candidates, queries and answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from swclip.reporting.map_answers import answer_details
from swclip.reporting.map_sample import drawn_rows, shares_of
from swclip.evaluation.measure import Evaluation
from swclip.geo.coordinates import LocalFrame
from swclip.geo.neighbours import SphereIndex

ERROR_CLASSES_M = (25.0, 100.0, 500.0, 5_000.0)
"""Edges of the colours on the map."""

LISA_LABELS = ("high-high", "low-low", "high-low", "low-high", "not significant")

_VIEWS = 24
_QUERIES = 6_000
_CANDIDATES = 24_000
# A view reaches this much further than its queries, as a share of their extent and at least so many metres.
_MARGIN_SHARE, _MARGIN_M = 0.06, 60.0


def map_data(evaluations: Mapping[str, Evaluation], generator: np.random.Generator) -> dict[str, Any]:
    """The maps of a page: one view a city, or one view for all where no city is known.

    Args:
        evaluations: System and evaluation, all on the same queries and candidates. Where there is but one, the best
            candidates and the posterior of each query come with it, as far as the evaluation has them.
        generator: Which candidates and queries are left out where there are too many to draw.

    Returns:
        classes_m, lisa (the labels, None where not measured), systems and views. Each view has its name, extent in
        metres east and north of its centre, candidates, regions, queries, and for each system the answers. What was
        left out to keep the page small is counted in `left_out`.
    """
    first = next(iter(evaluations.values()))
    frame = first.predictions
    names = frame["city"].where(frame["city"].notna(), "no city named")
    if frame["city"].isna().all():
        names = pd.Series(["The whole area"] * len(frame))
    largest = names.value_counts()
    drawn = sorted(largest.index[:_VIEWS])
    rows = [np.flatnonzero((names == name).to_numpy()) for name in drawn]
    candidates = first.candidates[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64)
    nearest = {name: _index(found.candidates) for name, found in evaluations.items()}
    views = []
    for name, own, at_most in zip(drawn, rows, shares_of([len(own) for own in rows], _QUERIES), strict=True):
        shown = drawn_rows(frame, own, at_most, generator)
        views.append(_view(str(name), own, shown, evaluations, candidates, nearest))
    inside = [view.pop("candidates_xy") for view in views]
    for view, xy, at_most in zip(views, inside, shares_of([len(xy) for xy in inside], _CANDIDATES), strict=True):
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
    low, high = xy.min(axis=0), xy.max(axis=0)
    margin = np.maximum((high - low) * _MARGIN_SHARE, _MARGIN_M)
    low, high = low - margin, high + margin
    candidates_xy = local.to_xy_m(candidates_deg)
    regions = sorted({str(region) for region in frame["region"]})
    number = {region: at for at, region in enumerate(regions)}
    view = {
        "name": name,
        "n": len(rows),
        "extent_m": [*np.round(low, 1).tolist(), *np.round(high, 1).tolist()],
        "candidates_xy": candidates_xy[((candidates_xy >= low) & (candidates_xy <= high)).all(axis=1)],
        "regions": regions,
        "queries": {
            **axes(local.to_xy_m(frame[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64))),
            "row": shown.tolist(),
            "id": frame["image_id"].tolist(),
            "region": [number[str(region)] for region in frame["region"]],
            "lisa": [LISA_LABELS.index(own) if own in LISA_LABELS else -1 for own in frame["lisa"]]
            if "lisa" in frame
            else None,
            "path": [None if pd.isna(path) else str(path) for path in frame["image_path"]]
            if "image_path" in frame and frame["image_path"].notna().any()
            else None,
        },
        "answers": {
            system: _answers(evaluation, rows, shown, local, nearest[system])
            for system, evaluation in evaluations.items()
        },
    }
    return view if len(evaluations) > 1 else {**view, **answer_details(first, shown, local)}


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
    own = frame["city"].to_numpy(dtype=object)
    return {
        **axes(local.to_xy_m(answered)),
        "error": [float(f"{value:.4g}") for value in frame["error_m"]],
        "probability": [None if pd.isna(value) else round(float(value), 3) for value in frame["probability"]],
        "rank": [None if pd.isna(value) else int(value) for value in frame["rank_25m"]],
        # Named only where the answer is in another city than the query.
        "city": [None if pd.isna(a) or pd.isna(b) or a == b else str(b) for a, b in zip(own, cities, strict=True)],
        "median": float(np.median(evaluation.predictions.iloc[rows]["error_m"].to_numpy(dtype=np.float64))),
    }


def axes(xy_m: Float64[np.ndarray, "n 2"]) -> dict[str, list[float]]:
    """East and north apart, to 0.1 m."""
    return {"x": np.round(xy_m[:, 0], 1).tolist(), "y": np.round(xy_m[:, 1], 1).tolist()}


def _nearest_cities(
    answered_deg: Float64[np.ndarray, "n 2"], candidates: pd.DataFrame, nearest: SphereIndex | None
) -> np.ndarray:
    if nearest is None:
        return np.full(len(answered_deg), None, dtype=object)
    cities: np.ndarray = candidates["city"].to_numpy(dtype=object)[nearest.nearest(answered_deg, 1)[1][:, 0]]
    return cities


def _index(candidates: pd.DataFrame) -> SphereIndex | None:
    """Of a system's own candidates, which galleries need not share; None where a report on disk does not hold them."""
    return SphereIndex(candidates[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64)) if len(candidates) else None
