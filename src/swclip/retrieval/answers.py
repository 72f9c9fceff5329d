"""An answer to "where was this taken?", and its forms for programs: JSON, CSV, GeoJSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

NEAR_M = 50.0
"""An answer's probability is the mass of the posterior this near to it."""

Format = Literal["json", "csv", "geojson"]
_DIGITS = 7  # degrees to 1 cm


@dataclass(frozen=True)
class RankedCandidate:
    """One of the places that were considered.

    Attributes:
        candidate_id: Its id in the gallery.
        lat_deg: Latitude in degrees.
        lon_deg: Longitude in degrees.
        probability: Its share of the posterior, smoothed on the ground.
        distance_m: How far it is from the answer.
        city: Its city, None where unknown.
        image_ids: The gallery's photographs there.
    """

    candidate_id: str
    lat_deg: float
    lon_deg: float
    probability: float
    distance_m: float
    city: str | None
    image_ids: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """Where one photograph was taken.

    Attributes:
        photograph: The photograph as it was named by who asked.
        lat_deg: Latitude of the answer in degrees; None where the photograph cannot be used.
        lon_deg: Longitude of the answer in degrees; None likewise.
        probability_within_50m: Posterior mass within 50 m of the answer.
        argmax_lat_deg: Latitude of the most similar location embedding, the paper's answer.
        argmax_lon_deg: Longitude of the same.
        estimator: How the answer was taken from the posterior.
        candidates: The most probable places, best first.
        error: Why there is no answer; None where there is one.
    """

    photograph: str
    lat_deg: float | None = None
    lon_deg: float | None = None
    probability_within_50m: float | None = None
    argmax_lat_deg: float | None = None
    argmax_lon_deg: float | None = None
    estimator: str | None = None
    candidates: tuple[RankedCandidate, ...] = ()
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = asdict(self)
        values["candidates"] = [{**c, "image_ids": list(c["image_ids"])} for c in values["candidates"]]
        return values


def as_json(answers: Sequence[Answer]) -> str:
    """A list of answers, in the order asked."""
    return json.dumps([answer.as_dict() for answer in answers], indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def as_csv(answers: Sequence[Answer]) -> str:
    """One row a photograph and rank; a photograph without an answer has one row with its error and no rank."""
    stream = io.StringIO()
    columns = (
        "photograph", "rank", "candidate_id", "lat_deg", "lon_deg", "probability", "distance_m", "city", "image_ids",
        "answer_lat_deg", "answer_lon_deg", "answer_probability_within_50m", "estimator", "error",
    )  # fmt: skip
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    for answer in answers:
        common = {
            "photograph": answer.photograph,
            "answer_lat_deg": answer.lat_deg,
            "answer_lon_deg": answer.lon_deg,
            "answer_probability_within_50m": answer.probability_within_50m,
            "estimator": answer.estimator,
            "error": answer.error,
        }
        if not answer.candidates:
            writer.writerow(common)
        for rank, candidate in enumerate(answer.candidates, start=1):
            writer.writerow({**common, "rank": rank, **asdict(candidate), "image_ids": ";".join(candidate.image_ids)})
    return stream.getvalue()


def as_geojson(answers: Sequence[Answer]) -> str:
    """A FeatureCollection with a point an answer, longitude first as GeoJSON has it.

    The other values are the properties; a photograph without an answer has no geometry.
    """
    features = []
    for answer in answers:
        properties = answer.as_dict()
        lat, lon = properties.pop("lat_deg"), properties.pop("lon_deg")
        point = None if lat is None else {"type": "Point", "coordinates": [lon, lat]}
        features.append({"type": "Feature", "geometry": point, "properties": properties})
    collection = {"type": "FeatureCollection", "features": features}
    return json.dumps(collection, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


FORMATS: dict[Format, Callable[[Sequence[Answer]], str]] = {"json": as_json, "csv": as_csv, "geojson": as_geojson}


def rounded_deg(value: float) -> float:
    """Degrees to the centimetre: further digits would only look exact."""
    return round(float(value), _DIGITS)
