"""Decode photographs in tasks of a cluster, as rows of a table: pixels, or the reason why there are none.

The tasks import no torch. A packed data set is read a block at a time, by one request.
"""

from __future__ import annotations

import os

import pyarrow as pa
from safetensors.numpy import load, save

from swclip.imaging.decode import PhotographError, thumbnail_jpeg
from swclip.imaging.packed import packed_batch, packed_photograph
from swclip.imaging.photograph_file import in_threads
from swclip.imaging.preprocess import JointPreprocess, Pixels, Preprocess

NUMBER, PATH, PIXELS, FAILURE, THUMBNAIL = "number", "path", "pixels", "failure", "thumbnail"
_THREADS = 2


def decode(rows: pa.Table, preprocess: Preprocess | JointPreprocess, thumbnails_px: int | None = None) -> pa.Table:
    """Decode and preprocess the photographs of a block.

    Args:
        rows: `path`, bytes since a name need not be valid UTF-8, null where a row has no photograph; and further
            columns.
        preprocess: The model's preprocessing.
        thumbnails_px: Height of thumbnails in pixels; None for none.

    Returns:
        The rows with `pixels`, `failure` (why the photograph cannot be decoded) and `thumbnail`.
    """
    paths = [None if path is None else os.fsdecode(path) for path in rows[PATH].to_pylist()]
    packed = {path: where for path in paths if path is not None and (where := packed_photograph(path)) is not None}
    data = dict(zip(packed, packed_batch(list(packed.values())), strict=True))

    def decoded(path: str | os.PathLike[str]) -> tuple[bytes | None, str | None, bytes | None]:
        try:
            source = data.get(os.fspath(path)) or path
            pixels = pixels_to_bytes(preprocess.read(source))
            return pixels, None, None if thumbnails_px is None else thumbnail_jpeg(source, thumbnails_px)
        except PhotographError as error:
            return None, error.detail, None

    present = in_threads(decoded, [path for path in paths if path is not None], _THREADS)
    columns = list(zip(*((None, None, None) if path is None else next(present) for path in paths), strict=True))
    for name, kind, values in zip(
        (PIXELS, FAILURE, THUMBNAIL), (pa.large_binary(), pa.string(), pa.binary()), columns, strict=True
    ):
        rows = rows.append_column(name, pa.array(values, kind))
    return rows


def pixels_to_bytes(pixels: Pixels) -> bytes:
    """Preprocessed pixels as bytes, those of each tower."""
    parts = pixels if isinstance(pixels, tuple) else (pixels,)
    return bytes(save({str(number): part for number, part in enumerate(parts)}))


def pixels_from_bytes(data: bytes) -> Pixels:
    """The pixels of `pixels_to_bytes`."""
    parts = load(data)
    return tuple(parts[str(number)] for number in range(len(parts))) if len(parts) > 1 else parts["0"]
