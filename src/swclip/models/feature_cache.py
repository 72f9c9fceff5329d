"""Image features of a frozen tower, stored on disk so that they are computed once.

The key of a feature is the SHA-256 of the photograph's bytes, in a folder for one tower, pooling and preprocessing (the
model's `feature_fingerprint`). A feature does not depend on the photographs that were computed with it
(`swclip.models.blocks`): it is the same whether it is read or computed again. Features survive moved or renamed
photographs, and another tower or image size never reads them. Features are written in shards while they are computed:
an interrupted run resumes after the last shard.

    FOLDER/hashes.jsonl                     path, size, time and SHA-256 of each photograph hashed so far
    FOLDER/features/<fingerprint>/*.safetensors   keys (n, 32) uint8, features (n, F) float32

In the same way `swclip.models.patches` stores patch features, and `swclip.models.token_cache` the tokens of a tower
whose last blocks are trained.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Float32, UInt8
from safetensors.numpy import save_file

from swclip.errors import ConfigError, InputError
from swclip.files import atomic_file, default_cache_folder, remove_all_remains
from swclip.imaging.packed import packed_photograph
from swclip.imaging.photograph_file import PhotographError, photograph_sha256
from swclip.models.blocks import stacked
from swclip.models.embed import (
    Failure,
    FeatureEncoder,
    PathLike,
    Progress,
    evaluating,
    pixel_batches,
    pixel_features,
    raise_failures,
    tower_encoders,
)

_LOG = logging.getLogger(__name__)
SHARD_ROWS = 512


@dataclass(frozen=True)
class FeatureCache:
    """Features on disk.

    Attributes:
        folder: The cache's folder.
        shard_rows: Photographs in one shard.
        kind: The folder below it.
        dtype: Type on disk.
    """

    folder: Path = field(default_factory=default_cache_folder)
    shard_rows: int = SHARD_ROWS
    kind: Literal["features", "tokens", "patches"] = "features"
    dtype: Literal["float32", "float16", "int8"] = "float32"

    def holds(self, model: FeatureEncoder) -> bool:
        """Whether the cache has features of this model's tower and preprocessing, as after training with it frozen."""
        return all(any(self.folder_of(tower).glob("*.safetensors")) for tower in tower_encoders(model))

    def folder_of(self, model: FeatureEncoder) -> Path:
        """Folder of a model's features."""
        exact = "" if self.dtype == "float32" else f" in {self.dtype}"
        name = hashlib.sha256((model.feature_fingerprint + exact).encode()).hexdigest()[:24]
        return self.folder / self.kind / name

    def count(self, model: FeatureEncoder, paths: Sequence[PathLike]) -> int:
        """Number of the photographs whose features are stored."""
        stored = self._store(model).rows()
        return sum(key in stored for key in self._keys(paths)[0])

    def _store(self, model: FeatureEncoder) -> _Store:
        return _Store(self.folder_of(model), model.feature_fingerprint, np.dtype(self.dtype))

    def features(
        self,
        model: FeatureEncoder,
        paths: Sequence[PathLike],
        *,
        batch_size: int = 64,
        workers: int | None = None,
        failures: list[Failure] | None = None,
        progress: Progress | None = None,
    ) -> Float32[np.ndarray, "n f"]:
        """Features of photographs, computed where the cache lacks them; those of several towers are concatenated.

        Args:
            model: The model whose towers compute the features.
            paths: N photographs; identical files are computed once.
            batch_size: Photographs per batch.
            workers: Decoding threads; the number of processors where None.
            failures: A list that collects what cannot be decoded. Without one, such a photograph raises.
            progress: Called with (done, total); cached features count as done.

        Returns:
            (N, F) in the order of `paths`; NaN in the rows of failures.

        Raises:
            InputError: Photographs cannot be decoded and `failures` is None, or the folder cannot be written.
            DiskFullError: The disk filled.
        """
        towers = tower_encoders(model)
        parts: list[Float32[np.ndarray, "n f"]] = []
        failed: dict[Path, str] = {}
        with evaluating(model):
            for number, tower in enumerate(towers):
                report = None if progress is None else _part_of(progress, number, len(towers))
                bad: list[Failure] | None = None if failures is None else []
                rows = self.mapped(tower, paths, batch_size=batch_size, workers=workers, failures=bad, progress=report)
                parts.append(_filled(rows))
                if failures is not None and bad:
                    failures.extend(failure for failure in bad if failure[0] not in failed)
                    failed.update(bad)
        if len(parts) == 1:
            return parts[0]
        joined = np.concatenate(parts, axis=1)
        joined[~np.isfinite(joined).all(axis=1)] = np.nan  # what one tower cannot read has no features
        return joined

    def mapped(
        self,
        model: FeatureEncoder,
        paths: Sequence[PathLike],
        *,
        batch_size: int = 64,
        workers: int | None = None,
        failures: list[Failure] | None = None,
        progress: Progress | None = None,
    ) -> list[Float[np.ndarray, " f"] | None]:
        """As `features`, but each row is mapped from disk in the type of the cache; None for failures."""
        keys, reasons = self._keys(paths)
        store = self._store(model)
        kept = store.rows()
        missing: dict[bytes, int] = {}
        for at, key in enumerate(keys):
            if key is not None and key not in kept and key not in missing:
                missing[key] = at
        done = len(paths) - len(missing)
        if progress is not None:
            progress(done, len(paths))
        if missing:
            remove_all_remains(self.folder_of(model))
        bad = self._compute(model, paths, missing, store, batch_size, workers, progress)
        reasons.update((at, bad[key]) for at, key in enumerate(keys) if key in bad)
        undecodable = [(Path(paths[at]), reasons[at]) for at in sorted(reasons)]
        if undecodable and failures is None:
            raise_failures(undecodable)
        if failures is not None:
            failures.extend(undecodable)
        rows = store.rows() if missing else kept
        return [None if key is None else rows.get(key) for key in keys]

    def _compute(
        self,
        model: FeatureEncoder,
        paths: Sequence[PathLike],
        missing: dict[bytes, int],
        store: _Store,
        batch_size: int,
        workers: int | None,
        progress: Progress | None,
    ) -> dict[bytes, str]:
        """Compute and store features; returns the keys that cannot be decoded, with the reason."""
        keys, photographs = list(missing), [paths[at] for at in missing.values()]
        done, bad = len(paths) - len(missing), dict[bytes, str]()
        pending_keys: list[bytes] = []
        pending: list[Float32[np.ndarray, "b f"]] = []
        failed: list[Failure] = []
        start = 0
        try:
            with evaluating(model):
                for batch in pixel_batches(model.preprocess.read, photographs, batch_size, workers, failed):
                    batch_keys = keys[start : start + len(batch)]
                    start += len(batch)
                    reasons = iter(failed)
                    good = [key for key, pixels in zip(batch_keys, batch, strict=True) if pixels is not None]
                    bad.update(
                        (key, next(reasons)[1]) for key, pixels in zip(batch_keys, batch, strict=True) if pixels is None
                    )
                    failed.clear()
                    readable = [pixels for pixels in batch if pixels is not None]
                    if readable:
                        pending.append(pixel_features(model, readable))
                        pending_keys.extend(good)
                    if len(pending_keys) >= self.shard_rows:
                        store.write(pending_keys, stacked(pending))
                        pending_keys, pending = [], []
                    if progress is not None:
                        progress(done + start, len(paths))
        finally:
            # Also on Ctrl-C and SIGTERM: computed features are stored.
            if pending_keys:
                store.write(pending_keys, stacked(pending))
        return bad

    def _keys(self, paths: Sequence[PathLike]) -> tuple[list[bytes | None], dict[int, str]]:
        """SHA-256 of each photograph's bytes, of changed files only; and why files cannot be read, by number."""
        index = self.folder / "hashes.jsonl"
        hashes = _read_hashes(index)
        keys: list[bytes | None] = []
        reasons: dict[int, str] = {}
        fresh: list[str] = []
        for at, path in enumerate(paths):
            name = os.path.abspath(path)
            try:
                if packed_photograph(path) is not None:
                    keys.append(bytes.fromhex(photograph_sha256(path)))  # stored in the pack
                    continue
                status = os.stat(name)
                stamp = (name, status.st_size, status.st_mtime_ns)
                if stamp not in hashes:
                    hashes[stamp] = photograph_sha256(name)
                    fresh.append(json.dumps([*stamp, hashes[stamp]]))
                keys.append(bytes.fromhex(hashes[stamp]))
            except PhotographError as error:
                reasons[at] = error.detail
                keys.append(None)
            except (OSError, ValueError) as error:
                missing = isinstance(error, FileNotFoundError)
                reasons[at] = "there is no such file; check the path." if missing else f"cannot be read ({error})."
                keys.append(None)
        if fresh:
            _append(index, fresh)
        return keys, reasons


class _Store:
    """The shards of one fingerprint."""

    def __init__(self, folder: Path, fingerprint: str, dtype: np.dtype[Any]) -> None:
        self._folder = folder
        self._fingerprint = fingerprint
        self._dtype = dtype

    def rows(self) -> dict[bytes, Float[np.ndarray, " f"]]:
        """All stored features by key, mapped from disk: nothing is read until a row is used."""
        features_of: dict[bytes, Float[np.ndarray, " f"]] = {}
        for path in sorted(self._folder.glob("*.safetensors")) if self._folder.is_dir() else []:
            shard = map_shard(path, self._dtype)
            if shard is None:
                _LOG.warning("%s: is damaged; its features are computed again", path)
                path.unlink(missing_ok=True)
                continue
            keys, features = shard
            features_of.update(zip(map(bytes, keys), features, strict=True))
        return features_of

    def write(self, keys: Sequence[bytes], features: Float32[np.ndarray, "n f"]) -> None:
        """Write one shard, completely or not at all."""
        if (largest := float(np.abs(features).max())) > _largest(self._dtype):
            raise ConfigError(
                f"the image tower gives the value {largest:g}, which {self._dtype} does not reach; store float32 "
                "(--set tuning.tokens=float32)."
            )
        tensors = {
            "keys": np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, 32),
            "features": np.ascontiguousarray(features, dtype=self._dtype),
        }
        # A unique name: several processes may write to one cache at the same time.
        with atomic_file(self._folder / f"{uuid.uuid4().hex}.safetensors") as beside:
            save_file(tensors, beside, metadata={"fingerprint": self._fingerprint})


def _part_of(progress: Progress, number: int, count: int) -> Progress:
    """Progress of one of several passes over the same photographs."""
    return lambda done, total: progress(number * total + done, count * total)


def _filled(rows: Sequence[Float[np.ndarray, " f"] | None]) -> Float32[np.ndarray, "n f"]:
    first = next((row for row in rows if row is not None), np.zeros(0, dtype=np.float32))
    out = np.full((len(rows), len(first)), np.nan, dtype=np.float32)
    for at, row in enumerate(rows):
        if row is not None:
            out[at] = row
    return out


def _largest(dtype: np.dtype[Any]) -> float:
    """The largest magnitude that a type stores; of int8 that of its least value."""
    return float(np.finfo(dtype).max) if dtype.kind == "f" else -float(np.iinfo(dtype).min)


_KINDS = {"U8": "u1", "I8": "i1", "F16": "<f2", "F32": "<f4"}


def map_shard(
    path: Path, dtype: np.dtype[Any] | type[np.float32] = np.float32
) -> tuple[UInt8[np.ndarray, "n 32"], Float[np.ndarray, "n f"]] | None:
    """Map a shard into memory: keys (n, 32) and features (n, F); None where it is truncated or not such a shard."""
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length)) if 0 < length < 100_000_000 else {}
        arrays = [
            np.memmap(
                path,
                np.dtype(_KINDS[header[name]["dtype"]]),
                "r",
                8 + length + header[name]["data_offsets"][0],
                tuple(header[name]["shape"]),
            )
            for name in ("keys", "features")
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    keys, features = (array.view(np.ndarray) for array in arrays)
    fits = keys.shape == (len(features), 32) and features.ndim == 2 and features.dtype == dtype
    return (keys, features) if fits else None


def _read_hashes(index: Path) -> dict[tuple[str, int, int], str]:
    hashes: dict[tuple[str, int, int], str] = {}
    try:
        lines = index.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return hashes
    for line in lines:
        try:
            name, size, time_ns, digest = json.loads(line)
            hashes[str(name), int(size), int(time_ns)] = str(digest)
        except (ValueError, TypeError):
            continue  # a line truncated by a kill: the photograph is hashed again
    return hashes


def _append(index: Path, lines: Sequence[str]) -> None:
    try:
        index.parent.mkdir(parents=True, exist_ok=True)
        with index.open("a", encoding="utf-8") as stream:
            # A leading newline, so that a line truncated earlier does not spoil the next.
            stream.write("\n" + "\n".join(lines) + "\n")
    except OSError as error:
        raise InputError(
            f"{index}: the feature cache cannot be written ({error.strerror}); set SWCLIP_CACHE to another folder."
        ) from error
