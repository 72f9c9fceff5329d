"""Building a gallery in one process, on Ray with 1 and 2 workers, and in clip-retrieval's way of work; and its memory.

    python benchmarks/ray_scale.py MANIFEST --image-tower facebook/dinov2-small --photographs 256 1024 --out results/ray
    # with clip-retrieval, in an environment of its own
    python -m venv clip-env && clip-env/bin/pip install --no-deps clip-retrieval
    clip-env/bin/pip install torch transformers fsspec "numpy<2" "pandas<3" "pyarrow<16"
    python benchmarks/ray_scale.py MANIFEST ... --clip-retrieval clip-env/bin/python

All embed the same photographs by the same tower; the heads of swclip's model are not trained, since only the time is
measured. A worker is a machine of a local cluster with one processor: an actor that embeds, and a task that decodes.
Every process has one thread of torch. clip-retrieval's reader, runner and writer run as published, around the same
tower and Pillow's decoding (its own mapper needs a checkpoint of CLIP), with one process for its reader.

Each way embeds a smaller and a larger number of photographs. Photographs a second, and seconds of the processors of
each, are by the differences of the two, so that starting is not counted; the time to start is what is left. The memory
is the peak of the process that gives the command, and of the largest worker, for `--memory` made-up photographs and a
tiny model.
Writes ray.json and ray.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from common import markdown, new_parser, say, write_results
from PIL import Image

from swclip.data.manifest import Manifest, read_manifest, write_manifest
from swclip.gallery.build import build_gallery, manifest_candidates
from swclip.gallery.read_write import save_gallery
from swclip.gallery.schema import manifest_details
from swclip.gallery.store import GalleryStore
from swclip.models.config import ImageConfig, LocationConfig, ModelConfig
from swclip.models.locator_model import LocatorModel

BATCH, MIB = 64, 2**20


@dataclass
class Meter:
    """Time, seconds of the processors and memory of this process and its descendants.

    Attributes:
        cpu_s: Seconds of the processors by process.
        peak: Largest resident set by process, bytes.
    """

    cpu_s: dict[int, float] = field(default_factory=dict)
    peak: dict[int, int] = field(default_factory=dict)
    began: float = 0.0
    ended: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Watch processes meanwhile."""
        stop, before = threading.Event(), _cpu_s(os.getpid())
        watcher = threading.Thread(target=self._watch, args=(stop,), daemon=True)
        self.began = time.perf_counter()
        watcher.start()
        try:
            yield
        finally:
            self.ended = time.perf_counter()
            stop.set()
            watcher.join()
            self.cpu_s[os.getpid()] = _cpu_s(os.getpid()) - before

    def _watch(self, stop: threading.Event) -> None:
        while not stop.wait(0.2):
            for process in (os.getpid(), *_descendants(os.getpid())):
                try:
                    self.cpu_s[process] = _cpu_s(process)
                    resident = int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
                    shared = int(Path(f"/proc/{process}/statm").read_text().split()[2]) * os.sysconf("SC_PAGE_SIZE")
                except (OSError, IndexError):
                    continue
                self.peak[process] = max(self.peak.get(process, 0), resident - shared)

    def figures(self) -> dict[str, float]:
        """Seconds, and memory in MiB."""
        workers = [size for process, size in self.peak.items() if process != os.getpid()]
        return {
            "seconds": self.ended - self.began,
            "cpu_s": sum(self.cpu_s.values()),
            "driver_mib": self.peak.get(os.getpid(), 0) / MIB,
            "worker_mib": max(workers, default=0) / MIB,
        }


def _cpu_s(process: int) -> float:
    values = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")


def _descendants(process: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            children = [int(child) for child in task.read_text().split()]
        except OSError:
            continue
        for child in children:
            found += [child, *_descendants(child)]
    return found


@contextmanager
def machines(count: int) -> Iterator[None]:
    """A cluster of local machines with one processor each, which RAY_ADDRESS names."""
    from swclip.scale.cluster import QUIET

    os.environ.update(QUIET)
    from ray.cluster_utils import Cluster

    machine = {"num_cpus": 1, "object_store_memory": 300 * MIB, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=machine)
    for _ in range(count - 1):
        cluster.add_node(num_cpus=1, object_store_memory=300 * MIB)
    os.environ["RAY_ADDRESS"] = cluster.address
    try:
        yield
    finally:
        del os.environ["RAY_ADDRESS"]
        cluster.shutdown()


def in_one_process(model: LocatorModel, manifest: Manifest, out: Path) -> Meter:
    """What `swclip index --no-cache` does."""
    meter = Meter()
    with meter.running():
        gallery = build_gallery(model, manifest_candidates(manifest), manifest, batch_size=BATCH)
        save_gallery(gallery, out, model, details=manifest_details(manifest))
    return meter


def on_ray(model: LocatorModel, manifest: Manifest, out: Path, workers: int) -> Meter:
    """What `swclip index --engine ray` does."""
    from swclip.scale.build_gallery import build_gallery_on_cluster

    meter = Meter()
    with machines(workers), meter.running():
        build_gallery_on_cluster(model, manifest_candidates(manifest), manifest, out, batch_size=BATCH)
    return meter


CLIP_RETRIEVAL = """
import importlib.util, os, sys
from pathlib import Path
import numpy as np, torch, transformers
from PIL import Image
folder, tower, size, out = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
package = Path(importlib.util.find_spec("clip_retrieval").submodule_search_locations[0]) / "clip_inference"
def module(name):  # as files: the package imports its server, which is not needed
    spec = importlib.util.spec_from_file_location(name, package / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded
reader, runner, writer = module("reader"), module("runner"), module("writer")
model = transformers.AutoModel.from_pretrained(tower).eval()
mean, std = (np.array(v, np.float32)[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
def preprocess(image):
    image = image.convert("RGB")
    scale = size / min(image.size)
    image = image.resize([max(size, round(side * scale)) for side in image.size], Image.Resampling.BICUBIC)
    left, top = ((side - size) // 2 for side in image.size)
    pixels = np.asarray(image.crop((left, top, left + size, top + size)), np.float32).transpose(2, 0, 1) / 255
    return torch.from_numpy((pixels - mean) / std)
def mapper(batch):
    with torch.no_grad():
        tokens = model(batch["image_tensor"]).last_hidden_state
    features = torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], 1)
    features /= features.norm(dim=-1, keepdim=True)
    return {"image_embs": features.to(torch.float16).numpy(), "image_filename": batch["image_filename"]}
class Logger:
    def start(self): pass
    def end(self): pass
    def __call__(self, figures): pass
runner.Runner(
    lambda sampler: reader.FilesReader(sampler, preprocess, None, str(folder), 64, 1, False, True, False),
    lambda: mapper,
    lambda part: writer.NumpyWriter(part, out, False, True, False, 1),
    lambda part: Logger(),
    1,
)(0)
"""


def in_clip_retrieval(python: str, manifest: Manifest, tower: str, size_px: int, out: Path) -> Meter:
    """clip-retrieval's reader, runner and writer on links to the same photographs."""
    folder = out / "photographs"
    folder.mkdir(parents=True)
    for number, path in enumerate(manifest.image_paths):
        (folder / f"{number:06d}{path.suffix}").symlink_to(path)
    meter = Meter()
    arguments = [python, "-c", CLIP_RETRIEVAL, str(folder), tower, str(size_px), str(out / "embeddings")]
    with meter.running():
        code = subprocess.run(arguments, check=False).returncode
    if code:
        raise SystemExit(f"clip-retrieval ended with {code}")
    return meter


def model_of(manifest: Manifest, **image: Any) -> LocatorModel:
    """A model with heads that are not trained."""
    location = LocationConfig(text_tower="none", grid_levels=4, grid_log2_size=10)
    return LocatorModel.create(
        ModelConfig(image=ImageConfig(**image), location=location), manifest.positions_deg
    ).eval()


def made_up(folder: Path, count: int) -> Manifest:
    """A manifest of so many rows, which share 500 small photographs."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(500):
        if not (folder / f"{number}.jpg").exists():
            Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(folder / f"{number}.jpg")
    rows = np.arange(count)
    frame = pd.DataFrame({"image_id": [f"i{row}" for row in rows], "image_path": [f"{row % 500}.jpg" for row in rows]})
    lat, lon = np.divmod(rows // 4, 300)
    return write_manifest(folder / f"{count}.parquet", frame.assign(lat_deg=51 + lat * 1e-3, lon_deg=lon * 1e-3))


def memory_child(arguments: argparse.Namespace) -> None:
    """One measurement of memory, in a process of its own."""
    manifest = made_up(arguments.out / "made-up", arguments.memory[0])
    model = model_of(manifest, size_px=32)
    out = arguments.out / "memory"
    meter = in_one_process(model, manifest, out) if arguments.child == "one" else on_ray(model, manifest, out, 1)
    print(json.dumps(meter.figures()))


def main() -> None:
    """Run the comparison."""
    parser = new_parser(__doc__, out_required=True)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--image-tower", default="builtin:small")
    parser.add_argument("--photographs", type=int, nargs=2, default=[150, 600], help="a smaller and a larger number")
    parser.add_argument("--clip-retrieval", metavar="PYTHON")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--memory", type=int, nargs="*", default=[2_000, 8_000, 32_000])
    parser.add_argument("--child", choices=["one", "ray"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        memory_child(options)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    whole = read_manifest(options.manifest)
    few, many = (Manifest(whole.path, whole.frame.iloc[:count].reset_index(drop=True)) for count in options.photographs)
    model = model_of(many, tower=options.image_tower)
    galleries = {"one": options.out / "one"} | {f"ray-{n}": options.out / f"ray-{n}" for n in options.workers}
    ways: dict[str, Callable[[Manifest], Meter]] = {
        "one process": lambda manifest: in_one_process(model, manifest, galleries["one"])
    }
    for count in options.workers:
        title = f"Ray, {count} worker{'' if count == 1 else 's'}"
        ways[title] = partial(on_ray, model, out=galleries[f"ray-{count}"], workers=count)
    if options.clip_retrieval:
        size_px = int(model.preprocess.decode_px if hasattr(model.preprocess, "decode_px") else 224)
        ways["clip-retrieval's way"] = lambda manifest: in_clip_retrieval(
            options.clip_retrieval, manifest, options.image_tower, size_px, options.out / f"clip-{len(manifest)}"
        )
    rows = {}
    for name, way in ways.items():
        rows[name] = _compared(way(few), way(many), len(few), len(many))
        say(f"{name}: {rows[name]}")
    tables = [GalleryStore.open(folder).read().sort_by("entry_id") for folder in galleries.values()]
    same = all(table.equals(tables[0]) for table in tables)
    memory = []
    for count in options.memory:
        for kind in ("one", "ray"):
            arguments = ["MANIFEST", "--out", str(options.out), "--memory", str(count), "--child", kind]
            answer = subprocess.run(
                [sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True, check=True
            ).stdout
            memory.append({"photographs": count, "in": kind, **json.loads(answer.splitlines()[-1])})
            say(str(memory[-1]))
    document = {"throughput": rows, "same_rows": same, "memory": memory, "load": os.getloadavg()}
    write_results(options.out, "ray", document, _report(rows, same, memory))


def _compared(small: Meter, large: Meter, few: int, many: int) -> dict[str, float]:
    """The figures of the larger number, and what each photograph takes by the difference from the smaller one."""
    small_figures, figures = small.figures(), large.figures()
    each_s = (figures["seconds"] - small_figures["seconds"]) / (many - few)
    return {
        "per_second": 1 / each_s,
        "each_cpu_s": (figures["cpu_s"] - small_figures["cpu_s"]) / (many - few),
        "start_s": figures["seconds"] - many * each_s,
        **figures,
    }


def _report(rows: dict[str, dict[str, float]], same: bool, memory: list[dict[str, Any]]) -> str:
    columns = {"per_second": 1, "each_cpu_s": 3, "start_s": 0, "seconds": 0, "cpu_s": 0}
    throughput = markdown(
        ["", "photographs a second", "processor seconds each", "start, s", "in all, s", "processor seconds in all"],
        [[name, *(f"{row[key]:.{digits}f}" for key, digits in columns.items())] for name, row in rows.items()],
    )
    keys = ("driver_mib", "worker_mib", "seconds")
    sizes = markdown(
        ["photographs", "in", "command, MiB", "largest worker, MiB", "s"],
        [[f"{row['photographs']:,}", row["in"], *(f"{row[key]:.0f}" for key in keys)] for row in memory],
    )
    rows_are = "The rows of all galleries are " + ("the same." if same else "NOT the same.")
    return f"{rows_are}\n\n{throughput}\n\n{sizes}\n"


if __name__ == "__main__":
    main()
