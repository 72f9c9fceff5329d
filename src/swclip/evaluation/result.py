"""The result of an evaluation: the report, the predictions by query, and the candidates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Float32, Float64

from swclip.evaluation.report import Report
from swclip.metrics.query_details import CellPosterior, TopCandidates


@dataclass(frozen=True)
class Evaluation:
    """The answers of a system to the queries of a split, and their figures.

    Attributes:
        report: The figures, as in report.json.
        predictions: One row per query, in the manifest's order: image_id; lat_deg, lon_deg (the truth);
            predicted_lat_deg, predicted_lon_deg; error_m; floor_m (oracle error); region (district); city;
            rank_25m (rank of the first candidate within 25 m of the truth, null where none is); top1_candidate_id;
            probability (posterior mass within 25 m of the answer); split; block; city_predicted (the most probable
            city, null where no candidate has one); city_probability; ndcg_20; geoscore; lisa, lisa_p (local cluster
            of the errors); region_area_km2_LEVEL, covered_LEVEL, cannot_tell; top_candidate_ids, top_probabilities;
            image_path.
        candidates: One row per candidate: candidate_id, lat_deg, lon_deg, city, image_ids.
        errors_m: Errors in metres by estimator, in the order of the predictions.
        top: The most probable candidates of each query, in the order of the predictions; None where not kept.
        cell_posterior: The posterior of each query over H3 cells, in the order of the predictions; None where not kept.
    """

    report: Report
    predictions: pd.DataFrame
    candidates: pd.DataFrame
    errors_m: Mapping[str, Float64[np.ndarray, " q"]] = field(default_factory=dict)
    top: TopCandidates | None = None
    cell_posterior: CellPosterior | None = None


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Embeddings for spatial statistics.

    Attributes:
        queries: (Q, D) unit vectors of the queries.
        locations: (M, D) unit vectors of the candidates' positions; None where a system has none.
    """

    queries: Float32[np.ndarray, "q d"]
    locations: Float32[np.ndarray, "m d"] | None
