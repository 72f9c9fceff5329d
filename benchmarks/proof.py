"""The published results from beginning to end: splits, benchmarks, and the pages made of their figures.

    python benchmarks/proof.py cambridge    --manifest cam    --image-tower dinov2-small-9 --text-tower minilm-l6
    python benchmarks/proof.py eight-cities --manifest cities --image-tower dinov2-small-9 --text-tower minilm-l6
    python benchmarks/proof.py wuhan        --manifest wuhan  --image-tower dinov2-small-9 --text-tower minilm-l6

Each command is a `swclip` command and is shown before it runs; interrupted, the same line goes on. Under --work are the
splits and the benchmarks; docs/results/NAME.md and docs/images/NAME-*.png are written from their benchmark.json, which
`--write-only` does again without running anything. Eight cities without --manifest are generated first.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swclip.comparison.curves import write_curves
from swclip.comparison.markdown import comparison_markdown
from swclip.training.config import recipe_names

SYSTEMS = (
    "nearest-neighbour",
    "clip",
    "sw-clip",
    "sw-clip-template",
    "sw-clip-fourier",
    "sw-clip-no-text",
    "sw-clip-one-hot",
    "sw-clip-no-neighbourhood",
    "sw-clip-no-fairness",
    "sw-clip-random",
    "geoclip",
    "addressclip",
    "rank-n-contrast",
    "sw-clip-plus",
)
BASELINE, REFERENCE = "clip", "sw-clip"
NEED_TEXT = ("sw-clip-template",)
"""Systems that are nothing without a text tower: left out, and said so, where none is given."""

SEEDS = (0, 1, 2)
LEFT_OUT_SEEDS = (0,)
LEFT_OUT_SYSTEMS = ("nearest-neighbour", "clip", "sw-clip", "geoclip", "sw-clip-plus")
"""Leaving out each city in turn multiplies the runs by the number of cities."""


@dataclass(frozen=True)
class Part:
    """One split, or one family of splits, of a proof.

    Attributes:
        name: Of its splits and its folder.
        title: Its heading on the page.
        split: Arguments of `swclip split`.
        says: What it asks, a sentence.
    """

    name: str
    title: str
    split: tuple[str, ...]
    says: str


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
    "Whole blocks of 100 m are left out of training, with a buffer of 20 m.",
)
CITIES = Part(
    "cities",
    "New cities",
    ("--protocol", "new-city", "--all-cities"),
    "Each city is left out of training in turn; every query is answered by the model that did not see its city.",
)

PROOFS: dict[str, tuple[str, tuple[Part, ...]]] = {
    "cambridge": (
        "Cambridge, UK",
        (Part(KNOWN.name, KNOWN.title, (*KNOWN.split, "--hold-out", "place"), KNOWN.says), STREETS),
    ),
    "eight-cities": ("Eight generated cities", (KNOWN, STREETS, CITIES)),
    "wuhan": ("Wuhan, one drive with its real GPS accuracies", (KNOWN, STREETS)),
}


NOTES = {
    "wuhan": (
        "**A warning before any figure.** This is one drive: 1,152 frames of one film, about 5 m apart, one day; no "
        "street was passed twice. Known places therefore measures how well frames of one film match, not how well a "
        "place is known again on another day; new streets leaves blocks of the drive out. Errors are measured against "
        "the phone's own GPS, which states 10 m for itself in the median: differences of a few metres mean nothing. "
        "Hyper-parameters of the compared systems were chosen on Cambridge."
    )
}
"""What a reader must know before the first figure of a page."""


class Commands:
    """Runs `swclip` commands, and keeps them as a reader types them: with names for this machine's paths."""

    def __init__(self, names: dict[Path, str], run: bool) -> None:
        self._names, self._run = names, run
        self.shown: list[str] = []

    def __call__(self, *arguments: str | Path) -> None:
        """Run one, unless nothing is to be run."""
        self.shown.append(shlex.join(["swclip", *(self._name(argument) for argument in arguments)]))
        if not self._run:
            return
        print(f"$ {self.shown[-1]}", flush=True)
        done = subprocess.run([sys.executable, "-m", "swclip", *map(str, arguments)], check=False)
        if done.returncode:
            sys.exit(done.returncode)

    def _name(self, argument: str | Path) -> str:
        if isinstance(argument, str):
            return argument
        for path, name in self._names.items():
            if argument == path or path in argument.parents:
                return str(Path(name) / argument.relative_to(path))
        return argument.name


def main() -> None:
    """Run one of the proofs."""
    given = arguments()
    title, parts = PROOFS[given.proof]
    work: Path = given.work / given.proof
    manifest: Path | None = given.manifest
    data = manifest if manifest is not None else work / "data"
    names = {data: given.proof, work: "proof"}
    swclip = Commands(names, run=not given.write_only)
    if manifest is None:
        if given.proof != "eight-cities":
            sys.exit(f"error: {given.proof} needs --manifest: the photographs do not ship.")
        swclip("synth", "--out", data, "--photos-per-city", str(given.photos_per_city))
    systems, left_out = chosen_systems(given.systems, given.text_tower)
    chosen = [part for part in parts if given.only is None or part.name in given.only]
    for part in chosen:
        seeds = given.left_out_seeds if part is CITIES else given.seeds
        splits = work / "splits" / (part.name if part is CITIES else f"{part.name}.parquet")
        swclip("split", data, *part.split, "--out", splits)
        asked = chosen_systems(given.left_out_systems, given.text_tower)[0] if part is CITIES else systems
        swclip("benchmark", data, "--splits", splits, "--systems", *asked, "--seeds", *map(str, seeds),
               "--baseline", BASELINE, "--reference", REFERENCE, "--jobs", str(given.jobs),
               *training_options(given), "--out", work / part.name)  # fmt: skip
    found = {part: read(work / part.name / "benchmark.json") for part in chosen}
    write_page(given.docs, given.proof, title, found, swclip.shown, left_out)


def chosen_systems(wanted: list[str], text_tower: str | Path) -> tuple[list[str], list[str]]:
    """The systems to run, and sentences on those of the list that are not run."""
    said, systems = [], []
    known = {*recipe_names(), "nearest-neighbour"}
    for name in wanted:
        if name not in known and not name.endswith(".toml"):
            sys.exit(f"error: no recipe is called {name!r}; choose among {', '.join(sorted(known))} with --systems.")
        if name in NEED_TEXT and text_tower == "none":
            said.append(f"{name} is not among the systems: it needs a text tower, and none was used.")
        else:
            systems.append(name)
    return systems, said


def training_options(given: argparse.Namespace) -> list[str | Path]:
    """What replaces the recipes' own values, the same for every system."""
    tower = given.image_tower
    options: list[str | Path] = ["--image-tower", tower, "--text-tower", given.text_tower]
    if given.freeze_image:
        options += ["--freeze", "image"]
    for flag, value in (("--steps", given.steps), ("--batch-size", given.batch_size), ("--size-px", given.size_px)):
        options += [flag, str(value)] if value is not None else []
    for assignment in given.set:
        options += ["--set", assignment]
    return options


def read(path: Path) -> dict[str, Any]:
    """A comparison's document."""
    if not path.is_file():
        sys.exit(f"error: {path} is not there; run the proof without --write-only.")
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def write_page(
    docs: Path, name: str, title: str, found: dict[Part, dict[str, Any]], commands: list[str], left_out: list[str]
) -> None:
    """Write docs/results/NAME.md and its pictures."""
    first = next(iter(found.values()))["made_with"]
    versions = ", ".join(f"{key} {first[key]}" for key in ("swclip", "torch", "transformers", "numpy", "python"))
    text = [f"# {title}", *([NOTES[name]] if name in NOTES else [])]
    text += ["Errors are WGS84 geodesics in metres; shares are of all queries. Made by"]
    text += ["\n".join(f"    {command}" for command in commands)]
    text += [f"with {versions}; image tower {Path(str(first['image_tower'])).name}.", *left_out]
    for part, document in found.items():
        picture = docs / "images" / f"{name}-{part.name}.png"
        write_curves([picture], document, title=f"{title}: {part.title.lower()}")
        link = os.path.relpath(picture, docs / "results")
        text += [f"## {part.title}", part.says, comparison_markdown(document).rstrip()]
        text += [f"![Share of queries within each distance, {part.title.lower()}]({Path(link).as_posix()})"]
    page = docs / "results" / f"{name}.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n\n".join(text) + "\n", encoding="utf-8")
    print(page)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("proof", choices=list(PROOFS))
    parser.add_argument("--manifest", type=Path, help="what `swclip prepare` or `swclip synth` wrote")
    parser.add_argument("--photos-per-city", type=int, default=240, help="of generated cities")
    parser.add_argument("--image-tower", type=tower, default="builtin:small")
    parser.add_argument("--text-tower", type=tower, default="none", help="a tower, or none")
    parser.add_argument("--freeze-image", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--left-out-seeds", nargs="+", type=int, default=list(LEFT_OUT_SEEDS), help="of new cities")
    parser.add_argument("--left-out-systems", nargs="+", default=list(LEFT_OUT_SYSTEMS), help="of new cities")
    parser.add_argument("--only", nargs="+", help="known, new, cities: some of the parts")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--size-px", type=int)
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="of every recipe; again for more"
    )
    parser.add_argument("--jobs", type=int, default=1, help="runs at once")
    parser.add_argument("--work", type=Path, default=Path("proof"), help="where splits and runs are left")
    parser.add_argument("--docs", type=Path, default=Path(__file__).parent.parent / "docs")
    parser.add_argument("--write-only", action="store_true", help="write the pages again from what is there")
    return parser.parse_args()


def tower(text: str) -> str | Path:
    """A tower's folder as a path, so that a page names it without where it lies here; a name as it is."""
    return Path(text) if Path(text).is_dir() else text


if __name__ == "__main__":
    main()
