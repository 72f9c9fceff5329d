"""Publishable facts on the training data: counts, widened boxes, dates, licences."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swclip.data.manifest import Manifest, read_manifest, write_manifest
from swclip.data.splits import Splits, read_splits, write_splits
from swclip.errors import ArtefactError, MismatchError
from swclip.hub.provenance import Area, _area, training_data
from swclip.training.run import RunFacts, digest_of_splits


def written(folder: Path, rows: list[dict[str, object]]) -> tuple[Manifest, Splits]:
    frame = pd.DataFrame(rows)
    manifest = write_manifest(folder, frame.drop(columns="split"))
    places = frame[["lat_deg", "lon_deg", "city"]].assign(candidate_id=frame["image_id"], for_val=True, for_query=True)
    splits = write_splits(
        folder / "splits.parquet",
        frame[["image_id", "split"]].assign(block_id=None),
        places.assign(image_ids=[[name] for name in frame["image_id"]]),
        {"protocol": "new-streets", "seed": 0, "parameters": {}, "manifest_digest": manifest.digest},
    )
    return manifest, splits


def facts_of(manifest: Manifest, splits: Splits) -> RunFacts:
    return RunFacts(
        str(manifest.path), manifest.digest, str(splits.path), "clip", 0, "finished",
        splits_digest=digest_of_splits(splits),
    )  # fmt: skip


def row(name: str, lat: float, lon: float, split: str = "train", **more: object) -> dict[str, object]:
    base = {"image_id": name, "image_path": f"{name}.jpg", "lat_deg": lat, "lon_deg": lon, "split": split}
    return {**base, "city": None, "captured_at": pd.NaT, "licence": None, **more}


def test_summarises_only_the_training_split(tmp_path: Path) -> None:
    day = pd.Timestamp
    manifest, splits = written(
        tmp_path,
        [
            row(
                "a",
                53.8012,
                -1.5499,
                city="Leeds",
                captured_at=day("2019-05-02 10:00"),
                licence="CC BY-SA 4.0",
                author="Ada",
                source="Panoramax",
            ),
            row(
                "b",
                53.8191,
                -1.5401,
                city="Leeds",
                captured_at=day("2021-11-30 23:59"),
                licence="CC BY-SA 4.0",
                author="Bo",
            ),
            row("c", -33.8605, 151.205, city="Sydney"),
            row("v", 53.9, -1.0, "val", city="York", captured_at=day("1999-01-01"), licence="secret", author="Eve"),
            row("q", 10.0, 10.0, "query", city="Nowhere", captured_at=day("2030-01-01")),
            row("g", 11.0, 11.0, "gallery", city="Buffer"),
        ],
    )
    data = training_data(facts_of(manifest, splits), tmp_path, None, None)
    assert data is not None
    assert (data.photographs, data.validation, data.protocol) == (3, 1, "new-streets")
    assert (data.first, data.last, data.dated) == ("2019-05-02", "2021-11-30", 2)
    assert data.licences == (("CC BY-SA 4.0", 2), (None, 1))
    assert (data.sources, data.authors) == (((None, 2), ("Panoramax", 1)), 2)
    assert data.areas == (
        Area("Leeds", 2, 53.8, -1.55, 53.82, -1.54),
        Area("Sydney", 1, -33.87, 151.2, -33.86, 151.21),
    )


@given(
    st.lists(st.tuples(st.floats(-90, 90), st.floats(-0.4, 0.4)), min_size=1, max_size=8),
    st.floats(-180, 180),
)
def test_boxes_contain_their_photographs_and_are_rounded(offsets: list[tuple[float, float]], centre: float) -> None:
    lat = np.array([lat for lat, _ in offsets])
    lon = (np.array([centre + lon for _, lon in offsets]) + 180.0) % 360.0 - 180.0
    box = _area(None, np.stack([lat, lon], axis=1))
    assert (box.south_deg <= lat).all()
    assert (lat <= box.north_deg).all()
    width = (box.east_deg - box.west_deg) % 360.0
    assert width <= 0.8 + 0.03, "the narrower of the two boxes"
    assert ((lon - box.west_deg + 1e-9) % 360.0 <= width + 2e-9).all()
    assert box.south_deg < box.north_deg or lat.min() == 90.0
    for edge in (box.south_deg, box.west_deg, box.north_deg, box.east_deg):
        assert edge == pytest.approx(round(edge, 2), abs=1e-9)
    assert -180.0 <= box.west_deg <= 180.0
    assert -180.0 <= box.east_deg <= 180.0


def test_missing_data_are_unknown_and_given_files_must_match(tmp_path: Path) -> None:
    manifest, splits = written(tmp_path / "run", [row("a", 1.0, 1.0), row("b", 1.0, 1.1)])
    other_manifest, other_splits = written(tmp_path / "other", [row("a", 1.0, 1.0), row("c", 1.0, 1.1)])
    facts = facts_of(manifest, splits)
    assert training_data(facts, tmp_path, None, None) is not None
    gone = dataclasses.replace(facts, manifest=str(tmp_path / "gone" / "manifest.parquet"))
    assert training_data(gone, tmp_path, None, None) is None
    assert training_data(gone, tmp_path, manifest.path, None) is not None
    changed = dataclasses.replace(facts, manifest=str(other_manifest.path))
    assert training_data(changed, tmp_path, None, None) is None, "the manifest was replaced"
    with pytest.raises(MismatchError, match="this is not the manifest that"):
        training_data(facts, tmp_path, other_manifest.path, None)
    with pytest.raises(MismatchError, match="these are not the splits that"):
        training_data(facts, tmp_path, None, other_splits.path)
    with pytest.raises(ArtefactError, match="there is no manifest"):
        training_data(facts, tmp_path, tmp_path / "nowhere", None)
    assert read_manifest(manifest.path).digest == facts.manifest_digest
    assert digest_of_splits(read_splits(splits.path)) == facts.splits_digest
