"""`swclip prepare`: table, notes, messages and exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swclip.cli.prepare import ColumnOptions, prepare
from swclip.data.manifest import read_manifest


def photograph(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)


def test_output_has_counts_notes_and_the_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photograph(tmp_path / "[bold]a.jpg", 0)
    photograph(tmp_path / "b.jpg", 1)
    (tmp_path / "[bold]c.jpg").touch()
    source = tmp_path / "t.csv"
    source.write_text(
        "file,lat,lon,when\n[bold]a.jpg,51.5,-0.1,03/04/2019\nb.jpg,51.6,-0.1,\n[bold]c.jpg,51.7,-0.1,\nd.jpg,51.7,-0.1,\n"
    )
    prepare(source, out=tmp_path / "out", columns=ColumnOptions(time_column="when"), city="London")
    printed = capsys.readouterr()
    assert printed.out == f"{tmp_path / 'out/manifest.parquet'}\n"
    for text in (
        "t.csv: 4 rows",
        "rejected: empty",
        "row 4: [bold]c.jpg",
        "rejected: missing",
        "Note: time-ambiguous (1)",
    ):
        assert text in printed.err
    assert read_manifest(tmp_path / "out").frame["city"].tolist() == ["London", "London"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: there is no such file or folder"),
        (["empty"], "empty: holds no photographs"),
        (["swapped.csv"], '--lat-column "lon" --lon-column "lat"'),
    ],
)
def test_invalid_input_is_refused(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "swapped.csv").write_text("image,lat,lon\na.jpg,114.4,30.5\n")
    command = [
        sys.executable,
        "-c",
        "import sys, swclip.cli.app as app; sys.exit(app.main())",
        "prepare",
        *arguments,
        "--out",
        "out",
    ]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert process.returncode == 2
    assert message in " ".join(process.stderr.split())
    assert "Traceback" not in process.stderr
    assert process.stdout == ""
    assert not (tmp_path / "out").exists()
