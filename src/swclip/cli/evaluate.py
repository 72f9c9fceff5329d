"""`swclip evaluate`: a run, or what another tool made, as report.json, predictions.parquet and report.html."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from swclip.cli.external import BridgeOptions

if TYPE_CHECKING:
    from swclip.data.manifest import Manifest
    from swclip.data.splits import Splits
    from swclip.evaluation.evaluate import EmbedConfig
    from swclip.evaluation.measure import MeasureConfig
    from swclip.evaluation.report import Report
    from swclip.evaluation.result import Evaluation
    from swclip.metrics.parts import Errors


def evaluate(
    run: Path | None = None,
    /,
    *,
    out: Path,
    other: BridgeOptions | None = None,
    splits: Path | None = None,
    manifest: Path | None = None,
    on: Literal["query", "val"] = "query",
    estimator: Literal["mode", "argmax", "geometric-median"] | None = None,
    use: Annotated[
        list[Literal["image", "caption", "map"]] | None, Parameter(consume_multiple=True, negative="")
    ] = None,
    regions: str = "city",
    cells: list[int] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    batch_size: int = 64,
    workers: int | None = None,
    device: str = "auto",
    photographs: Annotated[bool, Parameter(negative="--no-photographs")] = True,
    figures: Annotated[bool, Parameter(negative="--no-figures")] = True,
) -> None:
    """Evaluate a run on the queries of its split, or the predictions or embeddings of another tool.

    Writes OUT/report.json, OUT/predictions.parquet (GeoParquet, one row a query), OUT/report.html (one file that opens
    without a network) and OUT/figures/, and prints the headline figures.

    Args:
        run: The folder that `swclip train` wrote; not with --predictions or --embeddings.
        out: The folder to write to.
        other: What another tool made.
        splits: Other splits than the run was trained with, of the same manifest. Of another tool: which photographs of
            the manifest were asked, and the candidates.
        manifest: Where the manifest is now, if it was moved. Of another tool: where the true positions are.
        on: query: the queries, which training never sees. val: the validation queries.
        estimator: How scores become a point. mode: the densest place of the posterior smoothed on the ground. argmax:
            the best candidate, as in the paper. geometric-median: the least expected distance. All are in the report,
            this one in full; if not given, the one that answered the validation queries best.
        use: The views that queries are asked with: --use image caption map, or some of them. If not given, the
            photograph and each view that the model has and the queries offer.
        regions: city, or cells:RES for the H3 cells of a resolution.
        cells: An H3 resolution whose cells' probabilities are measured beside the city's, again for further ones; 6, 8
            and 10 if not given.
        resamples: Bootstrap resamples.
        seed: Seed of the bootstrap and of the random guesses.
        batch_size: Photographs that the model sees at once.
        workers: Decoding threads; the number of processors if not given.
        device: auto, cpu, cuda, ...
        photographs: Show examples in the page; --no-photographs leaves pictures out, for reports that are passed on.
        figures: Write the charts and maps as PNG and SVG; --no-figures leaves them out.
    """
    from swclip.cli.console import command_line, console, print_table
    from swclip.cli.external import evaluate_other, say_notes
    from swclip.evaluation.evaluate import EmbedConfig
    from swclip.evaluation.measure import MeasureConfig
    from swclip.reporting.save import save_evaluation
    from swclip.retrieval.hierarchy import RESOLUTIONS

    other = other or BridgeOptions()
    other.check(run)
    config = MeasureConfig(estimator, regions, resamples, seed, tuple(cells or RESOLUTIONS))
    if run is None:
        evaluation, table, leakage = evaluate_other(
            other, manifest=manifest, splits=splits, on=on, config=config, command=command_line()
        )
        title = (other.predictions or other.embeddings or out).stem
    else:
        embedding = EmbedConfig(batch_size=batch_size, workers=workers)
        evaluation, table, split, title = _evaluate_run(
            run, splits, manifest, on=on, config=config, embedding=embedding, use=use, device=device
        )
        leakage = split.leakage
    shown = table if photographs else None
    report = save_evaluation(evaluation, out, title=title, manifest=shown, leakage=leakage, figures=figures)
    print_table(*_headline(evaluation.report))
    for sentence in say_notes(evaluation.report):
        console.print(sentence, soft_wrap=True, markup=False)
    console.print(f"Open {out / 'report.html'} in a browser.", markup=False)
    print(report)


def _evaluate_run(
    run: Path,
    splits: Path | None,
    manifest: Path | None,
    *,
    on: Literal["query", "val"],
    config: MeasureConfig,
    embedding: EmbedConfig,
    use: list[Literal["image", "caption", "map"]] | None,
    device: str,
) -> tuple[Evaluation, Manifest, Splits, str]:
    """The evaluation of a run, with its manifest, splits and title."""
    from swclip.api.evaluations import evaluate as evaluate_model
    from swclip.calibration.posterior_config import read_posterior
    from swclip.cli.console import command_line, console
    from swclip.training.run import data_of_run, read_finished_run

    facts = read_finished_run(run)
    table, split = data_of_run(run, facts, manifest, splits)
    if read_posterior(run) is None:
        console.print(
            f"{run}: no posterior was fitted (model/posterior.json is not there); the model's training temperature and "
            "its location embeddings alone are used.",
            markup=False,
        )
    evaluation = evaluate_model(
        run,
        table,
        split,
        on=on,
        config=config,
        embedding=embedding,
        use=use,
        device=device,
        command=command_line(),
        progress=True,
    )
    return evaluation, table, split, facts.system or run.name


def _headline(report: Report) -> tuple[str, list[str], list[list[str]]]:
    from swclip.reporting.units import metres, percent

    size = report.gallery_size
    title = f"{report.n_queries:,} queries, " + ("gallery not known" if size is None else f"{size:,} candidates")
    rows: list[tuple[str, Errors, Mapping[str, float]]] = [
        (str(report.estimator), report.error_m, report.accuracy_within_m)
    ]
    for name, figures in report.estimators.items():
        if name != report.estimator:
            rows.append((f"({name})", figures.error_m, figures.accuracy_within_m))
    for name, guess in report.baselines:
        if guess is not None:
            rows.append((f"({name})", guess, guess.accuracy_within_m))
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
