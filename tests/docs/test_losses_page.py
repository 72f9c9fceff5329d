"""The code blocks of docs/losses.md and of the README's section on losses run, and print the text of the page.

Its classes for open_clip and sentence-transformers are called as those packages call a loss. Where the packages are
installed (`pip install open_clip_torch "sentence-transformers[train]"`), the page's scripts run with them, too.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from swclip.errors import InputError
from swclip.geo.kernels import kernel_reach, kernel_weight

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "losses.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^(?:<!-- ([a-z-]+) -->\n)?```(python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SCRIPTS = [body for reason, _, body in FENCE.findall(PAGE) if reason == "tested-elsewhere"]
"""The page's scripts for open_clip and for sentence-transformers, which are not installed with swclip."""


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
    for reason, kind, body in FENCE.findall(PAGE):
        if reason == "tested-elsewhere":
            continue
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
    assert {"SWCLIPLoss", "OpenClipLoss", "SpatialSentenceLoss"} <= namespace.keys()


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
    (block,) = [
        body for _, kind, body in FENCE.findall(readme) if kind == "python" and "SpatialContrastiveLoss" in body
    ]
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


class Pairs(Dataset[Any]):
    """Random images and texts of random places within 400 m."""

    def __init__(self, count: int) -> None:
        numbers = np.random.default_rng(0)
        self.images = torch.from_numpy(numbers.normal(size=(count, 6)))
        self.texts = torch.from_numpy(numbers.normal(size=(count, 6)))
        self.positions_deg = torch.from_numpy(numbers.uniform([52.200, 0.110], [52.203, 0.116], (count, 2)))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> Any:
        return self.images[row], self.texts[row], self.positions_deg[row]


class Clip(nn.Module):
    """A model with the output of `open_clip.CLIP` with `output_dict=True`."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.text = nn.Linear(6, 4).double(), nn.Linear(6, 4).double()
        self.logit_scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, images: Tensor, texts: Tensor) -> dict[str, Tensor]:
        image, text = F.normalize(self.image(images), dim=1), F.normalize(self.text(texts), dim=1)
        return {"image_features": image, "text_features": text, "logit_scale": self.logit_scale.exp()}


def open_clip_gradients(model: Clip, batches: Any, loss: Any, accum_freq: int) -> Iterator[Tensor]:
    """The gradient of each step of `open_clip_train.train.train_one_epoch`, of whose loop this is a part (3.3.0)."""
    cached: list[Any] = []
    for images, texts in batches:
        if accum_freq == 1:
            losses = loss(**model(images, texts), output_dict=True)
            sum(losses.values()).backward()
        else:
            with torch.no_grad():
                cached.append((images, texts, model(images, texts)))
            if len(cached) < accum_freq:
                continue
            for part, (images_again, texts_again, _) in enumerate(cached):
                output = model(images_again, texts_again)
                scale = output.pop("logit_scale")
                inputs = {}
                for key, value in output.items():
                    features = [step[2][key] for step in cached]
                    inputs[key] = torch.cat([*features[:part], value, *features[part + 1 :]])
                losses = loss(**inputs, logit_scale=scale, output_dict=True)
                sum(losses.values()).backward()
            cached = []
        yield torch.cat(
            [parameter.grad.flatten() for parameter in (*model.image.parameters(), *model.text.parameters())]
        )
        model.zero_grad()


def test_the_loop_of_open_clip_has_the_gradient_of_one_batch_also_where_it_accumulates(namespace: Any) -> None:
    model, pairs = Clip(), Pairs(24)
    whole_loss = namespace["OpenClipLoss"](25.0)
    whole = namespace["OpenClipLoader"](DataLoader(pairs, batch_size=8), whole_loss)
    assert (whole.num_batches, whole.num_samples) == (3, 24)
    gradients = list(open_clip_gradients(model, whole, whole_loss, accum_freq=1))
    assert len(gradients) == 3
    assert all(gradient.norm() > 0.0 for gradient in gradients)
    parts_loss = namespace["OpenClipLoss"](25.0, accum_freq=2)
    parts = namespace["OpenClipLoader"](DataLoader(pairs, batch_size=4), parts_loss)
    torch.testing.assert_close(list(open_clip_gradients(model, parts, parts_loss, accum_freq=2)), gradients)


def test_the_loss_for_open_clip_learns_the_scale_of_the_model(namespace: Any) -> None:
    model, loss = Clip(), namespace["OpenClipLoss"](25.0)
    assert not list(loss.parameters())
    images, texts = next(iter(namespace["OpenClipLoader"](DataLoader(Pairs(6), batch_size=6), loss)))
    loss(**model(images, texts)).backward()
    assert model.logit_scale.grad is not None
    assert model.logit_scale.grad != 0.0


class Sentences(nn.Module):
    """A model with the input and output of a `SentenceTransformer`."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Linear(6, 4)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {**features, "sentence_embedding": self.tower(features["input_ids"])}


def test_the_loss_for_sentence_transformers_takes_its_labels_in_float64_alone(namespace: Any) -> None:
    model = Sentences()
    loss = namespace["SpatialSentenceLoss"](model, bandwidth_m=25.0)
    assert dict(loss.named_parameters()).keys() == {"model.tower.weight", "model.tower.bias"}
    features = [{"input_ids": torch.randn(4, 6)}, {"input_ids": torch.randn(4, 6)}]
    positions_deg = Pairs(4).positions_deg
    loss(features, torch.stack(list(positions_deg))).backward()  # as `BaseDataCollator` makes them of tensors
    assert model.tower.weight.grad is not None
    with pytest.raises(InputError, match="positions_deg is float32"):
        loss(features, torch.tensor(positions_deg.tolist()))  # as it makes them of lists


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of photographs of one street, photographs.csv, in the working folder."""
    monkeypatch.chdir(tmp_path)
    numbers = np.random.default_rng(1)
    names = [f"{row}.png" for row in range(24)]
    for name in names:
        Image.fromarray(numbers.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(name)
    table = pd.DataFrame({"image": names, "lat": 52.2 + 0.0001 * np.arange(24), "lon": 0.115})
    table.to_csv("photographs.csv", index=False)


def run_script(loss: str, script: str, *options: str) -> str:
    """Run a script of the page, as a reader would: the block with its loss, and the one after it; what it printed."""
    (block,) = [body for reason, _, body in FENCE.findall(PAGE) if not reason and f"class {loss}(" in body]
    Path("train_spatial.py").write_text(block + script, encoding="utf-8")
    command = [sys.executable, "train_spatial.py", *options]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_script_for_open_clip_trains(photographs: None) -> None:
    pytest.importorskip("open_clip_train")
    tower = {"layers": 1, "width": 32}
    config = {"embed_dim": 16, "vision_cfg": {"image_size": 32, "patch_size": 16, "head_width": 16, **tower}}
    Path("tiny.json").write_text(json.dumps({**config, "text_cfg": {"context_length": 24, "heads": 2, **tower}}))
    script = 'import open_clip\nopen_clip.add_model_config("tiny.json")\n' + SCRIPTS[0]
    options = "--model tiny --train-data photographs.csv --batch-size 4 --accum-freq 2 --epochs 2 --workers 0"
    run_script("OpenClipLoss", script, *options.split(), "--device", "cpu", "--name", "street")
    log = Path("logs/street/out.log").read_text()
    assert len(re.findall(r"Train Epoch: 1 .*Contrastive_loss: \d", log)) == 2
    assert Path("logs/street/checkpoints/epoch_2.pt").is_file()


def test_the_script_for_sentence_transformers_trains(photographs: None) -> None:
    pytest.importorskip("sentence_transformers")
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    characters = [chr(code) for code in range(33, 127)]
    words = [*characters, *(f"{one}</w>" for one in characters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={word: number for number, word in enumerate(words)}, merges=[], model_max_length=32)
    tower = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {"vocab_size": len(words), "max_position_embeddings": 32, "eos_token_id": len(words) - 1, **tower}
    vision = {"image_size": 32, "patch_size": 16, **tower}
    CLIPModel(CLIPConfig(projection_dim=16, text_config=text, vision_config=vision)).save_pretrained("clip")
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPProcessor(image_processor=CLIPImageProcessor(**size), tokenizer=tokenizer).save_pretrained("clip")
    script = SCRIPTS[1].replace("openai/clip-vit-base-patch32", "clip")
    script = script.replace(
        "per_device_train_batch_size=64", 'use_cpu=True, report_to="none", per_device_train_batch_size=8'
    )
    result = "trainer.state.global_step, trainer.callback_handler.train_dataloader.batch_sampler.epoch"
    printed = run_script("SpatialSentenceLoss", f"{script}print({result})\n")
    assert printed.splitlines()[-1] == "9 2"
    assert re.search(r"'train_loss': '?\d", printed)
