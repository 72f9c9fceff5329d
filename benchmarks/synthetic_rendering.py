"""Photographs per second of the synthetic cities, by size, on one core.

    python benchmarks/synthetic_rendering.py [SIZE ...]

Prints two rates, by wall-clock and by CPU time (equal on an idle machine); then the CPU time of a caption and of a map
tile, and the number of photographs with a caption, and with the name of a shop sign.
"""

from __future__ import annotations

import io
import sys
import time

from PIL import Image

from swclip.synthetic.captions import caption_of
from swclip.synthetic.captures import frame_shot, plan_captures
from swclip.synthetic.lettering import SHOP_NAMES
from swclip.synthetic.map_tile import map_tile
from swclip.synthetic.photograph import JPEG_QUALITY
from swclip.synthetic.render import render
from swclip.synthetic.scene import build_scene


def main() -> None:
    """Render some photographs of each size."""
    sizes = [int(a) for a in sys.argv[1:]] or [64, 96, 128, 160, 320, 640]
    began = time.perf_counter()
    scene = build_scene(0, 0)
    print(f"building a city: {time.perf_counter() - began:.2f} s")
    places, captures = plan_captures(0, 400, 0)
    render(scene, frame_shot(scene, 0, captures[0], 32, 0))  # fonts and sprites are drawn once per process
    print("| size, px | photographs/s | photographs/s of processor time |\n|---|---|---|")
    for size in sizes:
        chosen = captures[:: max(1, size // 16)]
        wall, used = time.perf_counter(), time.process_time()
        for capture in chosen:
            picture = render(scene, frame_shot(scene, 0, capture, size, 0))
            Image.fromarray(picture).save(io.BytesIO(), format="JPEG", quality=JPEG_QUALITY, subsampling=0)
        wall, used = time.perf_counter() - wall, time.process_time() - used
        print(f"| {size} | {len(chosen) / wall:.1f} | {len(chosen) / used:.1f} |")
    shots = [(capture, frame_shot(scene, 0, capture, 128, 0)) for capture in captures[::4]]
    used = time.process_time()
    texts = [caption_of(scene, 0, places[c.place], c, shot, 0) for c, shot in shots]
    print(f"a caption: {1000 * (time.process_time() - used) / len(shots):.1f} ms")
    used = time.process_time()
    map_tile(0, captures[0], 0)
    print(f"the map of a city: {time.process_time() - used:.2f} s")
    used = time.process_time()
    for capture, _ in shots:
        map_tile(0, capture, 0).save(io.BytesIO(), format="PNG")
    print(f"a map tile: {1000 * (time.process_time() - used) / len(shots):.1f} ms")
    signs = sum(any(name in (text or "").upper() for name in SHOP_NAMES) for text in texts)
    print(f"of {len(texts)} photographs {sum(text is not None for text in texts)} have a caption, {signs} name a sign")


if __name__ == "__main__":
    main()
