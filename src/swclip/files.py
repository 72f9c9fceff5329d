"""Atomic writes of artefacts: write to a temporary path, then rename it, so that readers never see partial files.

The temporary path is in a hidden folder beside the target, which its writer locks: a folder without a lock is what a
killed process left, and the next writer of the same target removes it.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from swclip.errors import ArtefactError, DiskFullError, InputError
from swclip.locks import sole_holder

_WORKING = ".swclip-"  # the folder that X is written in is .X.swclip-1; a second writer of X uses .X.swclip-2
_PREVIOUS = "previous"
_WRITERS = 8  # numbers at which remains are looked for


def _disk_full(path: Path, error: OSError) -> DiskFullError:
    return DiskFullError(f"{path}: the disk is full ({error.strerror}); free some space and run the command again.")


@contextmanager
def _working_folder(target: Path) -> Iterator[Path]:
    """An empty hidden folder beside `target`, locked by this process and removed at the end.

    The folder of a process that was killed remains, without its lock: the next writer of the target takes it over. Two
    processes that write the same target at the same time use folders of different numbers.

    Raises:
        DiskFullError: The disk is full.
        InputError: The folder cannot be created.
    """
    with ExitStack() as stack:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            for number in itertools.count(1):
                folder = _numbered(target, number)
                try:
                    locked = stack.enter_context(sole_holder(folder, _busy(folder)))
                    break
                except InputError:
                    continue
            if locked:
                stack.callback(shutil.rmtree, folder, ignore_errors=True)
                _clear(folder, target)
                folder.mkdir(exist_ok=True)
            else:  # without locks nothing distinguishes remains from a folder in use: take a new name, remove nothing
                with suppress(OSError):  # not empty, or not there
                    folder.rmdir()
                folder = Path(tempfile.mkdtemp(prefix=f".{target.name}{_WORKING}", dir=target.parent))
                stack.callback(shutil.rmtree, folder, ignore_errors=True)
        except OSError as error:
            raise _cannot_write(target, error) from error
        yield folder


def _busy(folder: Path) -> InputError:
    return InputError(f"{folder}: another process is writing there.")


def _target(path: str | os.PathLike[str]) -> Path:
    target = Path(path)
    return target.resolve() if target.name in ("", "..") else target  # "." has no name to write beside


def _numbered(target: Path, number: int) -> Path:
    return target.with_name(f".{target.name}{_WORKING}{number}")


def _clear(folder: Path, target: Path) -> None:
    """Empty a locked working folder; a target that its writer had moved aside when it was killed is moved back."""
    previous = folder / _PREVIOUS / target.name
    if previous.exists() and not target.exists():
        previous.replace(target)
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def remove_remains(path: str | os.PathLike[str]) -> None:
    """Remove what killed processes left of their writes of `path`; what running processes are writing is kept.

    Args:
        path: Path of the finished file or folder. If a killed process had moved it aside, it is moved back.
    """
    target = _target(path)
    for number in range(1, _WRITERS + 1):
        _remove(_numbered(target, number), target)


def remove_all_remains(folder: Path) -> None:
    """Remove what killed processes left of their writes in a folder, whatever they were writing."""
    for path in folder.glob(f".*{_WORKING}*") if folder.is_dir() else []:
        _remove(path, path.with_name(path.name[1:].rpartition(_WORKING)[0]))


def _remove(folder: Path, target: Path) -> None:
    if not folder.is_dir() or folder.is_symlink():
        return
    with suppress(InputError, OSError), sole_holder(folder, _busy(folder)) as locked:
        if locked:
            _clear(folder, target)
            folder.rmdir()


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` if the block succeeds and is removed if it fails.

    Args:
        path: Path of the finished file. Parent folders are created.

    Yields:
        The path to write to, on the same disk and with the same name.

    Raises:
        DiskFullError: The disk is full; `path` is unchanged.
        InputError: The folder cannot be written.
    """
    target = _target(path)
    with _working_folder(target) as folder:
        temporary = folder / target.name
        try:
            temporary.touch()
            yield temporary
            temporary.replace(target)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _disk_full(target, error) from error
            raise


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
    target = _target(path)
    check_replaceable(target, marker)
    with _working_folder(target) as folder:
        temporary = folder / target.name
        try:
            temporary.mkdir()
            yield temporary
            _swap(temporary, target, folder / _PREVIOUS / target.name)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _disk_full(target, error) from error
            raise


def check_replaceable(path: str | os.PathLike[str], marker: str) -> None:
    """Raise InputError if `atomic_folder` would not replace `path`; call it before long computations.

    What killed processes left of their writes of `path` is removed, since the computations may need its space.

    Args:
        path: Path of the finished folder.
        marker: A file that identifies folders of this kind.
    """
    target = _target(path)
    remove_remains(target)
    if target.exists() and not (target / marker).is_file() and not (target.is_dir() and not any(target.iterdir())):
        raise InputError(
            f"{target}: exists and contains no {marker}, so it is not replaced; choose another output path."
        )


def _swap(new: Path, target: Path, previous: Path) -> None:
    """Replace a folder by another; move the old one back if that fails or is interrupted."""
    if not target.exists():
        new.replace(target)
        return
    previous.parent.mkdir()
    try:
        target.replace(previous)
        new.replace(target)
    except BaseException:
        if previous.exists() and not target.exists():
            previous.replace(target)
        raise


def _cannot_write(target: Path, error: OSError) -> DiskFullError | InputError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _disk_full(target, error)
    return InputError(f"{target}: cannot write there ({error.strerror}); choose another output path.")


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


def stated_path(path: str | os.PathLike[str]) -> str:
    """Return a path as files that are shared state it, without the folders of this machine.

    Returns:
        The path from the working folder if it lies in it, with slashes; else its last two names, or one in the home
        folder. `found_path` finds the file again.

    Example:
        >>> stated_path(Path.cwd() / "data" / "manifest.parquet"), stated_path("/home/ada/data/manifest.parquet")
        ('data/manifest.parquet', 'data/manifest.parquet')
    """
    absolute, working = Path(os.path.abspath(path)), Path.cwd()
    if working != Path(working.anchor) and absolute.is_relative_to(working):
        return absolute.relative_to(working).as_posix()
    names = absolute.parts[1:]
    return "/".join(names[-1:] if absolute.parent == Path.home() else names[-2:])


def found_path(stated: str, artefact: Path | None = None) -> Path:
    """Return the file or folder that `stated_path` named: below the working folder, or below a folder above that.

    The caller must check that it is the same, by a digest. If there is none, the path is as stated.

    Args:
        stated: The path as an artefact states it.
        artefact: The artefact; the folders above it are searched too.
    """
    bases = [Path.cwd(), *Path.cwd().parents, *([] if artefact is None else artefact.absolute().parents)]
    candidates = (folder / stated for folder in bases)
    return next((candidate for candidate in candidates if candidate.exists()), Path(stated))


_NUMBER = re.compile(r"[+\-]?(\d+\.?\d*|\.\d+)(e[+\-]?\d+)?", re.I | re.ASCII)
_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def guarded_cell(value: Any) -> Any:
    """Return a cell of a CSV file that no spreadsheet program runs as a formula.

    Text that begins with =, +, -, @, a tab or a carriage return gets an apostrophe before it, as does such text with
    apostrophes already; numbers stay numbers. `unguarded_cell` is the inverse.

    Example:
        >>> guarded_cell("=1+1"), guarded_cell("-0.1"), guarded_cell(-0.1), guarded_cell("a=b.jpg")
        ("'=1+1", '-0.1', -0.1, 'a=b.jpg')
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
