"""An answer to "where was this taken?": the one record that files, the service and Python share.

`Answer.model_json_schema` describes it, `docs/answer.schema.json` publishes that. Within a version, fields may be
added; none is removed or changes its meaning or type. Readers ignore unknown fields, and the schema allows them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, InstanceOf

from swclip.errors import ArtefactError, InputError

if TYPE_CHECKING:
    from geopandas import GeoDataFrame
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

NEAR_M = 50.0
"""The probability of an answer is that of an error of at most this distance, in metres."""

ANSWER_VERSION: Final = "1"
"""Version of the record. It changes when a field is removed or changes its meaning, not when one is added."""

Latitude = Annotated[float, Field(ge=-90.0, le=90.0)]
Longitude = Annotated[float, Field(ge=-180.0, le=180.0)]
Resolution = Annotated[int, Field(ge=0, le=15)]
# A file name may contain bytes that are not UTF-8 (surrogates in Python), which pydantic's string type refuses.
Name = InstanceOf[str]
# Sums of floats may exceed 1 in the last digit; `probability_within_50m` is clipped to 1.
Probability = Annotated[float, Field(ge=0.0)]
Distance = Annotated[float, Field(ge=0.0)]
Area = Annotated[float, Field(ge=0.0)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False, json_schema_serialization_defaults_required=True)


class PhotographEvidence(_Record):
    """Evidence for a candidate from one of several queries of the same place."""

    photograph: Name = Field(description="The query as it was named in the request.")
    probability: Probability = Field(
        description="The candidate's probability from this query alone, after spatial smoothing."
    )
    location_similarity: float = Field(description="As of `RankedCandidate`.")
    image_share: Probability | None = Field(description="As of `RankedCandidate`.")
    image_ids: tuple[str, ...] = Field(
        description="The gallery's photographs at the candidate, most similar to this query first."
    )
    image_similarities: tuple[float, ...] = Field(description="Their similarities.")


class RankedCandidate(_Record):
    """One of the most probable candidates.

    Similarities are cosines of embeddings, less the hubness that the posterior subtracts.
    """

    candidate_id: str = Field(description="Its id in the gallery.")
    lat_deg: Latitude = Field(description="Latitude in degrees.")
    lon_deg: Longitude = Field(description="Longitude in degrees.")
    probability: Probability = Field(description="Its posterior probability, after spatial smoothing.")
    distance_m: Distance = Field(description="Its distance from the answer's point, in metres (WGS84 geodesic).")
    city: str | None = Field(description="Its city; null where unknown.")
    image_ids: tuple[str, ...] = Field(description="The gallery's photographs there, most similar first.")
    image_similarities: tuple[float, ...] = Field(
        default=(), description="Their similarities to the query; for several queries, to the most similar of them."
    )
    location_similarity: float | None = Field(
        default=None,
        description="Similarity of the query to its location embedding; null for several queries.",
    )
    image_share: Probability | None = Field(
        default=None,
        description="Share of the probability that comes from the gallery's photographs, at the candidate or nearby "
        "through smoothing; the rest comes from locations. Null for several queries, and where the probability is 0.",
    )
    evidence: tuple[PhotographEvidence, ...] = Field(
        default=(), description="Evidence from each of several queries of the same place; empty for a single query."
    )
    image_licences: tuple[str | None, ...] = Field(
        default=(),
        description="Their licences, null where unknown; empty where no photograph of the candidate states a licence, "
        "an author or a source address.",
    )
    image_authors: tuple[str | None, ...] = Field(
        default=(), description="Who must be named where they are shown; null and empty as of `image_licences`."
    )
    image_source_urls: tuple[str | None, ...] = Field(
        default=(), description="Addresses of their pages; null and empty as of `image_licences`."
    )


class CellAnswer(_Record):
    """The most probable H3 cell of one resolution, and the one that contains the answer's point."""

    resolution: Resolution = Field(description="H3 resolution.")
    cell_id: str = Field(description="The most probable cell.")
    lat_deg: Latitude = Field(description="Latitude of its centre in degrees.")
    lon_deg: Longitude = Field(description="Longitude of its centre in degrees.")
    probability: Probability = Field(description="Its posterior probability.")
    point_cell_id: str = Field(
        description="The cell that contains the answer's point. It can differ from the most probable cell, where that "
        "cell has no single prominent place."
    )
    point_cell_probability: Probability = Field(description="Posterior probability of that cell.")


class RegionAnswer(_Record):
    """Prediction region: contains the true position with a stated probability; see `swclip.calibration.conformal`."""

    probability: Probability = Field(description="The nominal coverage.")
    area_km2: Area | None = Field(description="Area of the region in km2; null where it covers everything.")
    cannot_tell: bool = Field(
        description="True where the answer abstains: the region is no smaller than one of the same nominal coverage "
        "that ignores the photograph, or it is larger than the requested limit."
    )
    resolution: Resolution = Field(description="H3 resolution of the region.")
    cells: tuple[str, ...] = Field(
        default=(),
        description="Its H3 cells, in H3's compact form: seven cells may be written as the coarser cell that they "
        "fill. Empty where the answer abstains.",
    )
    reason: str | None = Field(default=None, description="Why the answer abstains; null where it does not.")
    calibrated: bool = Field(
        default=True,
        description="Whether the coverage was calibrated on validation queries. This needs a single query, no prior, "
        "and scores of all candidates. Otherwise the region contains that share of the posterior, which may be "
        "overconfident; where only a shortlist was scored, it is computed as if all candidates had been.",
    )
    area: str | None = Field(
        default=None,
        description="The area with most of the posterior: a city, or an H3 cell of resolution 4 where the candidates "
        "have no city. Certainty is calibrated by area.",
    )
    calibrated_on: Literal["area", "small areas", "all areas"] | None = Field(
        default=None,
        description="Whose validation queries set the size of the region: those of the area; of all areas with few "
        "queries, together; or of all areas. Coverage is nominal among the answers of one area only for `area`. Null "
        "where it is not calibrated.",
    )


_POINT = ("lat_deg", "lon_deg")


class Answer(_Record):
    """Where a photograph was taken, or several photographs of one place.

    Example:
        >>> Answer(photograph="a.jpg", lat_deg=53.8, lon_deg=-1.55, probability_within_50m=0.5, city="Leeds")
        <Answer a.jpg: Leeds, 53.80000, -1.55000; 50% within 50 m>
        >>> Answer(photograph="b.jpg", error="is an empty file")
        <Answer b.jpg: no answer, is an empty file>
    """

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"error": {"type": "null"}}},
            "then": {"properties": {name: {"type": "number"} for name in _POINT}},
            "else": {"properties": {**{name: {"type": "null"} for name in _POINT}, "candidates": {"maxItems": 0}}},
        }
    )

    schema_version: Literal["1"] = Field(default=ANSWER_VERSION, description="Version of this record.")
    photograph: Name = Field(description="The photograph as it was named in the request; the first one of several.")
    lat_deg: Latitude | None = Field(
        default=None, description="Latitude of the answer in degrees; null where the photograph cannot be used."
    )
    lon_deg: Longitude | None = Field(
        default=None, description="Longitude of the answer in degrees; null if the latitude is."
    )
    probability_within_50m: Annotated[float, Field(ge=0.0, le=1.0)] | None = Field(
        default=None,
        description="Probability that the true position is within 50 m of the answer: calibrated on validation "
        "queries by area, for a single query without a prior. Otherwise, and for models without this calibration, the "
        "posterior mass within 50 m.",
    )
    argmax_lat_deg: Latitude | None = Field(
        default=None,
        description="Latitude of the candidate with the most similar location embedding, the paper's answer; with a "
        "prior or several photographs, of the most probable candidate.",
    )
    argmax_lon_deg: Longitude | None = Field(default=None, description="Longitude of the same candidate.")
    estimator: str | None = Field(
        default=None, description="How the point was estimated from the posterior: mode, argmax or geometric-median."
    )
    candidates: tuple[RankedCandidate, ...] = Field(default=(), description="The most probable candidates, best first.")
    city: str | None = Field(default=None, description="The most probable city; null where the gallery has no cities.")
    city_probability: Probability | None = Field(default=None, description="Its posterior probability.")
    point_city: str | None = Field(
        default=None,
        description="The city of the candidate nearest to the point. It can differ from the most probable city, where "
        "that city's mass is scattered. Null where the candidate has none.",
    )
    point_city_probability: Probability | None = Field(default=None, description="Posterior probability of that city.")
    cells: tuple[CellAnswer, ...] = Field(default=(), description="The most probable H3 cells, from coarse to fine.")
    scored_share: Annotated[float, Field(ge=0.0, le=1.0)] | None = Field(
        default=None,
        description="Share of the gallery's candidates that were scored; below 1 only in a search of a shortlist.",
    )
    left_out_at_most: Annotated[float, Field(ge=0.0)] | None = Field(
        default=None, description="Upper bound on the posterior mass of the other candidates, before spatial smoothing."
    )
    region: RegionAnswer | None = Field(
        default=None,
        description="Prediction region, which contains the true position with a stated probability; null where none "
        "was requested.",
    )
    error: str | None = Field(default=None, description="Why there is no answer; null where there is one.")
    photographs: tuple[Name, ...] = Field(
        default=(), description="The photographs that were answered together; empty for a single photograph."
    )
    in_area_probability: Annotated[float, Field(ge=0.0, le=1.0)] | None = Field(
        default=None,
        description="Probability that the photograph was taken in the gallery's area at all, for one as likely from "
        "inside as from outside before it is looked at (`swclip.calibration.in_area`). The other probabilities of an "
        "answer are those of a photograph from inside. Where it is small, the region abstains. Null for several "
        "queries, with a prior, and for models without this calibration.",
    )

    def as_dict(self) -> dict[str, Any]:
        """The record as plain values for JSON."""
        return self.model_dump(mode="json")

    def flat_properties(self) -> dict[str, Any]:
        """The values without the point, with cells and region flattened (`cell_8`, `region_area_km2`)."""
        properties = self.as_dict()
        for name in ("schema_version", "lat_deg", "lon_deg", "cells", "region"):
            del properties[name]
        return {**properties, **self.flat_cells(), **self.flat_region()}

    def columns(self) -> dict[str, Any]:
        """The columns of a table except the geometry: `flat_properties`, the point, and the region's cells."""
        return {
            **self.flat_properties(),
            "lat_deg": self.lat_deg,
            "lon_deg": self.lon_deg,
            "region_cells": None if self.region is None else list(self.region.cells),
            "region_reason": None if self.region is None else self.region.reason,
        }

    def flat_region(self) -> dict[str, float | bool | None]:
        """The region as columns, without its cells."""
        names = ("probability", "area_km2", "cannot_tell", "calibrated")
        return {f"region_{name}": None if self.region is None else getattr(self.region, name) for name in names}

    def flat_cells(self) -> dict[str, str | float]:
        """The cells as columns: `cell_RES` and its attributes."""
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

    def __repr__(self) -> str:
        if self.lat_deg is None or self.lon_deg is None:
            return f"<Answer {self.photograph}: no answer, {self.error}>"
        return f"<Answer {self.photograph}: {self._place()}>"

    __str__ = __repr__

    def to_geodataframe(self) -> GeoDataFrame:
        """A table of one row with the point as geometry; see `to_geodataframe`."""
        return to_geodataframe([self])

    def plot(self, photograph: str | os.PathLike[str] | None = None, *, truth_deg: ArrayLike | None = None) -> Figure:
        """Draw the map of the answer: its candidates by probability, the outline of its region, and its point.

        Args:
            photograph: The photograph's file, to draw it beside the map; None for the map only.
            truth_deg: (2,) the true position in degrees, where it is known.

        Raises:
            InputError: There is no answer, or the photograph cannot be decoded.
        """
        from swclip.answers.plot import answer_figure
        from swclip.answers.region_shapes import region_geometry

        if self.lat_deg is None or self.lon_deg is None:
            raise InputError(f"{self.photograph}: has no answer to plot ({self.error}).")
        return answer_figure(
            (self.lat_deg, self.lon_deg),
            [(item.lat_deg, item.lon_deg) for item in self.candidates],
            [item.probability for item in self.candidates],
            title=self._summary(),
            outline=None if self.region is None else region_geometry(self.region.cells, self.region.resolution),
            photograph=None if photograph is None else Path(photograph),
            truth_deg=truth_deg,
        )

    def _place(self) -> str:
        place = f"{self.city}, " if self.city else ""
        near = f"{self.probability_within_50m or 0.0:.0%} within 50 m"
        if self.in_area_probability is not None:
            near = f"{self.in_area_probability:.0%} in the gallery's area, and if so {near}"
        return f"{place}{self.lat_deg:.5f}, {self.lon_deg:.5f}; {near}"

    def _summary(self) -> str:
        """The answer in one or two lines."""
        text = self._place()
        if self.region is None:
            return text
        if self.region.cannot_tell:
            return f"{text}\nAbstains: {self.region.reason}"
        kind = "nominal coverage" if self.region.calibrated else "of the posterior (not calibrated)"
        return f"{text}\nRegion of {self.region.area_km2:.3g} km2, {self.region.probability:.0%} {kind}"

    def _repr_html_(self) -> str:
        """A table and the map for notebooks, self-contained."""
        name = escape(self.photograph)
        if self.error is not None or self.lat_deg is None:
            return f"<p><b>{name}</b>: no answer, {escape(self.error or 'no point')}</p>"
        from swclip.answers.plot import html_of

        headings = ("", "probability", "distance (m)", "latitude, longitude", "city", "most similar photograph")
        rows = [
            (
                f"{rank}", f"{item.probability:.1%}", f"{item.distance_m:,.1f}",
                f"{item.lat_deg:.5f}, {item.lon_deg:.5f}", item.city or "", item.image_ids[0] if item.image_ids else "",
            )
            for rank, item in enumerate(self.candidates, start=1)
        ]  # fmt: skip
        return html_of(self.photograph, self._summary(), headings, rows, self.plot())


def to_geodataframe(answers: Sequence[Answer]) -> GeoDataFrame:
    """Answers as a GeoDataFrame (WGS84): one row and point each, with the columns of the GeoParquet file.

    Args:
        answers: The answers; one without a point has no geometry.

    Example:
        >>> frame = to_geodataframe([Answer(photograph="a.jpg", lat_deg=53.8, lon_deg=-1.55)])
        >>> frame.geometry.iloc[0].wkt, frame.crs.to_epsg()
        ('POINT (-1.55 53.8)', 4326)
    """
    import geopandas
    from shapely import Point

    points = [None if item.lat_deg is None else Point(item.lon_deg, item.lat_deg) for item in answers]
    return geopandas.GeoDataFrame([item.columns() for item in answers], geometry=points, crs="EPSG:4326")


def answer_from_json(line: bytes, where: str) -> Answer:
    """An answer from one line of JSON lines.

    Args:
        line: A line that `formats.JSON_LINES` wrote.
        where: The file, for the message.

    Raises:
        ArtefactError: The line is not an answer of this version.

    Example:
        >>> answer_from_json(b'{"schema_version": "1", "photograph": "a.jpg", "error": "is empty"}', "x.jsonl").error
        'is empty'
    """
    try:
        return Answer.model_validate_json(line)
    except ValueError as error:
        raise ArtefactError(f"{where}: a line is not an answer of this version of swclip ({error}).") from error


def answer_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of one answer: an item of the JSON list, or a line of JSON lines."""
    # The schema of what is written, not of what is accepted: every field is present.
    schema = Answer.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
