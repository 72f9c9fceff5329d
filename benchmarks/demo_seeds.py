"""Does the outcome of the demo hold for other cities? The demo's comparison for several seeds, and all of them pooled.

    python benchmarks/demo_seeds.py --work demo-seeds [--seeds 0 1 2 3 4] [--set bandwidth.form=fixed ...]

Each seed has other cities, splits and queries. Prints CLIP and SW-CLIP of each seed, and the paired difference over all
with its 95 % interval, which holds seeds, trainings and blocks of queries together. Finished trainings are kept, so
that an interrupted command resumes.
"""

from __future__ import annotations

from pathlib import Path

from common import markdown, new_parser, write_results

from swclip.cli.demo import compare_systems
from swclip.comparison.document import Difference
from swclip.comparison.draws import compare_draws
from swclip.reporting.units import metres, percent, signed, signed_interval

FIGURES = ("median", "within_25", "within_100")
COLUMNS = ("seed", "figure", "CLIP", "SW-CLIP", "SW-CLIP minus CLIP")


def main() -> None:
    """Compare for each seed, and print."""
    parser = new_parser(__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--photos-per-city", type=int, default=800)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--training-seeds", type=int, default=3)
    parser.add_argument("--set", metavar="KEY=VALUE", nargs="+", default=[], help="further values of the recipes")
    args = parser.parse_args()
    options = args.photos_per_city, args.steps, args.training_seeds, args.set
    by_seed = [compare_systems(args.work / f"seed-{seed}", seed, *options) for seed in args.seeds]
    tables: dict[str, list[list[str]]] = {}
    for protocol in ("known-places", "new-streets"):
        rows = []
        comparisons = [comparison[protocol] for comparison in by_seed]
        for seed, comparison in zip(args.seeds, comparisons, strict=True):
            clip, ours = (comparison.document.systems[name] for name in ("clip", "sw-clip"))
            assert ours.difference is not None
            for figure in FIGURES:
                cells = [
                    metres(one.mean.error_m.median)
                    if figure == "median"
                    else percent(one.mean.accuracy_within_m[figure.removeprefix("within_")])
                    for one in (clip, ours)
                ]
                rows.append([str(seed), figure, *cells, text(ours.difference.figures[figure], figure)])
        if len(comparisons) > 1:
            pooled = compare_draws(comparisons, args.seeds).systems["sw-clip"].difference
            assert pooled is not None
            for figure in FIGURES:
                rows.append(["all", figure, "", "", text(pooled.figures[figure], figure)])
        tables[protocol] = rows
    shown = [f"**{protocol}**\n\n{markdown(COLUMNS, rows)}" for protocol, rows in tables.items()]
    named = {protocol: [dict(zip(COLUMNS, row, strict=True)) for row in rows] for protocol, rows in tables.items()}
    write_results(args.out, "demo_seeds", named, "\n".join(shown))


def text(difference: Difference, figure: str) -> str:
    """A difference with its interval."""
    return f"{signed(difference.value, figure)} {signed_interval(difference.value, difference.interval, figure)}"


if __name__ == "__main__":
    main()
