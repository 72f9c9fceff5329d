"""File names as tables and lists write them: which file is meant, and which names cannot be used."""

from __future__ import annotations

import codecs
import math
import os
import re
import unicodedata
from numbers import Number
from pathlib import Path
from typing import Any

_NAME_BYTES = 255
"""Longest name of a file or folder that common file systems accept."""

_SAMPLE_BYTES = 4096
_SUFFIX_OR_FIELD = re.compile(r"\.\w\w|[,;\t]\w\w")


def name_in_cell(value: Any) -> str:
    """Return the name in a cell as written; empty for an empty cell and for records, lists and bytes.

    Example:
        >>> name_in_cell(" a.jpg"), name_in_cell("  "), name_in_cell(float("nan")), name_in_cell(7), name_in_cell(b"x")
        (' a.jpg', '', '', '7', '')
    """
    return str(value) if _is_name(value) and not empty_cell(value) else ""


def empty_cell(value: Any) -> bool:
    """Whether a cell holds nothing: None, NaN or spaces."""
    return (
        value is None
        or (isinstance(value, float) and math.isnan(value))
        or (isinstance(value, str) and not value.strip())
    )


def _is_name(value: Any) -> bool:
    return isinstance(value, (str, Number))


def cell_problem(value: Any, content: str) -> str | None:
    """Return why a cell names no file that can be read, or None.

    Args:
        value: The cell as written.
        content: What the file should hold, such as "photographs", for messages.
    """
    if empty_cell(value):
        return "the cell is empty."
    if not _is_name(value):
        kind = "a record" if isinstance(value, dict) else "bytes" if isinstance(value, bytes) else "a list"
        return f"the cell holds {kind}, not the name of a file; save the {content} as files first and give their names."
    name = str(value)
    if "://" in name[:12]:
        return f"is a web address; download the {content} first and give their paths."
    if "\0" in name:
        return "the path contains a zero byte."
    if len(name) > _NAME_BYTES // 4 and any(
        len(part.encode("utf-8", "surrogatepass")) > _NAME_BYTES for part in re.split(r"[/\\]", name)
    ):
        return f"a part of the path is longer than the {_NAME_BYTES} bytes that a file's name can have."
    return None


def utf8_problem(path: Path) -> str | None:
    """Return why a path cannot be written to a manifest, or None; manifests are UTF-8."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return f"the path {stated_name(str(path))} is not valid UTF-8; rename the file or its folder."
    return None


def file_of_name(folder: str | os.PathLike[str], name: str) -> str:
    """Return the path of the file that a name in a table or a list means.

    The name as written comes first. Where there is no such file: without spaces at its ends, with the backslashes of
    Windows as separators, and with each part in the other Unicode normalisation (macOS stores decomposed letters,
    tables have composed ones).

    Args:
        folder: Base folder of a relative name; "" for the working folder.
        name: The name as written, without a problem by `cell_problem`.

    Returns:
        The path of the first spelling that exists, else of the name as written.
    """
    path = os.path.join(folder, name)
    trimmed = name.strip()
    # Most names have one spelling: a look at the disk for each of a million rows is slow.
    if (trimmed == name and "\\" not in name and name.isascii()) or os.path.lexists(path):
        return path
    for spelling in dict.fromkeys((name, trimmed, name.replace("\\", "/"), trimmed.replace("\\", "/"))):
        candidate = _in_either_normalisation(folder, spelling)
        if candidate is not None:
            return candidate
    return path


def _in_either_normalisation(folder: str | os.PathLike[str], name: str) -> str | None:
    path = os.path.join(folder, "/" if name.startswith("/") else "")
    for part in name.split("/"):
        spellings = dict.fromkeys((part, unicodedata.normalize("NFC", part), unicodedata.normalize("NFD", part)))
        matches = (os.path.join(path, spelling) for spelling in spellings)
        match = next((candidate for candidate in matches if os.path.lexists(candidate)), None)
        if match is None:
            return None
        path = match
    return path


def stated_name(name: str) -> str:
    """Return a file name as valid Unicode text: bytes that are not UTF-8 are escaped, as in `\\xe9`.

    Example:
        >>> stated_name(os.fsdecode(b"caf\\xe9.jpg")), stated_name("café.jpg")
        ('caf\\\\xe9.jpg', 'café.jpg')
    """
    try:
        return os.fsencode(name).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half a surrogate pair from JSON, which is no byte of a file name
        return name.encode("utf-8", "backslashreplace").decode()


def utf_16_of(data: bytes) -> str | None:
    """Return the encoding of UTF-16 text, with or without a byte order mark; None for other text.

    Without a mark, zero bytes decide: every second byte of European text is zero. Names that end in zero bytes, as
    `find -print0` writes them, are longer than one letter or have no suffix.

    Example:
        >>> utf_16_of("a.jpg".encode("utf-16")), utf_16_of("a.jpg".encode("utf-16-le")), utf_16_of(b"a.jpg\\0b.jpg\\0")
        ('utf-16', 'utf-16-le', None)
    """
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return "utf-16" if b"\0" in data else None
    sample = data[:_SAMPLE_BYTES]
    for encoding, zeros, letters in (
        ("utf-16-le", sample[1::2], sample[::2]),
        ("utf-16-be", sample[::2], sample[1::2]),
    ):
        mostly = zeros.count(0) > 0.8 * len(zeros) and letters.count(0) < 0.1 * len(letters)
        if mostly and _SUFFIX_OR_FIELD.search(sample.decode(encoding, "replace")):
            return encoding
    return None
