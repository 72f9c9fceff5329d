"""Views of panoramas against py360convert: differences of the same view, aliasing, and time.

    pip install py360convert==1.0.4            # in an environment of its own
    python benchmarks/panoramas.py --other ENVIRONMENT/bin/python --out results/panoramas

The panorama is smooth noise of several scales with fine lines, drawn by code, 4096 x 2048. Three comparisons:

- the same view at the resolution of the panorama, where both sample bilinearly;
- a view of a quarter of that resolution against the mean of 8 x 8 samples of the whole panorama for each of its pixels,
  which is what a camera with such pixels would see;
- processor seconds for four views, from pixels in memory, and from a JPEG file to JPEG files.

py360convert puts the centres of the outermost pixels at the edges of the field of view, and swclip their outer edges:
its field of view is set so that all pixel centres agree. `--photographs MANIFEST` measures how many photographs that
are no panoramas would be taken for one by their edges, if their shape allowed it.

Writes panoramas.json and panoramas.md.
"""

from __future__ import annotations

import json
import math
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import markdown, new_parser, say, write_results
from PIL import Image

FOV_DEG = 90.0
HEADINGS = (0.0, 90.0, 180.0, 270.0)
QUARTER = "a quarter of it"
REPEATS = 3

# Runs in the other environment: views of a panorama to a file, and the seconds on the standard output.
OTHER = """
import json, math, sys, time
import numpy as np
from py360convert import e2p
pixels, target, size = np.load(sys.argv[1]), sys.argv[2], int(sys.argv[3])
headings, repeats = json.loads(sys.argv[4]), int(sys.argv[5])
fov = math.degrees(2 * math.atan(math.tan(math.radians(float(sys.argv[6])) / 2) * (size - 1) / size))
seconds = []
for k in range(repeats):
    start = time.process_time()
    # Directions are in -180 to 180, positive to the right.
    views = [e2p(pixels, fov, (h + 180) % 360 - 180, float(sys.argv[7]), (size, size)) for h in headings]
    seconds.append(time.process_time() - start)
np.save(target, np.stack(views))
print(json.dumps(seconds))
"""


def drawn_panorama(across: int) -> np.ndarray:
    """A panorama, `across` pixels wide, with detail down to single pixels; its left and right edges join."""
    rng = np.random.default_rng(0)
    picture = np.zeros((across // 2, across, 3))
    scales = {16: 60.0, 128: 40.0, 1024: 30.0, across: 15.0}
    for width, strength in ((width, strength) for width, strength in scales.items() if width <= across):
        coarse = rng.normal(0.0, strength, (width // 2, width, 3))
        coarse = np.concatenate([coarse, coarse[:, :2]], axis=1)
        scale = across // width
        planes = [Image.fromarray(coarse[..., c].astype(np.float32)) for c in range(3)]
        size = (coarse.shape[1] * scale, coarse.shape[0] * scale)
        wide = np.stack([np.asarray(plane.resize(size, Image.Resampling.BILINEAR)) for plane in planes], axis=-1)
        picture += wide[:, scale : scale + across]
    lat = np.linspace(90.0, -90.0, across // 2)
    picture[np.abs(lat) < 40.0, ::64] += 90.0  # lines as of walls and windows
    return np.clip(128.0 + picture, 0, 255).astype(np.uint8)


def ideal_view(pixels: np.ndarray, size: int, heading_deg: float, pitch_deg: float, samples: int) -> np.ndarray:
    """The mean of `samples` squared bilinear samples of each pixel, in float64 and by the formula."""
    n = size * samples
    focal = n / 2.0 / math.tan(math.radians(FOV_DEG) / 2.0)
    sums, across = np.zeros((size, size, 3)), pixels.shape[1]
    pitch = math.radians(pitch_deg)
    x = (np.arange(n) + 0.5 - n / 2.0) / focal
    for row in range(size):
        y = (n / 2.0 - 0.5 - np.arange(row * samples, (row + 1) * samples))[:, None] / focal
        up, forward = y * math.cos(pitch) + math.sin(pitch), math.cos(pitch) - y * math.sin(pitch)
        lon = np.arctan2(x, forward + 0.0 * x) + math.radians(heading_deg)
        lat = np.arctan2(up, np.hypot(x, forward))
        column = np.mod(lon / (2.0 * np.pi) + 0.5, 1.0) * across - 0.5
        line = np.clip((0.5 - lat / np.pi) * (across // 2) - 0.5, 0, across // 2 - 1.001)
        left, top = np.floor(column).astype(int), np.floor(line).astype(int)
        fx, fy = (column - left)[..., None], (line - top)[..., None]
        at = [pixels[top + dy, (left + dx) % across].astype(float) for dy in (0, 1) for dx in (0, 1)]
        values = (at[0] * (1 - fx) + at[1] * fx) * (1 - fy) + (at[2] * (1 - fx) + at[3] * fx) * fy
        sums[row] = values.reshape(samples, size, samples, 3).mean(axis=(0, 2))
    return sums


def difference(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Largest, mean and root mean square difference of levels, 0 to 255."""
    apart = np.abs(a.astype(float) - b.astype(float))
    return {"largest": float(apart.max()), "mean": float(apart.mean()), "rms": float(np.sqrt((apart**2).mean()))}


def best_seconds(work: Callable[[], Any]) -> float:
    """The shortest processor time of several runs."""
    seconds = []
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds)


def other_views(python: str, pixels: Path, folder: Path, size: int, pitch_deg: float) -> tuple[np.ndarray, float]:
    """The views of py360convert, and its shortest time."""
    target = folder / "views.npy"
    arguments = [str(pixels), str(target), str(size), json.dumps(HEADINGS), str(REPEATS), str(FOV_DEG), str(pitch_deg)]
    done = subprocess.run([python, "-c", OTHER, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{python}: {done.stderr}")
    return np.load(target), min(json.loads(done.stdout))


def compare(python: str | None, across: int, folder: Path) -> list[dict[str, Any]]:
    """Differences and times at each size."""
    from swclip.imaging.panoramas import Panorama, ViewOptions, perspective_views, write_views

    pixels = drawn_panorama(across)
    # Pixels of a view of 90 degrees whose middle has the resolution of the panorama; 640 beside 4096 is the default.
    sizes = {"resolution of the panorama": across / math.pi, QUARTER: across / math.pi / 4, "the default": across / 6.4}
    file, photograph = folder / "panorama.npy", folder / "panorama.jpg"
    np.save(file, pixels)
    Image.fromarray(pixels).save(photograph, quality=92)
    results = []
    for name, size in ((name, round(exact)) for name, exact in sizes.items()):
        for pitch_deg in (0.0, 30.0):
            options = ViewOptions(
                headings_deg=HEADINGS, fov_deg=FOV_DEG, pitch_deg=pitch_deg, width_px=size, height_px=size
            )

            def render(options: ViewOptions = options) -> list[np.ndarray]:
                return list(perspective_views(pixels, Panorama("gpano", 0.0), options))

            def write(options: ViewOptions = options, size: int = size) -> None:
                key = f"{time.perf_counter()}"  # another panorama, so that nothing is kept
                targets = {heading: folder / f"{size}-{heading:g}.jpg" for heading in HEADINGS}
                write_views(photograph, Panorama("gpano", 0.0), options, targets, key)

            views = np.stack(render())
            result: dict[str, Any] = {"name": name, "size_px": size, "pitch_deg": pitch_deg}
            result |= {"seconds": best_seconds(render), "file_seconds": best_seconds(write)}
            ideal = None
            if name == QUARTER:
                ideal = np.stack([ideal_view(pixels, size, heading, pitch_deg, 8) for heading in HEADINGS])
                result["to_ideal"] = difference(views, ideal)
            if python is not None:
                theirs, result["their_seconds"] = other_views(python, file, folder, size, pitch_deg)
                result["to_each_other"] = difference(views, theirs)
                if ideal is not None:
                    result["their_to_ideal"] = difference(theirs, ideal)
            results.append(result)
            say(json.dumps(result))
    return results


def mistaken(manifest: Path) -> dict[str, int]:
    """How many photographs have edges like those of a panorama, whatever their shape."""
    from swclip.data.manifest import read_manifest
    from swclip.ingest.panorama_views import panorama_from_pixels

    counts = {"photographs": 0, "mistaken": 0}
    for path in read_manifest(manifest).image_paths:
        with Image.open(path) as picture:
            panorama = panorama_from_pixels(picture, 2, 1)
        counts["photographs"] += 1
        counts["mistaken"] += panorama is not None and panorama.evidence == "edges"
    return counts


def shown(values: dict[str, float] | None) -> str:
    """Largest, mean and root mean square in a cell."""
    return "-" if values is None else f"{values['largest']:.0f} / {values['mean']:.2f} / {values['rms']:.2f}"


def main() -> None:
    """Compare, and write the tables."""
    parser = new_parser(__doc__, out_required=True)
    parser.add_argument("--other", help="Python of an environment with py360convert")
    parser.add_argument("--across", type=int, default=4096, help="width of the panorama, pixels")
    parser.add_argument("--photographs", type=Path, help="manifest of photographs that are no panoramas")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.other is None:
        say("py360convert is left out: give --other, the Python of an environment with it")
    with tempfile.TemporaryDirectory(dir=args.out) as folder:
        results = compare(args.other, args.across, Path(folder))
    document: dict[str, Any] = {"results": results}
    rows = [
        [
            f"{result['name']} ({result['size_px']})", f"{result['pitch_deg']:g}", shown(result.get("to_each_other")),
            shown(result.get("to_ideal")), shown(result.get("their_to_ideal")), f"{result['seconds']:.2f}",
            f"{result['their_seconds']:.2f}" if "their_seconds" in result else "-", f"{result['file_seconds']:.2f}",
        ]
        for result in results
    ]  # fmt: skip
    header = ["side of a view, pixels", "pitch", "to py360convert", "to the ideal", "py360convert to the ideal"]
    text = "Differences of levels (0 to 255): largest / mean / root mean square.\n\n"
    text += markdown([*header, "seconds", "py360convert, seconds", "file to files, seconds"], rows)
    if args.photographs is not None:
        document["mistaken"] = mistaken(args.photographs)
        text += (
            f"\n{document['mistaken']['mistaken']} of {document['mistaken']['photographs']} photographs that are no "
        )
        text += "panoramas have edges like those of one.\n"
    write_results(args.out, "panoramas", document, text)


if __name__ == "__main__":
    main()
