"""From what a query's evidence says of the candidates to its answer: point, candidates, city, cells and region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from swclip.answers.record import NEAR_M, Answer, RankedCandidate
from swclip.calibration.posterior_config import EstimatorName
from swclip.calibration.region_of_answer import RegionMaker
from swclip.gallery.gallery import Gallery
from swclip.geo.coordinates import rounded_deg
from swclip.geo.distance import geodesic_m
from swclip.geo.neighbours import SphereIndex
from swclip.geo.spatial_smoothing import outflow
from swclip.retrieval.hierarchy import CITY, Hierarchy, cell_answer, most_probable, probability_of
from swclip.retrieval.point_estimates import geometric_median, ground_density
from swclip.retrieval.point_estimates import top_k as best_candidates
from swclip.retrieval.posterior import PosteriorConfig, gallery_kernel, smoothed
from swclip.retrieval.scores import Evidence, Photographed, Support, chunks, location_similarity


@dataclass(frozen=True, eq=False)
class Part:
    """A gallery, or the part of one that was opened, with what answering from it needs."""

    gallery: Gallery
    hierarchy: Hierarchy
    index: SphereIndex
    photographed: Photographed

    @classmethod
    def of(cls, gallery: Gallery, hierarchy: Hierarchy) -> Part:
        """What answering from a gallery needs."""
        return cls(gallery, hierarchy, SphereIndex(gallery.positions_deg), Photographed.of(gallery))


def answers_from(
    query: Float64[np.ndarray, "q d"],
    part: Part,
    config: PosteriorConfig,
    top_k: int,
    estimator: EstimatorName,
    regions: RegionMaker | None,
) -> list[Answer]:
    """Answers to embedded photographs.

    Args:
        query: (Q, D) unit vectors.
        part: Where the answers may be.
        config: From scores to probabilities.
        top_k: How many candidates to list.
        estimator: How the point is taken.
        regions: What makes the regions; None for answers without.
    """
    found: list[Answer] = []
    for chunk in chunks(len(query), part.gallery):
        nearest = location_similarity(query[chunk], part.gallery).argmax(axis=1)
        evidence = Evidence.of(query[chunk], part.gallery, config, part.photographed)
        each = [evidence.rows(slice(at, at + 1)) for at in range(len(evidence))]
        found += answers_to(evidence.log_p, nearest, part, config, top_k, estimator, regions, each)
    return found


def answers_to(
    log_posteriors: Float64[np.ndarray, "q m"],
    nearest_rows: Int64[np.ndarray, " q"],
    part: Part,
    config: PosteriorConfig,
    top_k: int,
    estimator: EstimatorName,
    regions: RegionMaker | None = None,
    evidence: Sequence[Evidence] | None = None,
    names: Sequence[str] = (),
    *,
    points_deg: Float64[np.ndarray, "q 2"] | None = None,
) -> list[Answer]:
    """Answers to posteriors: point, candidates, city, cells and region, all from one posterior.

    Args:
        log_posteriors: (Q, M) log posteriors, not smoothed.
        nearest_rows: (Q,) the candidates that `argmax_lat_deg` and `argmax_lon_deg` are of.
        part: Where the answers may be.
        config: How to smooth.
        top_k: How many candidates to list.
        estimator: How the point is taken.
        regions: What makes the regions; None for answers without.
        evidence: Q times that of the photographs behind a posterior: what speaks for each candidate is then stated.
        names: The photographs' names, where one posterior is of several.
        points_deg: (Q, 2) the points, where the estimator took them from more than these posteriors; None to take them
            here.
    """
    gallery, hierarchy = part.gallery, part.hierarchy
    kernel = gallery_kernel(gallery, config.smoothing_m, config.kernel)
    handed = outflow(kernel)
    found: list[Answer] = []
    for chunk in chunks(len(log_posteriors), gallery):
        log_p = log_posteriors[chunk]
        probability = np.exp(smoothed(log_p, kernel))
        # The list is in the order by which the answer was chosen, so that the first of it is the answer.
        order_by = log_p if estimator == "argmax" else ground_density(log_p, kernel)
        ranked = best_candidates(order_by, top_k)
        points = gallery.positions_deg[ranked[:, 0]]
        if points_deg is not None:
            points = points_deg[chunk]
        elif estimator == "geometric-median":
            points = geometric_median(log_p, gallery.positions_deg)
        nearest = gallery.positions_deg[nearest_rows[chunk]]
        near = part.index.within(points, NEAR_M)
        units = hierarchy.units_at(points, part.index)
        for row, point in enumerate(points):
            own, point_city = probability[row], units[CITY][row]
            support = None
            if evidence is not None:
                behind = evidence[chunk.start + row]
                support = Support.of(behind, ranked[row], gallery, part.photographed, config, kernel, handed)
            city = next(iter(most_probable(hierarchy.city, own, 1)), None)
            found.append(
                Answer(
                    photograph="",
                    lat_deg=rounded_deg(point[0]),
                    lon_deg=rounded_deg(point[1]),
                    probability_within_50m=min(1.0, float(own[near[row]].sum())),
                    argmax_lat_deg=rounded_deg(nearest[row, 0]),
                    argmax_lon_deg=rounded_deg(nearest[row, 1]),
                    estimator=estimator,
                    candidates=_ranked(part, ranked[row], own, point, support, names),
                    city=None if city is None else city.unit,
                    city_probability=None if city is None else city.probability,
                    point_city=point_city,
                    point_city_probability=(
                        None if point_city is None else probability_of(hierarchy.city, own, point_city)
                    ),
                    cells=tuple(cell_answer(level, own, str(units[level.name][row])) for level in hierarchy.cells),
                    scored_share=1.0,
                    left_out_at_most=0.0,
                    region=None if regions is None else regions.region(own),
                )
            )
    return found


def _ranked(
    part: Part,
    rows: Int64[np.ndarray, " k"],
    probability: Float64[np.ndarray, " m"],
    point: Float64[np.ndarray, " 2"],
    support: Support | None,
    names: Sequence[str],
) -> tuple[RankedCandidate, ...]:
    gallery = part.gallery
    places = gallery.positions_deg[rows]
    away_m = geodesic_m(np.broadcast_to(point, places.shape), places)
    listed = (
        RankedCandidate(
            candidate_id=gallery.candidate_ids[row],
            lat_deg=rounded_deg(place[0]),
            lon_deg=rounded_deg(place[1]),
            probability=float(probability[row]),
            distance_m=round(float(distance), 2),
            city=gallery.cities[row],
            image_ids=tuple(gallery.image_ids[at] for at in part.photographed.of_candidate(int(row))),
        )
        for row, place, distance in zip(rows, places, away_m, strict=True)
    )
    if support is None:
        return tuple(listed)
    return tuple(_supported(one, at, support, gallery, names) for at, one in enumerate(listed))


def _supported(
    candidate: RankedCandidate, at: int, support: Support, gallery: Gallery, names: Sequence[str]
) -> RankedCandidate:
    """A candidate with what speaks for it: of one photograph, or of several what each says."""
    pairs = support.ordered(at, gallery.image_ids)
    several = len(support.probability) > 1
    return candidate.model_copy(
        update={
            "image_ids": tuple(image_id for image_id, _ in pairs),
            "image_similarities": tuple(similarity for _, similarity in pairs),
            "location_similarity": None if several else support.location_similarity_of(at, 0),
            "image_share": None if several else support.image_share_of(at, 0),
            "evidence": support.testimonies(at, gallery.image_ids, names) if several else (),
        }
    )
