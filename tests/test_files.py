"""Atomic writes: artefacts are complete or absent, whatever happens during the write."""

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
from swclip.files import (
    atomic_file,
    atomic_folder,
    check_replaceable,
    found_path,
    read_json,
    remove_all_remains,
    remove_remains,
    sha256_of_file,
    stated_path,
    write_json,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def test_file_appears_when_complete(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "table.parquet"
    with atomic_file(target) as temporary:
        assert temporary.parent.parent == target.parent, "renaming needs the same file system"
        assert temporary.name == "table.parquet", "some writers choose the format by the suffix"
        temporary.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert names(target.parent) == ["table.parquet"]


def _write_half(path: Path, error: BaseException) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text("half")
        raise error


def _full_device() -> OSError:
    """Return the kernel's error "no space left on device", from the device that is always full."""
    # Opened directly and without O_CREAT: a library that cleans up after errors would delete the device.
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
def test_errors_propagate_and_keep_the_old_file(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "a.txt"
    target.write_text("before")
    with pytest.raises(type(error)) as raised:
        _write_half(target, error)
    assert raised.value is error
    assert target.read_text() == "before"
    assert names(tmp_path) == ["a.txt"]


def test_full_disk_raises_and_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("before")
    with pytest.raises(DiskFullError, match=r"a\.txt: the disk is full.*free some space") as raised:
        _write_half(target, _full_device())
    assert raised.value.exit_code == 6
    assert target.read_text() == "before"
    assert names(tmp_path) == ["a.txt"]


def test_full_quota_raises_disk_full_error(tmp_path: Path) -> None:
    with pytest.raises(DiskFullError), atomic_folder(tmp_path / "run", "model"):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
    assert names(tmp_path) == []


def test_disk_full_before_the_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.mkdir", full)
    with pytest.raises(DiskFullError, match=r"a\.txt"), atomic_file(tmp_path / "a.txt"):
        pytest.fail("nothing can be written")
    with pytest.raises(DiskFullError, match=r"run"), atomic_folder(tmp_path / "run", "model"):
        pytest.fail("nothing can be written")


def test_folder_without_marker_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.jpg").write_text("mine")
    with (
        pytest.raises(InputError, match="photos: exists and contains no model"),
        atomic_folder(tmp_path / "photos", "model"),
    ):
        pytest.fail("nothing can be written")
    assert names(tmp_path / "photos") == ["mine.jpg"]


def _any_folder(path: Path) -> object:
    return atomic_folder(path, "model")


@pytest.mark.parametrize("writer", [atomic_file, _any_folder])
def test_rejects_paths_that_cannot_be_written(tmp_path: Path, writer: object) -> None:
    (tmp_path / "file").write_text("")
    below = writer(tmp_path / "file" / "below")  # type: ignore[operator]
    with pytest.raises(InputError, match=r"cannot write there.*choose another output"), below:
        pytest.fail("nothing can be written")


def test_folder_replaces_the_old_one_completely(tmp_path: Path) -> None:
    target = tmp_path / "run"
    for contents in (["model", "gone"], ["model", "new"]):
        with atomic_folder(target, "model") as temporary:
            for name in contents:
                (temporary / name).write_text(name)
    assert names(target) == ["model", "new"]
    assert names(tmp_path) == ["run"]


def _fill_half(path: Path) -> None:
    with atomic_folder(path, "model") as temporary:
        (temporary / "model").write_text("half")
        raise _full_device()


def test_errors_keep_the_old_folder(tmp_path: Path) -> None:
    target = tmp_path / "run"
    with atomic_folder(target, "model") as temporary:
        (temporary / "model").write_text("old")
    with pytest.raises(DiskFullError, match="run: the disk is full"):
        _fill_half(target)
    assert (target / "model").read_text() == "old"
    assert names(tmp_path) == ["run"]


def test_interrupt_leaves_no_files(tmp_path: Path) -> None:
    for writer in (atomic_file, _any_folder):
        with pytest.raises(KeyboardInterrupt), writer(tmp_path / "a"):
            raise KeyboardInterrupt
    assert names(tmp_path) == []


_PROCESS = """
import os, signal, sys
from pathlib import Path
from swclip.files import atomic_file, atomic_folder

kind, target, after = sys.argv[1:]
if after == "swap":  # killed when the old folder is moved aside
    replace = Path.replace
    def killed(self, other):
        replace(self, other)
        os.kill(os.getpid(), signal.SIGKILL)
    Path.replace = killed
with (atomic_file(target) if kind == "file" else atomic_folder(target, "model")) as beside:
    (beside if kind == "file" else beside / "model").write_text(after)
    if after == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if after == "wait":
        print("writing", flush=True)
        sys.stdin.readline()
"""


def _killed(kind: str, target: Path, after: str = "kill") -> None:
    done = subprocess.run([sys.executable, "-c", _PROCESS, kind, str(target), after], check=False)
    assert done.returncode == -9


def _write(kind: str, target: Path, text: str) -> None:
    with atomic_file(target) if kind == "file" else atomic_folder(target, "model") as beside:
        (beside if kind == "file" else beside / "model").write_text(text)


def _read(kind: str, target: Path) -> str:
    return (target if kind == "file" else target / "model").read_text()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_remains_of_a_killed_writer_go_with_the_next_write(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "a.b"
    _write(kind, target, "before")
    _killed(kind, target)
    assert _read(kind, target) == "before"
    assert names(tmp_path) == [".a.b.swclip-1", "a.b"]
    _write(kind, tmp_path / "a", "another target")
    assert names(tmp_path) == [".a.b.swclip-1", "a", "a.b"]
    _write(kind, target, "after")
    assert _read(kind, target) == "after"
    assert names(tmp_path) == ["a", "a.b"]


def test_remains_go_before_the_computation(tmp_path: Path) -> None:
    _killed("folder", tmp_path / "gallery")
    assert names(tmp_path) == [".gallery.swclip-1"]
    check_replaceable(tmp_path / "gallery", "model")
    assert names(tmp_path) == []


def test_folder_that_was_moved_aside_by_a_killed_writer_is_moved_back(tmp_path: Path) -> None:
    target = tmp_path / "gallery"
    _write("folder", target, "before")
    _killed("folder", target, "swap")
    assert not target.exists()
    check_replaceable(target, "model")
    assert _read("folder", target) == "before"
    assert names(tmp_path) == ["gallery"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_running_process_writes_is_kept(tmp_path: Path, kind: str) -> None:
    target, pipe = tmp_path / "a", subprocess.PIPE
    command = [sys.executable, "-c", _PROCESS, kind, str(target), "wait"]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        remove_remains(target)
        remove_all_remains(tmp_path)
        _write(kind, target, "second")  # beside the first
        assert _read(kind, target) == "second"
        assert names(tmp_path) == [".a.swclip-1", "a"]
        process.communicate("go on\n")
    assert process.returncode == 0
    assert _read(kind, target) == "wait"
    assert names(tmp_path) == ["a"]


def test_remains_of_all_targets_go(tmp_path: Path) -> None:
    (tmp_path / ".hidden").mkdir()
    _killed("file", tmp_path / "a")
    _killed("folder", tmp_path / "b")
    remove_all_remains(tmp_path)
    assert names(tmp_path) == [".hidden"]


def test_without_locks_nothing_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    _killed("file", tmp_path / "a")
    monkeypatch.setattr(fcntl, "flock", unsupported)
    _write("file", tmp_path / "a", "whole")
    assert (tmp_path / "a").read_text() == "whole"
    assert names(tmp_path) == [".a.swclip-1", "a"]
    assert names(tmp_path / ".a.swclip-1") == ["a"]


def test_the_working_directory_can_be_the_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    _write("folder", Path("."), "here")
    assert _read("folder", tmp_path / "run") == "here"


@pytest.mark.skipif(os.name == "nt", reason="permissions are POSIX")
def test_artefacts_have_the_permissions_of_new_files(tmp_path: Path) -> None:
    with umask(0o027):
        with atomic_file(tmp_path / "a.txt") as temporary:
            temporary.write_text("a")
        with atomic_folder(tmp_path / "run", "model"):
            pass
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o750


def test_json_round_trip_keeps_unicode(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"city": "Málaga", "shares": [0.5, 1]})
    assert "Málaga" in (tmp_path / "a.json").read_text(encoding="utf-8")
    assert read_json(tmp_path / "a.json", "the report") == {"city": "Málaga", "shares": [0.5, 1]}


def test_rejects_nan_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"median": float("nan")})
    assert names(tmp_path) == []


def test_missing_or_truncated_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"a\.json: the run's report is missing"):
        read_json(tmp_path / "a.json", "the run's report")
    (tmp_path / "a.json").write_text('{"median": 1')
    with pytest.raises(ArtefactError, match=r"a\.json: the run's report cannot be read"):
        read_json(tmp_path / "a.json", "the run's report")
    (tmp_path / "a.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(ArtefactError, match="cannot be read"):
        read_json(tmp_path / "a.json", "the run's report")
    with pytest.raises(ArtefactError, match="cannot be read"):
        read_json(tmp_path, "the run's report")


def test_sha256_matches_the_published_value(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1.
    assert sha256_of_file(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_stated_paths_hold_no_folder_of_this_machine_and_are_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home" / "ada"
    for folder in (home / "work" / "runs", home / "data"):
        folder.mkdir(parents=True)
        (folder / "manifest.parquet").touch()
    monkeypatch.chdir(home / "work")
    monkeypatch.setenv("HOME", str(home))
    assert stated_path("runs/manifest.parquet") == "runs/manifest.parquet"
    assert stated_path(home / "work" / "runs" / "manifest.parquet") == "runs/manifest.parquet"
    assert stated_path(home / "data" / "manifest.parquet") == "data/manifest.parquet"
    assert stated_path(home / "manifest.parquet") == "manifest.parquet"
    assert found_path("runs/manifest.parquet") == home / "work" / "runs" / "manifest.parquet"
    assert found_path("data/manifest.parquet") == home / "data" / "manifest.parquet"
    assert found_path("nowhere/manifest.parquet") == Path("nowhere/manifest.parquet")
    monkeypatch.chdir("/")
    assert stated_path(home / "data" / "manifest.parquet") == "data/manifest.parquet"
