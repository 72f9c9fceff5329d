"""Training the last blocks of an image tower: seconds per photograph of a step, with and without stored tokens.

    python benchmarks/tuned_blocks.py data --image-tower dinov2-small-9 [--blocks 3 --batch-size 32 --size-px 224]

Embeds a batch of the manifest's photographs and back-propagates through the trained blocks: from pixels, as without
stored tokens, and from tokens on disk, as with them. The ways are timed in turn, each with decoded pixels in memory, so
that the difference is that of the frozen blocks alone. Reports the medians, with the time in which the tokens of
a photograph are computed, once, and their size. Times are those of the processor, on one thread: they do not depend on
what else runs on the machine.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import new_parser, table_of_figures, write_results
from torch import Tensor

from swclip.data.manifest import read_manifest
from swclip.models.feature_cache import FeatureCache
from swclip.models.locator_model import LocatorModel
from swclip.models.token_cache import TokenCache, TokenSource
from swclip.training.config import load_recipe
from swclip.training.fine_tuning import tune
from swclip.training.inputs import PhotographSource


def main() -> None:
    """Run the comparison."""
    parser = new_parser(__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--image-tower", required=True)
    parser.add_argument("--size-px", type=int)
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    options = parser.parse_args()
    torch.set_num_threads(1)

    overrides: dict[str, Any] = {"model": {"image": {"tower": options.image_tower}, "location": {"text_tower": "none"}}}
    overrides |= {"tuning": {"blocks": options.blocks}, "freeze_image": False}
    if options.size_px is not None:
        overrides["model"]["image"]["size_px"] = options.size_px
    config = load_recipe("sw-clip", overrides)
    manifest = read_manifest(options.manifest)
    paths = manifest.image_paths[: options.batch_size]
    model = LocatorModel.create(config.model, manifest.positions_deg)
    tune(model.image_tower, config.tuning, config.seed)
    rows = np.arange(len(paths))
    pixels = PhotographSource(paths, model.preprocess, workers=2)
    pixels.rows(rows)
    mixed = options.precision == "bfloat16"

    def step(read: Callable[[np.ndarray], Tensor], encode: Callable[[Tensor], Tensor]) -> float:
        start = time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            embedding = encode(read(rows))
        embedding.float().square().sum().backward()  # type: ignore[no-untyped-call]
        model.zero_grad()
        return (time.process_time() - start) / len(paths)

    with tempfile.TemporaryDirectory() as folder:
        tokens = TokenCache.of(FeatureCache(Path(folder)), model, options.blocks, "float16", paths[0])
        start = time.process_time()
        stored = tokens.rows(model, paths)
        once = (time.process_time() - start) / len(paths)
        size = sum(file.stat().st_size for file in Path(folder).rglob("*.safetensors")) / len(paths)
        split = tokens.split(model)
        ways = {
            "frozen blocks at every step": (pixels.rows, model.encode_pixels),
            "stored tokens": (
                TokenSource(stored, split.shape).rows,
                lambda rows: model.encode_image_features(split.features(rows)),
            ),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for repeat in range(options.repeats + 1):
            for name, way in ways.items():
                seconds = step(*way)
                if repeat:  # the first one warms up
                    times[name].append(seconds)
    report = {
        "torch": torch.__version__,
        **{name: str(value) for name, value in vars(options).items()},
        "tokens of a photograph": split.shape,
        "kB a photograph": round(size / 1e3, 1),
        "seconds a photograph, once": round(once, 4),
        "seconds a photograph and step": {name: round(statistics.median(v), 4) for name, v in times.items()},
    }
    write_results(options.out, "tuned_blocks", report, table_of_figures(report))


if __name__ == "__main__":
    main()
