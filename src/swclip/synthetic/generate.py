"""Generation of the synthetic data set: eight cities of photographs and their manifest, in parallel and resumable."""

from __future__ import annotations

import math
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from swclip.data.manifest import Manifest, write_manifest
from swclip.errors import ConfigError, SwclipError
from swclip.files import read_json, write_json
from swclip.geo.coordinates import LocalFrame
from swclip.synthetic.captures import district_names, plan_captures, recorded_positions
from swclip.synthetic.cities import CITIES
from swclip.synthetic.photograph import (
    Job,
    Modalities,
    caption_path,
    city_slug,
    image_id,
    image_path,
    leave_interrupts_to_parent,
    map_path,
    outputs,
    run_job,
)

GENERATOR_VERSION = 2
"""Increases when the pictures of a seed change."""
SETTINGS_NAME = "synth.json"
DEFAULT_SIZE_PX = 128
_JOB_PHOTOGRAPHS = 25

Progress = Callable[[int, int], None]


def generate(
    out: str | os.PathLike[str],
    *,
    cities: int = 8,
    photos_per_city: int | Sequence[int] = 400,
    size_px: int = DEFAULT_SIZE_PX,
    seed: int = 0,
    gps_noise_m: float = 0.0,
    captions: bool = False,
    maps: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Render the synthetic cities and write their manifest.

    Equal arguments give equal bytes, for any number of processes. An interrupted run resumes: existing photographs are
    kept, and the manifest is written when all are complete.

    Args:
        out: Folder for `manifest.parquet` and `images/`.
        cities: Number of cities, in the order of `cities.CITIES`.
        photos_per_city: Number of photographs of each city, about four per place. A sequence with one number per city
            makes cities of different density: all cities have the same size, so fewer photographs cover fewer streets.
        size_px: Width and height of a photograph, pixels.
        seed: Seed; different seeds give different cities.
        gps_noise_m: Mean accuracy of the recorded positions, one standard deviation in metres. 0 records the true
            position without `accuracy_m`.
        captions: Write a caption for each photograph, and the column `caption`: the street, and visible shop signs.
        maps: Draw a map tile for each photograph, and the column `map_path`. Captions and tiles do not change the
            photographs, and can be added to an existing folder.
        workers: Number of processes; the number of available cores if None. 1 renders in this process.
        progress: Called with the number of finished photographs and the total number.

    Returns:
        The manifest, with the further columns `true_lat_deg`, `true_lon_deg` and `district`.

    Raises:
        ConfigError: An argument is invalid, or `out` contains other files or photographs with other settings.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> len(generate(folder, cities=1, photos_per_city=2, size_px=32, workers=1))
        2
    """
    _check(cities, size_px, seed, gps_noise_m, workers)
    counts = _counts(photos_per_city, cities)
    folder = Path(out)
    # Equal counts are recorded as one number, because the photographs are the same.
    recorded: int | list[int] = counts[0] if len(set(counts)) == 1 else counts
    settings = {"generator": GENERATOR_VERSION, "size_px": size_px, "seed": seed, "photos_per_city": recorded}
    _claim(folder, settings)
    modalities = Modalities(captions, maps)
    _render(folder, counts, size_px, seed, modalities, workers or _cores(), progress or (lambda done, total: None))
    tables = [_table(city, count, seed, gps_noise_m) for city, count in enumerate(counts)]
    frame = pd.concat(tables, ignore_index=True)
    made_with = {"command": "synth", **settings, "cities": cities, "gps_noise_m": gps_noise_m}
    made_with |= {name: True for name, enabled in asdict(modalities).items() if enabled}
    return write_manifest(folder, _with_modalities(folder, frame, modalities), made_with=made_with)


def _check(cities: int, size_px: int, seed: int, gps_noise_m: float, workers: int | None) -> None:
    for name, value, low, high in (
        ("cities", cities, 1, len(CITIES)),
        ("size", size_px, 16, 4096),
        ("seed", seed, 0, 2**63 - 1),
        ("workers", workers, 1, 1024),
    ):
        if value is not None and not low <= value <= high:
            raise ConfigError(f"--{name} {value}: give a whole number from {low} to {high}.")
    if not (math.isfinite(gps_noise_m) and 0.0 <= gps_noise_m <= 1000.0):
        raise ConfigError(f"--gps-noise-m {gps_noise_m}: give metres from 0 to 1000.")


def _counts(photos_per_city: int | Sequence[int], cities: int) -> list[int]:
    """Return the number of photographs of each city."""
    numbers = [photos_per_city] if isinstance(photos_per_city, int) else list(photos_per_city)
    for count in numbers:
        if not 1 <= count <= 99_999:
            raise ConfigError(f"--photos-per-city {count}: give a whole number from 1 to 99999.")
    if len(numbers) not in (1, cities):
        raise ConfigError(
            f"--photos-per-city has {len(numbers)} numbers for {cities} cities; give one for all, or one per city "
            f"(--cities {len(numbers)})."
        )
    return numbers * cities if len(numbers) == 1 else numbers


def _claim(folder: Path, settings: dict[str, Any]) -> None:
    """Write the settings to a new folder, or check that the settings of an existing folder are equal."""
    file = folder / SETTINGS_NAME
    if file.exists():
        existing = read_json(file, "the record of the folder's settings")
        if existing != settings:
            values = existing if isinstance(existing, dict) else {}
            different = next((k for k in settings if values.get(k) != settings[k]), "content")
            raise ConfigError(
                f"{folder}: contains photographs made with {different} {values.get(different)}, not "
                f"{settings.get(different)}; choose another --out, or delete the folder."
            )
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: exists and was not made by swclip synth; choose another --out.")
    write_json(file, settings)


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def _jobs(folder: Path, counts: Sequence[int], size_px: int, seed: int, modalities: Modalities) -> dict[int, list[Job]]:
    """Return the unfinished jobs of each city."""
    jobs: dict[int, list[Job]] = {}
    for city, count in enumerate(counts):
        for start in range(0, count, _JOB_PHOTOGRAPHS):
            stop = min(start + _JOB_PHOTOGRAPHS, count)
            files = (path for i in range(start, stop) for path in outputs(CITIES[city].name, i, modalities))
            if all((folder / path).exists() for path in files):
                continue
            jobs.setdefault(city, []).append(Job(str(folder), city, start, stop, count, size_px, seed, modalities))
    return jobs


def _render(
    folder: Path,
    counts: Sequence[int],
    size_px: int,
    seed: int,
    modalities: Modalities,
    workers: int,
    progress: Progress,
) -> None:
    jobs = _jobs(folder, counts, size_px, seed, modalities)
    total = sum(counts)
    done = total - sum(job.stop - job.start for queue in jobs.values() for job in queue)
    progress(done, total)
    workers = min(workers, sum(len(queue) for queue in jobs.values()))
    if workers <= 1:
        for queue in jobs.values():
            for job in queue:
                done += run_job(job)
                progress(done, total)
        return
    # Each worker is a pool of one process, so that it keeps rendering the city whose scene it has built.
    context = multiprocessing.get_context("spawn")
    pools = [ProcessPoolExecutor(1, mp_context=context, initializer=leave_interrupts_to_parent) for _ in range(workers)]
    city_of: dict[int, int] = {}
    running: dict[Future[int], int] = {}

    def submit(worker: int) -> None:
        city = city_of.get(worker)
        if city not in jobs:
            if not jobs:
                return
            started = set(city_of.values())
            city = max(jobs, key=lambda c: (c not in started, len(jobs[c]), -c))
        city_of[worker] = city
        running[pools[worker].submit(run_job, jobs[city].pop(0))] = worker
        if not jobs[city]:
            del jobs[city]

    try:
        for worker in range(workers):
            submit(worker)
        while running:
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                worker = running.pop(future)
                done += future.result()
                progress(done, total)
                submit(worker)
    except BrokenProcessPool as error:
        raise SwclipError(
            f"{folder}: a rendering process was killed (out of memory?); run the command again to resume, with fewer "
            "--workers if memory is short."
        ) from error
    finally:
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)


def _with_modalities(folder: Path, frame: pd.DataFrame, modalities: Modalities) -> pd.DataFrame:
    """Add the columns of the modalities. Photographs of a city are numbered from 0."""
    index = frame.groupby("city", sort=False).cumcount()
    rows = list(zip(frame["city"], index, strict=True))
    if modalities.captions:
        texts = [(folder / caption_path(name, i)).read_text(encoding="utf-8") for name, i in rows]
        frame["caption"] = [text or None for text in texts]
    if modalities.maps:
        frame["map_path"] = [map_path(name, i) for name, i in rows]
    return frame


def _table(city: int, photos_per_city: int, seed: int, gps_noise_m: float) -> pd.DataFrame:
    style = CITIES[city]
    slug = city_slug(style.name)
    _, captures = plan_captures(city, photos_per_city, seed)
    frame = LocalFrame(style.lat_deg, style.lon_deg)
    true_m = np.array([capture.position_m for capture in captures])
    true_deg = frame.to_deg(true_m)
    recorded_deg, accuracy_m = recorded_positions(frame, true_m, city, seed, gps_noise_m)
    columns: dict[str, Any] = {
        "image_id": [image_id(style.name, c.index) for c in captures],
        "image_path": [image_path(style.name, c.index) for c in captures],
        "lat_deg": recorded_deg[:, 0],
        "lon_deg": recorded_deg[:, 1],
        "accuracy_m": accuracy_m,
        "heading_deg": [c.heading_deg for c in captures],
        "captured_at": pd.to_datetime([c.captured_at for c in captures]).astype("datetime64[ms]"),
        "city": style.name,
        "place_id": [f"{slug}-p{c.place:05d}" for c in captures],
        "sequence_id": [f"{slug}-{c.sequence}" for c in captures],
        "licence": "CC0-1.0",
        "source": "swclip-synthetic",
        "true_lat_deg": true_deg[:, 0],
        "true_lon_deg": true_deg[:, 1],
        "district": district_names(true_m, city, seed),
    }
    return pd.DataFrame(columns)
