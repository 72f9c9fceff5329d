"""The ladder: what each step adds, as one picture and one table, from benchmarks over several draws of the splits.

    python benchmarks/ladder.py proof/*/{known,new} --titles ... --out docs/images

The benchmarks are those of `proof.py`. Writes ladder.png, ladder.svg and ladder.md. Intervals hold draws, seeds and
blocks of queries together. A benchmark of a single draw has no such intervals: its points are drawn without.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from common import STYLES, markdown, new_parser, write_text

from swclip.comparison.document import ComparisonDocument, read_document
from swclip.reporting.units import metres, percent

RUNGS = {
    "nearest-neighbour": "plain neighbours",
    "nearest-neighbour-whitened": "whitened",
    "clip": "CLIP",
    "sw-clip": "SW-CLIP",
    "sw-clip-plus": "SW-CLIP, whitened\nand verified",
}
SHARES = {"within_25": "within 25 m", "within_100": "within 100 m"}
FIGURES = ("median", "mean", *SHARES)


def main() -> None:
    """Draw the picture and write the table."""
    parser = new_parser(__doc__, out_required=True)
    parser.add_argument("benchmarks", type=Path, nargs="+", help="folders of `swclip benchmark`")
    parser.add_argument("--titles", nargs="+")
    options = parser.parse_args()
    documents = [read_document(folder / "benchmark.json") for folder in options.benchmarks]
    titles = options.titles or [folder.name for folder in options.benchmarks]
    if len(titles) != len(documents):
        raise SystemExit(f"--titles: {len(titles)} for {len(documents)} benchmarks; give one for each.")
    options.out.mkdir(parents=True, exist_ok=True)
    draw(documents, titles, options.out / "ladder")
    text = table(documents, titles)
    print(text)
    write_text(options.out / "ladder.md", text)


def figures_of(document: ComparisonDocument, system: str) -> dict[str, tuple[float, float, float]]:
    """Value, low and high end of each figure; both ends are the value where there is one draw."""
    if document.draws is not None:
        drawn = document.draws.systems[system].figures
        return {name: (drawn[name].value, drawn[name].low, drawn[name].high) for name in FIGURES}
    report = document.systems[system].mean
    within = report.accuracy_within_m
    values = (report.error_m.median, report.error_m.mean, within["25"], within["100"])
    return {name: (value, value, value) for name, value in zip(FIGURES, values, strict=True)}


def draw(documents: Sequence[ComparisonDocument], titles: Sequence[str], out: Path) -> None:
    """Shares within 25 and 100 m for each rung, a panel for each benchmark."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    columns = min(2, len(documents))
    rows = -(-len(documents) // columns)
    size = (4.6 * columns, 3.3 * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, sharex=True)
    for axis in axes.flat[len(documents) :]:
        axis.set_axis_off()
    for axis, document, title in zip(axes.flat, documents, titles, strict=False):
        systems = [name for name in RUNGS if name in document.systems]
        lowest = 100.0
        for at, ((name, label), (colour, marker)) in enumerate(zip(SHARES.items(), STYLES, strict=False)):
            figures = [figures_of(document, system)[name] for system in systems]
            value, low, high = (100.0 * np.array(figures)).T
            lowest = min(lowest, low.min())
            ends = np.stack([value - low, high - value])
            x = np.arange(len(systems)) + 0.16 * at - 0.08  # side by side
            axis.errorbar(x, value, ends, color=colour, marker=marker, capsize=3, label=label)
            for x_at, one in zip(x, value, strict=True):
                offset, side = ((-6, 3), "right") if at == 0 else ((6, 3), "left")
                axis.annotate(f"{one:.1f}", (x_at, one), offset, textcoords="offset points", ha=side, fontsize=7)
        axis.set_xticks(range(len(systems)), [RUNGS[system] for system in systems], rotation=30, ha="right", fontsize=8)
        axis.set_xlim(-0.6, len(systems) - 0.4)
        axis.set_ylim(max(0.0, 20.0 * np.floor((lowest - 1.0) / 20.0)), 102.0 if lowest > 60.0 else 70.0)
        axis.grid(axis="y", alpha=0.3)
        draws = 1 if document.draws is None else len(document.draws.seeds)
        axis.set_title(f"{title}, {draws} draw{'s' if draws > 1 else ''} of the splits", fontsize=10)
    for row in axes:
        row[0].set_ylabel("share of queries, %")
    axes[0][-1].legend(loc="upper left", fontsize=8)
    figure.tight_layout()
    for suffix in (".png", ".svg"):
        figure.savefig(out.with_suffix(suffix), dpi=150)
    plt.close(figure)


def table(documents: Sequence[ComparisonDocument], titles: Sequence[str]) -> str:
    """The figures with their intervals, one row for each rung and benchmark."""
    rows = []
    for document, title in zip(documents, titles, strict=True):
        for system in (name for name in RUNGS if name in document.systems):
            cells = []
            for name, (value, low, high) in figures_of(document, system).items():
                text = percent if name in SHARES else metres
                cells.append(text(value) + ("" if low == high else f" [{text(low)}, {text(high)}]"))
            rows.append([title, system, *cells])
    return markdown(["", "system", "median", "mean", *SHARES.values()], rows)


if __name__ == "__main__":
    main()
