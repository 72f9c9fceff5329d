"""Gathering a batch from processes: rows, gradients, and a training that runs alike in one process and in two."""

from __future__ import annotations

import dataclasses
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from swclip.losses.batch import all_gather_rows, check_same_rows

SCRIPT = Path(__file__).with_name("two_processes.py")
TRAINING = runpy.run_path(str(SCRIPT))


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """The results of two real processes, joined by gloo."""
    folder = tmp_path_factory.mktemp("two")
    outputs = [folder / f"{rank}.npz" for rank in range(2)]
    running = [
        subprocess.Popen(
            [sys.executable, SCRIPT, str(rank), folder / "rendezvous", output],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank, output in enumerate(outputs)
    ]
    try:
        printed = [process.communicate(timeout=300)[0] for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0, 0], "\n".join(printed)
    results = []
    for output in outputs:
        with np.load(output) as arrays:
            results.append(dict(arrays))
    return results


@pytest.mark.parametrize("case", [*TRAINING["CASES"], *TRAINING["MODULES"]])
def test_two_processes_equal_one(processes, case):
    alone = TRAINING["train" if case in TRAINING["CASES"] else "train_module"](case, rank=0, processes=1)
    assert any(np.abs(value).max() > 1e-3 for name, value in alone.items() if name.endswith(".grad"))
    for result in processes:
        together = {name: value for name, value in result.items() if name.startswith(f"{case}/")}
        assert together.keys() == alone.keys()
        for name, value in alone.items():
            # Group-DRO's weights are float32: what depends on them agrees to float32.
            tolerance = 1e-6 if case in ("group-dro", "everything") else 1e-12
            np.testing.assert_allclose(together[name], value, rtol=tolerance, atol=tolerance, err_msg=name)


def test_tiles_equal_whole_matrices_in_each_process(processes):
    whole = dataclasses.replace(TRAINING["CASES"]["queue, tiles"], tile=0)
    TRAINING["CASES"]["queue, whole"] = whole
    alone = TRAINING["train"]("queue, whole", rank=0, processes=1)
    for result in processes:
        for name, value in alone.items():
            tiled = result[name.replace("whole", "tiles")]
            np.testing.assert_allclose(tiled, value, rtol=1e-7, atol=1e-9, err_msg=name)


def test_rows_in_order_of_rank_and_gradients_summed(processes):
    for rank, result in enumerate(processes):
        assert result["gather/rows"].tolist() == [[1.0] * 3] * 2 + [[2.0] * 3] * 2
        assert result["gather/facts"].tolist() == [0, 10, 1, 11]
        expected = np.arange(1.0, 5.0)[2 * rank : 2 * rank + 2] * (1 + 2)
        assert result["gather/grad"].tolist() == [[weight] * 3 for weight in expected]


def test_uneven_batches_are_refused(processes):
    for result in processes:
        assert "have [3, 4] samples" in str(result["uneven/message"])


def test_without_a_process_group_rows_are_unchanged():
    rows = torch.rand(3, 2, requires_grad=True)
    assert all_gather_rows(rows) is rows
    check_same_rows(3, rows.device)
