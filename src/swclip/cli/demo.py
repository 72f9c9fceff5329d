"""`swclip demo`: the whole workflow on generated cities, command by command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from swclip.cli.help import ADVANCED

if TYPE_CHECKING:
    from swclip.comparison.comparison import Comparison
    from swclip.comparison.document import ComparisonDocument, Difference
    from swclip.data.manifest import Manifest
    from swclip.data.splits import Splits

_CITIES = 2
_BATCH_SIZE = 256
_TOWER = "builtin:street"
_NAMES = {
    "nearest-neighbour": "nearest neighbour",
    "nearest-neighbour-whitened": "nearest neighbour, whitened",
    "clip": "CLIP",
    "sw-clip": "SW-CLIP",
}
_FIGURES = {"median": "median error", "within_25": "within 25 m", "within_100": "within 100 m"}


def demo(
    *,
    out: Path = Path("swclip-demo"),
    seed: int = 0,
    photos_per_city: Annotated[int, ADVANCED] = 800,
    steps: Annotated[int, ADVANCED] = 150,
    seeds: Annotated[int, ADVANCED, Parameter(name="--training-seeds")] = 3,
) -> None:
    """Run the whole workflow on generated cities.

    Generates two small cities, computes image features once with a small tower that is part of swclip
    (`builtin:street`, trained on other generated cities), trains CLIP and SW-CLIP on them with the same budget,
    compares them on known places and on new streets, and locates a photograph drawn by chance. Takes about three
    minutes on two processors, and needs no download and no GPU. Each step is printed as the command that does it. If
    interrupted, run the same command again to resume.

    Args:
        out: Output folder: cities, splits, runs, benchmark, gallery and a located photograph.
        seed: Seed of the cities, the splits and the located photograph.
        photos_per_city: Number of photographs per city.
        steps: Number of training steps of each system.
        seeds: Each system is trained with this number of seeds.

    Examples:
        swclip demo
        swclip demo --out elsewhere --seed 1
    """
    from swclip.cli.console import console
    from swclip.cli.index import index
    from swclip.data.manifest import read_manifest
    from swclip.data.splits import read_splits

    console.print(
        "About 3 minutes on two processors, without a GPU or a download. Interrupted, the same command resumes.",
        soft_wrap=True,
    )
    comparisons = compare_systems(out, seed, photos_per_city, steps, seeds)
    cities, results, gallery, known = out / "cities", out / "benchmark", out / "gallery", out / "known-places.parquet"
    manifest = read_manifest(cities)
    for protocol, comparison in comparisons.items():
        by_chance = random_place(read_splits(out / f"{protocol}.parquet"), manifest)
        _print_comparison(protocol, comparison.document, by_chance)
    console.print(
        "Known places: places beside the query were in training. New streets: nothing of its block was. Errors are of "
        "the densest place of each posterior; intervals are paired, over seeds and blocks of queries.",
        soft_wrap=True,
    )
    for protocol, comparison in comparisons.items():
        difference = comparison.document.systems["sw-clip"].difference
        assert difference is not None
        console.print(_outcome(protocol, difference.figures), soft_wrap=True)
    console.print(
        f"A system near the random place knows no more than the city. All see the streets by {_TOWER}, a small tower; "
        "why, and figures with larger towers and on real streets: docs/first-hour.md, docs/results.",
        soft_wrap=True,
    )

    run = results / "known-places" / "runs" / "sw-clip-0"
    _print_command("index", run, cities, "--splits", known, "--thumbnails 128 --out", gallery)
    index(run, cities, splits=known, out=str(gallery), thumbnails=128)

    _locate_one(out, gallery, manifest, read_splits(known), seed)
    _print_results(out)


def compare_systems(
    out: Path, seed: int, photos_per_city: int, steps: int, seeds: int, assignments: Sequence[str] = ()
) -> dict[str, Comparison]:
    """The part of the demo before the gallery: generate and split the cities, and compare the systems.

    Args:
        out: The demo's folder.
        seed: Seed of the cities and the splits.
        photos_per_city: Number of photographs per city.
        steps: Number of training steps of each system.
        seeds: Number of trainings of each system.
        assignments: Further values of the recipes, KEY=VALUE.

    Returns:
        The comparisons by protocol: known-places, new-streets.
    """
    import os

    from swclip.cli.console import console
    from swclip.cli.split import split
    from swclip.cli.synth import synth

    # The demo writes nothing outside its folder; image features are cached in it.
    os.environ["SWCLIP_CACHE"] = str(out / "cache")
    cities, known, new = out / "cities", out / "known-places.parquet", out / "new-streets.parquet"

    _print_command("synth", "--out", cities, "--cities", _CITIES, "--photos-per-city", photos_per_city, "--seed", seed)
    synth(out=cities, cities=_CITIES, photos_per_city=(photos_per_city,), seed=seed)

    _print_command("split", cities, "--protocol known-places --hold-out place --seed", seed, "--out", known)
    split(cities, protocol="known-places", hold_out="place", seed=seed, out=known)
    _print_command("split", cities, "--protocol new-streets --seed", seed, "--out", new)
    split(cities, protocol="new-streets", seed=seed, out=new)

    assignments = ("evaluate_every=0", "checkpoint_every=0", *assignments)
    commands = {
        splits: _print_command(
            "benchmark", cities, "--splits", splits, "--systems", *_NAMES, "--seeds", *range(seeds),
            "--image-tower", _TOWER, "--freeze image --text-tower none --steps", steps,
            "--batch-size", _BATCH_SIZE, *(f"--set {assignment}" for assignment in assignments),
            "--out", out / "benchmark" / splits.stem,
        )
        for splits in (known, new)
    }  # fmt: skip
    console.print("Both at a time, each with half of the processors; the bar is of the second.", soft_wrap=True)
    _compute_features(cities)
    jobs = [_Benchmark(cities, splits, steps, seeds, assignments, command) for splits, command in commands.items()]
    first, second = _both(*jobs)
    return {known.stem: first, new.stem: second}


def _compute_features(cities: Path) -> None:
    """Fill the cache with the features of all photographs, which otherwise both comparisons would compute."""
    from swclip.data.manifest import read_manifest
    from swclip.models.config import ImageConfig, LocationConfig, ModelConfig
    from swclip.models.feature_cache import FeatureCache
    from swclip.models.locator_model import LocatorModel
    from swclip.progress import progress_bar

    manifest = read_manifest(cities)
    config = ModelConfig(ImageConfig(tower=_TOWER), LocationConfig(text_tower="none"))
    with progress_bar("image features") as report:
        FeatureCache().features(
            LocatorModel.create(config, manifest.positions_deg), manifest.image_paths, progress=report
        )


@dataclass(frozen=True)
class _Benchmark:
    """The comparison of the systems on one protocol."""

    cities: Path
    splits: Path
    steps: int
    seeds: int
    assignments: Sequence[str]
    command: str

    def __call__(self, threads: int, progress: bool) -> Comparison:
        import torch

        from swclip.api.runs import benchmark
        from swclip.cli.options import RecipeOptions

        training = RecipeOptions(
            image_tower=[_TOWER], freeze="image", text_tower="none", steps=self.steps,
            batch_size=_BATCH_SIZE, assignments=list(self.assignments),
        )  # fmt: skip
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            done = benchmark(
                self.cities, self.splits, self.cities.with_name("benchmark") / self.splits.stem, systems=list(_NAMES),
                seeds=range(self.seeds), overrides=training.overrides(), command=self.command, progress=progress,
            )  # fmt: skip
        finally:
            torch.set_num_threads(before)
        (comparison,) = done.comparisons.values()
        return comparison


def _both(first: _Benchmark, second: _Benchmark) -> tuple[Comparison, Comparison]:
    """Two comparisons at a time: the first in a process of its own, the second here."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    import torch

    threads = max(1, torch.get_num_threads() // 2)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        there = pool.submit(first, threads, False)
        try:
            here = second(threads, True)
            return there.result(), here
        except BaseException:  # of a failure, or Ctrl-C: what is trained is kept, and the same command resumes
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _outcome(protocol: str, figures: Mapping[str, Difference]) -> str:
    """What the intervals of SW-CLIP minus CLIP support, in a sentence."""
    from swclip.comparison.document import is_gain

    verdicts: dict[str, list[str]] = {}
    for figure, name in _FIGURES.items():
        one = figures[figure]
        better = "SW-CLIP is better" if is_gain(figure, one) else "SW-CLIP is worse"
        verdicts.setdefault(better if one.excludes_zero else "no difference is supported", []).append(name)
    parts = [f"{verdict} ({', '.join(names)})" for verdict, names in verdicts.items()]
    return f"{protocol.replace('-', ' ').capitalize()}: {'; '.join(parts)}."


def _print_results(out: Path) -> None:
    """Print where the results are, and what to type next."""
    from swclip.cli.console import console

    results = out / "benchmark"
    console.print(f"\n[bold]Results[/bold] ({out.resolve()})", soft_wrap=True)
    for path, description in (
        (results / "known-places" / "benchmark.html", "the comparison on known places as a web page"),
        (results / "new-streets" / "benchmark.html", "the comparison on new streets"),
        (out / "located.png", "the located photograph and the map of its answer"),
    ):
        console.print(f"  {path}: {description}", soft_wrap=True, markup=False)
    console.print("\n[bold]What to type next[/bold]")
    for comment, line in (
        ("a page in the browser that locates a photograph and shows its candidates", f"swclip serve {out / 'gallery'}"),
        ("your own photographs, all steps at once: a folder with positions in EXIF, or a table", _QUICKSTART),
        ("the same step by step", "swclip prepare PHOTOGRAPHS --out data"),
        ("", "swclip split data --protocol known-places --out data/splits.parquet"),
        ("", f"swclip train data --splits data/splits.parquet {_PRETRAINED} --out runs/first"),
        ("", "swclip index runs/first data --out gallery"),
        ("", "swclip locate gallery PHOTOGRAPH"),
    ):
        if comment:
            console.print(f"  # {comment}", soft_wrap=True, markup=False)
        console.print(f"  {line}", soft_wrap=True, markup=False)


_TOWER_OF_STREETS = "--image-tower facebook/dinov2-small"
_PRETRAINED = f"{_TOWER_OF_STREETS} --freeze image"
_QUICKSTART = f"swclip quickstart PHOTOGRAPHS {_TOWER_OF_STREETS} --out first"


def _print_command(*words: str | Path | int) -> str:
    """Print a command before it runs; return it."""
    import shlex

    from swclip.cli.console import console

    # Words with spaces are several words of the command, not one to be quoted.
    parts = [word if isinstance(word, str) else shlex.quote(str(word)) for word in words]
    command = " ".join(["swclip", *parts])
    console.print(f"\n$ {command}", soft_wrap=True, markup=False, style="bold cyan")
    return command


def random_place(splits: Splits, manifest: Manifest) -> tuple[float, float, float]:
    """The error of an answer that knows the city alone, over all candidates of each query's city.

    Returns:
        Median in metres; shares within 25 and 100 m.
    """
    import numpy as np

    from swclip.data.splits import candidates_for, indices
    from swclip.geo.distance import pairwise_haversine_m

    queries = manifest.frame.iloc[indices(splits, manifest, "query")]
    candidates = candidates_for(splits, "query")
    errors_m, weights = [], []
    for city, in_city in queries.groupby("city"):
        answers = candidates[candidates["city"] == city]
        positions_deg = (rows[["lat_deg", "lon_deg"]].to_numpy() for rows in (in_city, answers))
        errors_m.append(pairwise_haversine_m(*positions_deg).ravel())
        weights.append(np.full(len(errors_m[-1]), 1.0 / len(answers)))  # each query counts once
    error_m, weight = np.concatenate(errors_m), np.concatenate(weights)
    order = np.argsort(error_m)
    share = np.cumsum(weight[order]) / weight.sum()
    within_25, within_100 = (np.average(error_m <= radius_m, weights=weight) for radius_m in (25.0, 100.0))
    return float(error_m[order][np.searchsorted(share, 0.5)]), float(within_25), float(within_100)


def _print_comparison(protocol: str, document: ComparisonDocument, by_chance: tuple[float, float, float]) -> None:
    """Print the systems in the order of `_NAMES`, and the paired difference of SW-CLIP from CLIP."""
    from swclip.cli.console import console, print_table
    from swclip.reporting.units import metres, percent, signed, signed_interval

    difference = document.systems["sw-clip"].difference
    assert difference is not None
    rows = [["a random place of its city", metres(by_chance[0]), *map(percent, by_chance[1:])]]
    for system, name in _NAMES.items():
        mean = document.systems[system].mean
        shares = [percent(mean.accuracy_within_m[radius]) for radius in ("25", "100")]
        rows.append([name, metres(mean.error_m.median), *shares])
    of_figures = {figure: difference.figures[figure] for figure in _FIGURES}
    rows.append(["SW-CLIP minus CLIP", *(signed(one.value, figure) for figure, one in of_figures.items())])
    intervals = [signed_interval(one.value, one.interval, figure) for figure, one in of_figures.items()]
    rows.append(["  95 % interval", *intervals])
    mean = document.systems["sw-clip"].mean
    seeds = f", mean of {mean.seeds} seeds" if mean.seeds > 1 else ""
    console.print()
    title = protocol.replace("-", " ").capitalize()
    print_table(f"{title}: {round(mean.n_queries):,} queries{seeds}", ["", *_FIGURES.values()], rows)


def _locate_one(out: Path, gallery: Path, manifest: Manifest, splits: Splits, seed: int) -> None:
    """Locate a query drawn by chance; copy and draw it, whether the answer is right or wrong."""
    import shutil

    import numpy as np

    from swclip.answers.formats import TEXT
    from swclip.cli.console import console
    from swclip.data.splits import indices
    from swclip.geo.distance import geodesic_m
    from swclip.reporting.answer_figure import write_located_figure
    from swclip.reporting.units import distance
    from swclip.retrieval.locator import Locator

    row = int(np.random.default_rng(seed).choice(indices(splits, manifest, "query")))
    photograph = out / f"query{manifest.image_paths[row].suffix}"
    shutil.copyfile(manifest.image_paths[row], photograph)
    _print_command("locate", gallery, photograph, "--figure", out / "located.png")
    locator = Locator.from_gallery(gallery)
    (answer,) = locator.locate([photograph])
    point, truth = np.array([answer.lat_deg, answer.lon_deg]), manifest.positions_deg[row]
    near_50m = answer.probability_within_50m or 0.0
    console.print(TEXT.item(answer).rstrip(), markup=False, soft_wrap=True)
    error = distance(float(geodesic_m(point, truth)[0]))
    console.print(f"The true position of this query, which was drawn by chance, is {error} away.", soft_wrap=True)
    write_located_figure(
        out / "located.png",
        photograph,
        locator.gallery.positions_deg,
        locator.posterior_of(photograph),
        point,
        near_50m=near_50m,
        truth_deg=truth,
        place=answer.candidates[0].city,
    )
