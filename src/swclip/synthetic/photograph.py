"""The work of one process: some photographs of one city as JPEG, and captions and map tiles where they are wanted."""

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
class Views:
    """What is made beside each photograph: a caption, a map tile."""

    captions: bool = False
    maps: bool = False


@dataclass(frozen=True)
class Job:
    """Photographs for one process: numbers `start` to `stop` of a city, and where they go."""

    folder: str
    city: int
    start: int
    stop: int
    photos_per_city: int
    size_px: int
    seed: int
    views: Views = Views()


def city_slug(name: str) -> str:
    """The city's name in file names and ids."""
    return name.lower().replace(" ", "-")


def image_id(name: str, index: int) -> str:
    """Identity of a photograph: city and number."""
    return f"{city_slug(name)}-{index:05d}"


def image_path(name: str, index: int) -> str:
    """Path of a photograph, relative to the manifest."""
    return f"images/{city_slug(name)}/{image_id(name, index)}.jpg"


def caption_path(name: str, index: int) -> str:
    """Path of a photograph's caption, relative to the manifest: a text file, empty where there is nothing to say."""
    return f"captions/{city_slug(name)}/{image_id(name, index)}.txt"


def map_path(name: str, index: int) -> str:
    """Path of a photograph's map tile, relative to the manifest."""
    return f"maps/{city_slug(name)}/{image_id(name, index)}.png"


def outputs(name: str, index: int, views: Views) -> list[str]:
    """Paths of all that is made for a photograph, relative to the manifest; itself first."""
    further = [caption_path(name, index)] * views.captions + [map_path(name, index)] * views.maps
    return [image_path(name, index), *further]


def run_job(job: Job) -> int:
    """Make a job's photographs, captions and map tiles, but those that are there already.

    Returns:
        How many photographs the job has.
    """
    scene = build_scene(job.city, job.seed)
    folder, name = Path(job.folder), scene.style.name
    places, captures = plan_captures(job.city, job.photos_per_city, job.seed)
    for capture in captures[job.start : job.stop]:
        # Each file is written whole or not at all, so what is there is right.
        missing = [path for path in outputs(name, capture.index, job.views) if not (folder / path).exists()]
        if not missing:
            continue
        shot = frame_shot(scene, job.city, capture, job.size_px, job.seed)
        for path in missing:
            with atomic_file(folder / path) as beside:
                if path.endswith(".jpg"):
                    picture = Image.fromarray(render(scene, shot))
                    picture.save(beside, format="JPEG", quality=JPEG_QUALITY, subsampling=0)
                elif path.endswith(".txt"):
                    text = caption_of(scene, job.city, places[capture.place], capture, shot, job.seed)
                    beside.write_text(text or "", encoding="utf-8", newline="\n")
                else:
                    map_tile(job.city, capture, job.seed).save(beside, format="PNG")
    return job.stop - job.start


def leave_interrupts_to_parent() -> None:
    """In a worker process: Ctrl-C reaches the parent, which lets the workers end their photograph."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
