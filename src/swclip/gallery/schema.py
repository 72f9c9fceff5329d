"""The columns of a gallery's table, and the description of the whole gallery.

One row is one entry: a photograph, or a position without one. Entries of one candidate (one position) share
`candidate_id`, latitude, longitude, city and location embedding. The description (the model's fingerprint and more) is
in the table's metadata: it is committed with the first rows and never changes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Bool, Float32

from swclip.data.attribution import ATTRIBUTION_COLUMNS, attribution_table
from swclip.data.manifest import COLUMNS, PATH_COLUMNS, Manifest
from swclip.errors import ArtefactError, MismatchError
from swclip.imaging.packed import ROW

GALLERY_VERSION = "3"
_READABLE = ("2", GALLERY_VERSION)
"""Version 3 added whitened features; a gallery of version 2 has none."""
DESCRIPTION_KEY = b"swclip.gallery"
_PRIMARY_KEY = {b"lance-schema:unenforced-primary-key": b"true"}

DETAILS: dict[str, pa.DataType] = {
    "accuracy_m": pa.float64(),
    "heading_deg": pa.float64(),
    "captured_at": pa.timestamp("ms"),
    "place_id": pa.string(),
    "sequence_id": pa.string(),
    "licence": pa.string(),
    "source": pa.string(),
    "extra": pa.string(),
}
"""Metadata of a photograph from its manifest, other than the position: null where unknown; `extra` contains further
columns as a JSON object."""

EMBEDDINGS = ("location_embedding", "image_embedding", "image_whitened")

PATCHES = "patch_features"
"""The column of patch features, of galleries that have them."""


@dataclass(frozen=True)
class Description:
    """Fingerprint, dimension and metadata of a whole gallery, constant over its life.

    Attributes:
        fingerprint: Of the model and its preprocessing.
        dim: D, the dimension of the embeddings.
        hubness: Whether the photographs' hubness was measured.
        whitened: W, the dimension of the photographs' whitened features; 0 without them.
        meta: Posterior, provenance, and further values set when the gallery was made.
        patches: `fingerprint` of the patch encoder and `dimensions` of a patch; None for a gallery without patch
            features.
    """

    fingerprint: str
    dim: int
    hubness: bool = False
    whitened: int = 0
    meta: Mapping[str, Any] = field(default_factory=dict)
    patches: Mapping[str, Any] | None = None

    def to_json(self) -> str:
        """The text in the table's metadata."""
        values = {"version": GALLERY_VERSION, **vars(self), "meta": dict(self.meta)}
        return json.dumps(values, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_schema(cls, schema: pa.Schema, name: str) -> Description:
        """Read it from a table's metadata.

        Raises:
            ArtefactError: It is missing, damaged, or of another version.
        """
        try:
            values = json.loads((schema.metadata or {})[DESCRIPTION_KEY])
            version = str(values.pop("version"))
            if readable(version):
                return cls(**values)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtefactError(
                f"{name}: its table was not written by swclip ({error}); make it again with: "
                "swclip index RUN MANIFEST --out GALLERY"
            ) from error
        raise wrong_version(name, version)

    def check_model(self, fingerprint: str, model_name: str, gallery_name: str) -> None:
        """Raise MismatchError unless the model with this fingerprint made the gallery."""
        check_fingerprint(self.fingerprint, fingerprint, model_name, gallery_name)

    def check_mergeable(self, other: Description, path: str, other_path: str) -> None:
        """Raise MismatchError unless the entries of another gallery can be inserted into this one."""
        if self.fingerprint != other.fingerprint:
            raise MismatchError(
                f"{path} was made by model {self.fingerprint}, and {other_path} by model {other.fingerprint}: "
                "their embeddings cannot be compared. Embed the photographs of one with the model of the other: "
                f"swclip gallery append {path} MANIFEST"
            )
        if self.whitened != other.whitened:
            with_it, without = (path, other_path) if self.whitened else (other_path, path)
            raise MismatchError(
                f"{with_it} has whitened features of dimension {self.whitened or other.whitened}, and {without} of "
                f"{min(self.whitened, other.whitened)}; index {without} again with the run that made {with_it}."
            )
        if self.patches != other.patches:
            name = path if self.patches is None else other_path
            raise MismatchError(
                f"{path} and {other_path} do not have the same patch features; make one again, with or without "
                f"--patch-features: swclip index RUN MANIFEST --out {name}"
            )
        if self.hubness != other.hubness:
            with_it, without = (path, other_path) if self.hubness else (other_path, path)
            raise MismatchError(
                f"the hubness of {with_it} is measured and that of {without} is not; index {without} again with the "
                f"run that made {with_it}."
            )


def check_fingerprint(made_by: object, fingerprint: str, model_name: str, gallery_name: str) -> None:
    """Raise MismatchError unless a model made a gallery; the message says what to do."""
    if made_by != fingerprint:
        raise MismatchError(
            f"{gallery_name} was made by model {made_by}, and {model_name} is model {fingerprint}: "
            "their embeddings cannot be compared. Use the run that made it, or make the gallery again with "
            f"`swclip index {model_name} MANIFEST --out GALLERY`."
        )


def readable(version: object) -> bool:
    """Whether this swclip reads a version of galleries."""
    return version in _READABLE


def wrong_version(name: str, version: object) -> ArtefactError:
    """The error for a gallery of another version."""
    return ArtefactError(
        f"{name}: gallery version {version!r}, and this swclip reads {GALLERY_VERSION!r}; make it again with: "
        "swclip index RUN MANIFEST --out GALLERY"
    )


def entry_schema(description: Description) -> pa.Schema:
    """The columns of a gallery's table.

    `entry_id` is marked as Lance's primary key: two processes that insert the same key at once are then a conflict
    that one of them meets, where otherwise both rows would be kept (measured; tests/gallery/test_processes.py).
    """
    vector = pa.list_(pa.float32(), description.dim)
    fields = [
        pa.field("entry_id", pa.string(), nullable=False, metadata=_PRIMARY_KEY),
        pa.field("image_id", pa.string()),
        pa.field("candidate_id", pa.string(), nullable=False),
        pa.field("lat_deg", pa.float64(), nullable=False),
        pa.field("lon_deg", pa.float64(), nullable=False),
        pa.field("city", pa.string()),
        *(pa.field(name, kind) for name, kind in DETAILS.items()),
        pa.field("location_embedding", vector, nullable=False),
        pa.field("image_embedding", vector),
        pa.field("image_hubness", pa.float32()),
        pa.field("thumbnail", pa.binary()),
    ]
    if description.whitened:
        fields.append(pa.field("image_whitened", pa.list_(pa.float16(), description.whitened)))
    if description.patches is not None:
        # Large, since 4 GB of them in one table are common, beyond the offsets of 32 bits.
        fields.append(pa.field(PATCHES, pa.large_binary()))
    return pa.schema(fields, metadata={DESCRIPTION_KEY: description.to_json().encode()})


def check_columns(schema: pa.Schema, description: Description, name: str) -> None:
    """Raise ArtefactError where a column of a gallery's table is missing or of another type.

    Further columns are ignored, such as `location_hubness` of galleries made before it was removed.
    """
    for column in entry_schema(description):
        kind = schema.field(column.name).type if column.name in schema.names else None
        if kind != column.type:
            raise ArtefactError(
                f"{name}: column {column.name!r} of its table is {kind or 'missing'}, and {column.type} is needed; "
                "make it again with: swclip index RUN MANIFEST --out GALLERY"
            )


def photograph_key(image_id: str) -> str:
    """The `entry_id` of a photograph.

    Example:
        >>> photograph_key("a"), position_key("a")
        ('photo/a', 'position/a')
    """
    return f"photo/{image_id}"


def position_key(candidate_id: str) -> str:
    """The `entry_id` of a position without a photograph."""
    return f"position/{candidate_id}"


def vectors(
    rows: Float32[np.ndarray, "n d"],
    valid: Bool[np.ndarray, " n"] | None = None,
    dtype: type[np.floating] = np.float32,
) -> pa.Array:
    """Rows as an Arrow column of vectors.

    Args:
        rows: (N, D).
        valid: (N,) False where the value is null; None where none is null.
        dtype: Type of the numbers, `numpy.float32` or `numpy.float16`.
    """
    values = pa.array(np.ascontiguousarray(rows, dtype=dtype).reshape(-1))
    mask = None if valid is None else pa.array(~valid)
    return pa.FixedSizeListArray.from_arrays(values, rows.shape[1], mask=mask)


def matrix(column: pa.ChunkedArray | pa.Array, dim: int) -> Float32[np.ndarray, "n d"]:
    """An Arrow column of vectors as rows (N, D); the rows of nulls are arbitrary."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    rows = np.empty((len(column), dim), dtype=np.float32)
    at = 0
    for chunk in chunks:
        # `flatten` would leave out the nulls and shift the following rows: `values` keeps their slots.
        values = chunk.values.slice(chunk.offset * dim, len(chunk) * dim)
        rows[at : at + len(chunk)] = values.to_numpy(zero_copy_only=False).reshape(-1, dim)
        at += len(chunk)
    return rows


def manifest_details(manifest: Manifest) -> pa.Table:
    """`image_id` and the columns of `DETAILS`, one row per photograph in the manifest's order.

    Further columns of the manifest are kept in `extra` as a JSON object. Paths are left out: a gallery may be moved.
    """
    frame = manifest.frame
    further = [name for name in frame.columns if name not in (*COLUMNS, *PATH_COLUMNS, ROW)]
    extra: list[str | None] = [None] * len(frame)
    if further:
        extra = [_object(dict(zip(further, row, strict=True))) for row in frame[further].itertuples(index=False)]
    columns: dict[str, Any] = {"image_id": pa.array(frame["image_id"].tolist(), pa.string())}
    for name, kind in DETAILS.items():
        values = extra if name == "extra" else frame[name]
        columns[name] = pa.array(values, kind, from_pandas=True)
    return pa.table(columns)


ATTRIBUTION = ("licence", "extra")
"""The columns that `attribution_of` needs."""


def attribution_of(entries: pa.Table) -> pa.Table | None:
    """The attribution of entries as of `swclip.data.attribution.attribution_table`; None where none states one.

    Args:
        entries: At least `ATTRIBUTION`; authors and source addresses are further columns, in `extra`.
    """
    further = [
        json.loads(text) if text is not None and ('"author"' in text or '"source_url"' in text) else {}
        for text in entries["extra"].to_pylist()
    ]
    columns = {name: [values.get(name) for values in further] for name in ATTRIBUTION_COLUMNS}
    return attribution_table(pd.DataFrame({**columns, "licence": entries["licence"].to_pylist()}, dtype=object))


def _object(values: dict[str, Any]) -> str | None:
    plain = {name: _plain(value) for name, value in values.items() if not _missing(value)}
    return json.dumps(plain, ensure_ascii=False) if plain else None


def _missing(value: Any) -> bool:
    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))


def _plain(value: Any) -> Any:
    """A value for JSON: other values than numbers and booleans become text."""
    if hasattr(value, "item"):
        value = value.item()
    return value if isinstance(value, (bool, int, float, str)) else str(value)
