"""Exclusive locks on folders, also when the holder removes the folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from swclip.errors import ConfigError
from swclip.locks import sole_holder


def test_second_holder_is_rejected_until_the_first_releases(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "folder"
    with sole_holder(folder, ConfigError("busy")):
        assert folder.is_dir()
        with pytest.raises(ConfigError, match="busy"), sole_holder(folder, ConfigError("busy")):
            pass
    with sole_holder(folder, ConfigError("busy")):
        pass


def test_locks_the_new_folder_if_the_holder_replaced_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    folder, lock = tmp_path / "folder", fcntl.flock
    calls = []

    def replace_then_lock(handle: int, operation: int) -> None:
        if not calls:  # the holder finishes between opening and locking
            folder.rmdir()
            folder.mkdir()
        calls.append(handle)
        lock(handle, operation)

    monkeypatch.setattr(fcntl, "flock", replace_then_lock)
    with sole_holder(folder, ConfigError("busy")):
        monkeypatch.undo()
        assert len(calls) == 2
        with pytest.raises(ConfigError, match="busy"), sole_holder(folder, ConfigError("busy")):
            pass


def test_runs_unlocked_if_the_folder_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ran = []
    with sole_holder(tmp_path / "file" / "folder", ConfigError("busy")):
        ran.append(True)
    assert ran
