"""A manifest that is written in parts is the manifest that is written at once."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from swclip.data.manifest import read_manifest, write_manifest
from swclip.data.manifest_parts import write_manifest_parts
from swclip.errors import InputError


def table() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "image_id": [f"p{n}" for n in range(7)],
            "image_path": [f"images/p{n}.jpg" for n in range(7)],
            "lat_deg": rng.uniform(53, 54, 7),
            "lon_deg": rng.uniform(-2, -1, 7),
            "captured_at": pd.date_range("2024-01-01", periods=7).to_pydatetime(),
            "author": [None, None, None, "ada", None, "bo", None],
            "camera": [None] * 6 + ["fisheye"],
        }
    )


def test_parts_and_whole_are_equal(tmp_path: Path) -> None:
    frame = table()
    parts = (frame.iloc[start : start + 3].reset_index(drop=True) for start in (0, 3, 6))
    assert write_manifest_parts(tmp_path / "parts", parts, {"camera": pa.string()}, made_with={"seed": 1}) == 7
    whole = write_manifest(tmp_path / "whole", frame, made_with={"seed": 1})
    in_parts = read_manifest(tmp_path / "parts")
    pd.testing.assert_frame_equal(in_parts.frame, whole.frame)
    assert in_parts.digest == whole.digest
    one, other = (geopandas.read_parquet(tmp_path / name / "manifest.parquet") for name in ("parts", "whole"))
    assert (one.total_bounds == other.total_bounds).all()
    assert one.crs == other.crs


def test_an_invalid_row_leaves_no_file(tmp_path: Path) -> None:
    frame = table()
    frame.loc[4, "lat_deg"] = 91.0
    with pytest.raises(InputError, match="rows from 3, row 1: the position"):
        write_manifest_parts(tmp_path, (frame.iloc[:3], frame.iloc[3:].reset_index(drop=True)), {"camera": pa.string()})
    assert not list(tmp_path.iterdir())
