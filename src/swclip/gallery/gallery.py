"""A gallery in memory: candidate positions with their embeddings, and photographs at them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Float32, Float64, Int64

from swclip.calibration.posterior_config import PosteriorConfig
from swclip.errors import InputError
from swclip.gallery.hubness import Bank, photograph_hubness
from swclip.gallery.patches import Verifier
from swclip.gallery.schema import check_fingerprint


@dataclass(frozen=True, eq=False)
class Gallery:
    """Candidates, the places that an answer may name, in the embedding space of one model.

    `swclip.gallery.read_write` reads and writes galleries.

    Attributes:
        candidate_ids: M ids.
        positions_deg: (M, 2) latitude, longitude in degrees.
        cities: M city names, None where unknown.
        location_embeddings: (M, D) unit vectors of the positions.
        image_embeddings: (P, D) unit vectors of the photographs that answers may use as evidence; P may be 0.
        image_rows: (P,) the candidate at whose position each photograph was taken.
        image_ids: P ids of those photographs.
        meta: Fingerprint of the model, posterior, provenance.
        image_hubness: (P,) mean similarity of each photograph to queries in general (`swclip.gallery.hubness`); None
            where it was not measured.
        image_whitened: (P, W) whitened features of the photographs, unit vectors rounded to float16; None where the
            model has no whitening.
        image_attribution: Columns licence, author and source_url of the P photographs (`swclip.data.attribution`); None
            where none states one.
        verifier: Compares queries in detail with these photographs, such as by patch features
            (`swclip.gallery.patches`); None for a gallery without them.

    Raises:
        InputError: There are no candidates, or the shapes do not agree.
    """

    candidate_ids: list[str]
    positions_deg: Float64[np.ndarray, "m 2"]
    cities: list[str | None]
    location_embeddings: Float32[np.ndarray, "m d"]
    image_embeddings: Float32[np.ndarray, "p d"]
    image_rows: Int64[np.ndarray, " p"]
    image_ids: list[str]
    meta: dict[str, Any] = field(default_factory=dict)
    image_hubness: Float32[np.ndarray, " p"] | None = None
    image_whitened: Float32[np.ndarray, "p w"] | None = None
    verifier: Verifier | None = None
    image_attribution: pa.Table | None = None

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
        if self.image_hubness is not None:
            shapes["image_hubness"] = (self.image_hubness.shape, (p,))
        if self.image_whitened is not None:
            shapes["image_whitened"] = (self.image_whitened.shape, (p, self.image_whitened.shape[-1]))
        if self.image_attribution is not None:
            shapes["image_attribution"] = ((self.image_attribution.num_rows,), (p,))
        for name, (shape, expected) in shapes.items():
            if shape != expected:
                raise InputError(f"gallery: {name} has shape {shape}, and {expected} is needed.")
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
        """The posterior fitted for the model; None where none was fitted."""
        values = self.meta.get("posterior")
        return None if values is None else PosteriorConfig.from_dict(values, "gallery")

    def image_ids_of(self, row: int) -> list[str]:
        """Ids of the photographs at one candidate."""
        return [self.image_ids[photograph] for photograph in self.photographs_of(np.array([row])).tolist()]

    def photographs_of(self, rows: Int64[np.ndarray, " s"]) -> Int64[np.ndarray, " q"]:
        """The photographs at some candidates, increasing.

        Its time depends on the number of these candidates, not on the size of the gallery.

        Args:
            rows: (S,) candidates, each once.
        """
        order, candidates = self._by_candidate
        starts = np.searchsorted(candidates, rows)
        counts = np.searchsorted(candidates, rows, side="right") - starts
        at = np.repeat(starts - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        return np.sort(at if order is None else order[at])

    @cached_property
    def _by_candidate(self) -> tuple[Int64[np.ndarray, " p"] | None, Int64[np.ndarray, " p"]]:
        """The order of the photographs by candidate, None where it is theirs, and the candidates in that order."""
        if (self.image_rows[1:] >= self.image_rows[:-1]).all():
            return None, self.image_rows
        order = np.argsort(self.image_rows, kind="stable")
        return order, self.image_rows[order]

    def take(self, rows: Int64[np.ndarray, " s"]) -> Gallery:
        """The gallery of a subset of the candidates, with their photographs, in the same order.

        Args:
            rows: (S,) candidates, increasing.
        """
        photographs = self.photographs_of(rows)
        return Gallery(
            candidate_ids=[self.candidate_ids[row] for row in rows],
            positions_deg=self.positions_deg[rows],
            cities=[self.cities[row] for row in rows],
            location_embeddings=self.location_embeddings[rows],
            image_embeddings=self.image_embeddings[photographs],
            image_rows=np.searchsorted(rows, self.image_rows[photographs]),
            image_ids=[self.image_ids[photograph] for photograph in photographs],
            meta=self.meta,
            image_hubness=None if self.image_hubness is None else self.image_hubness[photographs],
            image_whitened=None if self.image_whitened is None else self.image_whitened[photographs],
            verifier=self.verifier,
            image_attribution=None if self.image_attribution is None else self.image_attribution.take(photographs),
        )

    def check_model(self, fingerprint: str, model_name: str, gallery_name: str = "the gallery") -> None:
        """Raise MismatchError unless the model with this fingerprint made the embeddings."""
        check_fingerprint(self.meta.get("fingerprint"), fingerprint, model_name, gallery_name)


def gallery_from_embeddings(
    candidates: pd.DataFrame,
    location_embeddings: Float32[np.ndarray, "m d"],
    photographs: Mapping[str, Float32[np.ndarray, " d"]] | None = None,
    meta: Mapping[str, Any] | None = None,
    bank: Bank | None = None,
) -> Gallery:
    """Put a gallery together from existing embeddings.

    Args:
        candidates: candidate_id, lat_deg, lon_deg, city, image_ids (list of str), one row per position.
        location_embeddings: (M, D) unit vectors in the order of the rows.
        photographs: Unit vector (D,) of each image_id; candidates' ids that are missing here are left out.
        meta: Kept with the gallery; saving it needs the model's fingerprint.
        bank: Photographs to measure hubness with; None measures none.

    Returns:
        The gallery, photographs ordered by candidate.
    """
    embeddings: Mapping[str, Any] = photographs or {}
    pairs = [(row, i) for row, ids in enumerate(candidates["image_ids"]) for i in ids if i in embeddings]
    dim = location_embeddings.shape[1]
    stacked = (np.stack([embeddings[i] for _, i in pairs]) if pairs else np.zeros((0, dim))).astype(np.float32)
    image_ids = [i for _, i in pairs]
    return Gallery(
        candidate_ids=[str(value) for value in candidates["candidate_id"]],
        positions_deg=candidates[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64),
        cities=[None if pd.isna(value) else str(value) for value in candidates["city"]],
        location_embeddings=np.ascontiguousarray(location_embeddings, dtype=np.float32),
        image_embeddings=stacked,
        image_rows=np.array([row for row, _ in pairs], dtype=np.int64),
        image_ids=image_ids,
        meta=dict(meta or {}),
        image_hubness=None if bank is None else photograph_hubness(stacked, image_ids, bank),
    )
