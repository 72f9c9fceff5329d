"""The Python example of the README runs as a script."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.slow
def test_python_example_of_the_readme_runs(tmp_path: Path) -> None:
    section = README.read_text(encoding="utf-8").split("## ... and in Python")[1].split("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    script = tmp_path / "first.py"
    script.write_text(code + "print(similarity.shape)\n", encoding="utf-8")
    environment = {**os.environ, "SWCLIP_CACHE": str(tmp_path / "cache"), "MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *_, answer, shape = done.stdout.splitlines()
    lat, lon, area_km2, cannot_tell = answer.split()
    assert 49.0 < float(lat) < 61.0
    assert -8.0 < float(lon) < 2.0
    assert cannot_tell == "True" or float(area_km2) > 0.0
    assert shape == "(4, 160)"
    for name in (
        "map.png",
        "report/report.html",
        "gallery/gallery.json",
        "runs/first/model",
        "cities/splits.leakage.json",
    ):
        assert (tmp_path / name).exists(), name
