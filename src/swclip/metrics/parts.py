"""Base class, value types and shared parts of a report, as frozen pydantic records."""

from __future__ import annotations

from typing import Annotated

from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from swclip.metrics.localization_error import accuracy_within, error_statistics

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
