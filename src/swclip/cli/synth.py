"""`swclip synth`: render the eight synthetic cities."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def synth(
    *,
    out: Path,
    cities: int = 8,
    photos_per_city: Annotated[tuple[int, ...], Parameter(consume_multiple=True)] = (400,),
    size: int = 128,
    seed: int = 0,
    gps_noise_m: float = 0.0,
    captions: Annotated[bool, Parameter(negative="")] = False,
    maps: Annotated[bool, Parameter(negative="")] = False,
    workers: int | None = None,
) -> None:
    """Render street photographs of eight synthetic cities, with their manifest.

    The same seed gives the same bytes. Stopped, the command goes on where it was when it is run again.

    Args:
        out: The folder to write: manifest.parquet and images/.
        cities: How many cities, 1 to 8.
        photos_per_city: Photographs of each city: four of each place, from drives on different days. Several numbers,
            one a city, make cities of different density.
        size: Width and height of a photograph, pixels.
        seed: Another seed builds other cities.
        gps_noise_m: Mean accuracy (one standard deviation, metres) of the recorded positions; each photograph has its
            own, in accuracy_m. With 0 the recorded position is the true one and accuracy_m is unknown.
        captions: Write a caption for most photographs (captions/, column caption): the street, shop signs in view.
        maps: Draw a map tile round a rough position for each photograph (maps/, column map_path).
        workers: Processes; all cores if not given.
    """
    from swclip.api.photographs import synth as render
    from swclip.cli.console import console

    manifest = render(
        out, cities=cities, photos_per_city=photos_per_city, size_px=size, seed=seed, gps_noise_m=gps_noise_m,
        captions=captions, maps=maps, workers=workers, progress=True,
    )  # fmt: skip
    console.print(f"{len(manifest)} photographs of {manifest.frame['place_id'].nunique()} places in {cities} cities")
    print(manifest.path)
