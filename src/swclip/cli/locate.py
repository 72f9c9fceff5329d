"""`swclip locate`: where photographs were taken."""

from __future__ import annotations

import glob as globbing
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from swclip.errors import InputError

if TYPE_CHECKING:
    from swclip.retrieval.answers import Answer
    from swclip.retrieval.locate import Locator
    from swclip.retrieval.prior import Prior

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif", ".heic", ".heif"})


def locate(
    gallery: str,
    /,
    *photographs: str,
    caption: str | None = None,
    map: Path | None = None,
    together: Annotated[bool, Parameter(negative="")] = False,
    in_: Annotated[str | None, Parameter(name="--in")] = None,
    within: Path | None = None,
    near: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    radius_m: float | None = None,
    format: Literal["json", "jsonl", "csv", "geojson"] = "json",
    top_k: int = 5,
    estimator: Literal["mode", "argmax", "geometric-median"] | None = None,
    out: Path | None = None,
    figure: Path | None = None,
    model: Path | None = None,
    cells: list[int] | None = None,
    beam: int | None = None,
    region: float = 0.8,
    region_limit_km2: float | None = None,
    region_out: Path | None = None,
    batch_size: int = 32,
    workers: int | None = None,
) -> None:
    """Say where photographs were taken.

    Answers go to the standard output, in the order asked. A photograph that cannot be read is answered with an error,
    the others are answered all the same, and the exit code is then not 0.

    Args:
        gallery: The gallery that `swclip index` wrote: a folder, or a URL such as s3://bucket/gallery.
        photographs: Photographs, folders of photographs (searched all the way down), or patterns such as 'trip/*.jpg'.
        caption: What is said about the photograph; of one photograph, and a model with a caption view.
        map: A map tile of where it was taken, north up; likewise.
        together: The photographs show one place: give one answer to all of them.
        in_: The place lies in this city of the gallery.
        within: It lies in the area of this GeoJSON file.
        near: It lies near LAT,LON, such as 53.8,-1.55; with --radius-m. May be given with --in and --within.
        radius_m: How rough the position is: its standard deviation in metres.
        format: json (a list), jsonl (one answer a line), csv (one row a photograph and candidate), or geojson (points
            for a map).
        top_k: Candidates listed with each answer.
        estimator: mode (densest place of the posterior), argmax (most probable candidate, as in the paper), or
            geometric-median (least expected distance); if not given, what answered the validation queries best.
        out: Write the answers to this file and not to the standard output.
        figure: Draw the first photograph and the map of its answer to this picture (PNG, SVG or PDF).
        model: Insist that the gallery was made by this run.
        cells: An H3 resolution of the cells that answers name beside the city, again for further ones; 6, 8 and 10 if
            not given (about 6 km, 900 m and 130 m across).
        beam: Look only into so many cells of a large gallery. Each answer then states the share that was scored and
            how much of the posterior the rest can hold.
        region: Probability with which the region of each answer is to hold the place; answers state its area, its
            cells, and whether it cannot tell.
        region_limit_km2: Say "cannot tell" of regions larger than this too.
        region_out: Write the outlines of the regions to this GeoJSON file, for a map.
        batch_size: Photographs that the model sees at once.
        workers: Threads that decode photographs; one a processor if not given.
    """
    asked = named_photographs(photographs)
    if len(asked) > 1 and (caption is not None or map is not None):
        raise InputError(f"--caption and --map go with one photograph, and {len(asked)} are named; ask one at a time.")

    from swclip.cli.console import progress_bar
    from swclip.cli.known import prior_of
    from swclip.files import atomic_file
    from swclip.retrieval.answers import FORMATS
    from swclip.retrieval.hierarchy import RESOLUTIONS
    from swclip.retrieval.locate import Locator

    prior = prior_of(in_, within, near, radius_m)
    locator = Locator.from_gallery(gallery, model, cells or RESOLUTIONS)
    with progress_bar("Locating") as progress:
        answers = locator.locate(
            asked,
            top_k=top_k,
            estimator=estimator,
            captions=caption,
            maps=map,
            together=together,
            prior=prior,
            beam=beam,
            region=region,
            region_limit_km2=region_limit_km2,
            batch_size=batch_size,
            workers=workers,
            progress=progress,
        )
    text = FORMATS[format](answers)
    if out is None:
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        with atomic_file(out) as beside:
            beside.write_text(text, encoding="utf-8")
    if region_out is not None:
        from swclip.retrieval.region_shapes import regions_geojson

        with atomic_file(region_out) as beside:
            beside.write_text(regions_geojson(answers), encoding="utf-8")
    if figure is not None and answers[0].error is None:
        _draw(figure, locator, answers[0], caption, map, prior)
    bad = [answer for answer in answers if answer.error is not None]
    if bad:
        named = "\n".join(f"  {answer.photograph}: {answer.error}" for answer in bad)
        raise InputError(f"{len(bad)} of {len(asked)} photographs could not be read:\n{named}")


def _draw(
    figure: Path, locator: Locator, answer: Answer, caption: str | None, tile: Path | None, prior: Prior | None
) -> None:
    import numpy as np

    from swclip.evaluation.located_figure import write_located_figure

    write_located_figure(
        figure,
        answer.photograph,
        locator.gallery.positions_deg,
        locator.posterior_of(answer.photographs or answer.photograph, caption, tile, prior),
        np.array([answer.lat_deg, answer.lon_deg]),
        near_50m=answer.probability_within_50m or 0.0,
        place=answer.candidates[0].city,
    )


def named_photographs(arguments: tuple[str, ...]) -> list[str]:
    """Photographs that arguments name: files as they are, folders and patterns opened out in order of name.

    Raises:
        InputError: Nothing was named, or a folder or pattern holds no photographs.
    """
    if not arguments:
        raise InputError("no photographs were named: swclip locate GALLERY PHOTO...")
    found: list[str] = []
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in _SUFFIXES and p.is_file())
            if not inside:
                raise InputError(f"{argument}: the folder holds no photographs (looked for {_endings()}).")
            found.extend(map(str, inside))
        elif not path.exists() and globbing.has_magic(argument):
            matches = [name for name in sorted(globbing.glob(argument, recursive=True)) if Path(name).is_file()]
            if not matches:
                raise InputError(f"{argument}: no file matches this pattern; check the path.")
            found.extend(matches)
        else:
            found.append(argument)
    return found


def _endings() -> str:
    return ", ".join(sorted(suffix[1:] for suffix in _SUFFIXES))
