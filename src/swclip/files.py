"""Atomic writes of artefacts: write to a temporary path, then rename it, so that readers never see partial files."""

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
    """Yield a temporary path that replaces `path` if the block succeeds and is removed if it fails.

    Args:
        path: Path of the finished file. Parent folders are created.

    Yields:
        The path to write to, in the same folder and with the same suffix.

    Raises:
        DiskFullError: The disk is full; `path` is unchanged.
        InputError: The folder cannot be written.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.stem}.", suffix=target.suffix, dir=target.parent)
    except OSError as error:
        raise _cannot_write(target, error) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _readable_by_umask(temporary)
        temporary.replace(target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _disk_full(target, error) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | os.PathLike[str], marker: str) -> Iterator[Path]:
    """Yield a temporary folder that replaces `path` if the block succeeds and is removed if it fails.

    Args:
        path: Path of the finished folder. An empty folder or one with the marker is replaced completely.
        marker: A file that identifies folders of this kind, such as `gallery.json`; a folder with other files and
            without the marker is never replaced.

    Yields:
        An empty folder to fill.

    Raises:
        DiskFullError: The disk is full; `path` is unchanged.
        InputError: The parent folder cannot be written, or `path` contains other files.
    """
    target = Path(path)
    check_replaceable(target, marker)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise _cannot_write(target, error) from error
    temporary.chmod(0o777 & ~_umask())
    try:
        yield temporary
        _swap(temporary, target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _disk_full(target, error) from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_replaceable(path: str | os.PathLike[str], marker: str) -> None:
    """Raise InputError if `atomic_folder` would not replace `path`; call it before long computations.

    Args:
        path: Path of the finished folder.
        marker: A file that identifies folders of this kind.
    """
    target = Path(path)
    if target.exists() and not (target / marker).is_file() and not (target.is_dir() and not any(target.iterdir())):
        raise InputError(
            f"{target}: exists and contains no {marker}, so it is not replaced; choose another output path."
        )


def _swap(new: Path, target: Path) -> None:
    """Replace a folder by another; restore the old one if that fails."""
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
    # mkstemp creates 0600 files; artefacts should have the permissions of other new files.
    path.chmod(0o666 & ~_umask())


def default_cache_folder() -> Path:
    """Return the folder $SWCLIP_CACHE, or ~/.cache/swclip."""
    folder = os.environ.get("SWCLIP_CACHE")
    return Path(folder) if folder else Path.home() / ".cache" / "swclip"


def file_stem(name: str) -> str:
    """Convert a name to a file name without suffix; characters other than letters, digits and _ become dashes.

    Example:
        >>> file_stem("Newcastle upon Tyne"), file_stem("../etc"), file_stem("São Paulo")
        ('newcastle-upon-tyne', 'etc', 'são-paulo')
    """
    return re.sub(r"[^\w]+", "-", name.lower()).strip("-") or "unnamed"


_NUMBER = re.compile(r"[+\-]?(\d+\.?\d*|\.\d+)(e[+\-]?\d+)?", re.I | re.ASCII)
_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def guarded_cell(value: Any) -> Any:
    """Return a cell of a CSV file that no spreadsheet program runs as a formula.

    Text that begins with =, +, -, @, a tab or a carriage return gets an apostrophe before it, as does such text with
    apostrophes already; numbers stay numbers. `unguarded_cell` is the inverse.

    Example:
        >>> guarded_cell('=HYPERLINK("x")'), guarded_cell("-0.1"), guarded_cell(-0.1), guarded_cell("a=b.jpg")
        ('\'=HYPERLINK("x")', '-0.1', -0.1, 'a=b.jpg')
    """
    if not isinstance(value, str) or not _FORMULA.match(value):
        return value
    return value if _NUMBER.fullmatch(value) else f"'{value}"


def unguarded_cell(text: str) -> str:
    """Return the text of a cell that `guarded_cell` wrote.

    Example:
        >>> unguarded_cell("'=a.jpg"), unguarded_cell("''-b.jpg"), unguarded_cell("'quoted'"), unguarded_cell("-0.1")
        ('=a.jpg', "'-b.jpg", "'quoted'", '-0.1')
    """
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` atomically as indented JSON.

    Raises:
        ValueError: A value is NaN or infinite, which JSON does not support.
    """
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: str | os.PathLike[str], description: str) -> Any:
    """Read a JSON artefact.

    Args:
        path: The file.
        description: Name of the artefact in messages, such as "the run's report".

    Raises:
        ArtefactError: The file is missing or is not JSON.
    """
    source = Path(path)
    try:
        return json.loads(source.read_text(encoding="utf-8"), parse_int=_integer_of_64_bits)
    except FileNotFoundError:
        raise ArtefactError(f"{source}: {description} is missing; check the path.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ArtefactError(f"{source}: {description} cannot be read ({error}); make it again.") from error


def _integer_of_64_bits(text: str) -> int:
    # Python reads integers of any length, which neither floats nor arrays hold.
    if len(text) > 20:
        raise ValueError(f"the number {text[:20]}... has {len(text)} digits")
    return int(text)


def sha256_of_file(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's bytes as hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
