"""The report of an evaluation, as in report.json.

`docs/report.schema.json` is `Report` as JSON Schema, for programs in other languages. The version changes when a key
changes its meaning or is removed; keys may be added within a version.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from swclip.errors import ArtefactError
from swclip.files import read_json
from swclip.metrics.baselines import Baselines
from swclip.metrics.calibration import CalibrationReport
from swclip.metrics.error_report import DistrictErrors, DistrictGap, Intervals
from swclip.metrics.hierarchy import LevelFigures
from swclip.metrics.outside import OutsideFigures
from swclip.metrics.parts import ByK, ByRadius, Errors, Figures, Metres, Number, Part, Share
from swclip.metrics.spatial import Spatial

Version = Literal["1", "2"]

REPORT_VERSION: Version = "2"
"""The version that is written."""

EARLIER_VERSION: Version = "1"
"""An earlier version that is also accepted where its missing figures can be left out."""


class Unanswered(Part):
    """Queries that another tool did not answer."""

    n_asked: int
    n: int
    share_answered: Share
    reasons: dict[str, int]
    queries: list[list[str]] = Field(description="image_id and reason of each")
    accuracy_within_m_of_asked: ByRadius


class ConfidenceCurve(Part):
    """Risk-coverage curve of confidences: errors of the most confident answers."""

    share: list[Share]
    n: list[int]
    median_m: list[Metres]
    within_100_m: list[Share]


class Confidence(Part):
    """How well the confidences of another tool rank its answers."""

    n: int
    selective: ConfidenceCurve


class Relevance(Part):
    """The graded relevance of nDCG."""

    kernel: str
    bandwidth_m: float


class Truth(Part):
    """Which position errors are measured against."""

    position: str
    columns: str


class Report(Part):
    """report.json."""

    version: Annotated[Version, WithJsonSchema({"const": REPORT_VERSION, "type": "string"})]
    n_queries: int
    n_answerable: int | None = Field(description="queries with a candidate within 25 m of the truth")
    gallery_size: Number | None
    gallery_photographs: Number | None
    unanswered: Unanswered | None = Field(
        default=None, description="of another tool's answers: queries without an answer"
    )
    estimator: str | None
    error_m: Errors
    accuracy_within_m: ByRadius
    geoscore: float = Field(description="0 to 5000")
    by_region: dict[str, DistrictErrors]
    regional: DistrictGap | None
    intervals: Intervals
    recall_at_k_25m: dict[str, Share | None] | None = Field(
        description="by k; null beyond the number of ranked answers"
    )
    mrr_25m: float | None
    ndcg_at_k: ByK | None
    relevance: Relevance | None
    city_alignment_at_k: ByK | None
    levels: dict[str, LevelFigures]
    baselines: Baselines
    estimators: dict[str, Figures]
    regions: str
    spatial: Spatial | None
    calibration: CalibrationReport | None
    confidence: Confidence | None = Field(default=None, description="of another tool's answers: errors by confidence")
    outside: OutsideFigures | None = Field(default=None, description="of photographs of elsewhere, where measured")
    on: str | None = None
    truth: Truth | None = None
    posterior: dict[str, Any] | None = None
    parts: int | None = Field(default=None, description="number of pooled splits")
    made_with: dict[str, Any] = Field(default_factory=dict)
    leakage: dict[str, Any] | None = Field(
        default=None, description="of another tool's vectors: overlap of queries and gallery"
    )

    @property
    def n_unanswered(self) -> int:
        """Number of queries without an answer."""
        return 0 if self.unanswered is None else self.unanswered.n

    @property
    def answers_alone(self) -> bool:
        """Whether it is of predicted coordinates only, without a posterior."""
        return "posterior" in self.model_fields_set and self.posterior is None

    def recorded(self, **entries: Any) -> Report:
        """A copy with further entries of `made_with`."""
        return self.model_copy(update={"made_with": {**self.made_with, **entries}})

    def as_dict(self) -> dict[str, Any]:
        """The values for report.json; keys that were never set are left out."""
        return self.model_dump(exclude_unset=True)


def read_report(path: str | os.PathLike[str]) -> Report:
    """Read report.json.

    Args:
        path: The file.

    Raises:
        ArtefactError: It is missing, or is not a report of this version; see `report_of`.
    """
    return report_of(read_json(path, "the report"), os.fspath(path))


def report_of(document: Any, where: str = "report.json", versions: Sequence[Version] = (REPORT_VERSION,)) -> Report:
    """Validate a JSON document as a report.

    Args:
        document: The parsed JSON.
        where: Name of the file in messages.
        versions: Accepted versions.

    Raises:
        ArtefactError: A key is missing, unknown or of another type, or the version is not accepted.
    """
    check_version(document, where, versions)
    return Report.of_json(document, where, "evaluate again")


def check_version(document: Any, where: str, versions: Sequence[Version]) -> None:
    """Check the version of a report before its other keys.

    Raises:
        ArtefactError: It is not one of the versions.
    """
    version = document.get("version") if isinstance(document, dict) else None
    if version not in versions:
        raise ArtefactError(
            f"{where}: a report of version {version}, and this swclip reads {' and '.join(versions)}; evaluate again, "
            "or use the swclip that wrote it."
        )
