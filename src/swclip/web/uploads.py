"""Uploaded photographs as input of the model, and thumbnails of the gallery's photographs."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from swclip.data.manifest import Manifest
from swclip.errors import MismatchError
from swclip.gallery.store import GalleryStore
from swclip.geo.coordinates import position_problem
from swclip.imaging.decode import PhotographError, open_photograph, thumbnail_jpeg
from swclip.imaging.preprocess import Preprocess
from swclip.ingest.exif import read_exif
from swclip.web.problems import Problem

_KINDS = {
    "too-large": "photograph-too-large",
    "not-an-image": "not-a-photograph",
    "truncated": "photograph-damaged",
    "empty": "photograph-damaged",
    "missing": "photograph-damaged",
}
_DETAILS = {
    "too-large": "The image has more pixels than the service accepts; reduce it.",
    "not-an-image": "The file is not in a format that the service reads (JPEG, PNG, WebP, TIFF, BMP, GIF, AVIF, or "
    "HEIC with its plugin); convert it.",
    "truncated": "The file is truncated or damaged; copy or download it again.",
    "empty": "The file is empty; choose it again.",
    "missing": "The file cannot be read.",
}


@dataclass(frozen=True, eq=False)
class Prepared:
    """A photograph as input of the model.

    Attributes:
        pixels: (3, H, W) the preprocessed pixels.
        exif_deg: Latitude and longitude of its EXIF metadata in degrees; None where not requested or not usable.
    """

    pixels: Float32[np.ndarray, "3 h w"]
    exif_deg: tuple[float, float] | None


def prepare(
    data: bytes, preprocess: Preprocess, *, max_pixels: int, with_exif: bool, number: int = 0
) -> Prepared | Problem:
    """Decode and preprocess a photograph.

    Args:
        data: The file's bytes.
        preprocess: The preprocessing of the model.
        max_pixels: Maximum number of pixels.
        with_exif: Read the EXIF position too.
        number: Number of the photograph in the request, from 0.

    Returns:
        The photograph, or the problem with it. The problem does not include the decoder's message, which may quote the
        file.
    """
    try:
        pixels = preprocess.read(data, max_pixels=max_pixels)
        return Prepared(pixels, _exif_position(data, max_pixels) if with_exif else None)
    except PhotographError as error:
        return Problem(_KINDS[error.reason], _DETAILS[error.reason], photograph=number)


def _exif_position(data: bytes, max_pixels: int) -> tuple[float, float] | None:
    with open_photograph(data, max_pixels=max_pixels) as image:
        exif = read_exif(image)
    lat, lon = exif.lat_deg, exif.lon_deg
    if lat is None or lon is None or exif.problem is not None or position_problem(lat, lon) is not None:
        return None
    if any(note.code == "datum-unknown" for note in exif.notes):
        return None  # the distance to a position in an unknown datum would be wrong by up to 1 km
    return lat, lon


SIDE_PX = 480
_CACHE_BYTES = 32 * 2**20


class Thumbnails:
    """Thumbnails by image id, with a cache in memory. Created with `of_manifest` or `of_gallery`.

    Args:
        image_ids: The photographs that may be shown.
        make: Returns the JPEG of a photograph; None where it can no longer be read.
    """

    def __init__(self, image_ids: Iterable[str], make: Callable[[str], bytes | None]) -> None:
        self._image_ids = frozenset(image_ids)
        self._make = make
        self._cache: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    @classmethod
    def of_manifest(cls, manifest: Manifest, image_ids: Iterable[str]) -> Thumbnails:
        """Thumbnails created on request from the photographs of a manifest.

        Args:
            manifest: The manifest of the photographs.
            image_ids: The photographs of the gallery; others of the manifest are not shown.

        Raises:
            MismatchError: The manifest has none of the gallery's photographs.
        """
        gallery_ids = set(image_ids)
        paths: dict[str, Path] = {
            image_id: path
            for image_id, path in zip(manifest.frame["image_id"], manifest.image_paths, strict=True)
            if image_id in gallery_ids
        }
        if not paths:
            raise MismatchError(
                f"{manifest.path}: has none of the gallery's {len(gallery_ids)} photographs; use the manifest that the "
                "gallery was made from, or omit --photographs."
            )

        def make(image_id: str) -> bytes | None:
            try:
                return thumbnail_jpeg(paths[image_id], SIDE_PX)
            except PhotographError:
                return None

        return cls(paths, make)

    @classmethod
    def of_gallery(cls, store: GalleryStore) -> Thumbnails | None:
        """The thumbnails stored in a gallery; None where it has none."""
        image_ids = store.with_thumbnail()
        return cls(image_ids, store.thumbnail) if image_ids else None

    def __len__(self) -> int:
        return len(self._image_ids)

    def jpeg(self, image_id: str) -> bytes | None:
        """The thumbnail of a photograph; None where it is unknown or can no longer be read."""
        with self._lock:
            if image_id in self._cache:
                self._cache.move_to_end(image_id)
                return self._cache[image_id]
        if image_id not in self._image_ids:
            return None
        data = self._make(image_id)
        if data is None:
            return None
        with self._lock:
            if image_id not in self._cache:
                self._cache[image_id] = data
                self._bytes += len(data)
            while self._bytes > _CACHE_BYTES:
                self._bytes -= len(self._cache.popitem(last=False)[1])
        return data
