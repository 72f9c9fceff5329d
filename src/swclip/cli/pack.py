"""`swclip pack`: a manifest and its photographs as one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from swclip.cli.help import ADVANCED


def pack(manifest: Path, /, *, out: str, workers: Annotated[int | None, ADVANCED] = None) -> None:
    """Pack a manifest and its photographs into one table.

    The table (Lance) is a folder or in an object store. Every command that reads a manifest reads it in the same way,
    with the same order and the same results: name OUT instead of the manifest. If interrupted, run the same command
    again to resume.

    Args:
        manifest: The manifest that `swclip prepare`, `swclip fetch` or `swclip synth` wrote.
        out: A folder, or a URL such as s3://bucket/leeds.
        workers: Threads that read photographs; by default one per processor.

    Examples:
        swclip pack data --out packed
        # millions of small files become one table in an object store
        swclip pack data --out s3://bucket/leeds
    """
    from swclip.api.photographs import pack as pack_manifest
    from swclip.cli.console import console, next_step

    packed = pack_manifest(manifest, out, workers=workers, progress=True)
    console.print(f"{len(packed):,} photographs in {out}", markup=False, soft_wrap=True)
    print(out)
    next_step("pack", "swclip", "split", out, "--protocol", "known-places", "--out", "splits.parquet")
