"""Base class, value types and shared parts of a report, as frozen pydantic records."""

from __future__ import annotations

from typing import Annotated, Any, Self

from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema

from swclip.errors import ArtefactError
from swclip.metrics.localization_error import accuracy_within, error_statistics
from swclip.structure import first_error

Number = Annotated[int | float, WithJsonSchema({"type": "number"})]
"""A count, or a mean of counts; an integer stays an integer in JSON."""

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Metres = Annotated[float, Field(ge=0.0)]
Range = Annotated[list[float], Field(min_length=2, max_length=2, description="low, high")]
ByRadius = Annotated[dict[str, Share], Field(description="share of the queries by radius in metres")]
ByK = Annotated[dict[str, float], Field(description="by length k of the list")]


class Part(BaseModel):
    """A part of a report: unknown keys and other types are rejected, and instances are immutable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @classmethod
    def of_json(cls, document: Any, where: str, again: str) -> Self:
        """Validate a JSON document.

        Args:
            document: The parsed JSON.
            where: Name of the file in messages.
            again: What to do about an invalid file, such as "evaluate again".

        Raises:
            ArtefactError: A key is missing, unknown or of another type.
        """
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            key, first = first_error(error)
            if first["type"] == "missing":
                message = f"{key!r} is missing, so the file is incomplete; {again}."
            elif first["type"] == "extra_forbidden":
                message = f"this swclip does not know the key {key!r}; use the swclip that wrote it, or {again}."
            else:
                message = f"{key}: {first['msg']}; {again}."
            raise ArtefactError(f"{where}: {message}") from error


class Errors(Part):
    """Localization errors in metres."""

    median: Metres
    mean: Metres
    p75: Metres
    p90: Metres
    p95: Metres
    p99: Metres
    worst5_mean: Metres = Field(description="mean of the worst 5 %")

    @classmethod
    def of(cls, error_m: ArrayLike) -> Errors:
        """Statistics of (Q,) localization errors in metres; see `error_statistics`."""
        return Errors(**error_statistics(error_m))


class Figures(Part):
    """Error statistics and accuracies of one estimator."""

    error_m: Errors
    accuracy_within_m: ByRadius

    @classmethod
    def of(cls, error_m: ArrayLike) -> Figures:
        """Statistics of (Q,) localization errors in metres, and the shares of the queries within each radius."""
        return Figures(error_m=Errors.of(error_m), accuracy_within_m=accuracy_within(error_m))
