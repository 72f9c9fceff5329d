"""`swclip index`: a gallery from a run, and a manifest or an area."""

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
