"""Read another tool's answers: predicted coordinates of photographs with known positions."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int64

from swclip.errors import InputError
from swclip.evaluation.report import Truth
from swclip.external.ground_truth import QuerySet, truth_of_rows
from swclip.external.prediction_columns import (
    COMMON_ROLES,
    PREDICTED,
    TRUE,
    ExternalTable,
    Synonyms,
    column_flag,
    find_roles,
    open_table,
    plain_names,
    require_columns,
    require_positions,
)
from swclip.geo.coordinates import NO_FIX_DEG
from swclip.geo.distance import haversine_m
from swclip.ingest.source_table import RawTable


def _forms(*axis: str) -> tuple[str, ...]:
    """Names of a predicted coordinate, such as pred_lat and latitude_predicted, for each word of the axis."""
    before = ("predicted", "pred", "prediction", "estimated", "est", "answer", "guess")
    after = ("predicted", "pred")
    return tuple(
        name
        for word in axis
        for name in (
            *(f"{first}{word}" for first in before),
            *(f"{first}{word}deg" for first in before),
            *(f"{word}{last}" for last in after),
        )
    )


ROLES: Synonyms = {
    **COMMON_ROLES,
    "predicted_lat": (_forms("lat", "latitude"), ()),
    "predicted_lon": (_forms("lon", "lng", "long", "longitude"), ()),
    "predicted_lat_ref": (tuple(f"{name}ref" for name in _forms("lat", "latitude")), ()),
    "predicted_lon_ref": (tuple(f"{name}ref" for name in _forms("lon", "lng", "long", "longitude")), ()),
    "predicted_position": (_forms("latlon", "latlng", "position", "coordinates", "geometry", "point", "wkt"),),
    "rank": (plain_names("rank answerrank predictionrank predictedrank"), ()),
    "confidence": (plain_names("confidence"), plain_names("probability prob score conf certainty")),
}
"""Roles in a table of predictions, with their usual column names."""

NO_ROW, EMPTY, ZERO = "no row in the table", "no coordinates", "the coordinates 0, 0"


@dataclass(frozen=True)
class PredictedCoordinates:
    """Queries and another tool's answers to them.

    Attributes:
        name: The table, for messages and the report.
        queries: Q rows: image_id, lat_deg, lon_deg (the truth), city, place_id, block_id, split.
        answers_deg: (Q, K, 2) latitude, longitude of the ranked answers, best first; NaN where there are no more.
        confidence: (Q,) confidence of the first answer, NaN where missing; None without such a column.
        reasons: Reason why a query has no answer; None where it has one.
        truth: Source of the true positions, for the report.
        notes: Remarks on how the table was read.
    """

    name: str
    queries: pd.DataFrame
    answers_deg: Float64[np.ndarray, "q k 2"]
    confidence: Float64[np.ndarray, " q"] | None
    reasons: list[str | None]
    truth: Truth
    notes: list[str] = field(default_factory=list)

    @property
    def answered(self) -> Bool[np.ndarray, " q"]:
        """(Q,) whether each query has an answer."""
        return np.array([reason is None for reason in self.reasons], dtype=bool)


def read_predicted_coordinates(
    source: str | os.PathLike[str] | pd.DataFrame,
    *,
    columns: Mapping[str, str] | None = None,
    query_set: QuerySet | None = None,
) -> PredictedCoordinates:
    """Read a table of predictions.

    One row is one answer. Further ranked answers are further rows of the same image_id with a column `rank` from 1. A
    row without coordinates, or with 0, 0, is a query without an answer. The geometry of GeoJSON and GeoParquet is used
    for the position without columns, predicted or true.

    Args:
        source: A CSV, Parquet, GeoParquet or GeoJSON file, or a data frame.
        columns: {role: column} for columns with other names than those of `ROLES`.
        query_set: The queries with their true positions; None to read them from the table.

    Raises:
        InputError: A column is missing or ambiguous, a cell is invalid, an id repeats without ranks, or a row names an
            unknown photograph.
    """
    raw, notes = _without_candidates(open_table(source, "the table of predictions"))
    table = find_roles(raw, ROLES, columns)
    require_columns(table, ["image_id"], "")
    table = table.with_positions(*([PREDICTED, TRUE] if query_set is None else [PREDICTED]))
    require_positions(table, PREDICTED, "")
    notes += table.position_notes()
    if query_set is None:
        require_positions(table, TRUE, ", or give the manifest with the true positions")
    elif {"lat", "lon", "position"} & set(table.columns):
        notes.append("The true positions are those of the manifest; those of the table were not used.")
    ids = _ids(table)
    answers = table.positions(PREDICTED, "predicted position")
    order, starts = _grouped(table, ids)
    names = [ids[order[start]] for start in starts]
    if query_set is None:
        lines = np.array([int(order[start]) for start in starts])
        queries = _table_queries(table, lines)
        truth = Truth(position="recorded", columns="of the table of predictions")
        _check_same_truth(table, order, starts)
        row_of = {name: at for at, name in enumerate(names)}
    else:
        row_of, left_out = query_set.rows_of(names, lambda at: table.where(int(order[starts[at]]), "image_id"))
        queries, row_of = query_set.measured(row_of)
        truth = query_set.truth
        if left_out:
            notes.append(f"{left_out} rows of the table are of photographs that are not queries; they were left out.")
    _check_against_truth(table, queries, answers, order, starts, [row_of.get(name) for name in names])
    sizes = np.diff([*starts, len(order)])
    answers_deg = np.full((len(queries), int(sizes.max()), 2), np.nan)
    reasons: list[str | None] = [NO_ROW] * len(queries)
    confidences = table.numbers("confidence") if "confidence" in table.columns else None
    confidence = None if confidences is None else np.full(len(queries), np.nan)
    for name, start, size in zip(names, starts, sizes, strict=True):
        at = row_of.get(name)
        if at is None:
            continue
        lines = order[start : start + size]
        query_answers, reasons[at] = _answers(answers[lines])
        answers_deg[at, : len(query_answers)] = query_answers
        if confidence is not None and confidences is not None:
            confidence[at] = confidences[lines[0]]
    return PredictedCoordinates(raw.name, queries, answers_deg, confidence, reasons, truth, notes)


def _without_candidates(raw: RawTable) -> tuple[RawTable, list[str]]:
    """The answers of a table of `swclip locate --format csv`, which has one row per candidate."""
    header = set(map(str, raw.frame.columns))
    if not {"answer_lat_deg", "answer_lon_deg", "candidate_id", "rank", "photograph"} <= header:
        return raw, []
    first = [at for at, rank in enumerate(raw.frame["rank"]) if str(rank).strip() in ("", "1", "None", "nan", "1.0")]
    columns = ["photograph", "answer_lat_deg", "answer_lon_deg", "answer_probability_within_50m"]
    frame = raw.frame.iloc[first].reindex(columns=columns).rename(columns={columns[-1]: "confidence"})
    note = "A table of `swclip locate`: its answers were read, and its candidates were left out."
    return replace(raw, frame=frame.reset_index(drop=True), rows=[raw.rows[at] for at in first]), [note]


def _ids(table: ExternalTable) -> list[str]:
    ids = table.texts("image_id")
    for at, value in enumerate(ids):
        if value is None:
            raise InputError(f"{table.where(at, 'image_id')}: the id is empty; every row needs one.")
    return [str(value) for value in ids]


def _grouped(table: ExternalTable, ids: list[str]) -> tuple[Int64[np.ndarray, " n"], list[int]]:
    """Rows ordered by query (in the order of their first rows) and rank, and the start of each query."""
    first: dict[str, int] = {}
    for at, name in enumerate(ids):
        first.setdefault(name, at)
    group = np.array([first[name] for name in ids], dtype=np.int64)
    if "rank" not in table.columns:
        if len(first) < len(ids):
            at = next(at for at, name in enumerate(ids) if first[name] != at)
            raise InputError(
                f"{table.where(at, 'image_id')}: {ids[at]!r} occurs twice (row {table.raw.rows[first[ids[at]]]}); "
                "one row is one answer. For several answers to one query add a column `rank` from 1."
            )
        return np.arange(len(ids), dtype=np.int64), list(range(len(ids)))
    rank = table.numbers("rank")
    if (wrong := ~(rank >= 1.0) | (rank != np.floor(rank))).any():
        at = int(np.flatnonzero(wrong)[0])
        raise InputError(f"{table.where(at, 'rank')}: a rank is 1, 2, 3 and so on, not {rank[at]:g}; correct the row.")
    order = np.lexsort((rank, group)).astype(np.int64)
    new = np.diff(group[order]) != 0
    same = ~new & (np.diff(rank[order]) == 0)
    if same.any():
        at = int(order[1:][same][0])
        raise InputError(f"{table.where(at, 'rank')}: {ids[at]!r} has two answers of rank {rank[at]:g}; correct one.")
    return order, [0, *(np.flatnonzero(new) + 1).tolist()]


def _table_queries(table: ExternalTable, lines: Int64[np.ndarray, " q"]) -> pd.DataFrame:
    """The queries with the true positions in the table."""
    truth = truth_of_rows(table, lines)
    texts = {name: table.texts(role) for name, role in (("city", "city"), ("place_id", "place"), ("block_id", "block"))}
    ids = table.texts("image_id")
    return pd.DataFrame(
        {
            "image_id": [ids[at] for at in lines],
            "lat_deg": truth[:, 0],
            "lon_deg": truth[:, 1],
            **{name: pd.Series([values[at] for at in lines], dtype=object) for name, values in texts.items()},
            "split": "query",
        }
    )


def _check_same_truth(table: ExternalTable, order: Int64[np.ndarray, " n"], starts: list[int]) -> None:
    """Raise InputError unless all rows of a query have the same true position."""
    truth = table.positions(TRUE, "true position")
    first = np.repeat(order[starts], np.diff([*starts, len(order)]))
    differ = np.abs(truth[order] - truth[first]).max(axis=1) > 1e-9
    if differ.any():
        at = int(order[differ][0])
        raise InputError(
            f"{table.where_position(at, TRUE)}: the true position differs from that of the query's first row."
        )


def _answers(answers_deg: Float64[np.ndarray, "k 2"]) -> tuple[Float64[np.ndarray, "k 2"], str | None]:
    """The answers to one query without empty ones, or the reason for no answer."""
    present = ~np.isnan(answers_deg[:, 0])
    if not present[0]:
        return answers_deg[:0], EMPTY
    if np.abs(answers_deg[0]).max() < NO_FIX_DEG:
        return answers_deg[:0], ZERO
    return answers_deg[present], None


def _check_against_truth(
    table: ExternalTable,
    queries: pd.DataFrame,
    answers_deg: Float64[np.ndarray, "n 2"],
    order: Int64[np.ndarray, " n"],
    starts: list[int],
    row_of: list[int | None],
) -> None:
    """Raise InputError where most predictions are near the truth only if coordinates are swapped, or a sign changed."""
    pairs = [(int(order[start]), at) for start, at in zip(starts, row_of, strict=True) if at is not None]
    if not pairs:
        return
    lines, rows = np.array(pairs, dtype=np.int64).T
    predicted, truth = answers_deg[lines], queries[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64)[rows]
    present = ~np.isnan(predicted[:, 0])
    (lat, lon), (true_lat, true_lon) = predicted[present].T, truth[present].T
    away_m = haversine_m(lat, lon, true_lat, true_lon)
    stated = table.positions_of[PREDICTED]
    lat_column, lon_column = stated.column("lat"), stated.column("lon")
    if lat_column == lon_column:
        lat_column, lon_column = f"{lat_column}[0]", f"{lat_column}[1]"
    rows_with = f"of {int(present.sum())} rows the prediction is near the truth only"
    near = (np.abs(lon) <= 90.0) & (haversine_m(lon, lat, true_lat, true_lon) < 100_000.0)
    count = int(((away_m > 1_000_000.0) & near).sum())
    if count and 2 * count > int(present.sum()):
        raise InputError(
            f"{table.raw.name}: the columns {lat_column!r} (latitude) and {lon_column!r} (longitude) look swapped: in "
            f"{count} {rows_with} if they are swapped. If so, add: "
            f'{column_flag("predicted_lat")}"{lon_column}" {column_flag("predicted_lon")}"{lat_column}"'
        )
    for name, column, ref, mirrored in (
        ("latitude", lat_column, "predicted_lat_ref", (-lat, lon)),
        ("longitude", lon_column, "predicted_lon_ref", (lat, -lon)),
    ):
        mirrored_m = haversine_m(*mirrored, true_lat, true_lon)
        count = int(((away_m > 10_000.0) & (mirrored_m < 0.05 * away_m)).sum())
        if count and 2 * count > int(present.sum()):
            raise InputError(
                f"{table.raw.name}: the signs of the {name} differ between the truth and the column {column!r}: in "
                f"{count} {rows_with} with the other sign. Correct the signs; or name the columns with the letters N, "
                f"S, E and W, such as {column_flag(ref)}NAME, or of the truth {column_flag(ref[10:])}NAME."
            )
