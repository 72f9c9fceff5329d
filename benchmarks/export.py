"""Time and size of an exported image side: torch and onnxruntime.

    python benchmarks/export.py RUN EXPORT PHOTO... [--batches 1 32] [--rounds N] [--threads N]

EXPORT is the folder of `swclip export RUN --out EXPORT`. In every round each variant embeds the same pixels once, in
turn, so that other load of the machine affects all equally; decoding is not counted. Reported: the least and the
median time of a batch in seconds, and the median over the rounds of torch's time divided by the other's. The same for
a search with 8-bit codes of embeddings: the time of all cosines of 32 queries and 100,000 candidates.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import new_parser, table_of, table_of_figures, write_results

from swclip.export.embeddings import dequantize, quantize, similarity
from swclip.export.graph import IMAGE
from swclip.export.parity import open_graph
from swclip.models.locator_model import load_model

Way = Callable[[], Any]


def main() -> None:
    """Run the comparison."""
    parser = new_parser(__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("export", type=Path)
    parser.add_argument("photographs", type=Path, nargs="+")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--candidates", type=int, default=100_000, help="of the search with codes")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    model = load_model(options.run)
    whole = open_graph(options.export / IMAGE.file, IMAGE, options.threads)
    read = [model.preprocess.read(path) for path in options.photographs[: max(options.batches)]]
    report: dict[str, Any] = {
        "threads": options.threads,
        "rounds": options.rounds,
        "bytes": {
            "model.safetensors": (options.run / "model" / "model.safetensors").stat().st_size,
            IMAGE.file: (options.export / IMAGE.file).stat().st_size,
        },
    }
    races: dict[str, dict[str, Any]] = {}
    for batch in options.batches:
        pixels = np.stack([read[at % len(read)] for at in range(batch)])
        tensor = torch.from_numpy(pixels)
        races[f"batch of {batch}"] = _raced(
            {
                "torch": lambda tensor=tensor: _embedded(model, tensor),
                "onnxruntime": lambda pixels=pixels: whole(pixels),
            },
            options.rounds,
        )
    cosines = _cosines(model.embedding_dim, options.candidates)
    races[f"cosines of 32 queries and {options.candidates:,} candidates"] = _raced(cosines, options.rounds)
    tables = [f"**{name}**\n\n{table_of(ways)}" for name, ways in races.items()]
    write_results(options.out, "export", {**report, **races}, "\n".join([table_of_figures(report), *tables]))


def _embedded(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        embeddings: torch.Tensor = model.encode_pixels(pixels)
    return embeddings


def _cosines(dim: int, candidates: int) -> dict[str, Way]:
    rng = np.random.default_rng(0)
    query, places = (rng.standard_normal((count, dim), dtype=np.float32) for count in (32, candidates))
    query /= np.linalg.norm(query, axis=1, keepdims=True)
    places /= np.linalg.norm(places, axis=1, keepdims=True)
    codes, scales = quantize(places)
    query_codes, query_scales = quantize(query)
    integers, query_integers = torch.from_numpy(codes), torch.from_numpy(query_codes)

    def products() -> np.ndarray:
        whole = torch._int_mm(query_integers, integers.T)
        cosines: np.ndarray = whole.numpy() * (query_scales[:, None] * scales)
        return cosines

    exact = query @ places.T
    for name, cosines in (("codes", similarity(query, codes, scales)), ("integers", products())):
        if np.abs(cosines - exact).max() > 0.01:
            raise SystemExit(f"{name}: the cosines are not those of the embeddings")
    return {
        "float32": lambda: query @ places.T,
        "int8 codes, float32 a part at a time": lambda: similarity(query, codes, scales),
        "int8 codes, float32 all at once": lambda: query @ dequantize(codes, scales).T,
        "int8 products (torch), queries in int8 too": products,
    }


def _raced(ways: Mapping[str, Way], rounds: int) -> dict[str, Any]:
    took: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            took[name].append(time.perf_counter() - start)
    first = next(iter(ways))
    return {
        name: {
            "least_s": round(min(seconds), 4),
            "median_s": round(statistics.median(seconds), 4),
            f"times_as_fast_as_{first}": round(
                statistics.median(base / other for base, other in zip(took[first], seconds, strict=True)), 2
            ),
        }
        for name, seconds in took.items()
    }


if __name__ == "__main__":
    main()
