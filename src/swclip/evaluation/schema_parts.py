"""What the schema of report.json is made of: shares, metres, ranges, and the strict base of every part."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Metres = Annotated[float, Field(ge=0.0)]
Range = Annotated[list[float], Field(min_length=2, max_length=2, description="low, high")]
ByRadius = Annotated[dict[str, Share], Field(description="share of the queries by radius in metres")]
ByK = Annotated[dict[str, float], Field(description="by length k of the list")]


class Part(BaseModel):
    """A part of a report: no unknown keys, no other types."""

    model_config = ConfigDict(extra="forbid", strict=True)
