"""Writing artefacts so that a reader never meets half of one: write beside, then rename."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from swclip.errors import ArtefactError, DiskFullError, InputError


def _disk_full(path: Path, error: OSError) -> DiskFullError:
    return DiskFullError(f"{path}: the disk is full ({error.strerror}); free some space and run the command again.")


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it into place if the block ends well, remove it if not.

    Args:
        path: Where the finished file belongs. Parent folders are made.

    Yields:
        The path to write to, in the same folder and with the same suffix.

    Raises:
        DiskFullError: The disk filled; `path` is as it was before.
        InputError: The folder cannot be written.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.stem}.", suffix=target.suffix, dir=target.parent)
    except OSError as error:
        raise _cannot_write(target, error) from error
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        _readable_by_umask(beside)
        beside.replace(target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _disk_full(target, error) from error
        raise
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | os.PathLike[str], marker: str) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; it takes the place of `path` if the block ends well.

    Args:
        path: Where the finished folder belongs. An empty folder, or one of the same kind, is replaced whole.
        marker: A file that a folder of this kind has, such as `gallery.json`: a folder without it is somebody else's
            and is never replaced.

    Yields:
        The empty folder to fill.

    Raises:
        DiskFullError: The disk filled; `path` is as it was before.
        InputError: The parent folder cannot be written, or `path` holds something else.
    """
    target = Path(path)
    check_replaceable(target, marker)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise _cannot_write(target, error) from error
    beside.chmod(0o777 & ~_umask())
    try:
        yield beside
        _swap(beside, target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _disk_full(target, error) from error
        raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def check_replaceable(path: str | os.PathLike[str], marker: str) -> None:
    """Raise InputError where `atomic_folder` would refuse to write: to be asked before hours of work, not after.

    Args:
        path: Where the finished folder belongs.
        marker: A file that a folder of this kind has.
    """
    target = Path(path)
    if target.exists() and not (target / marker).is_file() and not (target.is_dir() and not any(target.iterdir())):
        raise InputError(
            f"{target}: is there and holds no {marker}, so it is not replaced; choose another output path."
        )


def _swap(new: Path, target: Path) -> None:
    """Put a folder in the place of another; if that fails, the old one is put back."""
    if not target.exists():
        new.replace(target)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent)) / target.name
    target.replace(aside)
    try:
        new.replace(target)
    except OSError:
        aside.replace(target)
        raise
    finally:
        shutil.rmtree(aside.parent, ignore_errors=True)


def _cannot_write(target: Path, error: OSError) -> DiskFullError | InputError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _disk_full(target, error)
    return InputError(f"{target}: cannot write there ({error.strerror}); choose another output path.")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _readable_by_umask(path: Path) -> None:
    # mkstemp makes 0600 files; an artefact should have the permissions any other new file gets.
    path.chmod(0o666 & ~_umask())


def default_cache_folder() -> Path:
    """$SWCLIP_CACHE, or ~/.cache/swclip."""
    given = os.environ.get("SWCLIP_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "swclip"


def file_stem(name: str) -> str:
    """A name as a file name without an ending: what could mean something to a shell or a file system becomes a dash.

    Example:
        >>> file_stem("Newcastle upon Tyne"), file_stem("../etc"), file_stem("São Paulo")
        ('newcastle-upon-tyne', 'etc', 'são-paulo')
    """
    return re.sub(r"[^\w]+", "-", name.lower()).strip("-") or "unnamed"


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all. NaN is refused: it is not JSON."""
    with atomic_file(path) as beside:
        beside.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: str | os.PathLike[str], what: str) -> Any:
    """Read a JSON artefact.

    Args:
        path: The file.
        what: What it is to a user ("the run's report"), for the message.

    Raises:
        ArtefactError: The file is missing or is not JSON.
    """
    source = Path(path)
    try:
        return json.loads(source.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtefactError(f"{source}: {what} is not there; check the path.") from None
    except (OSError, ValueError) as error:
        raise ArtefactError(f"{source}: {what} cannot be read ({error}); make it again.") from error


def sha256_of_file(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's bytes as hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
