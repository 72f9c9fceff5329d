"""Statistical summary of a comparison: supported claims, hardest districts, limits of the gallery."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from swclip.comparison.document import FIGURES, ComparisonDocument, Difference, DrawnSystem, System, is_gain
from swclip.comparison.mean_report import MeanReport, with_gallery
from swclip.comparison.tables import relative_text
from swclip.metrics.bootstrap import holm
from swclip.reporting.units import distance, figure_name, metres, p_value, percent, signed, signed_interval

PRIMARY = ("median", "within_25")
"""The figures that decide whether a claim is supported."""

SIGNIFICANCE = 0.05
"""Largest corrected p-value of a significant difference."""

RELEVANT_SHARE = 0.05
"""Smallest difference of an error that matters, as a share of the other system's error: about the standard deviation
over seeds of one system on new streets."""

RELEVANT_POINTS = 0.01
"""Smallest difference of a share that matters: 1 percentage point, about its standard deviation over seeds."""

_CHANCE = 0.05
_ROUNDING = 1e-9
# A median of at most this many times the median oracle error has little left to gain.
_NEAR_ORACLE = 2.0

_AGAINST = {
    "clip": "one-hot CLIP",
    "nearest-neighbour": "nearest neighbour on frozen features",
    "nearest-neighbour-whitened": "nearest neighbour on whitened frozen features",
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

    Claims are judged by the primary figures, corrected for the number of claims; see `verdict`.

    Args:
        document: The document of the comparison.

    Returns:
        Sentences in this order: one per claim; the correction; false positives to expect of the other intervals; seeds;
        systems of equal configuration; hardest district of each system; oracle error; systems no better than the
        constant baseline.
    """
    means = {name: system.mean for name, system in document.systems.items()}
    pairs = claims(document)
    sentences = summary_of_claims(document)
    sentences += _draws(document)
    sentences += _false_positives(document)
    sentences += _seeds(means, pairs)
    sentences += [str(note) for note in document.made_with.get("notes", [])]
    sentences += _hardest_districts(means)
    sentences += _oracle_error(means)
    sentences += _constant_baseline(means)
    return sentences


def summary_of_claims(document: ComparisonDocument) -> list[str]:
    """Summarise the claims alone: a sentence for each, and how they were corrected."""
    pairs = claims(document)
    resamples = max(system.mean.intervals.resamples for system in document.systems.values())
    correction = _correction(pairs, resamples if document.draws is None else document.draws.resamples)
    return [_claim_text(claim) for claim in pairs] + correction


_Systems = Mapping[str, System] | Mapping[str, DrawnSystem]


@dataclass(frozen=True)
class Claim:
    """The claim that one system is better than another.

    Attributes:
        text: The claim as a clause.
        system: The system that is claimed to be better.
        against: The other system.
        differences: By figure, `system` minus `against`.
        other_errors_m: The errors of `against` by figure, metres.
        corrected_p: p-values of the primary figures, corrected for all claims of the comparison.
    """

    text: str
    system: str
    against: str
    differences: Mapping[str, Difference]
    other_errors_m: Mapping[str, float]
    corrected_p: Mapping[str, float]

    def is_relevant(self, figure: str) -> bool:
        """Whether a difference is large enough to matter; see `RELEVANT_SHARE` and `RELEVANT_POINTS`."""
        size = abs(self.differences[figure].value)
        if figure.startswith("within"):
            return size >= RELEVANT_POINTS - _ROUNDING
        return size >= RELEVANT_SHARE * self.other_errors_m[figure]


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
    result = _claims(document)
    tested = [(at, figure, one.differences[figure].p) for at, one in enumerate(result) for figure in PRIMARY]
    present = [(at, figure, p) for at, figure, p in tested if p is not None]
    corrected: list[dict[str, float]] = [{} for _ in result]
    for (at, figure, _), p in zip(present, holm([p for *_, p in present]), strict=True):
        corrected[at][figure] = p
    return [replace(claim, corrected_p=of_claim) for claim, of_claim in zip(result, corrected, strict=True)]


def _claims(document: ComparisonDocument) -> list[Claim]:
    """The claims of a comparison, not corrected."""
    base, reference = document.baseline, document.reference
    systems: _Systems = document.systems if document.draws is None else document.draws.systems
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


def _errors_m(system: System | DrawnSystem) -> dict[str, float]:
    if isinstance(system, DrawnSystem):
        return {figure: system.figures[figure].value for figure in ("median", "mean")}
    return {"median": system.mean.error_m.median, "mean": system.mean.error_m.mean}


def _claim(systems: _Systems, system: str, against: str, text: str) -> Claim:
    for key in ("difference", "difference_from_reference"):
        there, back = getattr(systems[system], key), getattr(systems[against], key)
        if there is not None and there.against == against:
            return Claim(text, system, against, there.figures, _errors_m(systems[against]), {})
        if back is not None and back.against == system:
            negated = {figure: one.negated() for figure, one in back.figures.items()}
            return Claim(text, system, against, negated, _errors_m(systems[against]), {})
    raise AssertionError(f"neither {system} nor {against} is the baseline or the reference")


def verdict(claim: Claim) -> str:
    """Whether a claim is supported.

    Supported: the gain of a primary figure is significant after correction and above the floor of relevance, and no
    figure has a relevant loss: of the primary figures none at all, of the others none whose interval excludes 0. Mixed:
    there is such a gain and such a loss.
    """
    gains, losses = (
        [
            figure
            for figure, p in claim.corrected_p.items()
            if p <= SIGNIFICANCE and is_gain(figure, claim.differences[figure]) == gain
        ]
        for gain in (True, False)
    )
    relevant = [figure for figure in gains if claim.is_relevant(figure)]
    against = [figure for figure in FIGURES if _counts_against(claim, figure)]
    names = ", ".join(map(figure_name, against))
    if relevant:
        return f"mixed, {names} {'is' if len(against) == 1 else 'are'} worse" if against else "supported"
    if any(claim.is_relevant(figure) for figure in losses):
        return "not supported, the opposite is significant"
    if gains:
        return "not supported, the significant gain is too small to matter"
    return "not supported, no significant gain in the median or within 25 m"


def _counts_against(claim: Claim, figure: str) -> bool:
    difference = claim.differences[figure]
    loss = difference.value != 0.0 and not is_gain(figure, difference) and claim.is_relevant(figure)
    return loss and (figure in PRIMARY or difference.excludes_zero)


def _claim_text(claim: Claim) -> str:
    primary = []
    for figure in PRIMARY:
        corrected = claim.corrected_p.get(figure)
        text = _difference_text(claim, figure)
        primary.append(text if corrected is None else f"{text}, corrected {p_value(corrected)}")
    parts = [f"Primary figures: {'; '.join(primary)}."]
    others = {figure: one for figure, one in claim.differences.items() if figure not in PRIMARY}
    for excluded in (True, False):
        texts = [_difference_text(claim, figure) for figure, one in others.items() if one.excludes_zero == excluded]
        if texts:
            parts.append(f"Interval {'excludes' if excluded else 'includes'} 0: {', '.join(texts)}.")
    start = claim.text if claim.text.startswith(claim.system) else claim.text[0].upper() + claim.text[1:]
    return f"{start}: {verdict(claim)}. {' '.join(parts)}"


def _difference_text(claim: Claim, figure: str) -> str:
    one = claim.differences[figure]
    error_m = claim.other_errors_m.get(figure, 0.0)
    share = relative_text(one.value, error_m)
    of_error = f" ({share} of {metres(error_m)})" if share else ""
    interval = signed_interval(one.value, one.interval, figure)
    return f"{figure_name(figure)} {signed(one.value, figure)}{of_error} {interval}".rstrip()


def _correction(pairs: Sequence[Claim], resamples: int) -> list[str]:
    count = sum(len(claim.corrected_p) for claim in pairs)
    if count == 0:
        return []
    smallest = count * 2.0 / (resamples + 1)
    text = (
        f"A claim is judged by the median and the share within 25 m. Their p-values are corrected for {count} "
        f"comparisons (Holm); a gain counts from {100 * RELEVANT_SHARE:g} % of the other median or "
        f"{100 * RELEVANT_POINTS:g} point on. With {resamples:,} resamples the smallest corrected p-value is "
        f"about {min(1.0, smallest):.2g}"
    )
    if smallest > SIGNIFICANCE:
        enough = math.ceil(2.0 * count / SIGNIFICANCE)
        return [f"{text}, so none can be significant: at least {enough:,} resamples are needed."]
    return [f"{text}."]


def _draws(document: ComparisonDocument) -> list[str]:
    draws = document.draws
    if draws is None:
        return ["There is one draw of the splits: how much the figures vary with the draw is not known."]
    return [
        f"The claims are over {len(draws.seeds)} draws of the splits (seeds {', '.join(map(str, draws.seeds))}): their "
        "intervals hold draws, seeds and blocks of queries together. What follows is of the first draw."
    ]


def _false_positives(document: ComparisonDocument) -> list[str]:
    # The difference between reference and baseline is in both tables, with opposite signs.
    tables = list(document.from_baseline.values())
    tables += [one for name, one in document.from_reference.items() if name != document.baseline]
    count = len(FIGURES) * len(tables)
    if count < 20:
        return []
    significant = sum(one.excludes_zero for table in tables for one in table.figures.values())
    return [
        f"Of {count} intervals of differences, not corrected, {significant} exclude 0; without any differences, about "
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
        f"Median errors of at most {_NEAR_ORACLE:g} times the median oracle error, where answers at candidates have "
        "little left to gain: "
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
