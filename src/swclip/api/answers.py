"""From a model to answers: `swclip.build_gallery` and `swclip.locate`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from swclip.api.objects import PathLike, as_fitted, as_manifest, as_splits
from swclip.errors import ConfigError
from swclip.progress import count_progress

if TYPE_CHECKING:
    from swclip.answers.record import Answer
    from swclip.data.manifest import Manifest
    from swclip.data.splits import Splits
    from swclip.gallery.gallery import Gallery
    from swclip.models.embed import Failure
    from swclip.models.locator_model import LocatorModel
    from swclip.retrieval.locator import Locator
    from swclip.retrieval.prior import Prior

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
    cache: bool = True,
    batch_size: int = 64,
    workers: int | None = None,
    failures: list[Failure] | None = None,
    progress: Progress = None,
) -> Gallery:
    """Embed the places that answers may name, once, into a gallery that `locate` and `Locator` answer from.

    Without a manifest, `grid` and `spacing_m` make a gallery of positions alone.

    Args:
        model: A run's folder, a model's folder or name on the hub, or a model. What was fitted for it on validation
            queries goes with the gallery.
        manifest: The photographs, or the folder of their manifest.
        out: Where to write it: a folder, where a gallery that is there is replaced, or a URL such as
            s3://bucket/gallery. If not given, it is in memory only.
        splits: Take only what these splits allow as candidates of the queries.
        photographs: Let answers use the photographs too, not their positions alone.
        grid: In place of photographs' positions, a grid: within the polygons of this GeoJSON file, or "cities" for the
            box round each city of the manifest.
        spacing_m: Metres between the grid's points.
        thumbnails: Keep thumbnails of the photographs, of at most so many pixels in height; with `out`.
        cache: Keep image features in $SWCLIP_CACHE (or ~/.cache/swclip), so that a later gallery computes what is new.
        batch_size: Photographs that the model sees at once.
        workers: Threads that decode; one a processor if not given.
        failures: A list that collects photographs that cannot be decoded, with the reason; they are left out. If not
            given, such a photograph raises.
        progress: True for a bar, or a callback that is called with (done, total).

    Raises:
        ConfigError: The options do not go together.
        ArtefactError: No model or manifest is there.
        InputError: Photographs cannot be decoded, or `out` is something else than a gallery.
        MismatchError: The splits were made from another manifest.
    """
    from swclip.gallery.build import build_gallery as embed_candidates
    from swclip.gallery.build import thumbnails_of
    from swclip.gallery.candidate_sources import candidates_from
    from swclip.gallery.folder import check_output
    from swclip.gallery.read_write import save_gallery
    from swclip.gallery.schema import manifest_details
    from swclip.models.feature_cache import FeatureCache

    if thumbnails is not None and thumbnails < 16:
        raise ConfigError(f"--thumbnails {thumbnails}: must be at least 16 pixels.")
    if thumbnails is not None and out is None:
        raise ConfigError("thumbnails are kept in a gallery that is written; give out too.")
    if out is not None:
        check_output(out)
    table = None if manifest is None else as_manifest(manifest)
    candidates = candidates_from(
        table,
        None if splits is None else as_splits(splits),
        photographs=photographs,
        grid=None if grid is None else os.fspath(grid),
        spacing_m=spacing_m,
    )
    fitted = as_fitted(model)
    with count_progress(progress, "Embedding the gallery") as report:
        gallery = embed_candidates(
            fitted.model,
            candidates,
            table,
            posterior=fitted.posterior,
            bank=fitted.bank,
            batch_size=batch_size,
            workers=workers,
            cache=FeatureCache() if cache else None,
            failures=failures,
            progress=report,
        )
    if grid is not None:
        gallery.meta["grid"] = {"area": os.fspath(grid), "spacing_m": spacing_m}
    if out is not None:
        keep: dict[str, Any] = {}
        if table is not None:
            keep["details"] = manifest_details(table)
            if thumbnails is not None:
                gallery.meta["thumbnails_px"] = thumbnails
                keep["thumbnails"] = thumbnails_of(table, thumbnails)
        save_gallery(gallery, out, fitted.model, fitted.calibration, bank=fitted.bank, **keep)
    return gallery


def locate(
    gallery: PathLike | Gallery | Locator,
    photographs: PathLike | Sequence[PathLike],
    *,
    model: LocatorModel | PathLike | None = None,
    top_k: int = 5,
    estimator: Literal["mode", "argmax", "geometric-median"] | None = None,
    captions: str | Sequence[str | None] | None = None,
    maps: PathLike | Sequence[PathLike | None] | None = None,
    together: bool = False,
    prior: Prior | None = None,
    region: float | None = 0.8,
    region_limit_km2: float | None = None,
    cells: Sequence[int] | None = None,
    search: Literal["auto", "memory", "disk"] = "auto",
    batch_size: int = 32,
    workers: int | None = None,
    progress: Progress = None,
) -> list[Answer]:
    """Say where photographs were taken.

    For question after question, make one `Locator.from_gallery(...)`, and give it here or call its `locate`: a gallery
    given by its path is read anew each time.

    Args:
        gallery: The folder or URL of a gallery, a gallery in memory (with `model`), or a `Locator`.
        photographs: A photograph, a folder of them (searched all the way down), a pattern such as "trip/*.jpg", or a
            list of these.
        model: The model that made a gallery in memory; of one on disk, a run or folder to insist on.
        top_k: Candidates listed with each answer.
        estimator: "mode" (densest place of the posterior), "argmax" (most probable candidate, as in the paper), or
            "geometric-median" (least expected distance); what answered the validation queries best if not given.
        captions: Words about each photograph, for a model with a caption view.
        maps: A map tile for each photograph, likewise.
        together: The photographs show one place: give one answer to all of them.
        prior: What is known of the places beforehand.
        region: Nominal coverage of each answer's prediction region; None for no regions.
        region_limit_km2: Regions larger than this cannot tell.
        cells: H3 resolutions of the cells that answers name beside the city; 6, 8 and 10 if not given.
        search: "memory" scores every candidate; "disk" scores a shortlist by the gallery's index; "auto" chooses by
            size.
        batch_size: Photographs that the model sees at once.
        workers: Threads that decode; one a processor if not given.
        progress: True for a bar, or a callback that is called with (done, total) photographs.

    Returns:
        An answer a photograph, in their order; one that cannot be read has its reason in `error`.

    Raises:
        InputError: A folder or pattern holds no photographs.
        ArtefactError: The gallery or its model is missing, cut short, or of another version.
        MismatchError: The model is not the one that made the gallery.
        ConfigError: An option has a value that cannot work.
    """
    from swclip.ingest.named_photographs import photographs_at

    named = [photographs] if isinstance(photographs, (str, os.PathLike)) else photographs
    paths = [path for name in named for path in photographs_at(os.fspath(name))]
    locator = _locator(gallery, model, cells, search)
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
) -> Locator:
    from swclip.gallery.gallery import Gallery
    from swclip.retrieval.hierarchy import RESOLUTIONS
    from swclip.retrieval.locator import Locator

    resolutions = sorted(set(cells or RESOLUTIONS))
    if isinstance(gallery, Locator):
        if model is not None or cells is not None or search != "auto":
            raise ConfigError("a locator has its model, cells and search already; leave those out.")
        return gallery
    if isinstance(gallery, Gallery):
        if model is None:
            raise ConfigError("a gallery in memory does not hold its model; give the model that made it too.")
        fitted = as_fitted(model)
        return Locator(gallery, fitted.model, fitted.posterior, resolutions, fitted.calibration)
    if model is not None and not isinstance(model, (str, os.PathLike)):
        if model.folder is None:
            raise ConfigError(
                "a gallery on disk has its model; give the folder of another one, or leave the model out."
            )
        model = model.folder
    return Locator.from_gallery(gallery, model, resolutions, search)
