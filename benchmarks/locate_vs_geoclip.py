"""`swclip` against `predict` of the `geoclip` package, with the same image architecture and candidates.

    python -m venv geoclip-venv && geoclip-venv/bin/pip install geoclip==1.3.0 .
    geoclip-venv/bin/python benchmarks/locate_vs_geoclip.py PHOTOGRAPHS --out results/geoclip

Both have CLIP's ViT-L/14 as image tower with random weights, since only the time is measured (geoclip by its
`clip_pretrained=False`; swclip from a folder that transformers wrote), and embeddings of dimension 512. The candidates
are the 100,000 positions of geoclip. geoclip's `predict` encodes them on every call and takes one photograph; 16
photographs are 16 calls, of which `--calls` are timed. swclip embeds them once (`swclip index`), which is reported
separately. Where geoclip is not installed, swclip alone is timed, with `--candidates` made-up positions.

Calls of the two alternate in one process. Warm is the median of `--calls` after one that is not counted; cold is a
process that imports, loads and answers one photograph. Seconds are wall-clock and, in parentheses, CPU seconds: on a
loaded machine only the latter are comparable. Writes geoclip.json and geoclip.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import markdown, new_parser, say, timed, write_results

from swclip.files import write_json

DIM, BATCH, TOP = 512, 16, 5
VIT_L = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "patch_size": 14,
    "projection_dim": 768,
}
Seconds = tuple[float, float]


def main() -> None:
    """Run the comparison, or one cold call."""
    parser = new_parser(__doc__, out_required=True)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--calls", type=int, default=5)
    parser.add_argument("--layers", type=int, default=24, help="of swclip's image tower; geoclip's has 24")
    parser.add_argument("--candidates", type=int, default=100_000, help="without geoclip")
    parser.add_argument("--cold", choices=["geoclip", "swclip"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    paths = sorted(path for path in options.photographs.rglob("*") if path.suffix.lower() in (".jpg", ".png"))
    if options.cold:
        (cold_geoclip if options.cold == "geoclip" else cold_swclip)(options.out, paths[0])
        return
    options.out.mkdir(parents=True, exist_ok=True)
    names = ["geoclip", "swclip"]
    if importlib.util.find_spec("geoclip") is None:
        say("geoclip is left out: pip install geoclip==1.3.0")
        names.remove("geoclip")
    made = prepare(options.out, options.layers, options.candidates)
    report: dict[str, Any] = {"load_before": os.getloadavg()[0], **made}
    for name in names:
        say(f"cold: {name}")
        report[f"{name}_cold_s"] = cold(name, options)
    report |= warm(options.out, paths, options.calls, geoclip_model() if "geoclip" in names else None)
    report["load_after"] = os.getloadavg()[0]
    write_results(options.out, "geoclip", report, table(report))


def positions_deg(count: int) -> np.ndarray:
    """The candidates of geoclip, or so many on the globe where it is not installed."""
    package = importlib.util.find_spec("geoclip")
    if package is None or package.origin is None:
        return np.random.default_rng(0).uniform([-60.0, -180.0], [60.0, 180.0], (count, 2))
    import pandas as pd

    table = pd.read_csv(Path(package.origin).parent / "model" / "gps_gallery" / "coordinates_100K.csv")
    return table[["LAT", "LON"]].to_numpy(dtype=np.float64)


def prepare(out: Path, layers: int, count: int) -> dict[str, Any]:
    """Write the tower, and the gallery that `swclip index` would write; once."""
    kept = out / "prepared.json"
    if kept.is_file():
        return dict(json.loads(kept.read_text()))
    import pandas as pd
    import torch
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

    from swclip.calibration.posterior_config import default_posterior
    from swclip.gallery.gallery import gallery_from_embeddings
    from swclip.gallery.read_write import save_gallery
    from swclip.models.config import ImageConfig, LocationConfig, ModelConfig
    from swclip.models.embed import embed_positions
    from swclip.models.locator_model import LocatorModel

    torch.manual_seed(0)
    CLIPVisionModel(CLIPVisionConfig(**VIT_L, num_hidden_layers=layers)).save_pretrained(out / "tower")
    CLIPImageProcessor().save_pretrained(out / "tower")
    positions = positions_deg(count)
    config = ModelConfig(
        image=ImageConfig(tower=str(out / "tower")), location=LocationConfig(text_tower="none"), embedding_dim=DIM
    )
    model = LocatorModel.create(config, positions)
    embedded, took = timed(lambda: embed_positions(model, positions))
    frame = pd.DataFrame({"lat_deg": positions[:, 0], "lon_deg": positions[:, 1]})
    frame["candidate_id"], frame["city"] = [str(row) for row in range(len(frame))], None
    frame["image_ids"] = [[] for _ in range(len(frame))]
    meta = {"fingerprint": model.fingerprint, "posterior": default_posterior(model).to_dict()}
    save_gallery(gallery_from_embeddings(frame, embedded, meta=meta), out / "gallery", model)
    write_json(kept, {"candidates": len(frame), "swclip_embeds_the_gallery_once_s": took})
    return dict(json.loads(kept.read_text()))


def cold(name: str, options: argparse.Namespace) -> Seconds:
    """A process from its start to its first answer."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, __file__, str(options.photographs), "--out", str(options.out), "--cold", name]
    subprocess.run(command, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - start, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def geoclip_model() -> Any:
    """The package's model with its location encoder and head, and an untrained CLIP of its architecture."""
    from geoclip import GeoCLIP

    return GeoCLIP(clip_pretrained=False).eval()


def cold_geoclip(out: Path, path: Path) -> None:
    """Import, load, one `predict`."""
    geoclip_model().predict(str(path), TOP)


def cold_swclip(out: Path, path: Path) -> None:
    """Import, load, one `locate`."""
    from swclip.retrieval.locator import Locator

    Locator.from_gallery(out / "gallery").locate([path], top_k=TOP, region=None)


def warm(out: Path, paths: list[Path], calls: int, theirs: Any) -> dict[str, Any]:
    """Time calls of the two in turn, and their parts; `theirs` is geoclip's model or None."""
    import torch
    from PIL import Image

    from swclip.models.embed import embed_photographs
    from swclip.retrieval.locator import Locator

    ours = Locator.from_gallery(out / "gallery")
    took: dict[str, list[Seconds]] = {}

    def clock(name: str, call: Callable[[], Any]) -> Any:
        result, seconds = timed(call)
        took.setdefault(name, []).append(seconds)
        return result

    with torch.no_grad():
        for call in range(calls + 1):
            say(f"warm: call {call} of {calls}")
            path = paths[call]
            if theirs is not None:
                clock("geoclip", lambda path=path: theirs.predict(str(path), TOP))
            clock("swclip", lambda path=path: ours.locate([path], top_k=TOP, region=None))
            if call == 0:  # not warm yet
                took.clear()
                continue
            if theirs is not None:
                pixels = clock(
                    "geoclip: decode",
                    lambda path=path: theirs.image_encoder.preprocess_image(Image.open(path).convert("RGB")),
                )
                clock("geoclip: image", lambda pixels=pixels: theirs.image_encoder(pixels))
                clock("geoclip: gallery", lambda: theirs.location_encoder(theirs.gps_gallery))
            query = clock("swclip: decode and image", lambda path=path: embed_photographs(ours.model, [path]))
            clock("swclip: search and answer", lambda query=query: _search(ours, query))
        many = [paths[at % len(paths)] for at in range(BATCH)]
        _, batch = timed(lambda: ours.locate(many, top_k=TOP, region=None, batch_size=BATCH))
    middle = {name: tuple(float(np.median(part)) for part in zip(*all_, strict=True)) for name, all_ in took.items()}
    return {"calls": calls, "threads": torch.get_num_threads(), "warm_s": middle, f"swclip_{BATCH}_s": batch}


def _search(locator: Any, query: Any) -> Any:
    return locator.answer_posteriors(locator.evidence(query).log_p, TOP, "mode")


def table(report: dict[str, Any]) -> str:
    """The figures side by side, and their ratios."""
    warm_s = report["warm_s"]
    theirs = warm_s.get("geoclip")
    sixteen = None if theirs is None else tuple(BATCH * seconds for seconds in theirs)
    without = None  # the image features, which cost both about the same
    if theirs is not None:
        image = [warm_s[f"geoclip: {part}"] for part in ("decode", "image")]
        without = tuple(whole - sum(part[at] for part in image) for at, whole in enumerate(theirs))
    pairs = [
        ("cold, one photograph", report.get("geoclip_cold_s"), report["swclip_cold_s"]),
        ("warm, one photograph", theirs, warm_s["swclip"]),
        ("warm, one photograph, without its image features", without, warm_s["swclip: search and answer"]),
        (f"warm, {BATCH} photographs (geoclip: {BATCH} calls)", sixteen, report[f"swclip_{BATCH}_s"]),
    ]
    rows = [
        (
            name,
            "-" if a is None else _seconds(a),
            _seconds(b),
            "-" if a is None else f"{a[0] / b[0]:.1f} ({a[1] / b[1]:.1f})",
        )
        for name, a, b in pairs
    ]
    parts = [(name, _seconds(seconds)) for name, seconds in warm_s.items() if ":" in name]
    columns = ("seconds (processor)", "geoclip 1.3.0", "swclip", "ratio")
    return markdown(columns, rows) + "\n" + markdown(("part of a warm call", "seconds (processor)"), parts)


def _seconds(value: Any) -> str:
    return f"{value[0]:.2f} ({value[1]:.2f})"


if __name__ == "__main__":
    main()
