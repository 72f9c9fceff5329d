"""`swclip gallery build-index`: an index for fast searches on disk, and its recall."""

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
    """Build an index for searches on disk, and measure its recall.

    Galleries with up to 2 GB of embeddings are searched exactly, in memory, and need no index. Entries that are
    appended later are found without it, but more slowly: build the index again after many additions.

    Args:
        gallery: The gallery's folder or URL.
        kind: bits: one bit per dimension, refined with the embeddings; small and fast. vectors: as large as the
            embeddings and exact within the searched partitions; for galleries where the recall of bits is too low.
        queries: Number of embeddings of the gallery, drawn at random, with which recall is measured; 0 to skip. Among
            photographs each query finds itself, so that recall is slightly optimistic. Answers use the first 512
            results.

    Examples:
        swclip gallery build-index gallery
        swclip gallery build-index gallery --kind vectors --queries 1000
    """
    import numpy as np

    from swclip.cli.console import console, next_step, print_table
    from swclip.gallery.ann import build_index as build
    from swclip.gallery.ann import measured_recall
    from swclip.gallery.schema import EMBEDDINGS, matrix
    from swclip.gallery.store import GalleryStore
    from swclip.retrieval.shortlist import IMAGE, LOCATION, ShortlistConfig

    if queries < 0:
        raise ConfigError(f"--queries {queries}: must be 0 (skip the measurement) or more.")
    store = GalleryStore.open(gallery)
    built = {}
    for column in (name for name in EMBEDDINGS if name in store.schema.names):
        with console.status(f"Indexing {column}"):
            built[column] = build(store.table, column, kind)
        state = built[column]
        summary = "no embeddings to index" if state is None else f"{state.kind} over {state.indexed:,} entries"
        console.print(f"{column}: {summary}", markup=False, highlight=False)
    next_step("gallery build-index", "swclip", "locate", gallery, "PHOTOGRAPH", "--search", "disk")
    if not queries:
        return
    ks = (10, 100, ShortlistConfig().k)
    rows = []
    with console.status("Measuring recall"):
        for column, state in built.items():
            if state is None:
                continue
            # Trained embeddings of photographs are similar to queries of both columns of that space.
            source = IMAGE if column == LOCATION and built[IMAGE] is not None else column
            vectors = matrix(store.read([source])[source].drop_null(), store.schema.field(source).type.list_size)
            drawn = np.random.default_rng(0).choice(len(vectors), min(queries, len(vectors)), replace=False)
            rows.append((column, measured_recall(store.table, column, vectors[np.sort(drawn)], ks)))
    names = [name for name in rows[0][1] if name != "queries"]
    table = [(column, *(f"{recall[name]:.1%}" for name in names if name in recall)) for column, recall in rows]
    title = f"Recall against an exact search, {max(int(recall['queries']) for _, recall in rows)} queries"
    print_table(title, ["", *(name.replace("recall_at_", "recall@") for name in names)], table)
