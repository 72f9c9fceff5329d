"""An answer to "where was this taken?": the record that `formats` writes and `schema` describes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

NEAR_M = 50.0
"""An answer's probability is the mass of the posterior this near to it."""

ANSWER_VERSION = "1"
"""Version of the record as JSON: another one if a key goes away or changes its meaning. Within it keys may come."""

_DIGITS = 7  # degrees to 1 cm


@dataclass(frozen=True)
class Testimony:
    """What one of several photographs of one place says of a candidate, by itself.

    Attributes:
        photograph: The photograph as it was named by who asked.
        probability: What this photograph alone would give the candidate, smoothed on the ground.
        location_similarity: As of `RankedCandidate`.
        image_share: Likewise.
        image_ids: The gallery's photographs there, the most similar to this one first.
        image_similarities: Their similarities.
    """

    photograph: str
    probability: float
    location_similarity: float
    image_share: float | None
    image_ids: tuple[str, ...]
    image_similarities: tuple[float, ...]


@dataclass(frozen=True)
class RankedCandidate:
    """One of the places that were considered.

    Similarities are cosines of embeddings, less the hubness that the posterior takes off; see `evidence`.

    Attributes:
        candidate_id: Its id in the gallery.
        lat_deg: Latitude in degrees.
        lon_deg: Longitude in degrees.
        probability: Its share of the posterior, smoothed on the ground.
        distance_m: How far it is from the answer.
        city: Its city, None where unknown.
        image_ids: The gallery's photographs there, the most similar first.
        image_similarities: Their similarities to the photograph; to the nearest of several.
        location_similarity: Similarity of the photograph to the place's location embedding; None for several.
        image_share: Share of the probability that the gallery's photographs carry, there or within the smoothing; the
            rest is carried by locations. None for several, and where the probability is 0.
        evidence: What each of several photographs of one place says by itself; empty for an answer to one.
    """

    candidate_id: str
    lat_deg: float
    lon_deg: float
    probability: float
    distance_m: float
    city: str | None
    image_ids: tuple[str, ...]
    image_similarities: tuple[float, ...] = ()
    location_similarity: float | None = None
    image_share: float | None = None
    evidence: tuple[Testimony, ...] = ()


@dataclass(frozen=True)
class CellAnswer:
    """What an answer says of the H3 cell at one resolution.

    Attributes:
        resolution: H3 resolution.
        cell_id: The most probable cell.
        lat_deg: Latitude of its centre in degrees.
        lon_deg: Longitude of its centre in degrees.
        probability: Its share of the posterior.
        point_cell_id: The cell in which the answer's point lies; another one where no single place of the most probable
            cell stands out.
        point_cell_probability: The share of that one.
    """

    resolution: int
    cell_id: str
    lat_deg: float
    lon_deg: float
    probability: float
    point_cell_id: str
    point_cell_probability: float


@dataclass(frozen=True)
class RegionAnswer:
    """Ground that holds the place of a photograph with a stated probability; see `conformal`.

    Attributes:
        probability: The probability promised.
        area_km2: Area of the region in km2; None where it is everything.
        cannot_tell: True where the region says nothing: it is no smaller than a blind one with the same promise, or
            larger than who asked would have it.
        resolution: H3 resolution of the region.
        cells: Its H3 cells, seven of which may be written as the coarser one that they fill (H3's compact form); none
            where it says nothing.
        reason: Why it says nothing; None where it does not.
        calibrated: Whether the promise was measured on validation queries: for one photograph, without a prior, when
            all candidates were looked at. Else the region holds that share of the posterior, which may be too sure of
            itself; or, with a beam, it is made as if all had been looked at.
    """

    probability: float
    area_km2: float | None
    cannot_tell: bool
    resolution: int
    cells: tuple[str, ...] = ()
    reason: str | None = None
    calibrated: bool = True


@dataclass(frozen=True)
class Answer:
    """Where one photograph was taken, or several of one place.

    Attributes:
        photograph: The photograph as it was named by who asked; the first of several.
        lat_deg: Latitude of the answer in degrees; None where the photograph cannot be used.
        lon_deg: Longitude of the answer in degrees; None likewise.
        probability_within_50m: Posterior mass within 50 m of the answer.
        argmax_lat_deg: Latitude of the most similar location embedding, the paper's answer; with a prior, and of
            several photographs, that of the most probable candidate.
        argmax_lon_deg: Longitude of the same.
        estimator: How the answer was taken from the posterior.
        candidates: The most probable places, best first.
        city: The most probable city; None where the gallery names none.
        city_probability: Its share of the posterior.
        point_city: The city of the candidate nearest to the point; another one where the most probable city's mass is
            scattered. None where that candidate has none.
        point_city_probability: The share of that one.
        cells: The H3 cells, from coarse to fine.
        scored_share: Share of the gallery's candidates that was looked at; below 1 only for a search with a beam.
        left_out_at_most: Most that the others can hold of the posterior, before its smoothing on the ground.
        region: Ground that holds the place with a stated probability; None where none was asked for.
        error: Why there is no answer; None where there is one.
        photographs: The photographs that were answered together; empty for an answer to one.
    """

    photograph: str
    lat_deg: float | None = None
    lon_deg: float | None = None
    probability_within_50m: float | None = None
    argmax_lat_deg: float | None = None
    argmax_lon_deg: float | None = None
    estimator: str | None = None
    candidates: tuple[RankedCandidate, ...] = ()
    city: str | None = None
    city_probability: float | None = None
    point_city: str | None = None
    point_city_probability: float | None = None
    cells: tuple[CellAnswer, ...] = ()
    scored_share: float | None = None
    left_out_at_most: float | None = None
    region: RegionAnswer | None = None
    error: str | None = None
    photographs: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with the version of the record."""
        values: dict[str, Any] = {"schema_version": ANSWER_VERSION, **_plain(asdict(self))}
        return values

    def flat_region(self) -> dict[str, float | bool | None]:
        """The region as columns, without its cells."""
        region = self.region
        return {
            "region_probability": None if region is None else region.probability,
            "region_area_km2": None if region is None else region.area_km2,
            "region_cannot_tell": None if region is None else region.cannot_tell,
            "region_calibrated": None if region is None else region.calibrated,
        }

    def flat_cells(self) -> dict[str, str | float]:
        """The cells as columns: `cell_RES` and what belongs to it."""
        return {
            f"cell_{cell.resolution}{suffix}": value
            for cell in self.cells
            for suffix, value in (
                ("", cell.cell_id),
                ("_lat_deg", cell.lat_deg),
                ("_lon_deg", cell.lon_deg),
                ("_probability", cell.probability),
                ("_point", cell.point_cell_id),
                ("_point_probability", cell.point_cell_probability),
            )
        }


def rounded_deg(value: float) -> float:
    """Degrees to the centimetre: further digits would only look exact."""
    return round(float(value), _DIGITS)


def _plain(value: Any) -> Any:
    """Tuples as JSON's lists, all the way down."""
    if isinstance(value, dict):
        return {name: _plain(own) for name, own in value.items()}
    return [_plain(own) for own in value] if isinstance(value, (tuple, list)) else value
