"""Rendering jobs: photographs of one city as JPEG, with optional captions and map tiles."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from swclip.files import atomic_file
from swclip.synthetic.captions import caption_of
from swclip.synthetic.captures import frame_shot, plan_captures
from swclip.synthetic.map_tile import map_tile
from swclip.synthetic.render import render
from swclip.synthetic.scene import build_scene

JPEG_QUALITY = 92


@dataclass(frozen=True)
class Modalities:
    """Modalities to make in addition to photographs: captions, map tiles."""

    captions: bool = False
    maps: bool = False


@dataclass(frozen=True)
class Job:
    """Photographs `start` to `stop` of a city, and their output folder."""

    folder: str
    city: int
    start: int
    stop: int
    photos_per_city: int
    size_px: int
    seed: int
    modalities: Modalities = Modalities()


def city_slug(name: str) -> str:
    """Return the name of a city in file names and ids."""
    return name.lower().replace(" ", "-")


def image_id(name: str, index: int) -> str:
    """Return the id of a photograph from its city and index."""
    return f"{city_slug(name)}-{index:05d}"


def image_path(name: str, index: int) -> str:
    """Return the path of a photograph, relative to the manifest."""
    return f"images/{city_slug(name)}/{image_id(name, index)}.jpg"


def caption_path(name: str, index: int) -> str:
    """Return the path of a photograph's caption, relative to the manifest; the text file is empty without caption."""
    return f"captions/{city_slug(name)}/{image_id(name, index)}.txt"


def map_path(name: str, index: int) -> str:
    """Return the path of a photograph's map tile, relative to the manifest."""
    return f"maps/{city_slug(name)}/{image_id(name, index)}.png"


def outputs(name: str, index: int, modalities: Modalities) -> list[str]:
    """Return the paths of all files of a photograph, relative to the manifest; the photograph first."""
    further = [caption_path(name, index)] * modalities.captions + [map_path(name, index)] * modalities.maps
    return [image_path(name, index), *further]


def run_job(job: Job) -> int:
    """Make the missing photographs, captions and map tiles of a job.

    Returns:
        The number of photographs of the job.
    """
    scene = build_scene(job.city, job.seed)
    folder, name = Path(job.folder), scene.style.name
    places, captures = plan_captures(job.city, job.photos_per_city, job.seed)
    for capture in captures[job.start : job.stop]:
        # Files are written atomically, so existing files are complete.
        missing = [path for path in outputs(name, capture.index, job.modalities) if not (folder / path).exists()]
        if not missing:
            continue
        shot = frame_shot(scene, job.city, capture, job.size_px, job.seed)
        for path in missing:
            with atomic_file(folder / path) as temporary:
                if path.endswith(".jpg"):
                    picture = Image.fromarray(render(scene, shot))
                    picture.save(temporary, format="JPEG", quality=JPEG_QUALITY, subsampling=0)
                elif path.endswith(".txt"):
                    text = caption_of(scene, job.city, places[capture.place], capture, shot, job.seed)
                    temporary.write_text(text or "", encoding="utf-8", newline="\n")
                else:
                    map_tile(job.city, capture, job.seed).save(temporary, format="PNG")
    return job.stop - job.start


def leave_interrupts_to_parent() -> None:
    """Ignore Ctrl-C in a worker process; the parent handles it and lets workers finish their photograph."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
