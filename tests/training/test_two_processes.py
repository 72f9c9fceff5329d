"""Two processes under torchrun (gloo) train as one does on the same global batch, also where one is killed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file

from fixtures.processes import Command
from swclip.data.manifest import read_manifest, write_manifest
from swclip.data.splits import indices, read_splits, write_splits
from swclip.models.locator_model import LocatorModel
from swclip.training.config import TrainingConfig, write_config
from swclip.training.loop import train

pytestmark = pytest.mark.slow


class Trained(NamedTuple):
    """An undisturbed run of two processes on one machine."""

    run: Path
    config: TrainingConfig
    recipe: Path


@pytest.fixture(scope="module")
def two(
    town: Path,
    towers: Path,
    tmp_path_factory: pytest.TempPathFactory,
    small: Callable[..., TrainingConfig],
    environment: dict[str, str],
    torchrun: Callable[..., Command],
) -> Trained:
    # Chunks, words and a text tower (without dropout, which differs by process); BERT's own pooler is not used, so its
    # weights never get a gradient.
    folder = tmp_path_factory.mktemp("two")
    bert = folder / "bert"
    shutil.copytree(towers / "bert", bert)
    architecture = json.loads((bert / "config.json").read_text())
    architecture |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (bert / "config.json").write_text(json.dumps(architecture))
    text = {"text_tower": str(bert), "prompt": "in {city} at {location}"}
    more: dict[str, Any] = {
        "steps": 8,
        "augment": False,
        "evaluate_every": 4,
        "checkpoint_every": 3,
        "seed": 1,
        "queue": {"size": 24, "noise_m": 5.0},
        "batch": {"size": 16, "chunk": 3, "position_noise_m": 2.0},
        "optimizer": {"text_rate": 1e-3},
        "model": {"image": {"head_dropout": 0.0}, "location": text},
        "objective": {"fairness": {"form": "group-dro", "weight": 0.5}, "neighbourhood": {"bandwidth_m": 0.0}},
        "bandwidth": {"form": "adaptive", "coarse_factor": 2.0},
    }
    trained = Trained(folder / "run", small(**more), folder / "mine.toml")
    write_config(trained.recipe, trained.config)
    command = _command(trained, town, trained.run)
    process = torchrun(["--standalone", "--nproc-per-node", "2"], *command, folder=folder, environment=environment)
    _, errors = process.communicate(900)
    assert process.returncode == 0, errors
    for line in ("validation: median", "Next: swclip evaluate"):
        assert errors.count(line) == 1, "one process speaks for all"
    return trained


def _command(two: Trained, data: str | Path, out: str | Path) -> list[str | Path]:
    return ["train", data, "--splits", f"{data}/splits.parquet", "--recipe", two.recipe, "--out", out]


def test_two_processes_equal_one(two: Trained, town: Path, tmp_path: Path) -> None:
    train(read_manifest(town), read_splits(town / "splits.parquet"), two.config, tmp_path)
    one, both = (load_file(run / "model" / "model.safetensors") for run in (tmp_path, two.run))
    start = LocatorModel.create(two.config.model, read_manifest(town).positions_deg, two.config.seed).state_dict()
    assert one.keys() == both.keys() == start.keys()
    for part in ("image_tower", "image_head", "location.grid", "location.to_tokens", "location.text", "logit_scale"):
        names = [name for name in one if name.startswith(part)]
        moved = sum((one[name] - start[name]).square().sum().item() for name in names) ** 0.5
        apart = sum((one[name] - both[name]).square().sum().item() for name in names) ** 0.5
        assert moved > 1e-3, part
        # AdamW magnifies the last bit of gradients that are nearly zero, as those of wide kernels are.
        assert apart < 3e-2 * moved, part
    for name in (name for name in one if "pooler" in name):
        assert torch.equal(both[name], start[name]), "what no process uses does not decay"

    logs = [
        [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (tmp_path, two.run)
    ]
    for first, second in zip(*logs, strict=True):
        assert second == pytest.approx(first, rel=5e-3)


def _assert_undisturbed(run: Path, two: Trained) -> None:
    for name in ("metrics.jsonl", "model/model.safetensors", "model/posterior.json", "model/regions.json"):
        assert (run / name).read_bytes() == (two.run / name).read_bytes(), name


def test_killed_processes_are_restarted_to_the_same_curve_and_weights(
    two: Trained, town: Path, tmp_path: Path, environment: dict[str, str], torchrun: Callable[..., Command]
) -> None:
    process = torchrun(
        ["--standalone", "--nproc-per-node", "2", "--max-restarts", "2"],
        *_command(two, town, tmp_path / "run"),
        "--verbose",
        folder=tmp_path,
        environment=environment,
        kills={0: (1, 5), 1: (0, 7)},
    )
    _, errors = process.communicate(900)
    assert process.returncode == 0, errors
    assert "resumes from step 3" in errors
    assert "resumes from step 6" in errors
    _assert_undisturbed(tmp_path / "run", two)


@pytest.fixture
def networks() -> Iterator[tuple[str, str]]:
    """Two network namespaces, which see only each other: 10.213.7.1 and 10.213.7.2 on their interface swclip0."""
    names = f"swclip-{os.getpid()}-a", f"swclip-{os.getpid()}-b"
    commands = [f"netns add {name}" for name in names]
    commands.append(f"link add swclip0 netns {names[0]} type veth peer name swclip0 netns {names[1]}")
    for number, name in enumerate(names, start=1):
        commands.append(f"-n {name} addr add 10.213.7.{number}/24 dev swclip0")
        commands += [f"-n {name} link set {device} up" for device in ("lo", "swclip0")]
    try:
        for command in commands:
            try:
                subprocess.run(["ip", *command.split()], check=True, capture_output=True, text=True)
            except FileNotFoundError:
                pytest.skip("there is no `ip` (iproute2), which makes network namespaces")
            except subprocess.CalledProcessError as error:
                pytest.skip(f"network namespaces are not allowed here: ip {command}: {error.stderr.strip()}")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def test_two_machines_train_as_one_and_only_the_leading_one_has_the_run(
    two: Trained,
    town: Path,
    tmp_path: Path,
    networks: tuple[str, str],
    environment: dict[str, str],
    torchrun: Callable[..., Command],
) -> None:
    """Each machine has a network and a folder of its own; the process of the second one is killed once."""
    machines = []
    for number, namespace in enumerate(networks, start=1):
        folder = tmp_path / f"machine-{number}"
        shutil.copytree(town, folder / "data")
        options = ["--nnodes", "2", "--nproc-per-node", "1", "--max-restarts", "1", "--rdzv-backend", "c10d"]
        options += ["--rdzv-endpoint", "10.213.7.1:29517", "--rdzv-id", "towns"]
        options += ["--rdzv-conf", f"is_host={int(number == 1)}", "--local-addr", f"10.213.7.{number}"]
        variables = {**environment, "GLOO_SOCKET_IFNAME": "swclip0"}
        command = _command(two, "data", "run")
        more: dict[str, Any] = {"namespace": namespace, "kills": {0: (1, 5)}}
        machines.append(torchrun(options, *command, folder=folder, environment=variables, **more))
    for machine in machines:
        _, errors = machine.communicate(900)
        assert machine.returncode == 0, errors
    _assert_undisturbed(tmp_path / "machine-1" / "run", two)
    assert not (tmp_path / "machine-2" / "run").exists()


def _with_other_photographs(folder: Path) -> None:
    data, splits = folder / "data", read_splits(folder / "data" / "splits.parquet")
    manifest = write_manifest(data, read_manifest(data).frame.iloc[:-1])
    meta = {**splits.meta, "manifest_digest": manifest.digest}
    write_splits(splits.path, splits.frame.iloc[:-1], splits.candidates, meta)


def _with_a_newer_checkpoint(folder: Path) -> None:
    (folder / "run" / "checkpoints").mkdir(parents=True)
    (folder / "run" / "checkpoints" / "step-00000009.safetensors").touch()


def _without_photographs(folder: Path) -> None:
    for photograph in (folder / "data").glob("*.jpg"):
        photograph.unlink()


def _with_a_broken_photograph(folder: Path) -> None:
    manifest = read_manifest(folder / "data")
    rows = indices(read_splits(folder / "data" / "splits.parquet"), manifest, "train")
    manifest.image_paths[rows[1]].write_bytes(b"not a photograph")  # in the second share of two


@pytest.mark.parametrize(
    ("change", "more", "code", "message"),
    [
        (_with_other_photographs, (), 4, r"differs from process 0 .*manifest: \w+, not \w+; splits: "),
        (lambda folder: shutil.rmtree(folder / "data"), (), 3, "there is no manifest"),
        (_without_photographs, (), 2, "does not exist on this machine, nor do 39 others of 40"),
        (_with_a_newer_checkpoint, (), 3, "process 1 has step-00000009.safetensors of this run, newer than"),
        (_with_a_broken_photograph, (), 2, "p00-2.jpg"),
        (lambda _: None, ("--seed", "2"), 4, "differs from process 0 .* seed: 2, not 1"),
    ],
    ids=["another manifest", "no manifest", "no photographs", "newer checkpoint", "broken photograph", "another seed"],
)
def test_a_machine_that_differs_ends_all_processes_with_a_clear_error(
    change: Callable[[Path], object],
    more: tuple[str, ...],
    code: int,
    message: str,
    two: Trained,
    town: Path,
    towers: Path,
    tmp_path: Path,
    environment: dict[str, str],
    start_group: Callable[..., list[tuple[int | None, str]]],
) -> None:
    folders = tmp_path / "machine-1", tmp_path / "machine-2"
    for folder in folders:
        shutil.copytree(town, folder / "data")
    change(folders[1])
    command = [*_command(two, "data", "run"), "--image-tower", towers / "dinov2", "--freeze", "image"]
    both = start_group((folders[0], command), (folders[1], [*command, *more]), environment=environment)
    assert [end for end, _ in both] == [code, code], both
    for _, errors in both:
        assert re.search(message, " ".join(errors.split())), errors
    assert "process 1 " in both[0][1]
    assert not (folders[0] / "run" / "model").exists()
