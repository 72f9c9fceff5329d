"""`swclip quickstart`: from photographs with positions to a report and a gallery, command by command."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from swclip.cli.help import ADVANCED

BUILT_IN, PRETRAINED = "builtin:street", "facebook/dinov2-small"
"""The image tower, which is part of swclip, and the one that is recommended for results."""

# Seconds per row of a training step of the recipe with a frozen tower and without a text tower, on two cores.
_ROW_S = 0.0005
_BATCH, _SAMPLE = 512, 6


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        words: The words after `swclip`.
        output: A file that exists when the command is done.
    """

    words: tuple[str, ...]
    output: Path


def quickstart(
    photographs: Path,
    /,
    *,
    out: Path,
    city: str | None = None,
    protocol: Literal["known-places", "new-streets"] = "known-places",
    image_tower: str = BUILT_IN,
    steps: Annotated[int, ADVANCED] = 300,
    seed: Annotated[int, ADVANCED] = 0,
) -> None:
    """Go from photographs with positions to a report and a gallery.

    Runs prepare, split, train, evaluate and index with defaults. States the time that it will take, and shows each
    command as it would be typed. If a command fails or is interrupted, run the same command again: what is done is not
    repeated.

    The image tower is builtin:street, which is part of swclip, so that nothing is downloaded. It was trained on
    generated streets: for results, name a tower that was trained on photographs, such as
    `--image-tower facebook/dinov2-small`, which is downloaded once. The tower is kept frozen.

    Args:
        photographs: A folder (positions from EXIF), or a CSV, TSV, Parquet, GeoParquet or GeoJSON file.
        out: Output folder: data, run, report and gallery.
        city: City of all photographs, where the table has none.
        protocol: How the queries are chosen. known-places: each query is near a training photograph. new-streets: whole
            blocks are held out.
        image_tower: Image tower: builtin:street, a name on the model hub, or a local folder.
        steps: Number of training steps.
        seed: Seed of the splits and of the training.

    Examples:
        swclip quickstart photographs --out first
        # a pretrained tower, downloaded once (88 MB)
        swclip quickstart photographs --image-tower facebook/dinov2-small --out second
        # a table; queries on streets that no training photograph shows
        swclip quickstart trip.csv --city Leeds --protocol new-streets --out leeds
    """
    from swclip.cli.app import app
    from swclip.cli.console import console, next_step, shell
    from swclip.files import read_json, write_json

    commands = _commands(photographs, out, city, protocol, image_tower, steps, seed)
    record = out / "quickstart.json"
    done = [tuple(words) for words in read_json(record, "the record of the quickstart")] if record.exists() else []
    kept = 0
    while (
        kept < min(len(done), len(commands)) and done[kept] == commands[kept].words and commands[kept].output.exists()
    ):
        kept += 1
    if kept == 0:
        console.print(_estimate(photographs, image_tower, steps), markup=False, soft_wrap=True)
    for number, step in enumerate(commands):
        console.print(f"\n$ {shell('swclip', *step.words)}", style="bold cyan", markup=False, soft_wrap=True)
        if number < kept:
            console.print("done before", markup=False)
            continue
        with _typed(step.words):
            app(step.words, result_action="return_value", exit_on_error=False, print_error=False)
        write_json(record, [list(earlier.words) for earlier in commands[: number + 1]])
    console.print(f"\nReport: {out / 'report' / 'report.html'}", markup=False, soft_wrap=True)
    console.print(f"Gallery: {out / 'gallery'}", markup=False, soft_wrap=True)
    if image_tower == BUILT_IN:
        console.print(
            f"{BUILT_IN} was trained on generated streets. For results on yours: --image-tower {PRETRAINED} (88 MB, "
            "downloaded once), with another --out.",
            markup=False,
            soft_wrap=True,
        )
    next_step("quickstart", "swclip", "locate", out / "gallery", "PHOTOGRAPH", "--figure", "map.png")


def _commands(
    photographs: Path, out: Path, city: str | None, protocol: str, tower: str, steps: int, seed: int
) -> list[Step]:
    data, run, report, gallery = out / "data", out / "run", out / "report", out / "gallery"
    splits = data / "splits.parquet"
    of_city = () if city is None else ("--city", city)
    chosen = ("--protocol", protocol, "--seed", str(seed))
    model = ("--image-tower", tower, "--freeze", "image", "--text-tower", "none")
    trained = ("--steps", str(steps), "--seed", str(seed))
    lines: list[tuple[tuple[str | Path, ...], Path]] = [
        (("prepare", photographs, *of_city, "--out", data), data / "manifest.parquet"),
        (("split", data, *chosen, "--out", splits), splits),
        (("train", data, "--splits", splits, *model, *trained, "--out", run), run / "run.json"),
        (("evaluate", run, "--out", report), report / "report.json"),
        (("index", run, data, "--thumbnails", "160", "--out", gallery), gallery / "gallery.json"),
    ]
    return [Step(tuple(map(str, words)), output) for words, output in lines]


@contextmanager
def _typed(words: Sequence[str]) -> Iterator[None]:
    """Let records name a command as if it had been typed, and not the quickstart."""
    before = sys.argv
    sys.argv = ["swclip", *words]
    try:
        yield
    finally:
        sys.argv = before


def _estimate(photographs: Path, tower: str, steps: int) -> str:
    """A sentence about the time, measured with a few of the photographs."""
    import os

    names = _names(photographs)
    decode_s, features_s = _seconds_per_photograph(names, tower)
    step_s = min(_BATCH, len(names)) * _ROW_S * max(1.0, 2 / (os.cpu_count() or 1))
    # Photographs are decoded to be verified, for their perceptual hash, for the features and for thumbnails.
    each_s = 4 * decode_s + features_s
    total = len(names) * each_s + steps * step_s + 20.0
    minutes = f"{total / 60:.0f} min" if total >= 90 else f"{10 * round(total / 10):.0f} s"
    return f"About {minutes}: {len(names):,} photographs, {each_s:.2g} s for each; {steps} training steps with {tower}."


def _names(photographs: Path) -> list[str]:
    from swclip.ingest.named_photographs import photographs_at, read_name_list

    if photographs.is_dir():
        return [str(path) for path in photographs_at(str(photographs))]
    return read_name_list(photographs, None)


def _seconds_per_photograph(names: Sequence[str], tower: str) -> tuple[float, float]:
    """Seconds for decoding a photograph, and for its features, from a few that can be read."""
    import time

    import torch

    from swclip.errors import SwclipError
    from swclip.imaging.decode import decode_photograph
    from swclip.models.config import ImageConfig
    from swclip.models.image_tower import ImageTower, image_preprocess

    config = ImageConfig(tower=tower)
    network = ImageTower(config).eval()
    preprocess = image_preprocess(config, network)
    decode_s, features_s, used = 0.0, 0.0, 0
    for name in names[:: max(1, len(names) // _SAMPLE)][: _SAMPLE + 1]:
        try:
            began = time.perf_counter()
            image = decode_photograph(name)
            read = time.perf_counter()
        except SwclipError:  # `prepare` names it
            continue
        with torch.inference_mode():
            network(torch.from_numpy(preprocess(image))[None])
        if used:  # the first one also pays for the start of the libraries
            decode_s, features_s = decode_s + read - began, features_s + time.perf_counter() - read
        used += 1
    return (decode_s / (used - 1), features_s / (used - 1)) if used > 1 else (0.03, 0.05)
