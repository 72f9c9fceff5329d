"""The code blocks of docs/losses.md and of the README's section on losses run, and print the text of the page."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from swclip.geo.kernels import kernel_reach, kernel_weight

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "losses.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(autouse=True)
def _generators_as_they_were() -> Any:
    with torch.random.fork_rng():
        yield


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Any:
    """Tensors so small cost more in the hand-over between threads than in the sums."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def namespace() -> dict[str, Any]:
    """The names of the page after all its blocks, each of which printed the text block that follows it, if any."""
    names: dict[str, Any] = {"__name__": "losses_page"}
    printed, texts = "", 0
    for kind, body in FENCE.findall(PAGE):
        if kind == "text":
            assert printed == body
            texts += 1
            continue
        stream = io.StringIO()
        with contextlib.redirect_stdout(stream):
            exec(compile(body, "docs/losses.md", "exec"), names)
        printed = stream.getvalue()
    assert texts == 2
    return names


def test_every_block_runs_and_prints_the_text_of_the_page(namespace: dict[str, Any]) -> None:
    assert {"SWCLIPLoss", "SpatialContrastiveLoss", "NeighbourBatchSampler"} <= namespace.keys()


def test_both_losses_learn_to_locate(namespace: dict[str, Any]) -> None:
    # The street is 468 m long: a guess in its middle is off by 120 m in the mean.
    assert set(namespace["errors_m"]) == {"clip", "spatial"}
    assert max(namespace["errors_m"].values()) < 40.0


def test_a_random_batch_is_one_hot_and_one_with_neighbours_is_not(namespace: dict[str, Any]) -> None:
    assert namespace["random_share"] > 0.9
    assert namespace["neighbour_share"] < 0.75


def test_the_table_of_kernels_matches_the_code() -> None:
    rows = [line.split("|")[1:-1] for line in PAGE.splitlines() if re.match(r"\| `[a-z-]+` \| [^K]", line)]
    assert len(rows) == 5
    for name, _, at_1, at_2, reach, _ in rows:
        kernel = name.strip().strip("`")
        values = [kernel_weight(torch.tensor(u), 1.0, kernel).item() for u in (1.0, 2.0)]  # type: ignore[arg-type]
        assert [float(at_1), float(at_2)] == pytest.approx(values, abs=5e-4)
        assert float(reach) == pytest.approx(kernel_reach(kernel), abs=5e-4)  # type: ignore[arg-type]


def test_the_training_code_of_the_readme_runs() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = [body for kind, body in FENCE.findall(readme) if kind == "python" and "SpatialContrastiveLoss" in body]
    image_model, location_model = nn.Linear(6, 4), nn.Linear(2, 4).double()
    before = image_model.weight.detach().clone()
    positions_deg = torch.rand(5, 2, dtype=torch.float64)
    names = {
        "image_model": image_model,
        "location_model": location_model,
        "loader": [(torch.randn(5, 6), positions_deg)],
        "optimizer": torch.optim.SGD([*image_model.parameters(), *location_model.parameters()], lr=0.1),
    }
    exec(compile(block, "README.md", "exec"), names)
    assert not torch.equal(image_model.weight, before)
