"""Thumbnails of the gallery's photographs."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path

from swclip.data.manifest import Manifest
from swclip.errors import MismatchError, SwclipError
from swclip.gallery.store import GalleryStore
from swclip.imaging.decode import thumbnail_jpeg

SIDE_PX = 480
_CACHE_BYTES = 32 * 2**20


class Thumbnails:
    """Thumbnails by image id, with a cache in memory. Created with `of_manifest` or `of_gallery`.

    Args:
        image_ids: The photographs that may be shown.
        make: Returns the JPEG of a photograph, or None; raises a `SwclipError` where it can no longer be read.
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

        return cls(paths, lambda image_id: thumbnail_jpeg(paths[image_id], SIDE_PX))

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
        try:
            data = self._make(image_id)
        except SwclipError:  # the photograph or the gallery was moved or damaged since the start
            return None
        if data is None:
            return None
        with self._lock:
            if image_id not in self._cache:
                self._cache[image_id] = data
                self._bytes += len(data)
            while self._bytes > _CACHE_BYTES:
                self._bytes -= len(self._cache.popitem(last=False)[1])
        return data
