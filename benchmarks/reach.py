"""What limits answers on known places: whether the true place is in reach, and what would bring it there.

    python benchmarks/proof.py cambridge --manifest cambridge --image-tower dinov2-small-9 --out proof
    python benchmarks/reach.py proof/cambridge/known --out results/reach

Reads the finished runs of one recipe, one per draw of the splits, and trains nothing; after an interruption the same
command resumes. **Rank**: the first candidate
within 100 m of the true position, before and after verification. **Density**: the gallery with a part of its places,
without verification. **Similarity**: the whitened similarity of a query to the most similar photograph within 25 m, a
measure of how much of what the query shows can be seen in the gallery at all. **Certainty**: the least certain answers
left out. **Together**: the photographs of a place answered together. Shares are means over the draws; bars go from the
least to the largest draw; the dashed line is the goal of docs/results/README.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from common import STYLES, markdown, new_figure, save_figure, write_results
from jaxtyping import Float64, Int64
from trained_runs import draws_parser, measured_draws

from swclip.calibration.posterior_config import PosteriorConfig, read_posterior
from swclip.data.splits import candidates_for
from swclip.evaluation.evaluate import query_rows
from swclip.gallery.build import build_gallery
from swclip.gallery.gallery import Gallery
from swclip.gallery.hubness import read_bank
from swclip.gallery.patches import ComputedPatches
from swclip.geo.distance import geodesic_m, haversine_m
from swclip.models.embed import photograph_vectors
from swclip.models.embed_patches import patch_features
from swclip.models.feature_cache import FeatureCache
from swclip.models.locator_model import load_model
from swclip.models.photograph_vectors import PhotographVectors
from swclip.reporting.units import metres, percent
from swclip.retrieval.point_estimates import spatial_density
from swclip.retrieval.pooling import pooled
from swclip.retrieval.posterior import gallery_kernel, log_posterior
from swclip.training.run import data_of_run, read_finished_run

RADIUS_M = 100.0
NEAR_M = 25.0
RANKS = (1, 2, 3, 5, 10, 20, 50, 100)
SHARES = (0.125, 0.25, 0.5, 0.75, 1.0)
LEFT_OUT = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2)
GOAL = 0.965
PARTS = 10  # of the queries, by similarity


@dataclass(frozen=True, eq=False)
class Queries:
    """The queries of a run, its gallery and its posterior."""

    vectors: PhotographVectors
    truth_deg: Float64[np.ndarray, "q 2"]
    place: Int64[np.ndarray, " q"]
    gallery: Gallery
    posterior: PosteriorConfig

    @classmethod
    def of_run(cls, run: Path) -> Queries:
        """Read a run, and embed its queries."""
        model, posterior, cache = load_model(run), read_posterior(run), FeatureCache()
        if posterior is None or not posterior.verified_candidates or model.whitening is None:
            raise SystemExit(f"{run}: has no verification or no whitened features; give runs of sw-clip-plus.")
        manifest, splits = data_of_run(run, read_finished_run(run))
        rows = query_rows(splits, manifest, "query")
        paths = [manifest.image_paths[row] for row in rows]
        gallery = build_gallery(
            model, candidates_for(splits, "query"), manifest, bank=read_bank(run), cache=cache, patches=True
        )
        assert isinstance(gallery.verifier, ComputedPatches)
        gallery = replace(gallery, verifier=gallery.verifier.computed())
        details = tuple(patch_features(model, paths, cache=cache))
        vectors = replace(photograph_vectors(model, paths, cache=cache), details=details)
        _, place = np.unique(manifest.frame["place_id"].to_numpy()[rows].astype(str), return_inverse=True)
        return cls(vectors, manifest.positions_deg[rows], place, gallery, posterior)


def points_of(log_p: Any, gallery: Gallery, config: PosteriorConfig) -> tuple[Any, Any]:
    """The answers (Q, 2), modes of posteriors, and the order (Q, M) of the candidates by density."""
    kernel = gallery_kernel(gallery, config.smoothing_m, config.kernel)
    order = np.argsort(-spatial_density(log_p, kernel), axis=1, kind="stable")
    return gallery.positions_deg[order[:, 0]], order


def distances_m(truth_deg: Any, gallery: Gallery) -> Float64[np.ndarray, "q m"]:
    """Distances of the true positions to the candidates."""
    places = gallery.positions_deg
    latitude, longitude = truth_deg[:, None, 0], truth_deg[:, None, 1]
    return np.asarray(haversine_m(latitude, longitude, places[None, :, 0], places[None, :, 1]))


def share(within: Any) -> float:
    """The share of true values."""
    return float(np.mean(within))


def measured(queries: Queries) -> dict[str, Any]:
    """The figures of one draw."""
    gallery, truth, config = queries.gallery, queries.truth_deg, queries.posterior
    away = distances_m(truth, gallery)
    result: dict[str, Any] = {"n": len(truth), "rank": {}}
    for name, posterior in (("before", config.at("balanced")), ("after", config)):
        log_p = log_posterior(queries.vectors, gallery, posterior)
        points, order = points_of(log_p, gallery, posterior)
        inside = np.take_along_axis(away, order, axis=1) <= RADIUS_M
        result["rank"][name] = [share(inside[:, :rank].any(axis=1)) for rank in RANKS]
    error = geodesic_m(truth, points)
    within = error <= RADIUS_M
    result["within"] = {str(radius): share(error <= radius) for radius in (NEAR_M, RADIUS_M)}
    result["missed"] = {"n": int((~within).sum()), "median_m": float(np.median(error[~within]))}

    between = distances_m(points, gallery)
    mass = (np.exp(log_p) * (between <= RADIUS_M)).sum(axis=1)
    surest = np.argsort(-mass, kind="stable")
    result["certainty"] = [share(within[surest[: round((1.0 - left_out) * len(within))]]) for left_out in LEFT_OUT]

    whitened = queries.vectors.whitened
    assert whitened is not None
    assert gallery.image_whitened is not None
    similarity = whitened @ gallery.image_whitened.astype(np.float32).T
    near = np.where(away[:, gallery.image_rows] <= NEAR_M, similarity, -np.inf).max(axis=1)
    far = np.where(away[:, gallery.image_rows] > RADIUS_M, similarity, -np.inf).max(axis=1)
    parts = np.array_split(np.argsort(near, kind="stable"), PARTS)
    result["similarity"] = [share(within[part]) for part in parts]
    result["similarity_of"] = [float(np.median(near[part])) for part in parts]
    result["missed"]["far_more_similar"] = share((far > near)[~within])
    result["oracle_m"] = float(np.median(away.min(axis=1)))

    fitted = config.at("balanced")
    result["density"] = []
    for part in SHARES:
        kept = np.sort(np.random.default_rng(0).permutation(len(gallery))[: round(part * len(gallery))])
        thinned = gallery.take(kept)
        points, _ = points_of(log_posterior(queries.vectors, thinned, fitted), thinned, fitted)
        away_m = float(np.median(distances_m(truth, thinned).min(axis=1)))
        result["density"].append({"within": share(geodesic_m(truth, points) <= RADIUS_M), "nearest_m": away_m})

    groups = [np.flatnonzero(queries.place == place) for place in np.unique(queries.place)]
    together = np.concatenate([pooled(np.asarray(log_p[rows], dtype=np.float64), True, None) for rows in groups])
    points, _ = points_of(together, gallery, config)
    centre = np.stack([truth[rows].mean(axis=0) for rows in groups])
    result["together"] = {"n": len(groups), "within": share(geodesic_m(centre, points) <= RADIUS_M)}
    return result


def mean_of(draws: list[dict[str, Any]], *keys: Any) -> tuple[float, float, float]:
    """Mean, least and largest of a value over the draws."""
    values = []
    for draw in draws:
        value: Any = draw
        for key in keys:
            value = value[key]
        values.append(float(value))
    return float(np.mean(values)), min(values), max(values)


def text_of(draws: list[dict[str, Any]]) -> str:
    """The tables as Markdown."""

    def cell(*keys: Any) -> str:
        mean, least, largest = mean_of(draws, *keys)
        return f"{percent(mean)} ({percent(least)} to {percent(largest)})"

    ranks = [
        [str(rank), cell("rank", "before", at), cell("rank", "after", at)]
        for at, rank in enumerate(RANKS)
        if rank <= 50
    ]
    density = [
        [percent(part), metres(mean_of(draws, "density", at, "nearest_m")[0]), cell("density", at, "within")]
        for at, part in enumerate(SHARES)
    ]
    similarity = [
        [f"{at + 1} of {PARTS}", f"{mean_of(draws, 'similarity_of', at)[0]:.2f}", cell("similarity", at)]
        for at in range(PARTS)
    ]
    certainty = [[percent(left_out), cell("certainty", at)] for at, left_out in enumerate(LEFT_OUT)]
    missed = sum(draw["missed"]["n"] for draw in draws)
    lines = [
        f"Within 25 m {cell('within', str(NEAR_M))}, within 100 m {cell('within', str(RADIUS_M))}. Of {missed} answers "
        f"farther than 100 m, {cell('missed', 'far_more_similar')} have a photograph beyond 100 m that is more similar "
        f"than any within 25 m. Photographs of a place together ({draws[0]['together']['n']} places): "
        f"{cell('together', 'within')} within 100 m.\n",
        markdown(["first candidates", "one within 100 m, before verification", "after"], ranks),
        markdown(["share of the gallery's places", "nearest place", "within 100 m, without verification"], density),
        markdown(["queries by similarity", "to the nearest photographs", "within 100 m"], similarity),
        markdown(["least certain left out", "within 100 m"], certainty),
    ]
    return "\n".join(lines)


def draw_figure(draws: list[dict[str, Any]], path: Path) -> None:
    """Four panels: rank, density, similarity, certainty."""
    figure, panels = new_figure(13.0, 3.5, 4)

    def line(panel: Any, places: Any, keys: list[tuple[Any, ...]], style: int = 0, label: str | None = None) -> None:
        values = 100.0 * np.array([mean_of(draws, *key) for key in keys])
        bars = np.abs(values[:, 1:].T - values[:, 0])
        colour, marker = STYLES[style]
        panel.errorbar(places, values[:, 0], bars, fmt=marker + "-", color=colour, label=label, capsize=2, ms=4, lw=1.3)

    for style, name in enumerate(("before", "after")):
        keys = [("rank", name, at) for at in range(len(RANKS))]
        places = np.array(RANKS) * (0.97, 1.03)[style]  # so that the bars are beside each other
        line(panels[0], places, keys, style, f"{name} verification")
    panels[0].set_xscale("log")
    panels[0].set_xticks(RANKS, [str(rank) for rank in RANKS])
    panels[0].minorticks_off()
    panels[0].set_xlabel("first candidates")
    panels[0].set_ylabel("one within 100 m, %")
    panels[0].legend(frameon=False)
    line(panels[1], [100 * part for part in SHARES], [("density", at, "within") for at in range(len(SHARES))])
    panels[1].set_xlabel("places of the gallery, % (no verification)")
    panels[1].set_ylabel("answers within 100 m, %")
    line(panels[2], range(1, PARTS + 1), [("similarity", at) for at in range(PARTS)])
    panels[2].set_xticks(range(1, PARTS + 1))
    panels[2].set_xlabel("tenth of the queries, by similarity\nto the photographs within 25 m")
    line(panels[3], [100 * part for part in LEFT_OUT], [("certainty", at) for at in range(len(LEFT_OUT))])
    panels[3].set_xlabel("least certain answers left out, %")
    for panel in panels:
        panel.axhline(100.0 * GOAL, color="#888888", lw=0.9, ls="--")
        panel.set_ylim(top=100.6)
    panels[3].annotate(f"{100 * GOAL:g} %", (20.0, 100.0 * GOAL), ha="right", va="bottom", color="#666666", fontsize=9)
    save_figure(figure, path)


def main() -> None:
    """Measure all draws, and write reach.json, reach.md and the figure."""
    args = draws_parser(__doc__).parse_args()
    draws = measured_draws(args, lambda run: measured(Queries.of_run(run)))
    draw_figure(draws, args.out / "reach")
    write_results(args.out, "reach", {"draws": draws}, text_of(draws))


if __name__ == "__main__":
    main()
