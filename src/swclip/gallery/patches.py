"""Patch features of a gallery's photographs: kept on disk, and read for the few candidates that are verified."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from jaxtyping import Float64, Int8

from swclip.errors import MismatchError
from swclip.gallery import ann
from swclip.gallery.schema import PATCHES
from swclip.lance_tables import lance_errors
from swclip.models.embed import FeatureSource, PathLike, Progress
from swclip.models.embed_patches import patch_features
from swclip.models.patch_matching import patch_similarities
from swclip.models.patches import encoder_of, patches_from_bytes

if TYPE_CHECKING:
    from lancedb.table import Table

    from swclip.gallery.store import GalleryStore
    from swclip.models.locator_model import LocatorModel


AGAIN = "swclip index RUN MANIFEST --patch-features --out GALLERY"


class Verifier(Protocol):
    """Compares a query in detail with photographs of a gallery."""

    def compare(self, query: Any, image_ids: Sequence[str]) -> Float64[np.ndarray, " n"]:
        """Similarity of a query to each of N photographs, NaN where one cannot be compared.

        Args:
            query: The query in the form that the verifier compares, such as patch features.
            image_ids: N photographs of the gallery, each named once.
        """


@dataclass(eq=False)
class TimedVerifier:
    """A verifier whose time is measured.

    Attributes:
        verifier: The verifier.
        seconds: Time of its comparisons so far.
    """

    verifier: Verifier
    seconds: float = 0.0

    def compare(self, query: Any, image_ids: Sequence[str]) -> Float64[np.ndarray, " n"]:
        """See `Verifier`."""
        started = time.perf_counter()
        similarity = self.verifier.compare(query, image_ids)
        self.seconds += time.perf_counter() - started
        return similarity


class PatchSource(ABC):
    """Patch features by `image_id`.

    Attributes:
        fingerprint: Identity of the patch encoder that made them.
        dimensions: W, the numbers of each patch.
    """

    fingerprint: str
    dimensions: int

    @abstractmethod
    def take(self, image_ids: Sequence[str]) -> list[Int8[np.ndarray, "y x w"] | None]:
        """Patch features of photographs, each named once; None for those that have none."""

    def compare(self, query: Int8[np.ndarray, "y x w"], image_ids: Sequence[str]) -> Float64[np.ndarray, " n"]:
        """`patch_similarities` of a query to photographs; see `Verifier`."""
        patches = self.take(image_ids)
        present = [values for values in patches if values is not None]
        similarity = np.full(len(image_ids), np.nan)
        similarity[[values is not None for values in patches]] = patch_similarities(query, present)
        return similarity


@dataclass(frozen=True, eq=False)
class MemoryPatches(PatchSource):
    """Patch features in memory, or mapped from the feature cache.

    Attributes:
        fingerprint: Identity of the patch encoder.
        dimensions: W, the numbers of each patch.
        patches: Patch features by `image_id`.
    """

    fingerprint: str
    dimensions: int
    patches: Mapping[str, Int8[np.ndarray, "y x w"] | None]

    def take(self, image_ids: Sequence[str]) -> list[Int8[np.ndarray, "y x w"] | None]:
        """Patch features of photographs; None for those that have none."""
        return [self.patches.get(name) for name in image_ids]


@dataclass(frozen=True, eq=False)
class ComputedPatches(PatchSource):
    """Patch features that the model computes when they are read.

    Attributes:
        model: A model with patch features.
        paths: Path of each photograph by `image_id`.
        batch_size: Photographs per batch.
        workers: Decoding threads; the number of processors where None.
        cache: Features on disk, for a frozen tower.
    """

    model: LocatorModel
    paths: Mapping[str, PathLike]
    batch_size: int = 64
    workers: int | None = None
    cache: FeatureSource | None = None

    @property
    def fingerprint(self) -> str:  # type: ignore[override]
        """Identity of the model's patch encoder."""
        return encoder_of(self.model).fingerprint

    @property
    def dimensions(self) -> int:  # type: ignore[override]
        """W, the numbers of each patch."""
        return encoder_of(self.model).dimensions

    def take(
        self, image_ids: Sequence[str], progress: Progress | None = None
    ) -> list[Int8[np.ndarray, "y x w"] | None]:
        """Patch features of photographs; None for those that cannot be decoded or have no path."""
        named = [name for name in image_ids if name in self.paths]
        computed = patch_features(
            self.model,
            [self.paths[name] for name in named],
            batch_size=self.batch_size,
            workers=self.workers,
            cache=self.cache,
            failures=[],
            progress=progress,
        )
        of_id = dict(zip(named, computed, strict=True))
        return [of_id.get(name) for name in image_ids]

    def computed(self, progress: Progress | None = None) -> MemoryPatches:
        """All of them, computed once for many queries.

        Args:
            progress: Called with (done, total) photographs.
        """
        names = list(self.paths)
        return MemoryPatches(
            self.fingerprint, self.dimensions, dict(zip(names, self.take(names, progress), strict=True))
        )


@dataclass(frozen=True, eq=False)
class PatchTable(PatchSource):
    """Patch features in a gallery's table, read by row: 80 photographs take 3 ms.

    The table is checked out at its current version: entries that are appended later are not seen.

    Attributes:
        name: The gallery's folder or URL.
        table: Lance's table, a handle without another use.
        fingerprint: Identity of the patch encoder.
        dimensions: W, the numbers of each patch.
    """

    name: str
    table: Table
    fingerprint: str
    dimensions: int

    @classmethod
    def of_store(cls, store: GalleryStore) -> PatchTable | None:
        """The patch features of an open gallery; None where it has none."""
        values = store.description.patches
        if values is None:
            return None
        table = type(store).open(store.path).table
        with lance_errors(store.path):
            table.checkout(table.version)
        return cls(store.path, table, str(values["fingerprint"]), int(values["dimensions"]))

    @cached_property
    def _row_ids(self) -> dict[str, int]:
        with lance_errors(self.name):
            query = self.table.search().where(f"{PATCHES} IS NOT NULL")
            rows = query.select(["image_id"]).with_row_id(True).to_arrow()
        return dict(zip(rows["image_id"].to_pylist(), rows[ann.ROW_ID].to_pylist(), strict=True))

    def take(self, image_ids: Sequence[str]) -> list[Int8[np.ndarray, "y x w"] | None]:
        """Patch features of photographs, each named once; None for those that have none."""
        row_ids = np.array([self._row_ids.get(name, ann.NOTHING) for name in image_ids], dtype=np.int64)
        with lance_errors(self.name):
            table = ann.take(self.table, row_ids[row_ids != ann.NOTHING], [PATCHES])
        values = iter(table[PATCHES].to_pylist())
        return [
            None if row == ann.NOTHING else patches_from_bytes(next(values), self.dimensions)
            for row in row_ids.tolist()
        ]


def check_encoder(stored: str, of_model: str, gallery_name: str) -> None:
    """Raise MismatchError unless the model's patch encoder made the patch features of a gallery.

    Args:
        stored: Identity of the encoder that made them.
        of_model: Identity of the model's.
        gallery_name: Name of the gallery in the message.
    """
    if stored != of_model:
        raise MismatchError(
            f"{gallery_name} has patch features of encoder {stored}, and the model's is {of_model}: they cannot be "
            f"compared; make it again with: {AGAIN}"
        )
