"""What a person who stood there might write: the street's name and shop signs in view, in many ways, or nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from swclip.synthetic.captures import Capture, Place
from swclip.synthetic.render import Shot
from swclip.synthetic.scene import Scene
from swclip.synthetic.signs import Sign, signs_in_view
from swclip.synthetic.street_names import street_names

MISSING = 0.15
"""Share of the photographs without a caption, whatever is in view."""
KNOWS_STREET = 0.75
"""Share of the writers who know what street they are in."""
NOTICES_SIGN = 0.8
"""Share of the signs in view that are written down, three at most."""
_MOST_SIGNS = 3

_SHORT = {"Street": "St", "Road": "Rd", "Avenue": "Ave", "Lane": "Ln", "Terrace": "Terr", "Place": "Pl"}

_STREET_ALONE = (
    "{street}",
    "{street}",
    "in {street}",
    "on {street}",
    "walking along {street}",
    "somewhere on {street}",
)
_SIGNS_ALONE = ("{signs}", "near {signs}", "by {signs}", "I can see {signs}", "{first} {side}", "{signs} in view")
_BOTH = (
    "{street}, near {signs}", "{signs}, {street}", "{signs} on {street}", "{street} by {signs}",
    "in {street}, {signs} in view", "{street}, with {first} {side}", "{first} {side}, on {street}",
    "standing on {street}, I can see {signs}",
)  # fmt: skip


def write_caption(street: str, signs: Sequence[Sign], rng: np.random.Generator) -> str | None:
    """Write a caption.

    Args:
        street: Name of the street.
        signs: Shop names that can be read, the largest first.
        rng: The generator to draw from: what the writer knows and notices, and how it is put.

    Returns:
        The caption; None where nothing is said.

    Example:
        >>> write_caption("Elm Street", [Sign("CAFE", 0.2, 0.01)], np.random.default_rng(9))
        'Elm Street, with Cafe on the left'
    """
    missing, knows, style, case = rng.random(4)
    noticed = [sign for sign, luck in zip(signs, rng.random(len(signs)), strict=True) if luck < NOTICES_SIGN]
    noticed = noticed[:_MOST_SIGNS]
    if missing < MISSING or (knows >= KNOWS_STREET and not noticed):
        return None
    words: dict[str, str] = {"street": _street(street, rng)}
    if noticed:
        # From left to right, as they are read; in capitals as they are painted, or as a name is written.
        ordered = sorted(noticed, key=lambda sign: sign.across)
        painted = rng.random() < 0.35
        names = [sign.name if painted else sign.name.title() for sign in ordered]
        words["signs"] = names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
        first = noticed[0]
        words["first"] = first.name if painted else first.name.title()
        words["side"] = "on the left" if first.across < 0.4 else "on the right" if first.across > 0.6 else "ahead"
        if style < 0.15:  # what a machine reads: the signs and nothing else
            return " ".join(sign.name for sign in ordered)
    patterns = _STREET_ALONE if not noticed else _BOTH if knows < KNOWS_STREET else _SIGNS_ALONE
    text = patterns[int(rng.integers(len(patterns)))].format(**words)
    return text.lower() if case < 0.2 else text[0].upper() + text[1:]


def _street(name: str, rng: np.random.Generator) -> str:
    stem, _, kind = name.rpartition(" ")
    return f"{stem} {_SHORT[kind]}" if rng.random() < 0.3 and kind in _SHORT else name


def caption_of(scene: Scene, city: int, place: Place, capture: Capture, shot: Shot, seed: int) -> str | None:
    """The caption of one photograph, drawn from the seed, the city and the photograph's number alone.

    Args:
        scene: The city.
        city: Its number.
        place: Where the photograph was taken.
        capture: The photograph.
        shot: What is in it.
        seed: The seed of the data set.
    """
    street = street_names(city, seed)[place.street]
    return write_caption(street, signs_in_view(scene, shot), np.random.default_rng([seed, city, 9, capture.index]))
