"""The work of one process: render some photographs of one city and write them as JPEG."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from swclip.files import atomic_file
from swclip.synthetic.captures import frame_shot, plan_captures
from swclip.synthetic.render import render
from swclip.synthetic.scene import build_scene

JPEG_QUALITY = 92


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


def city_slug(name: str) -> str:
    """The city's name in file names and ids."""
    return name.lower().replace(" ", "-")


def image_id(name: str, index: int) -> str:
    """Identity of a photograph: city and number."""
    return f"{city_slug(name)}-{index:05d}"


def image_path(name: str, index: int) -> str:
    """Path of a photograph, relative to the manifest."""
    return f"images/{city_slug(name)}/{image_id(name, index)}.jpg"


def run_job(job: Job) -> int:
    """Render a job's photographs, but those that are there already.

    Returns:
        How many photographs the job has.
    """
    scene = build_scene(job.city, job.seed)
    _, captures = plan_captures(job.city, job.photos_per_city, job.seed)
    for capture in captures[job.start : job.stop]:
        target = Path(job.folder) / image_path(scene.style.name, capture.index)
        if target.exists():  # written whole or not at all, so what is there is right
            continue
        picture = render(scene, frame_shot(scene, job.city, capture, job.size_px, job.seed))
        with atomic_file(target) as beside:
            Image.fromarray(picture).save(beside, format="JPEG", quality=JPEG_QUALITY, subsampling=0)
    return job.stop - job.start


def leave_interrupts_to_parent() -> None:
    """In a worker process: Ctrl-C reaches the parent, which lets the workers end their photograph."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
