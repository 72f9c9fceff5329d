"""What answers depend on beside the photographs and the options: answers of two such are never mixed in one file."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from swclip.versions import versions

if TYPE_CHECKING:
    from swclip.gallery.gallery import Gallery
    from swclip.retrieval.locator import Locator


def answering_identity(locator: Locator) -> dict[str, Any]:
    """Gallery, model, calibration and the libraries that compute, as plain values.

    Args:
        locator: What answers.
    """
    gallery, calibration = locator.gallery, locator.calibration
    made_with = versions()
    return {
        "gallery": {
            "version": gallery.meta.get("version"),
            "model": gallery.meta.get("fingerprint"),
            "candidates": len(gallery),
            "photographs": len(gallery.image_ids),
            "content": gallery_digest(gallery),
        },
        "posterior": locator.posterior.to_dict(),
        "regions": None if calibration is None else _digest(calibration.to_dict()),
        "made_with": {name: made_with[name] for name in ("swclip", "torch", "numpy")},
        "device": str(locator.model.device.type),
    }


def gallery_digest(gallery: Gallery) -> str:
    """SHA-256 of all that answers are taken from: names, positions, embeddings and hubness, in their order."""
    hashed = hashlib.sha256(_digest([gallery.candidate_ids, gallery.cities, gallery.image_ids]).encode())
    arrays = [gallery.positions_deg, gallery.location_embeddings, gallery.image_embeddings, gallery.image_rows]
    if gallery.hubness is not None:
        arrays += [gallery.hubness.locations, gallery.hubness.photographs]
    for array in arrays:
        hashed.update(np.ascontiguousarray(array).data)
    return hashed.hexdigest()


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
