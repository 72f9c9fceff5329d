"""Reliability of stated probabilities on a report page: sentences and diagrams."""

from __future__ import annotations

from collections.abc import Sequence

from swclip.metrics.calibration import (
    DistrictCoverage,
    LevelCoverage,
    Reliability,
    ReliabilityBin,
    StatedProbability,
)
from swclip.reporting.page import COLOURS, interval_text
from swclip.reporting.plots import Chart, Series, percent_axis
from swclip.reporting.units import metres, percent

# One in twenty 95 % intervals excludes the true value by chance; up to twice that share is reported as chance.
_CHANCE = 0.1


def interval_of(figures: LevelCoverage | DistrictCoverage | ReliabilityBin | Reliability) -> Sequence[float]:
    """The interval of a coverage; 0 to 1 where it could not be estimated."""
    return (0.0, 1.0) if figures.coverage_interval is None else figures.coverage_interval


def reliability_text(bins: Sequence[ReliabilityBin]) -> str:
    """Whether stated probabilities are calibrated; bins are weighted by their queries."""
    filled = [bin_ for bin_ in bins if bin_.n]
    if not filled:
        return ""
    total = sum(bin_.n for bin_ in filled)
    stated = sum(bin_.n * bin_.mean_probability for bin_ in filled) / total
    observed = sum(bin_.n * bin_.coverage for bin_ in filled) / total
    outside = [bin_ for bin_ in filled if not interval_of(bin_)[0] <= bin_.mean_probability <= interval_of(bin_)[1]]
    text = (
        f"The mean stated probability that the true position is within 25 m of the answer is {percent(stated)}; this "
        f"is the case for {percent(observed)} of the queries."
    )
    if not outside:
        return f"{text} In all {len(filled)} bins the interval of the observed share contains the stated probability."
    text += (
        f" In {len(outside)} of {len(filled)} bins the interval of the observed share excludes the stated probability"
    )
    if len(outside) <= _CHANCE * len(filled):
        return f"{text}, which may be chance."
    above = sum(bin_.mean_probability > bin_.coverage for bin_ in outside)
    finding = "overconfident in some of them and underconfident in others"
    if above in (0, len(outside)):
        finding = "overconfident" if above else "underconfident"
    return f"{text}: the system is {finding}."


def stated_text(stated: StatedProbability) -> str:
    """What the probability that answers state meant: on average, in the surest tenth, and in the worst district."""
    overall, surest = stated.overall, stated.overall.bins[-1]
    kind = "" if stated.calibrated else " (posterior mass, not calibrated)"
    text = (
        f"Stated probabilities{kind}: an error below {metres(stated.within_m)} is stated with "
        f"{percent(overall.mean_probability)} on average, and is true of {percent(overall.coverage)} "
        f"[{interval_text(interval_of(overall), percent)}] of the queries. The surest "
        f"{'tenth states' if len(overall.bins) > 1 else 'answers state'} {percent(surest.mean_probability)}; "
        f"{percent(surest.coverage)} [{interval_text(interval_of(surest), percent)}] of them are right."
    )
    if len(stated.by_region) < 2:
        return text
    name, worst = max(stated.by_region.items(), key=lambda item: abs(item[1].mean_probability - item[1].coverage))
    return (
        f"{text} They are farthest from the truth in {name}: {percent(worst.mean_probability)} stated, "
        f"{percent(worst.coverage)} true."
    )


def stated_chart(stated: StatedProbability) -> Chart:
    """Reliability curves of the stated probability: of all queries, and of up to four districts with most queries."""
    parts = {"all": stated.overall}
    if len(stated.by_region) > 1:
        most = sorted(stated.by_region, key=lambda name: (-stated.by_region[name].n, name))
        parts |= {name: stated.by_region[name] for name in most[: len(COLOURS) - 1]}
    series = [
        Series(
            name if len(parts) > 1 else "",
            [100.0 * bin_.mean_probability for bin_ in part.bins],
            [100.0 * bin_.coverage for bin_ in part.bins],
            colour,
            [
                f"{name}: stated {percent(bin_.mean_probability)}, true {percent(bin_.coverage)}; {bin_.n:,} queries"
                for bin_ in part.bins
            ],
            "both",
            width=2.2 if name == "all" else 1.2,
            low=[100.0 * interval_of(bin_)[0] for bin_ in part.bins] if name == "all" else [],
            high=[100.0 * interval_of(bin_)[1] for bin_ in part.bins] if name == "all" else [],
        )
        for (name, part), colour in zip(parts.items(), COLOURS, strict=False)
    ]
    within = metres(stated.within_m)
    return Chart(
        "stated",
        "What stated probabilities meant",
        f"Observed share of answers within {within} against the stated probability of it",
        percent_axis(f"stated probability of an error below {within}"),
        percent_axis(f"observed share within {within}"),
        series,
        diagonal="perfectly calibrated",
    )


def reliability_chart(bins: Sequence[ReliabilityBin]) -> Chart | None:
    """Reliability diagram: observed against stated probability; None where all bins are empty."""
    filled = [bin_ for bin_ in bins if bin_.n]
    if not filled:
        return None
    series = Series(
        "",
        [100.0 * bin_.mean_probability for bin_ in filled],
        [100.0 * bin_.coverage for bin_ in filled],
        COLOURS[0],
        [
            f"stated {percent(bin_.mean_probability)}, observed {percent(bin_.coverage)} "
            f"[{interval_text(interval_of(bin_), percent)}]; {bin_.n:,} queries"
            for bin_ in filled
        ],
        "both",
        width=1.6,
        low=[100.0 * interval_of(bin_)[0] for bin_ in filled],
        high=[100.0 * interval_of(bin_)[1] for bin_ in filled],
    )
    return Chart(
        "reliability",
        "Reliability diagram",
        "Observed share of answers within 25 m against the stated probability of it",
        percent_axis("stated probability of an error within 25 m"),
        percent_axis("observed share within 25 m"),
        [series],
        diagonal="perfectly calibrated",
    )
