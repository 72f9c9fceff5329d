"""A run that is killed by SIGKILL and started again has the final weights of an uninterrupted one."""

from __future__ import annotations

import functools
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixtures.processes import Command
from swclip.data.manifest import read_manifest
from swclip.data.splits import read_splits
from swclip.models.feature_cache import FeatureCache
from swclip.training.config import TrainingConfig, write_config
from swclip.training.loop import train
from swclip.training.run import read_run

pytestmark = pytest.mark.slow


def _steps_logged(run: Path) -> list[int]:
    path = run / "metrics.jsonl"
    return (
        [json.loads(line)["step"] for line in path.read_text().splitlines() if line.endswith("}")]
        if path.exists()
        else []
    )


@pytest.mark.parametrize(
    "case",
    [
        pytest.param({}, id="from scratch"),
        pytest.param(
            {"freeze_image": True, "queue": {"size": 40, "noise_m": 9.0}, "batch": {"position_noise_m": 4.0}},
            id="frozen image tower, queue, noisy positions",
        ),
        pytest.param(
            {
                "freeze_image": True,
                "hubness": {"photographs": [0.5]},
            },
            id="frozen image tower, hubness",
        ),
        pytest.param(
            {"freeze_image": True, "steps": 80, "objective": {"robust": {"form": "trimmed"}}},
            id="frozen image tower, trimmed after a warm-up",
        ),
        pytest.param(
            {
                "steps": 40,
                "batch": {"chunk": 5},
                "model": {"location": {"text_tower": "BERT", "form": "cells", "cell_resolutions": [8, 10]}},
                "objective": {"fairness": {"form": "group-dro", "weight": 0.5}},
            },
            id="chunks, cells, text tower with dropout, group-dro",
        ),
        pytest.param(
            {
                "steps": 40,
                "tuning": {"blocks": 1, "lora_rank": 2},
                "model": {"image": {"tower": "DINO", "size_px": 32}},
            },
            id="LoRA adapters of the last block",
        ),
    ],
)
def test_a_killed_run_resumes_to_the_same_weights(
    case: dict[str, Any],
    town: Path,
    towers: Path,
    tmp_path: Path,
    small: Callable[..., TrainingConfig],
    start: Callable[..., Command],
    environment: dict[str, str],
) -> None:
    case = json.loads(json.dumps(case).replace("BERT", str(towers / "bert")).replace("DINO", str(towers / "dinov2")))
    config = small(**{"steps": 40, "evaluate_every": 20, "checkpoint_every": 15, "seed": 3, **case})
    write_config(tmp_path / "sw-clip.toml", config)
    run, whole = tmp_path / "killed", tmp_path / "whole"
    command = ("train", town, "--splits", town / "splits.parquet", "--recipe", tmp_path / "sw-clip.toml", "--out", run)

    process = start(*command, environment=environment, kill_at=20)
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors
    assert [path.name for path in (run / "checkpoints").glob("step-*")], "nothing to go on from"
    assert read_run(run).status == "running"

    cache = FeatureCache(Path(environment["SWCLIP_CACHE"]))
    again = functools.partial(
        train, read_manifest(town), read_splits(town / "splits.parquet"), config, system="sw-clip", cache=cache
    )
    resumed = start(*command, environment=environment)
    _, errors = resumed.communicate()
    assert resumed.returncode == 0, errors
    assert read_run(run).status == "finished"
    assert not (run / "checkpoints").exists()

    again(out=whole)
    for name in ("model.safetensors", "posterior.json", "regions.json", "config.json"):
        assert (run / "model" / name).read_bytes() == (whole / "model" / name).read_bytes(), name
    # Lines that the killed run wrote past its checkpoint are not there twice.
    assert _steps_logged(run) == _steps_logged(whole)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for kind in ("loss", "val_log_error"):
        steps = [line["step"] for line in lines if kind in line]
        assert steps == sorted(set(steps))
        assert steps[-1] == config.steps
