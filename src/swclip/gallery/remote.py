"""Galleries at object-store URLs (s3://, gs://, ...): the files beside the table, and Lance's options.

Credentials and endpoint come from the environment as the store's own tools read them (AWS_ACCESS_KEY_ID, AWS_REGION,
AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS, ...).
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
from pyarrow import fs

from swclip.errors import ArtefactError, InputError
from swclip.files import atomic_folder


def is_url(path: str | os.PathLike[str]) -> bool:
    """Whether a gallery is named by a URL, not by a folder.

    Example:
        >>> is_url("s3://bucket/gallery"), is_url("galleries/leeds"), is_url("C:/galleries")
        (True, False, False)
    """
    return re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", os.fspath(path)) is not None


def storage_options(url: str) -> dict[str, str] | None:
    """Lance's options for a store beside the environment: it must be told to use plain HTTP where the endpoint does.

    Example:
        >>> storage_options("galleries/leeds") is None
        True
    """
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    if not url.startswith("s3://") or not endpoint:
        return None
    return {"aws_endpoint": endpoint, "allow_http": str(endpoint.startswith("http://")).lower()}


def read_file(url: str, name: str) -> bytes | None:
    """The bytes of a file beside the table; None where it is missing.

    Raises:
        InputError: The store does not answer, or refuses.
    """
    system, base = _system(url)
    try:
        with system.open_input_stream(f"{base}/{name}") as stream:
            return bytes(stream.read())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _refused(url, error) from error


def upload(folder: Path, url: str) -> None:
    """Copy the files of a folder below a URL.

    Raises:
        InputError: The store does not answer, or refuses.
    """
    system, base = _system(url)
    try:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            # An object store's streams close with the last byte written or raise: no half file is left.
            with system.open_output_stream(f"{base}/{path.relative_to(folder).as_posix()}") as stream:
                stream.write(path.read_bytes())
    except OSError as error:
        raise _refused(url, error) from error


def size_bytes(url: str) -> int:
    """Bytes of everything below a URL."""
    return sum(file.size for file in _listing(url, ""))


def local_model(url: str, cache: Path) -> Path:
    """A local copy of a gallery's model, downloaded where it is missing here or has changed there.

    Args:
        url: The gallery.
        cache: Folder of the copies; a copy is identified by the URL and the size and time of each file.

    Returns:
        A folder that contains `model/`.

    Raises:
        ArtefactError: There is no model.
        InputError: The store does not answer, or refuses.
    """
    files = _listing(url, "model")
    if not files:
        raise ArtefactError(f"{url}: the gallery has no model; make it again with: swclip index")
    key = hashlib.sha256(url.encode())
    for file in files:
        key.update(f"{file.path} {file.size} {file.mtime_ns}\n".encode())
    folder = cache / "galleries" / key.hexdigest()[:24]
    if folder.is_dir():
        return folder
    system, base = _system(url)
    with atomic_folder(folder, "model/config.json") as beside:
        for file in files:
            name = PurePosixPath(file.path).relative_to(PurePosixPath(base))
            (beside / name).parent.mkdir(parents=True, exist_ok=True)
            with system.open_input_stream(file.path) as source, open(beside / name, "wb") as target:
                shutil.copyfileobj(source, target)
    return folder


def _listing(url: str, below: str) -> list[Any]:
    system, base = _system(url)
    selector = fs.FileSelector(f"{base}/{below}".rstrip("/"), recursive=True, allow_not_found=True)
    try:
        entries = system.get_file_info(selector)
    except OSError as error:
        raise _refused(url, error) from error
    return sorted((entry for entry in entries if entry.type == fs.FileType.File), key=lambda entry: str(entry.path))


def _system(url: str) -> tuple[Any, str]:
    try:
        system, base = fs.FileSystem.from_uri(url)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise InputError(f"{url}: is not a readable URL ({error}); give a folder, or s3://...") from error
    return system, base.rstrip("/")


def _refused(url: str, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:300]
    return InputError(f"{url}: the store refuses ({reason}); check the address and the credentials.")
