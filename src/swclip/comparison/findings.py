"""A critical reading of a comparison, from its numbers alone: which claims hold, where it fails, what limits it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from swclip.comparison.pooling import with_gallery
from swclip.metrics.bootstrap import LEVEL, Interval
from swclip.metrics.districts import DistrictResamples, resample_districts
from swclip.reporting.units import distance, figure_name, metres, percent, signed, signed_interval

_CHANCE = 0.05
# A median nearer to the floor than this many times the floor has little left to gain.
_NEAR_FLOOR = 2.0


def critical_reading(document: Mapping[str, Any]) -> list[str]:
    """What a comparison shows and what it does not, as sentences.

    "Shown" is: the 95 % interval of the paired difference leaves 0 out. A claim holds where a gain is shown in one
    figure or more and a loss in none; it is turned round where a loss is shown and no gain.

    Args:
        document: What benchmark.json holds.

    Returns:
        Sentences, in this order: a claim each; chance; seeds; systems that are the same; the worst region of each
        system; the floor; systems no better than one guess for all.
    """
    systems = {name: system["mean"] for name, system in document["systems"].items()}
    found = claims(document)
    sentences = [_of_claim(claim) for claim in found]
    sentences += _chance(document)
    sentences += _seeds(document, found)
    sentences += [str(note) for note in document.get("made_with", {}).get("notes", [])]
    sentences += _worst_regions(systems)
    sentences += _floor(systems)
    sentences += _one_guess(systems)
    return sentences


def verdict(claim: Claim) -> str:
    """What the figures of a claim come to: holds, the reverse is shown, mixed, or no difference shown."""
    seen = [better(figure, own) for figure, own in claim.difference.items() if shown(own)]
    if not seen:
        return "no difference shown"
    if all(seen):
        return "holds"
    return "mixed" if any(seen) else "the reverse is shown"


def _of_claim(claim: Claim) -> str:
    parts = []
    for wanted in (True, False):
        texts = [
            f"{figure_name(figure)} {signed(own['value'], figure)} {signed_interval(own, figure)}"
            for figure, own in claim.difference.items()
            if shown(own) == wanted
        ]
        if texts:
            parts.append(f"{'shown' if wanted else 'not shown'}: {', '.join(texts)}")
    lead = claim.text if claim.text.startswith(claim.system) else claim.text[0].upper() + claim.text[1:]
    told = "; ".join(parts)
    return f"{lead}: {verdict(claim)}. {told[0].upper()}{told[1:]}."


def _chance(document: Mapping[str, Any]) -> list[str]:
    # What the reference differs by from the baseline stands in both tables, once each way round.
    tables = [
        system[key]
        for name, system in document["systems"].items()
        for key in ("difference", "difference_from_reference")
        if key in system and not (name == document["baseline"] and key == "difference_from_reference")
    ]
    count = len(FIGURES) * len(tables)
    if count < 20:
        return []
    left_out = sum(shown(table[figure]) for table in tables for figure in FIGURES)
    return [
        f"Of {count} intervals of differences {left_out} leave 0 out; were there no differences at all, about "
        f"{round(_CHANCE * count)} would by chance."
    ]


def _seeds(document: Mapping[str, Any], found: Sequence[Claim]) -> list[str]:
    systems = document["systems"]
    several = {name: system for name, system in systems.items() if system["mean"].get("seed_sd")}
    if not several:
        return ["There is one seed of each system: how far another seed would move the figures is not known."]
    widest = max(several, key=lambda name: float(several[name]["mean"]["seed_sd"]["error_m"]["median"]))
    sd = several[widest]["mean"]["seed_sd"]["error_m"]["median"]
    sentences = [
        f"Over seeds the median moves most for {widest}: standard deviation {metres(sd)} over "
        f"{several[widest]['mean']['seeds']} seeds, around {metres(several[widest]['mean']['error_m']['median'])}."
    ]
    torn = [
        f"{figure_name(figure)} of {claim.system} less {claim.against}"
        for claim in found
        for figure, own in claim.difference.items()
        if shown(own) and _signs_differ(own.get("by_seed", []))
    ]
    if torn:
        sentences.append(f"Shown for the mean over seeds, but not of one sign in every seed: {', '.join(torn)}.")
    return sentences


def _signs_differ(values: Sequence[float]) -> bool:
    return bool(values) and min(values) <= 0.0 <= max(values)


def _worst_regions(systems: Mapping[str, Mapping[str, Any]]) -> list[str]:
    worst: dict[str, list[str]] = {}
    for name, report in systems.items():
        regions = report["by_region"]
        if len(regions) < 2:
            return []
        region = max(regions, key=lambda key: float(regions[key]["median"]))
        worst.setdefault(region, []).append(f"{name} ({metres(regions[region]['median'])})")
    texts = [f"{region} for {', '.join(of)}" for region, of in worst.items()]
    return [f"The region with the largest median is {'; '.join(texts)}."]


def _floor(systems: Mapping[str, Mapping[str, Any]]) -> list[str]:
    floor = with_gallery(systems.values())["baselines"].get("floor")
    if floor is None:
        return []
    best = max(systems, key=lambda name: float(systems[name]["accuracy_within_m"]["25"]))
    share, most = systems[best]["accuracy_within_m"]["25"], floor["accuracy_within_m"]["25"]
    text = f"The floor of this gallery is a median of {metres(floor['median'])} and {percent(most)} within 25 m; "
    text += f"{best} comes to {percent(share)} within 25 m, which leaves {100.0 * max(0.0, most - share):.1f} points."
    near = [
        f"{name} ({metres(report['error_m']['median'])})"
        for name, report in systems.items()
        if floor["median"] > 0.0 and report["error_m"]["median"] <= _NEAR_FLOOR * floor["median"]
    ]
    if not near:
        return [text]
    return [
        text,
        f"Medians of at most {_NEAR_FLOOR:g} times the floor, where the gallery's spacing limits what a median can "
        f"show: {', '.join(near) if len(near) < len(systems) else 'those of all systems'}.",
    ]


def _one_guess(systems: Mapping[str, Mapping[str, Any]]) -> list[str]:
    constant = with_gallery(systems.values())["baselines"].get("constant")
    if constant is None:
        return []
    guess = float(constant["median"])
    above = [
        f"{name} ({metres(report['error_m']['median'])})"
        for name, report in systems.items()
        if report["error_m"]["median"] >= guess
    ]
    if not above:
        return []
    return [f"By the median no better than one guess for all ({distance(guess)}): {', '.join(above)}."]


MIN_BLOCKS = 8
"""With fewer blocks a region has no interval: one block resampled is the same block, and would seem to be sure."""


def region_winners(
    errors_m: Mapping[str, Float64[np.ndarray, "s q"]],
    regions: Sequence[str],
    blocks: Sequence[str],
    resampled: Sequence[Int64[np.ndarray, " m"]],
    baseline: str,
    level: float = LEVEL,
) -> dict[str, Any]:
    """The systems of a comparison region by region, by their median error.

    The median of a system with several seeds is the mean of its seeds' medians. First and second of a region are picked
    from the same queries that their difference is taken on, so the gap between them is if anything too large; with
    many regions some are shown by chance.

    Args:
        errors_m: System, (S, Q) errors in metres, one row a seed.
        regions: Region of each query.
        blocks: Block of each query.
        resampled: What `resample_blocks` drew.
        baseline: The system that `difference` is from.
        level: Probability that an interval is to hold.

    Returns:
        min_blocks; regions: by name n (queries), blocks, median (by system, metres), first and second (systems; None
        where there is one system, or the two best medians are equal), gap (first less second: value, low, high) and
        difference (by system, from the baseline); low and high are None with fewer than `MIN_BLOCKS` blocks. wins: by
        system regions (where it is first) and shown (of these, where the gap leaves 0 out).

    Example:
        >>> from swclip.metrics.bootstrap import resample_blocks
        >>> blocks = [str(at) for at in range(20)]
        >>> near, far = np.full((1, 20), 5.0), np.full((1, 20), 9.0)
        >>> resampled = resample_blocks(blocks, 50, np.random.default_rng(0))
        >>> found = region_winners({"a": near, "b": far}, ["York"] * 20, blocks, resampled, "b")
        >>> found["regions"]["York"]["first"], found["regions"]["York"]["gap"]["high"], found["wins"]["a"]
        ('a', -4.0, {'regions': 1, 'shown': 1})
    """
    drawn = {name: resample_districts(errors, regions, resampled) for name, errors in errors_m.items()}
    names = [key.removeprefix("region:") for key in drawn[baseline].keys if key.startswith("region:")]
    inside: dict[str, list[str]] = {name: [] for name in names}
    for region, block in zip(regions, blocks, strict=True):
        inside[str(region)].append(str(block))
    pairs = _Pairs(drawn, level)
    table: dict[str, Any] = {}
    wins = {system: {"regions": 0, "shown": 0} for system in drawn}
    for name in names:
        key, n_blocks = f"region:{name}", len(set(inside[name]))
        median = {system: float(own.values[list(own.keys).index(key)]) for system, own in drawn.items()}
        ranked = sorted(median, key=lambda system: median[system])
        own: dict[str, Any] = {"n": len(inside[name]), "blocks": n_blocks, "median": median}
        first = second = gap = None
        if len(ranked) > 1 and median[ranked[0]] < median[ranked[1]]:
            first, second = ranked[:2]
            gap = _stated(pairs.less(first, second)[key], n_blocks)
            wins[first]["regions"] += 1
            wins[first]["shown"] += is_shown(gap)
        difference = {
            system: _stated(pairs.less(system, baseline)[key], n_blocks) for system in drawn if system != baseline
        }
        table[name] = {**own, "first": first, "second": second, "gap": gap, "difference": difference}
    return {"min_blocks": MIN_BLOCKS, "regions": table, "wins": wins}


def is_shown(difference: Mapping[str, Any]) -> bool:
    """Whether a region's difference has an interval, and the interval leaves 0 out."""
    return difference["low"] is not None and shown(difference)


class _Pairs:
    """Differences of pairs of systems over all regions at once, each taken once."""

    def __init__(self, drawn: Mapping[str, DistrictResamples], level: float) -> None:
        self._drawn, self._level = drawn, level
        self._known: dict[tuple[str, str], dict[str, Interval]] = {}

    def less(self, a: str, b: str) -> dict[str, Interval]:
        if (a, b) not in self._known:
            self._known[a, b] = self._drawn[a].minus(self._drawn[b], self._level)
        return self._known[a, b]


def _stated(interval: Interval, n_blocks: int) -> dict[str, float | None]:
    known = n_blocks >= MIN_BLOCKS and math.isfinite(interval.low)
    return {
        "value": interval.value,
        "low": interval.low if known else None,
        "high": interval.high if known else None,
    }


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
