"""A critical reading of a comparison, from its numbers alone: which claims hold, where it fails, what limits it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from swclip.comparison.claims import (FIGURES, Claim, better, claims, shown)
from swclip.comparison.seeds import with_gallery
from swclip.reporting.units import (distance, figure_name, metres, percent, signed, signed_interval)

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
