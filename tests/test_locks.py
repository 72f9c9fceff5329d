"""A folder is held by one at a time, also when it is taken away while somebody waits for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from swclip.errors import ConfigError
from swclip.locks import sole_holder


def test_a_second_holder_is_refused_until_the_first_lets_go(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "folder"
    with sole_holder(folder, ConfigError("busy")):
        assert folder.is_dir()
        with pytest.raises(ConfigError, match="busy"), sole_holder(folder, ConfigError("busy")):
            pass
    with sole_holder(folder, ConfigError("busy")):
        pass


def test_a_folder_that_was_taken_away_and_made_again_is_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    folder, lock = tmp_path / "folder", fcntl.flock
    calls = []

    def late(handle: int, how: int) -> None:
        if not calls:  # who held it finishes between our opening the folder and our locking it
            folder.rmdir()
            folder.mkdir()
        calls.append(handle)
        lock(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with sole_holder(folder, ConfigError("busy")):
        monkeypatch.undo()
        assert len(calls) == 2
        with pytest.raises(ConfigError, match="busy"), sole_holder(folder, ConfigError("busy")):
            pass


def test_where_nothing_can_be_made_the_block_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ran = []
    with sole_holder(tmp_path / "file" / "folder", ConfigError("busy")):
        ran.append(True)
    assert ran
