"""Benchmarks in one and several processes, on one and several splits, and failed runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from swclip.comparison.benchmark import run_benchmarks
from swclip.comparison.benchmark_runs import same_configuration, system_config
from swclip.comparison.comparison import Comparison
from swclip.data.manifest import Manifest, read_manifest
from swclip.data.protocols import split
from swclip.data.splits import Splits, read_splits
from swclip.errors import ConfigError, SwclipError
from swclip.models.feature_cache import FeatureCache
from swclip.training.config import TrainingConfig, load_recipe
from swclip.training.run import sole_trainer

pytestmark = pytest.mark.slow

TINY: dict[str, Any] = {
    "steps": 4,
    "freeze_image": True,
    "batch": {"size": 16},
    "model": {
        "embedding_dim": 8,
        "image": {"size_px": 32, "head_width": 16},
        "location": {"text_tower": "none", "grid_levels": 2, "grid_log2_size": 6, "hidden_width": 16},
    },
}


@pytest.fixture
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(town: Path) -> tuple[Manifest, Splits]:
    return read_manifest(town), read_splits(town / "splits.parquet")


@pytest.fixture(scope="module")
def left_out(data: tuple[Manifest, Splits], tmp_path_factory: pytest.TempPathFactory) -> list[Splits]:
    folder = tmp_path_factory.mktemp("left-out")
    return [
        split(data[0], "new-city", city=city, block_m=60.0, buffer_m=0.0, query_share=0.4, val_share=0.4).write(
            folder / f"{city}.parquet"
        )
        for city in ("Leeds", "York")
    ]


def plain(comparison: Comparison) -> Any:
    """The systems of the document without paths."""
    document = comparison.document.as_dict()
    for system in document["systems"].values():
        for report in system["seeds"].values():
            report.pop("made_with")
        system["mean"].pop("made_with")
    return document["systems"]


@pytest.mark.usefixtures("one_thread")
def test_parallel_runs_equal_sequential_runs(data: tuple[Manifest, Splits], tmp_path: Path) -> None:
    systems, seeds, found = ["nearest-neighbour", "sw-clip"], [0, 1], {}
    progress: dict[int, list[tuple[str, int, int]]] = {1: [], 2: []}
    for jobs in (1, 2):
        benchmark = run_benchmarks(
            data[0],
            [data[1]],
            systems,
            seeds,
            tmp_path / str(jobs),
            overrides=TINY,
            baseline="sw-clip",
            cache=FeatureCache(tmp_path / f"cache-{jobs}"),
            jobs=jobs,
            progress=lambda *what, told=progress[jobs]: told.append(what),
        )
        assert benchmark.failures == []
        found[jobs] = benchmark.comparisons["splits"]
    assert plain(found[1]) == plain(found[2])
    for run in ("sw-clip-0", "sw-clip-1"):
        for name in ("model.safetensors", "posterior.json"):
            one, two = (tmp_path / str(jobs) / "runs" / run / "model" / name for jobs in (1, 2))
            assert one.read_bytes() == two.read_bytes()
    # A run starts before the features of later towers are computed, and computes none that an earlier one did.
    sequential, parallel = progress[1], progress[2]
    tasks = [task for task, *_ in sequential]
    assert tasks.index("sw-clip, seed 0: training") < tasks.index("sw-clip, seed 1: image features")
    assert ("sw-clip, seed 1: training", 4, 4) in parallel
    for told, shares in ((sequential, "sw-clip, seed 0"), (parallel, "nearest-neighbour")):
        _, done, total = next(what for what in told if what[0] == f"{shares}: image features")
        assert done == total


def test_one_estimator_is_chosen_for_all_systems(data: tuple[Manifest, Splits], tmp_path: Path) -> None:
    values: dict[str, Any] = {"overrides": TINY, "cache": FeatureCache(tmp_path / "cache")}
    systems = ["nearest-neighbour", "nearest-neighbour-whitened", "clip"]
    by_mode = run_benchmarks(data[0], [data[1]], systems, [0], tmp_path / "out", **values).comparisons["splits"]
    assert by_mode.document.estimator == "mode"
    nearest = next(iter(by_mode.evaluations["nearest-neighbour"].values())).report
    # Its posterior is fitted on validation queries, as those of the others.
    assert nearest.posterior["image_weight"] == 1.0
    assert (nearest.posterior["image_temperature"], nearest.posterior["smoothing_m"]) != (0.002, 0.0)
    whitened = next(iter(by_mode.evaluations["nearest-neighbour-whitened"].values())).report
    assert whitened.posterior["image_weight"] == 1.0
    assert whitened.error_m != nearest.error_m
    chosen = run_benchmarks(
        data[0], [data[1]], systems, [0], tmp_path / "out", estimator="validation", **values
    ).comparisons["splits"]
    losses = chosen.document.made_with["estimator_choice"]["losses"]
    assert chosen.document.estimator == min(losses, key=lambda name: losses[name])
    for name in systems:
        (one,), (other,) = (found.evaluations[name].values() for found in (by_mode, chosen))
        assert one.report.estimators == other.report.estimators
        assert other.report.error_m == one.report.estimators[chosen.document.estimator].error_m
    without = split(data[0], "known-places", val_share=0.0).write(tmp_path / "no-val.parquet")
    with pytest.raises(ConfigError, match=r"no-val\.parquet: has no validation queries"):
        run_benchmarks(data[0], [without], systems, [0], tmp_path / "none", estimator="validation", **values)


def test_failed_run_is_named_and_others_are_kept(data: tuple[Manifest, Splits], tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "cache")
    values: dict[str, Any] = {"overrides": TINY, "cache": cache}
    manifest, splits = data
    run_benchmarks(manifest, [splits], ["clip"], [3], tmp_path / "out", **values)
    (tmp_path / "out" / "runs" / "clip-3").rename(tmp_path / "out" / "runs" / "sw-clip-3")  # in the way
    systems = ["nearest-neighbour", "sw-clip", "clip"]
    found = run_benchmarks(manifest, [splits], systems, [3], tmp_path / "out", **values)
    assert found.comparisons == {}
    with pytest.raises(ConfigError, match=r"1 of 3 runs failed\. sw-clip, seed 3: .*another configuration") as error:
        found.raise_failures()
    assert "The other 2 are kept" in str(error.value)
    done = json.loads((tmp_path / "out" / "runs" / "clip-3" / "run.json").read_text())
    assert done["status"] == "finished"


def test_held_out_cities_are_pooled(data: tuple[Manifest, Splits], left_out: list[Splits], tmp_path: Path) -> None:
    found = run_benchmarks(
        data[0], left_out, ["nearest-neighbour", "clip"], [0], tmp_path, overrides=TINY, cache=FeatureCache(tmp_path)
    )
    assert list(found.comparisons) == ["Leeds", "York"]
    assert (tmp_path / "York" / "runs" / "clip-0" / "run.json").is_file()
    assert found.pooled is not None
    for system in ("nearest-neighbour", "clip"):
        parts = [one.document.systems[system].mean for one in found.comparisons.values()]
        pooled = found.pooled.document.systems[system].mean
        assert pooled.n_queries == sum(part.n_queries for part in parts) == len(data[0].frame)
        for part, city in zip(parts, ("Leeds", "York"), strict=True):
            assert pooled.by_region[city].median == part.by_region[city].median
    # The same city twice shares its queries: nothing to pool.
    again = split(data[0], "new-city", city="York", block_m=60.0, buffer_m=0.0, val_share=0.4, seed=9)
    twice = [left_out[1], again.write(tmp_path / "other.parquet")]
    alone = run_benchmarks(data[0], twice, ["nearest-neighbour"], [0], tmp_path / "o", overrides=TINY)
    assert alone.pooled is None


def test_repeated_names_and_seeds_raise(data: tuple[Manifest, Splits], left_out: list[Splits], tmp_path: Path) -> None:
    manifest, splits = data
    with pytest.raises(ConfigError, match="a seed is repeated"):
        run_benchmarks(manifest, [splits], ["clip"], [0, 0], tmp_path)
    with pytest.raises(ConfigError, match="two of the systems have the same name"):
        run_benchmarks(manifest, [splits], ["clip", "clip"], [0], tmp_path)
    with pytest.raises(ConfigError, match="two of the splits files have the same name"):
        run_benchmarks(manifest, [left_out[0], left_out[0]], ["clip"], [0], tmp_path)
    with pytest.raises(ConfigError, match="reference 'sw-clip' is not among the systems"):
        run_benchmarks(manifest, [splits], ["clip"], [0], tmp_path, reference="sw-clip")
    assert list(tmp_path.iterdir()) == []


def test_jobs_and_torchrun_cannot_be_combined(
    data: tuple[Manifest, Splits], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="torchrun"):
        run_benchmarks(data[0], [data[1]], ["clip"], [0], tmp_path, jobs=2)


def test_text_tower_is_not_added_to_a_system_without_text(tmp_path: Path) -> None:
    (tmp_path / "no-text.toml").write_text('[model.location]\ntext_tower = "none"\n')
    overrides = {"model": {"location": {"text_tower": "some/tower"}}}
    assert system_config(str(tmp_path / "no-text.toml"), overrides).model.location.text_tower == "none"
    assert system_config("sw-clip", overrides, 7).model.location.text_tower == "some/tower"
    assert system_config("sw-clip", overrides, 7).seed == 7
    assert overrides == {"model": {"location": {"text_tower": "some/tower"}}}


def test_equal_configurations_are_grouped(small: Callable[..., TrainingConfig]) -> None:
    a, b = small("sw-clip"), small("clip")
    assert same_configuration({"a": a, "b": b, "c": load_recipe("clip"), "d": a, "n": None}) == [["a", "d"]]


def test_run_folder_is_locked_during_training(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from swclip.training.run import sole_trainer\n"
    code += "with sole_trainer(Path(sys.argv[1])): print('in', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "in\n"
        with pytest.raises(ConfigError, match="another process is training"), sole_trainer(tmp_path / "run"):
            pass
        other.kill()
        other.wait()
    with sole_trainer(tmp_path / "run"):
        assert os.listdir(tmp_path / "run") == []
    with pytest.raises(SwclipError), sole_trainer(tmp_path / "run"), sole_trainer(tmp_path / "run"):
        pass
