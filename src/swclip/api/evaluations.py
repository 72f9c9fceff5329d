"""Measuring: `swclip.evaluate`, `swclip.evaluate_predictions`, `swclip.evaluate_vectors`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from swclip.api.objects import PathLike, as_fitted, as_manifest, as_splits
from swclip.progress import count_progress

if TYPE_CHECKING:
    import pandas as pd

    from swclip.calibration.conformal import Calibration
    from swclip.calibration.posterior_config import PosteriorConfig
    from swclip.data.manifest import Manifest
    from swclip.data.splits import Splits
    from swclip.evaluation.evaluate import EmbedConfig
    from swclip.evaluation.measure import MeasureConfig
    from swclip.external.embeddings import Source
    from swclip.gallery.hubness import Bank
    from swclip.models.locator_model import LocatorModel
    from swclip.models.modalities import ModalityName
    from swclip.reporting.notebook import EvaluationReport

Progress = bool | Callable[[int, int], None] | None
Queries = Literal["query", "val"]


def evaluate(
    model: LocatorModel | PathLike,
    manifest: Manifest | PathLike | None = None,
    splits: Splits | PathLike | None = None,
    *,
    on: Queries = "query",
    posterior: PosteriorConfig | None = None,
    bank: Bank | None = None,
    calibration: Calibration | None = None,
    config: MeasureConfig | None = None,
    embedding: EmbedConfig | None = None,
    use: Sequence[ModalityName] | None = None,
    device: str | None = None,
    command: str | None = None,
    progress: Progress = None,
) -> EvaluationReport:
    """Answer the queries of a split with a model and measure the answers.

    Args:
        model: A run's folder, a model's folder or name on the hub, or a model.
        manifest: The photographs, or the folder of their manifest; those of the model's run if not given.
        splits: Their splits, or the file; those of the model's run if not given.
        on: "query", or "val" for the validation queries.
        posterior: From scores to probabilities. If not given, what was fitted for the model in its run; for a model
            without, its training temperature and its location embeddings alone.
        bank: What hubness is measured with; likewise.
        calibration: Of the regions; likewise, and without any the queries calibrate one another by halves, as they do
            on "val".
        config: Estimator, regions and bootstrap.
        embedding: How photographs are embedded; features that are kept from training with a frozen tower are used.
        use: The views that queries are asked with, of image, caption and map; the photograph and each view that the
            model has and some query offers if not given.
        device: auto, cpu, cuda, ...: where to compute. If not given, auto for a path and where it is for a model.
        command: The command line, for the record.
        progress: True for a bar, or a callback that is called with (done, total) photographs.

    Returns:
        Report, predictions and candidates, with tables, plots and `save`; in a notebook it shows itself.

    Raises:
        ArtefactError: No model is there, its run has not finished, or its manifest or splits were moved.
        MismatchError: The manifest is not the one of the run, or the splits are of another one.
        InputError: There are no queries or candidates, or a photograph cannot be decoded.
        ConfigError: There is no run and manifest or splits are missing, or an option cannot work.
    """
    from swclip.errors import ConfigError
    from swclip.evaluation.evaluate import EmbedConfig
    from swclip.evaluation.evaluate import evaluate as measure_model
    from swclip.models.feature_cache import FeatureCache
    from swclip.reporting.notebook import EvaluationReport
    from swclip.training.run import data_of_run

    fitted = as_fitted(model)
    facts = fitted.facts
    if fitted.run is not None and facts is not None:
        table, split = data_of_run(fitted.run, facts, manifest, splits)
    elif manifest is None or splits is None:
        raise ConfigError("the model has no run that says what it was trained on; give manifest and splits.")
    else:
        table, split = as_manifest(manifest), as_splits(splits)
    network = fitted.model
    if device is not None or network is not model:
        network = network.to(_usable(device or "auto"))
    kept = FeatureCache()
    if embedding is None or embedding.cache is None:
        # Features are there where the tower was frozen in training; otherwise keeping them would only fill the disk.
        embedding = replace(embedding or EmbedConfig(), cache=kept if kept.holds(network) else None)
    with count_progress(progress, "Embedding photographs") as report:
        evaluation = measure_model(
            network,
            table,
            split,
            on=on,
            posterior=posterior or fitted.posterior,
            bank=bank or fitted.bank,
            config=config,
            embedding=embedding,
            use=use,
            # The validation queries cannot vouch for regions that were calibrated on them.
            calibration=calibration or (fitted.calibration if on == "query" else None),
            command=command,
            progress=report,
        )
    if facts is not None:
        run = {"path": str(fitted.run), "system": facts.system, "seed": facts.seed}
        evaluation = replace(evaluation, report=evaluation.report.recorded(run=run))
    return EvaluationReport.of(evaluation)


def evaluate_predictions(
    predictions: PathLike | pd.DataFrame,
    *,
    manifest: Manifest | PathLike | None = None,
    splits: Splits | PathLike | None = None,
    on: Queries = "query",
    gallery: PathLike | pd.DataFrame | None = None,
    columns: Mapping[str, str] | None = None,
    config: MeasureConfig | None = None,
    command: str | None = None,
) -> EvaluationReport:
    """Measure the coordinates that another tool predicted, as a run is measured.

    Args:
        predictions: A CSV, Parquet, GeoParquet or GeoJSON file, or a data frame: an id, the true position and the
            predicted one in each row; `swclip.external.evaluate` tells the rest.
        manifest: Takes the true positions from here; ids are image_ids, paths or file names of it.
        splits: With the manifest: which photographs are queries, and the candidates.
        on: Which photographs of the splits, "query" or "val".
        gallery: Positions that the tool could name, if they are known.
        columns: {role: column} where a name does not say what it holds.
        config: Regions, bootstrap and seed.
        command: The command line, for the record.

    Raises:
        InputError: The table cannot be used; the message names the row.
        ConfigError: The options do not go together.
        MismatchError: The splits were made from another manifest.
    """
    from swclip.external.evaluate import evaluate_predictions as measure_predictions
    from swclip.reporting.notebook import EvaluationReport

    return EvaluationReport.of(
        measure_predictions(
            predictions,
            manifest=None if manifest is None else as_manifest(manifest),
            splits=None if splits is None else as_splits(splits),
            on=on,
            gallery=gallery,
            columns=columns,
            config=config,
            command=command,
        )
    )


def evaluate_vectors(
    vectors: Source,
    gallery: Source | None = None,
    *,
    similarity: str = "cosine",
    crs: str | None = None,
    columns: Mapping[str, str] | None = None,
    manifest: Manifest | PathLike | None = None,
    splits: Splits | PathLike | None = None,
    on: Queries = "query",
    val_share: float = 0.0,
    temperature: float | None = None,
    config: MeasureConfig | None = None,
    command: str | None = None,
) -> EvaluationReport:
    """Measure another tool's embeddings by image search, as a run is measured.

    Args:
        vectors: Ids, positions, roles and vectors; `swclip.external.embeddings` tells the forms.
        gallery: The gallery's vectors, where they are in a file of their own.
        similarity: "cosine", or "l2" for Euclidean distance.
        crs: Projection of the columns easting and northing, such as "EPSG:32650".
        columns: {role: column} where a name does not say what it holds.
        manifest: With splits: the vectors are of its photographs, whose positions and roles are known there.
        splits: Which photographs are queries, and which an answer may use.
        on: Which photographs of the splits, "query" or "val".
        val_share: Share of the queries, in whole blocks, to fit the posterior on; they are then not measured.
        temperature: In place of the constant where nothing is fitted.
        config: Estimator, regions, bootstrap and seed.
        command: The command line, for the record.

    Raises:
        InputError: Vectors are not finite, do not fit together, or lack ids, positions or roles.
        ConfigError: The options do not go together.
        MismatchError: The splits were made from another manifest.
    """
    from swclip.external.evaluate import evaluate_vectors as measure_vectors
    from swclip.reporting.notebook import EvaluationReport

    return EvaluationReport.of(
        measure_vectors(
            vectors,
            gallery,
            similarity=similarity,
            crs=crs,
            columns=columns,
            manifest=None if manifest is None else as_manifest(manifest),
            splits=None if splits is None else as_splits(splits),
            on=on,
            val_share=val_share,
            temperature=temperature,
            config=config,
            command=command,
        )
    )


def _usable(device: str) -> str:
    """The name of a device that is there.

    Raises:
        ConfigError: It is not.
    """
    import torch

    from swclip.errors import ConfigError

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"device {device!r} cannot be used ({str(error).splitlines()[0]}); try --device cpu."
        ) from error
    return device
