"""Names for streets: plausible, drawn from the seed, no two alike in a city. The same names occur in several cities."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from swclip.synthetic.scene import city_plan
from swclip.synthetic.streets import Plan

_STEMS = (
    "Abbey", "Acorn", "Addison", "Albion", "Alder", "Alma", "Argyle", "Ash", "Barlow", "Beech", "Belmont", "Bishop",
    "Blake", "Bramley", "Bridge", "Brook", "Burton", "Cable", "Calder", "Cambridge", "Canal", "Carlton", "Castle",
    "Cedar", "Chapel", "Charlotte", "Chestnut", "Church", "Clarence", "Clifton", "College", "Copper", "Cross", "Dale",
    "Derby", "Devon", "Duke", "Dyer", "Elm", "Exchange", "Fairfield", "Falcon", "Fern", "Foundry", "Fountain",
    "Garden", "George", "Gilbert", "Grange", "Granby", "Green", "Hanover", "Harbour", "Harrow", "Hawthorn", "Hazel",
    "Heath", "High", "Hill", "Holly", "Hope", "Infirmary", "Ivy", "James", "John Dalton", "Juniper", "Kensal", "Kiln",
    "King", "Lansdowne", "Larch", "Laurel", "Leather", "Library", "Lime", "Linden", "Lonsdale", "Mabel", "Maple",
    "Marlow", "Mason", "Meadow", "Melrose", "Merchant", "Mill", "Minster", "Mulberry", "Nelson", "New", "North", "Oak",
    "Old Hall", "Orchard", "Oxford", "Palmer", "Park", "Pearl", "Pepper", "Percy", "Poplar", "Priory", "Quay", "Queen",
    "Ramsay", "Regent", "Richmond", "Rose", "Rowan", "Russell", "St Anne", "St Giles", "St James", "Salisbury",
    "School", "Silver", "South", "Spring", "Stanley", "Station", "Tanner", "Temple", "Thistle", "Thorn", "Tower",
    "Trinity", "Union", "Vale", "Vernon", "Victoria", "Vine", "Warwick", "Water", "Weaver", "Wellington", "West",
    "Wharf", "William", "Willow", "Windmill", "Wood", "York",
)  # fmt: skip

_KINDS: tuple[tuple[str, ...], ...] = (
    ("Road", "Avenue", "Parade"),
    ("Street", "Road", "Street"),
    ("Street", "Street", "Street", "Road", "Terrace", "Place", "Grove"),
    ("Lane", "Row", "Passage", "Court"),
)
"""What streets of each rank are called: avenue, main street, side street, lane."""


def name_streets(plan: Plan, rng: np.random.Generator) -> tuple[str, ...]:
    """Draw a name for every street of a plan, no two alike.

    Args:
        plan: The city's streets.
        rng: The generator to draw from.

    Returns:
        The names, in the order of the streets.
    """
    names: list[str] = []
    used: set[str] = set()
    waiting: list[str] = []
    for street in plan.streets:
        name = ""
        while not name or name in used:
            if not waiting:
                waiting = [_STEMS[i] for i in rng.permutation(len(_STEMS))]
            kinds = _KINDS[street.rank]
            name = f"{waiting.pop()} {kinds[int(rng.integers(len(kinds)))]}"
        used.add(name)
        names.append(name)
    return tuple(names)


@lru_cache(maxsize=8)
def street_names(city: int, seed: int) -> tuple[str, ...]:
    """Names of the streets of one of the eight cities.

    Example:
        >>> len(street_names(0, seed=0)) == len(set(street_names(0, seed=0)))
        True
    """
    return name_streets(city_plan(city, seed), np.random.default_rng([seed, city, 8]))
