"""Mining far look-alikes: when, among whom, what it takes of the model, and that processes share the work."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from swclip.data.look_alikes import NOBODY, LookAlikes
from swclip.data.manifest import read_manifest
from swclip.data.samplers import NeighbourBatchSampler
from swclip.data.splits import read_splits
from swclip.errors import ConfigError
from swclip.geo.distance import haversine_m
from swclip.models.feature_cache import FeatureCache
from swclip.training.config import TrainingConfig
from swclip.training.distributed import Process
from swclip.training.hard_negatives import HardConfig, Miner
from swclip.training.loop import train

CONFIG = HardConfig(share=0.25, every=4, radius_m=80.0, bandwidths=3.0, among=3)
PLACES = np.array([52.2, 0.12]) + np.random.default_rng(0).random((90, 2)) * [0.0027, 0.0044]
IMAGES, LOCATIONS = (
    (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    for rows in np.random.default_rng(1).normal(size=(2, 90, 5))
)


def _miner(config: HardConfig = CONFIG, rank: int = 0, count: int = 1) -> tuple[Miner, LookAlikes]:
    found = LookAlikes()
    sampler = NeighbourBatchSampler(PLACES, 16, radius_m=50.0, hard_share=config.share, look_alikes=found, seed=2)
    sides = {"image": IMAGES, "location": LOCATIONS}
    widest = np.where(np.arange(90) % 2, 20.0, 60.0)
    process = Process(rank, count, torch.device("cpu"))
    return Miner(config, sampler, PLACES, widest, lambda rows, side: sides[side][rows], found, 2, process), found


@pytest.mark.parametrize("by", ["image", "location"])
def test_what_is_mined_is_most_alike_and_far(by: str) -> None:
    miner, found = _miner(replace(CONFIG, by=by))
    assert miner.mine(3) == {}
    figures = miner.mine(4)
    assert found.at(4) is None, "the batch of step 4 may be drawn already"
    mined = found.at(5)
    assert mined is not None
    expected_anchors = NeighbourBatchSampler(PLACES, 16, radius_m=50.0, hard_share=0.25, look_alikes=found, seed=2)
    np.testing.assert_array_equal(mined.rows, expected_anchors.anchors(5, 4))
    others, best = (IMAGES if by == "image" else LOCATIONS), []
    for row, own in zip(mined.rows, mined.others, strict=True):
        apart = max(80.0, 3 * (20.0 if row % 2 else 60.0))
        far = [j for j in range(90) if float(haversine_m(*map(np.float64, (*PLACES[row], *PLACES[j])))) > apart]
        far.sort(key=lambda j: -float(IMAGES[row] @ others[j]))
        assert [int(j) for j in own if j != NOBODY] == far[:3]
        best += [float(IMAGES[row] @ others[far[0]])] if far else []
    assert figures["look_alikes"] == pytest.approx((mined.others != NOBODY).sum() / len(mined.rows))
    assert figures["look_alike_similarity"] == pytest.approx(np.mean(best), abs=1e-6)


def test_a_pool_is_drawn_anew_and_the_same_again() -> None:
    seen = []
    for step in (4, 8, 4):
        miner, found = _miner(replace(CONFIG, pool=20))
        miner.mine(step)
        mined = found.at(99)
        assert mined is not None
        seen.append({int(j) for j in mined.others.ravel() if j != NOBODY})
        assert len(seen[-1]) <= 20
    assert seen[0] == seen[2] != seen[1]


def test_two_processes_mine_what_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swclip.training.hard_negatives._PARTS_OF", 7)
    alone, found = _miner()
    alone.mine(4)
    both, sums, here = threading.Barrier(2), dict[int, torch.Tensor](), threading.local()

    def summed(values: torch.Tensor) -> torch.Tensor:
        sums[here.rank] = values
        both.wait()
        total = sums[0] + sums[1]
        both.wait()
        return total

    monkeypatch.setattr("swclip.training.hard_negatives.sum_over_all", summed)
    results: dict[int, LookAlikes] = {}

    def one(rank: int) -> None:
        here.rank = rank
        miner, results[rank] = _miner(rank=rank, count=2)
        miner.mine(4)

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    ours = found.at(5)
    for rank in range(2):
        theirs = results[rank].at(5)
        assert ours is not None
        assert theirs is not None
        np.testing.assert_array_equal(theirs.others, ours.others)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"share": 1.0}, "share 1"),
        ({"every": 0}, "every 0"),
        ({"among": 0}, "among 0"),
        ({"pool": 0}, "pool 0"),
        ({"radius_m": -1.0}, "radius_m -1"),
    ],
)
def test_values_that_cannot_work_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        HardConfig(**values)


def test_what_does_not_go_together_is_refused(small: Callable[..., TrainingConfig]) -> None:
    with pytest.raises(ConfigError, match="earlier batches"):
        small(batch={"hard": {"share": 0.2}}, queue={"size": 8})
    with pytest.raises(ConfigError, match="needs anchors"):
        small(batch={"hard": {"share": 0.2}, "sampler": "random"})


@pytest.mark.parametrize("by", ["image", "location"])
@pytest.mark.parametrize("frozen", [True, False])
def test_a_run_mines_its_look_alikes(
    small: Callable[..., TrainingConfig], town: Path, tmp_path: Path, by: str, frozen: bool
) -> None:
    hard = {"share": 0.25, "every": 6, "radius_m": 50.0, "bandwidths": 1.0, "by": by}
    config = small(steps=20, freeze_image=frozen, batch={"hard": hard})
    cache = FeatureCache(tmp_path / "cache")
    train(read_manifest(town), read_splits(town / "splits.parquet"), config, tmp_path / "run", cache=cache)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    mined = [line for line in lines if "look_alikes" in line]
    assert [line["step"] for line in mined] == [6, 12, 18]
    assert all(line["look_alikes"] > 0 for line in mined)
    assert all(-1.0 <= line["look_alike_similarity"] <= 1.0 + 1e-6 for line in mined)
