"""Files of swclip with values of the wrong kind: each is a short error, and none a traceback."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from fixtures.models import POSITIONS, tiny_model
from swclip.calibration.conformal import Calibration, read_calibration
from swclip.calibration.posterior_config import PosteriorConfig, read_posterior
from swclip.comparison.reports_on_disk import read_report
from swclip.data.manifest import METADATA_KEY, read_manifest, write_manifest
from swclip.data.splits import indices, read_splits, write_splits
from swclip.errors import ArtefactError, ConfigError, InputError, SwclipError
from swclip.gallery.folder import check_marker
from swclip.gallery.schema import DESCRIPTION_KEY, GALLERY_VERSION, Description
from swclip.ingest.rejections import Ledger
from swclip.ingest.sources import read_source
from swclip.ingest.typed_rows import typed_rows
from swclip.models.locator_model import load_model
from swclip.structure import as_plain, structure
from swclip.training.config import TrainingConfig, load_recipe
from swclip.training.run import RunFacts, data_of_run, read_finished_run

WRONG = [None, [], {}, "", "x", 0, -1, 1e308, True, [[]], {"a": []}, 10**400, ["\ud800"], "\0"]
REMOVED = object()
PLACES = 40


def places(document: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The keys that lead to every value of a document."""
    yield at
    items = (
        document.items()
        if isinstance(document, dict)
        else enumerate(document[:2])
        if isinstance(document, list)
        else ()
    )
    for key, value in items:
        yield from places(value, (*at, key))


def damaged(document: Any) -> Iterator[tuple[tuple[Any, ...], Any, Any]]:
    """The document with values replaced by wrong ones: at the top all of them, at `PLACES` other places one or two."""
    for value in WRONG:
        yield (), value, value
    inner = [place for place in places(document) if place]
    values = [*WRONG, REMOVED]
    for number, place in enumerate(inner[:: -(-len(inner) // PLACES)]):
        for turn in range(2 if len(inner) < PLACES / 2 else 1):
            value = values[(7 * number + turn) % len(values)]
            yield place, value, _put(document, place, value)


def _put(document: Any, place: tuple[Any, ...], value: Any) -> Any:
    changed = copy.deepcopy(document)
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    if value is REMOVED:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return changed


def check_all(document: Any, read: Callable[[Any], object]) -> None:
    """Read every damaged form of a document, and collect the errors that are no `SwclipError`."""
    faults, refused = [], 0
    for place, value, form in damaged(document):
        try:
            read(form)
        except SwclipError:
            refused += 1
        except Exception as error:
            faults.append(f"{place} = {str(value)[:30]}: {error!r}"[:200])
    assert faults == []
    assert refused >= len(WRONG) / 2, "most documents that are no document are refused"


def through_file(path: Path, read: Callable[[], object], form: Any) -> None:
    path.write_text(json.dumps(form))
    read()


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a tiny model, its posterior, its regions and its record."""
    folder = tmp_path_factory.mktemp("run")
    tiny_model(POSITIONS).save(folder / "model")
    regions = Calibration(np.array([0.1, 0.5]), ("Leeds", None), 8, 20.0, np.array([0, 1]))
    values = {"posterior.json": PosteriorConfig().to_dict(), "regions.json": regions.to_dict()}
    for name, value in values.items():
        (folder / "model" / name).write_text(json.dumps(value))
    (folder / "run.json").write_text(
        json.dumps(asdict(RunFacts("data", "m", "splits.parquet", "sw-clip", 0, "finished")))
    )
    return folder


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("model/config.json", load_model),
        ("model/preprocess.json", load_model),
        ("model/posterior.json", read_posterior),
        ("model/regions.json", read_calibration),
        ("run.json", lambda folder: data_of_run(folder, read_finished_run(folder))),
    ],
)
def test_files_of_a_run(
    name: str, read: Callable[[Path], object], run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    whole = (run_folder / name).read_text()
    try:
        check_all(json.loads(whole), partial(through_file, run_folder / name, lambda: read(run_folder)))
    finally:
        (run_folder / name).write_text(whole)


def test_report(made_up: Any, saved: Any, tmp_path: Path) -> None:
    folder = Path(saved(made_up(1), tmp_path / "report"))
    document = json.loads((folder / "report.json").read_text())
    check_all(document, partial(through_file, folder / "report.json", lambda: read_report(folder)))


def test_gallery(tmp_path: Path) -> None:
    marker = {"format": "swclip gallery", "version": GALLERY_VERSION, "table": "entries.lance"}
    check_all(marker, partial(through_file, tmp_path / "gallery.json", lambda: check_marker(str(tmp_path))))

    def read(form: Any) -> None:
        Description.from_schema(pa.schema([], metadata={DESCRIPTION_KEY: json.dumps(form)}), "g").check_model(
            "a", "b", "c"
        )

    check_all({"version": GALLERY_VERSION, **vars(Description("tiny-0", 12, meta={"posterior": None}))}, read)


def test_recipe() -> None:
    check_all(as_plain(load_recipe("sw-clip")), lambda form: structure(TrainingConfig, form, "recipe.toml"))


@pytest.mark.parametrize("text", ["base = []", "base = 5", "model = []", 'model = "x"', "steps = {}", "steps = 1e400"])
def test_recipe_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(text)
    with pytest.raises(ConfigError):
        load_recipe(tmp_path / "recipe.toml")


def test_geojson(tmp_path: Path) -> None:
    point = {"type": "Point", "coordinates": [1.5, 2.5]}
    properties = {"image": "a.jpg", "heading": 1.5, "time": "2014-11-05", "map": "a.jpg", "accuracy": 5, "more": [1]}
    document = {
        "type": "FeatureCollection",
        "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}},
        "features": [{"type": "Feature", "id": "x", "properties": properties, "geometry": point}],
    }

    def read() -> None:
        typed_rows(read_source(tmp_path / "t.geojson"), Ledger("t.geojson"))

    check_all(document, partial(through_file, tmp_path / "t.geojson", read))


@pytest.fixture
def data_folder(tmp_path: Path) -> Path:
    """A manifest of two photographs and its splits."""
    rows = {"image_id": ["a", "b"], "image_path": ["a.jpg", "b.jpg"], "lat_deg": [1.0, 2.0], "lon_deg": [1.0, 2.0]}
    manifest = write_manifest(tmp_path, pd.DataFrame(rows))
    candidates = {"candidate_id": "c", "lat_deg": 1.0, "lon_deg": 1.0, "city": "x", "for_val": True, "for_query": True}
    write_splits(
        tmp_path / "splits.parquet",
        pd.DataFrame({"image_id": ["a", "b"], "split": ["train", "query"], "block_id": None}),
        pd.DataFrame([{**candidates, "image_ids": ["a"]}]),
        {"protocol": "known-places", "seed": 1, "parameters": {}, "manifest_digest": manifest.digest},
    )
    return tmp_path


def use(folder: Path) -> None:
    """Read manifest and splits, and what the steps use of them."""
    manifest = read_manifest(folder)
    for value in (manifest.image_paths, manifest.map_paths, manifest.captions, manifest.digest, manifest.accuracy_m):
        assert value is not None
    assert manifest.frame["heading_deg"].dtype == np.float64
    assert manifest.frame["captured_at"].dtype == np.dtype("datetime64[ms]")
    indices(read_splits(folder), manifest, "train")


@pytest.mark.parametrize("name", ["manifest.parquet", "splits.parquet"])
def test_metadata_of_tables(name: str, data_folder: Path) -> None:
    table = parquet.read_table(data_folder / name)
    (key,) = [key for key in table.schema.metadata if key.startswith(b"swclip")]

    def read(form: Any) -> None:
        metadata = {**table.schema.metadata, key: json.dumps(form)}
        parquet.write_table(table.replace_schema_metadata(metadata), data_folder / name)
        use(data_folder)

    use(data_folder)
    check_all(json.loads(table.schema.metadata[key]), read)


KINDS: dict[str, Any] = {
    "integer": 1,
    "text": "x",
    "bytes": b"x",
    "list": [1],
    "record": {"a": 1},
    "true": True,
    "null": None,
    "infinite": float("inf"),
    "zero byte": "\0",
}


@pytest.mark.parametrize("name", ["manifest.parquet", "splits.parquet", "splits.candidates.parquet"])
def test_columns_of_another_type(name: str, data_folder: Path) -> None:
    table = parquet.read_table(data_folder / name)
    for at, column in enumerate(table.column_names):
        for kind, value in KINDS.items():
            other = table.set_column(at, column, pa.array([value] * len(table)))
            parquet.write_table(other.replace_schema_metadata(table.schema.metadata), data_folder / name)
            try:
                use(data_folder)
            except SwclipError:
                continue
            except Exception as error:
                pytest.fail(f"{column}, {kind}: {error!r}")


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        pytest.param("lat_deg", None, r"has 2 columns 'lat_deg'", id="twice"),
        pytest.param(
            "image_path", ["a\0.jpg", "b.jpg"], r"row 0: image_path 'a\\x00\.jpg' contains a zero byte", id="zero"
        ),
        pytest.param("heading_deg", ["north", None], "'heading_deg' is of type string, not double", id="type"),
    ],
)
def test_manifest_columns(column: str, values: list[Any] | None, message: str, data_folder: Path) -> None:
    path = data_folder / "manifest.parquet"
    table = parquet.read_table(path)
    at = table.column_names.index(column)
    if values is None:
        changed = table.append_column(column, table.column(at))
    else:
        changed = table.set_column(at, column, pa.array(values))
    assert METADATA_KEY in table.schema.metadata
    parquet.write_table(changed.replace_schema_metadata(table.schema.metadata), path)
    with pytest.raises(ArtefactError, match=message):
        read_manifest(path)


def test_json_that_is_nested_too_deeply(tmp_path: Path) -> None:
    depth = 100 * sys.getrecursionlimit()
    (tmp_path / "gallery.json").write_text("[" * depth + "]" * depth)
    with pytest.raises(ArtefactError, match="cannot be read"):
        check_marker(str(tmp_path))
    (tmp_path / "t.geojson").write_text("[" * depth + "]" * depth)
    with pytest.raises(InputError, match="cannot be read as GeoJSON"):
        read_source(tmp_path / "t.geojson")
