"""`swclip locate`: where photographs were taken."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from swclip.errors import ConfigError, InputError

if TYPE_CHECKING:
    from swclip.answers.record import Answer
    from swclip.retrieval.locator import Locator
    from swclip.retrieval.prior import Prior


def locate(
    gallery: str,
    /,
    *photographs: Annotated[str, Parameter(allow_leading_hyphen=True)],  # `-` is one
    caption: str | None = None,
    map: Path | None = None,
    together: Annotated[bool, Parameter(negative="")] = False,
    in_: Annotated[str | None, Parameter(name="--in")] = None,
    within: Path | None = None,
    near: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    radius_m: float | None = None,
    from_list: Annotated[Path | None, Parameter(name="--list")] = None,
    list_column: str | None = None,
    format: Literal["json", "jsonl", "csv", "geojson", "kml", "parquet"] | None = None,
    top_k: int = 5,
    estimator: Literal["mode", "argmax", "geometric-median"] | None = None,
    out: Path | None = None,
    restart: bool = False,
    figure: Path | None = None,
    model: Path | None = None,
    cells: list[int] | None = None,
    search: Literal["auto", "memory", "disk"] = "auto",
    beam: Annotated[int | None, Parameter(show=False)] = None,
    region: float = 0.8,
    region_limit_km2: float | None = None,
    region_out: Path | None = None,
    batch_size: int = 32,
    workers: int | None = None,
) -> None:
    """Say where photographs were taken.

    Answers go to the standard output as they come, in the order asked, or to a file. A photograph that cannot be read
    is answered with an error, the others are answered all the same, and the exit code is then 7.

    With --out, what is answered is kept in FILE.partial until all is: after Ctrl-C, a crash or a power cut the same
    command goes on from there, and the file is the same as if nothing had happened.

    Args:
        gallery: The gallery that `swclip index` wrote.
        photographs: Photographs, folders of photographs (searched all the way down; links to folders, and names that
            begin with a dot, are left alone), patterns such as 'trip/*.jpg', or - for names on the standard input.
        caption: What is said about the photograph; of one photograph, and a model with a caption view.
        map: A map tile of where it was taken, north up; likewise.
        together: The photographs show one place: give one answer to all of them.
        in_: The place lies in this city of the gallery.
        within: It lies in the area of this GeoJSON file.
        near: It lies near LAT,LON, such as 53.8,-1.55; with --radius-m. May be given with --in and --within.
        radius_m: How rough the position is: its standard deviation in metres.
        from_list: Further photographs, in a file: one name a line, or a table (CSV, TSV, Parquet, GeoJSON; a manifest
            is one), whose names start from the table's folder.
        list_column: The table's column of photographs; if not given, it is found by its name.
        format: json (a list), jsonl (one answer a line), csv (one row a photograph and candidate), geojson (points for
            a map), kml (points and regions for Google Earth), or parquet (GeoParquet, to a file only); what the ending
            of --out says if not given, else json. docs/answers.md says what each holds.
        top_k: Candidates listed with each answer.
        estimator: mode (densest place of the posterior), argmax (most probable candidate, as in the paper), or
            geometric-median (least expected distance); if not given, what answered the validation queries best.
        out: Write the answers to this file and not to the standard output.
        restart: Throw away what an interrupted run left for this file.
        figure: Draw the first photograph and the map of its answer to this picture (PNG, SVG or PDF).
        model: Insist that the gallery was made by this run.
        cells: An H3 resolution of the cells that answers name beside the city, again for further ones; 6, 8 and 10 if
            not given (about 6 km, 900 m and 130 m across).
        search: memory looks at every candidate; disk leaves the gallery where it is and looks at a shortlist by its
            index (swclip gallery build-index); auto does so above 2 GB of embeddings.
        beam: Removed.
        region: Probability with which the region of each answer is to hold the place; answers state its area, its
            cells, and whether it cannot tell.
        region_limit_km2: Say "cannot tell" of regions larger than this too.
        region_out: Write the outlines of the regions to this GeoJSON file, for a map.
        batch_size: Photographs that the model sees at once.
        workers: Threads that decode photographs; one a processor if not given.
    """
    from swclip.answers.formats import format_of
    from swclip.ingest.named_photographs import named_photographs

    names = named_photographs(photographs, from_list, list_column)
    if len(names) > 1 and (caption is not None or map is not None):
        raise InputError(f"--caption and --map go with one photograph, and {len(names)} are named; ask one at a time.")
    if beam is not None:
        raise ConfigError(
            "--beam was removed: a large gallery is searched by its index. Build it once with `swclip gallery "
            "build-index GALLERY`, and locate with --search disk."
        )
    if batch_size < 1:
        raise ConfigError(f"--batch-size {batch_size}: the model must see at least one photograph at once.")
    if restart and out is None:
        raise ConfigError("--restart begins a file of answers anew, and no --out is given.")

    from swclip.answers.journal import AnswerJournal
    from swclip.cli.locate_run import Asked, Output, check_failures, print_answers, write_answers
    from swclip.cli.options import prior_of
    from swclip.retrieval.hierarchy import RESOLUTIONS
    from swclip.retrieval.locator import Locator

    output = Output(format_of(out, format), out, region_out)
    output.check()
    resolutions = sorted(set(cells or RESOLUTIONS))
    options = {
        "top_k": top_k,
        "estimator": estimator,
        "captions": caption,
        "maps": None if map is None else str(map),
        "together": together,
        "region": region,
        "region_limit_km2": region_limit_km2,
        "batch_size": batch_size,
    }
    asked = Asked(names, options, resolutions, workers, prior_of(in_, within, near, radius_m))
    if out is None:
        locator = Locator.from_gallery(gallery, model, resolutions, search)
        first, failures = print_answers(locator, asked, output)
    else:
        journal = AnswerJournal(out)
        with journal.held():
            locator = Locator.from_gallery(gallery, model, resolutions, search)
            first, failures = write_answers(locator, asked, output, out, journal, restart=restart)
    if figure is not None and first.error is None:
        _draw(figure, asked.photographs_of(first), locator, first, caption, map, asked.prior)
    check_failures(failures, len(names), "their answers say why" if out is None else f"all are in {out}")


def _draw(
    figure: Path,
    photographs: list[str],
    locator: Locator,
    answer: Answer,
    caption: str | None,
    tile: Path | None,
    prior: Prior | None,
) -> None:
    import numpy as np

    from swclip.reporting.answer_figure import write_located_figure

    write_located_figure(
        figure,
        photographs[0],
        locator.gallery.positions_deg,
        locator.posterior_of(photographs, caption, tile, prior),
        np.array([answer.lat_deg, answer.lon_deg]),
        near_50m=answer.probability_within_50m or 0.0,
        place=answer.candidates[0].city,
    )
