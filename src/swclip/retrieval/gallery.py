"""The gallery: candidate positions and their embeddings, in memory and as a folder that answers on its own."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32, Float64, Int64
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from swclip.errors import ArtefactError, InputError, MismatchError
from swclip.files import atomic_folder, check_replaceable, read_json, write_json
from swclip.retrieval.conformal import Calibration, write_calibration
from swclip.retrieval.posterior_config import PosteriorConfig

if TYPE_CHECKING:
    from swclip.models.locator_model import LocatorModel

GALLERY_VERSION = "1"
_DESCRIPTION, _CANDIDATES, _EMBEDDINGS = "gallery.json", "candidates.parquet", "embeddings.safetensors"
_WKB_POINT = np.dtype([("order", "u1"), ("kind", "<u4"), ("x", "<f8"), ("y", "<f8")])


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
    """

    candidate_ids: list[str]
    positions_deg: Float64[np.ndarray, "m 2"]
    cities: list[str | None]
    location_embeddings: Float32[np.ndarray, "m d"]
    image_embeddings: Float32[np.ndarray, "p d"]
    image_rows: Int64[np.ndarray, " p"]
    image_ids: list[str]
    meta: dict[str, Any] = field(default_factory=dict)

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
        for name, (found, wanted) in shapes.items():
            if found != wanted:
                raise InputError(f"gallery: {name} has shape {found}, and {wanted} is needed.")
        if p and (int(self.image_rows.min()) < 0 or int(self.image_rows.max()) >= m):
            raise InputError(f"gallery: image_rows must be rows of the {m} candidates.")

    def __len__(self) -> int:
        return len(self.candidate_ids)

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
        made_by = self.meta.get("fingerprint")
        if made_by != fingerprint:
            raise MismatchError(
                f"{gallery_name} was made by model {made_by}, and {model_name} is model {fingerprint}: "
                "their embeddings cannot be compared. Use the run that made it, or make the gallery again with "
                f"`swclip index {model_name} MANIFEST --out GALLERY`."
            )

    def save(self, folder: str | os.PathLike[str], model: LocatorModel, calibration: Calibration | None = None) -> None:
        """Write a folder that answers on its own: gallery.json, candidates.parquet, embeddings.safetensors, model/.

        Args:
            folder: The gallery's folder; one that is there is replaced whole.
            model: The model that made the embeddings.
            calibration: Of the model's regions, for model/regions.json; None for answers without regions.

        Raises:
            MismatchError: Another model made them.
            DiskFullError: The disk filled; what was there before is as it was.
            InputError: The folder is there and is not a gallery, or cannot be written.
        """
        target = Path(folder)
        self.check_model(model.fingerprint, "the model to be saved with it", str(target))
        order = np.argsort(self.image_rows, kind="stable")
        with atomic_folder(target, _DESCRIPTION) as beside:
            pq.write_table(_candidate_table(self), beside / _CANDIDATES, compression="zstd")
            tensors = {
                "location_embeddings": self.location_embeddings,
                "image_embeddings": self.image_embeddings[order],
                "image_rows": self.image_rows[order],
            }
            save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, beside / _EMBEDDINGS)
            model.save(beside / "model")
            if calibration is not None:
                write_calibration(beside / "model", calibration)
            description = {
                **self.meta,
                "version": GALLERY_VERSION,
                "dim": self.dim,
                "counts": {
                    "candidates": len(self),
                    "photographs": len(self.image_ids),
                    "cities": len({city for city in self.cities if city is not None}),
                },
                "bytes": {name: (beside / name).stat().st_size for name in (_CANDIDATES, _EMBEDDINGS)},
            }
            write_json(beside / _DESCRIPTION, description)


def gallery_from_embeddings(
    candidates: pd.DataFrame,
    location_embeddings: Float32[np.ndarray, "m d"],
    photographs: Mapping[str, Float32[np.ndarray, " d"]] | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Gallery:
    """Put a gallery together from embeddings that are there already.

    Args:
        candidates: candidate_id, lat_deg, lon_deg, city, image_ids (list of str), one row a position.
        location_embeddings: (M, D) unit vectors in the rows' order.
        photographs: image_id to unit vector (D,); ids of the candidates that are not in it are left out.
        meta: Kept with the gallery: at least the model's fingerprint if it is to be saved.

    Returns:
        The gallery, photographs ordered by candidate.
    """
    known: Mapping[str, Any] = photographs or {}
    pairs = [(row, i) for row, ids in enumerate(candidates["image_ids"]) for i in ids if i in known]
    dim = location_embeddings.shape[1]
    stacked = np.stack([known[i] for _, i in pairs]) if pairs else np.zeros((0, dim))
    return Gallery(
        candidate_ids=[str(value) for value in candidates["candidate_id"]],
        positions_deg=candidates[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64),
        cities=[None if pd.isna(value) else str(value) for value in candidates["city"]],
        location_embeddings=np.ascontiguousarray(location_embeddings, dtype=np.float32),
        image_embeddings=stacked.astype(np.float32),
        image_rows=np.array([row for row, _ in pairs], dtype=np.int64),
        image_ids=[i for _, i in pairs],
        meta=dict(meta or {}),
    )


def check_output(folder: str | os.PathLike[str]) -> None:
    """Raise InputError where a gallery could not be saved: to be asked before hours of embedding, not after."""
    check_replaceable(folder, _DESCRIPTION)


def load_gallery(folder: str | os.PathLike[str]) -> Gallery:
    """Read a gallery's table and embeddings (not its model).

    Raises:
        ArtefactError: Something is missing, cut short, of another version, or the parts do not fit together.
    """
    base = Path(folder)
    again = "make it again with: swclip index RUN MANIFEST --out GALLERY"
    if not (base / _DESCRIPTION).is_file():
        raise ArtefactError(f"{base}: no gallery is there ({_DESCRIPTION} is missing); check the path, or {again}")
    meta = read_json(base / _DESCRIPTION, "the gallery's description")
    if not isinstance(meta, dict) or meta.get("version") != GALLERY_VERSION:
        found = meta.get("version") if isinstance(meta, dict) else None
        raise ArtefactError(
            f"{base / _DESCRIPTION}: gallery version {found!r}, and this swclip reads {GALLERY_VERSION!r}; {again}"
        )
    for name in (_CANDIDATES, _EMBEDDINGS):
        path, expected = base / name, meta.get("bytes", {}).get(name)
        if not path.is_file():
            raise ArtefactError(f"{path}: is missing from the gallery; {again}")
        if path.stat().st_size != expected:
            size = path.stat().st_size
            raise ArtefactError(f"{path}: holds {size} bytes of {expected}, it is cut short or changed; {again}")
    try:
        table = pq.read_table(base / _CANDIDATES)
        tensors = load_file(base / _EMBEDDINGS)
        image_ids = table["image_ids"].to_pylist()
        gallery = Gallery(
            candidate_ids=table["candidate_id"].to_pylist(),
            positions_deg=np.stack([table["lat_deg"].to_numpy(), table["lon_deg"].to_numpy()], axis=1),
            cities=table["city"].to_pylist(),
            location_embeddings=tensors["location_embeddings"],
            image_embeddings=tensors["image_embeddings"],
            image_rows=tensors["image_rows"],
            image_ids=[i for ids in image_ids for i in ids],
            meta=meta,
        )
    except (OSError, pa.ArrowException, SafetensorError, KeyError, InputError) as error:
        raise ArtefactError(f"{base}: the gallery cannot be read ({error}); {again}") from error
    if not np.array_equal(gallery.image_rows, np.repeat(np.arange(len(gallery)), [len(ids) for ids in image_ids])):
        raise ArtefactError(f"{base}: {_CANDIDATES} and {_EMBEDDINGS} do not belong together; {again}")
    return gallery


def _candidate_table(gallery: Gallery) -> pa.Table:
    """The candidates as GeoParquet, for QGIS and geopandas."""
    from pyproj import CRS

    ids: list[list[str]] = [[] for _ in gallery.candidate_ids]
    for row, image_id in zip(gallery.image_rows, gallery.image_ids, strict=True):
        ids[int(row)].append(image_id)
    lat, lon = gallery.positions_deg[:, 0], gallery.positions_deg[:, 1]
    wkb = np.zeros(len(gallery), dtype=_WKB_POINT)
    wkb["order"], wkb["kind"], wkb["x"], wkb["y"] = 1, 1, lon, lat
    bbox = [float(lon.min()), float(lat.min()), float(lon.max()), float(lat.max())]
    column = {"encoding": "WKB", "geometry_types": ["Point"], "crs": CRS.from_epsg(4326).to_json_dict(), "bbox": bbox}
    geo = {"version": "1.0.0", "primary_column": "geometry", "columns": {"geometry": column}}
    return pa.table(
        {
            "candidate_id": pa.array(gallery.candidate_ids, pa.string()),
            "lat_deg": pa.array(lat),
            "lon_deg": pa.array(lon),
            "city": pa.array(gallery.cities, pa.string()),
            "image_ids": pa.array(ids, pa.list_(pa.string())),
            "geometry": pa.array([point.tobytes() for point in wkb], pa.binary()),
        },
        metadata={b"geo": json.dumps(geo).encode()},
    )
