"""From posteriors over the candidates to answers: point, candidates, city, cells and region of one posterior."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int64

from swclip.answers.record import NEAR_M, Answer, RankedCandidate
from swclip.calibration.areas import Areas
from swclip.calibration.in_area import InArea
from swclip.calibration.posterior_config import EstimatorName, PosteriorConfig
from swclip.calibration.region_of_answer import RegionBuilder, outside_area
from swclip.calibration.stated import StatedProbabilities
from swclip.data.attribution import ATTRIBUTION_COLUMNS
from swclip.gallery.gallery import Gallery
from swclip.geo.coordinates import rounded_deg
from swclip.geo.distance import geodesic_m
from swclip.geo.neighbours import SphereIndex
from swclip.geo.spatial_smoothing import outflow
from swclip.retrieval.evidence import CandidateEvidence, Evidence
from swclip.retrieval.hierarchy import CITY, Hierarchy, cell_answer, most_probable, probability_of
from swclip.retrieval.point_estimates import geometric_median, spatial_density
from swclip.retrieval.point_estimates import top_k as best_candidates
from swclip.retrieval.posterior import gallery_kernel, smoothed
from swclip.retrieval.region_fit import mass_within
from swclip.retrieval.scores import Photographed, chunks


@dataclass(frozen=True, eq=False)
class CandidateSet:
    """The candidates that answers are taken from, with the indices that answering needs.

    Attributes:
        gallery: The candidates.
        hierarchy: Their cities and cells.
        index: Spatial index of their positions.
        photographed: Their photographs by candidate.
    """

    gallery: Gallery
    hierarchy: Hierarchy
    index: SphereIndex
    photographed: Photographed

    @classmethod
    def of(cls, gallery: Gallery, hierarchy: Hierarchy) -> CandidateSet:
        """Index a gallery's candidates."""
        return cls(gallery, hierarchy, SphereIndex(gallery.positions_deg), Photographed.of(gallery))

    @cached_property
    def areas(self) -> Areas:
        """Their areas."""
        return Areas.of(self.gallery.positions_deg, self.gallery.cities)


@dataclass(frozen=True)
class AnswerOptions:
    """Options of an answer.

    Attributes:
        top_k: Number of candidates to list.
        estimator: How the point is taken from the posterior.
        stated: Maps from masses to stated probabilities; None to state the masses.
        in_area: Whether a photograph was taken in the gallery's area; None to leave it open.
    """

    top_k: int
    estimator: EstimatorName
    stated: StatedProbabilities | None = None
    in_area: InArea | None = None


def answers_from_posteriors(
    log_posteriors: Float64[np.ndarray, "q m"],
    nearest_rows: Int64[np.ndarray, " q"],
    candidates: CandidateSet,
    config: PosteriorConfig,
    options: AnswerOptions,
    regions: RegionBuilder | None = None,
    evidence: Sequence[Evidence] | None = None,
    names: Sequence[str] = (),
    *,
    points_deg: Float64[np.ndarray, "q 2"] | None = None,
    in_area: Float64[np.ndarray, " q"] | None = None,
) -> list[Answer]:
    """Answer each of Q posteriors.

    Args:
        log_posteriors: (Q, M) log posteriors, not smoothed.
        nearest_rows: (Q,) the candidates given as `argmax_lat_deg` and `argmax_lon_deg`.
        candidates: The M candidates.
        config: The posterior, for its smoothing.
        options: Candidates to list, and estimator.
        regions: Makes the prediction regions; None for answers without.
        evidence: Q times the evidence of a posterior, given with each listed candidate; None to omit it.
        names: The photographs' names, where a posterior combines several photographs.
        points_deg: (Q, 2) the points in degrees, if already estimated; None to estimate them from the posteriors.
        in_area: (Q,) probabilities that the photographs were taken in the gallery's area; None where that is open.

    Returns:
        Q answers, without the photograph's name.
    """
    gallery, hierarchy = candidates.gallery, candidates.hierarchy
    kernel = gallery_kernel(gallery, config.smoothing_m, config.kernel)
    kernel_outflow = outflow(kernel)
    answers: list[Answer] = []
    for chunk in chunks(len(log_posteriors), gallery):
        log_p = log_posteriors[chunk]
        probability = np.exp(smoothed(log_p, kernel))
        # Candidates are listed in the order that determines the point, so that the first is the answer's point.
        order_by = log_p if options.estimator == "argmax" else spatial_density(log_p, kernel)
        ranked = best_candidates(order_by, options.top_k)
        points = gallery.positions_deg[ranked[:, 0]]
        if points_deg is not None:
            points = points_deg[chunk]
        elif options.estimator == "geometric-median":
            points = geometric_median(log_p, gallery.positions_deg)
        nearest = gallery.positions_deg[nearest_rows[chunk]]
        within = mass_within(candidates.index, probability, points, NEAR_M)
        if options.stated is not None:
            names_of = candidates.areas.names
            areas = [names_of[area] for area in candidates.areas.of_posteriors(probability)]
            within = options.stated.of(within, areas, NEAR_M)
        units = hierarchy.units_at(points, candidates.index)
        for row, point in enumerate(points):
            posterior, point_city = probability[row], units[CITY][row]
            listed_evidence = None
            if evidence is not None:
                listed_evidence = CandidateEvidence.of(
                    evidence[chunk.start + row],
                    ranked[row],
                    gallery,
                    candidates.photographed,
                    config,
                    kernel,
                    kernel_outflow,
                )
            inside = None if in_area is None else float(in_area[chunk.start + row])
            region_answer = None if regions is None else regions.region(posterior)
            below = inside is not None and options.in_area is not None and inside < options.in_area.threshold
            if region_answer is not None and inside is not None and below:
                region_answer = outside_area(region_answer, inside)
            city = next(iter(most_probable(hierarchy.city, posterior, 1)), None)
            answers.append(
                Answer(
                    photograph="",
                    lat_deg=rounded_deg(point[0]),
                    lon_deg=rounded_deg(point[1]),
                    probability_within_50m=float(within[row]),
                    argmax_lat_deg=rounded_deg(nearest[row, 0]),
                    argmax_lon_deg=rounded_deg(nearest[row, 1]),
                    estimator=options.estimator,
                    candidates=_ranked(candidates, ranked[row], posterior, point, listed_evidence, names),
                    city=None if city is None else city.unit,
                    city_probability=None if city is None else city.probability,
                    point_city=point_city,
                    point_city_probability=(
                        None if point_city is None else probability_of(hierarchy.city, posterior, point_city)
                    ),
                    cells=tuple(
                        cell_answer(level, posterior, str(units[level.name][row])) for level in hierarchy.cells
                    ),
                    scored_share=1.0,
                    left_out_at_most=0.0,
                    region=region_answer,
                    in_area_probability=inside,
                )
            )
    return answers


def _ranked(
    candidates: CandidateSet,
    rows: Int64[np.ndarray, " k"],
    probability: Float64[np.ndarray, " m"],
    point: Float64[np.ndarray, " 2"],
    evidence: CandidateEvidence | None,
    names: Sequence[str],
) -> tuple[RankedCandidate, ...]:
    """The listed candidates of an answer, best first."""
    gallery = candidates.gallery
    positions = gallery.positions_deg[rows]
    distances_m = geodesic_m(np.broadcast_to(point, positions.shape), positions)
    listed = (
        RankedCandidate(
            candidate_id=gallery.candidate_ids[row],
            lat_deg=rounded_deg(position[0]),
            lon_deg=rounded_deg(position[1]),
            probability=float(probability[row]),
            distance_m=round(float(distance_m), 2),
            city=gallery.cities[row],
            image_ids=tuple(gallery.image_ids[i] for i in candidates.photographed.of_candidate(int(row))),
        )
        for row, position, distance_m in zip(rows, positions, distances_m, strict=True)
    )
    if evidence is not None:
        listed = (_with_evidence(candidate, rank, evidence, gallery, names) for rank, candidate in enumerate(listed))
    if gallery.image_attribution is None:
        return tuple(listed)
    return tuple(
        _with_attribution(candidate, candidates.photographed.of_candidate(int(row)), gallery)
        for candidate, row in zip(listed, rows, strict=True)
    )


def _with_attribution(
    candidate: RankedCandidate, photographs: Int64[np.ndarray, " p"], gallery: Gallery
) -> RankedCandidate:
    """Add what must be shown with the photographs of a candidate, in their order."""
    assert gallery.image_attribution is not None
    row_of = {gallery.image_ids[row]: row for row in photographs.tolist()}
    shown = gallery.image_attribution.take([row_of[image_id] for image_id in candidate.image_ids])
    if all(column.null_count == len(column) for column in shown.columns):
        return candidate
    update = {f"image_{name}s": tuple(shown[name].to_pylist()) for name in ATTRIBUTION_COLUMNS}
    return candidate.model_copy(update=update)


def _with_evidence(
    candidate: RankedCandidate, rank: int, evidence: CandidateEvidence, gallery: Gallery, names: Sequence[str]
) -> RankedCandidate:
    """Add the evidence of a single photograph, or of each of several, to a listed candidate."""
    pairs = evidence.ranked_photographs(rank, gallery.image_ids)
    several = len(evidence.probability) > 1
    return candidate.model_copy(
        update={
            "image_ids": tuple(image_id for image_id, _ in pairs),
            "image_similarities": tuple(similarity for _, similarity in pairs),
            "location_similarity": None if several else evidence.location_similarity_of(rank, 0),
            "image_share": None if several else evidence.image_share_of(rank, 0),
            "evidence": evidence.by_photograph(rank, gallery.image_ids, names) if several else (),
        }
    )
