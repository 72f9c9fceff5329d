"""`swclip gallery build-index`: an index for fast searches on disk, and its recall."""

from __future__ import annotations

from swclip.errors import ConfigError, InputError


def build_index(
    gallery: str,
    /,
    *,
    rebuild: bool = False,
    queries: int = 200,
) -> None:
    """Build or extend the index for searches on disk.

    Its recall is measured and printed. A query searches as many partitions of the index as recall@100 of 0.99 needs,
    from 64 on.

    Galleries with up to 2 GB of embeddings are searched exactly, in memory, and need no index. Entries that are
    appended later are found at once, and compared one by one: run the command again after many additions, which adds
    them to the index. Needs faiss: pip install 'swclip[faiss]'.

    Args:
        gallery: The gallery's folder.
        rebuild: Train the index again, instead of adding the entries that it lacks.
        queries: Number of embeddings of the gallery, drawn at random, with which recall is measured; 0 to skip,
            and search 64 partitions. Among photographs each query finds itself, so that recall is slightly
            optimistic. Answers use the first 512 results.

    Examples:
        swclip gallery build-index gallery
        swclip gallery build-index gallery --rebuild --queries 1000
    """
    import numpy as np

    from swclip.cli.console import console, next_step, print_table
    from swclip.gallery import ann
    from swclip.gallery.index_build import build_index as build
    from swclip.gallery.index_build import tune_probes
    from swclip.gallery.schema import EMBEDDINGS
    from swclip.gallery.store import GalleryStore
    from swclip.gallery.vector_index import VectorIndex
    from swclip.progress import progress_bar
    from swclip.retrieval.shortlist import IMAGE, LOCATION, ShortlistConfig

    if queries < 0:
        raise ConfigError(f"--queries {queries}: must be 0 (skip the measurement) or more.")
    store = GalleryStore.open(gallery)
    if store.indices is None:
        raise InputError(
            f"{gallery}: an index is mapped from files on a disk, and this gallery is in an object store; copy it to a "
            f"folder first: swclip gallery filter {gallery} --out FOLDER"
        )
    for earlier in store.table.list_indices():  # of galleries of 0.1, which nothing uses
        store.table.drop_index(earlier.name)
    built = {}
    for column in (name for name in EMBEDDINGS if name in store.schema.names):
        with progress_bar(f"Indexing {column}") as report:
            built[column], added = build(store.indices, store.table, column, rebuild=rebuild, report=report)
        summary = (
            f"an index of {built[column]:,} embeddings, {added:,} of them new" if built[column] else "no embeddings"
        )
        console.print(f"{column}: {summary}", markup=False, highlight=False)
    next_step("gallery build-index", "swclip", "locate", gallery, "PHOTOGRAPH", "--search", "disk")
    if not queries:
        return
    ks = (1, 10, 100, ShortlistConfig().k)
    rows = []
    with console.status("Measuring recall"):
        for column in (name for name, count in built.items() if count):
            # Trained embeddings of photographs are similar to queries of both columns of that space.
            source = IMAGE if column == LOCATION and built[IMAGE] else column
            ids = ann.row_ids_of(store.table, source)
            drawn = np.sort(np.random.default_rng(0).choice(ids, min(queries, len(ids)), replace=False))
            vectors = np.concatenate([part for _, part in ann.vectors_of(store.table, source, drawn)])
            index = VectorIndex.open(store.indices, store.table, column, ann.row_ids_of(store.table, column))
            assert index is not None  # it was just built
            probes, recall = tune_probes(store.indices, index, store.table, column, vectors, ks)
            rows.append((f"{column} ({probes} of {index.partitions} partitions)", recall))
    names = [name for name in rows[0][1] if name != "queries"]
    table = [(column, *(f"{recall[name]:.1%}" for name in names if name in recall)) for column, recall in rows]
    title = f"Recall against an exact search, {max(int(recall['queries']) for _, recall in rows)} queries"
    print_table(title, ["", *(name.replace("recall_at_", "recall@") for name in names)], table)
