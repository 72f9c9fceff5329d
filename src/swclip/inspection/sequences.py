"""Steps, speeds and jumps along the sequences of a manifest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from swclip.data.manifest import Manifest
from swclip.data.nearby_captures import capture_times_s, sequence_numbers
from swclip.geo.distance import haversine_m

MAX_SPEED_M_S = 50.0
"""180 km/h: above the speed limit of any road."""
MAX_STEP_M = 600.0
"""Longest step between photographs without times; mapillary_tools begins a new sequence there (CUTOFF_DISTANCE)."""
DEFAULT_ACCURACY_M = 10.0
"""Assumed where a position states no accuracy: that of a telephone in a street."""
STANDING_M, STANDING_DEG = 0.1, 5.0
"""A photograph this near to the one before, in this similar a direction, shows the same (as in mapillary_tools)."""

_SPIKE_STEPS, _SPIKE_M = 20.0, 100.0
_SIGMAS = 2.0
_LEAST_S = 1.0


@dataclass(frozen=True, eq=False)
class SequenceSteps:
    """Steps from each photograph to the next of its sequence, S in total.

    Attributes:
        start: (S,) row of the first photograph.
        stop: (S,) row of the next.
        step_m: (S,) great-circle distance, metres.
        time_s: (S,) time between them, seconds; NaN where it is unknown.
        speed_m_s: (S,) speed; NaN where the time is unknown or 0.
        jump: (N,) whether the position of a photograph contradicts its sequence.
        detail: {row: why} of the jumps.
        standing: Number of photographs that were taken where the one before was, in the same direction.
        n_sequences: Number of sequences.
        n_without: Number of photographs of no sequence.
    """

    start: Int64[np.ndarray, " s"]
    stop: Int64[np.ndarray, " s"]
    step_m: Float64[np.ndarray, " s"]
    time_s: Float64[np.ndarray, " s"]
    speed_m_s: Float64[np.ndarray, " s"]
    jump: Bool[np.ndarray, " n"]
    detail: dict[int, str]
    standing: int
    n_sequences: int
    n_without: int


def sequence_steps(manifest: Manifest) -> SequenceSteps:
    """Measure the steps along all sequences, in the order of their times, or of the rows where a time is missing.

    A step is too fast if it needs more than `MAX_SPEED_M_S` even after twice the standard deviation of both positions
    is subtracted; without times, if it is longer than `MAX_STEP_M`. A photograph that is too far from both of its
    neighbours, while these are near to each other, is the one at fault; otherwise both ends of the step are named.

    Args:
        manifest: The photographs.
    """
    sequence, time_s = sequence_numbers(manifest), capture_times_s(manifest)
    timed = _all_timed(sequence, time_s)
    order = np.lexsort((np.where(timed, time_s, 0.0), sequence))  # stable: rows where times are equal or unknown
    order = order[sequence[order] >= 0]
    same = sequence[order][1:] == sequence[order][:-1]
    start, stop = order[:-1][same], order[1:][same]
    deg, heading = manifest.positions_deg, manifest.frame["heading_deg"].to_numpy(dtype=np.float64)
    accuracy = np.where(np.isnan(manifest.accuracy_m), DEFAULT_ACCURACY_M, manifest.accuracy_m)
    step_m = _apart(deg, start, stop)
    gap_s = np.where(timed[stop], time_s[stop] - time_s[start], np.nan)
    fast = _too_fast(step_m, gap_s, accuracy, start, stop)
    jump, detail = np.zeros(len(deg), dtype=bool), dict[int, str]()
    middle = _spikes(deg, accuracy, start, stop, step_m, gap_s, fast, sequence)
    for at in middle.tolist():  # of steps: the photograph between step `at` and the next one
        jump[stop[at]] = True
        detail[int(stop[at])] = f"{_words(step_m[at], gap_s[at])} from the one before, and back again to the next"
    explained = np.zeros(len(start), dtype=bool)
    explained[middle], explained[middle + 1] = True, True
    for at in np.flatnonzero(fast & ~explained).tolist():
        for row in (int(start[at]), int(stop[at])):
            jump[row] = True
            detail.setdefault(
                row, f"{_words(step_m[at], gap_s[at])} between it and its neighbour: one of the two is wrong"
            )
    turned = np.abs((heading[stop] - heading[start] + 180.0) % 360.0 - 180.0)
    standing = (step_m <= STANDING_M) & ~(turned > STANDING_DEG)
    with np.errstate(divide="ignore", invalid="ignore"):
        speed = np.where(gap_s > 0.0, step_m / gap_s, np.nan)
    numbers = np.unique(sequence[sequence >= 0])
    return SequenceSteps(
        start, stop, step_m, gap_s, speed, jump, detail, int(standing.sum()), len(numbers), int((sequence < 0).sum())
    )


def _all_timed(sequence: Int64[np.ndarray, " n"], time_s: Float64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Whether all photographs of the sequence of each photograph have a time."""
    untimed = np.unique(sequence[np.isnan(time_s)])
    return ~np.isin(sequence, untimed)


def _apart(
    deg: Float64[np.ndarray, "n 2"], start: Int64[np.ndarray, " s"], stop: Int64[np.ndarray, " s"]
) -> Float64[np.ndarray, " s"]:
    distance: Float64[np.ndarray, " s"] = haversine_m(deg[start, 0], deg[start, 1], deg[stop, 0], deg[stop, 1])
    return distance


def _too_fast(
    step_m: Float64[np.ndarray, " s"],
    gap_s: Float64[np.ndarray, " s"],
    accuracy_m: Float64[np.ndarray, " n"],
    start: Int64[np.ndarray, " s"],
    stop: Int64[np.ndarray, " s"],
) -> Bool[np.ndarray, " s"]:
    surely_m = step_m - _SIGMAS * np.hypot(accuracy_m[start], accuracy_m[stop])
    # Times are often whole seconds, so that photographs of one second have no time between them.
    return np.where(np.isnan(gap_s), step_m > MAX_STEP_M, surely_m > MAX_SPEED_M_S * np.maximum(gap_s, _LEAST_S))


def _spikes(
    deg: Float64[np.ndarray, "n 2"],
    accuracy_m: Float64[np.ndarray, " n"],
    start: Int64[np.ndarray, " s"],
    stop: Int64[np.ndarray, " s"],
    step_m: Float64[np.ndarray, " s"],
    gap_s: Float64[np.ndarray, " s"],
    fast: Bool[np.ndarray, " s"],
    sequence: Int64[np.ndarray, " n"],
) -> Int64[np.ndarray, " k"]:
    """Steps to a photograph that is far from both neighbours, which are near to each other."""
    if len(start) < 2:
        return np.zeros(0, dtype=np.int64)
    joined = stop[:-1] == start[1:]
    closing_m = _apart(deg, start[:-1], stop[1:])
    both_s = gap_s[:-1] + gap_s[1:]
    closes = ~_too_fast(closing_m, both_s, accuracy_m, start[:-1], stop[1:])
    timed = joined & fast[:-1] & fast[1:] & closes & ~np.isnan(both_s)
    usual_m = np.maximum(_SPIKE_STEPS * _median_step(step_m, sequence[start]), _SPIKE_M)
    far = step_m > usual_m
    untimed = joined & np.isnan(both_s) & far[:-1] & far[1:] & (closing_m <= usual_m[1:])
    at = np.flatnonzero(timed | untimed)
    return at[np.diff(at, prepend=-2) > 1]  # two in a row would share a step


def _median_step(step_m: Float64[np.ndarray, " s"], number: Int64[np.ndarray, " s"]) -> Float64[np.ndarray, " s"]:
    """The median step of the sequence of each step."""
    order = np.lexsort((step_m, number))
    _, first, which, count = np.unique(number[order], return_index=True, return_inverse=True, return_counts=True)
    medians = step_m[order][first + count // 2]
    values = np.empty(len(step_m))
    values[order] = medians[which.reshape(-1)]
    return values


def _words(step_m: float, gap_s: float) -> str:
    return f"{step_m:,.0f} m" if np.isnan(gap_s) else f"{step_m:,.0f} m in {gap_s:,.1f} s"
