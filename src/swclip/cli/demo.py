"""`swclip demo`: the whole way on generated cities, verb by verb, as a person would type it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swclip.data.manifest import Manifest
    from swclip.data.splits import Splits


_LOCATED = 64


def demo(
    *,
    out: Path = Path("swclip-demo"),
    photos_per_city: int = 240,
    steps: int = 450,
    seed: int = 0,
) -> None:
    """Generate eight small cities, train CLIP and SW-CLIP from scratch with the same budget, compare, and locate.

    Needs no download and no GPU. Each step is the verb of that name, shown as it would be typed. Interrupted, the same
    command goes on.

    Args:
        out: Where everything is left: cities, splits, runs, benchmark, gallery, a located photograph.
        photos_per_city: Photographs generated in each city.
        steps: Training steps of each system.
        seed: Seed of everything.
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

    # The demo leaves nothing outside its folder, image features included.
    os.environ["SWCLIP_CACHE"] = str(out / "cache")
    cities, splits, results, gallery = out / "cities", out / "splits.parquet", out / "benchmark", out / "gallery"

    _say(f"swclip synth --out {cities} --photos-per-city {photos_per_city} --seed {seed}")
    synth(out=cities, photos_per_city=(photos_per_city,), seed=seed)

    _say(f"swclip split {cities} --protocol known-places --seed {seed} --out {splits}")
    split(cities, protocol="known-places", seed=seed, out=splits)

    _say(
        f"swclip benchmark {cities} --splits {splits} --systems nearest-neighbour clip sw-clip --seeds {seed} "
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
    _say(f"swclip index {run} {cities} --splits {splits} --out {gallery}")
    index(run, cities, splits=splits, out=str(gallery))

    table = read_manifest(cities)
    photograph = _locate_one(out, gallery, table, read_splits(splits), seed)
    console.print(f"\n[bold]Where things are[/bold] ({out.resolve()})", soft_wrap=True)
    for path, what in (
        (results / "benchmark.html", "the comparison as a page"),
        (results / "benchmark.json", "the same for programs"),
        (out / "located.png", "the photograph that was located, and the map"),
        (gallery, f"the gallery; ask it again: swclip locate {gallery} {photograph}"),
        (cities, "the cities' photographs and their manifest"),
    ):
        console.print(f"  {path}: {what}", soft_wrap=True, markup=False)


def _say(command: str) -> None:
    from swclip.cli.console import console

    console.print(f"\n[bold cyan]$ {command}[/bold cyan]", soft_wrap=True)


def _locate_one(out: Path, gallery: Path, manifest: Manifest, splits: Splits, seed: int) -> Path:
    """Locate some queries, keep a copy of the one whose answer is the surest and draw it, right or wrong."""
    import shutil

    import numpy as np

    from swclip.cli.console import console
    from swclip.data.splits import indices
    from swclip.geo.distance import geodesic_m
    from swclip.reporting.answer_figure import write_located_figure
    from swclip.reporting.units import distance
    from swclip.retrieval.locator import Locator

    queries = indices(splits, manifest, "query")
    rows = np.random.default_rng(seed).permutation(queries)[:_LOCATED]
    locator = Locator.from_gallery(gallery)
    answers = locator.locate([manifest.image_paths[row] for row in rows])
    sure = [answer.probability_within_50m or 0.0 for answer in answers]
    row, answer = rows[int(np.argmax(sure))], answers[int(np.argmax(sure))]
    photograph = out / f"query{manifest.image_paths[row].suffix}"
    shutil.copyfile(manifest.image_paths[row], photograph)
    _say(f"swclip locate {gallery} {photograph} --figure {out / 'located.png'}")
    point, truth = np.array([answer.lat_deg, answer.lon_deg]), manifest.positions_deg[row]
    error = float(geodesic_m(point, truth)[0])
    console.print(
        f"{photograph}: {answer.candidates[0].city}, {answer.lat_deg:.5f}, {answer.lon_deg:.5f}; "
        f"{max(sure):.0%} within 50 m; {distance(error)} from the true place "
        f"(of {len(rows)} queries, the one the model is surest of)",
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
    return photograph
