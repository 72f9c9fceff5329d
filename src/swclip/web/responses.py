"""What the service sends, version 1: names and units that stay."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from swclip.calibration.posterior_config import EstimatorName
from swclip.web.problems import ProblemDetail

Probability = Field(ge=0.0, le=1.0)


class Model(BaseModel):
    """Base of all: no field is left out or made up."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Point(Model):
    """A position, WGS84."""

    lat_deg: float = Field(ge=-90, le=90, description="Latitude, degrees.")
    lon_deg: float = Field(ge=-180, le=180, description="Longitude, degrees.")


class Testimony(Model):
    """What one of several photographs says of a candidate by itself."""

    probability: float = Field(ge=0, le=1, description="What this photograph alone would give the candidate.")
    location_similarity: float
    image_share: float | None = Field(ge=0, le=1)
    image_ids: list[str] = Field(description="The gallery's photographs there, the most similar to this one first.")
    image_similarities: list[float]


class Candidate(Point):
    """One of the gallery's places that were considered."""

    candidate_id: str
    probability: float = Field(ge=0, le=1, description="Its share of the posterior, smoothed on the ground.")
    distance_m: float = Field(ge=0, description="Distance from the answer's point, metres.")
    city: str | None
    image_ids: list[str] = Field(description="The gallery's photographs there, the most similar first.")
    image_similarities: list[float] = Field(
        description="Their similarities: cosines, less the hubness that the posterior takes off; to the nearest of "
        "several photographs."
    )
    location_similarity: float | None = Field(
        description="Similarity of the photograph to the place's location embedding; null for several photographs."
    )
    image_share: float | None = Field(
        ge=0,
        le=1,
        description="Share of the probability that the gallery's photographs carry; locations carry the rest. Null for "
        "several photographs.",
    )
    evidence: list[Testimony] = Field(
        description="What each of several photographs says by itself, in their order; empty for one photograph."
    )


class HierarchyCell(Model):
    """The most probable H3 cell of one resolution, and the one that the point lies in."""

    resolution: int = Field(ge=0, le=15)
    cell_id: str
    lat_deg: float
    lon_deg: float
    probability: float = Probability
    point_cell_id: str
    point_cell_probability: float = Probability


class Region(Model):
    """Ground that holds the place with a probability."""

    level: float = Field(ge=0.5, le=0.95, description="The probability.")
    area_km2: float | None = Field(ge=0, description="Its area; null where it is all ground.")
    cells: int | None = Field(ge=0, description="How many cells it has; null where it is all ground.")
    cannot_tell: bool = Field(description="Too large to be an answer: a blind region would be no larger.")


class PosteriorCell(Model):
    """An H3 cell with its share of the posterior."""

    cell_id: str
    probability: float = Probability
    from_level: float | None = Field(description="It is in the regions of this level and above; null: in none listed.")
    boundary_deg: list[tuple[float, float]] = Field(description="Its corners, latitude and longitude.")


class Posterior(Model):
    """Where the place may be: the densest cells of the ground, and the regions of every level from 0.5 to 0.95."""

    resolution: int = Field(ge=0, le=15, description="H3 resolution of the cells.")
    cells: list[PosteriorCell] = Field(description="Densest first.")
    left_out: float = Field(ge=0, le=1, description="Posterior mass of cells that are not listed.")
    regions: list[Region] = Field(description="In steps of 0.01; every cell of a region is listed unless it is cut.")
    cut: bool = Field(description="Whether cells of some region are left out, because there are too many.")


class ExifComparison(Model):
    """The position in the photograph's own EXIF block, which the answer knows nothing of."""

    position: Point | None = Field(description="Null where there is none that can be used.")
    distance_m: float | None = Field(description="From the answer's point to it, metres (WGS84 geodesic).")


class Answer(Model):
    """Where a photograph was taken."""

    point: Point
    estimator: EstimatorName = Field(description="How the point was taken from the posterior.")
    probability_within_50m: float = Probability
    city: str | None = Field(description="The most probable city.")
    city_probability: float | None
    region: Region
    calibrated: bool = Field(
        description="Whether the region keeps its promise on queries like those of the validation: it was calibrated "
        "there, and the answer rests on one photograph and no prior. Else it holds that share of the posterior."
    )
    candidates: list[Candidate] = Field(description="The most probable places, best first.")
    cells: list[HierarchyCell] = Field(description="H3 cells from coarse to fine.")
    posterior: Posterior | None = Field(description="Where asked for.")
    exif: list[ExifComparison] | None = Field(description="Where asked for: one for each photograph of the result.")


class Result(Model):
    """An answer, or why there is none, to one photograph or to several that were combined."""

    photographs: list[int] = Field(description="Which photographs of the request, from 0.")
    answer: Answer | None
    problem: ProblemDetail | None


class LocateResponse(Model):
    """Answers in the order of the photographs."""

    version: Literal["1"] = "1"
    model: str = Field(description="Fingerprint of the model that answered.")
    combined: bool
    results: list[Result]


class City(Model):
    """A city of the gallery."""

    name: str | None
    candidates: int = Field(ge=0)


class CalibrationInfo(Model):
    """How the regions were calibrated."""

    queries: int = Field(ge=0, description="Validation queries.")
    resolution: int
    spread_m: float


class TilesInfo(Model):
    """Map tiles that the page may draw under the points."""

    url: str
    attribution: str


class LimitsInfo(Model):
    """What a request may hold."""

    max_upload_bytes: int
    max_request_bytes: int
    max_files: int
    max_pixels: int
    timeout_s: float


class GalleryResponse(Model):
    """The gallery that answers."""

    version: Literal["1"] = "1"
    model: str = Field(description="Fingerprint of the model.")
    made_with: str = Field(description="Version of swclip that serves.")
    candidates: int = Field(ge=1)
    photographs: int = Field(ge=0)
    cities: list[City] = Field(description="Most candidates first.")
    bbox_deg: tuple[float, float, float, float] = Field(description="South, west, north, east.")
    area_km2: float = Field(ge=0, description="Area of the cells that its candidates reach.")
    estimators: list[str]
    posterior: dict[str, Any] = Field(description="How scores become probabilities.")
    calibration: CalibrationInfo | None
    thumbnails: bool = Field(description="Whether /v1/gallery/photographs answers.")
    tiles: TilesInfo | None
    limits: LimitsInfo


class Health(Model):
    """The service is alive, or ready."""

    status: Literal["ok"] = "ok"
