"""Several draws of the splits: new splits, resumed runs, and figures over all draws with their intervals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import swclip
from comparison.test_benchmark import TINY
from swclip.comparison.document import read_document
from swclip.comparison.draws import DrawResamples, draw_splits, interval_over_draws
from swclip.comparison.tables import console_draws_table
from swclip.data.manifest import Manifest, read_manifest
from swclip.data.protocols import split
from swclip.data.splits import Splits
from swclip.errors import ConfigError, InputError
from swclip.metrics.bootstrap import resample_blocks, resample_statistics
from swclip.models.feature_cache import FeatureCache


@pytest.fixture(scope="module")
def data(town: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, Splits]:
    manifest = read_manifest(town)
    path = tmp_path_factory.mktemp("draws") / "splits.parquet"
    return manifest, split(manifest, "known-places", query_share=0.3, val_share=0.2, seed=4).write(path)


def test_draws_have_the_parameters_of_the_first_and_other_queries(
    data: tuple[Manifest, Splits], tmp_path: Path
) -> None:
    manifest, first = data
    draws = draw_splits(manifest, first, 3, tmp_path)
    assert draws[0] is first
    assert [one.meta["seed"] - first.meta["seed"] for one in draws] == [0, 1, 2]
    queries = []
    for one in draws:
        for key in ("protocol", "parameters", "manifest_digest"):
            assert one.meta[key] == first.meta[key]
        queries.append(frozenset(one.frame.loc[one.frame["split"] == "query", "image_id"]))
    assert len(set(queries)) == 3
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    again = draw_splits(manifest, first, 3, tmp_path)
    assert [one.frame.equals(other.frame) for one, other in zip(draws, again, strict=True)] == [True] * 3
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")} == before
    bare = replace(first, meta={**first.meta, "parameters": {"query_share": 0.2}})
    with pytest.raises(ConfigError, match="does not record block_m, buffer_m"):
        draw_splits(manifest, bare, 2, tmp_path)
    other = split(manifest, first.meta["protocol"], query_share=0.4, seed=4).in_memory()
    with pytest.raises(ConfigError, match="a draw with other parameters"):
        draw_splits(manifest, other, 2, tmp_path)
    city = split(manifest, "new-city", city="York", block_m=60.0, buffer_m=0.0).in_memory()
    with pytest.raises(ConfigError, match="not new-city; `swclip split --all-cities`"):
        draw_splits(manifest, city, 2, tmp_path)


@pytest.mark.slow
def test_claims_are_over_all_draws_and_finished_draws_are_kept(data: tuple[Manifest, Splits], tmp_path: Path) -> None:
    manifest, first = data
    told: list[str] = []

    def benchmark() -> swclip.comparison.benchmark.Benchmark:
        told.clear()
        return swclip.benchmark(
            manifest,
            first,
            tmp_path / "out",
            systems=["nearest-neighbour", "clip"],
            overrides=TINY,
            draws=2,
            cache=FeatureCache(tmp_path / "cache"),
            progress=lambda task, *_: told.append(task),
        )

    done = benchmark()
    seeds = [first.meta["seed"], first.meta["seed"] + 1]
    assert [path.relative_to(tmp_path / "out").as_posix() for path in done.files] == [
        "benchmark.json",
        f"draws/seed-{seeds[1]}/benchmark.json",
    ]
    document, second = (read_document(path) for path in done.files)
    draws = document.draws
    assert draws is not None
    assert (draws.seeds, second.draws) == (seeds, None)
    difference = draws.systems["nearest-neighbour"].difference
    assert difference is not None
    for figure, one in difference.figures.items():
        # Paired within each draw.
        each = [part.systems["nearest-neighbour"].difference.figures[figure].value for part in (document, second)]
        assert one.by_draw == pytest.approx(each)
        assert one.value == pytest.approx(np.mean(each))
        assert one.low <= one.value <= one.high
        if figure.startswith("within"):
            assert -1.0 <= one.low <= one.high <= 1.0
    assert document.reading is not None
    assert "over 2 draws of the splits (seeds" in " ".join(document.reading)
    title, columns, rows = console_draws_table(document)
    assert "Over 2 draws" in title
    assert {row[0] for row in rows} == {"nearest-neighbour", "clip"}
    assert {len(row) for row in rows} == {len(columns)}
    page = (tmp_path / "out" / "benchmark.html").read_text()
    assert "Difference from clip in each draw" in page
    assert any("training" in task for task in told)
    again = benchmark()
    assert not any("training" in task for task in told), "finished runs are not trained again"
    assert again.comparisons["splits"].document.draws == draws


def test_draws_need_one_splits_file(data: tuple[Manifest, Splits], tmp_path: Path) -> None:
    other = split(data[0], data[1].meta["protocol"], seed=5).write(tmp_path / "other.parquet")
    with pytest.raises(ConfigError, match="--draws 2 with 2 splits files"):
        swclip.benchmark(data[0], [data[1], other], tmp_path / "out", systems=["clip"], draws=2)
    with pytest.raises(ConfigError, match="--draws 0"):
        swclip.benchmark(data[0], data[1], tmp_path / "out", systems=["clip"], draws=0)


DRAWS, SEEDS, BLOCKS, RESAMPLES = 5, 2, 20, 100


def simulated(
    generator: np.random.Generator, draw_sd: float, seed_sd: float, block_sd: float
) -> tuple[float, list[np.ndarray]]:
    """The mean of a figure over draws whose true value is 0, and by draw its resamples for each seed."""
    values, statistics = [], []
    for _ in range(DRAWS):
        block = generator.normal(generator.normal(0.0, draw_sd), block_sd, BLOCKS)
        runs = block + generator.normal(0.0, seed_sd, (SEEDS, 1))
        drawn = generator.integers(BLOCKS, size=(RESAMPLES, BLOCKS))
        values.append(runs.mean())
        statistics.append(runs[:, drawn].mean(axis=2))
    return float(np.mean(values)), statistics


@pytest.mark.parametrize(
    ("draw_sd", "seed_sd", "block_sd"),
    [
        pytest.param(1.0, 0.1, 0.1, id="draws differ most"),
        pytest.param(0.1, 1.0, 0.1, id="seeds differ most"),
        pytest.param(0.3, 0.3, 2.0, id="all"),
    ],
)
def test_intervals_cover_and_p_values_keep_their_level(draw_sd: float, seed_sd: float, block_sd: float) -> None:
    generator = np.random.default_rng(11)
    resamples = DrawResamples.of(DRAWS, SEEDS, RESAMPLES, generator)
    covered, significant, agree = 0, 0, 0
    for _ in range(80):
        value, statistics = simulated(generator, draw_sd, seed_sd, block_sd)
        interval = interval_over_draws(value, resamples.means(statistics), DRAWS)
        covers = interval.low <= 0.0 <= interval.high
        covered, significant = covered + covers, significant + (interval.p <= 0.05)
        agree += covers == (interval.p > 0.05)
    assert covered >= 0.9 * 80
    assert significant <= 0.1 * 80
    assert agree >= 79  # a p-value at the threshold may round


def test_intervals_of_one_draw_alone_would_not_cover() -> None:
    generator = np.random.default_rng(12)
    covered = 0
    for _ in range(80):
        errors = generator.normal(generator.normal(0.0, 1.0), 0.1, BLOCKS)
        resampled = resample_blocks(range(BLOCKS), 60, generator)
        interval = resample_statistics(errors, resampled, {"mean": lambda values: float(values.mean())}).intervals()
        covered += interval["mean"].low <= 0.0 <= interval["mean"].high
    assert covered < 0.3 * 80


def test_a_clear_difference_is_significant_and_paired_seeds_cancel() -> None:
    generator = np.random.default_rng(13)
    resamples = DrawResamples.of(DRAWS, SEEDS, RESAMPLES, generator)
    _, statistics = simulated(generator, 5.0, 5.0, 5.0)
    better = [one - 3.0 for one in statistics]
    samples = resamples.means(better) - resamples.means(statistics)
    assert samples == pytest.approx(-3.0)
    interval = interval_over_draws(-3.0, samples, DRAWS)
    assert interval.p < 0.001
    assert interval.high < 0.0


def test_one_draw_is_refused() -> None:
    with pytest.raises(InputError, match="at least 2"):
        DrawResamples.of(1, 1, 10, np.random.default_rng(0))
