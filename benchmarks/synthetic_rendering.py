"""Photographs per second of the synthetic cities, by size, on one core.

    python benchmarks/synthetic_rendering.py [SIZE ...] [--captures 400 --out OUT]

Reports two rates, by wall-clock and by CPU time (equal on an idle machine); then the CPU time of a caption and of a map
tile, and the number of photographs with a caption, and with the name of a shop sign.
"""

from __future__ import annotations

import io
import time

from common import new_parser, say, table_of, table_of_figures, write_results
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
    parser = new_parser(__doc__)
    parser.add_argument("sizes", type=int, nargs="*", default=[64, 96, 128, 160, 320, 640])
    parser.add_argument("--captures", type=int, default=400, help="photographs of the city, of which some are rendered")
    options = parser.parse_args()
    began = time.perf_counter()
    scene = build_scene(0, 0)
    more = {"building a city, s": round(time.perf_counter() - began, 2)}
    places, captures = plan_captures(0, options.captures, 0)
    render(scene, frame_shot(scene, 0, captures[0], 32, 0))  # fonts and sprites are drawn once per process
    rows: dict[str, dict[str, float]] = {}
    for size in options.sizes:
        chosen = captures[:: max(1, size // 16)]
        wall, used = time.perf_counter(), time.process_time()
        for capture in chosen:
            picture = render(scene, frame_shot(scene, 0, capture, size, 0))
            Image.fromarray(picture).save(io.BytesIO(), format="JPEG", quality=JPEG_QUALITY, subsampling=0)
        wall, used = time.perf_counter() - wall, time.process_time() - used
        rates = {"photographs/s": len(chosen) / wall, "photographs/s of processor time": len(chosen) / used}
        rows[str(size)] = {name: round(rate, 1) for name, rate in rates.items()}
        say(f"{size} px: {rows[str(size)]}")
    shots = [(capture, frame_shot(scene, 0, capture, 128, 0)) for capture in captures[::4]]
    used = time.process_time()
    texts = [caption_of(scene, 0, places[c.place], c, shot, 0) for c, shot in shots]
    more["a caption, ms"] = round(1000 * (time.process_time() - used) / len(shots), 1)
    used = time.process_time()
    map_tile(0, captures[0], 0)
    more["the map of a city, s"] = round(time.process_time() - used, 2)
    used = time.process_time()
    for capture, _ in shots:
        map_tile(0, capture, 0).save(io.BytesIO(), format="PNG")
    more["a map tile, ms"] = round(1000 * (time.process_time() - used) / len(shots), 1)
    signs = sum(any(name in (text or "").upper() for name in SHOP_NAMES) for text in texts)
    more |= {"captions": sum(text is not None for text in texts), "of": len(texts), "that name a sign": signs}
    document = {"sizes": rows, **more}
    write_results(
        options.out, "synthetic_rendering", document, f"{table_of(rows, 'size, px')}\n{table_of_figures(more)}"
    )


if __name__ == "__main__":
    main()
