"""The gallery's photographs, small and without their EXIF, for those who may see them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path

from swclip.data.manifest import Manifest
from swclip.errors import MismatchError
from swclip.gallery.store import GalleryStore
from swclip.imaging.decode import PhotographError
from swclip.imaging.thumbnail import thumbnail_jpeg

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
