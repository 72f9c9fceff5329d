"""The figures of an inspection as sentences, for the page and the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swclip.inspection.sequences import MAX_SPEED_M_S
from swclip.inspection.suspicious import BLUR, DARK
from swclip.inspection.trial_splits import DEFAULT_BLOCK_M, TrialSplit

if TYPE_CHECKING:
    from swclip.inspection.inspection import Inspection, InspectionReport


def split_name(trial: TrialSplit) -> str:
    """A trial in words: its protocol, and the block size of new-streets."""
    return trial.protocol if trial.block_m is None else f"{trial.protocol}, {trial.block_m:g} m"


def advice_text(inspection: Inspection) -> str:
    """Which split to begin with, and why."""
    best = inspection.recommended
    if best is None:
        return "No protocol is possible with these photographs; the reasons are below."
    text = f"Begin with {split_name(best)}: {best.queries:,} queries in {_count(best.query_blocks, 'block')}"
    if best.protocol == "published":
        return f"{text}. Figures on the published split can be compared with those of others."
    if best.verdict != "good":
        return f"{text}. There are reservations about every protocol with these photographs; this one has the fewest."
    others = ["known places"] if best.protocol != "known-places" else []
    others += [f"blocks of {DEFAULT_BLOCK_M:g} m, the default"] if best.block_m not in (None, DEFAULT_BLOCK_M) else []
    return f"{text}." + (f" There are reservations about {' and about '.join(others)}." if others else "")


def captures_text(report: InspectionReport) -> str:
    """Whether places were passed several times."""
    places = report.places
    text = (
        f"Known places are answered best where places have two captures: {places.with_several:,} of {places.places:,} "
        "have them."
    )
    if not places.with_several:
        text += " known-places therefore holds out whole places, which must be recognised from places near them."
    near = places.photographs_near_another_drive
    if near or places.photographs_of_one_drive:
        text += (
            f" {near:,} of {report.photographs:,} photographs have another drive within 25 m, and "
            f"{places.photographs_of_one_drive:,} only frames of their own."
        )
    return text


def sequences_text(report: InspectionReport) -> str:
    """Sequences, and what contradicts them."""
    sequences, jumps = report.sequences, report.suspicious["jump"]
    if not sequences.sequences:
        return "No photograph has a sequence_id, so that jumps and speeds along sequences are unknown."
    text = f"{_count(sequences.sequences, 'sequence')}; {_count(sequences.photographs_without, 'photograph')} of none."
    if sequences.standing:
        text += (
            f" {_count(sequences.standing, 'photograph')} {'was' if sequences.standing == 1 else 'were'} taken where "
            "the one before was, in the same direction: they add little."
        )
    text += f" {_count(jumps, 'position')} {'contradicts' if jumps == 1 else 'contradict'} the sequence."
    return f"{text} The dotted line is at {3.6 * MAX_SPEED_M_S:.0f} km/h."


def accuracy_text(report: InspectionReport) -> str:
    """The stated accuracy of the positions."""
    accuracy = report.accuracy_m
    if accuracy is None:
        return (
            "No position states its accuracy. Positions of telephones in streets are off by about 10 m, more between "
            "high buildings; see the page on wrong positions."
        )
    missing = report.photographs - accuracy.n
    text = f"Half of the positions state an accuracy of {accuracy.median:.1f} m or better, 95 % of {accuracy.p95:.1f} m"
    return f"{text}; {missing:,} state none." if missing else f"{text}."


def dates_text(report: InspectionReport) -> str:
    """The period of the photographs."""
    dates = report.dates
    if not dates.known:
        return "No photograph has a time of capture."
    missing = report.photographs - dates.known
    rest = f" {_count(missing, 'photograph')} without a time." if missing else ""
    return (
        f"From {dates.earliest} to {dates.latest}.{rest} Hours are UTC where the source stated an offset, else the "
        "camera's clock."
    )


def headings_text(report: InspectionReport) -> str:
    """The directions of view."""
    headings = report.headings
    if not headings.known:
        return "No photograph has a heading."
    text = f"{headings.known:,} of {report.photographs:,} photographs have a heading"
    if headings.exactly_0 > 0.05 * headings.known:
        text += f"; {headings.exactly_0:,} of them are exactly 0: north, or what a device writes that does not know it"
    return text + "."


def pixels_text(report: InspectionReport) -> str:
    """What the pixels show."""
    pixels = report.pixels
    if pixels is None:
        return "No photograph was read: blur, brightness, duplicates and cameras are unknown."
    text = f"{pixels.read:,} photographs were read"
    if pixels.chosen < report.photographs:
        text += (
            f", {pixels.chosen:,} of {report.photographs:,} chosen at random: duplicates are counted among these only"
        )
    if pixels.unreadable:
        text += f"; {_count(pixels.unreadable, 'photograph')} could not be read"
    near, elsewhere = pixels.near_duplicates, pixels.near_duplicates_elsewhere
    return (
        f"{text}. {_count(pixels.identical, 'photograph')} with the same bytes as an earlier one, and {near:,} "
        f"near-duplicates, {elsewhere:,} of them more than 25 m apart; nearer ones are mostly neighbouring frames. "
        f"Dotted lines: a blur effect of {BLUR:g}, above which a photograph counts as blurred, and a mean luma of "
        f"{DARK:g}, below which it counts as dark."
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
