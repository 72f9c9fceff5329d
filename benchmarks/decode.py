"""Decoding of JPEG photographs: Pillow and simplejpeg, their pixels, and how long the model waits for pictures.

    pip install simplejpeg
    python benchmarks/decode.py RUN PHOTOGRAPHS --photographs 96 --out results/decode

Each library decodes each photograph from the file's bytes, to at least the tower's size, by the same fraction of its
side (1/2, 1/4, 1/8); then Pillow resizes and crops as the model's preprocessing does. Milliseconds are of a processor,
least of `--rounds`, the libraries in turn. Features are compared where pixels differ. Then photographs are embedded
with each number of threads, as `swclip index` does: the time end to end beside that of the tower alone on decoded
pictures, and the share of the time that the model waits. Writes decode.json and decode.md.
"""

from __future__ import annotations

import importlib.util
import io
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import markdown, new_parser, say, write_results
from PIL import Image

from swclip.imaging.decode import decode_photograph
from swclip.models.embed import pixel_batches, pixel_features
from swclip.models.locator_model import load_model

BATCH = 32


@torch.no_grad()
def main() -> None:
    """Measure, and write the tables."""
    parser = new_parser(__doc__, out_required=True)
    parser.add_argument("run", type=Path)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--photographs", dest="count", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 4])
    options = parser.parse_args()
    paths = sorted(options.photographs.rglob("*.jpg"))[: options.count]
    model = load_model(options.run)
    libraries = decoders(model.preprocess.decode_px)
    report: dict[str, Any] = {"load": os.getloadavg()[0], "photographs": len(paths)}
    say("decoding")
    files = [path.read_bytes() for path in paths]
    report["decode_ms"] = {name: [] for name in libraries}
    for _ in range(options.rounds):
        for name, decode in libraries.items():
            report["decode_ms"][name].append(
                cpu_ms(lambda decode=decode: [decode(file) for file in files]) / len(files)
            )
    report["preprocess_ms"] = cpu_ms(lambda: [model.preprocess.read(path) for path in paths]) / len(paths)
    say("pixels and features")
    report["against_pillow"] = differences(model, libraries, files)
    say("tower")
    batches = list(pixel_batches(model.preprocess.read, paths, BATCH, None, []))
    report["tower_ms"] = least(options.rounds, lambda: embed(model, batches)) / len(paths)
    say("end to end")
    report["end_to_end"] = {}
    for threads in options.threads:
        waits: list[float] = []
        before, start = time.process_time(), time.perf_counter()
        embed(model, timed(pixel_batches(model.preprocess.read, paths, BATCH, threads, []), waits))
        report["end_to_end"][threads] = {
            "cpu_ms": 1e3 * (time.process_time() - before) / len(paths),
            "waits": sum(waits) / (time.perf_counter() - start),
            "waits_after_first": sum(waits[1:]) / (time.perf_counter() - start),
        }
    write_results(options.out, "decode", report, table(report))


def decoders(size_px: int) -> dict[str, Callable[[bytes], Any]]:
    """The ways to decode bytes to pixels (H, W, 3) whose sides are at least `size_px`."""

    def draft(data: bytes) -> Any:
        image = Image.open(io.BytesIO(data))
        image.draft(None, (size_px, size_px))
        return np.asarray(image.convert("RGB"))

    def whole(data: bytes) -> Any:
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    def simple(data: bytes, **options: bool) -> Any:
        import simplejpeg

        width, height = Image.open(io.BytesIO(data)).size
        factor = next((step for step in (8, 4, 2) if min(width, height) // step >= size_px), 1)
        return simplejpeg.decode_jpeg(data, min_height=height / factor, min_width=width / factor, **options)

    pillow = {
        "Pillow, whole": whole,
        "Pillow, draft": draft,
        "swclip (checks, draft, upright)": lambda data: np.asarray(decode_photograph(data, size_px=size_px)),
    }
    if importlib.util.find_spec("simplejpeg") is None:
        say("simplejpeg is not installed, and is left out.")
        return pillow
    return {
        **pillow,
        "simplejpeg": simple,
        "simplejpeg, fast": lambda data: simple(data, fastdct=True, fastupsample=True),
    }


def differences(model: Any, libraries: dict[str, Callable[[bytes], Any]], files: list[bytes]) -> dict[str, Any]:
    """Pixels and features of each library, against those of Pillow's draft."""

    def features(pixels: list[Any]) -> Any:
        read = [model.preprocess(Image.fromarray(picture)) for picture in pixels]
        rows = pixel_features(model, read)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    expected = [libraries["Pillow, draft"](file) for file in files]
    reference, found = features(expected), {}
    for name in [name for name in libraries if name.startswith("simplejpeg")]:
        pixels = [libraries[name](file) for file in files]
        same_size = [a.shape == b.shape for a, b in zip(expected, pixels, strict=True)]
        off = [np.abs(a.astype(int) - b).max() for a, b, same in zip(expected, pixels, same_size, strict=True) if same]
        cosine = (features(pixels) * reference).sum(axis=1)
        found[name] = {
            "same_size": sum(same_size),
            "same_pixels": int(sum(value == 0 for value in off)),
            "largest": int(max(off, default=0)),
            "least_cosine": float(cosine.min()),
        }
    return found


def embed(model: Any, batches: Any) -> None:
    """Run the tower over batches of pictures."""
    for batch in batches:
        pixel_features(model, batch)


def timed(batches: Iterator[Any], waits: list[float]) -> Iterator[Any]:
    """The batches; `waits` gets the seconds until each came."""
    while True:
        start = time.perf_counter()
        batch = next(batches, None)
        waits.append(time.perf_counter() - start)
        if batch is None:
            return
        yield batch


def cpu_ms(call: Callable[[], Any]) -> float:
    """Milliseconds of a processor that a call takes."""
    start = time.process_time()
    call()
    return 1e3 * (time.process_time() - start)


def least(rounds: int, call: Callable[[], Any]) -> float:
    """The least milliseconds of a processor."""
    return min(cpu_ms(call) for _ in range(rounds))


def table(report: dict[str, Any]) -> str:
    """The figures as Markdown."""
    decode = {name: min(values) for name, values in report["decode_ms"].items()}
    against = report["against_pillow"]
    rows = []
    for name, ms in decode.items():
        other = against.get(name)
        pixels = (
            "" if other is None else f"{other['same_pixels']} of {report['photographs']}, at most {other['largest']}"
        )
        rows.append((name, f"{ms:.2f}", pixels, "" if other is None else f"{other['least_cosine']:.6f}"))
    libraries = markdown(("decoded by", "ms", "same pixels, largest difference", "least cosine of features"), rows)
    tower = report["tower_ms"]
    rows = [
        (
            str(threads),
            f"{part['cpu_ms']:.1f}",
            f"{tower / part['cpu_ms']:.1%}",
            f"{part['waits']:.1%}",
            f"{part['waits_after_first']:.1%}",
        )
        for threads, part in report["end_to_end"].items()
    ]
    columns = (
        "threads",
        "ms of a processor, end to end",
        "of the tower's rate",
        "model waits",
        "after the first batch",
    )
    lead = (
        f"Tower alone: {tower:.1f} ms a photograph; decoding and preprocessing: {report['preprocess_ms']:.1f} ms.\n\n"
    )
    return libraries + "\n" + lead + markdown(columns, rows)


if __name__ == "__main__":
    main()
