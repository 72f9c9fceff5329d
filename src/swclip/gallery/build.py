"""Making a gallery: embed the candidates' positions and their photographs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from swclip.data.candidates import GalleryRule, build_candidates
from swclip.errors import MismatchError
from swclip.models.embed import (Failure, Progress, embed_photographs, embed_positions)
from swclip.models.feature_cache import FeatureCache
from swclip.gallery.gallery import Gallery, gallery_from_embeddings
from swclip.gallery.hubness import Bank
from swclip.calibration.posterior_config import PosteriorConfig
from swclip.versions import own_version

if TYPE_CHECKING:
    from swclip.data.manifest import Manifest
    from swclip.models.locator_model import LocatorModel


def build_gallery(
    model: LocatorModel,
    candidates: pd.DataFrame,
    manifest: Manifest | None = None,
    *,
    posterior: PosteriorConfig | None = None,
    bank: Bank | None = None,
    batch_size: int = 64,
    workers: int | None = None,
    cache: FeatureCache | None = None,
    failures: list[Failure] | None = None,
    progress: Progress | None = None,
) -> Gallery:
    """Embed candidates, and the photographs that answers may lean on.

    Args:
        model: The model.
        candidates: candidate_id, lat_deg, lon_deg, city, image_ids; from `splits.candidates_for` or
            `manifest_candidates`.
        manifest: Where the photographs of `image_ids` are; None for a gallery of positions alone.
        posterior: The model's fitted posterior, kept with the gallery.
        bank: The model's bank of queries, that hubness is measured with; None measures none.
        batch_size: Photographs that the model sees at once.
        workers: Decoding threads.
        cache: Image features kept on disk, for a tower that is not trained.
        failures: A list that collects photographs that cannot be decoded; they are left out of the gallery. Without
            one, such a photograph raises.
        progress: Called with (done, total) photographs, or positions where there are no photographs.

    Returns:
        The gallery.

    Raises:
        MismatchError: A candidate names a photograph that the manifest does not have.
        InputError: Photographs cannot be decoded and `failures` is None; or there are no candidates.
    """
    ids = [i for own in candidates["image_ids"] for i in own] if manifest is not None else []
    words = candidate_words([None if pd.isna(value) else str(value) for value in candidates["city"]])
    positions = candidates[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64)
    locations = embed_positions(model, positions, words, progress=None if ids else progress)
    photographs: dict[str, Any] = {}
    left_out: list[Failure] = []
    if manifest is not None and ids:
        row_of = {image_id: row for row, image_id in enumerate(manifest.frame["image_id"])}
        for image_id in ids:
            if image_id not in row_of:
                raise MismatchError(
                    f"{manifest.path}: photograph {image_id!r} of the candidates is not in this manifest; "
                    "give the manifest that the splits were made from, or split it again."
                )
        paths = [manifest.image_paths[row_of[image_id]] for image_id in ids]
        embedded = embed_photographs(
            model,
            paths,
            batch_size=batch_size,
            workers=workers,
            cache=cache,
            failures=None if failures is None else left_out,
            progress=progress,
        )
        photographs = {
            image_id: row for image_id, row in zip(ids, embedded, strict=True) if row.size and not np.isnan(row[0])
        }
    if failures is not None:
        failures.extend(left_out)
    meta = {
        "fingerprint": model.fingerprint,
        "posterior": None if posterior is None else posterior.to_dict(),
        "manifest": None if manifest is None else str(manifest.path),
        "manifest_digest": None if manifest is None else manifest.digest,
        "left_out": [{"path": str(path), "reason": reason} for path, reason in left_out],
        "made_with": {"swclip": own_version()},
    }
    return gallery_from_embeddings(candidates, locations, photographs, meta, bank)


def candidate_words(cities: Sequence[str | None]) -> list[dict[str, str]] | None:
    """What a prompt may name beside a position; None where no candidate has a city."""
    if all(city is None for city in cities):
        return None
    return [{} if city is None else {"city": city} for city in cities]


def manifest_candidates(manifest: Manifest, grid_m: float | None = None, *, photographs: bool = True) -> pd.DataFrame:
    """Candidates of a gallery that may use everything in a manifest.

    Args:
        manifest: The photographs.
        grid_m: Spacing of a grid over each city in metres, in place of the photographs' positions; a grid has no
            photographs.
        photographs: Whether answers may lean on the photographs, not only on their positions.

    Returns:
        candidate_id, lat_deg, lon_deg, city, image_ids.

    Raises:
        InputError: The grid would have too many points.
    """
    kind: Literal["grid", "photographs", "positions"]
    kind = "grid" if grid_m is not None else "photographs" if photographs else "positions"
    everything = np.full(len(manifest), "train")
    table = build_candidates(manifest.frame, everything, GalleryRule(kind, grid_m))
    return table.drop(columns=["for_val", "for_query"])
