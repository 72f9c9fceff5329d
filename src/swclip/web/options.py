"""The options of a question, from the fields of a form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from swclip.calibration.posterior_config import EstimatorName
from swclip.web.multipart import PHOTOGRAPHS
from swclip.web.problems import from_validation

_PRIOR = (
    "GeoJSON Polygon or MultiPolygon (or a Feature or FeatureCollection of such): the place lies inside. Longitude "
    "before latitude."
)


class LocateOptions(BaseModel):
    """How photographs are to be answered. All are form fields beside the photographs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    combined: bool = Field(False, description="The photographs show one place: answer them together.")
    estimator: EstimatorName | None = Field(
        None, description="How the point is taken from the posterior; null: what answered validation queries best."
    )
    top_k: int = Field(5, ge=1, le=50, description="Candidates listed with an answer.")
    region: float = Field(0.8, ge=0.5, le=0.95, description="Probability of the region.")
    include_posterior: bool = Field(False, description="List the cells of the posterior, for a map.")
    compare_exif: bool = Field(
        False, description="State the distance to the photograph's own EXIF position. The answer never uses it."
    )
    city: str | None = Field(
        None, max_length=200, description="The place lies in this city of the gallery; capitals do not matter."
    )
    prior: str | None = Field(None, description=_PRIOR)
    near_lat_deg: float | None = Field(None, ge=-90, le=90, description="Latitude of a rough position, degrees.")
    near_lon_deg: float | None = Field(None, ge=-180, le=180, description="Longitude of it, degrees.")
    near_radius_m: float | None = Field(
        None, gt=0, le=1e7, description="How rough it is: its standard deviation, metres."
    )

    @model_validator(mode="after")
    def _whole(self) -> LocateOptions:
        near = (self.near_lat_deg, self.near_lon_deg, self.near_radius_m)
        if any(part is None for part in near) and any(part is not None for part in near):
            raise ValueError("near_lat_deg, near_lon_deg and near_radius_m go together; give all three or none")
        return self


def read_options(fields: Mapping[str, str]) -> LocateOptions:
    """The options of a form; an empty field is one that was left out.

    Raises:
        Problem: A field is not known or its value cannot be used.
    """
    try:
        return LocateOptions.model_validate({name: value for name, value in fields.items() if value != ""})
    except ValidationError as error:
        raise from_validation(error) from None


def request_schema(max_files: int) -> dict[str, Any]:
    """OpenAPI's schema of the whole form.

    Args:
        max_files: Most photographs in one request.
    """
    schema = LocateOptions.model_json_schema()
    # A form has text in it and no null: an option that is not wanted is left out.
    properties = {name: _without_null(value) for name, value in schema["properties"].items()}
    files = {
        "type": "array",
        "items": {"type": "string", "format": "binary"},
        "minItems": 1,
        "maxItems": max_files,
        "description": "Photographs: JPEG, PNG, WebP, TIFF, BMP, GIF, AVIF; HEIC where the service has its plugin.",
    }
    return {
        "type": "object",
        "required": [PHOTOGRAPHS],
        "properties": {PHOTOGRAPHS: files, **properties},
        "additionalProperties": False,
    }


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    options = [option for option in schema.get("anyOf", []) if option.get("type") != "null"]
    if not options:
        return schema
    rest = {name: value for name, value in schema.items() if name != "anyOf" and (name, value) != ("default", None)}
    return {**options[0], **rest}
