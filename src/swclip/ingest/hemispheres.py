"""Signs of latitudes and longitudes from letters: N and S, E and W; and the columns that have these letters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64

from swclip.ingest.angles import LETTERS, NAMES, Angle, AngleError, Axis, letter_of
from swclip.ingest.column_names import LAT_REF_NAMES, LON_REF_NAMES, plain_name

_SAMPLE, _SPELLINGS = 1000, 20


def letters_of_column(frame: pd.DataFrame, column: str | None) -> list[str] | None:
    """Read a column of N, S, E and W; None if there is none, or it has no letters though its name may mean them."""
    if column is None:
        return None
    letters = [letter_of(cell) for cell in frame[column].tolist()]
    # Without one valid letter, `ns` may be nanoseconds; `latitude_ref` with other words is in doubt.
    valid = "?" if plain_name(column) not in (*LAT_REF_NAMES[1], *LON_REF_NAMES[1]) else ""
    return letters if set(letters) & {*"NSEW", valid} - {""} else None


def columns_with_letters(frame: pd.DataFrame, axis: Axis, taken: Sequence[str]) -> list[str]:
    """Return the columns, other than those taken, of which every cell is empty or a letter of one axis."""
    allowed = frozenset(LETTERS[axis] if axis == "lat" else LETTERS[axis] + "O")  # O: east in German, west in French
    columns = []
    for at, column in enumerate(map(str, frame.columns)):
        values = frame.iloc[:, at]
        if column in taken or values.dtype.kind != "O" or len({*map(str, values.iloc[:_SAMPLE])}) > _SPELLINGS:
            continue
        texts = {cell for cell in values.tolist() if isinstance(cell, str)}
        letters = {"O" if text.strip() in ("O", "o") else letter_of(text) for text in texts}
        if len(texts) <= _SPELLINGS and letters - {""} and letters - {""} <= allowed:
            columns.append(column)
    return columns


@dataclass(frozen=True)
class SignedCoordinates:
    """One coordinate of N rows.

    Attributes:
        degrees: (N,) signed degrees, NaN where a row states none or it cannot be read.
        stated: (N,) whether a cell is not empty; it may say "nan".
        problems: {row index: (code of rejected.csv, clause for a message)}.
    """

    degrees: Float64[np.ndarray, " n"]
    stated: Bool[np.ndarray, " n"]
    problems: dict[int, tuple[str, str]]

    @classmethod
    def of(
        cls,
        angles: Sequence[Angle | AngleError | None],
        axis: Axis,
        letters: Sequence[str] | None = None,
        unit_letter: str = "",
    ) -> SignedCoordinates:
        """Apply letters to numbers.

        A letter that contradicts a sign is refused. So is a number without a letter that may be of either hemisphere:
        the other rows have letters, or it has minutes, and no number of the column has a minus sign.

        Args:
            angles: N coordinates as parsed, None for an empty cell.
            axis: lat or lon.
            letters: N letters of a column of letters, empty or ? where there is none.
            unit_letter: S or W where all numbers count southwards or westwards.
        """
        degrees = np.array(
            [angle.degrees if isinstance(angle, Angle) else np.nan for angle in angles], dtype=np.float64
        )
        stated = np.array([angle is not None for angle in angles], dtype=np.bool_)
        errors = [(at, angle) for at, angle in enumerate(angles) if isinstance(angle, AngleError)]
        problems = {at: ("coordinate-nan", f"{NAMES[axis]}: {error}") for at, error in errors}
        north = LETTERS[axis][0]
        signs_used = any(
            isinstance(angle, Angle) and angle.degrees < 0.0 and north not in (angle.letter, letters and letters[at])
            for at, angle in enumerate(angles)
        )
        letters_used = letters is not None or any(isinstance(angle, Angle) and angle.letter for angle in angles)
        plain = not letters_used and not unit_letter
        for at, angle in enumerate(angles):
            if not isinstance(angle, Angle) or (plain and not angle.sexagesimal):
                continue
            letter = letters[at] if letters is not None else ""
            problem = _letter_problem(angle, letter, axis, signs_used, letters_used, unit_letter)
            if problem is not None:
                problems[at] = ("coordinate-letter", problem)
            elif (angle.letter or letter or unit_letter) in ("S", "W"):
                degrees[at] = -abs(degrees[at])
        return cls(degrees, stated, problems)


def _letter_problem(
    angle: Angle, letter: str, axis: Axis, signs_used: bool, letters_used: bool, unit_letter: str
) -> str | None:
    """Return why the letter of a number and its sign leave the hemisphere in doubt, or None."""
    north, south = LETTERS[axis][0], LETTERS[axis][1]
    for each in (angle.letter, letter):
        if each and each not in LETTERS[axis]:
            return f"the {NAMES[axis]}'s letter is not {north} or {south}"
    if angle.letter and letter and angle.letter != letter:
        return f"the {NAMES[axis]} says {angle.letter} and its column of letters says {letter}"
    stated = angle.letter or letter or unit_letter
    if not stated:
        doubtful = (letters_used or angle.sexagesimal) and angle.degrees > 0.0 and not signs_used and not angle.plus
        return f"the {NAMES[axis]} {angle.degrees:g} does not say {north} or {south}" if doubtful else None
    if angle.degrees < 0.0 and (stated == north or stated == unit_letter != (angle.letter or letter)):
        return f"the {NAMES[axis]} {angle.degrees:g} has a minus sign, and the letter {stated} contradicts it"
    if angle.degrees > 0.0 and stated == south and (angle.plus or (signs_used and not unit_letter)):
        other = "has a plus sign" if angle.plus else "has no minus sign, as others of its column have"
        return f"the {NAMES[axis]} {angle.degrees:g} {other}, and the letter {stated} contradicts it"
    return None
