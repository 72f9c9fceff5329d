"""What a pair of systems is compared for: the claim behind it, in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FIGURES = ("median", "mean", "within_25", "within_50", "within_100")
"""Figures that a difference is stated for, in order."""

_ROUNDING = 1e-9

_AGAINST = {
    "clip": "one-hot CLIP",
    "nearest-neighbour": "nearest neighbour on the frozen features",
    "geoclip": "GeoCLIP's encoder, one-hot labels and queue",
    "addressclip": "AddressCLIP's image-geography loss",
    "rank-n-contrast": "Rank-N-Contrast",
}
_LEFT_OUT = {
    "one-hot": "soft labels against one-hot labels",
    "template": "learned location tokens against a template of words",
    "fourier": "the location form, a grid, against Fourier features",
    "no-text": "the text tower against none",
    "no-neighbourhood": "the neighbourhood term against none",
    "no-fairness": "the fairness term against none",
    "random": "neighbours in the batch against random batches",
}


@dataclass(frozen=True)
class Claim:
    """A pair of systems, the first claimed to be better.

    Attributes:
        text: What is compared.
        system: The first system.
        against: The second.
        difference: Figure, the first less the second: value, low, high, and by_seed where there are several.
    """

    text: str
    system: str
    against: str
    difference: Mapping[str, Mapping[str, Any]]


def claims(document: Mapping[str, Any]) -> list[Claim]:
    """The pairs of a comparison.

    Of the reference (the method whose parts are left out) against every other system; where there is none, of every
    system against the baseline. A system named after the reference and a part (sw-clip-no-text after sw-clip) stands
    for that part; one named after it and something else (sw-clip-plus) is itself claimed to be better.

    Reports on disk are named by their user, so a name says nothing of a part or a method: the reference is held against
    the baseline, and every other system against the reference, or the baseline where there is none.

    Args:
        document: What benchmark.json or compare.json holds.
    """
    systems, base, reference = document["systems"], document["baseline"], document.get("reference")
    if "reports" in document.get("made_with", {}):
        pairs = [(name, base if name == reference or reference is None else reference) for name in systems]
        return [_claim(systems, a, b, f"{a} against {b}") for a, b in pairs if a not in (base, b)]
    found: list[Claim] = []
    if reference is not None:
        found.append(_claim(systems, reference, base, _text(reference, base)))
        for name in systems:
            part = name.removeprefix(f"{reference}-")
            if name in (reference, base):
                continue
            if part in _LEFT_OUT and part != name:
                found.append(_claim(systems, reference, name, _LEFT_OUT[part]))
            elif name.startswith(f"{reference}-"):
                found.append(_claim(systems, name, reference, _text(name, reference)))
            else:
                found.append(_claim(systems, reference, name, _text(reference, name)))
        return found
    return [_claim(systems, name, base, _text(name, base)) for name in systems if name != base]


def _text(system: str, against: str) -> str:
    return f"{system} against {_AGAINST.get(against, against)}"


def _claim(systems: Mapping[str, Any], system: str, against: str, text: str) -> Claim:
    for key in ("difference", "difference_from_reference"):
        if systems[system].get(key, {}).get("from") == against:
            return Claim(text, system, against, {f: systems[system][key][f] for f in FIGURES})
        if systems[against].get(key, {}).get("from") == system:
            return Claim(text, system, against, {f: _turned(systems[against][key][f]) for f in FIGURES})
    raise AssertionError(f"neither {system} nor {against} was a baseline or a reference")


def _turned(difference: Mapping[str, Any]) -> dict[str, Any]:
    """The same difference the other way round."""
    turned: dict[str, Any] = {
        "value": -difference["value"],
        "low": -difference["high"],
        "high": -difference["low"],
    }
    if "by_seed" in difference:
        turned["by_seed"] = [-value for value in difference["by_seed"]]
    return turned


def shown(difference: Mapping[str, Any]) -> bool:
    """Whether the interval leaves 0 out, by more than the rounding of a share's last bit.

    Example:
        >>> shown({"value": -3.0, "low": -10.0, "high": 4.0}), shown({"value": 2.0, "low": 1.0, "high": 3.0})
        (False, True)
    """
    return bool(difference["low"] > _ROUNDING or difference["high"] < -_ROUNDING)


def better(figure: str, difference: Mapping[str, Any]) -> bool:
    """Whether a difference is a gain: less of an error, more of a share."""
    return bool((difference["value"] > 0.0) == figure.startswith("within"))
