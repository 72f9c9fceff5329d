"""An answer to "where was this taken?": the one record that files, the service and Python share.

`Answer.model_json_schema` describes it, `docs/answer.schema.json` publishes that. Within a version fields may come, and
none goes away or changes its meaning or type: a reader ignores unknown fields, and the schema allows them.
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
"""An answer's probability is the mass of the posterior this near to it."""

ANSWER_VERSION: Final = "1"
"""Version of the record: another one if a field goes away or changes its meaning. Within it fields may come."""

Latitude = Annotated[float, Field(ge=-90.0, le=90.0)]
Longitude = Annotated[float, Field(ge=-180.0, le=180.0)]
Resolution = Annotated[int, Field(ge=0, le=15)]
# A name of a file may hold bytes that are no UTF-8 (surrogates in Python), which pydantic's own strings refuse.
Name = InstanceOf[str]
# Sums of floats may be above 1 in their last digit; `probability_within_50m` is cut to 1.
Probability = Annotated[float, Field(ge=0.0)]
Distance = Annotated[float, Field(ge=0.0)]
Area = Annotated[float, Field(ge=0.0)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False, json_schema_serialization_defaults_required=True)


class PhotographEvidence(_Record):
    """Evidence for a candidate from one of several queries of one place, by itself."""

    photograph: Name = Field(description="The query as it was named in the request.")
    probability: Probability = Field(
        description="The candidate's probability from this query alone, spatially smoothed."
    )
    location_similarity: float = Field(description="As of `RankedCandidate`.")
    image_share: Probability | None = Field(description="As of `RankedCandidate`.")
    image_ids: tuple[str, ...] = Field(
        description="The gallery's photographs at the candidate, the most similar to this query first."
    )
    image_similarities: tuple[float, ...] = Field(description="Their similarities.")


class RankedCandidate(_Record):
    """One of the candidates that were considered.

    Similarities are cosines of embeddings, less the hubness that the posterior subtracts.
    """

    candidate_id: str = Field(description="Its id in the gallery.")
    lat_deg: Latitude = Field(description="Latitude in degrees.")
    lon_deg: Longitude = Field(description="Longitude in degrees.")
    probability: Probability = Field(description="Its share of the posterior, spatially smoothed.")
    distance_m: Distance = Field(description="Its distance from the answer's point, in metres (WGS84 geodesic).")
    city: str | None = Field(description="Its city, null where unknown.")
    image_ids: tuple[str, ...] = Field(description="The gallery's photographs there, the most similar first.")
    image_similarities: tuple[float, ...] = Field(
        default=(), description="Their similarities to the query; of several queries, to the nearest of them."
    )
    location_similarity: float | None = Field(
        default=None,
        description="Similarity of the query to its location embedding; null for several queries.",
    )
    image_share: Probability | None = Field(
        default=None,
        description="Share of the probability that comes from the gallery's photographs, there or within the "
        "smoothing; the rest comes from locations. Null for several queries, and where the probability is 0.",
    )
    evidence: tuple[PhotographEvidence, ...] = Field(
        default=(), description="Evidence from each of several queries of one place; empty for an answer to one."
    )


class CellAnswer(_Record):
    """The most probable H3 cell of one resolution, and the one that contains the answer's point."""

    resolution: Resolution = Field(description="H3 resolution.")
    cell_id: str = Field(description="The most probable cell.")
    lat_deg: Latitude = Field(description="Latitude of its centre in degrees.")
    lon_deg: Longitude = Field(description="Longitude of its centre in degrees.")
    probability: Probability = Field(description="Its share of the posterior.")
    point_cell_id: str = Field(
        description="The cell that contains the answer's point; another one where no single place of the most probable "
        "cell stands out."
    )
    point_cell_probability: Probability = Field(description="The share of that one.")


class RegionAnswer(_Record):
    """Prediction region: contains the true place with a stated probability; see `swclip.calibration.conformal`."""

    probability: Probability = Field(description="The nominal coverage.")
    area_km2: Area | None = Field(description="Area of the region in km2; null where it is everything.")
    cannot_tell: bool = Field(
        description="True where the region is uninformative: it is no smaller than a blind one of the same nominal "
        "coverage, or larger than the requested limit."
    )
    resolution: Resolution = Field(description="H3 resolution of the region.")
    cells: tuple[str, ...] = Field(
        default=(),
        description="Its H3 cells, seven of which may be written as the coarser one that they fill (H3's compact "
        "form); none where it is uninformative.",
    )
    reason: str | None = Field(default=None, description="Why it is uninformative; null where it is not.")
    calibrated: bool = Field(
        default=True,
        description="Whether the coverage was calibrated on validation queries: for one query, without a prior, when "
        "all candidates were scored. Else the region contains that share of the posterior, which may be overconfident; "
        "or, with a beam, it is computed as if all had been scored.",
    )


_POINT = ("lat_deg", "lon_deg")


class Answer(_Record):
    """Where one photograph was taken, or several of one place.

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
    photograph: Name = Field(description="The photograph as it was named in the request; the first of several.")
    lat_deg: Latitude | None = Field(
        default=None, description="Latitude of the answer in degrees; null where the photograph cannot be used."
    )
    lon_deg: Longitude | None = Field(default=None, description="Longitude of the answer in degrees; null likewise.")
    probability_within_50m: Annotated[float, Field(ge=0.0, le=1.0)] | None = Field(
        default=None, description="Posterior mass within 50 m of the answer."
    )
    argmax_lat_deg: Latitude | None = Field(
        default=None,
        description="Latitude of the most similar location embedding, the paper's answer; with a prior, and of several "
        "photographs, that of the most probable candidate.",
    )
    argmax_lon_deg: Longitude | None = Field(default=None, description="Longitude of the same.")
    estimator: str | None = Field(
        default=None, description="How the point was estimated from the posterior: mode, argmax or geometric-median."
    )
    candidates: tuple[RankedCandidate, ...] = Field(default=(), description="The most probable places, best first.")
    city: str | None = Field(default=None, description="The most probable city; null where the gallery names none.")
    city_probability: Probability | None = Field(default=None, description="Its share of the posterior.")
    point_city: str | None = Field(
        default=None,
        description="The city of the candidate nearest to the point; another one where the most probable city's mass "
        "is scattered. Null where that candidate has none.",
    )
    point_city_probability: Probability | None = Field(default=None, description="The share of that one.")
    cells: tuple[CellAnswer, ...] = Field(default=(), description="The H3 cells, from coarse to fine.")
    scored_share: Annotated[float, Field(ge=0.0, le=1.0)] | None = Field(
        default=None,
        description="Share of the gallery's candidates that was scored; below 1 only with a beam.",
    )
    left_out_at_most: Annotated[float, Field(ge=0.0)] | None = Field(
        default=None, description="Upper bound of the others' share of the posterior, before its spatial smoothing."
    )
    region: RegionAnswer | None = Field(
        default=None,
        description="Prediction region, which contains the place with a stated probability; null where none was "
        "requested.",
    )
    error: str | None = Field(default=None, description="Why there is no answer; null where there is one.")
    photographs: tuple[Name, ...] = Field(
        default=(), description="The photographs that were answered together; empty for an answer to one."
    )

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with the version of the record."""
        return self.model_dump(mode="json")

    def flat_properties(self) -> dict[str, Any]:
        """The values without the point, with the cells and the region as columns (`cell_8`, `region_area_km2`)."""
        properties = self.as_dict()
        for name in ("schema_version", "lat_deg", "lon_deg", "cells", "region"):
            del properties[name]
        return {**properties, **self.flat_cells(), **self.flat_region()}

    def columns(self) -> dict[str, Any]:
        """The columns of a table but its geometry: `flat_properties`, the point, and the cells of the region."""
        return {
            **self.flat_properties(),
            "lat_deg": self.lat_deg,
            "lon_deg": self.lon_deg,
            "region_cells": None if self.region is None else list(self.region.cells),
            "region_reason": None if self.region is None else self.region.reason,
        }

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

    def __repr__(self) -> str:
        if self.lat_deg is None or self.lon_deg is None:
            return f"<Answer {self.photograph}: no answer, {self.error}>"
        return f"<Answer {self.photograph}: {self._place()}>"

    __str__ = __repr__

    def to_geodataframe(self) -> GeoDataFrame:
        """One row with the point as geometry; see `to_geodataframe`."""
        return to_geodataframe([self])

    def plot(self, photograph: str | os.PathLike[str] | None = None, *, truth_deg: ArrayLike | None = None) -> Figure:
        """Draw the map of the answer: its candidates by probability, the outline of its region, and its point.

        Args:
            photograph: The photograph's file, to draw it beside the map; None for the map alone.
            truth_deg: (2,) the true position in degrees, where it is known.

        Raises:
            InputError: There is no answer, or the photograph cannot be decoded.
        """
        import numpy as np
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        from swclip.answers.plot import draw_map
        from swclip.answers.region_shapes import region_geometry
        from swclip.imaging.decode import decode_photograph

        if self.lat_deg is None or self.lon_deg is None:
            raise InputError(f"{self.photograph}: has no answer to plot ({self.error}).")
        figure = Figure(figsize=(6.0, 5.0) if photograph is None else (10.5, 5.2), layout="constrained")
        FigureCanvasAgg(figure)
        if photograph is not None:
            beside, axes = figure.subplots(1, 2)
            beside.imshow(decode_photograph(Path(photograph)), interpolation="lanczos")
            beside.set_axis_off()
        else:
            axes = figure.subplots()
        draw_map(
            axes,
            (self.lat_deg, self.lon_deg),
            np.array([(one.lat_deg, one.lon_deg) for one in self.candidates]).reshape(-1, 2),
            np.array([one.probability for one in self.candidates]),
            outline=None if self.region is None else region_geometry(self.region.cells, self.region.resolution),
            truth_deg=truth_deg,
        )
        axes.set_title(self._words(), loc="left", fontsize=10)
        return figure

    def _place(self) -> str:
        place = f"{self.city}, " if self.city else ""
        near = f"{self.probability_within_50m or 0.0:.0%} within 50 m"
        return f"{place}{self.lat_deg:.5f}, {self.lon_deg:.5f}; {near}"

    def _words(self) -> str:
        """The answer in one or two lines."""
        text = self._place()
        if self.region is None:
            return text
        if self.region.cannot_tell:
            return f"{text}\nCannot tell where: {self.region.reason}"
        kind = "nominal coverage" if self.region.calibrated else "of the posterior (not calibrated)"
        return f"{text}\nRegion of {self.region.area_km2:.3g} km2, {self.region.probability:.0%} {kind}"

    def _repr_html_(self) -> str:
        """A table and the map, for notebooks; nothing is loaded from elsewhere."""
        name = escape(self.photograph)
        if self.error is not None or self.lat_deg is None:
            return f"<p><b>{name}</b>: no answer, {escape(self.error or 'no point')}</p>"
        from swclip.answers.plot import html_of

        heads = ("", "probability", "metres away", "latitude, longitude", "city", "most similar photograph")
        rows = [
            (
                f"{rank}", f"{one.probability:.1%}", f"{one.distance_m:,.1f}", f"{one.lat_deg:.5f}, {one.lon_deg:.5f}",
                one.city or "", one.image_ids[0] if one.image_ids else "",
            )
            for rank, one in enumerate(self.candidates, start=1)
        ]  # fmt: skip
        return html_of(self.photograph, self._words(), heads, rows, self.plot())


def to_geodataframe(answers: Sequence[Answer]) -> GeoDataFrame:
    """Answers as a GeoDataFrame (WGS84): a row and a point each, with the columns of the GeoParquet file.

    Args:
        answers: Any number; one without a point has no geometry.

    Example:
        >>> frame = to_geodataframe([Answer(photograph="a.jpg", lat_deg=53.8, lon_deg=-1.55)])
        >>> frame.geometry.iloc[0].wkt, frame.crs.to_epsg()
        ('POINT (-1.55 53.8)', 4326)
    """
    import geopandas
    from shapely import Point

    points = [None if one.lat_deg is None else Point(one.lon_deg, one.lat_deg) for one in answers]
    return geopandas.GeoDataFrame([one.columns() for one in answers], geometry=points, crs="EPSG:4326")


def answer_from_json(line: bytes, where: str) -> Answer:
    """An answer from one line of JSON lines.

    Args:
        line: What `formats.JSON_LINES` wrote.
        where: The file, for the message.

    Raises:
        ArtefactError: It is no answer of this version.

    Example:
        >>> answer_from_json(b'{"schema_version": "1", "photograph": "a.jpg", "error": "is empty"}', "x.jsonl").error
        'is empty'
    """
    try:
        return Answer.model_validate_json(line)
    except ValueError as error:
        raise ArtefactError(f"{where}: a line is no answer of this swclip ({error}).") from error


def answer_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of one answer: an item of the JSON list, or a line of the JSON lines."""
    # As written, not as read: no field is left out.
    schema = Answer.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
