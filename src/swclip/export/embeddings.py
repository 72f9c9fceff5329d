"""The embeddings of a gallery in one safetensors file, with everything an answer needs besides the model.

    location_embeddings  (M, D)  int8 or float32, of the candidates' positions
    location_scales      (M,)    float32, only for int8: embedding = code * scale, by row
    image_embeddings     (P, D)  int8 or float32, of the photographs
    image_scales         (P,)    float32, only for int8
    image_rows           (P,)    int64, the candidate of each photograph
    positions_deg        (M, 2)  float64, latitude and longitude
    image_hubness        (P,)    float32, where it was measured
    names                (n,)    uint8: UTF-8 of JSON with candidate_ids, cities and image_ids; and image_licences,
                                 image_authors and image_source_urls where the gallery has any (null: not stated)

Whitened features are not exported, since the exported image graph computes none of a query. The metadata contain
`swclip_embeddings` (the version), `fingerprint` of the model, `posterior` (JSON, or null; that of `--effort fast`), and
`largest_error`, the largest quantisation error of any component.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float32, Int8
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from swclip.data.attribution import ATTRIBUTION_COLUMNS, attribution_table
from swclip.errors import ArtefactError, InputError
from swclip.files import atomic_file
from swclip.gallery.gallery import Gallery

EMBEDDINGS_VERSION = "1"
Precision = Literal["float32", "int8"]

_MAX_CODE = 127
_ROWS_AT_ONCE = 16384


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
    names: dict[str, Any] = {
        "candidate_ids": gallery.candidate_ids,
        "cities": gallery.cities,
        "image_ids": gallery.image_ids,
    }
    if gallery.image_attribution is not None:
        names |= {f"image_{name}s": gallery.image_attribution[name].to_pylist() for name in ATTRIBUTION_COLUMNS}
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
        "posterior": json.dumps(None if gallery.posterior is None else gallery.posterior.at("fast").to_dict()),
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
        unstated = [None] * len(names["image_ids"])
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
            image_attribution=attribution_table(
                pd.DataFrame(
                    {name: names.get(f"image_{name}s", unstated) for name in ATTRIBUTION_COLUMNS}, dtype=object
                )
            ),
        )
    except (OSError, SafetensorError, KeyError, ValueError, InputError) as error:
        raise ArtefactError(f"{source}: the embeddings cannot be read ({error}); {remedy}") from error


def quantize(
    embeddings: Float32[np.ndarray, "n d"],
) -> tuple[Int8[np.ndarray, "n d"], Float32[np.ndarray, " n"]]:
    """Quantise embeddings to 8-bit integers, a quarter of the size.

    Each vector has a separate scale, so that its largest component becomes 127 or -127:

        s_i = max_d |x_id| / 127,        q_id = round(x_id / s_i),        x_id ~ s_i q_id

    No component changes by more than s_i / 2. Integers are for storage; cosines are computed in float32, because NumPy
    has no fast matrix product of integers.

    Args:
        embeddings: (N, D), finite.

    Returns:
        (N, D) codes from -127 to 127, and (N,) scales; the scale of a zero vector is 0.

    Raises:
        InputError: A vector is not finite.

    References:
        B. Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only
        inference", CVPR 2018, eq. 1, with the zero point at 0.

    Example:
        >>> codes, scales = quantize(np.array([[1.0, -0.5, 0.0]], dtype=np.float32))
        >>> codes.tolist(), round(float(scales[0]) * 127, 6)
        ([[127, -64, 0]], 1.0)
    """
    finite = np.isfinite(embeddings).all(axis=1)
    if not finite.all():
        raise InputError(f"embedding {int(np.argmin(finite))} is not finite, so it has no 8-bit form; make it again.")
    scales = (np.abs(embeddings).max(axis=1, initial=0.0) / _MAX_CODE).astype(np.float32)
    # Subnormal scales have lost digits, and the division could exceed the range of codes.
    scales[scales < np.finfo(np.float32).tiny] = 0.0
    codes = np.zeros(embeddings.shape, dtype=np.int8)
    for start in range(0, len(embeddings), _ROWS_AT_ONCE):  # float64 for all rows would need eight times the memory
        part = slice(start, start + _ROWS_AT_ONCE)
        divisor = np.where(scales[part] > 0, scales[part], np.inf).astype(np.float64)
        codes[part] = np.clip(np.rint(embeddings[part] / divisor[:, None]), -_MAX_CODE, _MAX_CODE)
    return codes, scales


def dequantize(codes: Int8[np.ndarray, "n d"], scales: Float32[np.ndarray, " n"]) -> Float32[np.ndarray, "n d"]:
    """Convert codes to embeddings, each component within half a scale of the original."""
    return np.asarray(codes.astype(np.float32) * scales[:, None])


def similarity(
    query: Float32[np.ndarray, "q d"], codes: Int8[np.ndarray, "n d"], scales: Float32[np.ndarray, " n"]
) -> Float32[np.ndarray, "q n"]:
    """Compute inner products of queries and quantised embeddings; codes are converted to float32 in blocks.

    Args:
        query: (Q, D) embeddings.
        codes: (N, D) codes.
        scales: (N,) scales.

    Returns:
        (Q, N) inner products.

    Example:
        >>> codes, scales = quantize(np.eye(2, dtype=np.float32))
        >>> similarity(np.array([[0.6, 0.8]], dtype=np.float32), codes, scales).round(3).tolist()
        [[0.6000000238418579, 0.800000011920929]]
    """
    products = np.empty((len(query), len(codes)), dtype=np.float32)
    for start in range(0, len(codes), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        products[:, part] = (query @ codes[part].astype(np.float32).T) * scales[part]
    return products
