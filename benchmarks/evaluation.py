"""Evaluation at scale: 50,000 queries against 100,000 candidates of 512 dimensions, as in `swclip evaluate`.

    python benchmarks/evaluation.py [--queries N --candidates N --dim D --out DIR]

The candidates are on grids of 20 m in ten square cities. Their embeddings are random Fourier features of their
positions, so that similarity falls with distance; a query's embedding is that of its true position with noise. The
benchmark measures the time of each step, the largest resident memory, and the sizes of the files. No photograph is
embedded. The report and the predictions are written beside the results.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from common import new_parser, table_of_figures, write_results
from jaxtyping import Float64

from swclip.calibration.posterior_config import PosteriorConfig
from swclip.evaluation.measure import measure
from swclip.evaluation.result import Embeddings, write_predictions
from swclip.files import write_json
from swclip.gallery.gallery import Gallery
from swclip.geo.coordinates import LocalFrame
from swclip.geo.spatial_smoothing import spread
from swclip.reporting.report import write_report_page
from swclip.retrieval.point_estimates import estimators
from swclip.retrieval.posterior import gallery_kernel, iter_log_posterior

CITIES, SPACING_M = 10, 20.0
WAVELENGTHS_M = (60.0, 250.0, 1_000.0, 6_000.0)
OFF_M = 7.0
"""Standard deviation of a query's distance from a candidate, along each axis."""
NOISE = 3.0
"""Standard deviation of the noise on a query's embedding, times that of a unit vector's entries: most are located
in the right street, some in another."""


def main() -> None:
    """Run it."""
    parser = new_parser(__doc__)
    parser.add_argument("--queries", type=int, default=50_000)
    parser.add_argument("--candidates", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = run(options.queries, options.candidates, options.dim, options.out or Path(folder))
    write_results(options.out, "evaluation", figures, table_of_figures(figures))


def run(n_queries: int, n_candidates: int, dim: int, out: Path) -> dict[str, Any]:
    """Generate the data, evaluate and write; what it took."""
    out.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    gallery, xy_m = cities(n_candidates, dim, generator)
    nearest = generator.integers(len(gallery), size=n_queries)
    off_m = generator.normal(scale=OFF_M, size=(n_queries, 2))
    embedded = features(xy_m[nearest] + off_m, dim) + generator.normal(size=(n_queries, dim)) * NOISE / np.sqrt(dim)
    queries = (embedded / np.linalg.norm(embedded, axis=1, keepdims=True)).astype(np.float32)
    truth = gallery.positions_deg[nearest] + off_m[:, ::-1] * [1 / 111_195, 1 / 69_000]
    frame = pd.DataFrame(
        {
            "image_id": [f"query-{row}" for row in range(n_queries)],
            "lat_deg": truth[:, 0],
            "lon_deg": truth[:, 1],
            "city": [gallery.cities[row] for row in nearest],
            "block_id": [f"block-{row // 25}" for row in nearest],
            "split": "query",
        }
    )
    candidates = pd.DataFrame(
        {
            "candidate_id": gallery.candidate_ids,
            "lat_deg": gallery.positions_deg[:, 0],
            "lon_deg": gallery.positions_deg[:, 1],
            "city": gallery.cities,
            "image_ids": [[] for _ in range(len(gallery))],
        }
    )
    posterior = PosteriorConfig(location_temperature=0.04, smoothing_m=20.0)
    before = peak_mb()
    seconds: dict[str, float] = {}
    started = time.perf_counter()
    kernel = gallery_kernel(gallery, posterior.smoothing_m, posterior.kernel)
    evaluation = measure(
        frame,
        candidates,
        iter_log_posterior(queries, gallery, posterior),
        estimators(posterior),
        gallery.positions_deg[:5_000],
        smoothing=lambda probability: spread(probability, kernel),
        embeddings=Embeddings(queries, gallery.location_embeddings),
    )
    seconds["answer and measure"] = time.perf_counter() - started
    measured = peak_mb()
    started = time.perf_counter()
    write_predictions(out / "predictions.parquet", evaluation.predictions)
    write_json(out / "report.json", evaluation.report.as_dict())
    write_report_page(out / "report.html", evaluation, title="scale")
    seconds["write"] = time.perf_counter() - started
    return {
        "queries": n_queries,
        "candidates": len(gallery),
        "dim": dim,
        "median_m": round(evaluation.report.error_m.median, 1),
        "within_100_m": round(evaluation.report.accuracy_within_m["100"], 4),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "milliseconds_a_query": round(1_000 * seconds["answer and measure"] / n_queries, 1),
        "peak_memory_mb": {"with the data made": before, "after measuring": measured, "after writing": peak_mb()},
        "written_mb": {path.name: round(path.stat().st_size / 2**20, 2) for path in sorted(out.iterdir())},
    }


def cities(count: int, dim: int, generator: np.random.Generator) -> tuple[Gallery, Float64[np.ndarray, "m 2"]]:
    """A gallery of square cities, and the positions (M, 2) of its candidates on a plane in metres."""
    side = round(np.sqrt(count / CITIES))
    north, east = np.divmod(np.arange(side * side), side)
    street = np.stack([east, north], axis=1) * SPACING_M
    positions = [LocalFrame(51.0 + 0.4 * city, -1.0).to_deg(street) for city in range(CITIES)]
    xy_m = np.concatenate([street + np.array([50_000.0 * city, 0.0]) for city in range(CITIES)])
    location = features(xy_m, dim).astype(np.float32)
    names: list[str | None] = [f"City {city + 1}" for city in range(CITIES) for _ in street]
    gallery = Gallery(
        [f"c{row}" for row in range(len(xy_m))],
        np.concatenate(positions),
        names,
        location,
        location[:0],
        np.zeros(0, dtype=np.int64),
        [],
    )
    return gallery, xy_m


def features(xy_m: Float64[np.ndarray, "n 2"], dim: int) -> Float64[np.ndarray, "n d"]:
    """Random Fourier features of positions at several scales, of length 1."""
    generator = np.random.default_rng(1)
    per_scale = dim // (2 * len(WAVELENGTHS_M))
    waves = [generator.normal(size=(2, per_scale)) * np.pi / wavelength for wavelength in WAVELENGTHS_M]
    phase = xy_m @ np.concatenate(waves, axis=1)
    return np.concatenate([np.cos(phase), np.sin(phase)], axis=1) / np.sqrt(dim / 2)


def peak_mb() -> int:
    """Largest resident memory so far, MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    main()
