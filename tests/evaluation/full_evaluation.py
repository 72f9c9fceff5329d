"""A made-up evaluation with everything a report may hold, of any size, built from drawn errors without a posterior.

The figures of merit that are cheap come from the package's own functions; those of the optional blocks (spatial,
calibration, regional) are drawn to look like real ones: they are there to be shown, not to be right.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import h3
import numpy as np
import pandas as pd

from swclip.evaluation.measure import Evaluation
from swclip.geo.cells import cell_ids
from swclip.geo.coordinates import LocalFrame
from swclip.geo.distance import geodesic_m
from swclip.geo.neighbours import SphereIndex
from swclip.metrics.baselines import baselines
from swclip.metrics.bootstrap import bootstrap_intervals, resample_blocks
from swclip.metrics.query_details import GroundPosterior, TopCandidates
from swclip.metrics.error_report import nested_intervals
from swclip.metrics.localization_error import (RECALL_KS, accuracy_within, by_region, error_statistics, mean_reciprocal_rank, recall_at_k)

LEVELS = (0.5, 0.8, 0.9, 0.95)
LISA = ("high-high", "low-low", "high-low", "low-high", "not significant")
EIGHT = {
    "Leeds": (53.8008, -1.5491),
    "York": (53.9600, -1.0873),
    "Bath": (51.3811, -2.3590),
    "Cambridge": (52.2053, 0.1218),
    "Oxford": (51.7520, -1.2577),
    "Newcastle upon Tyne": (54.9783, -1.6178),
    "Exeter": (50.7184, -3.5339),
    "Norwich": (52.6309, 1.2974),
}
ONE = {"Cambridge": EIGHT["Cambridge"]}
_CELL_RESOLUTION = 11
_CELLS = 60
_CELL_KM2 = 0.00215


def full_evaluation(
    seed: int = 0,
    *,
    n_queries: int = 600,
    n_candidates: int = 1_800,
    cities: dict[str, tuple[float, float]] | None = None,
    empty: bool = False,
) -> Evaluation:
    """An evaluation with every key of report.json and every column of the predictions.

    Args:
        seed: Of everything that is drawn.
        n_queries: Queries in all cities.
        n_candidates: Candidates in all cities.
        cities: Name and centre; one city where None.
        empty: Whether every optional block is null, as for an evaluation that had nothing to measure them with.
    """
    generator = np.random.default_rng(seed)
    cities = ONE if cities is None else cities
    truth, city, hard = _streets(generator, n_queries, cities)
    places, candidate_city, _ = _streets(generator, n_candidates, cities)
    candidates = pd.DataFrame(
        {
            "candidate_id": [f"c{row:06d}" for row in range(len(places))],
            "lat_deg": places[:, 0],
            "lon_deg": places[:, 1],
            "city": candidate_city,
            "image_ids": [[f"gallery-{row:06d}"] for row in range(len(places))],
        }
    )
    index = SphereIndex(places)
    answers = _answers(generator, truth, places, hard, index)
    error = geodesic_m(truth, answers)
    floor = geodesic_m(truth, places[index.nearest(truth, 1)[1][:, 0]])
    rank = np.where(floor <= 25.0, np.ceil(np.maximum(error, 1.0) / 25.0) ** 1.3, 0).astype(np.int64)
    xy = LocalFrame.around(truth).to_xy_m(truth)
    district = [f"{name} {'north' if own[1] > 0 else 'south'}" for name, own in zip(city, xy, strict=True)]
    region = city if len(cities) > 1 else district
    block = [f"{name}-{int(x // 150)}-{int(y // 150)}" for name, (x, y) in zip(city, xy, strict=True)]
    top = _top(generator, answers, index)
    ground, areas = _ground(generator, answers, places, index)
    covered = {level: (generator.random(n_queries) < level - 0.05) & (error < 3_000.0) for level in LEVELS}
    lisa = _lisa(generator, error, hard)
    predictions = pd.DataFrame(
        {
            "image_id": [f"query-{row:06d}" for row in range(n_queries)],
            "lat_deg": truth[:, 0],
            "lon_deg": truth[:, 1],
            "predicted_lat_deg": answers[:, 0],
            "predicted_lon_deg": answers[:, 1],
            "error_m": error,
            "floor_m": floor,
            "region": region,
            "city": city,
            "rank_25m": pd.array([int(own) if own else None for own in rank], dtype="Int64"),
            "top1_candidate_id": candidates["candidate_id"].to_numpy()[top.rows[:, 0]],
            "probability": np.clip(generator.beta(3, 2, n_queries) * np.where(hard, 0.7, 1.0), 0.0, 1.0),
            "split": "query",
            "block": block,
            "city_predicted": pd.array(city, dtype=object),
            "city_probability": pd.array(generator.beta(20, 1, n_queries), dtype="Float64"),
        }
    )
    report = _report(generator, predictions, places, rank, n_candidates)
    if empty:
        report |= {"regional": None, "spatial": None, "calibration": None}
        for name in ("lisa", "lisa_p", "image_path", "cannot_tell"):
            predictions[name] = None
        for level in LEVELS:
            predictions[f"covered_{level * 100:.0f}"] = predictions[f"region_area_km2_{level * 100:.0f}"] = None
        return Evaluation(report, predictions, candidates, {"mode": error})
    for level in LEVELS:
        predictions[f"region_area_km2_{level * 100:.0f}"] = areas[level]
        predictions[f"covered_{level * 100:.0f}"] = pd.array(covered[level], dtype="boolean")
    predictions["cannot_tell"] = pd.array(np.isnan(areas[0.8]), dtype="boolean")
    predictions["lisa"], predictions["lisa_p"] = lisa, generator.uniform(0.001, 1.0, n_queries)
    predictions["ndcg_20"] = np.clip(1.2 - np.log10(np.maximum(error, 1.0)) / 3.0, 0.0, 1.0)
    predictions["geoscore"] = 5_000.0 * np.exp(-error / 1e3 / 1492.7)
    names = candidates["candidate_id"].to_numpy()
    predictions["top_candidate_ids"] = [names[own].tolist() for own in top.rows]
    predictions["top_probabilities"] = [own.tolist() for own in top.probability]
    predictions["image_path"] = [f"photographs/{name}.jpg" for name in predictions["image_id"]]
    report |= {
        "regional": _regional(report),
        "spatial": _spatial(generator, lisa, n_queries),
        "calibration": _calibration(predictions, covered, areas, n_candidates),
    }
    return Evaluation(report, predictions, candidates, {"mode": error}, top, ground)


def _streets(
    generator: np.random.Generator, n: int, cities: dict[str, tuple[float, float]]
) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Positions along streets 90 m apart, their cities, and which lie in a district that is hard."""
    positions, names, hard = [], [], []
    half = 45.0 * max(6.0, np.ceil(np.sqrt(n / len(cities)) / 2.5))
    for at, (name, (lat, lon)) in enumerate(cities.items()):
        own = n // len(cities) + (at < n % len(cities))
        along = generator.uniform(-half, half, own)
        street = np.round(generator.uniform(-half, half, own) / 90.0) * 90.0
        swap = generator.random(own) < 0.5
        xy = np.where(swap[:, None], np.stack([along, street], 1), np.stack([street, along], 1))
        keep_in = np.hypot(*xy.T) > half  # a round town: what is outside moves towards its centre
        xy[keep_in] *= 0.6
        xy += generator.normal(0, 2.0, xy.shape)
        positions.append(LocalFrame(lat, lon).to_deg(xy))
        names += [name] * own
        hard.append((xy[:, 0] > 0.15 * half) & (xy[:, 1] > 0.1 * half))
    return np.concatenate(positions), names, np.concatenate(hard)


def _answers(
    generator: np.random.Generator, truth: np.ndarray, places: np.ndarray, hard: np.ndarray, index: SphereIndex
) -> np.ndarray:
    n = len(truth)
    off = generator.lognormal(np.log(18.0), 0.9, n) * np.where(hard, 4.0, 1.0)
    turn = generator.uniform(0, 2 * np.pi, n)
    metre = np.array([1.0, 1.0]) / 111_195.0
    moved = truth + off[:, None] * metre * np.stack([np.cos(turn), np.sin(turn) / np.cos(np.radians(truth[:, 0]))], 1)
    answers = places[index.nearest(moved, 1)[1][:, 0]]
    lost = generator.random(n) < np.where(hard, 0.2, 0.04)
    answers[lost] = places[generator.integers(len(places), size=int(lost.sum()))]
    return answers


def _top(generator: np.random.Generator, answers: np.ndarray, index: SphereIndex) -> TopCandidates:
    distance, rows = index.nearest(answers, 10)
    weight = np.exp(-distance / generator.uniform(8.0, 80.0, (len(answers), 1)))
    probability = 0.9 * weight / weight.sum(axis=1, keepdims=True)
    return TopCandidates(rows.astype(np.int32), probability.astype(np.float32))


def _ground(
    generator: np.random.Generator, answers: np.ndarray, places: np.ndarray, index: SphereIndex
) -> tuple[GroundPosterior, dict[float, np.ndarray]]:
    """Cells round the answer and round a second place, and the areas of the regions that follow from them."""
    names, of_place = np.unique(np.asarray(cell_ids(places, _CELL_RESOLUTION)), return_inverse=True)
    second = places[generator.integers(len(places), size=len(answers))]
    near, far = index.nearest(answers, 90), index.nearest(second, 30)
    reach = generator.lognormal(np.log(40.0), 0.7, len(answers))[:, None]
    weight = np.concatenate([0.85 * np.exp(-near[0] / reach), 0.15 * np.exp(-far[0] / reach)], axis=1)
    which = of_place[np.concatenate([near[1], far[1]], axis=1)]
    cells = np.full((len(answers), _CELLS), -1, dtype=np.int32)
    probability = np.zeros((len(answers), _CELLS), dtype=np.float32)
    areas = {level: np.full(len(answers), np.nan) for level in LEVELS}
    for row in range(len(answers)):
        own, inverse = np.unique(which[row], return_inverse=True)
        mass = np.bincount(inverse, weights=weight[row])
        mass *= 0.985 / mass.sum()
        best = np.argsort(-mass, kind="stable")[:_CELLS]
        cells[row, : len(best)], probability[row, : len(best)] = own[best], mass[best]
        km2 = np.cumsum([h3.cell_area(str(names[cell]), unit="km^2") for cell in own[best]]) if row < 3_000 else None
        total = np.cumsum(mass[best])
        for level in LEVELS:
            enough = int(np.searchsorted(total, level)) + 1
            if row % 17 == 3:  # no useful region
                continue
            if row % 17 == 5:  # a region of more cells than are kept
                areas[level][row] = _CELL_KM2 * 200 * (1 + level)
            elif enough <= len(best):
                areas[level][row] = km2[enough - 1] if km2 is not None else _CELL_KM2 * enough
            elif reach[row, 0] < 150.0:
                areas[level][row] = _CELL_KM2 * 90 * (1 + level)
    return GroundPosterior([str(name) for name in names], cells, probability), areas


def _lisa(generator: np.random.Generator, error: np.ndarray, hard: np.ndarray) -> np.ndarray:
    significant = generator.random(len(error)) < 0.5
    large = error > np.median(error)
    label = np.select(
        [hard & large, hard & ~large, ~hard & ~large & (error < 20.0), ~hard & large & (error > 500.0)],
        [LISA[0], LISA[3], LISA[1], LISA[2]],
        LISA[4],
    )
    return np.where(significant, label, LISA[4]).astype(object)


def _report(
    generator: np.random.Generator, frame: pd.DataFrame, places: np.ndarray, rank: np.ndarray, n_candidates: int
) -> dict[str, Any]:
    error, truth = frame["error_m"].to_numpy(), frame[["lat_deg", "lon_deg"]].to_numpy()
    resampled = resample_blocks(frame["block"].tolist(), 60, generator)
    some = places[:: max(1, len(places) // 5_000)]
    figures = {"error_m": error_statistics(error), "accuracy_within_m": accuracy_within(error)}
    guesses, _ = baselines(truth, some, some, generator)
    recall = recall_at_k(rank)
    return {
        "version": "2",
        "on": "query",
        "n_queries": len(frame),
        "n_answerable": int((frame["floor_m"] <= 25.0).sum()),
        "gallery_size": n_candidates,
        "gallery_photographs": n_candidates,
        "estimator": "mode",
        "truth": {"position": "recorded", "columns": "lat_deg, lon_deg"},
        "posterior": {"temperature": 0.043, "image_weight": 0.55, "smoothing_m": 20.0, "fitted": True},
        **figures,
        "recall_at_k_25m": recall,
        "mrr_25m": mean_reciprocal_rank(rank),
        "ndcg_at_k": {str(k): float(0.55 + 0.02 * at + 0.3 * recall["1"]) for at, k in enumerate(RECALL_KS)},
        "relevance": {"kernel": "exponential", "bandwidth_m": 25.0},
        "geoscore": float(np.mean(5_000.0 * np.exp(-error / 1e3 / 1492.7))),
        "city_alignment_at_k": {str(k): 0.99 - 0.01 * at for at, k in enumerate(RECALL_KS)},
        "levels": {
            name: {"n": len(frame), "n_answerable": len(frame) - 3, "units": 12, "brier": 0.08 + 0.1 * at}
            | {"accuracy": 0.95 - 0.1 * at, "accuracy_of_point": 0.94 - 0.1 * at}
            | {"mean_probability": 0.9 - 0.1 * at, "log_score": 0.12 + 0.3 * at}
            for at, name in enumerate(("city", "cell_6", "cell_8", "cell_10"))
        },
        "baselines": guesses,
        "estimators": {"mode": figures, "argmax": figures},
        "regions": "city",
        "by_region": by_region(error, frame["region"].tolist()),
        "intervals": {
            **nested_intervals(bootstrap_intervals(error, resampled)),
            "level": 0.95,
            "resamples": 60,
            "block": "block_id",
            "blocks": frame["block"].nunique(),
        },
        "made_with": {
            "swclip": "0.1.0",
            "python": "3.12.3",
            "torch": "2.13.0",
            "manifest": {"path": "data/manifest.parquet", "digest": "5c1f0d5e8b"},
            "splits": {"path": "data/splits.parquet", "protocol": "new-streets", "query_share": 0.2, "seed": 0},
            "run": {"path": "runs/sw-clip", "system": "sw-clip", "seed": 7},
            "command": "swclip evaluate runs/sw-clip --out runs/sw-clip/evaluation",
        },
    }


def _regional(report: dict[str, Any]) -> dict[str, Any] | None:
    medians = {name: float(own["median"]) for name, own in report["by_region"].items()}
    if len(medians) < 2:
        return None
    best, worst = min(medians, key=medians.__getitem__), max(medians, key=medians.__getitem__)
    low, high = medians[best], medians[worst]
    found = {"best": best, "worst": worst, "best_median": low, "worst_median": high, "gap": high - low}
    return {**found, "gini": 0.23, "n_regions": len(medians)}


def _spatial(generator: np.random.Generator, lisa: np.ndarray, n: int) -> dict[str, Any]:
    edges = (0, 25, 50, 100, 200, 400, 800, 1_600)

    def bands(start: float, slope: float) -> list[dict[str, Any]]:
        return [
            {
                "low_m": float(low),
                "high_m": float(high),
                "pairs": int(40 * high),
                "mean_distance": float(start + slope * np.log1p(high / 40.0) * (1 + 0.02 * generator.normal())),
                "spearman": None if low == 0 else float(0.45 * np.exp(-low / 300.0)),
                "p": None if low == 0 else 0.001,
            }
            for low, high in pairwise(edges)
        ]

    return {
        "errors_moran": {"i": 0.312, "expected": -1.0 / (n - 1), "z": 14.2, "p": 0.001}
        | {"permutations": 999, "neighbours": 8, "n": n},
        "lisa": {"alpha": 0.05, "permutations": 9_999, "correction": "Benjamini-Hochberg", "threshold": 0.01}
        | {"counts": {name: int((lisa == name).sum()) for name in LISA}},
        "components": [
            {"component": at + 1, "variance_share": 0.21 * 0.7**at, "i": 0.62 - 0.07 * at, "p": 0.001}
            for at in range(5)
        ],
        "correlogram": {"image": bands(0.31, 0.11), "location": bands(0.04, 0.22)},
        "mantel": {"image": {"r": 0.34, "p": 0.001}, "location": {"r": 0.81, "p": 0.001}},
        "smoothness": {
            "image": {"k": 10, "ratio": 0.18, "spearman": 0.41, "within_m": 1_000.0},
            "location": {"k": 10, "ratio": 0.03, "spearman": 0.93, "within_m": 1_000.0},
        },
    }


def _calibration(
    frame: pd.DataFrame, covered: dict[float, np.ndarray], areas: dict[float, np.ndarray], n_candidates: int
) -> dict[str, Any]:
    regions = frame["region"].to_numpy(dtype=object)

    def block(level: float) -> dict[str, Any]:
        hit, area = covered[level], areas[level]
        known = area[np.isfinite(area)]
        share = float(hit.mean())
        half = 2.0 * float(np.sqrt(share * (1 - share) / 60))
        return {
            "coverage": share,
            "coverage_interval": [share - half, min(1.0, share + half)],
            "area_km2": {
                "median": float(np.median(known)),
                "mean": float(known.mean()),
                "p90": float(np.percentile(known, 90)),
            },
            "by_region": {
                str(name): {
                    "n": int((regions == name).sum()),
                    "coverage": float(hit[regions == name].mean()),
                    "coverage_interval": [share - 2 * half, min(1.0, share + 2 * half)],
                    "median_area_km2": float(np.nanmedian(area[regions == name])),
                }
                for name in sorted(set(regions))
            },
        }

    levels = [
        {
            "level": level,
            "threshold": (1.0 - level) * 0.8,
            "n": len(frame),
            "expected": [level - 0.04, level + 0.03],
            "cannot_tell": float(np.isnan(areas[level]).mean()),
            **block(level),
            "by_city": block(level) if len(set(regions)) > 2 else None,
        }
        for level in LEVELS
    ]
    edges = np.linspace(0.0, 1.0, 11)
    reliability = [
        {
            "low": low,
            "high": high,
            "n": 30 + at * 7,
            "mean_probability": (low + high) / 2,
            "coverage": (low + high) / 2 * 0.88 + 0.02,
            "coverage_interval": [max(0.0, (low + high) / 2 * 0.88 - 0.07), min(1.0, (low + high) / 2 * 0.88 + 0.11)],
        }
        for at, (low, high) in enumerate(pairwise(edges.tolist()))
    ]
    share = np.linspace(0.05, 1.0, 20)
    error = np.sort(frame["error_m"].to_numpy())
    return {
        "method": {"source": "validation", "n": 412, "unreachable": 9, "units": 61}
        | {"by_city": len(set(regions)) > 2, "own_cities": []},
        "cells": {"resolution": _CELL_RESOLUTION, "across_m": 50.0, "spread_m": 25.0},
        "total_area_km2": n_candidates * _CELL_KM2 / 2,
        "levels": levels,
        "reliability": reliability,
        "area_curve": {
            "area_km2": np.geomspace(0.002, n_candidates * _CELL_KM2 / 2, 30).tolist(),
            "recall": (1 - np.exp(-np.linspace(0.4, 5, 30))).tolist(),
        },
        "selective": {
            "by": "area of the 80 % region",
            "share": share.tolist(),
            "median_m": [float(np.median(error[: max(1, int(own * len(error)))])) for own in share],
            "within_100_m": [float(np.mean(error[: max(1, int(own * len(error)))] <= 100)) for own in share],
            "n": [int(own * len(error)) for own in share],
        },
    }
