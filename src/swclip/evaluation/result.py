"""What an evaluation yields: the report, one row a query, one row a candidate. Plain data."""

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
    """What a system did on the queries of a split.

    Attributes:
        report: The figures, what report.json holds.
        predictions: One row a query, in the manifest's order: image_id; lat_deg, lon_deg (the truth);
            predicted_lat_deg, predicted_lon_deg; error_m; floor_m (distance to the nearest candidate); region; city;
            rank_25m (rank of the first candidate within 25 m of the truth, null where none is); top1_candidate_id;
            probability (posterior mass within 25 m of the answer); split; block; city_predicted (the most probable
            city, null where no candidate's is known); city_probability; ndcg_20; geoscore; lisa, lisa_p (local cluster
            of the errors); region_area_km2_LEVEL, covered_LEVEL, cannot_tell; top_candidate_ids, top_probabilities;
            image_path.
        candidates: One row a candidate: candidate_id, lat_deg, lon_deg, city, image_ids.
        errors_m: Errors in metres by estimator, in the order of the predictions; that of the report is among them.
        top: The most probable candidates of each query, in the order of the predictions; None where not kept.
        ground: The posterior of each query on the ground, in the order of the predictions; None where not kept.
    """

    report: Report
    predictions: pd.DataFrame
    candidates: pd.DataFrame
    errors_m: Mapping[str, Float64[np.ndarray, " q"]] = field(default_factory=dict)
    top: TopCandidates | None = None
    ground: CellPosterior | None = None


@dataclass(frozen=True, eq=False)
class Embeddings:
    """What spatial statistics look at beside the errors.

    Attributes:
        queries: (Q, D) unit vectors of the photographs asked about.
        locations: (M, D) unit vectors of the candidates' positions; None where a system has none.
    """

    queries: Float32[np.ndarray, "q d"]
    locations: Float32[np.ndarray, "m d"] | None
