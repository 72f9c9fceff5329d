"""The gallery in memory: candidate positions and their embeddings, read from a store on disk or put together here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Float32, Float64, Int64

from swclip.calibration.conformal import Calibration, write_calibration
from swclip.calibration.posterior_config import PosteriorConfig
from swclip.errors import InputError
from swclip.gallery.filters import EntryFilter
from swclip.gallery.hubness import Bank, Hubness, write_bank
from swclip.gallery.read_write import COLUMNS, Thumbnails, description_of, entries_of, gallery_parts
from swclip.gallery.schema import check_fingerprint
from swclip.gallery.store import GalleryStore

if TYPE_CHECKING:
    from swclip.models.locator_model import LocatorModel


@dataclass(frozen=True, eq=False)
class Gallery:
    """Places an answer may name, in the space of one model.

    Attributes:
        candidate_ids: M ids.
        positions_deg: (M, 2) latitude, longitude in degrees.
        cities: M city names, None where unknown.
        location_embeddings: (M, D) unit vectors of the positions.
        image_embeddings: (P, D) unit vectors of the photographs that answers may lean on; P may be 0.
        image_rows: (P,) the candidate at whose position each photograph was taken.
        image_ids: P ids of those photographs.
        meta: fingerprint of the model, posterior, what it was made from.
        hubness: How similar to queries in general candidates and photographs are; None where it was not measured.
    """

    candidate_ids: list[str]
    positions_deg: Float64[np.ndarray, "m 2"]
    cities: list[str | None]
    location_embeddings: Float32[np.ndarray, "m d"]
    image_embeddings: Float32[np.ndarray, "p d"]
    image_rows: Int64[np.ndarray, " p"]
    image_ids: list[str]
    meta: dict[str, Any] = field(default_factory=dict)
    hubness: Hubness | None = None

    def __post_init__(self) -> None:
        m, p = len(self.candidate_ids), len(self.image_ids)
        if m == 0:
            raise InputError("a gallery needs at least one candidate; check the manifest or the splits.")
        shapes = {
            "positions_deg": (self.positions_deg.shape, (m, 2)),
            "cities": ((len(self.cities),), (m,)),
            "location_embeddings": (self.location_embeddings.shape, (m, self.dim)),
            "image_embeddings": (self.image_embeddings.shape, (p, self.dim)),
            "image_rows": (self.image_rows.shape, (p,)),
        }
        if self.hubness is not None:
            shapes["hubness.locations"] = (self.hubness.locations.shape, (m,))
            shapes["hubness.photographs"] = (self.hubness.photographs.shape, (p,))
        for name, (found, wanted) in shapes.items():
            if found != wanted:
                raise InputError(f"gallery: {name} has shape {found}, and {wanted} is needed.")
        if p and (int(self.image_rows.min()) < 0 or int(self.image_rows.max()) >= m):
            raise InputError(f"gallery: image_rows must be rows of the {m} candidates.")

    def __len__(self) -> int:
        return len(self.candidate_ids)

    def __repr__(self) -> str:
        return f"Gallery({len(self):,} candidates, {len(self.image_ids):,} photographs, {self.dim} dimensions)"

    @property
    def dim(self) -> int:
        """D, the dimension of the embeddings."""
        return int(self.location_embeddings.shape[1])

    @property
    def posterior(self) -> PosteriorConfig | None:
        """The posterior that was fitted for the model, where there is one."""
        values = self.meta.get("posterior")
        return None if values is None else PosteriorConfig.from_dict(values, "gallery")

    def image_ids_of(self, row: int) -> list[str]:
        """Ids of the photographs at one candidate."""
        return [self.image_ids[i] for i in np.flatnonzero(self.image_rows == row)]

    def check_model(self, fingerprint: str, model_name: str, gallery_name: str = "the gallery") -> None:
        """Raise MismatchError unless a model is the one whose embeddings these are."""
        check_fingerprint(self.meta.get("fingerprint"), fingerprint, model_name, gallery_name)

    def save(
        self,
        path: str | os.PathLike[str],
        model: LocatorModel,
        calibration: Calibration | None = None,
        *,
        bank: Bank | None = None,
        details: pa.Table | None = None,
        thumbnails: Thumbnails | None = None,
    ) -> None:
        """Write a gallery that answers on its own: a table of entries, and the model beside it.

        Args:
            path: The gallery's folder, where one that is there is replaced whole; or an object store's URL.
            model: The model that made the embeddings.
            calibration: Of the model's regions, for model/regions.json; None for answers without regions.
            bank: What hubness was measured with, for model/bank.safetensors: entries that are appended need it.
            details: What is known of the photographs, from `swclip.gallery.schema.manifest_details`. A gallery in
                memory does not carry it: to change one on disk, use `swclip.gallery.store.GalleryStore`.
            thumbnails: Makes small pictures of photographs by id, to be kept with them.

        Raises:
            MismatchError: Another model made them.
            DiskFullError: The disk filled; what was there before is as it was.
            InputError: The folder is there and is not a gallery, or cannot be written.
        """
        self.check_model(model.fingerprint, "the model to be saved with it", os.fspath(path))

        def write_files(folder: Path) -> None:
            model.save(folder / "model")
            if calibration is not None:
                write_calibration(folder / "model", calibration)
            if bank is not None:
                write_bank(folder / "model", bank)

        GalleryStore.create(path, description_of(self), entries_of(self, details, thumbnails), write_files)


def gallery_from_embeddings(
    candidates: pd.DataFrame,
    location_embeddings: Float32[np.ndarray, "m d"],
    photographs: Mapping[str, Float32[np.ndarray, " d"]] | None = None,
    meta: Mapping[str, Any] | None = None,
    bank: Bank | None = None,
) -> Gallery:
    """Put a gallery together from embeddings that are there already.

    Args:
        candidates: candidate_id, lat_deg, lon_deg, city, image_ids (list of str), one row a position.
        location_embeddings: (M, D) unit vectors in the rows' order.
        photographs: image_id to unit vector (D,); ids of the candidates that are not in it are left out.
        meta: Kept with the gallery: at least the model's fingerprint if it is to be saved.
        bank: Photographs that the hubness of candidates and photographs is measured with; None measures none.

    Returns:
        The gallery, photographs ordered by candidate.
    """
    known: Mapping[str, Any] = photographs or {}
    pairs = [(row, i) for row, ids in enumerate(candidates["image_ids"]) for i in ids if i in known]
    dim = location_embeddings.shape[1]
    stacked = (np.stack([known[i] for _, i in pairs]) if pairs else np.zeros((0, dim))).astype(np.float32)
    locations = np.ascontiguousarray(location_embeddings, dtype=np.float32)
    image_ids = [i for _, i in pairs]
    return Gallery(
        candidate_ids=[str(value) for value in candidates["candidate_id"]],
        positions_deg=candidates[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64),
        cities=[None if pd.isna(value) else str(value) for value in candidates["city"]],
        location_embeddings=locations,
        image_embeddings=stacked,
        image_rows=np.array([row for row, _ in pairs], dtype=np.int64),
        image_ids=image_ids,
        meta=dict(meta or {}),
        hubness=None if bank is None else Hubness.of(locations, stacked, image_ids, bank),
    )


def load_gallery(path: str | os.PathLike[str], where: EntryFilter | None = None) -> Gallery:
    """Read a gallery's positions and embeddings into memory (not its model).

    Args:
        path: The gallery's folder or URL.
        where: Read only these entries.

    Returns:
        The gallery. Candidates are ordered by latitude, longitude and id, photographs by candidate and id, however the
        gallery came to hold them.

    Raises:
        ArtefactError: Something is missing, damaged, of another version, or the entries do not fit together.
        InputError: No entry meets the conditions.
    """
    return gallery_of(GalleryStore.open(path), where)


def gallery_of(store: GalleryStore, where: EntryFilter | None = None) -> Gallery:
    """As `load_gallery`, from a store that is open."""
    return Gallery(**gallery_parts(store.read(COLUMNS, where), store.description, store.path))
