"""Measures of the photographs of a manifest, kept on disk so that each is read once and an interrupted run resumes.

    CACHE/quality/<manifest>.jsonl    one line per photograph: path, size, time of the file, and its measures

A file that has changed is read again. Photographs that cannot be read are not kept, since they may be repaired.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd
from jaxtyping import Int64, UInt64

from swclip.data.manifest import Manifest
from swclip.errors import InputError
from swclip.files import default_cache_folder
from swclip.imaging.photograph_file import PhotographError, in_threads
from swclip.imaging.quality import SIDE_PX, PhotographQuality, measure_photograph

_VERSION = f"1, {SIDE_PX} px"
_FLUSHED = 64  # photographs between writes: what a killed run loses at most

_Stamp = tuple[str, int, int]


@dataclass(frozen=True, eq=False)
class PixelMeasures:
    """Measures of the photographs that were read.

    Attributes:
        frame: One row per photograph that could be read: `row` of the manifest, width_px, height_px, camera, blur,
            brightness, contrast, sha256.
        perceptual: (P,) perceptual hashes, in the order of `frame`.
        failures: {row of the manifest: reason} of the photographs that could not be read.
        chosen: Number of photographs that were chosen to be read.
    """

    frame: pd.DataFrame
    perceptual: UInt64[np.ndarray, " p"]
    failures: dict[int, str]
    chosen: int

    @property
    def rows(self) -> Int64[np.ndarray, " p"]:
        """Rows of the manifest that were read."""
        return self.frame["row"].to_numpy(dtype=np.int64)


def measure_pixels(
    manifest: Manifest,
    rows: Sequence[int],
    *,
    cache: Path | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PixelMeasures:
    """Measure photographs of a manifest; those measured before and unchanged are not read again.

    Args:
        manifest: The photographs.
        rows: The rows to measure, increasing.
        cache: Folder of the cache; `default_cache_folder()` if None.
        workers: Decoding threads; the number of processors if None.
        progress: Called with the number of measured photographs and the total number.

    Raises:
        InputError: The cache cannot be written.
    """
    paths = manifest.image_paths
    stamps = [_stamp(paths[row]) for row in rows]
    with _Kept(_file_of(manifest, cache), {stamp for stamp in stamps if stamp is not None}) as kept:
        missing = [at for at, stamp in enumerate(stamps) if stamp is None or stamp not in kept.measures]
        done, failures = len(rows) - len(missing), dict[int, str]()
        if progress is not None and done:
            progress(done, len(rows))
        for at, result in zip(
            missing, in_threads(_measured, [paths[rows[at]] for at in missing], workers), strict=True
        ):
            stamp = stamps[at]
            if isinstance(result, str):
                failures[rows[at]] = result
            elif stamp is not None:
                kept.add(stamp, result)
            done += 1
            if progress is not None:
                progress(done, len(rows))
        measured = [
            (row, kept.measures[stamp])
            for row, stamp in zip(rows, stamps, strict=True)
            if stamp is not None and row not in failures
        ]
    return _as_columns(measured, failures, len(rows))


def _as_columns(
    measured: Sequence[tuple[int, PhotographQuality]], failures: dict[int, str], chosen: int
) -> PixelMeasures:
    columns: dict[str, Any] = {
        name: [getattr(quality, name) for _, quality in measured] for name in _NAMES if name != "perceptual"
    }
    frame = pd.DataFrame({"row": np.array([row for row, _ in measured], dtype=np.int64), **columns})
    perceptual = np.array([quality.perceptual for _, quality in measured], dtype=np.uint64)
    return PixelMeasures(frame, perceptual, failures, chosen)


_NAMES = [field.name for field in fields(PhotographQuality)]


def _measured(path: str | os.PathLike[str]) -> PhotographQuality | str:
    try:
        return measure_photograph(path)
    except PhotographError as error:
        return error.detail


def _stamp(path: Path) -> _Stamp | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return str(path), status.st_size, status.st_mtime_ns


def _file_of(manifest: Manifest, cache: Path | None) -> Path:
    name = hashlib.sha256(f"{_VERSION} {manifest.path.resolve()}".encode("utf-8", "surrogateescape")).hexdigest()
    return (default_cache_folder() if cache is None else cache) / "quality" / f"{name[:24]}.jsonl"


class _Kept:
    """The measures on disk; further ones are appended."""

    def __init__(self, path: Path, wanted: set[_Stamp]) -> None:
        self._path = path
        self.measures = _read(path, wanted)
        self._stream: TextIO | None = None
        self._pending = 0

    def __enter__(self) -> _Kept:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()  # also on Ctrl-C and SIGTERM: what was measured is kept

    def add(self, stamp: _Stamp, quality: PhotographQuality) -> None:
        self.measures[stamp] = quality
        try:
            if self._stream is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._stream = self._path.open("a", encoding="utf-8", errors="surrogateescape")
                self._stream.write("\n")  # a line that a kill cut short must not spoil the next
            self._stream.write(json.dumps([*stamp, *asdict(quality).values()]) + "\n")
            self._pending += 1
            if self._pending % _FLUSHED == 0:
                self._stream.flush()
        except OSError as error:
            raise InputError(
                f"{self._path}: the cache cannot be written ({error.strerror}); set SWCLIP_CACHE to another folder."
            ) from error


def _read(path: Path, wanted: set[_Stamp]) -> dict[_Stamp, PhotographQuality]:
    measures: dict[_Stamp, PhotographQuality] = {}
    try:
        with path.open(encoding="utf-8", errors="surrogateescape") as stream:
            for line in stream:
                try:
                    name, size, time_ns, *values = json.loads(line)
                    if (stamp := (name, size, time_ns)) in wanted:
                        measures[stamp] = PhotographQuality(*values)
                except (ValueError, TypeError):
                    continue  # a line truncated by a kill: the photograph is measured again
    except FileNotFoundError:
        pass
    return measures
