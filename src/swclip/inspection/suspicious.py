"""Photographs that a user should look at, one row per photograph and reason, with the threshold that it exceeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from swclip.data.leakage import NEAR_DUPLICATE_BITS
from swclip.data.manifest import Manifest
from swclip.geo.distance import haversine_m
from swclip.imaging.phash import first_duplicates
from swclip.inspection.pixels import PixelMeasures
from swclip.inspection.sequences import MAX_SPEED_M_S, MAX_STEP_M, SequenceSteps

BLUR = 0.5
"""Blur effect of a blurred photograph: where answers begin to fail (docs/inspect.md)."""
DARK = 0.15
"""Mean luma of a dark photograph."""
UNIFORM = 0.04
"""Standard deviation of luma of a photograph that shows hardly anything."""
ACCURACY_M = 25.0
"""An accuracy above the radius within which answers count as correct."""
APART_M = 25.0
"""Near-duplicates farther apart than this are not neighbouring frames."""
ISOLATED_M, ISOLATED_SPACINGS = 1_000.0, 20.0
FIRST_YEAR = 1990

COLUMNS = ("image_id", "image_path", "lat_deg", "lon_deg", "reason", "value", "threshold", "detail")


@dataclass(frozen=True)
class Reason:
    """A reason for which photographs are listed.

    Attributes:
        name: As in the column `reason`.
        rule: The threshold in words.
        source: Where the threshold comes from.
        advice: What to do with such photographs.
    """

    name: str
    rule: str
    source: str
    advice: str


_HARM = "measured: see the page on inspecting data"
REASONS = (
    Reason(
        "unreadable", "the file is missing or cannot be decoded", "none is needed", "copy it again, or remove the row"
    ),
    Reason(
        "jump",
        f"faster than {3.6 * MAX_SPEED_M_S:.0f} km/h along its sequence, after twice the accuracy of both positions; "
        f"without times, steps over {MAX_STEP_M:g} m or spikes of 20 usual steps",
        "no road permits this speed; the step is mapillary_tools' limit of a sequence",
        "compare with its neighbours; correct or remove the position",
    ),
    Reason(
        "isolated",
        f"the nearest other place is over {ISOLATED_M / 1000:g} km and {ISOLATED_SPACINGS:g} usual spacings away",
        "a rule of thumb",
        "check the position: no other photograph can confirm it",
    ),
    Reason(
        "inaccurate",
        f"stated accuracy above {ACCURACY_M:g} m",
        "answers within 25 m count as correct",
        "do not use it as a query: its true position is not known well enough",
    ),
    Reason(
        "date",
        f"before {FIRST_YEAR}, or in the future",
        "no camera recorded positions before",
        "the camera's clock was wrong: correct or empty the time",
    ),
    Reason("dark", f"mean luma below {DARK:g}", _HARM, "remove it, or keep it where night photographs are asked for"),
    Reason("blurred", f"blur effect above {BLUR:g}", _HARM, "look at it, and remove it if it shows no place"),
    Reason("uniform", f"contrast (standard deviation of luma) below {UNIFORM:g}", "a rule of thumb", "remove it"),
    Reason(
        "identical", "the same bytes as an earlier photograph", "SHA-256", "remove it; find out which position is right"
    ),
    Reason(
        "duplicate",
        f"perceptual hash within {NEAR_DUPLICATE_BITS} of 64 bits of an earlier photograph over {APART_M:g} m away",
        "the threshold of the leakage report",
        "compare the two: one position is wrong, or the scene repeats",
    ),
)


@dataclass(frozen=True)
class Duplicates:
    """Photographs that repeat an earlier one; rows of the manifest.

    Attributes:
        identical: {row: row of the first photograph with the same bytes}.
        near: {row: row of the first near-duplicate}, without identical ones.
        apart_m: {row: distance to it, metres}, of both kinds.
    """

    identical: dict[int, int]
    near: dict[int, int]
    apart_m: dict[int, float]

    @property
    def elsewhere(self) -> list[int]:
        """Near-duplicates that are no neighbouring frames."""
        return [row for row in self.near if self.apart_m[row] > APART_M]


def duplicates_of(
    manifest: Manifest, pixels: PixelMeasures, progress: Callable[[int, int], None] | None = None
) -> Duplicates:
    """Find photographs that repeat an earlier one, among those that were read."""
    rows, deg = pixels.rows, manifest.positions_deg
    first: dict[str, int] = {}
    identical: dict[int, int] = {}
    for row, digest in zip(rows.tolist(), pixels.frame["sha256"], strict=True):
        if (same := first.setdefault(str(digest), row)) != row:
            identical[row] = same
    earlier = first_duplicates(pixels.perceptual, NEAR_DUPLICATE_BITS, progress=progress)
    near = {
        int(rows[at]): int(rows[earlier[at]])
        for at in np.flatnonzero(earlier >= 0).tolist()
        if int(rows[at]) not in identical
    }
    both = {**identical, **near}
    a, b = (deg[np.array(list(side), dtype=np.int64)] for side in (both, both.values()))
    apart = haversine_m(a[:, 0], a[:, 1], b[:, 0], b[:, 1]) if both else np.zeros(0)
    return Duplicates(identical, near, dict(zip(both, np.round(apart, 1).tolist(), strict=True)))


def suspicious_photographs(
    manifest: Manifest,
    steps: SequenceSteps,
    spacing_m: Float64[np.ndarray, " n"],
    usual_spacing_m: Float64[np.ndarray, " n"],
    pixels: PixelMeasures | None,
    duplicates: Duplicates | None,
    now: pd.Timestamp,
) -> pd.DataFrame:
    """List the photographs that exceed a threshold.

    Args:
        manifest: The photographs.
        steps: Steps along their sequences.
        spacing_m: (N,) distance of each photograph to the nearest other place.
        usual_spacing_m: (N,) the median of that in its city.
        pixels: Measures of the photographs that were read; None without any.
        duplicates: Those among them that repeat another; None without any.
        now: The present time.

    Returns:
        The columns `COLUMNS`, in the order of `REASONS` and then of the manifest.
    """
    listed = _Listed(manifest)
    times = pd.to_datetime(manifest.frame["captured_at"], utc=True)
    if pixels is not None:
        listed.add("unreadable", np.array(sorted(pixels.failures), dtype=np.int64), None, None, pixels.failures)
    listed.add("jump", np.flatnonzero(steps.jump), None, None, steps.detail)
    limit_m = np.maximum(ISOLATED_M, ISOLATED_SPACINGS * usual_spacing_m)
    listed.above("isolated", spacing_m, limit_m, "{:,.0f} m to the nearest other place")
    listed.above("inaccurate", manifest.accuracy_m, ACCURACY_M, "accuracy {:,.0f} m")
    odd = (times.dt.year < FIRST_YEAR) | (times > now + pd.Timedelta(days=1))
    listed.add("date", np.flatnonzero(odd.to_numpy(dtype=bool)), None, None, {
        row: str(times.iloc[row])[:19] for row in np.flatnonzero(odd.to_numpy(dtype=bool)).tolist()
    })  # fmt: skip
    if pixels is not None:
        values = {name: np.full(len(manifest), np.nan) for name in ("brightness", "blur", "contrast")}
        for name, column in values.items():
            column[pixels.rows] = pixels.frame[name].to_numpy(dtype=np.float64)
        listed.above("dark", -values["brightness"], -DARK, "mean luma {:.2f}", sign=-1.0)
        listed.above("blurred", values["blur"], BLUR, "blur effect {:.2f}")
        listed.above("uniform", -values["contrast"], -UNIFORM, "contrast {:.3f}", sign=-1.0)
    if duplicates is not None:
        listed.repeated("identical", duplicates.identical, duplicates.apart_m, None)
        near = {row: duplicates.near[row] for row in duplicates.elsewhere}
        listed.repeated("duplicate", near, duplicates.apart_m, APART_M)
    return listed.frame()


class _Listed:
    """The rows of the list."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._parts: list[pd.DataFrame] = []

    def add(
        self,
        reason: str,
        rows: Int64[np.ndarray, " r"],
        value: Float64[np.ndarray, " r"] | None,
        threshold: Float64[np.ndarray, " r"] | float | None,
        detail: Mapping[int, str],
    ) -> None:
        part = self._manifest.frame[["image_id", "image_path", "lat_deg", "lon_deg"]].iloc[rows]
        empty = np.full(len(rows), np.nan)
        self._parts.append(
            part.assign(
                reason=reason,
                value=empty if value is None else value,
                threshold=empty if threshold is None else threshold,
                detail=[detail.get(row, "") for row in rows.tolist()],
            )
        )

    def above(
        self,
        reason: str,
        values: Float64[np.ndarray, " n"],
        limit: Float64[np.ndarray, " n"] | float,
        words: str,
        sign: float = 1.0,
    ) -> None:
        rows = np.flatnonzero(values > limit)
        shown = np.round(sign * values[rows], 4)
        threshold = np.round(sign * np.broadcast_to(limit, values.shape)[rows], 4)
        detail = {row: words.format(value) for row, value in zip(rows.tolist(), shown.tolist(), strict=True)}
        self.add(reason, rows, shown, threshold, detail)

    def repeated(
        self, reason: str, earlier: Mapping[int, int], apart_m: Mapping[int, float], threshold_m: float | None
    ) -> None:
        rows = np.array(sorted(earlier), dtype=np.int64)
        ids = self._manifest.frame["image_id"]
        detail = {row: f"of {ids.iloc[earlier[row]]}, {apart_m[row]:,.0f} m away" for row in rows.tolist()}
        self.add(reason, rows, np.array([apart_m[row] for row in rows.tolist()]), threshold_m, detail)

    def frame(self) -> pd.DataFrame:
        return pd.concat(self._parts)[list(COLUMNS)]
