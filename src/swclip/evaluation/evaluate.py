"""Evaluate a model on the queries of a split: embed, answer, measure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import h3
import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from swclip.calibration.conformal import Calibration
from swclip.calibration.posterior_config import PosteriorConfig, default_posterior
from swclip.data.manifest import Manifest
from swclip.data.splits import QuerySplit, SplitName, Splits, candidates_for, indices
from swclip.errors import ConfigError, InputError
from swclip.evaluation.estimator_choice import chosen_estimator
from swclip.evaluation.measure import MeasureConfig, measure
from swclip.evaluation.report import Truth
from swclip.evaluation.result import Embeddings, Evaluation
from swclip.files import stated_path
from swclip.gallery.build import build_gallery
from swclip.gallery.gallery import Gallery
from swclip.gallery.hubness import Bank
from swclip.gallery.patches import ComputedPatches, TimedVerifier
from swclip.geo.spatial_smoothing import spread
from swclip.metrics.bootstrap import resample_blocks
from swclip.metrics.districts import exchangeable_units
from swclip.metrics.outside import OutsideFigures, outside_figures
from swclip.models.embed_modalities import chosen_modalities, count_modalities, embed_queries
from swclip.models.embed_patches import patch_features
from swclip.models.photograph_vectors import PhotographVectors, Vectors, as_vectors
from swclip.retrieval.point_estimates import estimators
from swclip.retrieval.posterior import gallery_kernel, iter_log_posterior
from swclip.retrieval.region_fit import in_area_probability
from swclip.retrieval.verification import with_keypoints
from swclip.versions import versions

if TYPE_CHECKING:
    from swclip.models.embed import FeatureSource
    from swclip.models.locator_model import LocatorModel
    from swclip.models.modalities import ModalityName

Progress = Callable[[int, int], None]

_BLOCK_RESOLUTION = 9

TRUE_COLUMNS = ("true_lat_deg", "true_lon_deg")
"""Optional columns of a manifest with positions more accurate than GPS; errors are then measured against them."""

_TRAINING_SIDE: dict[str, tuple[SplitName, ...]] = {"val": ("train",), "query": ("train", "val")}


@dataclass(frozen=True)
class EmbedConfig:
    """How photographs are embedded.

    Attributes:
        batch_size: Photographs per batch.
        workers: Decoding threads; None for the number of processors.
        cache: Stored features of a frozen tower, or stored tokens of one whose last blocks were trained.
    """

    batch_size: int = 64
    workers: int | None = None
    cache: FeatureSource | None = None


def evaluate(
    model: LocatorModel,
    manifest: Manifest,
    splits: Splits,
    *,
    on: QuerySplit = "query",
    posterior: PosteriorConfig | None = None,
    bank: Bank | None = None,
    config: MeasureConfig | None = None,
    embedding: EmbedConfig | None = None,
    use: Sequence[ModalityName] | None = None,
    calibration: Calibration | None = None,
    outside: Manifest | None = None,
    verify_with: str | None = None,
    command: str | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Answer the queries of a split with a model and measure the answers.

    Args:
        model: The model.
        manifest: The photographs.
        splits: Their splits, with the candidates.
        on: "query", or "val" for the validation queries.
        posterior: Posterior fitted on validation queries; None for the model's training temperature and location
            embeddings only.
        bank: The model's bank of queries, where its posterior corrects hubness; see `gallery.hubness.read_bank`.
        config: Estimator, districts, bootstrap.
        embedding: How photographs are embedded.
        use: Modalities of the queries, of image, caption and map; None for the image, and each modality that the model
            supports and at least one query has.
        calibration: Calibration of the prediction regions, from validation queries; None for cross-calibration by
            halves of the queries.
        outside: Photographs of elsewhere, to measure whether answers tell that they were not taken in the gallery's
            area.
        verify_with: Where the keypoint matcher of the posterior is; None for where it was when that was fitted.
        command: The command line, for the report.
        progress: Called with (done, total) photographs.

    Returns:
        Report, predictions and candidates.

    Raises:
        MismatchError: The splits were made from another manifest.
        InputError: There are no queries or candidates, or a photograph cannot be decoded.
        ArtefactError: The model's scores are NaN.
        ConfigError: The estimator, the districts or a modality are unknown, the model lacks the modality, or the
            estimator would be chosen on the queries that are measured; or photographs of elsewhere cannot be told,
            since the run has no calibration of that, or the gallery no photographs.
    """
    embedding = embedding or EmbedConfig()
    config, choice = chosen_estimator(
        config or MeasureConfig(),
        on,
        lambda on_validation: evaluate(
            model,
            manifest,
            splits,
            on="val",
            posterior=posterior,
            bank=bank,
            config=on_validation,
            embedding=embedding,
            use=use,
            verify_with=verify_with,
        ),
    )
    rows = query_rows(splits, manifest, on)
    captions, maps = [manifest.captions[row] for row in rows], [manifest.map_paths[row] for row in rows]
    names = chosen_modalities(model, captions, maps, use)
    candidates = candidates_for(splits, on)
    photographs = int(sum(len(ids) for ids in candidates["image_ids"]))
    elsewhere = [] if outside is None else outside.image_paths
    counted = _CombinedProgress(progress, photographs + len(rows) + len(elsewhere))
    options: dict[str, Any] = {
        "batch_size": embedding.batch_size,
        "workers": embedding.workers,
        "cache": embedding.cache,
    }
    verifies = posterior is not None and posterior.verified_candidates > 0
    by_patches = posterior is not None and verifies and posterior.matcher is None
    gallery = build_gallery(
        model,
        candidates,
        manifest,
        posterior=posterior,
        bank=bank,
        patches=by_patches,
        progress=counted.part() if photographs else None,
        **options,
    )
    if isinstance(gallery.verifier, ComputedPatches):
        gallery = replace(gallery, verifier=TimedVerifier(gallery.verifier.computed()))
    elif posterior is not None and verifies and not by_patches:
        gallery = with_keypoints(gallery, posterior, manifest, verify_with, model.device)
        gallery = replace(gallery, verifier=None if gallery.verifier is None else TimedVerifier(gallery.verifier))
    counted.offset = photographs
    paths = [manifest.image_paths[row] for row in rows]
    queries = embed_queries(model, paths, captions, maps, use=names, progress=counted.part(), **options)
    if verifies:
        details = tuple(patch_features(model, paths, **options) if by_patches else paths)
        queries = replace(queries, details=details)
    evaluation = evaluate_embeddings(
        queries,
        gallery,
        manifest,
        splits,
        on=on,
        posterior=default_posterior(model) if posterior is None else posterior,
        config=config,
        calibration=calibration,
        command=command,
    )
    report = evaluation.report.recorded(views=count_modalities(names, captions, maps), **choice)
    if outside is not None:
        counted.offset += len(rows)
        others = embed_queries(model, elsewhere, None, None, use=("image",), progress=counted.part(), **options)
        figures = _outside(queries, others, gallery, outside, evaluation, posterior, calibration, config)
        report = report.model_copy(update={"outside": figures})
    fitted = {**(report.posterior or {}), "fitted": posterior is not None}
    if isinstance(gallery.verifier, TimedVerifier):
        fitted["verification_ms"] = round(1000.0 * gallery.verifier.seconds / len(rows), 1)
    return replace(evaluation, report=report.model_copy(update={"posterior": fitted}))


def evaluate_embeddings(
    queries: Vectors,
    gallery: Gallery,
    manifest: Manifest,
    splits: Splits,
    *,
    on: QuerySplit = "query",
    posterior: PosteriorConfig,
    config: MeasureConfig | None = None,
    calibration: Calibration | None = None,
    command: str | None = None,
) -> Evaluation:
    """Evaluate existing embeddings, such as those of a system that is not a `LocatorModel`; see `evaluate`.

    Args:
        queries: Vectors of the Q photographs, in the order of `query_rows`.
        gallery: Gallery of the candidates, in the order of `candidates_for(splits, on)`.
        manifest: The photographs.
        splits: Their splits.
        on: "query" or "val".
        posterior: Parameters of the posterior.
        config: Estimator, districts, bootstrap.
        calibration: Calibration of the prediction regions; None for cross-calibration by halves of the queries.
        command: The command line, for the report.
    """
    rows, queries = query_rows(splits, manifest, on), as_vectors(queries)
    frame, truth = _queries(manifest, splits, rows, on)
    training = np.concatenate([indices(splits, manifest, name) for name in _TRAINING_SIDE[on]])
    locations = gallery.location_embeddings
    kernel = gallery_kernel(gallery, posterior.smoothing_m, posterior.kernel)
    evaluation = measure(
        frame,
        candidates_for(splits, on),
        iter_log_posterior(queries, gallery, posterior),
        estimators(posterior),
        manifest.positions_deg[training],
        config,
        smoothing=lambda probability: spread(probability, kernel),
        calibration=calibration,
        units=exchangeable_units(
            frame, frame[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64), splits.meta.get("protocol")
        ),
        # The location embeddings of a system without a location tower are zeros.
        embeddings=Embeddings(queries.embeddings, locations if locations.any() else None),
    )
    report = evaluation.report.model_copy(
        update={
            "on": on,
            "truth": truth,
            "posterior": posterior.to_dict(),
            "made_with": made_with(manifest, splits, gallery.meta.get("fingerprint"), command),
        }
    )
    return replace(evaluation, report=report)


def _outside(
    queries: PhotographVectors,
    others: PhotographVectors,
    gallery: Gallery,
    outside: Manifest,
    evaluation: Evaluation,
    posterior: PosteriorConfig | None,
    calibration: Calibration | None,
    config: MeasureConfig,
) -> OutsideFigures:
    """How well the answers tell the queries from photographs of elsewhere."""
    fit = None if calibration is None else calibration.in_area
    if fit is None or posterior is None:
        raise ConfigError(
            "photographs of elsewhere cannot be told: the run has no calibration of that (in_area in "
            "model/regions.json); train it again on splits with 20 validation queries or more."
        )
    inside, probability = (in_area_probability(each, gallery, posterior, fit) for each in (queries, others))
    if inside is None or probability is None:
        raise ConfigError(
            f"photographs of elsewhere cannot be told: that was calibrated on similarities by {fit.kind}, which this "
            "split's gallery does not have; evaluate on the protocol that the run was trained with."
        )
    error_m = evaluation.predictions["error_m"].to_numpy(dtype=np.float64)
    generator = np.random.default_rng(config.seed)
    blocks = evaluation.predictions["block"].to_list()
    return outside_figures(
        inside,
        error_m,
        probability,
        resample_blocks(blocks, config.resamples, generator),
        resample_blocks(_blocks_of(outside), config.resamples, generator),
        fit.threshold,
        stated_path(outside.path),
    )


def _blocks_of(manifest: Manifest) -> list[str]:
    """Blocks of photographs of a manifest without a split: cells of about 0.1 km2."""
    return [h3.latlng_to_cell(lat, lon, _BLOCK_RESOLUTION) for lat, lon in manifest.positions_deg.tolist()]


def query_rows(splits: Splits, manifest: Manifest, on: QuerySplit) -> Int64[np.ndarray, " q"]:
    """Rows of the queries in the manifest, in its order.

    Raises:
        InputError: There are no queries.
        MismatchError: The splits were made from another manifest.
    """
    rows = indices(splits, manifest, on)
    if len(rows) == 0:
        raise InputError(f"{splits.path}: no photograph is in split {on!r}; split again with a larger share of it.")
    return rows


def made_with(manifest: Manifest, splits: Splits, fingerprint: str | None, command: str | None) -> dict[str, Any]:
    """`made_with` of a report: versions, manifest, splits, model and command."""
    return {
        **versions(),
        "manifest": {"path": stated_path(manifest.path), "digest": manifest.digest},
        "splits": {"path": stated_path(splits.path), **splits.meta},
        "model": fingerprint,
        "command": command,
    }


def _queries(
    manifest: Manifest, splits: Splits, rows: Int64[np.ndarray, " q"], on: QuerySplit
) -> tuple[pd.DataFrame, Truth]:
    """The queries with the positions that errors are measured against, and the kind of these positions."""
    frame = manifest.frame.iloc[rows].reset_index(drop=True)
    truth = Truth(position="recorded", columns="lat_deg, lon_deg")
    if all(name in frame for name in TRUE_COLUMNS):
        true_deg: Float64[np.ndarray, "q 2"] = frame[list(TRUE_COLUMNS)].to_numpy(dtype=np.float64)
        if not np.isfinite(true_deg).all():
            row = int(np.flatnonzero(~np.isfinite(true_deg).all(axis=1))[0])
            raise InputError(
                f"{manifest.path}: photograph {frame['image_id'][row]!r} has no {' and '.join(TRUE_COLUMNS)}; "
                "fill these columns for all queries, or drop them."
            )
        frame["lat_deg"], frame["lon_deg"] = true_deg[:, 0], true_deg[:, 1]
        truth = Truth(position="true", columns=", ".join(TRUE_COLUMNS))
    block_of = dict(zip(splits.frame["image_id"], splits.frame["block_id"], strict=True))
    frame["block_id"] = [block_of[image_id] for image_id in frame["image_id"]]
    return frame.assign(split=on), truth


class _CombinedProgress:
    """Progress over several steps as one count."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self.offset = 0

    def part(self) -> Progress | None:
        if self._progress is None:
            return None
        report, offset, total = self._progress, self.offset, self._total
        return lambda done, _: report(offset + done, total)
