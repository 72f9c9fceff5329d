"""Fit the temperature of verification on validation queries, and use verification only where they gain by it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import ArrayLike

from swclip.calibration.posterior_config import PosteriorConfig
from swclip.gallery.gallery import Gallery
from swclip.gallery.patches import Verifier
from swclip.models.embed import Progress
from swclip.models.keypoints import KeypointMatcher, KeypointVerifier
from swclip.models.photograph_vectors import PhotographVectors, Vectors
from swclip.retrieval.posterior import gallery_kernel
from swclip.retrieval.posterior_fit import PosteriorFit, errors_m, near_truth, surprise
from swclip.retrieval.scores import Photographed, check_queries, chunks, log_probability
from swclip.retrieval.verification import Verified

TEMPERATURES = tuple(float(t) for t in np.geomspace(0.001, 0.3, 25))
_NONE = 0  # the row of a table of scores without verification


def fit_verification(
    query: Vectors,
    truth_deg: ArrayLike,
    gallery: Gallery,
    fit: PosteriorFit,
    candidates: int,
    *,
    temperatures: Sequence[float] = TEMPERATURES,
    max_queries: int = 1000,
    generator: np.random.Generator | None = None,
    fold_of: Int64[np.ndarray, " q"] | None = None,
    progress: Progress | None = None,
) -> PosteriorFit:
    """Choose the temperature of verification by the score of `posterior_fit.fit_posterior`, all else unchanged.

    Verification is used where it improves the score of queries that were not fitted on: with folds, each query is
    scored with the posterior and the temperature that were fitted without its fold.

    Args:
        query: Vectors of Q validation photographs, with details.
        truth_deg: (Q, 2) their true positions, degrees.
        gallery: The validation queries' gallery, with a verifier.
        fit: The posterior without verification, fitted with these folds.
        candidates: K, the number of candidates that are verified.
        temperatures: Values tried.
        max_queries: Largest number of queries that are used, drawn without replacement.
        generator: Generator of that draw.
        fold_of: (Q,) folds of the queries, from 0.
        progress: Called with (done, total) comparisons of a query with its candidates.

    Returns:
        The fit with verification, whose `balanced` is `fit`; or `fit` where the queries do not gain.

    Raises:
        MismatchError: The gallery or the queries have nothing to compare.
    """
    queries, truth = check_queries(query, gallery), np.asarray(truth_deg, dtype=np.float64).reshape(-1, 2)
    if len(queries) > max_queries:
        drawn = np.sort((generator or np.random.default_rng(0)).choice(len(queries), max_queries, replace=False))
        queries, truth = queries.take(drawn), truth[drawn]
        fold_of = None if fold_of is None else fold_of[drawn]
    remembered = replace(gallery, verifier=None if gallery.verifier is None else _Remembered(gallery.verifier))
    folds = np.zeros(len(queries), dtype=np.int64) if fold_of is None or not fit.left_out else fold_of + 1
    configs = (fit.config, *fit.left_out)
    report = _counted(progress, len(configs) * len(queries))
    tables = [_scores(queries, truth, remembered, config, candidates, temperatures, report) for config in configs]
    best = [
        int(table[:, (folds != number) | (number == 0)].mean(axis=1).argmin()) for number, table in enumerate(tables)
    ]
    rows = np.arange(len(queries))
    left_out = np.stack(tables)[folds, :, rows]
    gain = float((left_out[:, _NONE] - left_out[rows, np.asarray(best)[folds]]).mean())
    if best[0] == _NONE or gain <= 0.0:
        return fit
    matcher = gallery.verifier.matcher if isinstance(gallery.verifier, KeypointVerifier) else None
    verified = [
        config if at == _NONE else _with(config, candidates, temperatures[at - 1], matcher)
        for config, at in zip(configs, best, strict=True)
    ]
    errors = errors_m(queries, truth, remembered, Photographed.of(gallery), verified[0])
    return replace(
        fit,
        config=replace(verified[0], balanced=replace(fit.config, fast=None)),
        score=float(tables[0][best[0]].mean()),
        median_error_m=float(np.median(errors)),
        mean_error_m=float(np.mean(errors)),
        n_queries=len(queries),
        left_out=tuple(verified[1:]),
        balanced=fit,
    )


def _with(
    config: PosteriorConfig, candidates: int, temperature: float, matcher: KeypointMatcher | None
) -> PosteriorConfig:
    verified = replace(config, verified_candidates=candidates, verified_temperature=temperature)
    if matcher is None:
        return verified
    return replace(verified, matcher=matcher.name, matcher_fingerprint=matcher.fingerprint)


def _counted(progress: Progress | None, total: int) -> Callable[[], None]:
    """A function that reports one more of `total`."""
    done = 0

    def report() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    return report


def _scores(
    queries: PhotographVectors,
    truth: Float64[np.ndarray, "q 2"],
    gallery: Gallery,
    config: PosteriorConfig,
    candidates: int,
    temperatures: Sequence[float],
    report: Callable[[], None],
) -> Float64[np.ndarray, "t q"]:
    """The score of each query without verification, and with each temperature."""
    scores = np.empty((1 + len(temperatures), len(queries)))
    photographed = Photographed.of(gallery)
    kernel = gallery_kernel(gallery, config.smoothing_m, config.kernel)
    details = queries.details or (None,) * len(queries)
    for chunk in chunks(len(queries), gallery):
        log_p = log_probability(queries.take(chunk), gallery, config, photographed)
        around = near_truth(truth[chunk], gallery, kernel)
        mass = np.einsum("qm,qm->q", np.exp(log_p), around)
        uniform = around.mean(axis=1)
        scores[_NONE, chunk] = surprise(mass, uniform)
        for row in range(len(log_p)):
            query = chunk.start + row
            verified = Verified.of(log_p[row], details[query], gallery, photographed.of_candidate, candidates)
            before, weight = np.exp(log_p[row, verified.rows]), around[row, verified.rows]
            for at, temperature in enumerate(temperatures, start=1):
                change = before * np.expm1(verified.log_factor(log_p[row], temperature))
                scores[at, query] = surprise(mass[row] + (change * weight).sum(), uniform[row])
            report()
    return scores


@dataclass(eq=False)
class _Remembered:
    """A verifier that compares each query and photograph once."""

    verifier: Verifier
    known: dict[tuple[int, str], float] = field(default_factory=dict)

    def compare(self, query: Any, image_ids: Sequence[str]) -> Float64[np.ndarray, " n"]:
        """See `Verifier`."""
        missing = [name for name in image_ids if (id(query), name) not in self.known]
        for name, similarity in zip(missing, self.verifier.compare(query, missing).tolist(), strict=True):
            self.known[id(query), name] = similarity
        return np.array([self.known[id(query), name] for name in image_ids])
