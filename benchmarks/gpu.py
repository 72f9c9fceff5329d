"""On a GPU: the loss of a large batch, a training step against open_clip's, and embedding; float32 and bfloat16.

    pip install open_clip_torch               # for its training step; without it, that row is left out
    python benchmarks/gpu.py --out results/gpu
    python benchmarks/gpu.py --device cpu --loss-batch 512 --batch 2 --layers 1     # the script itself, at toy size

**Loss**: CLIP's and that with soft labels in tiles (losses.py), forward and backward, embeddings of 512 numbers.
**Training step**: both have CLIP's ViT-B/32 as image tower, with random weights, and AdamW. swclip's other side encodes
positions by its grid, without a text tower, and has soft labels; open_clip's is its text tower, with `ClipLoss`.
**Embedding**: photographs that are decoded, through swclip's tower and head.

Seconds are the median after two runs that are not counted; memory is the largest allocated on the device. A batch that
does not fit is said so. Writes gpu.json and gpu.md; without a GPU it says so and ends.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import new_parser, say, table_of, write_results
from torch import Tensor

from losses import SYSTEMS, measured
from swclip.losses import Objective, ObjectiveConfig
from swclip.models.config import ImageConfig, LocationConfig, ModelConfig
from swclip.models.locator_model import LocatorModel
from swclip.training.step import Batch, forward_backward

DIM = 512
VIT_B = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "patch_size": 32}
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def main() -> None:
    """Measure what the device can do."""
    parser = new_parser(__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--loss-batch", type=int, default=65_536)
    parser.add_argument("--batch", type=int, default=1024, help="of a training step and of embedding")
    parser.add_argument("--layers", type=int, default=12, help="of swclip's image tower; open_clip's has 12")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("There is no GPU here: nothing was measured. --device cpu runs the script at the sizes that you give.")
        return
    rows: dict[str, dict[str, Any]] = {}
    for system in ("clip", "tiles"):
        rows[f"loss of {options.loss_batch:,}: {SYSTEMS[system][0]}"] = fitting(partial(loss, system, options))
    pixels = torch.randn(options.batch, 3, 224, 224, generator=torch.Generator().manual_seed(0)).to(options.device)
    with tempfile.TemporaryDirectory() as folder:
        model = swclip_model(Path(folder), options)
    works = {
        "training step: swclip": partial(swclip_step, model),
        "training step: open_clip": open_clip_step,
        "embedding: swclip": partial(embedding, model),
    }
    for name, dtype in PRECISIONS.items():
        for title, prepared in works.items():
            if (work := prepared(pixels, dtype)) is not None:
                rows[f"{title}, {name}"] = fitting(partial(photographs, work, options))
    device = torch.cuda.get_device_name() if options.device.startswith("cuda") else "CPU"
    document = {"device": device, "torch": torch.__version__, "batch": options.batch, "rows": rows}
    write_results(options.out, "gpu", document, f"{device}, batches of {options.batch:,}:\n\n{table_of(rows)}")


def fitting(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The figures of a measurement, or that the device has too little memory for it."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        return measure()
    except torch.OutOfMemoryError:
        return {"seconds": "does not fit"}


def loss(system: str, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds and memory of a loss, forward and backward."""
    sizes = argparse.Namespace(device=options.device, dim=DIM, side_km=1.0, repeats=options.repeats, threads=1)
    row = measured(system, options.loss_batch, sizes)
    return {"seconds": row["wall_s"], "GB": round(row["peak_bytes"] / 1e9, 2)}


def photographs(work: Callable[[], Any], options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of a batch, photographs a second, and memory."""
    seconds = []
    for _ in range(options.repeats + 2):
        started = time.perf_counter()
        work()
        if options.device.startswith("cuda"):
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    middle = statistics.median(seconds[2:])
    figures = {"seconds": round(middle, 4), "photographs a second": round(options.batch / middle, 1)}
    if options.device.startswith("cuda"):
        figures["GB"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
    return figures


def swclip_model(folder: Path, options: argparse.Namespace) -> LocatorModel:
    """A model with CLIP's ViT-B/32, untrained, for positions in a square kilometre."""
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

    CLIPVisionModel(CLIPVisionConfig(**VIT_B, num_hidden_layers=options.layers)).save_pretrained(folder / "tower")
    CLIPImageProcessor().save_pretrained(folder / "tower")
    config = ModelConfig(ImageConfig(str(folder / "tower")), LocationConfig(text_tower="none"), embedding_dim=DIM)
    return LocatorModel.create(config, positions_of(options.batch).numpy()).to(options.device).train()


def positions_of(count: int) -> Tensor:
    """(N, 2) positions in a square kilometre, degrees."""
    side_deg = torch.tensor([0.009, 0.0147], dtype=torch.float64)
    return 52.2 + side_deg * torch.rand(count, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def mixed(pixels: Tensor, dtype: torch.dtype) -> Any:
    """Automatic mixed precision, or none for float32."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(pixels.device.type, dtype)


def swclip_step(model: LocatorModel, pixels: Tensor, dtype: torch.dtype) -> Callable[[], None]:
    """A training step, as `swclip train` makes it."""
    count, objective = len(pixels), Objective(ObjectiveConfig())
    unknown, regions = torch.full((count,), torch.nan), torch.zeros(count, dtype=torch.long)
    batch = Batch(pixels, positions_of(count), None, unknown, regions)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)

    def step() -> None:
        optimizer.zero_grad()
        forward_backward(model, objective, batch, encode=model.encode_pixels, autocast=mixed(pixels, dtype))
        optimizer.step()

    return step


def open_clip_step(pixels: Tensor, dtype: torch.dtype) -> Callable[[], None] | None:
    """A training step of open_clip; None where it is not installed."""
    if importlib.util.find_spec("open_clip") is None:
        say("open_clip's training step is left out: pip install open_clip_torch")
        return None
    import open_clip

    model = open_clip.create_model("ViT-B-32", device=pixels.device).train()
    words = torch.randint(1, 40_000, (len(pixels), model.context_length), device=pixels.device)
    criterion, optimizer = open_clip.ClipLoss(), torch.optim.AdamW(model.parameters(), lr=1e-5)

    def step() -> None:
        optimizer.zero_grad()
        with mixed(pixels, dtype):
            image, text, scale = model(pixels, words)[:3]
            total = criterion(image, text, scale)
        total.backward()
        optimizer.step()

    return step


def embedding(model: LocatorModel, pixels: Tensor, dtype: torch.dtype) -> Callable[[], None]:
    """Embed the photographs."""

    def embed() -> None:
        with torch.inference_mode(), mixed(pixels, dtype):
            model.encode_pixels(pixels)

    return embed


if __name__ == "__main__":
    main()
