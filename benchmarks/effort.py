"""Time and space of an answer beside its accuracy: plain and whitened neighbours, trained, and all evidence together.

    swclip train DATA --splits SPLITS --recipe sw-clip-plus --freeze image --image-tower TOWER --out RUN
    python benchmarks/effort.py RUN [--out results/effort]

Every row has a posterior that was fitted on the validation queries, and answers by the mode. Milliseconds are of one
processor thread for one photograph by itself: first to decode it and to run the image tower, the same in all rows but
for a second pass beside a tuned tower, then from its features to the answer. Bytes are those of the vectors that a
gallery keeps of each photograph.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from common import new_parser, say, write_table

from swclip.api.evaluations import evaluate
from swclip.calibration.posterior_config import EFFORT_NAMES, ESTIMATOR, PosteriorConfig, read_posterior
from swclip.comparison.benchmark_runs import untrained_system
from swclip.data.splits import candidates_for
from swclip.evaluation.evaluate import evaluate_embeddings, query_rows
from swclip.evaluation.report import Report
from swclip.gallery.build import build_gallery
from swclip.gallery.gallery import Gallery
from swclip.gallery.hubness import read_bank
from swclip.models.embed import evaluating, photograph_vectors, pixel_vectors
from swclip.models.embed_patches import patch_features
from swclip.models.feature_cache import FeatureCache
from swclip.models.locator_model import LocatorModel, load_model
from swclip.models.patches import patches_to_bytes
from swclip.models.photograph_vectors import PhotographVectors, as_vectors
from swclip.reporting.units import metres, percent
from swclip.retrieval.point_estimates import estimators
from swclip.retrieval.posterior import gallery_kernel, smoothed
from swclip.retrieval.scores import Photographed, log_probability
from swclip.training.config import load_recipe
from swclip.training.run import data_of_run, read_finished_run

COLUMNS = ("evidence", "`--effort`", "median", "mean", "within 25 m", "50 m", "100 m", "ms tower", "ms answer", "bytes")
_NOTHING = "-"


@dataclass(frozen=True)
class Row:
    """One row of the table: accuracy of the evaluation, and what an answer costs."""

    evidence: str
    effort: str
    report: Report
    tower_ms: float
    answer_ms: float
    bytes: int

    @property
    def cells(self) -> list[str]:
        """The cells of the table."""
        within = self.report.accuracy_within_m
        return [
            self.evidence,
            self.effort,
            metres(self.report.error_m.median),
            metres(self.report.error_m.mean),
            *(percent(within[radius]) for radius in ("25", "50", "100")),
            f"{self.tower_ms:.1f}",
            f"{self.answer_ms:.2f}",
            f"{self.bytes:,}",
        ]


def main() -> None:
    """Measure, and write the table."""
    parser = new_parser(__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--photographs", type=int, default=50, help="photographs that are timed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cells = [row.cells for row in rows_of(options.run, options.photographs)]
    write_table(options.out, "effort", COLUMNS, cells)


def rows_of(run: Path, timed: int) -> list[Row]:
    """The rows of a run; `timed` photographs are timed."""
    facts, cache = read_finished_run(run), FeatureCache()
    manifest, splits = data_of_run(run, facts, None, None)
    config, model, bank = load_recipe(str(run / "config.toml")), load_model(run), read_bank(run)
    posterior = read_posterior(run)
    if posterior is None or model.whitening is None:
        raise SystemExit(f"{run}: needs a fitted posterior and whitened features; train with --recipe sw-clip-plus.")
    paths = [manifest.image_paths[row] for row in query_rows(splits, manifest, "query")[:timed]]
    rows = []
    for evidence, whitened in (("plain neighbours", False), ("whitened neighbours", True)):
        say(evidence)
        queries, gallery, fitted = untrained_system(manifest, splits, config, cache, whitened=whitened)
        report = evaluate_embeddings(queries, gallery, manifest, splits, posterior=fitted).report
        pixels = tower_ms(model, paths, whitened=False)
        answer = answer_ms(as_vectors(queries).take(slice(0, timed)), gallery, fitted)
        rows.append(Row(evidence, _NOTHING, report, pixels, answer, kept_bytes(gallery, whitened, not whitened)))
    gallery = build_gallery(model, candidates_for(splits, "query"), manifest, bank=bank, cache=cache)
    vectors = photograph_vectors(model, paths, cache=cache)
    names = {"fast": "locations and trained images", "balanced": "also whitened features"}
    if posterior.verified_candidates:
        names["best"] = f"also {posterior.verified_candidates} candidates verified"
    for effort, evidence in names.items():
        say(evidence)
        assert effort in EFFORT_NAMES
        chosen = posterior.at(effort)
        report = evaluate(run, effort=effort).report
        uses = chosen.whitened_temperature is not None
        pixels = tower_ms(model, paths, whitened=uses)
        # The evaluation states the time of verification, which comes after the rest.
        unverified = posterior.at("balanced") if effort == "best" else chosen
        answer, kept = answer_ms(vectors, gallery, unverified), kept_bytes(gallery, uses, True)
        if effort == "best" and report.posterior is not None:
            answer += float(report.posterior["verification_ms"])
            patches = patch_features(model, paths[:1], cache=cache)[0]
            assert patches is not None
            kept += len(patches_to_bytes(patches))
        rows.append(Row(evidence, effort, report, pixels, answer, kept))
    return rows


def tower_ms(model: LocatorModel, paths: list[Path], *, whitened: bool) -> float:
    """Milliseconds of the processor to decode a photograph and compute its vectors, one at a time."""
    with evaluating(model):
        pixel_vectors(model, [model.preprocess.read(paths[0])], whitened=whitened)
        started = time.process_time()
        for path in paths:
            pixel_vectors(model, [model.preprocess.read(path)], whitened=whitened)
    return 1000.0 * (time.process_time() - started) / len(paths)


def answer_ms(vectors: PhotographVectors, gallery: Gallery, posterior: PosteriorConfig) -> float:
    """Milliseconds of the processor from the vectors of a photograph to its point and posterior, one at a time."""
    photographed, estimate = Photographed.of(gallery), estimators(posterior)[ESTIMATOR]
    kernel = gallery_kernel(gallery, posterior.smoothing_m, posterior.kernel)
    started = time.process_time()
    for row in range(len(vectors)):
        log_p = log_probability(vectors.take(slice(row, row + 1)), gallery, posterior, photographed)
        estimate(log_p.astype(np.float32), gallery.positions_deg)
        smoothed(log_p, kernel)
    return 1000.0 * (time.process_time() - started) / len(vectors)


def kept_bytes(gallery: Gallery, whitened: bool, trained: bool) -> int:
    """Bytes of a photograph's vectors in the gallery's table: float32, whitened features float16."""
    width = 0 if gallery.image_whitened is None else gallery.image_whitened.shape[1]
    if gallery.image_whitened is None:  # neighbours: their only vectors
        return int(gallery.image_embeddings.shape[1]) * (2 if whitened else 4)
    return 4 * int(gallery.image_embeddings.shape[1]) * trained + 2 * int(width) * whitened


if __name__ == "__main__":
    main()
