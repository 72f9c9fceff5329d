"""The published results from start to end: splits, benchmarks over several draws, and the result pages.

    python benchmarks/proof.py cambridge    --manifest cam    --image-tower dinov2-small-9
    python benchmarks/proof.py wuhan        --manifest wuhan  --image-tower dinov2-small-9
    python benchmarks/proof.py eight-cities --manifest cities --image-tower dinov2-small-9

Each step is a `swclip` command, printed before it runs; after an interruption the same command line resumes. Splits and
benchmarks are in the folder --work; results/NAME.md and images/NAME-*.png, in docs or the folder --out, are written
from their benchmark.json; `--write-only` only writes these. Eight cities are generated first without --manifest.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from common import new_parser, say, swclip, write_text

from swclip.comparison.comparison import write_curves
from swclip.comparison.document import FIGURES, ComparisonDocument, DrawnSystem, read_document
from swclip.comparison.findings import statistical_summary, summary_of_claims
from swclip.comparison.tables import (
    difference_cell,
    difference_table,
    district_table,
    draws_tables,
    estimator_table,
    system_table,
)
from swclip.errors import SwclipError
from swclip.reporting.page import Cell, Row, Table, interval_text, table_markdown
from swclip.reporting.units import figure_name, metres, percent
from swclip.training.config import recipe_names

SYSTEMS = (
    "nearest-neighbour",
    "nearest-neighbour-whitened",
    "clip",
    "sw-clip-one-hot",
    "sw-clip",
    "sw-clip-plus",
)
UNTRAINED = SYSTEMS[:2]
BASELINE, REFERENCE = "clip", "sw-clip"
NEED_TEXT = ("sw-clip-template",)
"""Systems that need a text tower: omitted with a note where there is none."""

DRAWS = 5
SEEDS = (0,)
LEFT_OUT_SEEDS = (0,)
LEFT_OUT_SYSTEMS = ("nearest-neighbour", "nearest-neighbour-whitened", "clip", "sw-clip", "geoclip", "sw-clip-plus")
"""Holding out each city in turn multiplies the number of runs by that of the cities."""


@dataclass(frozen=True)
class Part:
    """One split, or one family of splits, of a proof.

    Attributes:
        name: Name of its splits and its folder.
        title: Its heading on the page.
        split: Arguments of `swclip split`.
        description: A sentence on the protocol.
    """

    name: str
    title: str
    split: tuple[str, ...]
    description: str


KNOWN = Part(
    "known",
    "Known places",
    ("--protocol", "known-places"),
    "Other photographs of the query's surroundings are in training.",
)
STREETS = Part(
    "new",
    "New streets",
    ("--protocol", "new-streets"),
    "Whole blocks of 100 m are held out of training, with a buffer of 20 m.",
)
CITIES = Part(
    "cities",
    "New cities",
    ("--protocol", "new-city", "--all-cities"),
    "Each city is held out of training in turn; every query is answered by the model that was not trained on its city.",
)

PROOFS: dict[str, tuple[str, tuple[Part, ...]]] = {
    "cambridge": (
        "Cambridge, UK",
        (Part(KNOWN.name, KNOWN.title, (*KNOWN.split, "--hold-out", "place"), KNOWN.description), STREETS),
    ),
    "eight-cities": ("Eight generated cities", (KNOWN, STREETS, CITIES)),
    "wuhan": ("Wuhan, one drive with its real GPS accuracies", (KNOWN, STREETS)),
}


NOTES = {
    "cambridge": (
        "**Limitations.** One survey of one city: queries and gallery share a camera and, within a street, a day. The "
        "recipes were developed, and the compared systems tuned, on validation photographs of the draw with seed 0; no "
        "setting was chosen on the other four."
    ),
    "eight-cities": (
        "**Limitations.** The pictures are generated, and easier than real streets on known places: they compare "
        "methods, and do not show how well one works. The tower was trained on real pictures, and the compared systems "
        "tuned on Cambridge. A mean is dominated by the queries that are located in another city, and so is a median "
        "where these are about a half."
    ),
    "wuhan": (
        "**Limitations.** The data are one drive: 1,152 frames of one video, about 5 m apart, on one day; no street "
        "was passed twice. Known places therefore measures how well frames of one video match, not how well a place is "
        "recognised on another day; new streets holds out blocks of the drive. Errors are measured against the phone's "
        "GPS, whose stated accuracy is 10 m in the median: differences of a few metres are not meaningful. "
        "Hyper-parameters of the compared systems were chosen on Cambridge."
    ),
}
"""Notes before the first figure of a page."""


class Commands:
    """Runs `swclip` commands, and records them with names instead of local paths."""

    def __init__(self, names: dict[Path, str], run: bool) -> None:
        self._names, self._run = names, run
        self.shown: list[str] = []

    def __call__(self, *arguments: str | Path) -> None:
        """Run a command; only record it with `--write-only`."""
        self.shown.append(shlex.join(["swclip", *(self._name(argument) for argument in arguments)]))
        if not self._run:
            return
        print(f"$ {self.shown[-1]}", flush=True)
        swclip(*arguments)

    def _name(self, argument: str | Path) -> str:
        if isinstance(argument, str):
            return argument
        for path, name in self._names.items():
            if argument == path or path in argument.parents:
                return str(Path(name) / argument.relative_to(path))
        return argument.name


def main() -> None:
    """Run one of the proofs."""
    options = arguments()
    title, parts = PROOFS[options.proof]
    work: Path = options.work / options.proof
    manifest: Path | None = options.manifest
    data = manifest if manifest is not None else work / "data"
    names = {data: options.proof, work: "proof"}
    commands = Commands(names, run=not options.write_only)
    if manifest is None:
        if options.proof != "eight-cities":
            sys.exit(f"error: {options.proof} needs --manifest: the photographs are not part of the package.")
        commands("synth", "--out", data, "--photos-per-city", str(options.photos_per_city))
    systems, omitted = chosen_systems(options.systems, options.text_tower)
    chosen = [part for part in parts if options.only is None or part.name in options.only]
    for part in chosen:
        seeds = options.left_out_seeds if part is CITIES else options.seeds
        splits = work / "splits" / (part.name if part is CITIES else f"{part.name}.parquet")
        commands("split", data, *part.split, "--out", splits)
        compared = chosen_systems(options.left_out_systems, options.text_tower)[0] if part is CITIES else systems
        draws = [] if part is CITIES else ["--draws", str(options.draws)]
        commands("benchmark", data, "--splits", splits, *draws, "--systems", *compared, "--seeds", *map(str, seeds),
               "--baseline", BASELINE, "--reference", REFERENCE, "--jobs", str(options.jobs),
               *training_options(options), "--out", work / part.name)  # fmt: skip
    try:
        documents = {part: read_document(work / part.name / "benchmark.json") for part in chosen}
    except SwclipError as error:
        sys.exit(f"error: {error}")
    write_page(options.out, options.proof, title, documents, commands.shown, omitted)


def chosen_systems(names: list[str], text_tower: str | Path) -> tuple[list[str], list[str]]:
    """The systems to run, and a note on each that is omitted."""
    notes, systems = [], []
    available = {*recipe_names(), *UNTRAINED}
    for name in names:
        if name not in available and not name.endswith(".toml"):
            choices = ", ".join(sorted(available))
            sys.exit(f"error: there is no recipe {name!r}; choose from {choices} with --systems.")
        if name in NEED_TEXT and text_tower == "none":
            notes.append(f"{name} is omitted: it needs a text tower, and none was used.")
        else:
            systems.append(name)
    return systems, notes


def training_options(parsed: argparse.Namespace) -> list[str | Path]:
    """The options that replace values of the recipes, equally for all systems."""
    tower = parsed.image_tower
    options: list[str | Path] = ["--image-tower", tower, "--text-tower", parsed.text_tower]
    if parsed.freeze_image:
        options += ["--freeze", "image"]
    for flag, value in (("--steps", parsed.steps), ("--batch-size", parsed.batch_size), ("--size-px", parsed.size_px)):
        options += [flag, str(value)] if value is not None else []
    for assignment in parsed.set:
        options += ["--set", assignment]
    return options


def write_page(
    docs: Path,
    name: str,
    title: str,
    documents: dict[Part, ComparisonDocument],
    commands: list[str],
    omitted: list[str],
) -> None:
    """Write docs/results/NAME.md and its figures."""
    first = next(iter(documents.values())).made_with
    versions = ", ".join(f"{key} {first[key]}" for key in ("swclip", "torch", "transformers", "numpy", "python"))
    text = [f"# {title}", *([NOTES[name]] if name in NOTES else [])]
    text += ["Errors are WGS84 geodesics in metres; shares are of all queries. Made by"]
    text += ["\n".join(f"    {command}" for command in commands)]
    text += [f"with {versions}; image tower {Path(str(first['image_tower'])).name}.", *omitted]
    if any(".toml" in command for command in commands):
        text += ["Recipes of `tuned/` have the bold settings of [tuning.md](tuning.md)."]
    for part, document in documents.items():
        picture = docs / "images" / f"{name}-{part.name}.png"
        draw = "" if document.draws is None else f", draw with seed {document.draws.seeds[0]}"
        write_curves([picture], document, title=f"{title}: {part.title.lower()}{draw}")
        link = os.path.relpath(picture, docs / "results")
        write_figures = comparison_markdown if document.draws is None else draws_markdown
        text += [f"## {part.title}", part.description, write_figures(document).rstrip()]
        text += [f"![Share of queries within each distance, {part.title.lower()}]({Path(link).as_posix()})"]
    print("\n\n".join(text))
    write_text(docs / "results" / f"{name}.md", "\n\n".join(text) + "\n")
    say(f"{docs / 'results' / name}.md")


def comparison_markdown(document: ComparisonDocument) -> str:
    """Setting, tables and statistical summary of a comparison, without headings."""
    parts = [setting_text(document), table_markdown(system_table(document))]
    for role, name, differences in (
        ("baseline", document.baseline, document.from_baseline),
        ("reference", document.reference, document.from_reference),
    ):
        if differences:
            parts += [
                f"Paired difference from {name} (the {role}) with its 95 % interval; bold where it excludes 0:",
                table_markdown(difference_table(differences, document.means)),
            ]
    if len(document.systems[document.baseline].mean.by_region) > 1:
        parts += ["Median error by district:", table_markdown(district_table(document))]
    parts += ["Statistical summary, generated from the figures by fixed rules:"]
    parts += ["\n".join(f"- {sentence}" for sentence in statistical_summary(document))]
    parts += [
        "<details><summary>Figures by estimator</summary>",
        table_markdown(estimator_table(document)),
        "</details>",
    ]
    return "\n\n".join(parts) + "\n"


def draws_markdown(document: ComparisonDocument) -> str:
    """Figures, differences and statistical summary over several draws of the splits, without headings."""
    draws = document.draws
    assert draws is not None
    setting = (
        f"{len(draws.seeds)} draws of the splits (seeds {', '.join(map(str, draws.seeds))}), with "
        f"{', '.join(f'{count:,}' for count in draws.n_queries)} queries; every answer is the {document.estimator} of "
        "its posterior. In brackets: 95 % intervals over draws, seeds and blocks of queries."
    )
    columns = ["system", *map(figure_name, FIGURES)]
    figures = [
        Row([Cell(name), *(drawn_cell(drawn, figure) for figure in FIGURES)]) for name, drawn in draws.systems.items()
    ]
    parts = [setting, table_markdown(Table(columns, figures))]
    for key, name in (("difference", document.baseline), ("difference_from_reference", document.reference)):
        differences = {system: getattr(drawn, key) for system, drawn in draws.systems.items()}
        rows = [
            Row([Cell(system), *(difference_cell(one.figures[figure], figure) for figure in FIGURES)])
            for system, one in differences.items()
            if one is not None
        ]
        if rows:
            parts += [
                f"Paired difference from {name} with its 95 % interval; bold where it excludes 0:",
                table_markdown(Table(columns, rows)),
            ]
    parts += ["Statistical summary, generated from the figures by fixed rules:"]
    parts += ["\n".join(f"- {sentence}" for sentence in summary_of_claims(document))]
    parts += [
        "<details><summary>Figures of each draw</summary>",
        table_markdown(draws_tables(document)[0][1]),
        "</details>",
    ]
    return "\n\n".join(parts) + "\n"


def drawn_cell(system: DrawnSystem, figure: str) -> Cell:
    """A figure over several draws with its interval."""
    one, unit = system.figures[figure], percent if figure.startswith("within") else metres
    return Cell(unit(one.value), small=interval_text((one.low, one.high), unit))


def setting_text(document: ComparisonDocument) -> str:
    """Queries, gallery, oracle error, constant baseline and seeds, and the meaning of intervals and ±."""
    first = document.systems[document.baseline].mean
    oracle, constant = first.baselines.floor, first.baselines.constant
    if first.gallery_size is None or first.n_answerable is None or oracle is None or constant is None:
        raise ValueError("a benchmark has a gallery, and with it an oracle error and a constant baseline")
    seeds = document.made_with.get("seeds", [])
    text = (
        f"{round(first.n_queries):,} queries ({round(first.n_answerable):,} with a candidate within 25 m), "
        f"{round(first.gallery_size):,} candidates. Median oracle error {metres(oracle.median)}, median of the "
        f"constant baseline {metres(constant.median)}. Seeds {', '.join(map(str, seeds)) or 'none'}. "
        f"In brackets: 95 % interval from resampling {first.intervals.blocks:,} blocks of queries "
        f"({first.intervals.block}), the variation over other streets of the same kind."
    )
    if first.parts:
        text += (
            f" Pooled over {first.parts} splits; each query is answered once, by the model that was not trained on its "
            "city. The interval does not describe other cities."
        )
    if any(system.mean.seeds > 1 for system in document.systems.values()):
        text += " After ±: standard deviation over seeds. The interval does not include this variation."
    return text


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = new_parser(__doc__)
    parser.set_defaults(out=Path(__file__).parent.parent / "docs")
    parser.add_argument("proof", choices=list(PROOFS))
    parser.add_argument("--manifest", type=Path, help="folder that `swclip prepare` or `swclip synth` wrote")
    parser.add_argument("--photos-per-city", type=int, default=240, help="for generated cities")
    parser.add_argument("--image-tower", type=tower, default="builtin:small")
    parser.add_argument("--text-tower", type=tower, default="none", help="a tower, or none")
    parser.add_argument("--freeze-image", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--draws", type=int, default=DRAWS, help="draws of the splits of known places and new streets")
    parser.add_argument("--left-out-seeds", nargs="+", type=int, default=list(LEFT_OUT_SEEDS), help="of new cities")
    parser.add_argument("--left-out-systems", nargs="+", default=list(LEFT_OUT_SYSTEMS), help="of new cities")
    parser.add_argument("--only", nargs="+", help="parts to run: known, new, cities")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--size-px", type=int)
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a value of all recipes; may be repeated"
    )
    parser.add_argument("--jobs", type=int, default=1, help="runs at once")
    parser.add_argument("--work", type=Path, default=Path("proof"), help="folder of splits and runs")
    parser.add_argument("--write-only", action="store_true", help="only write the pages, from existing benchmarks")
    return parser.parse_args()


def tower(text: str) -> str | Path:
    """A tower's folder as a path, of which pages show only the name; other names unchanged."""
    return Path(text) if Path(text).is_dir() else text


if __name__ == "__main__":
    main()
