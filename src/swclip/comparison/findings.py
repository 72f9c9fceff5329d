"""Statistical summary of a comparison: supported claims, hardest districts, limits of the gallery."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from swclip.comparison.document import FIGURES, ComparisonDocument, Difference, System, is_gain
from swclip.comparison.mean_report import MeanReport, with_gallery
from swclip.reporting.units import distance, figure_name, metres, percent, signed, signed_interval

_CHANCE = 0.05
# A median of at most this many times the median oracle error has little left to gain.
_NEAR_ORACLE = 2.0

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


def statistical_summary(document: ComparisonDocument) -> list[str]:
    """Summarise a comparison as sentences.

    A difference is significant at 5 %, before any correction, where its paired 95 % interval excludes 0. A claim is
    supported where at least one figure has a significant gain and none has a significant loss.

    Args:
        document: The document of the comparison.

    Returns:
        Sentences in this order: one per claim; false positives to expect; seeds; systems of equal configuration;
        hardest district of each system; oracle error; systems no better than the constant baseline.
    """
    means = {name: system.mean for name, system in document.systems.items()}
    pairs = claims(document)
    sentences = [_claim_text(claim) for claim in pairs]
    sentences += _false_positives(document)
    sentences += _seeds(means, pairs)
    sentences += [str(note) for note in document.made_with.get("notes", [])]
    sentences += _hardest_districts(means)
    sentences += _oracle_error(means)
    sentences += _constant_baseline(means)
    return sentences


@dataclass(frozen=True)
class Claim:
    """The claim that one system is better than another.

    Attributes:
        text: The claim as a clause.
        system: The system that is claimed to be better.
        against: The other system.
        differences: By figure, `system` minus `against`.
    """

    text: str
    system: str
    against: str
    differences: Mapping[str, Difference]


def claims(document: ComparisonDocument) -> list[Claim]:
    """The claims of a comparison.

    With a reference (the full method), the claims compare it with every other system; without one, every system with
    the baseline. A system named after the reference and a component (sw-clip-no-text for sw-clip) is an ablation of
    that component; one named after the reference and anything else (sw-clip-plus) is claimed to be better than it.

    Users name reports on disk, so these names have no such meaning: the reference is compared with the baseline, and
    every other system with the reference, or with the baseline where there is no reference.

    Args:
        document: The document of the comparison.
    """
    systems, base, reference = document.systems, document.baseline, document.reference
    if "reports" in document.made_with:
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


def _claim(systems: Mapping[str, System], system: str, against: str, text: str) -> Claim:
    for key in ("difference", "difference_from_reference"):
        there, back = getattr(systems[system], key), getattr(systems[against], key)
        if there is not None and there.against == against:
            return Claim(text, system, against, there.figures)
        if back is not None and back.against == system:
            return Claim(text, system, against, {figure: one.negated() for figure, one in back.figures.items()})
    raise AssertionError(f"neither {system} nor {against} is the baseline or the reference")


def verdict(claim: Claim) -> str:
    """Whether the significant differences of a claim are gains, losses, both, or absent."""
    gains = [is_gain(figure, one) for figure, one in claim.differences.items() if one.excludes_zero]
    if not gains:
        return "not supported, no significant difference"
    if all(gains):
        return "supported"
    return "mixed" if any(gains) else "not supported, the opposite is significant"


def _claim_text(claim: Claim) -> str:
    parts = []
    for excluded in (True, False):
        texts = [
            f"{figure_name(figure)} {signed(one.value, figure)} {signed_interval(one.value, one.interval, figure)}"
            for figure, one in claim.differences.items()
            if one.excludes_zero == excluded
        ]
        if texts:
            parts.append(f"Interval {'excludes' if excluded else 'includes'} 0: {', '.join(texts)}.")
    start = claim.text if claim.text.startswith(claim.system) else claim.text[0].upper() + claim.text[1:]
    return f"{start}: {verdict(claim)}. {' '.join(parts)}"


def _false_positives(document: ComparisonDocument) -> list[str]:
    # The difference between reference and baseline is in both tables, with opposite signs.
    tables = list(document.from_baseline.values())
    tables += [one for name, one in document.from_reference.items() if name != document.baseline]
    count = len(FIGURES) * len(tables)
    if count < 20:
        return []
    significant = sum(one.excludes_zero for table in tables for one in table.figures.values())
    return [
        f"Of {count} intervals of differences, {significant} exclude 0; without any differences, about "
        f"{round(_CHANCE * count)} would exclude it by chance."
    ]


def _seeds(means: Mapping[str, MeanReport], pairs: Sequence[Claim]) -> list[str]:
    deviations = {name: mean.seed_sd.error_m["median"] for name, mean in means.items() if mean.seed_sd is not None}
    if not deviations:
        return ["There is one seed of each system, so the variation over seeds is not known."]
    widest, deviation = max(deviations.items(), key=lambda item: item[1])
    sentences = [
        f"The median error varies most over the seeds of {widest}: standard deviation {metres(deviation)} over "
        f"{means[widest].seeds} seeds, mean {metres(means[widest].error_m.median)}."
    ]
    inconsistent = [
        f"{figure_name(figure)} of {claim.system} minus {claim.against}"
        for claim in pairs
        for figure, one in claim.differences.items()
        if one.excludes_zero and _signs_differ(one.by_seed or ())
    ]
    if inconsistent:
        sentences.append(
            f"Significant for the mean over seeds, but with different signs in single seeds: {', '.join(inconsistent)}."
        )
    return sentences


def _signs_differ(values: Sequence[float]) -> bool:
    return bool(values) and min(values) <= 0.0 <= max(values)


def _hardest_districts(means: Mapping[str, MeanReport]) -> list[str]:
    hardest: dict[str, list[str]] = {}
    for name, mean in means.items():
        medians = {district: errors.median for district, errors in mean.by_region.items()}
        if len(medians) < 2:
            return []
        district = max(medians, key=lambda key: medians[key])
        hardest.setdefault(district, []).append(f"{name} ({metres(medians[district])})")
    texts = [f"{district} for {', '.join(names)}" for district, names in hardest.items()]
    return [f"The district with the largest median error is {'; '.join(texts)}."]


def _oracle_error(means: Mapping[str, MeanReport]) -> list[str]:
    oracle = with_gallery(means.values()).baselines.floor
    if oracle is None:
        return []
    best = max(means, key=lambda name: means[name].accuracy_within_m["25"])
    share, most = means[best].accuracy_within_m["25"], oracle.accuracy_within_m["25"]
    text = f"The oracle error of this gallery has a median of {metres(oracle.median)}, with {percent(most)} within "
    text += f"25 m; {best} reaches {percent(share)} within 25 m, {100.0 * max(0.0, most - share):.1f} points below it."
    near = [
        f"{name} ({metres(mean.error_m.median)})"
        for name, mean in means.items()
        if oracle.median > 0.0 and mean.error_m.median <= _NEAR_ORACLE * oracle.median
    ]
    if not near:
        return [text]
    return [
        text,
        f"Median errors of at most {_NEAR_ORACLE:g} times the median oracle error, where the gallery limits gains: "
        f"{', '.join(near) if len(near) < len(means) else 'those of all systems'}.",
    ]


def _constant_baseline(means: Mapping[str, MeanReport]) -> list[str]:
    constant = with_gallery(means.values()).baselines.constant
    if constant is None:
        return []
    above = [
        f"{name} ({metres(mean.error_m.median)})"
        for name, mean in means.items()
        if mean.error_m.median >= constant.median
    ]
    if not above:
        return []
    return [f"By the median, no better than the constant baseline ({distance(constant.median)}): {', '.join(above)}."]
