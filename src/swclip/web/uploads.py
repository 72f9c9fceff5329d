"""Uploaded bytes to what the model takes; the bytes are let go as soon as that is done."""

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
from swclip.geo.coordinates import valid_positions
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
_WORDS = {
    "too-large": "The picture has more pixels than the service takes; reduce it.",
    "not-an-image": "The file is not in a format that the service reads (JPEG, PNG, WebP, TIFF, BMP, GIF, AVIF, or "
    "HEIC with its plugin); convert it.",
    "truncated": "The file is cut short or damaged; copy or download it again.",
    "empty": "The file holds no bytes; choose it again.",
    "missing": "The file cannot be read.",
}


@dataclass(frozen=True, eq=False)
class Prepared:
    """A photograph as the model takes it.

    Attributes:
        pixels: (3, H, W) preprocessed.
        exif_deg: Latitude and longitude that its EXIF block states, where that was asked for and is usable.
    """

    pixels: Float32[np.ndarray, "3 h w"]
    exif_deg: tuple[float, float] | None


def prepare(
    data: bytes, preprocess: Preprocess, *, max_pixels: int, with_exif: bool, number: int = 0
) -> Prepared | Problem:
    """Decode and preprocess a photograph.

    Args:
        data: The file's bytes.
        preprocess: The model's.
        max_pixels: Larger pictures are refused.
        with_exif: Read the EXIF position too.
        number: Which photograph of the request it is.

    Returns:
        The photograph, or why it cannot be used. The words do not repeat the decoder's: they may quote the file.
    """
    try:
        pixels = preprocess.read(data, max_pixels=max_pixels)
        return Prepared(pixels, _exif_position(data, max_pixels) if with_exif else None)
    except PhotographError as error:
        return Problem(_KINDS[error.reason], _WORDS[error.reason], photograph=number)


def _exif_position(data: bytes, max_pixels: int) -> tuple[float, float] | None:
    with open_photograph(data, max_pixels=max_pixels) as image:
        facts = read_exif(image)
    lat, lon = facts.lat_deg, facts.lon_deg
    if lat is None or lon is None or facts.problem is not None or not bool(valid_positions(lat, lon)):
        return None
    return (lat, lon) if (lat, lon) != (0.0, 0.0) else None  # what cameras write that know no position


SIDE_PX = 480
_KEPT_BYTES = 32 * 2**20


class Thumbnails:
    """Thumbnails by image id; the last ones are kept in memory. Make one with `of_manifest` or `of_gallery`.

    Args:
        image_ids: The photographs that there are: others are not shown.
        make: The JPEG of a photograph; None where it cannot be read any more.
    """

    def __init__(self, image_ids: Iterable[str], make: Callable[[str], bytes | None]) -> None:
        self._image_ids = frozenset(image_ids)
        self._make = make
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    @classmethod
    def of_manifest(cls, manifest: Manifest, image_ids: Iterable[str]) -> Thumbnails:
        """Made when they are asked for, from the photographs that a manifest names.

        Args:
            manifest: Where the photographs are.
            image_ids: The gallery's photographs: others of the manifest are not shown.

        Raises:
            MismatchError: The manifest has none of them.
        """
        wanted = set(image_ids)
        paths: dict[str, Path] = {
            image_id: path
            for image_id, path in zip(manifest.frame["image_id"], manifest.image_paths, strict=True)
            if image_id in wanted
        }
        if not paths:
            raise MismatchError(
                f"{manifest.path}: has none of the gallery's {len(wanted)} photographs; give the manifest that the "
                "gallery was made from, or leave out --photographs."
            )

        def make(image_id: str) -> bytes | None:
            try:
                return thumbnail_jpeg(paths[image_id], SIDE_PX)
            except PhotographError:
                return None

        return cls(paths, make)

    @classmethod
    def of_gallery(cls, store: GalleryStore) -> Thumbnails | None:
        """Those that are kept with the gallery's entries; None where there are none."""
        image_ids = store.with_thumbnail()
        return cls(image_ids, store.thumbnail) if image_ids else None

    def __len__(self) -> int:
        return len(self._image_ids)

    def jpeg(self, image_id: str) -> bytes | None:
        """A thumbnail; None where there is no such photograph, or it cannot be read any more."""
        with self._lock:
            if image_id in self._kept:
                self._kept.move_to_end(image_id)
                return self._kept[image_id]
        if image_id not in self._image_ids:
            return None
        data = self._make(image_id)
        if data is None:
            return None
        with self._lock:
            if image_id not in self._kept:
                self._kept[image_id] = data
                self._bytes += len(data)
            while self._bytes > _KEPT_BYTES:
                self._bytes -= len(self._kept.popitem(last=False)[1])
        return data
