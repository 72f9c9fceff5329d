"""Statistical summary of a comparison: supported claims, hardest districts, limits of the gallery."""

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
# A median of at most this many times the median oracle error has little left to gain.
_NEAR_ORACLE = 2.0


def statistical_summary(document: Mapping[str, Any]) -> list[str]:
    """Summarise a comparison as sentences.

    A difference is significant at 5 %, before any correction, where its paired 95 % interval excludes 0. A claim is
    supported where at least one figure has a significant gain and none has a significant loss.

    Args:
        document: Content of benchmark.json.

    Returns:
        Sentences in this order: one per claim; false positives to expect; seeds; systems of equal configuration;
        hardest district of each system; oracle error; systems no better than the constant baseline.
    """
    systems = {name: system["mean"] for name, system in document["systems"].items()}
    pairs = claims(document)
    sentences = [_claim_text(claim) for claim in pairs]
    sentences += _false_positives(document)
    sentences += _seeds(document, pairs)
    sentences += [str(note) for note in document.get("made_with", {}).get("notes", [])]
    sentences += _hardest_districts(systems)
    sentences += _oracle_error(systems)
    sentences += _constant_baseline(systems)
    return sentences


def verdict(claim: Claim) -> str:
    """Whether the significant differences of a claim are gains, losses, both, or absent."""
    gains = [better(figure, interval) for figure, interval in claim.difference.items() if excludes_zero(interval)]
    if not gains:
        return "not supported, no significant difference"
    if all(gains):
        return "supported"
    return "mixed" if any(gains) else "not supported, the opposite is significant"


def _claim_text(claim: Claim) -> str:
    parts = []
    for excluded in (True, False):
        texts = [
            f"{figure_name(figure)} {signed(interval['value'], figure)} {signed_interval(interval, figure)}"
            for figure, interval in claim.difference.items()
            if excludes_zero(interval) == excluded
        ]
        if texts:
            parts.append(f"Interval {'excludes' if excluded else 'includes'} 0: {', '.join(texts)}.")
    start = claim.text if claim.text.startswith(claim.system) else claim.text[0].upper() + claim.text[1:]
    return f"{start}: {verdict(claim)}. {' '.join(parts)}"


def _false_positives(document: Mapping[str, Any]) -> list[str]:
    # The difference between reference and baseline is in both tables, with opposite signs.
    tables = [
        system[key]
        for name, system in document["systems"].items()
        for key in ("difference", "difference_from_reference")
        if key in system and not (name == document["baseline"] and key == "difference_from_reference")
    ]
    count = len(FIGURES) * len(tables)
    if count < 20:
        return []
    significant = sum(excludes_zero(table[figure]) for table in tables for figure in FIGURES)
    return [
        f"Of {count} intervals of differences, {significant} exclude 0; without any differences, about "
        f"{round(_CHANCE * count)} would exclude it by chance."
    ]


def _seeds(document: Mapping[str, Any], pairs: Sequence[Claim]) -> list[str]:
    systems = document["systems"]
    several = {name: system for name, system in systems.items() if system["mean"].get("seed_sd")}
    if not several:
        return ["There is one seed of each system, so the variation over seeds is not known."]
    widest = max(several, key=lambda name: float(several[name]["mean"]["seed_sd"]["error_m"]["median"]))
    sd = several[widest]["mean"]["seed_sd"]["error_m"]["median"]
    sentences = [
        f"The median error varies most over the seeds of {widest}: standard deviation {metres(sd)} over "
        f"{several[widest]['mean']['seeds']} seeds, mean {metres(several[widest]['mean']['error_m']['median'])}."
    ]
    inconsistent = [
        f"{figure_name(figure)} of {claim.system} minus {claim.against}"
        for claim in pairs
        for figure, interval in claim.difference.items()
        if excludes_zero(interval) and _signs_differ(interval.get("by_seed", []))
    ]
    if inconsistent:
        sentences.append(
            f"Significant for the mean over seeds, but with different signs in single seeds: {', '.join(inconsistent)}."
        )
    return sentences


def _signs_differ(values: Sequence[float]) -> bool:
    return bool(values) and min(values) <= 0.0 <= max(values)


def _hardest_districts(systems: Mapping[str, Mapping[str, Any]]) -> list[str]:
    hardest: dict[str, list[str]] = {}
    for name, report in systems.items():
        districts = report["by_region"]
        if len(districts) < 2:
            return []
        district = max(districts, key=lambda key: float(districts[key]["median"]))
        hardest.setdefault(district, []).append(f"{name} ({metres(districts[district]['median'])})")
    texts = [f"{district} for {', '.join(names)}" for district, names in hardest.items()]
    return [f"The district with the largest median error is {'; '.join(texts)}."]


def _oracle_error(systems: Mapping[str, Mapping[str, Any]]) -> list[str]:
    oracle = with_gallery(systems.values())["baselines"].get("floor")
    if oracle is None:
        return []
    best = max(systems, key=lambda name: float(systems[name]["accuracy_within_m"]["25"]))
    share, most = systems[best]["accuracy_within_m"]["25"], oracle["accuracy_within_m"]["25"]
    text = f"The oracle error of this gallery has a median of {metres(oracle['median'])}, with {percent(most)} within "
    text += f"25 m; {best} reaches {percent(share)} within 25 m, {100.0 * max(0.0, most - share):.1f} points below it."
    near = [
        f"{name} ({metres(report['error_m']['median'])})"
        for name, report in systems.items()
        if oracle["median"] > 0.0 and report["error_m"]["median"] <= _NEAR_ORACLE * oracle["median"]
    ]
    if not near:
        return [text]
    return [
        text,
        f"Median errors of at most {_NEAR_ORACLE:g} times the median oracle error, where the gallery limits gains: "
        f"{', '.join(near) if len(near) < len(systems) else 'those of all systems'}.",
    ]


def _constant_baseline(systems: Mapping[str, Mapping[str, Any]]) -> list[str]:
    constant = with_gallery(systems.values())["baselines"].get("constant")
    if constant is None:
        return []
    median = float(constant["median"])
    above = [
        f"{name} ({metres(report['error_m']['median'])})"
        for name, report in systems.items()
        if report["error_m"]["median"] >= median
    ]
    if not above:
        return []
    return [f"By the median, no better than the constant baseline ({distance(median)}): {', '.join(above)}."]


MIN_BLOCKS = 8
"""Districts with fewer blocks have no interval: resampling few blocks underestimates the uncertainty."""


def winners_by_district(
    errors_m: Mapping[str, Float64[np.ndarray, "s q"]],
    districts: Sequence[str],
    blocks: Sequence[str],
    resampled: Sequence[Int64[np.ndarray, " m"]],
    baseline: str,
    level: float = LEVEL,
) -> dict[str, Any]:
    """Compare the median errors of systems in each district.

    The median of a system with several seeds is the mean of the medians of its seeds. First and second of a district
    are chosen from the queries on which their difference is measured, so the gap between them is optimistically biased;
    with many districts some gaps exclude 0 by chance.

    Args:
        errors_m: Errors of each system, (S, Q), metres, one row per seed.
        districts: District of each query.
        blocks: Block of each query.
        resampled: Result of `resample_blocks`.
        baseline: The system that `difference` is taken from.
        level: Confidence level of the intervals.

    Returns:
        min_blocks; regions: by name n (queries), blocks, median (by system, metres), first and second (systems; None
        where there is one system, or the two best medians are equal), gap (first less second: value, low, high) and
        difference (by system, from the baseline); low and high are None with fewer than `MIN_BLOCKS` blocks. wins: by
        system regions (districts where it is first) and shown (of these, where the gap excludes 0).

    Example:
        >>> from swclip.metrics.bootstrap import resample_blocks
        >>> blocks = [str(at) for at in range(20)]
        >>> near, far = np.full((1, 20), 5.0), np.full((1, 20), 9.0)
        >>> resampled = resample_blocks(blocks, 50, np.random.default_rng(0))
        >>> result = winners_by_district({"a": near, "b": far}, ["York"] * 20, blocks, resampled, "b")
        >>> result["regions"]["York"]["first"], result["regions"]["York"]["gap"]["high"], result["wins"]["a"]
        ('a', -4.0, {'regions': 1, 'shown': 1})
    """
    drawn = {name: resample_districts(errors, districts, resampled) for name, errors in errors_m.items()}
    names = [key.removeprefix("region:") for key in drawn[baseline].keys if key.startswith("region:")]
    inside: dict[str, list[str]] = {name: [] for name in names}
    for district, block in zip(districts, blocks, strict=True):
        inside[str(district)].append(str(block))
    pairs = _Pairs(drawn, level)
    table: dict[str, Any] = {}
    wins = {system: {"regions": 0, "shown": 0} for system in drawn}
    for name in names:
        key, n_blocks = f"region:{name}", len(set(inside[name]))
        median = {system: float(draws.values[list(draws.keys).index(key)]) for system, draws in drawn.items()}
        ranked = sorted(median, key=lambda system: median[system])
        counts: dict[str, Any] = {"n": len(inside[name]), "blocks": n_blocks, "median": median}
        first = second = gap = None
        if len(ranked) > 1 and median[ranked[0]] < median[ranked[1]]:
            first, second = ranked[:2]
            gap = _as_dict(pairs.minus(first, second)[key], n_blocks)
            wins[first]["regions"] += 1
            wins[first]["shown"] += excludes_zero(gap)
        difference = {
            system: _as_dict(pairs.minus(system, baseline)[key], n_blocks) for system in drawn if system != baseline
        }
        table[name] = {**counts, "first": first, "second": second, "gap": gap, "difference": difference}
    return {"min_blocks": MIN_BLOCKS, "regions": table, "wins": wins}


class _Pairs:
    """Differences of pairs of systems in all districts, each computed once."""

    def __init__(self, drawn: Mapping[str, DistrictResamples], level: float) -> None:
        self._drawn, self._level = drawn, level
        self._cache: dict[tuple[str, str], dict[str, Interval]] = {}

    def minus(self, a: str, b: str) -> dict[str, Interval]:
        if (a, b) not in self._cache:
            self._cache[a, b] = self._drawn[a].minus(self._drawn[b], self._level)
        return self._cache[a, b]


def _as_dict(interval: Interval, n_blocks: int) -> dict[str, float | None]:
    known = n_blocks >= MIN_BLOCKS and math.isfinite(interval.low)
    return {
        "value": interval.value,
        "low": interval.low if known else None,
        "high": interval.high if known else None,
    }


FIGURES = ("median", "mean", "within_25", "within_50", "within_100")
"""Figures that differences are computed for, in order."""

_ROUNDING = 1e-9

_AGAINST = {
    "clip": "one-hot CLIP",
    "nearest-neighbour": "nearest neighbour on frozen features",
    "geoclip": "GeoCLIP's encoder, one-hot labels and queue",
    "addressclip": "AddressCLIP's image-geography loss",
    "rank-n-contrast": "Rank-N-Contrast",
}
_LEFT_OUT = {
    "one-hot": "soft labels improve on one-hot labels",
    "template": "learned location tokens improve on a word template",
    "fourier": "the grid form of locations improves on Fourier features",
    "no-text": "the text tower improves on having none",
    "no-neighbourhood": "the neighbourhood term improves on having none",
    "no-fairness": "the fairness term improves on having none",
    "random": "neighbours in the batch improve on random batches",
}


@dataclass(frozen=True)
class Claim:
    """The claim that one system is better than another.

    Attributes:
        text: The claim as a clause.
        system: The system that is claimed to be better.
        against: The other system.
        difference: By figure, `system` minus `against`: value, low, high, and by_seed with several seeds.
    """

    text: str
    system: str
    against: str
    difference: Mapping[str, Mapping[str, Any]]


def claims(document: Mapping[str, Any]) -> list[Claim]:
    """The claims of a comparison.

    With a reference (the full method), the claims compare it with every other system; without one, every system with
    the baseline. A system named after the reference and a component (sw-clip-no-text for sw-clip) is an ablation of
    that component; one named after the reference and anything else (sw-clip-plus) is claimed to be better than it.

    Users name reports on disk, so these names have no such meaning: the reference is compared with the baseline, and
    every other system with the reference, or with the baseline where there is no reference.

    Args:
        document: Content of benchmark.json or compare.json.
    """
    systems, base, reference = document["systems"], document["baseline"], document.get("reference")
    if "reports" in document.get("made_with", {}):
        pairs = [(name, base if name == reference or reference is None else reference) for name in systems]
        return [_claim(systems, a, b, f"{a} improves on {b}") for a, b in pairs if a not in (base, b)]
    result: list[Claim] = []
    if reference is not None:
        result.append(_claim(systems, reference, base, _text(reference, base)))
        for name in systems:
            part = name.removeprefix(f"{reference}-")
            if name in (reference, base):
                continue
            if part in _LEFT_OUT and part != name:
                result.append(_claim(systems, reference, name, _LEFT_OUT[part]))
            elif name.startswith(f"{reference}-"):
                result.append(_claim(systems, name, reference, _text(name, reference)))
            else:
                result.append(_claim(systems, reference, name, _text(reference, name)))
        return result
    return [_claim(systems, name, base, _text(name, base)) for name in systems if name != base]


def _text(system: str, against: str) -> str:
    return f"{system} improves on {_AGAINST.get(against, against)}"


def _claim(systems: Mapping[str, Any], system: str, against: str, text: str) -> Claim:
    for key in ("difference", "difference_from_reference"):
        if systems[system].get(key, {}).get("from") == against:
            return Claim(text, system, against, {f: systems[system][key][f] for f in FIGURES})
        if systems[against].get(key, {}).get("from") == system:
            return Claim(text, system, against, {f: _negated(systems[against][key][f]) for f in FIGURES})
    raise AssertionError(f"neither {system} nor {against} is the baseline or the reference")


def _negated(difference: Mapping[str, Any]) -> dict[str, Any]:
    """The difference with the opposite sign."""
    negated: dict[str, Any] = {
        "value": -difference["value"],
        "low": -difference["high"],
        "high": -difference["low"],
    }
    if "by_seed" in difference:
        negated["by_seed"] = [-value for value in difference["by_seed"]]
    return negated


def excludes_zero(difference: Mapping[str, Any]) -> bool:
    """Whether a difference has an interval that excludes 0 by more than rounding.

    Example:
        >>> [excludes_zero({"low": low, "high": high}) for low, high in ((-10.0, 4.0), (1.0, 3.0), (None, None))]
        [False, True, False]
    """
    if difference["low"] is None:
        return False
    return bool(difference["low"] > _ROUNDING or difference["high"] < -_ROUNDING)


def better(figure: str, difference: Mapping[str, Any]) -> bool:
    """Whether a difference is a gain: a lower error or a higher share."""
    return bool((difference["value"] > 0.0) == figure.startswith("within"))
