"""`swclip evaluate`: measure a run or the results of another tool, and write the report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from swclip.cli.external import ExternalOptions
from swclip.cli.help import ADVANCED, REPEATED, off

if TYPE_CHECKING:
    from swclip.data.manifest import Manifest
    from swclip.data.splits import Splits
    from swclip.evaluation.report import Report
    from swclip.evaluation.result import Evaluation
    from swclip.metrics.parts import Errors


_BASELINES = {"floor": "oracle", "constant": "constant baseline", "random": "random baseline"}


def evaluate(
    run: Path | None = None,
    /,
    *,
    out: Path,
    external: ExternalOptions | None = None,
    splits: Path | None = None,
    manifest: Path | None = None,
    on: Literal["query", "val"] = "query",
    outside: Path | None = None,
    device: str = "auto",
    photographs: Annotated[bool, off("--no-photographs")] = True,
    figures: Annotated[bool, off("--no-figures")] = True,
    estimator: Annotated[Literal["mode", "argmax", "geometric-median", "validation"], ADVANCED] = "mode",
    effort: Annotated[Literal["fast", "balanced", "best"], ADVANCED] = "best",
    verify: Annotated[int | None, ADVANCED] = None,
    verify_with: Annotated[str | None, ADVANCED] = None,
    use: Annotated[list[Literal["image", "caption", "map"]] | None, REPEATED, ADVANCED] = None,
    regions: Annotated[str, ADVANCED] = "city",
    cells: Annotated[list[int] | None, ADVANCED] = None,
    resamples: Annotated[int, ADVANCED] = 1000,
    seed: Annotated[int, ADVANCED] = 0,
    batch_size: Annotated[int, ADVANCED] = 64,
    workers: Annotated[int | None, ADVANCED] = None,
    tiles: Annotated[str | None, ADVANCED] = None,
    attribution: Annotated[str, ADVANCED] = "",
) -> None:
    """Evaluate a run, or the results of another tool.

    Writes OUT/report.json, OUT/predictions.parquet (GeoParquet, one row per query), OUT/report.html (one file that
    opens offline) and OUT/figures/, and prints a summary.

    Args:
        run: The run's folder, as `swclip train` wrote it; not with --predictions or --embeddings.
        out: Output folder.
        external: The results of another tool.
        splits: For a run: other splits of the same manifest than the run was trained with. For another tool: which
            photographs of the manifest are queries, and the candidates.
        manifest: For a run: path of the manifest, if it was moved. For another tool: the manifest with the true
            positions.
        on: query: the queries, which are never used in training. val: the validation queries.
        outside: A manifest of photographs taken elsewhere: measures whether the answers tell that they were not taken
            in the gallery's area.
        device: auto (a GPU if there is one), cpu, cuda, cuda:1 or mps.
        photographs: Show no example photographs on the page, for reports that are shared.
        figures: Write no charts and maps as PNG and SVG.
        estimator: How the point is estimated from the posterior. mode: the densest place of the smoothed posterior.
            argmax: the most probable candidate, as in the paper. geometric-median: the point with the least expected
            distance. validation: the one with the least mean of log(1 + error / 10 m) on the validation queries; runs
            for which it differs cannot be compared by it. The report has figures for all of them, and details for this
            one.
        effort: The evidence that answers use, as in `swclip locate`; the posterior and the regions are those that were
            fitted for it.
        verify: Compare this many of the most probable candidates with the query in detail, by patch features or the
            keypoints that the run was fitted with; 0 for none. By default the number that the run was fitted with,
            where its validation queries gained. The report states the time that it takes.
        verify_with: Where the keypoint matching model of the run is, on the model hub or in a folder, if not where it
            was in training.
        use: The modalities of the queries: image, caption and map, or some of them. By default the photograph, and each
            other modality that the model and the queries have.
        regions: The districts that figures are given for: city, or cells:RES for the H3 cells of a resolution.
        cells: H3 resolution of the cells whose probabilities are evaluated beside those of the cities; can be repeated.
            Default: 6, 8 and 10.
        resamples: Number of bootstrap resamples.
        seed: Seed of the bootstrap and of the random baseline.
        batch_size: Photographs per batch of the model.
        workers: Threads that decode photographs; by default one per processor.
        tiles: A base map below the maps of the page: osm (OpenStreetMap), another name of xyzservices, or a URL such as
            https://tiles.example.org/{z}/{x}/{y}.png. The browser of a reader requests the tiles from that host. By
            default the page requests nothing.
        attribution: Attribution of the tiles; needed for a URL.

    Examples:
        swclip evaluate runs/first --out reports/first
        # coordinates that another tool predicted
        swclip evaluate --predictions answers.csv --out reports/other
        # embeddings of another tool, with the same queries and candidates
        swclip evaluate --embeddings megaloc.npz --manifest data \\
            --splits data/splits.parquet --out reports/megaloc
    """
    from swclip.cli.console import command_line, console, next_step, print_table, shell
    from swclip.cli.external import evaluate_external, notes_for_reader
    from swclip.errors import ConfigError
    from swclip.evaluation.evaluate import EmbedConfig
    from swclip.evaluation.measure import MeasureConfig
    from swclip.reporting.save import save_evaluation
    from swclip.reporting.tiles import Tiles
    from swclip.retrieval.hierarchy import RESOLUTIONS

    base_map = None if tiles is None else Tiles.of(tiles, attribution)
    external = external or ExternalOptions()
    external.check(run)
    config = MeasureConfig(estimator, regions, resamples, seed, tuple(cells or RESOLUTIONS))
    if run is None and outside is not None:
        raise ConfigError("--outside needs a run: whether a photograph is of the area is calibrated in training.")
    if run is None:
        evaluation, table, leakage = evaluate_external(
            external, manifest=manifest, splits=splits, on=on, config=config, command=command_line()
        )
        title = (external.predictions or external.embeddings or out).stem
    else:
        evaluation, table, split, title = _evaluate_run(
            run,
            splits,
            manifest,
            on=on,
            config=config,
            embedding=EmbedConfig(batch_size=batch_size, workers=workers),
            effort=effort,
            use=use,
            verify=verify,
            verify_with=verify_with,
            device=device,
            outside=outside,
        )
        leakage = split.leakage
    pictured = table if photographs else None
    report = save_evaluation(
        evaluation, out, title=title, manifest=pictured, leakage=leakage, figures=figures, tiles=base_map
    )
    print_table(*_headline(evaluation.report))
    for note in notes_for_reader(evaluation.report):
        console.print(note, soft_wrap=True, markup=False)
    print(report)
    page = f"open {out / 'report.html'} in a browser"
    index = (
        "" if run is None else f"; for new photographs: {shell('swclip', 'index', run, 'MANIFEST', '--out', 'gallery')}"
    )
    next_step("evaluate", page + index)


def _evaluate_run(
    run: Path,
    splits: Path | None,
    manifest: Path | None,
    **options: Any,
) -> tuple[Evaluation, Manifest, Splits, str]:
    """The evaluation of a run, by the options of `swclip.evaluate`, with its manifest, splits and title."""
    from swclip.api.evaluations import evaluate as evaluate_model
    from swclip.calibration.posterior_config import read_posterior
    from swclip.cli.console import command_line, console
    from swclip.training.run import data_of_run, read_finished_run

    facts = read_finished_run(run)
    table, split = data_of_run(run, facts, manifest, splits)
    if read_posterior(run) is None:
        console.print(
            f"{run}: no posterior was fitted (model/posterior.json is missing); the training temperature and the "
            "location embeddings alone are used.",
            markup=False,
        )
    evaluation = evaluate_model(run, table, split, **options, command=command_line(), progress=True)
    return evaluation, table, split, facts.system or run.name


def _headline(report: Report) -> tuple[str, list[str], list[list[str]]]:
    from swclip.reporting.units import metres, percent

    size = report.gallery_size
    title = f"{report.n_queries:,} queries, " + ("unknown gallery" if size is None else f"{size:,} candidates")
    rows: list[tuple[str, Errors, Mapping[str, float]]] = [
        (str(report.estimator), report.error_m, report.accuracy_within_m)
    ]
    for name, figures in report.estimators.items():
        if name != report.estimator:
            rows.append((f"({name})", figures.error_m, figures.accuracy_within_m))
    for name, baseline in report.baselines:
        if baseline is not None:
            rows.append((f"({_BASELINES[name]})", baseline, baseline.accuracy_within_m))
    return (
        title,
        ["", "median", "mean", "p95", "within 25 m", "within 100 m"],
        [
            [
                name,
                *(metres(error_m) for error_m in (errors.median, errors.mean, errors.p95)),
                *(percent(within[radius]) for radius in ("25", "100")),
            ]
            for name, errors, within in rows
        ],
    )
