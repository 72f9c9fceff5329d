"""Evaluate another tool like a run: from its predicted coordinates, or from its embeddings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float32

from swclip.data.leakage import leakage_report
from swclip.data.manifest import Manifest
from swclip.data.splits import QuerySplit, Splits, candidates_for, indices
from swclip.errors import ConfigError
from swclip.evaluation.estimator_choice import chosen_estimator
from swclip.evaluation.evaluate import evaluate_embeddings
from swclip.evaluation.measure import MeasureConfig
from swclip.evaluation.result import Evaluation
from swclip.external.embeddings import Source, read_vectors
from swclip.external.ground_truth import query_set
from swclip.external.measure_coordinates import measure_coordinates
from swclip.external.measure_embeddings import VectorTask, manifest_task, standalone_task
from swclip.external.predicted_coordinates import read_predicted_coordinates
from swclip.external.prediction_columns import COMMON_ROLES, TRUE, find_roles, open_table, require_positions
from swclip.external.prediction_gallery import Space, fitted_posterior, fixed_posterior, image_gallery
from swclip.files import stated_path
from swclip.gallery.gallery import Gallery
from swclip.versions import versions

_TRAINING_SIDE: dict[str, tuple[str, ...]] = {"val": ("train",), "query": ("train", "val")}


def evaluate_predictions(
    predictions: str | os.PathLike[str] | pd.DataFrame,
    *,
    manifest: Manifest | None = None,
    splits: Splits | None = None,
    on: QuerySplit = "query",
    gallery: str | os.PathLike[str] | pd.DataFrame | None = None,
    columns: Mapping[str, str] | None = None,
    config: MeasureConfig | None = None,
    command: str | None = None,
) -> Evaluation:
    """Measure the coordinates that another tool predicted.

    One row is one answer: an id, the true position, the predicted one, and optionally a confidence, city, place_id and
    block_id. Further ranked answers are further rows of the same id with a column `rank`. A row without predicted
    coordinates (or with 0, 0) is a query without an answer: it is counted in `unanswered`, and errors are those of the
    answered queries. Figures that need a posterior, embeddings or a gallery are null.

    Args:
        predictions: A CSV, Parquet, GeoParquet or GeoJSON file, or a data frame.
        manifest: Manifest with the true positions; ids are its image_ids, paths or file names.
        splits: Splits of the manifest, which define the queries and the candidates for oracle error and baselines.
        on: Queries of the splits, "query" or "val".
        gallery: Candidate positions of the tool (a table with latitude and longitude), if known.
        columns: {role: column} for columns with other names: image_id, lat, lon, predicted_lat,
            predicted_lon, rank, confidence, city, place, block.
        config: Districts, bootstrap and seed.
        command: The command line, for the report.

    Returns:
        Report, predictions and candidates.

    Raises:
        InputError: The table is invalid; the message names the row.
        ConfigError: The options cannot be combined.
        MismatchError: The splits were made from another manifest.

    Example:
        >>> frame = pd.DataFrame({"id": ["a", "b"], "lat": [51.5, 51.6], "lon": [0.0, 0.0],
        ...                       "predicted_lat": [51.5, None], "predicted_lon": [0.001, None]})
        >>> report = evaluate_predictions(frame).report
        >>> round(report.error_m.median, 1), report.n_unanswered, report.baselines.floor
        (69.4, 1, None)
    """
    if splits is not None and manifest is None:
        raise ConfigError("splits define the queries of a manifest; give the manifest too.")
    if splits is not None and gallery is not None:
        raise ConfigError("splits and a gallery both define the candidates; give one of them.")
    queries = None if manifest is None else query_set(manifest, splits, on)
    predicted = read_predicted_coordinates(predictions, columns=columns, query_set=queries)
    candidates = None if gallery is None else _candidates(gallery)
    training = np.zeros((0, 2))
    if splits is not None and manifest is not None:
        candidates = candidates_for(splits, on)
        side = [indices(splits, manifest, name) for name in ("train", "val") if name in _TRAINING_SIDE[on]]
        training = manifest.positions_deg[np.concatenate(side)]
    evaluation = measure_coordinates(predicted, config, candidates=candidates, training_deg=training)
    source: dict[str, Any] = {"kind": "predictions", "file": predicted.name, "notes": predicted.notes}
    record = {**versions(), "bridge": source, **_data(manifest, splits), "command": command}
    report = evaluation.report.model_copy(update={"on": on, "made_with": record})
    return replace(evaluation, report=report)


def evaluate_vectors(
    vectors: Source,
    gallery: Source | None = None,
    *,
    similarity: str = "cosine",
    crs: str | None = None,
    columns: Mapping[str, str] | None = None,
    manifest: Manifest | None = None,
    splits: Splits | None = None,
    on: QuerySplit = "query",
    val_share: float = 0.0,
    temperature: float | None = None,
    config: MeasureConfig | None = None,
    command: str | None = None,
) -> Evaluation:
    """Measure another tool's embeddings by image search, with the report of a run.

    A candidate is a position of the gallery, scored by its most similar photograph. With validation queries (rows of
    role val, or a share of the queries) temperature and smoothing are fitted on them. Without, the answer is
    the position of the most similar photograph and the temperature is constant: probabilities are then not fitted, and
    `posterior.fitted` is false.

    Args:
        vectors: Ids, positions, roles and vectors; see `read_vectors` for the formats.
        gallery: The gallery's vectors, where they are in a separate file.
        similarity: "cosine", or "l2" for Euclidean distance.
        crs: Projection of the columns easting and northing, such as EPSG:32650.
        columns: {role: column}: image_id, lat, lon, easting, northing, role, city, place, block.
        manifest: Manifest of the photographs with their positions; needs splits.
        splits: Splits of the manifest, which define the queries and the gallery.
        on: Queries of the splits, "query" or "val".
        val_share: Share of the queries, in whole blocks, to fit the posterior on; they are not measured.
        temperature: Temperature where none is fitted; None for the default.
        config: Estimator, districts, bootstrap and seed.
        command: The command line, for the report.

    Returns:
        Report, predictions and candidates. `report.leakage` counts queries that are in the gallery.

    Raises:
        InputError: Vectors are not finite, differ in dimension, or lack ids, positions or roles.
        ConfigError: The options cannot be combined.
        MismatchError: The splits were made from another manifest.

    Example:
        >>> arrays = {"ids": ["q", "a", "b"], "role": ["query", "gallery", "gallery"],
        ...           "lat_deg": [51.5, 51.5, 51.6], "lon_deg": [0.0, 0.0, 0.0],
        ...           "embeddings": [[1.0, 0.1], [1.0, 0.0], [0.0, 1.0]]}
        >>> report = evaluate_vectors(arrays).report
        >>> report.error_m.median, report.posterior["fitted"]
        (0.0, False)
    """
    config = config or MeasureConfig()
    task = _task(vectors, gallery, crs, columns, manifest, splits, val_share, config.seed)
    candidates, rows, candidate_of = task.gallery_rows(on)
    space = Space.of(task.vectors[rows], similarity)
    meta = {"similarity": similarity, "dim": int(task.vectors.shape[1])}
    query_gallery = image_gallery(candidates, space.gallery(task.vectors[rows]), candidate_of, meta)
    validation = indices(task.splits, task.manifest, "val") if on == "query" else np.zeros(0, dtype=np.int64)
    val_gallery, val_queries = _validation(task, space) if len(validation) else (None, None)
    posterior = fixed_posterior(temperature)
    if val_gallery is not None and val_queries is not None:
        truth = task.manifest.positions_deg[validation]
        posterior = fitted_posterior(val_queries, truth, val_gallery, config.seed)

    def on_validation(config: MeasureConfig) -> Evaluation:
        if val_gallery is None or val_queries is None:
            raise ConfigError(
                "--estimator validation needs validation queries (rows of role val, or --val-share); name an estimator."
            )
        return evaluate_embeddings(
            val_queries, val_gallery, task.manifest, task.splits, on="val", posterior=posterior, config=config
        )

    config, choice = chosen_estimator(config, on, on_validation)
    evaluation = evaluate_embeddings(
        space.queries(task.vectors[task.rows(on)]),
        query_gallery,
        task.manifest,
        task.splits,
        on=on,
        posterior=posterior,
        config=config,
        command=command,
    )
    fitted = {
        "fitted": bool(len(validation)),
        "fitted_on": f"{len(validation)} validation queries" if len(validation) else "nothing",
    }
    leakage = {**leakage_report(task.manifest, task.splits), "vectors": task.leakage}
    leakage["warnings"] = [*task.leakage["warnings"], *leakage["warnings"]]
    report = evaluation.report.recorded(bridge={"kind": "vectors", "files": _names(vectors, gallery), **meta}, **choice)
    posterior_record = {**(report.posterior or {}), **fitted}
    return replace(evaluation, report=report.model_copy(update={"posterior": posterior_record, "leakage": leakage}))


def _task(
    vectors: Source,
    gallery: Source | None,
    crs: str | None,
    columns: Mapping[str, str] | None,
    manifest: Manifest | None,
    splits: Splits | None,
    val_share: float,
    seed: int,
) -> VectorTask:
    if (manifest is None) != (splits is None):
        raise ConfigError("vectors of a manifest's photographs need the manifest and its splits; give both.")
    if manifest is not None and splits is not None:
        if gallery is not None or val_share or crs is not None:
            raise ConfigError(
                "splits define gallery, positions and validation queries; leave out the gallery, --crs and --val-share."
            )
        return manifest_task(read_vectors(vectors, columns=columns, with_positions=False), manifest, splits)
    if gallery is None:
        return standalone_task(read_vectors(vectors, crs=crs, columns=columns), None, val_share=val_share, seed=seed)
    query_vectors = read_vectors(vectors, role="query", crs=crs, columns=columns)
    gallery_vectors = read_vectors(gallery, role="gallery", crs=crs, columns=columns)
    return standalone_task(query_vectors, gallery_vectors, val_share=val_share, seed=seed)


def _validation(task: VectorTask, space: Space) -> tuple[Gallery, Float32[np.ndarray, "v e"]]:
    """The validation queries, and their gallery."""
    candidates, rows, candidate_of = task.gallery_rows("val")
    return image_gallery(candidates, space.gallery(task.vectors[rows]), candidate_of, {}), space.queries(
        task.vectors[task.rows("val")]
    )


def _candidates(gallery: str | os.PathLike[str] | pd.DataFrame) -> pd.DataFrame:
    """Candidates from a table of positions."""
    table = find_roles(open_table(gallery, "the table of the gallery"), COMMON_ROLES, None).with_positions(TRUE)
    require_positions(table, TRUE, "")
    positions = table.positions(TRUE, "position of a candidate")
    valid = ~np.isnan(positions[:, 0])
    if not valid.all():
        at = int(np.flatnonzero(~valid)[0])
        raise ConfigError(
            f"{table.where_position(at, TRUE)}: a candidate without a position; correct or remove the row."
        )
    ids = [name or f"candidate-{at}" for at, name in enumerate(table.texts("image_id"))]
    return pd.DataFrame(
        {
            "candidate_id": pd.Series(ids, dtype=object),
            "lat_deg": positions[:, 0],
            "lon_deg": positions[:, 1],
            "city": pd.Series(table.texts("city"), dtype=object),
            "image_ids": pd.Series([[] for _ in ids], dtype=object),
        }
    )


def _names(*sources: Source | None) -> list[str]:
    return [stated_path(source) for source in sources if isinstance(source, str | os.PathLike)]


def _data(manifest: Manifest | None, splits: Splits | None) -> dict[str, Any]:
    """The sources of true positions and candidates, for the report."""
    sources: dict[str, Any] = {}
    if manifest is not None:
        sources["manifest"] = {"path": stated_path(manifest.path), "digest": manifest.digest}
    if splits is not None:
        sources["splits"] = {"path": stated_path(splits.path), **splits.meta}
    return sources
