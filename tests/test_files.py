"""Artefacts are whole or not there, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from swclip.errors import ArtefactError, DiskFullError, InputError
from swclip.files import atomic_file, atomic_folder, read_json, sha256_of_file, write_json


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def test_a_file_takes_its_place_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "table.parquet"
    with atomic_file(target) as beside:
        assert beside.parent == target.parent, "another file system could not be renamed from"
        assert beside.suffix == ".parquet", "writers choose the format by the suffix"
        beside.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert names(target.parent) == ["table.parquet"]


def _write_half(path: Path, error: BaseException) -> None:
    with atomic_file(path) as beside:
        beside.write_text("half")
        raise error


def _full_device() -> OSError:
    """The kernel's own "no space left on device", from the device that is always full."""
    # Opened without O_CREAT and never by name through a library: a writer that tidies up would delete the device.
    if not (os.path.exists("/dev/full") and stat.S_ISCHR(os.stat("/dev/full").st_mode)):
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    descriptor = os.open("/dev/full", os.O_WRONLY)
    try:
        os.write(descriptor, b"x")
    except OSError as error:
        return error
    finally:
        os.close(descriptor)
    raise AssertionError("/dev/full took a byte")


@pytest.mark.parametrize("error", [RuntimeError("stop"), PermissionError(errno.EACCES, "no"), KeyboardInterrupt()])
def test_an_error_passes_and_leaves_the_file_as_it_was(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "a.txt"
    target.write_text("before")
    with pytest.raises(type(error)) as caught:
        _write_half(target, error)
    assert caught.value is error
    assert target.read_text() == "before"
    assert names(tmp_path) == ["a.txt"]


def test_a_full_disk_leaves_the_file_as_it_was_and_says_so(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("before")
    with pytest.raises(DiskFullError, match=r"a\.txt: the disk is full.*free some space") as caught:
        _write_half(target, _full_device())
    assert caught.value.exit_code == 6
    assert target.read_text() == "before"
    assert names(tmp_path) == ["a.txt"]


def test_a_full_quota_is_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(DiskFullError), atomic_folder(tmp_path / "run", "model"):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
    assert names(tmp_path) == []


def test_a_disk_full_before_the_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tempfile.mkstemp", full)
    monkeypatch.setattr("tempfile.mkdtemp", full)
    with pytest.raises(DiskFullError, match=r"a\.txt"), atomic_file(tmp_path / "a.txt"):
        pytest.fail("nothing can be written")
    with pytest.raises(DiskFullError, match=r"run"), atomic_folder(tmp_path / "run", "model"):
        pytest.fail("nothing can be written")


def test_somebody_elses_folder_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.jpg").write_text("mine")
    with (
        pytest.raises(InputError, match="photos: is there and holds no model"),
        atomic_folder(tmp_path / "photos", "model"),
    ):
        pytest.fail("nothing can be written")
    assert names(tmp_path / "photos") == ["mine.jpg"]


def _any_folder(path: Path) -> object:
    return atomic_folder(path, "model")


@pytest.mark.parametrize("writer", [atomic_file, _any_folder])
def test_a_folder_that_cannot_be_is_the_users_to_mend(tmp_path: Path, writer: object) -> None:
    (tmp_path / "file").write_text("")
    below = writer(tmp_path / "file" / "below")  # type: ignore[operator]
    with pytest.raises(InputError, match=r"cannot write there.*choose another output"), below:
        pytest.fail("nothing can be written")


def test_a_folder_takes_the_place_of_the_old_one_whole(tmp_path: Path) -> None:
    target = tmp_path / "run"
    for words in (["model", "gone"], ["model", "new"]):
        with atomic_folder(target, "model") as beside:
            for word in words:
                (beside / word).write_text(word)
    assert names(target) == ["model", "new"]
    assert names(tmp_path) == ["run"]


def _fill_half(path: Path) -> None:
    with atomic_folder(path, "model") as beside:
        (beside / "model").write_text("half")
        raise _full_device()


def test_an_error_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "run"
    with atomic_folder(target, "model") as beside:
        (beside / "model").write_text("old")
    with pytest.raises(DiskFullError, match="run: the disk is full"):
        _fill_half(target)
    assert (target / "model").read_text() == "old"
    assert names(tmp_path) == ["run"]


def test_an_interrupt_leaves_nothing_behind(tmp_path: Path) -> None:
    for writer in (atomic_file, _any_folder):
        with pytest.raises(KeyboardInterrupt), writer(tmp_path / "a"):
            raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_a_killed_writer_leaves_no_half_artefact_in_place(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("before")
    code = (
        "import os, signal, sys\n"
        "from swclip.files import atomic_file\n"
        "with atomic_file(sys.argv[1]) as beside:\n"
        "    beside.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.txt")], check=False)
    assert done.returncode == -9
    assert (tmp_path / "a.txt").read_text() == "before"


@pytest.mark.skipif(os.name == "nt", reason="permissions are POSIX")
def test_artefacts_have_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    with umask(0o027):
        with atomic_file(tmp_path / "a.txt") as beside:
            beside.write_text("a")
        with atomic_folder(tmp_path / "run", "model"):
            pass
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o750


def test_json_is_read_back_and_keeps_its_letters(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"city": "Málaga", "shares": [0.5, 1]})
    assert "Málaga" in (tmp_path / "a.json").read_text(encoding="utf-8")
    assert read_json(tmp_path / "a.json", "the report") == {"city": "Málaga", "shares": [0.5, 1]}


def test_a_number_that_json_has_not_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"median": float("nan")})
    assert names(tmp_path) == []


def test_json_that_is_missing_or_cut_short_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"a\.json: the run's report is not there"):
        read_json(tmp_path / "a.json", "the run's report")
    (tmp_path / "a.json").write_text('{"median": 1')
    with pytest.raises(ArtefactError, match=r"a\.json: the run's report cannot be read"):
        read_json(tmp_path / "a.json", "the run's report")
    (tmp_path / "a.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(ArtefactError, match="cannot be read"):
        read_json(tmp_path / "a.json", "the run's report")
    with pytest.raises(ArtefactError, match="cannot be read"):
        read_json(tmp_path, "the run's report")


def test_the_sha256_is_the_published_one(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1.
    assert sha256_of_file(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
