"""`swclip attribution`: what must be shown with the photographs of a manifest or a gallery."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal


def attribution(
    source: str,
    /,
    *,
    format: Literal["text", "html", "json"] | None = None,
    out: Path | None = None,
) -> None:
    """Print the licences and authors to show with photographs.

    They are grouped and counted, with links to the photographs' pages: the first three of a group in text, all of them
    in HTML and JSON. Photographs that state no licence are counted too.

    Args:
        source: A manifest, or a gallery (a folder or URL).
        format: text, html (a fragment for a page) or json; by default that of the extension of --out, else text.
        out: A file; without one the standard output.

    Examples:
        swclip attribution data
        swclip attribution gallery --out credits.html
        swclip attribution gallery --format json
    """
    from swclip.cli.arguments import kind_of
    from swclip.cli.console import console
    from swclip.data.attribution import ATTRIBUTION_COLUMNS, credits_html, credits_json, credits_of, credits_text
    from swclip.data.manifest import manifest_file, read_manifest
    from swclip.files import atomic_file, stated_path
    from swclip.gallery.inspect import photograph_credits
    from swclip.gallery.store import GalleryStore

    if kind_of(source) == "a gallery" or "://" in source:
        credits = photograph_credits(GalleryStore.open(source))
    else:
        frame = read_manifest(source).frame
        credits = credits_of(frame.reindex(columns=[*ATTRIBUTION_COLUMNS, "source"]))
        source = str(manifest_file(source))
    suffixes = {".html": "html", ".htm": "html", ".json": "json"}
    kind = format or suffixes.get("" if out is None else out.suffix.lower(), "text")
    if kind == "json":
        document = credits_json(credits, source if "://" in source else stated_path(source))
    else:
        document = credits_html(credits) if kind == "html" else credits_text(credits)
    if out is None:
        sys.stdout.write(document)
        return
    with atomic_file(out) as beside:
        beside.write_text(document, encoding="utf-8")
    console.print(f"{out}: credits of {sum(credit.photographs for credit in credits):,} photographs", markup=False)
