"""`swclip locate` of many photographs into a file: photographs per second, memory, and the cost of resuming.

    python benchmarks/locate_many.py [--counts 10000 100000] [--format jsonl] [--folder /tmp/somewhere]

The photographs are 500 small JPEGs, repeated in a list; the model is small and untrained, and the gallery has 200
places: the benchmark measures everything but the tower. Each count is located by a separate process, which is killed
at half of the photographs and started again.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from common import new_parser, table_of, write_results
from PIL import Image

from swclip.calibration.conformal import Calibration
from swclip.gallery.gallery import gallery_from_embeddings
from swclip.gallery.read_write import save_gallery
from swclip.models.config import ImageConfig, LocationConfig, ModelConfig
from swclip.models.embed import embed_positions
from swclip.models.locator_model import LocatorModel

_TAIL_BYTES = 8 * 2**20

PHOTOGRAPHS, PLACES = 500, 200


def main() -> None:
    """Run the measurement."""
    parser = new_parser(__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--format", default="jsonl")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        names = _make(Path(folder))
        results = {f"{n:,}": _measured(Path(folder), names, n, options.format) for n in options.counts}
    transposed = {key: {n: figures[key] for n, figures in results.items()} for key in next(iter(results.values()))}
    write_results(options.out, "locate_many", results, table_of(transposed, "photographs"))


def _measured(folder: Path, names: list[str], count: int, format: str) -> dict[str, Any]:
    listed, out = folder / f"list-{count}", folder / f"answers.{format}"
    listed.write_text("".join(f"{names[n % len(names)]}\n" for n in range(count)))
    command = [sys.executable, "-m", "swclip", "locate", str(folder / "gallery"), "--list", str(listed)]
    command += ["--out", str(out), "--top-k", "5"]
    journal = folder / f"{out.name}.partial"

    first = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    begun, begun_at = _wait_for(journal, 1, first)
    half, half_at = _wait_for(journal, count // 2, first)
    first.send_signal(signal.SIGKILL)
    first.wait()

    again_at = time.monotonic()
    again = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    _, first_at = _wait_for(journal, half + 1, again)
    journal_bytes = 0
    while (journal / "header.json").exists() and _done(journal) < count:
        time.sleep(0.05)
        journal_bytes = max(journal_bytes, _size(journal / "answers.jsonl"))
    answered_at = time.monotonic()
    _, status, usage = os.wait4(again.pid, 0)
    ended_at, again.returncode = time.monotonic(), os.waitstatus_to_exitcode(status)
    if again.returncode:
        raise SystemExit(f"the resumed process failed: {status}")
    return {
        "photographs_a_second": round((half - begun) / (half_at - begun_at), 1),
        "killed_at": half,
        "seconds_from_start_to_the_first_new_answers_after_the_kill": round(first_at - again_at, 2),
        "seconds_to_write_the_file_at_the_end": round(ended_at - answered_at, 2),
        "peak_memory_mb": round(usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)),
        "journal_mb": round(journal_bytes / 1e6, 1),
        "file_mb": round(_size(out) / 1e6, 1),
    }


def _wait_for(journal: Path, count: int, process: subprocess.Popen[bytes]) -> tuple[int, float]:
    while (done := _done(journal)) < count:
        if process.poll() is not None:
            raise SystemExit(f"the process ended before {count} answers were seen: give a larger --counts.")
        time.sleep(0.02)
    return done, time.monotonic()


def _done(journal: Path) -> int:
    try:
        with (journal / "answers.jsonl").open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - _TAIL_BYTES))
            return int([0, *re.findall(rb'\n{"done": (\d+), "crc32": \d+}\n', stream.read())][-1])
    except FileNotFoundError:
        return 0


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _make(folder: Path) -> list[str]:
    """Write a gallery and photographs; return the names of the photographs."""
    generator = np.random.default_rng(0)
    positions = np.array([53.8, -1.55]) + generator.normal(0.0, [0.01, 0.015], (PLACES, 2))
    config = ModelConfig(
        image=ImageConfig(size_px=32, head_width=16),
        location=LocationConfig(text_tower="none", grid_levels=2, grid_log2_size=8, hidden_width=16),
        embedding_dim=32,
    )
    model = LocatorModel.create(config, positions, seed=0).eval()
    places = pd.DataFrame({"candidate_id": [f"c{n}" for n in range(PLACES)], "city": "Leeds"})
    places = places.assign(lat_deg=positions[:, 0], lon_deg=positions[:, 1], image_ids=[[] for _ in range(PLACES)])
    gallery = gallery_from_embeddings(
        places, embed_positions(model, positions), meta={"fingerprint": model.fingerprint}
    )
    calibration = Calibration(np.linspace(0.01, 0.99, 99), (None,) * 99, 11, 25.0)
    save_gallery(gallery, folder / "gallery", model, calibration)
    names = []
    for number in range(PHOTOGRAPHS):
        path = folder / f"{number:03d}.jpg"
        Image.fromarray(generator.integers(0, 256, (32, 48, 3), dtype=np.uint8)).save(path)
        names.append(str(path))
    return names


if __name__ == "__main__":
    main()
