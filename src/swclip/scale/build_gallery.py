"""Build a gallery on a cluster: photographs are decoded in tasks, embedded in actors, and written by tasks.

Each writing task makes a fragment of the gallery's table, a file that no reader sees. When all entries are written, one
commit makes the fragments a table. What a lost worker had written is in no fragment of the commit; its entries are
computed again.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from swclip.calibration.conformal import Calibration
from swclip.calibration.posterior_config import PosteriorConfig
from swclip.data.manifest import Manifest
from swclip.errors import ArtefactError, InputError
from swclip.gallery.assign_candidates import check_finite
from swclip.gallery.build import candidate_words, check_embedded, gallery_meta, gallery_of_vectors, photographs_of
from swclip.gallery.folder import check_output, new_gallery
from swclip.gallery.hubness import Bank, read_bank
from swclip.gallery.patches import MemoryPatches
from swclip.gallery.read_write import entries_of, write_model
from swclip.gallery.schema import DETAILS, Description, entry_schema, manifest_details
from swclip.models.embed import Failure, Progress, embed_positions, evaluating, pixel_vectors, raise_failures
from swclip.models.patches import encoder_of
from swclip.models.photograph_vectors import PhotographVectors
from swclip.scale.cluster import Workers, blocks, cluster, in_actors, in_tasks, received, results, shared
from swclip.scale.decode import FAILURE, NUMBER, PATH, PIXELS, THUMBNAIL, decode, pixels_from_bytes
from swclip.scale.fragments import Fragments, write_fragment

if TYPE_CHECKING:
    from swclip.models.locator_model import LocatorModel

_CANDIDATE = "candidate"
_FRAGMENTS, _FRAGMENT_ROWS = 64, (256, 4096)  # about 64 fragments, but none of fewer or more rows


@dataclass(frozen=True)
class BuiltGallery:
    """Counts of a gallery that was written.

    Attributes:
        candidates: Its candidates.
        photographs: Its photographs.
    """

    candidates: int
    photographs: int


def build_gallery_on_cluster(
    model: LocatorModel,
    candidates: pd.DataFrame,
    manifest: Manifest | None,
    out: str | os.PathLike[str],
    *,
    posterior: PosteriorConfig | None = None,
    calibration: Calibration | None = None,
    bank: Bank | None = None,
    patches: bool = False,
    thumbnails_px: int | None = None,
    meta: Mapping[str, Any] | None = None,
    batch_size: int = 64,
    device: str = "auto",
    failures: list[Failure] | None = None,
    progress: Progress | None = None,
) -> BuiltGallery:
    """Write a gallery as `swclip.build_gallery` does, on the cluster of RAY_ADDRESS.

    An embedding does not depend on the photographs that are embedded with it, so that the table is the one that a
    single process writes.

    Args:
        model: The model.
        candidates: candidate_id, lat_deg, lon_deg, city, image_ids.
        manifest: The photographs, at paths or a URL that all machines can read; None for positions alone.
        out: A folder that all machines can write, or a URL.
        posterior: The model's fitted posterior.
        calibration: The calibration of the model's regions.
        bank: The model's bank of queries; None measures no hubness.
        patches: Whether to store patch features.
        thumbnails_px: Height of the thumbnails in pixels; None stores none.
        meta: Further metadata of the gallery.
        batch_size: Photographs per batch of the model.
        device: auto, cpu or cuda.
        failures: A list that collects photographs that cannot be decoded; they are left out. Without one, they raise.
        progress: Called with (done, total) entries.

    Raises:
        PackageError: Ray or Lance is not installed.
        InputError: The gallery cannot be written, photographs cannot be decoded and `failures` is None, or the cluster
            lost the work.
        MismatchError: A candidate names a photograph that the manifest does not have.
        ArtefactError: The model has no patch features, or its embeddings are not numbers.
    """
    check_output(out)
    name, source = os.fspath(out), _source(candidates, manifest)
    encoder = encoder_of(model) if patches and manifest is not None else None
    description = Description(
        model.fingerprint,
        model.embedding_dim,
        hubness=bank is not None,
        whitened=0 if model.whitening is None else model.whitening.dimensions,
        patches=None if encoder is None else {"fingerprint": encoder.fingerprint, "dimensions": encoder.dimensions},
    )
    with cluster(), new_gallery(name, partial(write_model, model, calibration, bank)) as location:
        workers = Workers.of_cluster(device, -(-len(source) // batch_size))
        fragments = Fragments(location, name, entry_schema(description))
        data = blocks(source, batch_size)
        data = in_tasks(data, decode, workers, None, model.preprocess, thumbnails_px)
        data = in_actors(data, Embedder, workers, batch_size, shared(_files(model, bank)), description, workers.device)
        data = in_tasks(data, write_fragment, workers, _fragment_rows(len(source), batch_size), fragments)
        numbers: list[int] = []
        reasons: dict[int, str] = {}
        written: list[str] = []
        for part in results(data):
            numbers += part["numbers"]
            written += part["fragments"]
            reasons.update(zip(part["failed"], part["reasons"], strict=True))
            if progress is not None:
                progress(len(numbers), len(source))
        _check_complete(numbers, len(source), name)
        undecodable = [(Path(os.fsdecode(source[PATH][row].as_py())), reasons[row]) for row in sorted(reasons)]
        if undecodable and failures is None:
            raise_failures(undecodable)
        if failures is not None:
            failures.extend(undecodable)
        lost = _without_photographs(source, list(reasons), len(candidates))
        if len(lost):
            written += fragments.write(_positions_only(model, candidates.iloc[lost], description))
        about = {**gallery_meta(model, posterior, manifest, undecodable), **(meta or {})}
        del about["fingerprint"]  # a value of the description by itself
        fragments.commit(written, entry_schema(replace(description, meta=about)))
    photographs = len(source) - source["image_id"].null_count - len(reasons)
    return BuiltGallery(len(candidates), photographs)


def _source(candidates: pd.DataFrame, manifest: Manifest | None) -> pa.Table:
    """The entries to embed, in the order of the table: photographs with their paths, and candidates without any."""
    ids, paths = photographs_of(candidates, manifest)
    if len(set(ids)) < len(ids):
        repeated = next(name for name, count in pd.Series(ids).value_counts().items() if count > 1)
        raise InputError(f"photograph {repeated!r} occurs twice among the candidates; ids must be unique.")
    counts = candidates["image_ids"].map(len).to_numpy(dtype=np.int64) if ids else np.zeros(len(candidates), np.int64)
    candidate = np.repeat(np.arange(len(candidates)), np.maximum(counts, 1))
    has_photograph = counts[candidate] > 0
    photograph = pa.array(np.cumsum(has_photograph) - 1, mask=~has_photograph)
    columns: dict[str, Any] = {
        NUMBER: pa.array(np.arange(len(candidate))),
        _CANDIDATE: pa.array(candidate),
        "candidate_id": pa.array(candidates["candidate_id"].astype(str).tolist(), pa.string()).take(candidate),
        "lat_deg": candidates["lat_deg"].to_numpy(np.float64)[candidate],
        "lon_deg": candidates["lon_deg"].to_numpy(np.float64)[candidate],
        "city": pa.array(candidates["city"], pa.string(), from_pandas=True).take(candidate),
        "image_id": pa.array(ids, pa.string()).take(photograph),
        PATH: pa.array(map(os.fsencode, paths), pa.binary()).take(photograph),
    }
    details = {name: pa.nulls(len(candidate), kind) for name, kind in DETAILS.items()}
    if manifest is not None and ids:
        table = manifest_details(manifest)
        rows = pc.index_in(columns["image_id"], table["image_id"].combine_chunks(), skip_nulls=True)
        details = {name: table[name].combine_chunks().take(rows) for name in DETAILS}
    return pa.table({**columns, **details})


def _fragment_rows(entries: int, batch_size: int) -> int:
    rows = int(np.clip(entries // _FRAGMENTS, *_FRAGMENT_ROWS))
    return max(1, rows // batch_size) * batch_size


def _files(model: LocatorModel, bank: Bank | None) -> dict[str, bytes]:
    """The model's files: machines of the cluster need not see the folder that it was loaded from."""
    with tempfile.TemporaryDirectory(prefix="swclip-model-") as folder:
        write_model(model, None, bank, Path(folder))
        files = (path for path in Path(folder).rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


class Embedder:
    """Embeds decoded photographs and positions, in an actor that holds the model.

    Args:
        files: The model's files, in the store of Ray.
        description: What the gallery holds.
        device: The actor's device.
    """

    def __init__(self, files: Sequence[Any], description: Description, device: str) -> None:
        from swclip.models.blocks import available_device
        from swclip.models.locator_model import load_model

        with tempfile.TemporaryDirectory(prefix="swclip-model-") as folder:
            for name, data in received(files).items():
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            self.model = load_model(folder)
            self.bank = read_bank(folder)
        self.model.to(available_device(device))
        self.description = description

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Embed a batch.

        Args:
            rows: Rows of `_source`, decoded.

        Returns:
            `number`, `failure` and the columns of the gallery, which are null where the photograph cannot be decoded.
        """
        embedded = pc.is_null(rows[FAILURE])
        kept = rows.filter(embedded)
        entries = pa.Table.from_batches(self._entries(kept), entry_schema(self.description)) if len(kept) else None
        fields = [field.with_nullable(True) for field in entry_schema(self.description)]
        if entries is None:
            columns = {field.name: pa.nulls(len(rows), field.type) for field in fields}
        else:
            check_finite(entries.combine_chunks(), "the gallery")
            ok = np.asarray(embedded)
            at = pa.array(np.cumsum(ok) - 1, mask=~ok)
            columns = {field.name: entries[field.name].combine_chunks().take(at) for field in fields}
        return pa.table({NUMBER: rows[NUMBER], FAILURE: rows[FAILURE], **columns})

    def _entries(self, rows: pa.Table) -> list[pa.RecordBatch]:
        photographs = rows.filter(pc.is_valid(rows["image_id"]))
        ids = photographs["image_id"].to_pylist()
        vectors: PhotographVectors | None = None
        if ids:
            pixels = [pixels_from_bytes(data) for data in photographs[PIXELS].to_pylist()]
            with evaluating(self.model):
                vectors = pixel_vectors(self.model, pixels, patches=self.description.patches is not None)
            check_embedded(vectors, 0)
        candidates = _candidates_of(rows)
        positions = candidates[["lat_deg", "lon_deg"]].to_numpy(np.float64)
        locations = embed_positions(self.model, positions, candidate_words(candidates["city"]))
        meta = {"fingerprint": self.description.fingerprint}
        gallery = gallery_of_vectors(self.model, candidates, locations, ids, vectors, meta, self.bank)
        if self.description.patches is not None:
            details = () if vectors is None or vectors.details is None else vectors.details
            verifier = MemoryPatches(**self.description.patches, patches=dict(zip(ids, details, strict=True)))
            gallery = replace(gallery, verifier=verifier)
        pictures = dict(zip(ids, photographs[THUMBNAIL].to_pylist(), strict=True))
        has_pictures = any(picture is not None for picture in pictures.values())
        thumbnails = (lambda names: [pictures[name] for name in names]) if has_pictures else None
        return list(entries_of(gallery, photographs.select(["image_id", *DETAILS]), thumbnails))


def _candidates_of(rows: pa.Table) -> pd.DataFrame:
    """The candidates of rows of `_source`, in their order."""
    candidate = np.asarray(rows[_CANDIDATE])
    starts = np.flatnonzero(np.concatenate([[True], candidate[1:] != candidate[:-1]]))
    columns = ["candidate_id", "lat_deg", "lon_deg", "city"]
    frame: pd.DataFrame = rows.select(columns).take(starts).to_pandas()
    parts = np.split(np.asarray(rows["image_id"].to_pylist(), dtype=object), starts[1:])
    image_ids = [[name for name in part if name is not None] for part in parts]
    return frame.assign(image_ids=pd.Series(image_ids, dtype=object))


def _check_complete(numbers: Sequence[int], count: int, name: str) -> None:
    """Raise ArtefactError unless each entry was written once, in order."""
    if not np.array_equal(np.asarray(numbers, dtype=np.int64), np.arange(count)):
        raise ArtefactError(
            f"{name}: the cluster wrote {len(set(numbers)):,} of {count:,} entries, and {len(numbers):,} with "
            "repetitions; no gallery was made. Run the command again."
        )


def _without_photographs(source: pa.Table, failed: Sequence[int], count: int) -> np.ndarray[Any, Any]:
    """The candidates none of whose photographs can be decoded."""
    candidate = np.asarray(source[_CANDIDATE])
    return np.setdiff1d(np.arange(count), np.delete(candidate, failed))


def _positions_only(model: LocatorModel, candidates: pd.DataFrame, description: Description) -> pa.Table:
    bare = candidates.assign(image_ids=pd.Series([[] for _ in range(len(candidates))], candidates.index, dtype=object))
    positions = bare[["lat_deg", "lon_deg"]].to_numpy(np.float64)
    locations = embed_positions(model, positions, candidate_words(bare["city"]))
    gallery = gallery_of_vectors(model, bare, locations, [], None, {"fingerprint": description.fingerprint})
    return pa.Table.from_pylist(
        [row for batch in entries_of(gallery) for row in batch.to_pylist()], entry_schema(description)
    )
