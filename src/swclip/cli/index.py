"""`swclip index`: a gallery from a run, and a manifest or an area."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from swclip.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

    from swclip.data.manifest import Manifest

CITIES = "cities"


def index(
    run: str | Path,
    manifest: Path | None = None,
    /,
    *,
    out: str,
    splits: Path | None = None,
    photographs: bool = True,
    grid: str | None = None,
    spacing_m: float | None = None,
    thumbnails: int | None = None,
    cache: bool = True,
    batch_size: int = 64,
    workers: int | None = None,
) -> None:
    """Embed the places that answers may name, once, into a gallery that `swclip locate` answers from.

    Without a manifest, `--grid POLYGONS --spacing-m METRES` makes a gallery of positions alone.

    Args:
        run: The run (or model folder) whose model embeds them, or a model's name on the hub: hf://OWNER/NAME, or
            OWNER/NAME where no such path is there.
        manifest: The photographs, as `swclip prepare` or `swclip synth` wrote them.
        out: The gallery: a folder, where one that is there is replaced, or a URL such as s3://bucket/gallery.
        splits: Take only what these splits allow as candidates of the queries, not everything in the manifest.
        photographs: Let answers lean on the photographs too, not on their positions alone.
        grid: In place of photographs' positions, a grid: within the polygons of this GeoJSON file, or `cities` for the
            box round each city of the manifest. A feature's property `city` is the city of its candidates.
        spacing_m: Metres between the grid's points.
        thumbnails: Keep thumbnails of the photographs, of at most so many pixels in height, without EXIF.
        cache: Keep image features in $SWCLIP_CACHE (or ~/.cache/swclip), so that an interrupted run goes on where it
            was, and a later one computes only what is new.
        batch_size: Photographs that the model sees at once.
        workers: Threads that decode photographs; one a processor if not given.
    """
    _check_flags(manifest, splits, grid, spacing_m, thumbnails)

    from swclip.calibration.conformal import read_calibration
    from swclip.calibration.posterior_config import read_posterior
    from swclip.cli.console import console, progress_bar
    from swclip.data.manifest import read_manifest
    from swclip.gallery.build import build_gallery, thumbnails_of
    from swclip.gallery.folder import check_output
    from swclip.gallery.hubness import read_bank
    from swclip.gallery.read_write import save_gallery
    from swclip.gallery.schema import manifest_details
    from swclip.models.download import model_folder
    from swclip.models.embed import Failure
    from swclip.models.feature_cache import FeatureCache
    from swclip.models.locator_model import load_model

    check_output(out)
    table = None if manifest is None else read_manifest(manifest)
    candidates = _candidates(table, splits, photographs, grid, spacing_m)
    folder = model_folder(run)  # downloaded once, where it is on the hub
    model, calibration, bank = load_model(folder), read_calibration(folder), read_bank(folder)
    failures: list[Failure] = []
    with progress_bar("Embedding the gallery") as progress:
        gallery = build_gallery(
            model,
            candidates,
            table,
            posterior=read_posterior(folder),
            bank=bank,
            batch_size=batch_size,
            workers=workers,
            cache=FeatureCache() if cache else None,
            failures=failures,
            progress=progress,
        )
    keep: dict[str, Any] = {}
    if table is not None:
        keep["details"] = manifest_details(table)
        if thumbnails is not None:
            gallery.meta["thumbnails_px"] = thumbnails
            keep["thumbnails"] = thumbnails_of(table, thumbnails)
    if grid is not None:
        gallery.meta["grid"] = {"area": grid, "spacing_m": spacing_m}
    save_gallery(gallery, out, model, calibration, bank=bank, **keep)
    for path, reason in failures:
        console.print(f"left out: {path}: {reason}", markup=False, highlight=False)
    left_out = f"; {len(failures)} photographs left out (listed by: swclip gallery info {out})" if failures else ""
    console.print(f"{out}: {len(gallery)} candidates, {len(gallery.image_ids)} photographs{left_out}", markup=False)


def _check_flags(
    manifest: Path | None, splits: Path | None, grid: str | None, spacing_m: float | None, thumbnails: int | None
) -> None:
    if splits is not None and grid is not None:
        raise ConfigError(
            "--grid and --splits both say what the candidates are: give one. A grid can be made part of the splits "
            "with: swclip split MANIFEST --gallery grid:METRES"
        )
    if (grid is None) != (spacing_m is None):
        raise ConfigError("--grid and --spacing-m go together: what the grid lies over, and metres between its points.")
    if spacing_m is not None and not spacing_m > 0:
        raise ConfigError(f"--spacing-m {spacing_m:g}: must be a positive number of metres, such as 20.")
    if grid is None and manifest is None:
        raise ConfigError(
            "say what the gallery is made of: swclip index RUN MANIFEST, or swclip index RUN --grid POLYGONS.geojson "
            "--spacing-m 20"
        )
    if grid == CITIES and manifest is None:
        raise ConfigError("--grid cities lies over the cities of a manifest: swclip index RUN MANIFEST --grid cities")
    if grid not in (None, CITIES) and manifest is not None:
        raise ConfigError(
            f"--grid {grid} makes a gallery of positions alone: leave the manifest out. Its photographs can be put in "
            "afterwards with: swclip gallery append GALLERY MANIFEST"
        )
    if thumbnails is not None and thumbnails < 16:
        raise ConfigError(f"--thumbnails {thumbnails}: must be at least 16 pixels.")


def _candidates(
    manifest: Manifest | None, splits: Path | None, photographs: bool, grid: str | None, spacing_m: float | None
) -> pd.DataFrame:
    import pandas as pd

    from swclip.data.candidates import area_candidates
    from swclip.data.splits import candidates_for, check_same_manifest, read_splits
    from swclip.gallery.build import manifest_candidates

    if manifest is None:
        return area_candidates(grid or "", spacing_m or 0.0)
    if splits is None:
        candidates = manifest_candidates(manifest, spacing_m, photographs=photographs)
    else:
        chosen = read_splits(splits)
        check_same_manifest(chosen, manifest)
        candidates = candidates_for(chosen, "query")
    if not photographs:
        candidates["image_ids"] = pd.Series([[] for _ in range(len(candidates))], dtype=object)
    return candidates
