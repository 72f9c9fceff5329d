"""Make a gallery, or extend one: embed candidates' positions and their photographs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Float32

from swclip.calibration.posterior_config import PosteriorConfig
from swclip.data.attribution import attribution_table
from swclip.data.candidates import GalleryRule, build_candidates
from swclip.data.grouping import distinct_positions, first_of_group, position_name, position_steps, text_or_none
from swclip.data.manifest import Manifest
from swclip.errors import ArtefactError, MismatchError
from swclip.files import stated_path
from swclip.gallery.gallery import Gallery, gallery_from_embeddings
from swclip.gallery.hubness import Bank
from swclip.gallery.patches import ComputedPatches, PatchSource, check_encoder
from swclip.gallery.read_write import Thumbnails, entries_of
from swclip.gallery.schema import manifest_details
from swclip.gallery.store import Change, GalleryStore
from swclip.imaging.decode import PhotographError, thumbnail_jpeg
from swclip.models.embed import Failure, FeatureSource, Progress, embed_positions, photograph_vectors
from swclip.models.patches import encoder_of
from swclip.models.photograph_vectors import PhotographVectors
from swclip.versions import own_version

if TYPE_CHECKING:
    from swclip.models.locator_model import LocatorModel


def build_gallery(
    model: LocatorModel,
    candidates: pd.DataFrame,
    manifest: Manifest | None = None,
    *,
    posterior: PosteriorConfig | None = None,
    bank: Bank | None = None,
    patches: bool = False,
    batch_size: int = 64,
    workers: int | None = None,
    cache: FeatureSource | None = None,
    failures: list[Failure] | None = None,
    progress: Progress | None = None,
) -> Gallery:
    """Embed candidates, and the photographs that answers may use as evidence.

    Args:
        model: The model.
        candidates: candidate_id, lat_deg, lon_deg, city, image_ids; from `splits.candidates_for` or
            `manifest_candidates`.
        manifest: Manifest of the photographs in `image_ids`; None for a gallery of positions alone.
        posterior: The model's fitted posterior, stored with the gallery.
        bank: The model's bank of queries, to measure hubness with; None measures none.
        patches: Whether the gallery has patch features, of a model that has them. They are computed when they are read:
            a gallery that is written to disk never has more than those of one batch in memory.
        batch_size: Photographs per batch.
        workers: Decoding threads.
        cache: Image features on disk, for a frozen tower.
        failures: A list that collects photographs that cannot be decoded; they are left out of the gallery. Without
            one, such a photograph raises.
        progress: Called with (done, total) photographs, or positions where there are no photographs.

    Returns:
        The gallery.

    Raises:
        MismatchError: A candidate names a photograph that the manifest does not have.
        InputError: Photographs cannot be decoded and `failures` is None; or there are no candidates.
        ArtefactError: Patch features are requested, and the model has none.
    """
    if patches:
        encoder_of(model)
    ids, paths = photographs_of(candidates, manifest)
    words = candidate_words(candidates["city"])
    positions = candidates[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64)
    locations = embed_positions(model, positions, words, progress=None if ids else progress)
    vectors: PhotographVectors | None = None
    verifier: PatchSource | None = None
    left_out: list[Failure] = []
    if ids:
        if patches:
            verifier = ComputedPatches(
                model, dict(zip(ids, paths, strict=True)), batch_size=batch_size, workers=workers, cache=cache
            )
        vectors = photograph_vectors(
            model,
            paths,
            batch_size=batch_size,
            workers=workers,
            cache=cache,
            failures=None if failures is None else left_out,
            progress=progress,
        )
        check_embedded(vectors, len(left_out))
    if failures is not None:
        failures.extend(left_out)
    meta = gallery_meta(model, posterior, manifest, left_out)
    gallery = replace(gallery_of_vectors(model, candidates, locations, ids, vectors, meta, bank), verifier=verifier)
    if manifest is not None and gallery.image_ids:
        row_of = {image_id: row for row, image_id in enumerate(manifest.frame["image_id"])}
        shown = manifest.frame.iloc[[row_of[image_id] for image_id in gallery.image_ids]]
        gallery = replace(gallery, image_attribution=attribution_table(shown))
    return gallery


def photographs_of(candidates: pd.DataFrame, manifest: Manifest | None) -> tuple[list[str], list[Path]]:
    """Ids and paths of the candidates' photographs, in their order; none without a manifest.

    Raises:
        MismatchError: A candidate names a photograph that the manifest does not have.
    """
    if manifest is None:
        return [], []
    ids = [i for image_ids in candidates["image_ids"] for i in image_ids]
    row_of = {image_id: row for row, image_id in enumerate(manifest.frame["image_id"])} if ids else {}
    for image_id in ids:
        if image_id not in row_of:
            raise MismatchError(
                f"{manifest.path}: photograph {image_id!r} of the candidates is not in this manifest; "
                "give the manifest that the splits were made from, or split it again."
            )
    return ids, [manifest.image_paths[row_of[image_id]] for image_id in ids]


def check_embedded(vectors: PhotographVectors, undecodable: int) -> None:
    """Raise ArtefactError where more photographs have no embedding than those that cannot be decoded."""
    if int((~vectors.finite).sum()) > undecodable:
        raise ArtefactError("the model's embeddings are not numbers; its training diverged, train it again.")


def gallery_meta(
    model: LocatorModel, posterior: PosteriorConfig | None, manifest: Manifest | None, left_out: Sequence[Failure]
) -> dict[str, Any]:
    """What a gallery states of itself: the model, the manifest, and the photographs that are left out."""
    return {
        "fingerprint": model.fingerprint,
        "posterior": None if posterior is None else posterior.to_dict(),
        "manifest": None if manifest is None else stated_path(manifest.path),
        "manifest_digest": None if manifest is None else manifest.digest,
        "left_out": [
            {"path": stated_path(path), "reason": reason.replace(str(path), stated_path(path))}
            for path, reason in left_out
        ],
        "made_with": {"swclip": own_version()},
    }


def gallery_of_vectors(
    model: LocatorModel,
    candidates: pd.DataFrame,
    locations: Float32[np.ndarray, "m d"],
    image_ids: Sequence[str],
    vectors: PhotographVectors | None,
    meta: Mapping[str, Any],
    bank: Bank | None = None,
) -> Gallery:
    """Put a gallery together from the vectors of its photographs; those without vectors are left out.

    Args:
        model: The model.
        candidates: M candidates, as in `build_gallery`.
        locations: (M, D) embeddings of their positions.
        image_ids: N photographs.
        vectors: Their vectors, NaN where one cannot be decoded; None without photographs.
        meta: Kept with the gallery.
        bank: The model's bank of queries; None measures no hubness.
    """
    readable = [] if vectors is None else np.flatnonzero(vectors.finite).tolist()
    photographs = {} if vectors is None else {image_ids[row]: vectors.embeddings[row] for row in readable}
    gallery = gallery_from_embeddings(candidates, locations, photographs, meta, bank)
    if model.whitening is None:
        return gallery
    rows = np.zeros((len(gallery.image_ids), model.whitening.dimensions), dtype=np.float16)  # as the table keeps them
    if vectors is not None and vectors.whitened is not None:
        whitened = {image_ids[row]: vectors.whitened[row] for row in readable}
        for row, image_id in enumerate(gallery.image_ids):
            rows[row] = whitened[image_id]
    return replace(gallery, image_whitened=rows.astype(np.float32))


def candidate_words(cities: Iterable[Any]) -> list[dict[str, str]] | None:
    """Words of each candidate's prompt in addition to its position; None where no candidate has a city."""
    words = [{} if pd.isna(city) else {"city": str(city)} for city in cities]
    return words if any(words) else None


def manifest_candidates(manifest: Manifest, grid_m: float | None = None, *, photographs: bool = True) -> pd.DataFrame:
    """Candidates of a gallery of a whole manifest.

    Args:
        manifest: The photographs.
        grid_m: Spacing in metres of a grid over each city, in place of the photographs' positions; a grid has no
            photographs.
        photographs: Whether answers may use the photographs in addition to their positions.

    Returns:
        candidate_id, lat_deg, lon_deg, city, image_ids.

    Raises:
        InputError: The grid would have too many points.
    """
    kind: Literal["grid", "photographs", "positions"]
    kind = "grid" if grid_m is not None else "photographs" if photographs else "positions"
    split_of = np.full(len(manifest), "train")
    table = build_candidates(manifest.frame, split_of, GalleryRule(kind, grid_m))
    return table.drop(columns=["for_val", "for_query"])


COMMIT_ROWS = 512


def insert_photographs(
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
    cache: FeatureSource | None = None,
    failures: list[Failure] | None = None,
    progress: Progress | None = None,
) -> Change:
    """Embed a manifest's photographs and insert them into a gallery.

    They are inserted in parts, each one commit: after an interruption the gallery contains whole parts, and the
    same call resumes.

    Args:
        store: The gallery.
        model: The model that made it.
        manifest: The photographs.
        replacing: Replace existing photographs; otherwise they are skipped, and not embedded again.
        bank: The model's bank of queries, for a gallery whose hubness is measured.
        thumbnails_px: Height of the thumbnails to keep, pixels; None keeps none.
        commit_rows: Photographs in one commit.
        batch_size: Photographs per batch.
        workers: Decoding threads.
        cache: Image features on disk, for a frozen tower.
        failures: A list that collects photographs that cannot be decoded; their positions become candidates
            nevertheless, as in `build_gallery`. Without one, such a photograph raises.
        progress: Called with (done, total) photographs, without those that are skipped.

    Returns:
        The counts of all commits together.

    Raises:
        MismatchError: Another model made the gallery.
        ArtefactError: The gallery's hubness is measured, and there is no bank.
        InputError: Photographs cannot be decoded and `failures` is None.
    """
    store.description.check_model(model.fingerprint, "the given model", store.path)
    if store.description.patches is not None:
        check_encoder(str(store.description.patches["fingerprint"]), encoder_of(model).fingerprint, store.path)
    if store.description.hubness and bank is None:
        raise ArtefactError(
            f"{store.path}: its hubness is measured, and model/ has no bank.safetensors to measure that of further "
            "entries with; make the gallery again with: swclip index RUN MANIFEST --out GALLERY"
        )
    names = manifest.frame["image_id"].tolist()
    existing = set() if replacing else store.existing(names)
    rows = np.array([row for row, name in enumerate(names) if name not in existing], dtype=np.int64)
    done = Change(skipped=len(names) - len(rows), version=store.version)
    for start in range(0, len(rows), commit_rows):
        part = Manifest(manifest.path, manifest.frame.iloc[rows[start : start + commit_rows]].reset_index(drop=True))
        gallery = build_gallery(
            model,
            candidates_of(part),
            part,
            bank=bank if store.description.hubness else None,
            patches=store.description.patches is not None,
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
    """Candidates at a manifest's positions, named by position, in the columns of `build_candidates`."""
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
    """A function that makes thumbnails of a manifest's photographs, None for those that cannot be decoded."""
    paths = dict(zip(manifest.frame["image_id"], manifest.image_paths, strict=True))

    def make(image_ids: Sequence[str]) -> list[bytes | None]:
        thumbnails: list[bytes | None] = []
        for image_id in image_ids:
            try:
                thumbnails.append(thumbnail_jpeg(paths[image_id], side_px))
            except PhotographError:
                thumbnails.append(None)
        return thumbnails

    return make


def _shifted(progress: Progress, start: int, total: int) -> Progress:
    return lambda done, _: progress(start + done, total)
