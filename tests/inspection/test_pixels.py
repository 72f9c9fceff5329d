"""Measures of photographs are kept: each photograph is read once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from swclip.data.manifest import Manifest, write_manifest
from swclip.inspection import pixels
from swclip.inspection.pixels import measure_pixels


@pytest.fixture
def album(tmp_path: Path) -> Manifest:
    rng = np.random.default_rng(0)
    names = [f"{number}.png" for number in range(6)]
    for name in names:
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(tmp_path / name)
    (tmp_path / "2.png").write_bytes(b"not a picture")
    frame = pd.DataFrame({"image_id": names, "image_path": names, "lat_deg": 51.5, "lon_deg": np.arange(6) / 1e3})
    return write_manifest(tmp_path, frame)


class Reader:
    """Counts the photographs that are read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        measure = pixels.measure_photograph

        def counted(path: Path) -> object:
            self.names.append(Path(path).name)
            return measure(path)

        monkeypatch.setattr(pixels, "measure_photograph", counted)


def test_photographs_are_read_once_and_bad_ones_are_counted(
    album: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, cache = Reader(monkeypatch), tmp_path / "cache"
    first = measure_pixels(album, range(6), cache=cache)
    assert first.rows.tolist() == [0, 1, 3, 4, 5]
    assert list(first.failures) == [2]
    assert len(set(first.perceptual.tolist())) == 5
    reader.names.clear()
    again = measure_pixels(album, range(6), cache=cache)
    assert reader.names == ["2.png"]  # it may have been repaired
    pd.testing.assert_frame_equal(again.frame, first.frame)
    assert again.perceptual.tolist() == first.perceptual.tolist()
    Image.new("RGB", (4, 4)).save(tmp_path / "2.png")
    Image.new("RGB", (5, 7)).save(tmp_path / "4.png")
    reader.names.clear()
    changed = measure_pixels(album, range(6), cache=cache)
    assert reader.names == ["2.png", "4.png"]
    assert changed.frame["height_px"].tolist() == [20, 20, 4, 20, 7, 20]
    assert changed.failures == {}


def test_an_interrupted_run_resumes(album: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, cache = Reader(monkeypatch), tmp_path / "cache"

    def stop_after_three(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_pixels(album, range(6), cache=cache, workers=1, progress=stop_after_three)
    (kept,) = (cache / "quality").iterdir()
    kept.write_bytes(kept.read_bytes()[:-9])  # a kill cut the last line short
    reader.names.clear()
    counts: list[int] = []
    measured = measure_pixels(album, range(6), cache=cache, progress=lambda done, total: counts.append(done))
    assert reader.names == ["1.png", "2.png", "3.png", "4.png", "5.png"]
    assert counts[0] == 1
    assert len(measured.frame) == 5
    reader.names.clear()
    measure_pixels(album, range(6), cache=cache)
    assert reader.names == ["2.png"]


def test_a_sample_reads_its_rows_alone(album: Manifest, tmp_path: Path) -> None:
    measured = measure_pixels(album, [1, 5], cache=tmp_path / "cache")
    assert (measured.rows.tolist(), measured.chosen) == ([1, 5], 2)
