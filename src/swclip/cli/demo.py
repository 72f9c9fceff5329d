"""`swclip demo`: the whole workflow on generated cities, command by command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swclip.data.manifest import Manifest
    from swclip.data.splits import Splits


_QUERIES = 64


def demo(
    *,
    out: Path = Path("swclip-demo"),
    photos_per_city: int = 240,
    steps: int = 450,
    seed: int = 0,
) -> None:
    """Run the whole workflow on generated cities.

    Generates eight small cities, trains CLIP and SW-CLIP from scratch with the same budget, compares them, and locates
    a photograph. Needs no download and no GPU. Each step is printed as the command that does it. If interrupted, run
    the same command again to resume.

    Args:
        out: Output folder: cities, splits, runs, benchmark, gallery and a located photograph.
        photos_per_city: Number of photographs per city.
        steps: Number of training steps of each system.
        seed: Seed of cities, splits and training.

    Examples:
        swclip demo
        swclip demo --out elsewhere --seed 1
    """
    import os

    from swclip.cli.benchmark import benchmark
    from swclip.cli.console import console
    from swclip.cli.index import index
    from swclip.cli.options import RecipeOptions
    from swclip.cli.split import split
    from swclip.cli.synth import synth
    from swclip.data.manifest import read_manifest
    from swclip.data.splits import read_splits

    # The demo writes nothing outside its folder; image features are cached in it.
    os.environ["SWCLIP_CACHE"] = str(out / "cache")
    cities, splits, results, gallery = out / "cities", out / "splits.parquet", out / "benchmark", out / "gallery"

    _print_command(f"swclip synth --out {cities} --photos-per-city {photos_per_city} --seed {seed}")
    synth(out=cities, photos_per_city=(photos_per_city,), seed=seed)

    _print_command(f"swclip split {cities} --protocol known-places --seed {seed} --out {splits}")
    split(cities, protocol="known-places", seed=seed, out=splits)

    _print_command(
        f"swclip benchmark {cities} --splits {splits} --systems nearest-neighbour nearest-neighbour-whitened "
        f"clip sw-clip --seeds {seed} "
        f"--size-px 64 --batch-size 128 --steps {steps} --out {results}"
    )
    benchmark(
        cities,
        splits=[splits],
        out=results,
        seeds=[seed],
        options=RecipeOptions(size_px=64, batch_size=128, steps=steps),
    )

    run = results / "runs" / f"sw-clip-{seed}"
    _print_command(f"swclip index {run} {cities} --splits {splits} --out {gallery}")
    index(run, cities, splits=splits, out=str(gallery))

    table = read_manifest(cities)
    _locate_one(out, gallery, table, read_splits(splits), seed)
    console.print(f"\n[bold]Results[/bold] ({out.resolve()})", soft_wrap=True)
    for path, description in (
        (results / "benchmark.html", "the comparison as a web page"),
        (results / "benchmark.json", "the comparison as JSON"),
        (out / "located.png", "the located photograph and the map of its answer"),
        (gallery, f"the gallery; to locate another photograph: swclip locate {gallery} PHOTOGRAPH"),
        (cities, "the generated photographs and their manifest"),
    ):
        console.print(f"  {path}: {description}", soft_wrap=True, markup=False)


def _print_command(command: str) -> None:
    from swclip.cli.console import console

    console.print(f"\n[bold cyan]$ {command}[/bold cyan]", soft_wrap=True)


def _locate_one(out: Path, gallery: Path, manifest: Manifest, splits: Splits, seed: int) -> None:
    """Locate a sample of queries; copy and draw the most confident one, whether its answer is right or wrong."""
    import shutil

    import numpy as np

    from swclip.cli.console import console
    from swclip.data.splits import indices
    from swclip.geo.distance import geodesic_m
    from swclip.reporting.answer_figure import write_located_figure
    from swclip.reporting.units import distance
    from swclip.retrieval.locator import Locator

    queries = indices(splits, manifest, "query")
    rows = np.random.default_rng(seed).permutation(queries)[:_QUERIES]
    locator = Locator.from_gallery(gallery)
    answers = locator.locate([manifest.image_paths[row] for row in rows])
    confidence = [answer.probability_within_50m or 0.0 for answer in answers]
    row, answer = rows[int(np.argmax(confidence))], answers[int(np.argmax(confidence))]
    photograph = out / f"query{manifest.image_paths[row].suffix}"
    shutil.copyfile(manifest.image_paths[row], photograph)
    _print_command(f"swclip locate {gallery} {photograph} --figure {out / 'located.png'}")
    point, truth = np.array([answer.lat_deg, answer.lon_deg]), manifest.positions_deg[row]
    error = float(geodesic_m(point, truth)[0])
    console.print(
        f"{photograph}: {answer.candidates[0].city}, {answer.lat_deg:.5f}, {answer.lon_deg:.5f}; "
        f"{max(confidence):.0%} within 50 m; {distance(error)} from the true position "
        f"(the most confident answer of {len(rows)} queries)",
        markup=False,
        soft_wrap=True,
    )
    write_located_figure(
        out / "located.png",
        photograph,
        locator.gallery.positions_deg,
        locator.posterior_of(photograph),
        point,
        near_50m=answer.probability_within_50m or 0.0,
        truth_deg=truth,
        place=answer.candidates[0].city,
    )
