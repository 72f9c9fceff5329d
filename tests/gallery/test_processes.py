"""Real processes: an append that is killed, two that append at once, a reader beside a writer."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from swclip.errors import DiskFullError
from swclip.gallery.filters import EntryFilter
from swclip.gallery.inspect import verify
from swclip.gallery.store import Change, GalleryStore

from .conftest import make_entries, make_store

pytestmark = pytest.mark.slow

KILLS = 8
PER_COMMIT = 64

APPEND = """
import sys
from swclip.gallery.store import Change, GalleryStore
sys.path.insert(0, {tests!r})
from gallery.conftest import make_entries

store = GalleryStore.open(sys.argv[1])
print("ready", flush=True)
start, commits, existing = sys.stdin.readline().split()
start, commits = int(start), int(commits)
for commit in range(start, start + commits):
    entries = make_entries({rows}, prefix=f"q{{commit}}-", seed=commit, lat_deg=[52 + commit * 1e-3] * {rows})
    change = store.append(entries, existing)
    print(commit, change.inserted, flush=True)
"""


def _writer(path: Path) -> subprocess.Popen[str]:
    """A process that waits for the ids to append."""
    code = APPEND.format(tests=str(Path(__file__).parents[1]), rows=PER_COMMIT)
    command = [sys.executable, "-c", code, str(path)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def _append(process: subprocess.Popen[str], start: int, commits: int, existing: str = "skip") -> None:
    """Wait until a process is ready, and let it append."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()[1]
    process.stdin.write(f"{start} {commits} {existing}\n")
    process.stdin.flush()


def _until(process: subprocess.Popen[str], commits: int) -> list[tuple[int, float]]:
    """Wait until a process has committed so often; the number and the time of each."""
    assert process.stdout is not None
    output = []
    for _ in range(commits):
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        output.append((int(line.split()[0]), time.monotonic()))
    return output


def test_an_append_that_is_killed_leaves_whole_commits(tmp_path: Path) -> None:
    """After SIGKILL at random moments during a series of commits, the gallery contains whole commits."""
    path = tmp_path / "gallery"
    make_store(path, make_entries(40))
    generator = np.random.default_rng(11)
    committed = 0
    following = _writer(path)
    for kill in range(KILLS):
        process = following
        if kill + 1 < KILLS:
            following = _writer(path)  # it starts while this one works
        _append(process, committed, 100)
        output = _until(process, int(generator.integers(1, 4)))
        time.sleep(float(generator.uniform(0.0, 1.2)) * (output[-1][1] - output[-2][1] if len(output) > 1 else 0.05))
        process.kill()
        output += [(int(line.split()[0]), 0.0) for line in process.communicate()[0].splitlines()]
        assert process.returncode == -9
        store = GalleryStore.open(path)
        assert verify(store) == []
        extra = store.count() - 40
        assert extra % PER_COMMIT == 0
        # All commits that the process reported are present, and at most the interrupted one in addition.
        assert extra // PER_COMMIT in {output[-1][0] + 1, output[-1][0] + 2}
        committed = extra // PER_COMMIT
        names = set(store.read(["image_id"], EntryFilter(photographs=True))["image_id"].to_pylist())
        assert {f"q{commit}-{i:05d}" for commit in range(committed) for i in range(PER_COMMIT)} <= names
    store = GalleryStore.open(path)
    store.append(make_entries(1, prefix="last"))
    store.compact(timedelta(0))
    assert verify(store) == []
    assert store.count() == 41 + committed * PER_COMMIT


def test_two_processes_that_append_different_photographs_both_land(tmp_path: Path) -> None:
    path = tmp_path / "gallery"
    make_store(path, make_entries(40))
    both = [_writer(path) for _ in range(2)]
    for process, start in zip(both, (0, 6), strict=True):
        _append(process, start, 6)
    output = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], output
    store = GalleryStore.open(path)
    assert store.count() == 40 + 12 * PER_COMMIT
    assert verify(store) == []


@pytest.mark.parametrize("existing", ["skip", "refuse"])
def test_two_processes_that_append_the_same_photographs_write_them_once(tmp_path: Path, existing: str) -> None:
    path = tmp_path / "gallery"
    make_store(path, make_entries(40))
    both = [_writer(path) for _ in range(2)]
    for process in both:
        _append(process, 0, 6, existing)
    output = [process.communicate(timeout=300) for process in both]
    store = GalleryStore.open(path)
    assert verify(store) == []  # no entry_id twice
    if existing == "skip":
        assert [process.returncode for process in both] == [0, 0], output
        inserted = sum(int(line.split()[1]) for out, _ in output for line in out.splitlines())
        assert inserted == 6 * PER_COMMIT == store.count() - 40
    else:
        refused = [error for (_, error), process in zip(output, both, strict=True) if process.returncode]
        assert refused
        assert all(
            "are in the gallery already" in error or "by another process meanwhile" in error for error in refused
        )


def test_a_reader_sees_whole_commits_while_another_writes(tmp_path: Path) -> None:
    path = tmp_path / "gallery"
    make_store(path, make_entries(40))
    store = GalleryStore.open(path)
    process = _writer(path)
    _append(process, 0, 8)
    counts = [store.count()]
    while process.poll() is None:
        counts.append(len(store.read(["entry_id"])))
    counts.append(store.count())
    output = process.communicate()
    assert counts == sorted(counts)
    assert {(count - 40) % PER_COMMIT for count in counts} == {0}
    assert counts[-1] == 40 + 8 * PER_COMMIT, output


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_leaves_the_last_commit(small_disk: Path) -> None:
    store = make_store(small_disk / "gallery", make_entries(40))
    generator = np.random.default_rng(0)
    done: list[Change] = []

    def fill() -> None:
        while True:
            extra = [generator.bytes(2000).hex() for _ in range(PER_COMMIT)]
            done.append(store.append(make_entries(PER_COMMIT, prefix=f"q{len(done)}-", extra=extra)))

    with pytest.raises(DiskFullError, match="gallery: the disk is full"):
        fill()
    committed = len(done)
    assert committed > 0
    again = GalleryStore.open(small_disk / "gallery")
    assert again.count() == 40 + committed * PER_COMMIT
    assert verify(again) == []
    with pytest.raises(DiskFullError):
        make_store(small_disk / "another", make_entries(4000))
    assert [path.name for path in small_disk.iterdir()] == ["gallery"]
    assert again.count() == 40 + committed * PER_COMMIT
