"""The schema of report.json: every key with its type and meaning, as a model that a report can be checked against.

`docs/report.schema.json` is this model as JSON Schema, for programs in other languages. The version changes when a key
changes its meaning or goes away; further keys may come within a version.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from swclip.errors import ArtefactError
from swclip.evaluation.report_schema_calibration import ByK, ByRadius, Calibration, Metres, Part, Range, Share

REPORT_VERSION = "2"


class Errors(Part):
    """Localization errors in metres."""

    median: Metres
    mean: Metres
    p75: Metres
    p90: Metres
    p95: Metres
    p99: Metres
    worst5_mean: Metres = Field(description="mean of the worst 5 %")


class Figures(Part):
    """What one way to answer comes to."""

    error_m: Errors
    accuracy_within_m: ByRadius


class Guess(Errors):
    """A baseline."""

    accuracy_within_m: ByRadius
    lat_deg: float | None = Field(None, description="of the constant guess")
    lon_deg: float | None = Field(None, description="of the constant guess")
    draws: int | None = Field(None, description="of the random guess: how many were averaged")


class Baselines(Part):
    """What the figures are to be read against; each null where it cannot be known."""

    floor: Guess | None = Field(description="always the candidate nearest to the truth")
    constant: Guess | None = Field(description="one guess for all: the geometric median of the training side")
    random: Guess | None = Field(description="a candidate drawn blindly")


class Region(Part):
    """The errors of one region."""

    n: int
    median: Metres
    mean: Metres
    p95: Metres
    accuracy_within_m: ByRadius


class Regional(Part):
    """How far regions lie apart."""

    best: str
    worst: str
    best_median: Metres
    worst_median: Metres
    gap: Metres = Field(description="worst_median less best_median")
    gini: Share = Field(description="Gini coefficient of the regions' medians; 0 is equality")
    n_regions: int


class LevelFigures(Part):
    """How well one level of the hierarchy, the city or the H3 cells of a resolution, is known."""

    n: int
    n_answerable: int
    units: float
    accuracy: Share
    accuracy_of_point: Share
    mean_probability: Annotated[float, Field(ge=0.0, le=1.0 + 1e-9)]
    brier: float
    log_score: float | None


class ErrorIntervals(Part):
    """Intervals of errors, metres."""

    median: Range
    mean: Range


class Intervals(Part):
    """Percentile bootstrap over blocks of queries."""

    error_m: ErrorIntervals
    accuracy_within_m: dict[str, Range]
    level: Share
    resamples: int
    block: str = Field(description="what was resampled")
    blocks: int


class Moran(Part):
    """Global Moran's I of log(1 + error), with a permutation p-value."""

    i: float
    expected: float
    z: float | None
    p: Share
    permutations: int
    neighbours: int
    n: int


class Lisa(Part):
    """Local clusters of the errors: how many queries are in each kind."""

    alpha: Share
    permutations: int
    correction: str = Field(description="for testing every query")
    threshold: float | None = Field(description="largest p that is called significant; null: none is")
    counts: dict[Literal["high-high", "low-low", "high-low", "low-high", "not significant"], int]


class Component(Part):
    """Moran's I of one principal component of the image embeddings."""

    component: int
    variance_share: Share
    i: float
    p: Share


class Band(Part):
    """Embedding distance of pairs of queries (or candidates) within one band of ground distance."""

    low_m: Metres
    high_m: Metres
    pairs: int
    mean_distance: float | None = Field(description="mean of 1 - cosine")
    spearman: float | None = Field(description="rank correlation of embedding and ground distance within the band")
    p: Share | None


class Mantel(Part):
    """Correlation of embedding and ground distance over all pairs, by permutation of the points."""

    r: float
    p: Share


class Smoothness(Part):
    """Spatial smoothness of an embedding."""

    k: int
    ratio: float = Field(description="ground distance to the k nearest in the embedding over that of random pairs")
    spearman: float | None
    within_m: Metres


class BandsOf(Part):
    """The correlogram."""

    image: list[Band] | None = Field(description="of the queries' image embeddings")
    location: list[Band] | None = Field(description="of the candidates' location embeddings")


class MantelOf(Part):
    """The Mantel tests."""

    image: Mantel | None
    location: Mantel | None


class SmoothnessOf(Part):
    """The smoothness of both embeddings."""

    image: Smoothness | None
    location: Smoothness | None


class Spatial(Part):
    """Spatial statistics of the errors and of the embeddings."""

    errors_moran: Moran | None
    lisa: Lisa | None
    components: list[Component] | None
    correlogram: BandsOf | None
    mantel: MantelOf | None
    smoothness: SmoothnessOf | None


class Unanswered(Part):
    """Queries that another tool was asked and did not answer."""

    n_asked: int
    n: int
    share_answered: Share
    reasons: dict[str, int]
    queries: list[list[str]] = Field(description="image_id and reason of each")
    accuracy_within_m_of_asked: ByRadius


class SureAnswers(Part):
    """Errors of the surest answers."""

    share: list[Share]
    n: list[int]
    median_m: list[Metres]
    within_100_m: list[Share]


class Confidence(Part):
    """What the order of another tool's confidences is worth."""

    n: int
    selective: SureAnswers


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

    version: Literal["2"]
    on: str | None = None
    n_queries: int
    n_answerable: int | None = Field(description="queries with a candidate within 25 m of the truth")
    gallery_size: float | None
    gallery_photographs: float | None
    estimator: str | None
    error_m: Errors
    accuracy_within_m: ByRadius
    recall_at_k_25m: dict[str, Share | None] | None = Field(description="by k; null beyond the answers that were given")
    mrr_25m: float | None
    ndcg_at_k: ByK | None
    relevance: Relevance | None
    geoscore: float = Field(description="0 to 5000")
    city_alignment_at_k: ByK | None
    levels: dict[str, LevelFigures]
    baselines: Baselines
    estimators: dict[str, Figures]
    regions: str
    by_region: dict[str, Region]
    regional: Regional | None
    spatial: Spatial | None
    calibration: Calibration | None
    intervals: Intervals
    truth: Truth | None = None
    unanswered: Unanswered | None = Field(None, description="of another tool's answers: what it was asked and left")
    confidence: Confidence | None = Field(
        None, description="of another tool's answers: whether its sure ones are better"
    )
    posterior: dict[str, Any] | None = None
    leakage: dict[str, Any] | None = Field(None, description="what queries and gallery of another tool's vectors share")
    parts: int | None = Field(None, description="splits that were pooled")
    made_with: dict[str, Any] = Field(default_factory=dict)


def check_report(report: Any, where: str = "report.json") -> None:
    """Refuse what is not a report of this version.

    Args:
        report: What the JSON holds.
        where: The file, for the message.

    Raises:
        ArtefactError: A key is missing, unknown or of another type, or the version is another one.
    """
    version = report.get("version") if isinstance(report, dict) else None
    if version != REPORT_VERSION:
        raise ArtefactError(
            f"{where}: report version {version!r}, and this swclip reads {REPORT_VERSION!r}; evaluate again."
        )
    try:
        Report.model_validate(report)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ArtefactError(f"{where}: {key}: {first['msg']}; evaluate again.") from error
