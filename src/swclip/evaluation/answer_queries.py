"""Answers from posteriors in chunks, so that the whole matrix of queries and candidates is never in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Float32, Float64, Int64

from swclip.calibration.stated import RADII_M
from swclip.errors import ArtefactError
from swclip.geo.neighbours import SphereIndex
from swclip.metrics.localization_error import RECALL_KS, first_hit_rank
from swclip.metrics.query_details import TopCandidates
from swclip.retrieval.point_estimates import top_k
from swclip.retrieval.region_fit import mass_within

Estimator = Callable[[Float32[np.ndarray, "q m"], Float64[np.ndarray, "m 2"]], Float64[np.ndarray, "q 2"]]
"""Log posterior (q, M) and candidate positions (M, 2) in degrees to answers (q, 2) in degrees."""

Smoothing = Callable[[Float64[np.ndarray, "q m"]], Float64[np.ndarray, "q m"]]
"""Spatial smoothing of the probabilities over the candidates."""

TOP = max(RECALL_KS)
"""Number of candidates kept per query, best first."""


class Meter(Protocol):
    """Accumulates figures from the smoothed posteriors."""

    def add(self, probability: Float64[np.ndarray, "q m"], /) -> None:
        """Add the smoothed posteriors of the next queries; rows sum to 1."""


class Answers:
    """Answers and details of all queries, filled chunk by chunk.

    Attributes:
        positions_deg: (Q, 2) answers in degrees, by estimator.
        ranks: (Q,) rank of the first candidate within 25 m of the truth, from 1; 0 where there is none.
        top: The most probable candidates.
        mass: For each radius of `RADII_M`, (Q,) smoothed posterior mass within it of the answer of the main estimator.
    """

    def __init__(self, estimators: Iterable[str], queries: int, candidates: int) -> None:
        kept = min(TOP, candidates)
        self.positions_deg = {name: np.empty((queries, 2)) for name in estimators}
        self.ranks: Int64[np.ndarray, " q"] = np.zeros(queries, dtype=np.int64)
        self.top = TopCandidates(np.zeros((queries, kept), dtype=np.int32), np.zeros((queries, kept), dtype=np.float32))
        self.mass = {radius_m: np.zeros(queries) for radius_m in RADII_M}


def answer(
    log_posteriors: Iterable[Float32[np.ndarray, "q m"]],
    candidates_deg: Float64[np.ndarray, "m 2"],
    answerable: Sequence[Int64[np.ndarray, " h"]],
    estimators: Mapping[str, Estimator],
    main_estimator: str,
    smoothing: Smoothing | None = None,
    meters: Sequence[Meter] = (),
) -> Answers:
    """Answer all queries.

    Args:
        log_posteriors: Chunks (q, M) of the log posterior, rows in the order of the queries.
        candidates_deg: (M, 2) positions of the candidates in degrees.
        answerable: For each query the correct candidates, within 25 m of the truth.
        estimators: Estimator by name.
        main_estimator: The estimator whose answers' probability is computed.
        smoothing: Spatial smoothing of the posterior for its masses and the meters; None for none.
        meters: Accumulators of the smoothed posterior.

    Raises:
        ArtefactError: A posterior contains NaN, or the number of its rows or columns is wrong.
    """
    answers = Answers(estimators, len(answerable), len(candidates_deg))
    index = SphereIndex(candidates_deg)
    start = 0
    for chunk in log_posteriors:
        log_posterior = np.asarray(chunk)
        rows = slice(start, start + len(log_posterior))
        if log_posterior.shape[1:] != (len(candidates_deg),) or rows.stop > len(answerable):
            raise ArtefactError(
                f"the posterior has shape {log_posterior.shape} at query {start}, for {len(answerable)} queries and "
                f"{len(candidates_deg)} candidates; the gallery is not that of the split: build it again."
            )
        if np.isnan(log_posterior).any():
            row = start + int(np.flatnonzero(np.isnan(log_posterior).any(axis=1))[0])
            raise ArtefactError(f"query {row}: the model's scores are not numbers; its training diverged, train again.")
        for name, estimator in estimators.items():
            answers.positions_deg[name][rows] = estimator(log_posterior, candidates_deg)
        mass = np.exp(log_posterior - log_posterior.max(axis=1, keepdims=True), dtype=np.float64)
        mass /= mass.sum(axis=1, keepdims=True)
        top = top_k(log_posterior, TOP)
        answers.top.rows[rows] = top
        answers.top.probability[rows] = np.take_along_axis(mass, top, axis=1)
        for row, scores in enumerate(log_posterior):
            answers.ranks[start + row] = first_hit_rank(scores, answerable[start + row])
        smoothed = mass if smoothing is None else smoothing(mass)
        for radius_m, near in answers.mass.items():
            near[rows] = mass_within(index, smoothed, answers.positions_deg[main_estimator][rows], radius_m)
        for meter in meters:
            meter.add(smoothed)
        start = rows.stop
    if start != len(answerable):
        raise ArtefactError(f"{start} of {len(answerable)} queries were answered; run the command again.")
    return answers
