"""docs/losses-in-packages.md: its classes are called as open_clip and sentence-transformers call a loss.

Where the packages are installed (`pip install open_clip_torch "sentence-transformers[train]"`), its scripts run with
them, too.
"""

from __future__ import annotations

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

from fixtures.doc_pages import ROOT, blocks
from swclip.errors import InputError

OPEN_CLIP_LOSS, OPEN_CLIP_SCRIPT, SENTENCE_LOSS, SENTENCE_SCRIPT = [
    block.text for block in blocks(ROOT / "docs" / "losses-in-packages.md") if block.language == "python"
]


@pytest.fixture(scope="module")
def namespace() -> dict[str, Any]:
    """The classes of the page."""
    names: dict[str, Any] = {"__name__": "losses_in_packages"}
    for block in (OPEN_CLIP_LOSS, SENTENCE_LOSS):
        exec(compile(block, "docs/losses-in-packages.md", "exec"), names)
    return names


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
        gradients = [parameter.grad for tower in (model.image, model.text) for parameter in tower.parameters()]
        yield torch.cat([gradient.flatten() for gradient in gradients if gradient is not None])
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
    features = [{"input_ids": Pairs(4).images.float()}, {"input_ids": Pairs(4).texts.float()}]
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


def run_script(text: str, *options: str) -> str:
    """Run a script as a reader would; what it printed."""
    Path("train_spatial.py").write_text(text, encoding="utf-8")
    command, env = [sys.executable, "train_spatial.py", *options], {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_script_for_open_clip_trains(photographs: None) -> None:
    pytest.importorskip("open_clip_train")
    tower = {"layers": 1, "width": 32}
    config = {"embed_dim": 16, "vision_cfg": {"image_size": 32, "patch_size": 16, "head_width": 16, **tower}}
    Path("tiny.json").write_text(json.dumps({**config, "text_cfg": {"context_length": 24, "heads": 2, **tower}}))
    added = 'import open_clip\nopen_clip.add_model_config("tiny.json")\n'
    options = "--model tiny --train-data photographs.csv --batch-size 4 --accum-freq 2 --epochs 2 --workers 0"
    run_script(OPEN_CLIP_LOSS + added + OPEN_CLIP_SCRIPT, *options.split(), "--device", "cpu", "--name", "street")
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
    script = SENTENCE_SCRIPT.replace("openai/clip-vit-base-patch32", "clip")
    script = script.replace(
        "per_device_train_batch_size=64", 'use_cpu=True, report_to="none", per_device_train_batch_size=8'
    )
    result = "trainer.state.global_step, trainer.callback_handler.train_dataloader.batch_sampler.epoch"
    printed = run_script(f"{SENTENCE_LOSS}{script}print({result})\n")
    assert printed.splitlines()[-1] == "9 2"
    assert re.search(r"'train_loss': '?\d", printed)
