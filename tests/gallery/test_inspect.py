"""Each kind of fault in a gallery is reported with its entries."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from swclip.errors import DiskFullError
from swclip.gallery.assign_candidates import assign_candidates
from swclip.gallery.export import export_points
from swclip.gallery.filters import EntryFilter
from swclip.gallery.inspect import gallery_info, verify
from swclip.gallery.schema import Description, entry_schema, matrix, vectors
from swclip.gallery.store import GalleryStore

from .conftest import DESCRIPTION, DIM, make_entries, make_store, write_model


def _jpeg() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (16, 8), "red").save(stream, "JPEG")
    return stream.getvalue()


def _changed(table: pa.Table, name: str, change: Callable[[list], None]) -> pa.Table:
    values = table[name].to_pylist()
    change(values)
    at = table.schema.get_field_index(name)
    return table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type))


def _vector(row: int, factor: float) -> Callable[[list], None]:
    def change(values: list) -> None:
        values[row] = [value * factor for value in values[row]]

    return change


def _set(row: int, value: object) -> Callable[[list], None]:
    def change(values: list) -> None:
        values[row] = value

    return change


@pytest.mark.parametrize(
    ("column", "change", "message"),
    [
        ("location_embedding", _vector(5, 2.0), "location_embedding of another length than 1"),
        ("location_embedding", _vector(5, float("inf")), "not finite in location_embedding"),
        ("image_embedding", _vector(5, 0.5), "image_embedding of another length than 1"),
        ("image_embedding", _vector(5, float("inf")), "not finite in image_embedding"),
        ("image_embedding", _set(5, None), "photographs without image_embedding"),
        ("lat_deg", _set(5, 91.0), "not at a latitude and longitude"),
        ("lat_deg", _set(5, 51.0), "differ in lat_deg from another entry of their candidate"),
        ("lon_deg", _set(5, float("inf")), "not at a latitude and longitude"),
        ("city", _set(5, "Bath"), "differ in city"),
        ("accuracy_m", _set(5, -1.0), "accuracy_m that is not positive"),
        ("entry_id", _set(5, "photo/another"), "entry_id of another photograph"),
        ("thumbnail", _set(5, b"no picture"), "thumbnail that is not a valid image"),
        ("thumbnail", _set(5, _jpeg()[:-40]), "thumbnail that is not a valid image"),
    ],
)
def test_each_fault_is_reported(
    tmp_path: Path, column: str, change: Callable[[list], None], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swclip.gallery.folder.check_finite", lambda _batch, _name: None)  # as another program writes
    schema = entry_schema(DESCRIPTION)
    table = assign_candidates(make_entries(12, thumbnail=[_jpeg()] * 12), schema.empty_table()).cast(schema)
    key = table["entry_id"][5].as_py()
    broken = _changed(table, column, change)
    store = GalleryStore.create(tmp_path / "gallery", DESCRIPTION, broken.to_batches(), write_model)
    faults = [str(fault) for fault in verify(store)]
    named = "photo/another" if column == "entry_id" else key
    assert any(message in fault and named in fault and fault.startswith("1 entry ") for fault in faults), faults


def test_a_repeated_key_is_a_fault(store: GalleryStore) -> None:
    store.table.add(store.read(where=EntryFilter(image_ids=["p00003"])))  # as no method of the store does
    assert [str(fault) for fault in verify(store)] == [
        "1 entry have an entry_id that occurs more than once: photo/p00003"
    ]


def test_another_model_and_missing_hubness_are_found(store: GalleryStore, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    assert verify(store, "tiny-0", lambda done, total: seen.append((done, total))) == []
    assert seen[-1] == (40, 40)
    (fault,) = verify(store, "tiny-1")
    assert (fault.count, "the gallery's model is tiny-1" in fault.problem) == (40, True)
    hubs = make_store(tmp_path / "hubs", make_entries(8), Description("tiny-0", DIM, hubness=True))
    assert [(fault.problem, fault.count) for fault in verify(hubs)] == [
        ("have no image_hubness", 8),
    ]


def test_half_precision_is_accepted(tmp_path: Path) -> None:
    entries = make_entries(40)
    rows = matrix(entries["image_embedding"], DIM).astype(np.float16).astype(np.float32)
    at = entries.schema.get_field_index("image_embedding")
    assert verify(make_store(tmp_path / "half", entries.set_column(at, entries.schema.field(at), vectors(rows)))) == []


def test_the_contents_of_a_gallery_are_counted(tmp_path: Path) -> None:
    entries = make_entries(
        12,
        lon_deg=np.repeat([179.9, -179.9, 179.8], 4),
        accuracy_m=[None, 1.0, 2.0, 3.0] * 3,
        thumbnail=[_jpeg()] * 5 + [None] * 7,
    )
    store = make_store(tmp_path / "gallery", pa.concat_tables([entries, make_entries(1, bare=True, city=[None])]))
    info = gallery_info(store)
    assert (info.entries, info.candidates, info.photographs, info.thumbnails) == (13, 4, 12, 5)
    assert info.cities == {"York": 2, "": 1, "Leeds": 1}
    assert info.sources == {"panoramax": 7, "": 6}
    assert info.captured == ("2020-01-01T00:00:00", "2020-01-12T00:00:00")
    assert info.accuracy_m == (2.0, 3.0)
    files = [path for path in (tmp_path / "gallery").rglob("*") if path.is_file()]
    assert info.bytes == sum(path.stat().st_size for path in files)
    assert (info.version, info.versions, info.fingerprint) == (1, 1, "tiny-0")
    south, west, north, east = info.bbox_deg
    assert (round(south, 4), round(north, 4)) == (51.5, 51.5018)
    assert (west, east) == (179.8, -0.1)  # over the antimeridian: the widest gap is from -0.1 to 179.8


def test_exported_points_are_read_by_geopandas(
    store: GalleryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert export_points(store, tmp_path / "points.parquet", EntryFilter(cities=["York"])) == 20
    frame = geopandas.read_parquet(tmp_path / "points.parquet")
    assert frame.crs.to_epsg() == 4326
    np.testing.assert_array_equal(frame.geometry.y, frame["lat_deg"])
    np.testing.assert_array_equal(frame.geometry.x, frame["lon_deg"])
    assert frame["entry_id"].is_monotonic_increasing
    assert not {"location_embedding", "image_embedding", "thumbnail"} & set(frame.columns)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("swclip.gallery.export.pq.write_table", full)
    with pytest.raises(DiskFullError):
        export_points(store, tmp_path / "points.parquet")
    assert len(geopandas.read_parquet(tmp_path / "points.parquet")) == 20
