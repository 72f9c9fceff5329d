"""Measuring any other tool as a run is measured: from the coordinates it predicts, or from the vectors it makes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from swclip.data.leakage import leakage_report
from swclip.data.manifest import Manifest
from swclip.data.splits import QuerySplit, Splits, candidates_for, indices
from swclip.errors import ConfigError
from swclip.evaluation.evaluate import evaluate_embeddings
from swclip.evaluation.measure import MeasureConfig
from swclip.evaluation.result import Evaluation
from swclip.external.embeddings import Source, read_vectors
from swclip.external.ground_truth import asked_of
from swclip.external.measure_coordinates import measure_answers
from swclip.external.measure_embeddings import Problem, given_problem, own_problem
from swclip.external.predicted_coordinates import read_predicted_coordinates
from swclip.external.prediction_columns import COMMON, find_roles, need, open_table
from swclip.external.prediction_gallery import Space, fitted_posterior, fixed_posterior, image_gallery
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

    One row is one answer: an id, the true position, the predicted one, and where there are such a confidence, city,
    place_id and block_id. Further ranked answers are further rows of the same id with a column `rank`. A row without
    predicted coordinates (or with 0, 0) is a query that the tool did not answer: it is counted in `unanswered`, and
    errors are those of the answered. Whatever would need a posterior, embeddings or a gallery is null.

    Args:
        predictions: A CSV, Parquet, GeoParquet or GeoJSON file, or a data frame.
        manifest: Takes the true positions from here; ids are image_ids, paths or file names of it.
        splits: With the manifest: which photographs were asked, and the candidates, which give floor and guesses.
        on: Which photographs of the splits, "query" or "val".
        gallery: Positions that the tool could name (a table with latitude and longitude), if they are known.
        columns: {role: column} where a name does not say what it holds: image_id, lat, lon, predicted_lat,
            predicted_lon, rank, confidence, city, place, block.
        config: Regions, bootstrap and seed.
        command: The command line, for the record.

    Returns:
        Report, predictions and candidates.

    Raises:
        InputError: The table cannot be used; the message names the row.
        ConfigError: The options do not go together.
        MismatchError: The splits were made from another manifest.

    Example:
        >>> frame = pd.DataFrame({"id": ["a", "b"], "lat": [51.5, 51.6], "lon": [0.0, 0.0],
        ...                       "predicted_lat": [51.5, None], "predicted_lon": [0.001, None]})
        >>> report = evaluate_predictions(frame).report
        >>> round(report.error_m.median, 1), report.n_unanswered, report.baselines.floor
        (69.4, 1, None)
    """
    if splits is not None and manifest is None:
        raise ConfigError("splits say which photographs were asked; give their manifest too.")
    if splits is not None and gallery is not None:
        raise ConfigError("the splits have candidates already; give them or a gallery, not both.")
    asked = None if manifest is None else asked_of(manifest, splits, on)
    predicted = read_predicted_coordinates(predictions, columns=columns, asked=asked)
    candidates = None if gallery is None else _candidates(gallery)
    training = np.zeros((0, 2))
    if splits is not None and manifest is not None:
        candidates = candidates_for(splits, on)
        side = [indices(splits, manifest, name) for name in ("train", "val") if name in _TRAINING_SIDE[on]]
        training = manifest.positions_deg[np.concatenate(side)]
    evaluation = measure_answers(predicted, config, candidates=candidates, training_deg=training)
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
    """Measure another tool's embeddings by image search: the report of a run, from vectors.

    A candidate is a position of the gallery, scored by its most similar photograph. With validation queries (rows of
    role val, or a share of the queries set apart) temperature, smoothing and estimator are fitted on them. Without, the
    answer is the place of the most similar photograph and the temperature is a stated constant: probabilities are then
    not fitted to anything, which `posterior.fitted` says.

    Args:
        vectors: Ids, positions, roles and vectors; see `read_vectors` for the forms.
        gallery: The gallery's vectors, where they are in a file of their own.
        similarity: "cosine", or "l2" for Euclidean distance.
        crs: Projection of the columns easting and northing, such as EPSG:32650.
        columns: {role: column}: image_id, lat, lon, easting, northing, role, city, place, block.
        manifest: With splits: the vectors are of its photographs, whose positions and roles are known there.
        splits: Which photographs are asked and which may be leaned on.
        on: Which photographs of the splits, "query" or "val".
        val_share: Share of the queries, in whole blocks, to fit the posterior on; they are then not measured.
        temperature: In place of the constant where nothing is fitted.
        config: Estimator, regions, bootstrap and seed.
        command: The command line, for the record.

    Returns:
        Report, predictions and candidates. `report.leakage` counts queries that the gallery holds.

    Raises:
        InputError: Vectors are not finite, do not fit together, or lack ids, positions or roles.
        ConfigError: The options do not go together.
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
    problem = _problem(vectors, gallery, crs, columns, manifest, splits, val_share, config.seed)
    places, rows, candidate = problem.gallery_rows(on)
    space = Space.of(problem.vectors[rows], similarity)
    meta = {"similarity": similarity, "dim": int(problem.vectors.shape[1])}
    held = image_gallery(places, space.gallery(problem.vectors[rows]), candidate, meta)
    validation = indices(problem.splits, problem.manifest, "val") if on == "query" else np.zeros(0, dtype=np.int64)
    posterior = _fit(problem, space, config.seed) if len(validation) else fixed_posterior(temperature)
    evaluation = evaluate_embeddings(
        space.queries(problem.vectors[problem.rows(on)]),
        held,
        problem.manifest,
        problem.splits,
        on=on,
        posterior=posterior,
        config=config,
        command=command,
    )
    fitted = {
        "fitted": bool(len(validation)),
        "fitted_on": f"{len(validation)} validation queries" if len(validation) else "nothing",
    }
    leakage = {**leakage_report(problem.manifest, problem.splits), "vectors": problem.leakage}
    leakage["warnings"] = [*problem.leakage["warnings"], *leakage["warnings"]]
    report = evaluation.report.recorded(bridge={"kind": "vectors", "files": _names(vectors, gallery), **meta})
    posterior_record = {**(report.posterior or {}), **fitted}
    return replace(evaluation, report=report.model_copy(update={"posterior": posterior_record, "leakage": leakage}))


def _problem(
    vectors: Source,
    gallery: Source | None,
    crs: str | None,
    columns: Mapping[str, str] | None,
    manifest: Manifest | None,
    splits: Splits | None,
    val_share: float,
    seed: int,
) -> Problem:
    if (manifest is None) != (splits is None):
        raise ConfigError("vectors of a manifest's photographs need its splits, which say what is asked; give both.")
    if manifest is not None and splits is not None:
        if gallery is not None or val_share or crs is not None:
            raise ConfigError("the splits say what the gallery, its positions and the validation are; leave those out.")
        return given_problem(read_vectors(vectors, columns=columns, with_positions=False), manifest, splits)
    if gallery is None:
        return own_problem(read_vectors(vectors, crs=crs, columns=columns), None, val_share=val_share, seed=seed)
    asked = read_vectors(vectors, role="query", crs=crs, columns=columns)
    there = read_vectors(gallery, role="gallery", crs=crs, columns=columns)
    return own_problem(asked, there, val_share=val_share, seed=seed)


def _fit(problem: Problem, space: Space, seed: int) -> Any:
    """The posterior of the validation queries, on the gallery that is theirs."""
    places, rows, candidate = problem.gallery_rows("val")
    held = image_gallery(places, space.gallery(problem.vectors[rows]), candidate, {})
    truth = problem.manifest.positions_deg[indices(problem.splits, problem.manifest, "val")]
    return fitted_posterior(space.queries(problem.vectors[problem.rows("val")]), truth, held, seed)


def _candidates(gallery: str | os.PathLike[str] | pd.DataFrame) -> pd.DataFrame:
    """Positions of a table as candidates."""
    table = find_roles(open_table(gallery, "the table of the gallery"), COMMON, None)
    lat_lon = table.raw.lat_lon
    if lat_lon is not None and "lat" not in table.columns:
        frame = table.raw.frame.assign(lat_deg=[pair[0] for pair in lat_lon], lon_deg=[pair[1] for pair in lat_lon])
        table = find_roles(open_table(frame, "the table of the gallery"), COMMON, None)
    need(table, ["lat", "lon"], "")
    positions = table.positions("lat", "lon", "position of a candidate")
    kept = ~np.isnan(positions[:, 0])
    if not kept.all():
        at = int(np.flatnonzero(~kept)[0])
        raise ConfigError(f"{table.where(at, 'lat')}: a candidate without a position; mend or remove the row.")
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
    return [str(source) for source in sources if isinstance(source, str | os.PathLike)]


def _data(manifest: Manifest | None, splits: Splits | None) -> dict[str, Any]:
    """What the true positions and the candidates came from, for the record."""
    known: dict[str, Any] = {}
    if manifest is not None:
        known["manifest"] = {"path": str(manifest.path), "digest": manifest.digest}
    if splits is not None:
        known["splits"] = {"path": str(splits.path), **splits.meta}
    return known
