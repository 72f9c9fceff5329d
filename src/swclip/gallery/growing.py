"""More photographs into a gallery on disk: embedded by its own model and committed a part at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa

from swclip.data.manifest import Manifest
from swclip.data.grouping import (distinct_positions, first_of_group, position_name, position_steps, text_or_none)
from swclip.errors import ArtefactError
from swclip.gallery.details import manifest_details
from swclip.gallery.store import Change, GalleryStore
from swclip.imaging.decode import PhotographError
from swclip.imaging.thumbnail import thumbnail_jpeg
from swclip.gallery.build import build_gallery
from swclip.models.embed import Failure, Progress
from swclip.models.feature_cache import FeatureCache
from swclip.gallery.hubness import Bank
from swclip.gallery.read_write import Thumbnails, entries_of

if TYPE_CHECKING:
    from swclip.models.locator_model import LocatorModel

COMMIT_ROWS = 512


def put_in(
    store: GalleryStore,
    model: LocatorModel,
    manifest: Manifest,
    *,
    replacing: bool = False,
    bank: Bank | None = None,
    thumbnails_px: int | None = None,
    commit_rows: int = COMMIT_ROWS,
    batch_size: int = 64,
    workers: int | None = None,
    cache: FeatureCache | None = None,
    failures: list[Failure] | None = None,
    progress: Progress | None = None,
) -> Change:
    """Embed a manifest's photographs and put them into a gallery.

    Each part is one commit: whatever ends the work, a gallery of whole parts is left, and the same call goes on there.

    Args:
        store: The gallery.
        model: The model that made it.
        manifest: The photographs.
        replacing: Replace photographs that are there; otherwise they are skipped, and not embedded again.
        bank: The model's bank of queries, for a gallery with hubness.
        thumbnails_px: Keep thumbnails of at most this height; none where None.
        commit_rows: Photographs in one commit.
        batch_size: Photographs that the model sees at once.
        workers: Decoding threads.
        cache: Image features kept on disk, for a tower that is not trained.
        failures: A list that collects photographs that cannot be decoded; their positions become candidates all the
            same, as in `build_gallery`. Without one, such a photograph raises.
        progress: Called with (done, total) photographs, those that are skipped not counted.

    Returns:
        What was done, of all commits together.

    Raises:
        MismatchError: Another model made the gallery.
        ArtefactError: The gallery has its hubness measured, and there is no bank.
        InputError: Photographs cannot be decoded and `failures` is None.
    """
    store.description.check_model(model.fingerprint, "the model given", store.path)
    if store.description.hubness and bank is None:
        raise ArtefactError(
            f"{store.path}: its hubness is measured, and model/ holds no bank.safetensors to measure that of further "
            "entries with; make the gallery again with: swclip index RUN MANIFEST --out GALLERY"
        )
    names = manifest.frame["image_id"].tolist()
    there = set() if replacing else store.there(names)
    rows = np.array([row for row, name in enumerate(names) if name not in there], dtype=np.int64)
    done = Change(skipped=len(names) - len(rows), version=store.version)
    for start in range(0, len(rows), commit_rows):
        part = Manifest(manifest.path, manifest.frame.iloc[rows[start : start + commit_rows]].reset_index(drop=True))
        gallery = build_gallery(
            model,
            candidates_of(part),
            part,
            bank=bank if store.description.hubness else None,
            batch_size=batch_size,
            workers=workers,
            cache=cache,
            failures=failures,
            progress=None if progress is None else _shifted(progress, start, len(rows)),
        )
        thumbnails = None if thumbnails_px is None else thumbnails_of(part, thumbnails_px)
        entries = pa.Table.from_batches(entries_of(gallery, manifest_details(part), thumbnails))
        change = store.upsert(entries) if replacing else store.append(entries, "skip")
        done = replace(
            done,
            inserted=done.inserted + change.inserted,
            updated=done.updated + change.updated,
            skipped=done.skipped + change.skipped,
            version=change.version,
        )
    return done


def candidates_of(manifest: Manifest) -> pd.DataFrame:
    """Candidates at a manifest's positions, named by them, in the columns of `build_candidates`."""
    positions, which = distinct_positions(manifest.positions_deg)
    image_ids: list[list[str]] = [[] for _ in positions]
    for row, name in enumerate(manifest.frame["image_id"]):
        image_ids[which[row]].append(str(name))
    return pd.DataFrame(
        {
            "candidate_id": [position_name(*steps) for steps in position_steps(positions).tolist()],
            "lat_deg": positions[:, 0],
            "lon_deg": positions[:, 1],
            "city": pd.Series(first_of_group(text_or_none(manifest.frame["city"]), which), dtype=object),
            "image_ids": pd.Series(image_ids, dtype=object),
        }
    )


def thumbnails_of(manifest: Manifest, side_px: int) -> Thumbnails:
    """What makes thumbnails of a manifest's photographs, None for those that cannot be decoded."""
    paths = dict(zip(manifest.frame["image_id"], manifest.image_paths, strict=True))

    def make(image_ids: Sequence[str]) -> list[bytes | None]:
        found: list[bytes | None] = []
        for image_id in image_ids:
            try:
                found.append(thumbnail_jpeg(paths[image_id], side_px))
            except PhotographError:
                found.append(None)
        return found

    return make


def _shifted(progress: Progress, start: int, total: int) -> Progress:
    return lambda done, _: progress(start + done, total)
