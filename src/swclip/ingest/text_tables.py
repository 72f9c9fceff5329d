"""CSV, TSV and their relatives, in the encodings and with the marks that spreadsheets write."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pandas as pd

from swclip.errors import InputError
from swclip.ingest.columns import ColumnNames, find_columns
from swclip.ingest.source_table import KINDS, RawTable, SourceTable, need_columns


def read_text(path: Path, folder: Path, given: ColumnNames) -> SourceTable:
    """Read a text table of photographs; every value stays text."""
    raw = raw_text(path)
    header = [str(name) for name in raw.frame.columns]
    columns = find_columns(header, given, str(path))
    need_columns(columns, header, path)
    return SourceTable(
        str(path), "text", folder, raw.frame, raw.rows, columns, malformed=raw.malformed, notes=raw.notes
    )


def raw_text(path: Path) -> RawTable:
    """Read a text table, whatever it is about; every value stays text."""
    text, notes = _decoded(path)
    mark = _separator(path, text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark)
    header: list[str] = []
    records: list[list[str]] = []
    rows: list[int] = []
    malformed: list[tuple[int, str]] = []
    try:
        for number, record in enumerate(reader, start=1):
            if not any(cell.strip() for cell in record):
                continue
            if not header:
                header = [cell.strip() for cell in record]
            elif len(record) != len(header):
                malformed.append((number, f"has {len(record)} fields, the header has {len(header)}"))
            else:
                records.append(record)
                rows.append(number)
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}; is a quotation mark not closed?") from error
    frame = pd.DataFrame({i: pd.Series([r[i] for r in records], dtype=object) for i in range(len(header))})
    frame.columns = pd.Index(header, dtype=object)
    return RawTable(str(path), "text", frame, rows, malformed=malformed, notes=notes)


def _decoded(path: Path) -> tuple[str, list[tuple[str, int, str]]]:
    data = path.read_bytes()
    if data[:4] == b"PAR1" or data[:2] in (b"PK", b"\x1f\x8b"):
        raise InputError(f"{path}: is not a text table, whatever its name says; SOURCE is {KINDS}.")
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding).replace("\0", ""), []
    except UnicodeDecodeError:
        # Every byte is a letter in Windows' Western set, so this cannot fail, but names may come out wrong.
        note = ("encoding", 1, f"{path.name} is not UTF-8; read as Windows-1252. Save it as UTF-8 if names look wrong.")
        return data.decode("cp1252", errors="replace"), [note]


def _separator(path: Path, text: str) -> str:
    first = next((line for line in text.splitlines() if line.strip()), "")
    if not first:
        raise InputError(f"{path}: the file holds nothing but blank lines.")
    counts = {mark: first.count(mark) for mark in "\t,;|"}
    best = max(counts, key=lambda mark: counts[mark])
    return best if counts[best] else ","
