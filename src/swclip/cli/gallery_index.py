"""`swclip gallery build-index`: what makes a search on disk fast, and what it misses."""

from __future__ import annotations

from typing import Literal

from swclip.errors import ConfigError


def build_index(
    gallery: str,
    /,
    *,
    kind: Literal["bits", "vectors"] = "bits",
    queries: int = 200,
) -> None:
    """Index a gallery's embeddings for searches on disk, and measure what such a search misses.

    Galleries up to 2 GB of embeddings are searched in memory, candidate by candidate, and need none. Entries that are
    appended later are found all the same, ever more slowly: index again after many.

    Args:
        gallery: The gallery's folder or URL.
        kind: What the index keeps: bits (one a dimension, refined by the embeddings; small and fast), or vectors (as
            large as the embeddings, exact within the parts that are looked into; where bits miss too much).
        queries: Embeddings of the gallery that recall is measured with, drawn evenly; 0 to measure nothing. Photographs
            ask for locations, and find themselves among photographs, which flatters a little. An answer asks for 512.
    """
    import numpy as np

    from swclip.cli.console import console, print_table
    from swclip.gallery.ann import build_index as build
    from swclip.gallery.ann import measured_recall
    from swclip.gallery.schema import matrix
    from swclip.gallery.store import GalleryStore
    from swclip.retrieval.shortlist import IMAGE, LOCATION, ShortlistConfig

    if queries < 0:
        raise ConfigError(f"--queries {queries}: must be 0 (measure nothing) or more.")
    store = GalleryStore.open(gallery)
    built = {}
    for column in (LOCATION, IMAGE):
        with console.status(f"Indexing {column}"):
            built[column] = build(store.table, column, kind)
        state = built[column]
        said = "no vectors, nothing to index" if state is None else f"{state.kind} over {state.indexed:,} entries"
        console.print(f"{column}: {said}", markup=False, highlight=False)
    if not queries:
        return
    asked, ks = LOCATION if built[IMAGE] is None else IMAGE, (10, 100, ShortlistConfig().k)
    with console.status("Measuring recall"):
        vectors = matrix(store.read([asked])[asked].drop_null(), store.description.dim)
        drawn = np.random.default_rng(0).choice(len(vectors), min(queries, len(vectors)), replace=False)
        rows = [
            (column, found)
            for column, state in built.items()
            if state is not None
            for found in [measured_recall(store.table, column, vectors[np.sort(drawn)], ks)]
        ]
    names = [name for name in rows[0][1] if name != "queries"]
    table = [(column, *(f"{found[name]:.1%}" for name in names if name in found)) for column, found in rows]
    title = f"Recall against an exact search, {len(drawn)} queries"
    print_table(title, ["", *(name.replace("recall_at_", "recall@") for name in names)], table)
