"""`swclip.build_gallery` and `swclip.locate`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from swclip.api.objects import PathLike, as_fitted, as_manifest, as_splits
from swclip.errors import ConfigError
from swclip.progress import count_progress

if TYPE_CHECKING:
    import pandas as pd

    from swclip.answers.record import Answer
    from swclip.calibration.posterior_config import EffortName
    from swclip.data.manifest import Manifest
    from swclip.data.splits import Splits
    from swclip.gallery.gallery import Gallery
    from swclip.models.embed import Failure
    from swclip.models.locator_model import LocatorModel
    from swclip.retrieval.locator import Locator
    from swclip.retrieval.prior import Prior
    from swclip.scale.build_gallery import BuiltGallery

Progress = bool | Callable[[int, int], None] | None


def build_gallery(
    model: LocatorModel | PathLike,
    manifest: Manifest | PathLike | None = None,
    out: PathLike | None = None,
    *,
    splits: Splits | PathLike | None = None,
    photographs: bool = True,
    grid: PathLike | None = None,
    spacing_m: float | None = None,
    thumbnails: int | None = None,
    patch_features: bool | None = None,
    cache: bool = True,
    batch_size: int = 64,
    workers: int | None = None,
    device: str | None = None,
    failures: list[Failure] | None = None,
    progress: Progress = None,
) -> Gallery:
    """Build a gallery: the embeddings of all candidates that `locate` and `Locator` can return.

    Without a manifest, `grid` and `spacing_m` build a gallery of positions only.

    Args:
        model: A run's folder, a model's folder or name on the hub, or a model. Its posterior and calibration, fitted on
            validation queries, are stored with the gallery.
        manifest: The manifest, or its folder.
        out: A folder (an existing gallery is replaced) or a URL such as s3://bucket/gallery. Without it, the gallery is
            kept in memory only.
        splits: Use only the candidates of the queries in these splits.
        photographs: Store embeddings of the photographs too, so that answers use them beside the positions.
        grid: Use the points of a grid in place of the photographs' positions: a GeoJSON file of polygons, or "cities"
            for the bounding box of each city of the manifest.
        spacing_m: Spacing of the grid in metres.
        thumbnails: Store thumbnails of the photographs with this maximum height in pixels; needs `out`.
        patch_features: Store patch features of the photographs, by which the best candidates of an answer are compared
            with it in detail; None to store them where the model's validation queries gain by it.
        cache: Cache image features in $SWCLIP_CACHE (or ~/.cache/swclip), so that later galleries compute only new
            photographs.
        batch_size: Photographs per batch of the model.
        workers: Threads that decode photographs; by default one per processor.
        device: auto, cpu, cuda, ...; by default auto for a path, and the current device of a model.
        failures: A list that collects photographs that cannot be decoded, with the reasons; they are omitted. Without
            it, such a photograph raises an error.
        progress: True for a progress bar, or a callback that is called with (done, total).

    Raises:
        ConfigError: The options cannot be combined.
        ArtefactError: The model or the manifest does not exist.
        InputError: Photographs cannot be decoded, or `out` exists and is not a gallery.
        MismatchError: The splits were made from another manifest.
    """
    from swclip.gallery.build import build_gallery as embed_candidates
    from swclip.gallery.build import thumbnails_of
    from swclip.gallery.folder import check_output
    from swclip.gallery.patches import ComputedPatches
    from swclip.gallery.read_write import save_gallery
    from swclip.gallery.schema import manifest_details
    from swclip.models.blocks import available_device
    from swclip.models.feature_cache import FeatureCache

    if thumbnails is not None and out is None:
        raise ConfigError("thumbnails are stored in a gallery on disk; add out.")
    if out is not None:
        check_output(out)
    table = None if manifest is None else as_manifest(manifest)
    sources: Any = {"splits": splits, "photographs": photographs, "grid": grid, "spacing_m": spacing_m}
    candidates, meta = _candidates(table, thumbnails=thumbnails, **sources)
    fitted = as_fitted(model)
    if device is not None or fitted.model is not model:
        fitted.model.to(available_device(device or "auto"))
    with count_progress(progress, "Embedding the gallery") as report:
        gallery = embed_candidates(
            fitted.model,
            candidates,
            table,
            posterior=fitted.posterior,
            bank=fitted.bank,
            patches=fitted.verifies if patch_features is None else patch_features,
            batch_size=batch_size,
            workers=workers,
            cache=FeatureCache() if cache else None,
            failures=failures,
            progress=report,
        )
    if out is None and isinstance(gallery.verifier, ComputedPatches):
        with count_progress(progress, "Computing patch features") as report:
            gallery = replace(gallery, verifier=gallery.verifier.computed(report))
    gallery.meta.update(meta)
    if out is not None:
        extras: dict[str, Any] = {}
        if table is not None:
            extras["details"] = manifest_details(table)
            if thumbnails is not None:
                extras["thumbnails"] = thumbnails_of(table, thumbnails)
        save_gallery(gallery, out, fitted.model, fitted.calibration, bank=fitted.bank, **extras)
    return gallery


def build_gallery_on_ray(
    model: LocatorModel | PathLike,
    manifest: Manifest | PathLike | None,
    out: PathLike,
    *,
    splits: Splits | PathLike | None = None,
    photographs: bool = True,
    grid: PathLike | None = None,
    spacing_m: float | None = None,
    thumbnails: int | None = None,
    patch_features: bool | None = None,
    batch_size: int = 64,
    device: str = "auto",
    failures: list[Failure] | None = None,
    progress: Progress = None,
) -> BuiltGallery:
    """Build a gallery on the Ray cluster of RAY_ADDRESS, or on all processors of this machine where that is not set.

    The gallery is the one that `build_gallery` writes. Features are not cached. All machines of the cluster need swclip
    with its extra `ray`, and must see the photographs and `out` at the same paths or URLs.

    Args:
        model, manifest, splits, photographs, grid, spacing_m, thumbnails, patch_features, batch_size, failures: As of
            `build_gallery`.
        out: The folder or URL of the gallery.
        device: auto (GPUs where the cluster has any), cpu or cuda.
        progress: True for a progress bar, or a callback that is called with (done, total).

    Returns:
        The numbers of candidates and photographs.

    Raises:
        PackageError: The extra `ray` is not installed.
        InputError: The cluster cannot be joined, or lost the work. Further errors are those of `build_gallery`.
    """
    from swclip.gallery.folder import check_output
    from swclip.scale.build_gallery import build_gallery_on_cluster

    check_output(out)
    table = None if manifest is None else as_manifest(manifest)
    sources: Any = {"splits": splits, "photographs": photographs, "grid": grid, "spacing_m": spacing_m}
    candidates, meta = _candidates(table, thumbnails=thumbnails, **sources)
    fitted = as_fitted(model)
    with count_progress(progress, "Embedding the gallery") as report:
        return build_gallery_on_cluster(
            fitted.model,
            candidates,
            table,
            out,
            posterior=fitted.posterior,
            calibration=fitted.calibration,
            bank=fitted.bank,
            patches=fitted.verifies if patch_features is None else patch_features,
            thumbnails_px=thumbnails if table is not None else None,
            meta=meta,
            batch_size=batch_size,
            device=device,
            failures=failures,
            progress=report,
        )


def _candidates(
    manifest: Manifest | None,
    *,
    splits: Splits | PathLike | None,
    photographs: bool,
    grid: PathLike | None,
    spacing_m: float | None,
    thumbnails: int | None,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The candidates of a new gallery, and what it states of them."""
    from swclip.gallery.candidate_sources import candidates_from

    if thumbnails is not None and thumbnails < 16:
        raise ConfigError(f"--thumbnails {thumbnails}: must be at least 16 pixels.")
    candidates = candidates_from(
        manifest,
        None if splits is None else as_splits(splits),
        photographs=photographs,
        grid=None if grid is None else os.fspath(grid),
        spacing_m=spacing_m,
    )
    meta: dict[str, Any] = {}
    if grid is not None:
        meta["grid"] = {"area": os.fspath(grid), "spacing_m": spacing_m}
    if thumbnails is not None and manifest is not None:
        meta["thumbnails_px"] = thumbnails
    return candidates, meta


def locate(
    gallery: PathLike | Gallery | Locator,
    photographs: PathLike | Sequence[PathLike],
    *,
    model: LocatorModel | PathLike | None = None,
    top_k: int = 5,
    estimator: Literal["mode", "argmax", "geometric-median"] = "mode",
    captions: str | Sequence[str | None] | None = None,
    maps: PathLike | Sequence[PathLike | None] | None = None,
    together: bool = False,
    prior: Prior | None = None,
    region: float | None = 0.8,
    region_limit_km2: float | None = None,
    cells: Sequence[int] | None = None,
    search: Literal["auto", "memory", "disk"] = "auto",
    effort: Literal["fast", "balanced", "best"] = "best",
    verify: int | None = None,
    batch_size: int = 32,
    workers: int | None = None,
    progress: Progress = None,
) -> list[Answer]:
    """Estimate where photographs were taken.

    A gallery passed by its path is read on every call. For several calls, create one `Locator.from_gallery(...)`, and
    pass it or call its `locate`.

    Args:
        gallery: The folder or URL of a gallery, a gallery in memory (with `model`), or a `Locator`.
        photographs: A photograph, a folder (searched recursively), a pattern such as `trip/*.jpg`, or a
            list of these.
        model: The model that made a gallery in memory. For a gallery on disk, the run or model that it must have been
            made with.
        top_k: Number of candidates listed with each answer.
        estimator: "mode" (densest place of the posterior), "argmax" (most probable candidate, as in the paper), or
            "geometric-median" (least expected distance).
        captions: A caption of each photograph, for a model with the caption modality.
        maps: A map tile of each photograph, for a model with the map modality.
        together: The photographs show one place: give one answer for all of them.
        prior: The prior over positions.
        region: Nominal coverage of each answer's prediction region; None for no regions.
        region_limit_km2: Abstain where the region is larger than this too.
        cells: H3 resolutions of the cells that answers state beside the city; by default 6, 8 and 10.
        search: "memory" scores every candidate; "disk" scores a shortlist found with the gallery's index; "auto"
            chooses by the size of the gallery.
        effort: The evidence that answers use: "fast" without whitened features, "balanced" without a comparison of
            patches, "best" with all that the gallery has.
        verify: Number of the most probable candidates that are compared with a photograph in detail, by patch features
            of the gallery; 0 for none. By default the number that the model's posterior was fitted with.
        batch_size: Photographs per batch of the model.
        workers: Threads that decode photographs; by default one per processor.
        progress: True for a progress bar, or a callback that is called with (done, total) photographs.

    Returns:
        One answer per photograph, in their order; if a photograph cannot be read, `error` is the reason.

    Raises:
        InputError: A folder or pattern contains no photographs.
        ArtefactError: The gallery or its model is missing, truncated, or of another version.
        MismatchError: The gallery was made with another model.
        ConfigError: An option has an invalid value.
    """
    from swclip.ingest.named_photographs import photographs_at

    names = [photographs] if isinstance(photographs, (str, os.PathLike)) else photographs
    paths = [path for name in names for path in photographs_at(os.fspath(name))]
    locator = _locator(gallery, model, cells, search, effort, verify)
    with count_progress(progress, "Locating") as report:
        return locator.locate(
            paths,
            top_k,
            estimator,
            captions=captions,
            maps=maps,
            together=together,
            prior=prior,
            region=region,
            region_limit_km2=region_limit_km2,
            batch_size=batch_size,
            workers=workers,
            progress=report,
        )


def _locator(
    gallery: PathLike | Gallery | Locator,
    model: LocatorModel | PathLike | None,
    cells: Sequence[int] | None,
    search: Literal["auto", "memory", "disk"],
    effort: EffortName,
    verify: int | None,
) -> Locator:
    from swclip.gallery.gallery import Gallery
    from swclip.retrieval.hierarchy import RESOLUTIONS
    from swclip.retrieval.locator import Locator

    resolutions = sorted(set(cells or RESOLUTIONS))
    if isinstance(gallery, Locator):
        if model is not None or cells is not None or search != "auto" or effort != "best" or verify is not None:
            raise ConfigError(
                "a locator already has its model, cells, search, effort and verify; remove these arguments."
            )
        return gallery
    if isinstance(gallery, Gallery):
        if model is None:
            raise ConfigError("a gallery in memory does not contain its model; add the model that made it.")
        fitted = as_fitted(model)
        return Locator(
            gallery, fitted.model, fitted.posterior, resolutions, fitted.calibration, effort=effort, verify=verify
        )
    if model is not None and not isinstance(model, (str, os.PathLike)):
        if model.folder is None:
            raise ConfigError("a gallery on disk contains its model; pass the folder of a model, or remove the model.")
        model = model.folder
    return Locator.from_gallery(gallery, model, resolutions, search, effort, verify)
