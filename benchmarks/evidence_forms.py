"""Ways to combine the evidence of locations, trained images and whitened features, fitted on the validation queries.

    swclip train DATA --splits SPLITS --recipe sw-clip-plus --freeze image --image-tower TOWER --out RUN
    python benchmarks/evidence_forms.py RUN

For splits whose candidates all have photographs. Temperatures and weights of each form are fitted by Nelder-Mead on the
score of `swclip.retrieval.posterior_fit`, without smoothing; the answer is the most probable candidate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import new_parser, write_table
from jaxtyping import Float64
from scipy.optimize import minimize
from scipy.special import log_expit, logsumexp

from swclip.data.splits import QuerySplit, candidates_for
from swclip.evaluation.evaluate import query_rows
from swclip.gallery.build import build_gallery
from swclip.geo.distance import geodesic_m, haversine_m
from swclip.geo.kernels import kernel_weight
from swclip.models.embed import photograph_vectors
from swclip.models.feature_cache import FeatureCache
from swclip.models.locator_model import load_model
from swclip.reporting.units import metres, percent
from swclip.retrieval.posterior_fit import SCORE_SCALE_M, surprise
from swclip.retrieval.scores import Photographed, image_similarity, location_similarity, whitened_similarity
from swclip.training.run import data_of_run, read_finished_run

Logits = Float64[np.ndarray, "q m"]


@dataclass(frozen=True)
class Similarities:
    """Similarities of queries to candidates, the positions of both, and the kernel around each true position."""

    location: Logits
    image: Logits
    whitened: Logits
    truth_deg: Float64[np.ndarray, "q 2"]
    places_deg: Float64[np.ndarray, "m 2"]
    near: Logits

    def score(self, log_p: Logits) -> float:
        """The score of a posterior, lower is better."""
        return float(surprise((np.exp(log_p) * self.near).sum(axis=1), self.near.mean(axis=1)).mean())


def log_softmax(logits: Logits) -> Logits:
    """Log softmax over the candidates."""
    return np.asarray(logits - logsumexp(logits, axis=1, keepdims=True))


def mixed(weight: float, first: Logits, second: Logits) -> Logits:
    """The mixture of two posteriors; the second has weight expit(w)."""
    return np.logaddexp(log_expit(-weight) + log_softmax(first), log_expit(weight) + log_softmax(second))


# Parameters are logarithms of inverse temperatures, and logits of weights.
FORMS: dict[str, tuple[Callable[[Similarities, Float64[np.ndarray, " n"]], Logits], list[float]]] = {
    "whitened": (lambda s, p: log_softmax(s.whitened * np.exp(p[0])), [3.0]),
    "mixture of locations and images": (
        lambda s, p: mixed(p[2], s.location * np.exp(p[0]), s.image * np.exp(p[1])),
        [4.0, 3.5, 1.0],
    ),
    "mixture of locations and whitened": (
        lambda s, p: mixed(p[2], s.location * np.exp(p[0]), s.whitened * np.exp(p[1])),
        [4.0, 3.0, 1.0],
    ),
    "sum of the logits of locations and whitened": (
        lambda s, p: log_softmax(s.location * np.exp(p[0]) + s.whitened * np.exp(p[1])),
        [3.0, 3.0],
    ),
    "mixture of locations and (sum of the logits of images and whitened)": (
        lambda s, p: mixed(p[3], s.location * np.exp(p[0]), s.image * np.exp(p[1]) + s.whitened * np.exp(p[2])),
        [4.0, 3.0, 2.5, 1.0],
    ),
    "sum of all logits": (
        lambda s, p: log_softmax(s.location * np.exp(p[0]) + s.image * np.exp(p[1]) + s.whitened * np.exp(p[2])),
        [2.5, 2.5, 2.5],
    ),
    "mixture of all": (
        lambda s, p: np.logaddexp(
            log_expit(-p[4]) + mixed(p[3], s.location * np.exp(p[0]), s.image * np.exp(p[1])),
            log_expit(p[4]) + log_softmax(s.whitened * np.exp(p[2])),
        ),
        [4.0, 3.0, 3.0, 0.0, 0.0],
    ),
}


def main() -> None:
    """Fit each form on the validation queries, and measure it on them and on the queries."""
    parser = new_parser(__doc__)
    parser.add_argument("run", type=Path)
    options = parser.parse_args()
    run = options.run
    val, query = similarities(run, "val"), similarities(run, "query")
    rows = []
    for name, (form, start) in FORMS.items():
        fit = minimize(
            lambda p, form=form: val.score(form(val, p)),
            start,
            method="Nelder-Mead",
            options={"xatol": 0.02, "fatol": 2e-4},
        )
        log_p = form(query, fit.x)
        error = geodesic_m(query.truth_deg, query.places_deg[log_p.argmax(axis=1)])
        within = [percent(float((error <= radius).mean())) for radius in (25.0, 100.0)]
        cells = [f"{fit.fun:.3f}", f"{query.score(log_p):.3f}", metres(float(np.median(error)))]
        rows.append([name, *cells, metres(float(error.mean())), *within])
    columns = ["form", "score, validation", "score, queries", "median", "mean", "within 25 m", "within 100 m"]
    write_table(options.out, "evidence_forms", columns, rows)


def similarities(run: Path, on: QuerySplit) -> Similarities:
    """Similarities of the queries of a split to its candidates."""
    cache, model = FeatureCache(), load_model(run)
    manifest, splits = data_of_run(run, read_finished_run(run), None, None)
    gallery = build_gallery(model, candidates_for(splits, on), manifest, cache=cache)
    photographed, rows = Photographed.of(gallery), query_rows(splits, manifest, on)
    if len(photographed.rows) < len(gallery):
        raise SystemExit(f"{splits.path}: {len(gallery) - len(photographed.rows)} candidates have no photograph.")
    vectors = photograph_vectors(model, [manifest.image_paths[row] for row in rows], cache=cache)
    truth, places = manifest.positions_deg[rows], gallery.positions_deg
    distance = haversine_m(truth[:, None, 0], truth[:, None, 1], places[None, :, 0], places[None, :, 1])
    return Similarities(
        location_similarity(vectors.embeddings, gallery).astype(np.float64),
        image_similarity(vectors.embeddings, gallery, photographed).astype(np.float64),
        whitened_similarity(vectors, gallery, photographed).astype(np.float64),
        truth,
        places,
        np.asarray(kernel_weight(distance, SCORE_SCALE_M, "exponential")),
    )


if __name__ == "__main__":
    main()
