"""`swclip index`: build a gallery from a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from swclip.cli.help import ADVANCED, off
from swclip.errors import UnreadableError


def index(
    run: str | Path,
    manifest: Path | None = None,
    /,
    *,
    out: str,
    splits: Path | None = None,
    grid: str | None = None,
    spacing_m: float | None = None,
    photographs: Annotated[bool, off("--no-photographs")] = True,
    thumbnails: int | None = None,
    patch_features: Annotated[bool | None, off("--no-patch-features")] = None,
    device: str = "auto",
    cache: Annotated[bool, ADVANCED, off("--no-cache")] = True,
    batch_size: Annotated[int, ADVANCED] = 64,
    workers: Annotated[int | None, ADVANCED] = None,
    engine: Annotated[Literal["ray"] | None, ADVANCED] = None,
) -> None:
    """Build a gallery: the places that an answer can name.

    The gallery holds the embeddings of all candidates that `swclip locate` can return. Without a manifest,
    `--grid POLYGONS --spacing-m METRES` builds a gallery of positions only. Photographs that cannot be read are left
    out, and the exit code is 7.

    Args:
        run: The run or model folder of the model, or its name on the hub: hf://OWNER/NAME, or OWNER/NAME where no such
            path exists.
        manifest: The manifest that `swclip prepare` or `swclip synth` wrote.
        out: The gallery: a folder (an existing gallery is replaced) or a URL such as s3://bucket/gallery.
        splits: Use only the candidates of the queries in these splits, not the whole manifest.
        grid: Use the points of a grid in place of the photographs' positions: a file of polygons (GeoJSON,
            GeoPackage), or `cities` for the bounding box of each city of the manifest. The property `city` of a
            polygon is the city of its candidates.
        spacing_m: Spacing of the grid in metres.
        photographs: Store only the positions; without the embeddings of the photographs, answers are less accurate.
        thumbnails: Store thumbnails of the photographs, without EXIF, with this maximum height in pixels.
        patch_features: Store a small vector for each patch of the photographs, about 16 kB a photograph of 224 px, by
            which the best candidates of an answer are compared with it in detail (swclip locate --verify). By default
            they are stored where the model's validation queries gain by it.
        device: auto (a GPU if there is one), cpu, cuda, cuda:1 or mps.
        cache: Do not cache image features in $SWCLIP_CACHE (or ~/.cache/swclip). With the cache, an interrupted run
            resumes, and later ones compute only new photographs.
        batch_size: Photographs per batch of the model.
        workers: Threads that decode photographs; by default one per processor.
        engine: ray: embed on the Ray cluster of RAY_ADDRESS, or on all processors of this machine where that is not
            set. All machines must see the photographs and the gallery at the same paths or URLs. Features are not
            cached.

    Examples:
        swclip index runs/first data --out gallery
        # thumbnails for the page of `swclip serve`
        swclip index runs/first data --out gallery --thumbnails 160
        # positions only, 25 m apart, in an area without photographs
        swclip index runs/first --grid area.geojson --spacing-m 25 --out gallery
    """
    from swclip.api.answers import build_gallery, build_gallery_on_ray
    from swclip.cli.console import console, next_step
    from swclip.cli.options import check_engine
    from swclip.models.embed import Failure

    check_engine(engine, {"--workers": workers})
    failures: list[Failure] = []
    options: Any = {
        "splits": splits,
        "photographs": photographs,
        "grid": grid,
        "spacing_m": spacing_m,
        "thumbnails": thumbnails,
        "patch_features": patch_features,
        "batch_size": batch_size,
        "device": device,
        "failures": failures,
        "progress": True,
    }
    if engine is None:
        gallery = build_gallery(run, manifest, out, cache=cache, workers=workers, **options)
        candidates, photograph_count = len(gallery), len(gallery.image_ids)
    else:
        built = build_gallery_on_ray(run, manifest, out, **options)
        candidates, photograph_count = built.candidates, built.photographs
    console.print(f"{out}: {candidates} candidates, {photograph_count} photographs", markup=False, soft_wrap=True)
    next_step("index", "swclip", "locate", out, "PHOTOGRAPH")
    if failures:
        listed = "\n".join(f"  {path}: {reason}" for path, reason in failures)
        raise UnreadableError(
            f"{len(failures)} photographs could not be read and were left out of the gallery, as `swclip gallery info` "
            f"states:\n{listed}"
        )
