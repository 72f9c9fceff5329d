"""The embeddings of a gallery in one safetensors file, with everything an answer needs besides the model.

    location_embeddings  (M, D)  int8 or float32, of the candidates' positions
    location_scales      (M,)    float32, only for int8: embedding = code * scale, by row
    image_embeddings     (P, D)  int8 or float32, of the photographs
    image_scales         (P,)    float32, only for int8
    image_rows           (P,)    int64, the candidate of each photograph
    positions_deg        (M, 2)  float64, latitude and longitude
    image_hubness        (P,)    float32, where it was measured
    names                (n,)    uint8: UTF-8 of JSON with candidate_ids, cities and image_ids

The metadata contain `swclip_embeddings` (the version), `fingerprint` of the model, `posterior` (JSON, or null), and
`largest_error`, the largest quantisation error of any component.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from swclip.errors import ArtefactError, InputError
from swclip.export.quantize import dequantize, quantize
from swclip.files import atomic_file
from swclip.gallery.gallery import Gallery

EMBEDDINGS_VERSION = "1"
Precision = Literal["float32", "int8"]


def write_embeddings(path: str | os.PathLike[str], gallery: Gallery, precision: Precision = "int8") -> float:
    """Write the embeddings of a gallery.

    Args:
        path: The file.
        gallery: The gallery.
        precision: `int8` (a quarter of the size) or `float32` (exact).

    Returns:
        The largest error of any component of an embedding; 0 for float32.

    Raises:
        InputError: An embedding is not finite, or the file cannot be written.
    """
    names = {"candidate_ids": gallery.candidate_ids, "cities": gallery.cities, "image_ids": gallery.image_ids}
    tensors: dict[str, Any] = {
        "image_rows": gallery.image_rows,
        "positions_deg": gallery.positions_deg,
        "names": np.frombuffer(json.dumps(names, ensure_ascii=False).encode(), dtype=np.uint8),
    }
    error = 0.0
    for side, embeddings in (("location", gallery.location_embeddings), ("image", gallery.image_embeddings)):
        tensors[f"{side}_embeddings"] = embeddings
        if precision == "int8":
            codes, scales = quantize(embeddings)
            tensors[f"{side}_embeddings"], tensors[f"{side}_scales"] = codes, scales
            error = max(error, float(np.abs(dequantize(codes, scales) - embeddings).max(initial=0.0)))
    if gallery.image_hubness is not None:
        tensors["image_hubness"] = gallery.image_hubness
    metadata = {
        "swclip_embeddings": EMBEDDINGS_VERSION,
        "fingerprint": str(gallery.meta.get("fingerprint")),
        "posterior": json.dumps(gallery.meta.get("posterior")),
        "largest_error": repr(error),
    }
    with atomic_file(path) as temporary:
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, temporary, metadata=metadata)
    return error


def read_embeddings(path: str | os.PathLike[str]) -> Gallery:
    """Read a file of `write_embeddings`; 8-bit codes are converted to float32.

    Raises:
        ArtefactError: The file is missing, damaged, or of another version.
    """
    source = Path(path)
    remedy = "make it again with: swclip export GALLERY --embeddings int8 --out FILE.safetensors"
    if not source.is_file():
        raise ArtefactError(f"{source}: there are no exported embeddings; check the path, or {remedy}")
    try:
        with safe_open(source, framework="numpy") as stream:
            metadata = stream.metadata() or {}
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (no mapping)
        if metadata.get("swclip_embeddings") != EMBEDDINGS_VERSION:
            version = metadata.get("swclip_embeddings")
            raise ArtefactError(
                f"{source}: embeddings of version {version!r}, but this swclip reads {EMBEDDINGS_VERSION!r}; {remedy}"
            )
        names = json.loads(tensors["names"].tobytes())
        for side in ("location", "image"):
            if f"{side}_scales" in tensors:
                tensors[f"{side}_embeddings"] = dequantize(tensors[f"{side}_embeddings"], tensors[f"{side}_scales"])
        return Gallery(
            candidate_ids=names["candidate_ids"],
            positions_deg=tensors["positions_deg"],
            cities=names["cities"],
            location_embeddings=tensors["location_embeddings"],
            image_embeddings=tensors["image_embeddings"],
            image_rows=tensors["image_rows"],
            image_ids=names["image_ids"],
            meta={"fingerprint": metadata["fingerprint"], "posterior": json.loads(metadata["posterior"])},
            image_hubness=tensors.get("image_hubness"),
        )
    except (OSError, SafetensorError, KeyError, ValueError, InputError) as error:
        raise ArtefactError(f"{source}: the embeddings cannot be read ({error}); {remedy}") from error
