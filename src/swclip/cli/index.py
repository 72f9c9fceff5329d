"""`swclip index`: build a gallery from a trained model."""

from __future__ import annotations

from pathlib import Path


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
    """Build a gallery from a trained model and a manifest, an area or a grid.

    The gallery holds the embeddings of all candidates that `swclip locate` can return. Without a manifest,
    `--grid POLYGONS --spacing-m METRES` builds a gallery of positions only.

    Args:
        run: The run or model folder of the model, or its name on the hub: hf://OWNER/NAME, or OWNER/NAME where no such
            path exists.
        manifest: The manifest that `swclip prepare` or `swclip synth` wrote.
        out: The gallery: a folder (an existing gallery is replaced) or a URL such as s3://bucket/gallery.
        splits: Use only the candidates of the queries in these splits, not the whole manifest.
        photographs: Store embeddings of the photographs too, so that answers use them beside the positions.
        grid: Use the points of a grid in place of the photographs' positions: a GeoJSON file of polygons, or `cities`
            for the bounding box of each city of the manifest. The property `city` of a polygon is the city of its
            candidates.
        spacing_m: Spacing of the grid in metres.
        thumbnails: Store thumbnails of the photographs, without EXIF, with this maximum height in pixels.
        cache: Cache image features in $SWCLIP_CACHE (or ~/.cache/swclip), so that an interrupted run resumes, and later
            ones compute only new photographs.
        batch_size: Photographs per batch of the model.
        workers: Threads that decode photographs; by default one per processor.
    """
    from swclip.api.answers import build_gallery
    from swclip.cli.console import console
    from swclip.models.embed import Failure

    failures: list[Failure] = []
    gallery = build_gallery(
        run,
        manifest,
        out,
        splits=splits,
        photographs=photographs,
        grid=grid,
        spacing_m=spacing_m,
        thumbnails=thumbnails,
        cache=cache,
        batch_size=batch_size,
        workers=workers,
        failures=failures,
        progress=True,
    )
    for path, reason in failures:
        console.print(f"left out: {path}: {reason}", markup=False, highlight=False)
    left_out = f"; {len(failures)} photographs left out (listed by: swclip gallery info {out})" if failures else ""
    console.print(f"{out}: {len(gallery)} candidates, {len(gallery.image_ids)} photographs{left_out}", markup=False)
