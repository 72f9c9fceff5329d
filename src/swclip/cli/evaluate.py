"""`swclip evaluate`: a run on the queries of its split, as report.json, predictions.parquet and report.html."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from swclip.training.run import RunFacts


def evaluate(
    run: Path,
    /,
    *,
    out: Path,
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
) -> None:
    """Evaluate a run on the queries of its split.

    Writes DIR/report.json, DIR/predictions.parquet (GeoParquet, one row a query) and DIR/report.html (one file that
    opens without a network), and prints the headline figures.

    Args:
        run: The folder that `swclip train` wrote.
        out: The folder to write to.
        splits: Other splits than the run was trained with, of the same manifest.
        manifest: Where the manifest is now, if it was moved.
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
    """
    from swclip.cli.console import console, print_table, progress_bar
    from swclip.cli.record import command_line
    from swclip.data.manifest import read_manifest
    from swclip.data.splits import leakage_path, read_splits
    from swclip.evaluation.evaluate import EmbedConfig
    from swclip.evaluation.evaluate import evaluate as evaluate_model
    from swclip.evaluation.measure import MeasureConfig
    from swclip.evaluation.predictions import write_predictions
    from swclip.evaluation.report import write_report_page
    from swclip.files import read_json, write_json
    from swclip.models.locator_model import load_model
    from swclip.retrieval.feature_cache import FeatureCache
    from swclip.retrieval.hierarchy import RESOLUTIONS
    from swclip.retrieval.hubness import read_bank
    from swclip.retrieval.posterior_config import read_posterior

    facts = _finished(run)
    table = read_manifest(_where(run, facts.manifest, "manifest", manifest))
    _check_digest(run, facts.manifest_digest, table.digest, str(table.path))
    split = read_splits(_where(run, facts.splits, "splits", splits))
    model = load_model(run).to(_device(device))
    posterior = read_posterior(run)
    if posterior is None:
        console.print(
            f"{run}: no posterior was fitted (model/posterior.json is not there); the model's training temperature and "
            "its location embeddings alone are used.",
            markup=False,
        )
    # Features are there where the tower was frozen in training; otherwise keeping them would only fill the disk.
    kept = FeatureCache()
    with progress_bar("Embedding photographs") as progress:
        evaluation = evaluate_model(
            model,
            table,
            split,
            on=on,
            posterior=posterior,
            bank=read_bank(run),
            config=MeasureConfig(estimator, regions, resamples, seed, tuple(cells or RESOLUTIONS)),
            embedding=EmbedConfig(batch_size=batch_size, workers=workers, cache=kept if kept.holds(model) else None),
            use=use,
            command=command_line(),
            progress=progress,
        )
    report = evaluation.report
    report["made_with"]["run"] = {"path": str(run), "system": facts.system, "seed": facts.seed}
    leaks = leakage_path(split.path)
    leakage = read_json(leaks, "the leakage report") if leaks.is_file() else None
    # Figures of an earlier evaluation must not stand beside new predictions if this one is interrupted.
    (out / "report.json").unlink(missing_ok=True)
    write_predictions(out / "predictions.parquet", evaluation.predictions)
    write_report_page(
        out / "report.html",
        evaluation,
        title=facts.system or run.name,
        manifest=table if photographs else None,
        leakage=leakage,
    )
    write_json(out / "report.json", report)
    print_table(*_headline(report))
    console.print(f"Open {out / 'report.html'} in a browser.", markup=False)
    print(out / "report.json")


def _finished(run: Path) -> RunFacts:
    from swclip.errors import ArtefactError
    from swclip.training.run import read_run

    if not (run / "run.json").is_file():
        raise ArtefactError(f"{run}: no run is there (run.json is missing); give what `swclip train ... --out` wrote.")
    facts = read_run(run)
    if facts.status != "finished":
        raise ArtefactError(
            f"{run}: this run has not finished; give its `swclip train` command again, which goes on where it stopped."
        )
    return facts


def _where(run: Path, recorded: str, name: str, given: Path | None) -> Path:
    """The manifest or the splits: as given, else as the run recorded it, from here or from the run's folder."""
    from swclip.errors import ArtefactError

    if given is not None:
        return given
    for path in (Path(recorded), run / recorded):
        if path.exists():
            return path
    raise ArtefactError(f"{recorded}: the run's {name} is not there any more; say where it is now with --{name}.")


def _check_digest(run: Path, trained: str, digest: str, where: str) -> None:
    from swclip.errors import MismatchError

    if trained != digest:
        raise MismatchError(
            f"{where}: this is not the manifest that {run} was trained on (digest {digest[:12]}, not {trained[:12]}): "
            "its queries may have been trained on. Give the run's own with --manifest, or train on this one."
        )


def _device(name: str) -> str:
    import torch

    from swclip.errors import ConfigError

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"device {name!r} cannot be used ({str(error).splitlines()[0]}); try --device cpu."
        ) from error
    return name


def _headline(report: dict[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    from swclip.evaluation.words import metres, percent

    title = f"{report['n_queries']:,} queries, {report['gallery_size']:,} candidates"
    rows = [(report["estimator"], report)]
    rows += [(f"({name})", figures) for name, figures in report["estimators"].items() if name != report["estimator"]]
    rows += [(f"({name})", {"error_m": guess, **guess}) for name, guess in report["baselines"].items()]
    return (
        title,
        ["", "median", "mean", "p95", "within 25 m", "within 100 m"],
        [
            [
                name,
                *(metres(figures["error_m"][key]) for key in ("median", "mean", "p95")),
                *(percent(figures["accuracy_within_m"][key]) for key in ("25", "100")),
            ]
            for name, figures in rows
        ],
    )
