"""`swclip synth`: generate synthetic cities."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from swclip.cli.help import ADVANCED, REPEATED


def synth(
    *,
    out: Path,
    cities: int = 8,
    photos_per_city: Annotated[tuple[int, ...], REPEATED] = (400,),
    size: int = 128,
    seed: int = 0,
    gps_noise_m: float = 0.0,
    captions: bool = False,
    maps: bool = False,
    workers: Annotated[int | None, ADVANCED] = None,
) -> None:
    """Generate street photographs of synthetic cities.

    Writes the photographs and their manifest. The same seed gives the same bytes. If interrupted, run the same
    command again to resume.

    Args:
        out: Output folder: manifest.parquet and images/.
        cities: Number of cities, 1 to 8.
        photos_per_city: Number of photographs per city: four of each place, from drives on different days. One number
            per city gives cities of different density.
        size: Width and height of a photograph in pixels.
        seed: Seed of the cities.
        gps_noise_m: Mean accuracy (one standard deviation, metres) of the recorded positions; the accuracy of each
            photograph is in accuracy_m. With 0 the recorded position is the true one and accuracy_m is unknown.
        captions: Write captions for most photographs (captions/, column caption): the street, and shop signs in view.
        maps: Draw a map tile around a rough position for each photograph (maps/, column map_path).
        workers: Number of processes; by default one per processor.

    Examples:
        swclip synth --out cities
        swclip synth --out town --cities 1 --photos-per-city 1200 --gps-noise-m 5
    """
    from swclip.api.photographs import synth as render
    from swclip.cli.console import console, next_step

    manifest = render(
        out, cities=cities, photos_per_city=photos_per_city, size_px=size, seed=seed, gps_noise_m=gps_noise_m,
        captions=captions, maps=maps, workers=workers, progress=True,
    )  # fmt: skip
    console.print(f"{len(manifest)} photographs of {manifest.frame['place_id'].nunique()} places in {cities} cities")
    print(manifest.path)
    next_step("synth", "swclip", "split", out, "--protocol", "known-places", "--out", out / "splits.parquet")
