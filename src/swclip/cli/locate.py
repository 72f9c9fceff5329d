"""`swclip locate`: estimate where photographs were taken."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from swclip.cli.help import ADVANCED, group
from swclip.errors import ConfigError

if TYPE_CHECKING:
    from swclip.answers.record import Answer
    from swclip.cli.locate_run import LocateRequest
    from swclip.retrieval.locator import Locator
    from swclip.retrieval.prior import Prior
    from swclip.scale.locate import ClusterAnswers

_PRIOR, _REGION = group("Prior knowledge of the place"), group("Prediction region")


def locate(
    gallery: str,
    /,
    *photographs: Annotated[str, Parameter(allow_leading_hyphen=True)],  # `-` is a valid value
    out: Path | None = None,
    format: Literal["text", "json", "jsonl", "csv", "geojson", "kml", "parquet"] | None = None,
    top_k: int = 5,
    figure: Path | None = None,
    matches: Path | None = None,
    together: bool = False,
    from_list: Annotated[Path | None, Parameter(name="--list")] = None,
    device: str = "auto",
    in_: Annotated[str | None, _PRIOR, Parameter(name="--in")] = None,
    within: Annotated[Path | None, _PRIOR] = None,
    near: Annotated[str | None, _PRIOR, Parameter(allow_leading_hyphen=True, metavar="LAT,LON")] = None,
    radius_m: Annotated[float | None, _PRIOR] = None,
    caption: Annotated[str | None, _PRIOR] = None,
    map: Annotated[Path | None, _PRIOR] = None,
    region: Annotated[float, _REGION] = 0.8,
    region_limit_km2: Annotated[float | None, _REGION] = None,
    region_out: Annotated[Path | None, _REGION] = None,
    effort: Annotated[Literal["fast", "balanced", "best"], ADVANCED] = "best",
    list_column: Annotated[str | None, ADVANCED] = None,
    restart: Annotated[bool, ADVANCED] = False,
    estimator: Annotated[Literal["mode", "argmax", "geometric-median"], ADVANCED] = "mode",
    cells: Annotated[list[int] | None, ADVANCED] = None,
    verify: Annotated[int | None, ADVANCED] = None,
    verify_with: Annotated[str | None, ADVANCED] = None,
    gallery_photographs: Annotated[Path | None, ADVANCED] = None,
    search: Annotated[Literal["auto", "memory", "disk"], ADVANCED] = "auto",
    model: Annotated[Path | None, ADVANCED] = None,
    batch_size: Annotated[int, ADVANCED] = 32,
    workers: Annotated[int | None, ADVANCED] = None,
    engine: Annotated[Literal["ray"] | None, ADVANCED] = None,
    beam: Annotated[int | None, Parameter(show=False)] = None,
) -> None:
    """Estimate where photographs were taken.

    Answers are written to standard output or to a file, in the order of the photographs. A photograph that cannot be
    read gets an answer with an error; the others are still answered, and the exit code is 7.

    With --out, finished answers are kept in FILE.partial until the file is complete. After Ctrl-C, a crash or a power
    failure, run the same command again to resume; the file is the same as without the interruption.

    Args:
        gallery: The gallery that `swclip index` wrote.
        photographs: Photographs, folders (searched recursively; links to folders and names that begin with a dot are
            skipped), patterns such as 'trip/*.jpg', or - for names on standard input.
        caption: A caption of the photograph; for a single photograph and a model with the caption modality.
        map: A map tile around the rough position, north up; for a single photograph and a model with the map modality.
        together: The photographs show one place: give one answer for all of them.
        in_: Restrict the answer to this city of the gallery.
        within: Restrict the answer to the polygons of this file (GeoJSON, GeoPackage).
        near: A rough position LAT,LON, such as 53.8,-1.55; with --radius-m. Can be combined with --in and --within.
        radius_m: Standard deviation of the rough position in metres.
        from_list: A file that names further photographs: a text file with one name per line, or a table (CSV, TSV,
            Parquet, GeoJSON or a manifest), or a packed data set. Names in a table are relative to its folder.
        list_column: Column of the table that names the photographs; by default it is detected by its name.
        format: text (a sentence per photograph), json (a list), jsonl (one answer per line), csv (one row per
            photograph and candidate), geojson (points for a map), kml (points and regions for Google Earth), or
            parquet (GeoParquet, to a file only). By default the format of the extension of --out, else text on a
            terminal and json elsewhere. docs/answers.md describes them.
        top_k: Number of candidates listed with each answer.
        estimator: How the point is estimated from the posterior: mode (the densest place), argmax (the most probable
            candidate, as in the paper), or geometric-median (the point with the least expected distance).
        effort: The evidence that answers use, with the milliseconds of a processor that an answer takes after the image
            tower and the bytes that the gallery keeps of a photograph, among 3,248 photographs of Cambridge. fast:
            locations and trained embeddings, 2 ms, 1 kB. balanced: also whitened features, 4 ms, 2 kB. best: also
            verification, about 20 ms and 16 kB more. An effort without something that the gallery lacks is the next
            lower one. docs/results/effort.md has the accuracy of each.
        out: Write the answers to this file instead of standard output.
        restart: Discard the partial results of an interrupted run.
        figure: Draw the first photograph and the map of its answer to this file (PNG, SVG or PDF).
        matches: Draw each photograph beside those of its best candidates, with the patches that match, to PNG files in
            this folder; for a gallery with patch features.
        verify: Compare this many of the most probable candidates with the photograph in detail, by the patch features
            that the gallery stores (swclip index --patch-features); 0 for none. It takes about 20 ms for 20 candidates
            with four photographs each. By default the number that the model was fitted with, where its validation
            queries gained; regions are calibrated for that number and for 0.
        verify_with: Where the keypoint matching model is that the run verifies with (swclip train --verify-with), on
            the model hub or in a folder, if not where it was then.
        gallery_photographs: The manifest of the gallery's photographs. A run that verifies with keypoints compares them
            with the photograph; without them its answers are those of --verify 0. --matches shows them; by default it
            shows the thumbnails of the gallery.
        model: Fail unless the gallery was made with this run.
        cells: H3 resolution of the cells that answers state beside the city; can be repeated. Default: 6, 8 and 10
            (about 6 km, 900 m and 130 m across).
        search: memory: load the gallery and score every candidate. disk: score a shortlist found with the index
            (swclip gallery build-index). auto: disk above 2 GB of embeddings.
        beam: Removed.
        region: Nominal coverage of the prediction regions: the probability that a region contains the true position.
            Answers state the area and the cells of their region, or that they abstain.
        region_limit_km2: Abstain where the region is larger than this too.
        region_out: Write the outlines of the regions to this GeoJSON file.
        batch_size: Photographs per batch of the model.
        device: auto (a GPU if there is one), cpu, cuda, cuda:1 or mps.
        workers: Threads that decode photographs; by default one per processor.
        engine: ray: locate on the Ray cluster of RAY_ADDRESS, or on all processors of this machine where that is not
            set. All machines must see the gallery and the photographs at the same paths or URLs.

    Examples:
        swclip locate gallery photo.jpg
        # a folder, as a table; interrupted, the same command resumes
        swclip locate gallery trip/ --out answers.csv
        # what the photograph and its best candidates have in common
        swclip locate gallery photo.jpg --matches matches
        # known to be near a place: 300 m, one standard deviation
        swclip locate gallery photo.jpg --near 53.8,-1.55 --radius-m 300
    """
    from swclip.answers.formats import format_of
    from swclip.ingest.named_photographs import named_photographs

    names = named_photographs(photographs, from_list, list_column)
    if len(names) > 1 and (caption is not None or map is not None):
        raise ConfigError(f"--caption and --map need a single photograph, not {len(names)}; locate them one at a time.")
    if beam is not None:
        raise ConfigError(
            "--beam was removed: a large gallery is searched with an index. Build it once with `swclip gallery "
            "build-index GALLERY` and use --search disk."
        )
    if batch_size < 1:
        raise ConfigError(f"--batch-size {batch_size}: must be at least 1.")
    if restart and out is None:
        raise ConfigError("--restart needs --out.")

    from swclip.answers.journal import AnswerJournal
    from swclip.cli.console import next_step
    from swclip.cli.locate_matches import MatchFigures
    from swclip.cli.locate_run import LocateRequest, Output, check_failures, print_answers, write_answers
    from swclip.cli.options import check_engine, prior_of
    from swclip.models.blocks import available_device
    from swclip.retrieval.hierarchy import RESOLUTIONS
    from swclip.retrieval.locator import Locator

    unserved = {"--together": together, "--figure": figure, "--matches": matches, "--workers": workers}
    check_engine(engine, {**unserved, "--caption": caption, "--map": map})
    if format is None and out is None and sys.stdout.isatty():
        format = "text"
    output = Output(format_of(out, format), out, region_out)
    output.check()
    place = available_device(device if engine is None else "cpu")
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
    drawn = None if matches is None else MatchFigures.of(matches, gallery, gallery_photographs, len(names))
    request = LocateRequest(names, options, resolutions, workers, prior_of(in_, within, near, radius_m), drawn)
    with ExitStack() as stack:
        journal = None if out is None else AnswerJournal(out)
        if journal is not None:
            stack.enter_context(journal.held())
        if engine is not None:
            from swclip.scale.cluster import cluster

            stack.enter_context(cluster())
        loading: dict[str, Any] = {
            "resolutions": resolutions,
            "search": search,
            "effort": effort,
            "verify": verify,
            "photographs": gallery_photographs,
            "verify_with": verify_with,
        }
        locator = Locator.from_gallery(gallery, model, **loading).to(place)
        if engine is not None:
            request = replace(request, cluster=_on_cluster(gallery, locator, request, loading, device))
        request.check(locator)
        if out is None or journal is None:
            first, failures = print_answers(locator, request, output)
        else:
            first, failures = write_answers(locator, request, output, out, journal, restart=restart)
    if figure is not None and first.error is None:
        _draw(figure, request.photographs_of(first), locator, first, caption, map, request.prior)
    if figure is not None and first.error is None:
        next_step("locate", f"open {figure}, the photograph with the map of its answer")
    elif matches is not None:
        next_step("locate", f"open the figures in {matches}: what a photograph and its best candidates have in common")
    elif out is None:
        next_step("locate", "add --figure map.png for a map, or --out answers.csv (.geojson, .kml) for a file")
    else:
        next_step("locate", f"open {out}; docs/answers.md describes its values")
    check_failures(
        failures, len(names), "the answers state all reasons" if out is None else f"{out} states all reasons"
    )


def _on_cluster(
    gallery: str, locator: Locator, request: LocateRequest, loading: dict[str, Any], device: str
) -> ClusterAnswers:
    from swclip.scale.cluster import Workers
    from swclip.scale.locate import ClusterAnswers

    workers = Workers.of_cluster(device, -(-len(request.names) // request.step))
    return ClusterAnswers(gallery, locator.model.preprocess, workers, loading, request.options, request.prior)


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
