"""Reading the answers of another tool: predicted coordinates of photographs whose true places are known."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int64

from swclip.errors import InputError
from swclip.evaluation.report import Truth
from swclip.external.ground_truth import Asked, truth_of_rows
from swclip.external.prediction_columns import COMMON, ExternalTable, Synonyms, find_roles, flag, need, open_table, words
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
    **COMMON,
    "predicted_lat": (_forms("lat", "latitude"), ()),
    "predicted_lon": (_forms("lon", "lng", "long", "longitude"), ()),
    "rank": (words("rank answerrank predictionrank predictedrank"), ()),
    "confidence": (words("confidence"), words("probability prob score conf certainty")),
}
"""The roles of a table of predictions."""

NO_ROW, EMPTY, ZERO = "no row in the table", "no coordinates", "the coordinates 0, 0"
_NO_FIX_DEG = 1e-6
_GEOMETRY = ("geometry (latitude)", "geometry (longitude)")


@dataclass(frozen=True)
class Predicted:
    """What was asked and what was answered.

    Attributes:
        name: The table, for messages and the record.
        queries: Q rows: image_id, lat_deg, lon_deg (the truth), city, place_id, block_id, split.
        answers_deg: (Q, K, 2) latitude, longitude of the ranked answers, best first; NaN where there are no more.
        confidence: (Q,) what the tool said of its first answer, NaN where nothing; None without such a column.
        reasons: Why a query has no answer; None where it has one.
        truth: Where the true positions came from, for the record.
        notes: What was done that a reader might not expect.
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
        """(Q,) whether there is an answer."""
        return np.array([reason is None for reason in self.reasons], dtype=bool)


def read_predicted_coordinates(
    source: str | os.PathLike[str] | pd.DataFrame,
    *,
    columns: Mapping[str, str] | None = None,
    asked: Asked | None = None,
) -> Predicted:
    """Read a table of predictions.

    One row is one answer. Further ranked answers are further rows of the same image_id with a column `rank` from 1. A
    row without coordinates, or with 0, 0, says that the tool did not answer. The geometry of GeoJSON and GeoParquet is
    the one of the two positions that no columns give.

    Args:
        source: A CSV, Parquet, GeoParquet or GeoJSON file, or a data frame.
        columns: {role: column} for columns whose names do not say what they hold; see `ROLES`.
        asked: The photographs that were asked, with their true positions; without it the table gives them.

    Raises:
        InputError: A column is missing or ambiguous, a cell cannot be what it should, an id repeats without ranks, or
            a row names a photograph that is not known.
    """
    raw, notes = _plain_answers(open_table(source, "the table of predictions"))
    table = find_roles(raw, ROLES, columns)
    table = _with_geometry(table, truth_is_known=asked is not None)
    need(table, ["image_id", "predicted_lat", "predicted_lon"], "")
    if asked is None:
        need(table, ["lat", "lon"], ", or give the manifest that holds the true positions")
    elif "lat" in table.columns and "lon" in table.columns:
        notes.append("The true positions are the manifest's; those of the table were not used.")
    ids = _ids(table)
    answers = table.positions("predicted_lat", "predicted_lon", "predicted position")
    order, starts = _grouped(table, ids)
    names = [ids[order[start]] for start in starts]
    if asked is None:
        lines = np.array([int(order[start]) for start in starts])
        queries = _own_queries(table, lines)
        truth = Truth(position="recorded", columns="of the table of predictions")
        _same_truth(table, order, starts)
        row_of = {name: at for at, name in enumerate(names)}
    else:
        row_of, left_out = asked.rows_of(names, lambda at: table.where(int(order[starts[at]]), "image_id"))
        queries, row_of = asked.measured(row_of)
        truth = asked.truth
        if left_out:
            notes.append(f"{left_out} rows of the table are of photographs that were not asked; they were left out.")
    _refuse_exchanged(table, queries, answers, order, starts, [row_of.get(name) for name in names])
    sizes = np.diff([*starts, len(order)])
    found = np.full((len(queries), int(sizes.max()), 2), np.nan)
    reasons: list[str | None] = [NO_ROW] * len(queries)
    stated = table.numbers("confidence") if "confidence" in table.columns else None
    confidence = None if stated is None else np.full(len(queries), np.nan)
    for name, start, size in zip(names, starts, sizes, strict=True):
        at = row_of.get(name)
        if at is None:
            continue
        lines = order[start : start + size]
        own, reasons[at] = _answers(answers[lines])
        found[at, : len(own)] = own
        if confidence is not None and stated is not None:
            confidence[at] = stated[lines[0]]
    return Predicted(raw.name, queries, found, confidence, reasons, truth, notes)


def _plain_answers(raw: RawTable) -> tuple[RawTable, list[str]]:
    """The table of `swclip locate --format csv` has a row a candidate: its answers alone are meant."""
    header = set(map(str, raw.frame.columns))
    if not {"answer_lat_deg", "answer_lon_deg", "candidate_id", "rank", "photograph"} <= header:
        return raw, []
    first = [at for at, rank in enumerate(raw.frame["rank"]) if str(rank).strip() in ("", "1", "None", "nan", "1.0")]
    wanted = ["photograph", "answer_lat_deg", "answer_lon_deg", "answer_probability_within_50m"]
    frame = raw.frame.iloc[first].reindex(columns=wanted).rename(columns={wanted[-1]: "confidence"})
    note = "A table of `swclip locate`: its answers were read, and not the candidates listed with them."
    return replace(raw, frame=frame.reset_index(drop=True), rows=[raw.rows[at] for at in first]), [note]


def _with_geometry(table: ExternalTable, *, truth_is_known: bool) -> ExternalTable:
    """Let the geometry stand for the position that no columns give: the prediction first, else the truth."""
    lat_lon = table.raw.lat_lon
    if lat_lon is None:
        return table
    roles = None
    if "predicted_lat" not in table.columns and "predicted_lon" not in table.columns:
        roles = ("predicted_lat", "predicted_lon")
    elif not truth_is_known and "lat" not in table.columns and "lon" not in table.columns:
        roles = ("lat", "lon")
    if roles is None:
        return table
    frame = table.raw.frame.copy()
    for place, name in enumerate(_GEOMETRY):
        frame[name] = pd.Series([pair[place] for pair in lat_lon], dtype=object)
    columns = {**table.columns, **dict(zip(roles, _GEOMETRY, strict=True))}
    return ExternalTable(replace(table.raw, frame=frame), columns)


def _ids(table: ExternalTable) -> list[str]:
    ids = table.texts("image_id")
    for at, value in enumerate(ids):
        if value is None:
            raise InputError(f"{table.where(at, 'image_id')}: the id is empty; every row needs one.")
    return [str(value) for value in ids]


def _grouped(table: ExternalTable, ids: list[str]) -> tuple[Int64[np.ndarray, " n"], list[int]]:
    """Rows ordered by query (in the order of their first rows) and rank, and where each query begins."""
    first: dict[str, int] = {}
    for at, name in enumerate(ids):
        first.setdefault(name, at)
    group = np.array([first[name] for name in ids], dtype=np.int64)
    if "rank" not in table.columns:
        if len(first) < len(ids):
            at = next(at for at, name in enumerate(ids) if first[name] != at)
            raise InputError(
                f"{table.where(at, 'image_id')}: {ids[at]!r} is there twice (row {table.raw.rows[first[ids[at]]]}); "
                "one row is one answer. For several answers of one photograph add a column `rank` from 1."
            )
        return np.arange(len(ids), dtype=np.int64), list(range(len(ids)))
    rank = table.numbers("rank")
    if (wrong := ~(rank >= 1.0) | (rank != np.floor(rank))).any():
        at = int(np.flatnonzero(wrong)[0])
        raise InputError(f"{table.where(at, 'rank')}: a rank is 1, 2, 3 and so on, not {rank[at]:g}; mend the row.")
    order = np.lexsort((rank, group)).astype(np.int64)
    new = np.diff(group[order]) != 0
    same = ~new & (np.diff(rank[order]) == 0)
    if same.any():
        at = int(order[1:][same][0])
        raise InputError(f"{table.where(at, 'rank')}: {ids[at]!r} has two answers of rank {rank[at]:g}; mend it.")
    return order, [0, *(np.flatnonzero(new) + 1).tolist()]


def _own_queries(table: ExternalTable, lines: Int64[np.ndarray, " q"]) -> pd.DataFrame:
    """The queries with the true positions that the table itself has."""
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


def _same_truth(table: ExternalTable, order: Int64[np.ndarray, " n"], starts: list[int]) -> None:
    """All rows of a query must say the same true position."""
    truth = table.positions("lat", "lon", "true position")
    first = np.repeat(order[starts], np.diff([*starts, len(order)]))
    differ = np.abs(truth[order] - truth[first]).max(axis=1) > 1e-9
    if differ.any():
        at = int(order[differ][0])
        raise InputError(f"{table.where(at, 'lat')}: the true position differs from that of the query's first row.")


def _answers(answers_deg: Float64[np.ndarray, "k 2"]) -> tuple[Float64[np.ndarray, "k 2"], str | None]:
    """The answers of one query without the empty ones, and why there is none."""
    there = ~np.isnan(answers_deg[:, 0])
    if not there[0]:
        return answers_deg[:0], EMPTY
    if np.abs(answers_deg[0]).max() < _NO_FIX_DEG:
        return answers_deg[:0], ZERO
    return answers_deg[there], None


def _refuse_exchanged(
    table: ExternalTable,
    queries: pd.DataFrame,
    answers_deg: Float64[np.ndarray, "n 2"],
    order: Int64[np.ndarray, " n"],
    starts: list[int],
    row_of: list[int | None],
) -> None:
    """Raise where most predictions are near the truth only with latitude and longitude exchanged."""
    pairs = [(int(order[start]), at) for start, at in zip(starts, row_of, strict=True) if at is not None]
    if not pairs:
        return
    lines, rows = np.array(pairs, dtype=np.int64).T
    said, truth = answers_deg[lines], queries[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64)[rows]
    known = ~np.isnan(said[:, 0])
    lat, lon, at_lat, at_lon = said[known, 0], said[known, 1], truth[known, 0], truth[known, 1]
    far = haversine_m(lat, lon, at_lat, at_lon) > 1_000_000.0
    near = (np.abs(lon) <= 90.0) & (haversine_m(lon, lat, at_lat, at_lon) < 100_000.0)
    count = int((far & near).sum())
    if count and 2 * count > int(known.sum()):
        one, two = table.columns["predicted_lat"], table.columns["predicted_lon"]
        raise InputError(
            f"{table.raw.name}: the columns {one!r} (latitude) and {two!r} (longitude) look swapped: in {count} of "
            f"{int(known.sum())} rows the prediction is near the truth only when they are exchanged. If so, add: "
            f'{flag("predicted_lat")}"{two}" {flag("predicted_lon")}"{one}"'
        )
