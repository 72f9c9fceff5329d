"""Names of photographs from folders, glob patterns, lists in several formats, and the standard input."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swclip.data.manifest import read_manifest, write_manifest
from swclip.data.pack import pack
from swclip.errors import ConfigError, InputError
from swclip.imaging.photograph_file import photograph_bytes
from swclip.ingest.file_names import stated_name
from swclip.ingest.named_photographs import (
    digest_of_names,
    join_names,
    named_photographs,
    read_name_list,
    split_names,
)

NAMES = st.lists(st.binary(min_size=1, max_size=8).filter(lambda name: b"\0" not in name).map(os.fsdecode), min_size=1)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of photographs (by name) and other files at several depths."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "in/b.jpg",
        "in/a/z.PNG",
        "in/a.jpg",
        "in/a/deep/er/1.heic",
        "in/notes.txt",
        "in/._b.jpg",
        "in/.git/c.jpg",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "in" / "link.jpg").symlink_to(tmp_path / "in" / "b.jpg")
    (tmp_path / "in" / "round").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "broken.jpg").symlink_to(tmp_path / "nowhere")
    return tmp_path


def test_folders_are_searched_recursively_in_path_order(folder: Path) -> None:
    # The broken link is listed too: decoding it says why it cannot be read.
    expected = ["in/a/deep/er/1.heic", "in/a/z.PNG", "in/a.jpg", "in/b.jpg", "in/broken.jpg", "in/link.jpg"]
    assert named_photographs(["in"]) == expected
    assert named_photographs(["./in/"]) == expected
    assert expected == [name for name in map(str, sorted(Path("in").rglob("*"))) if name in expected]
    assert named_photographs([str(folder / "in")]) == [str(folder / name) for name in expected]
    os.chdir("in/a")
    assert named_photographs(["."]) == ["deep/er/1.heic", "z.PNG"]
    assert named_photographs([".", "z.PNG"]) == ["deep/er/1.heic", "z.PNG", "z.PNG"], "repeated names are kept"


def test_rejects_unreadable_folders(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def deny_deep(path: str) -> object:
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", deny_deep)
    with pytest.raises(InputError, match=r"in/a/deep: the folder cannot be searched \(Permission denied\)"):
        named_photographs(["in"])


@given(names=NAMES)
def test_name_files_round_trip(names: list[str]) -> None:
    assert split_names(join_names(names)) == names


@given(names=NAMES)
def test_digest_depends_on_names_and_order(names: list[str]) -> None:
    assert digest_of_names(names) == digest_of_names(list(names))
    assert digest_of_names([*names, "more"]) != digest_of_names(names)
    if names != names[::-1]:
        assert digest_of_names(names[::-1]) != digest_of_names(names)
    assert digest_of_names(["ab", "c"]) != digest_of_names(["a", "bc"])


def test_reads_a_list_of_lines(folder: Path) -> None:
    Path("list").write_bytes(b"in/b.jpg\r\n\r\nin/a b.jpg\n/caf\xe9.jpg")
    assert read_name_list(Path("list")) == ["in/b.jpg", "in/a b.jpg", "/caf\udce9.jpg"]
    assert named_photographs(["in/a.jpg"], Path("list"))[:2] == ["in/a.jpg", "in/b.jpg"]
    Path("empty").write_bytes(b"\n\n")
    for name, message in (("empty", "names no photographs"), ("nowhere", "cannot be read")):
        with pytest.raises(InputError, match=message):
            read_name_list(Path(name))
    with pytest.raises(InputError, match="asks for a table"):
        read_name_list(Path("list"), "photo")


def csv(path: Path) -> None:
    path.write_text("city,Photo,lat\nLeeds,b.jpg,53.8\nYork,/abs/c.jpg,\n")


def parquet(path: Path) -> None:
    pd.DataFrame({"city": ["Leeds", "York"], "Photo": ["b.jpg", "/abs/c.jpg"]}).to_parquet(path)


@pytest.mark.parametrize(("name", "make"), [("t.csv", csv), ("t.parquet", parquet)])
def test_names_in_a_table_are_relative_to_its_folder(name: str, make: Callable[[Path], None], folder: Path) -> None:
    make(folder / "in" / name)
    assert read_name_list(Path("in") / name) == ["in/b.jpg", "/abs/c.jpg"]
    assert read_name_list(Path("in") / name, "city") == ["in/Leeds", "in/York"]
    os.chdir("in")
    assert read_name_list(Path(name)) == ["b.jpg", "/abs/c.jpg"]


def test_reads_names_from_a_manifest(folder: Path) -> None:
    rows = {"image_id": ["1", "2"], "image_path": ["in/b.jpg", "in/a.jpg"], "lat_deg": [53.8, 53.9], "lon_deg": -1.5}
    manifest = write_manifest(folder, pd.DataFrame(rows))
    names = named_photographs([], folder / "manifest.parquet")
    assert [Path(name).resolve() for name in names] == [path.resolve() for path in manifest.image_paths]


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("x,y\n1,2\n", None, "no column of photographs was found among 'x' and 'y'; name it: --list-column"),
        ("photo,image\na,b\n", None, "--list-column photo"),
        ("photo\na.jpg\n \n", "picture", "--list-column picture: there is no such column; .*'photo'"),
        ("photo,lat\na.jpg,1\n,2\n", None, "row 3, column 'photo': '': the cell is empty"),
        ("photo,lat\na.jpg,1\nb.jpg\n", None, "row 3: has 1 fields, the header has 2"),
    ],
)
def test_rejects_ambiguous_and_malformed_tables(text: str, column: str | None, message: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_name_list(tmp_path / "t.csv", column)


class _Piped(io.TextIOWrapper):
    """A standard input that is a pipe, or a terminal."""

    def __init__(self, data: bytes, terminal: bool = False) -> None:
        super().__init__(io.BytesIO(data))
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def test_reads_names_from_the_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    for data in (b"b.jpg\nc.jpg\n", b"b.jpg\0c.jpg\0"):
        monkeypatch.setattr(sys, "stdin", _Piped(data))
        assert named_photographs(["a.jpg", "-", "d.jpg"]) == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    monkeypatch.setattr(sys, "stdin", _Piped(b""))
    with pytest.raises(InputError, match="the standard input names no photographs"):
        named_photographs(["-"])
    monkeypatch.setattr(sys, "stdin", _Piped(b"", terminal=True))
    with pytest.raises(InputError, match="is a terminal"):
        named_photographs(["-"])


def test_rejects_arguments_without_photographs() -> None:
    with pytest.raises(ConfigError, match="no photographs were named"):
        named_photographs([])
    with pytest.raises(ConfigError, match="goes with --list"):
        named_photographs(["a.jpg"], None, "photo")
    with pytest.raises(ConfigError, match=r"--restrat: there is no such option .* is \./--restrat"):
        named_photographs(["a.jpg", "--restrat"])


@given(name=st.binary(min_size=1, max_size=12))
def test_stated_name_is_valid_text(name: bytes) -> None:
    stated = stated_name(os.fsdecode(name))
    assert stated.encode("utf-8")
    if name.isascii():
        assert stated == name.decode()


def test_a_packed_data_set_names_its_photographs(town: Path, tmp_path: Path) -> None:
    manifest = read_manifest(town)
    packed = pack(manifest, tmp_path / "packed")
    names = read_name_list(tmp_path / "packed")
    assert names == [str(path) for path in packed.image_paths]
    assert photograph_bytes(names[3]) == manifest.image_paths[3].read_bytes()
    with pytest.raises(InputError, match="--list-column"):
        read_name_list(tmp_path / "packed", "image_path")
