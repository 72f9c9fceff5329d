"""`swclip.evaluate`, `swclip.evaluate_predictions` and `swclip.evaluate_vectors`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from swclip.api.objects import PathLike, as_fitted, as_manifest, as_splits
from swclip.files import stated_path
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
    effort: Literal["fast", "balanced", "best"] = "best",
    use: Sequence[ModalityName] | None = None,
    verify: int | None = None,
    verify_with: str | None = None,
    outside: Manifest | PathLike | None = None,
    device: str | None = None,
    command: str | None = None,
    progress: Progress = None,
) -> EvaluationReport:
    """Evaluate a model on the queries of a split.

    Args:
        model: A run's folder, a model's folder or name on the hub, or a model.
        manifest: The manifest, or its folder; by default that of the model's run.
        splits: The splits, or their file; by default those of the model's run.
        on: "query", or "val" for the validation queries.
        posterior: Converts scores to probabilities. By default the posterior fitted in the model's run; without one,
            the training temperature and the location embeddings alone.
        bank: The photographs with which hubness is measured; by default those of the model's run.
        calibration: The calibration of the regions; by default that of the model's run. Without one, and on "val", each
            half of the queries calibrates the other.
        config: Estimator, regions and bootstrap.
        embedding: How photographs are embedded; cached features of a frozen tower are used.
        effort: The evidence that answers use: "fast" without whitened features, "balanced" without a comparison of
            patches, "best" with all that the model has. Posterior and calibration are those fitted for it.
        use: The modalities of the queries: image, caption and map. By default the photograph, and each other modality
            that the model and the queries have.
        verify: Number of the most probable candidates that are compared with the query in detail, by patch features or
            keypoints; 0 for none. By default the number that the posterior was fitted with.
        verify_with: Where the keypoint matcher of the posterior is, on the hub or in a folder, if not where it was in
            training.
        outside: A manifest of photographs of elsewhere, to measure whether answers tell that they were not taken in the
            gallery's area.
        device: auto, cpu, cuda, ...; by default auto for a path, and the current device of a model.
        command: The command line, for the record.
        progress: True for a progress bar, or a callback that is called with (done, total) photographs.

    Returns:
        The report, predictions and candidates, with tables, plots and `save`; displays itself in notebooks.

    Raises:
        ArtefactError: The model does not exist, its run has not finished, or its manifest or splits were moved.
        MismatchError: The manifest is not that of the run, or the splits are of another manifest.
        InputError: There are no queries or candidates, or a photograph cannot be decoded.
        ConfigError: The model has no run and manifest or splits are missing, or an option has an invalid value.
    """
    from swclip.calibration.posterior_config import check_effort
    from swclip.errors import ConfigError
    from swclip.evaluation.evaluate import EmbedConfig
    from swclip.evaluation.evaluate import evaluate as measure_model
    from swclip.models.blocks import available_device
    from swclip.models.feature_cache import FeatureCache
    from swclip.reporting.notebook import EvaluationReport
    from swclip.retrieval.verification import with_verification
    from swclip.training.run import data_of_run

    fitted = as_fitted(model)
    facts = fitted.facts
    if fitted.run is not None and facts is not None:
        table, split = data_of_run(fitted.run, facts, manifest, splits)
    elif manifest is None or splits is None:
        raise ConfigError("the model has no run that records its data; add manifest and splits.")
    else:
        table, split = as_manifest(manifest), as_splits(splits)
    network = fitted.model
    if device is not None or network is not model:
        network = network.to(available_device(device or "auto"))
    features = FeatureCache()
    if embedding is None or embedding.cache is None:
        # Features are cached where the tower was frozen in training; otherwise a cache would only fill the disk.
        embedding = replace(embedding or EmbedConfig(), cache=features if features.holds(network) else None)
    check_effort(effort)
    # Coverage on the validation queries is optimistically biased for regions that were calibrated on them.
    calibration = calibration or (fitted.calibration if on == "query" else None)
    posterior = posterior or fitted.posterior
    if posterior is not None:
        posterior, calibration = with_verification(
            posterior.at(effort),
            None if calibration is None else calibration.at(effort),
            verify,
            network.patches is not None or posterior.matcher is not None,
        )
        if verify_with is not None and (fitted.posterior is None or fitted.posterior.matcher is None):
            raise ConfigError(f"the run verifies without keypoints, which {verify_with} finds; leave verify_with out.")
    elif verify:
        raise ConfigError("no posterior was fitted for this model, which verification needs; leave verify out.")
    with count_progress(progress, "Embedding photographs") as report:
        evaluation = measure_model(
            network,
            table,
            split,
            on=on,
            posterior=posterior,
            bank=bank or fitted.bank,
            config=config,
            embedding=embedding,
            use=use,
            calibration=calibration,
            outside=None if outside is None else as_manifest(outside),
            verify_with=verify_with,
            command=command,
            progress=report,
        )
    if facts is not None and fitted.run is not None:
        run = {"path": stated_path(fitted.run), "system": facts.system, "seed": facts.seed}
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
    """Evaluate the coordinates that another tool predicted, with the same rules as a run.

    Args:
        predictions: A CSV, Parquet, GeoParquet or GeoJSON file, or a data frame: an id, the true position and the
            predicted one in each row; see `swclip.external.evaluate`.
        manifest: The manifest with the true positions; ids are its image_ids, paths or file names.
        splits: The splits of the manifest, with queries and candidates.
        on: The photographs of the splits to evaluate, "query" or "val".
        gallery: The candidates of the tool, if they are known: a table of positions.
        columns: {role: column} for columns with other names than the role.
        config: Regions, bootstrap and seed.
        command: The command line, for the record.

    Raises:
        InputError: The table cannot be used; the message names the row.
        ConfigError: The options cannot be combined.
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
    """Evaluate embeddings of another tool by image retrieval, with the same rules as a run.

    Args:
        vectors: Ids, positions, roles and embeddings; see `swclip.external.embeddings` for the formats.
        gallery: The gallery's embeddings, where they are in a separate file.
        similarity: "cosine", or "l2" for Euclidean distance.
        crs: Projection of the columns easting and northing, such as "EPSG:32650".
        columns: {role: column} for columns with other names than the role.
        manifest: The manifest with the photographs of the embeddings; needs `splits`.
        splits: The splits of the manifest, with queries and candidates.
        on: The photographs of the splits to evaluate, "query" or "val".
        val_share: Share of the queries, in whole blocks, on which the posterior is fitted; they are not evaluated.
        temperature: Temperature of the posterior where none is fitted.
        config: Estimator, regions, bootstrap and seed.
        command: The command line, for the record.

    Raises:
        InputError: Embeddings are not finite, have different dimensions, or lack ids, positions or roles.
        ConfigError: The options cannot be combined.
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
