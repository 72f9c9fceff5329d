"""The gallery's photographs, small and without their EXIF, for those who may see them."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

from swclip.data.manifest import Manifest
from swclip.errors import MismatchError
from swclip.imaging.decode import PhotographError, decode_photograph

SIDE_PX = 480
_QUALITY = 80
_KEPT_BYTES = 32 * 2**20


class Thumbnails:
    """Thumbnails by image id; the last ones are kept in memory.

    Args:
        manifest: Where the photographs are.
        image_ids: The gallery's photographs: others of the manifest are not shown.

    Raises:
        MismatchError: The manifest has none of them.
    """

    def __init__(self, manifest: Manifest, image_ids: Iterable[str]) -> None:
        wanted = set(image_ids)
        self._paths: dict[str, Path] = {
            image_id: path
            for image_id, path in zip(manifest.frame["image_id"], manifest.image_paths, strict=True)
            if image_id in wanted
        }
        if not self._paths:
            raise MismatchError(
                f"{manifest.path}: has none of the gallery's {len(wanted)} photographs; give the manifest that the "
                "gallery was made from, or leave out --photographs."
            )
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._paths)

    def jpeg(self, image_id: str) -> bytes | None:
        """A thumbnail; None where there is no such photograph, or it cannot be read any more."""
        with self._lock:
            if image_id in self._kept:
                self._kept.move_to_end(image_id)
                return self._kept[image_id]
        path = self._paths.get(image_id)
        if path is None:
            return None
        try:
            picture = decode_photograph(path, size_px=SIDE_PX)
        except PhotographError:
            return None
        picture.thumbnail((SIDE_PX * 2, SIDE_PX))  # a panorama may be wide
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=_QUALITY)
        data = stream.getvalue()
        with self._lock:
            if image_id not in self._kept:
                self._kept[image_id] = data
                self._bytes += len(data)
            while self._bytes > _KEPT_BYTES:
                self._bytes -= len(self._kept.popitem(last=False)[1])
        return data
