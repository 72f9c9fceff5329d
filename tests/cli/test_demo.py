"""The demo with few steps: every command runs, and the output files exist."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from swclip.cli.app import run


def test_demo_writes_its_output_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    assert run(["demo", "--out", str(out), "--photos-per-city", "16", "--steps", "3"]) == 0
    document = json.loads((out / "benchmark" / "benchmark.json").read_text())
    assert list(document["systems"]) == ["nearest-neighbour", "nearest-neighbour-whitened", "clip", "sw-clip"]
    for system in document["systems"].values():
        assert {"seeds", "mean"} <= set(system)
        assert system["mean"]["n_queries"] > 0
        assert system["mean"]["baselines"]["floor"]["median"] <= system["mean"]["error_m"]["median"]
    for name in ("benchmark/benchmark.html", "gallery/gallery.json", "query.jpg", "located.png"):
        assert (out / name).stat().st_size > 0
    shown = capfd.readouterr().err
    assert "$ swclip benchmark" in shown
    assert "from the true position" in shown
